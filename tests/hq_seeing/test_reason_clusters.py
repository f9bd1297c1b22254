"""The same reason in other words is counted once."""

import random

import pytest

from hqconsole.reason_clusters import Said, clusters, tokens


def said(*texts: str, code: str = "") -> list[Said]:
    """One mailbox for each text."""
    return [Said(f"S{n}", "east", code, text) for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "counts"),
    [
        (["No ladder!", "no  ladder", "\uff2e\uff2f ladder."], [3]),
        (["No ladder", "We have no ladder here, sorry", "ladder broken"], [2, 1]),
        (["缺货", "店里缺货。", "没有梯子"], [2, 1]),
        (["no", "no power", "no ladder"], [1, 1, 1]),
        (["खराब है", "ख़राब"], [1, 1]),
        (["", " ", "!!"], []),
    ],
)
def test_what_says_the_same_is_put_together(texts: list[str], counts: list[int]) -> None:
    """Case, width, punctuation and what is said around it do not matter; one short word does."""
    (cluster,) = clusters(said(*texts))
    assert cluster.count == len(texts)
    assert [one.count for one in cluster.wordings] == counts


def test_a_code_comes_before_words_and_counts_are_split() -> None:
    """The most frequent code first, each with its regions, stores and words."""
    found = clusters(
        [
            Said("S1", "east", "stock", "none left"),
            Said("S2", "west", "stock", "None left."),
            Said("S3", "west", "stock", ""),
            Said("S4", "west", "", "none left"),
        ]
    )
    assert [(one.code, one.count, dict(one.groups)) for one in found] == [
        ("stock", 3, {"west": 2, "east": 1}),
        ("", 1, {"west": 1}),
    ]
    (wording,) = found[0].wordings
    assert (wording.count, wording.stores) == (2, ("S1", "S2"))


def test_the_order_in_which_stores_answer_changes_nothing() -> None:
    """And every text is counted in one wording."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    words = ["no", "ladder", "we", "have", "here", "broken", "缺", "货", "店", "里", "today"]
    for _ in range(60):
        texts = [" ".join(rng.choices(words, k=rng.randrange(1, 9))) for _ in range(20)]
        all_said = said(*texts)
        before = clusters(all_said)
        rng.shuffle(all_said)
        assert clusters(all_said) == before
        assert sum(one.count for one in before[0].wordings) == sum(bool(tokens(t)) for t in texts)
