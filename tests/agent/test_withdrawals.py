"""Proofs of withdrawal, what replaces what, and reasons to choose from."""

import pytest

from buswire.messages import Cancel, Reason
from buswire.states import State
from storeagent.database_salvage import salvage
from storeagent.delivery import reason_words
from storeagent.errors import InvalidEntry
from tests.agent.words import (
    ALL_ANY,
    ALL_MANAGER,
    STORE_ANY,
    STORE_MANAGER,
    Bench,
    directive,
    ids,
)

D1, D2 = ids("d", 1), ids("d", 2)
REASONS = [
    Reason(code="no-stock", text="The goods have not come", texts={"zh": "货还没到"}),
    Reason(code="no-space", text="There is no room"),
]


@pytest.fixture
def bench() -> Bench:
    """A device's tables in memory."""
    return Bench()


def _proofs(bench: Bench, number: int = 1) -> list[tuple[str, str]]:
    """What HQ is told of withdrawals of a directive: role and state."""
    return [
        (str(data["role"]), str(data["was"]))
        for kind, data in bench.sent()
        if kind == "withdrawn" and data["directive"] == ids("d", number)
    ]


@pytest.mark.parametrize("word", ["", "read", "start", "cannot", "done"])
def test_a_withdrawal_is_proved_with_how_far_the_work_was(bench: Bench, word: str) -> None:
    """One record for each, with the state before it; what was finished stays finished."""
    bench.take(ALL_ANY, bench.words.issue())
    if word:
        getattr(bench.statements, word)(D1, "any", **({"reason": "no"} if word == "cannot" else {}))
    was = bench.state()
    bench.take(STORE_ANY, bench.words.cancel())
    assert _proofs(bench) == [("any", was)]
    assert not bench.row().open


def test_a_withdrawal_of_what_never_came_is_proved_as_pending(bench: Bench) -> None:
    """The directive that comes after it is shown to nobody, and nothing more is said."""
    bench.take(STORE_ANY, bench.words.cancel())
    assert _proofs(bench) == [("any", "pending")]
    bench.take(ALL_ANY, bench.words.issue())
    assert _proofs(bench) == [("any", "pending")]
    assert not bench.row().todo


def test_each_role_is_proved_once_however_often_the_words_come(bench: Bench) -> None:
    """A cancel for each channel, again on others, in a snapshot and after an older copy."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(ALL_MANAGER, bench.words.issue())
    bench.statements.read(D1, "manager")
    bench.take(ALL_ANY, bench.words.cancel())
    bench.take(ALL_MANAGER, bench.words.cancel())
    expected = [("any", "delivered"), ("manager", "read")]
    assert _proofs(bench) == expected
    for channel in (STORE_ANY, STORE_MANAGER, ALL_ANY):
        bench.take(channel, bench.words.cancel())
    bench.reset(("any", State.PENDING, directive()), ("manager", State.READ, directive()))
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(ALL_MANAGER, bench.words.cancel())
    assert _proofs(bench) == expected


def test_what_another_device_finished_is_told_as_finished(bench: Bench) -> None:
    """HQ is told what the work was here, whoever had said it."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(STORE_ANY, bench.words.change(State.DONE))
    bench.take(ALL_ANY, bench.words.cancel())
    assert _proofs(bench) == [("any", "done")]


def test_who_learns_it_in_an_answer_proves_it_as_well(bench: Bench) -> None:
    """A device that was away too long gets a snapshot, asks, and hears that it was withdrawn."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.statements.start(D1, "any")
    bench.reset()
    bench.answer("gone", state=State.CANCELLED)
    assert _proofs(bench) == [("any", "in_progress")]
    bench.take(STORE_ANY, bench.words.cancel())  # a record that was under way
    assert _proofs(bench) == [("any", "in_progress")]


def test_a_database_begun_anew_proves_nothing_twice(bench: Bench) -> None:
    """That it was said goes over with the entry that said it."""
    bench.take(STORE_ANY, bench.words.cancel())
    another = Bench()
    with another.database.write():
        salvage(bench.database.connection, another.database, {})
    another.take(STORE_ANY, bench.words.cancel())
    assert _proofs(another) == [("any", "pending")]


def test_expiry_is_no_withdrawal(bench: Bench) -> None:
    """Nothing is said of it; a cancel after it is proved with what this device had said."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.statements.read(D1, "any")
    bench.take(STORE_ANY, bench.words.change(State.EXPIRED))
    assert _proofs(bench) == []
    bench.take(ALL_ANY, bench.words.cancel())
    assert _proofs(bench) == [("any", "read")]


def test_staff_see_what_replaces_what(bench: Bench) -> None:
    """The new directive names the old one, and the old one the new one, in whatever order."""
    bench.take(ALL_ANY, bench.words.issue(1))
    bench.take(ALL_ANY, bench.words.issue(2, supersedes=D1))
    bench.take(
        ALL_ANY, bench.words.record("cancel", Cancel(directive=D1, superseded_by=D2, reason="new"))
    )
    new, old = bench.inbox.items(everything=True)
    assert (new.supersedes, new.superseded_by) == (D1, "")
    assert (old.supersedes, old.superseded_by) == ("", D2)
    assert bench.inbox.directive_title(old.superseded_by) == "Directive 2"
    assert bench.inbox.directive_title(ids("d", 9)) == ""


def test_who_cannot_chooses_one_of_head_offices_reasons(bench: Bench) -> None:
    """The code goes up with whatever was added in words; another one, or none, is refused."""
    bench.take(ALL_ANY, bench.words.issue(1, reasons=REASONS))
    for wrong in ({"reason": "the goods have not come"}, {"code": "no-time"}, {}):
        with pytest.raises(InvalidEntry) as refused:
            bench.statements.cannot(D1, "any", **wrong)
        assert "no-stock" in str(refused.value.hint)
    bench.statements.cannot(D1, "any", code="no-space", reason="three boxes")
    assert (bench.row().code, bench.row().reason) == ("no-space", "three boxes")
    assert bench.sent()[-1][1]["code"] == "no-space"
    bench.statements.done(D1, "any")
    assert (bench.row().code, bench.row().reason) == ("", "")


def test_without_reasons_of_head_office_any_words_will_do(bench: Bench) -> None:
    """And no code, which would mean nothing."""
    bench.take(ALL_ANY, bench.words.issue())
    with pytest.raises(InvalidEntry):
        bench.statements.cannot(D1, "any", code="no-space")
    with pytest.raises(InvalidEntry):
        bench.statements.cannot(D1, "any")
    bench.statements.cannot(D1, "any", reason="no ladder")
    assert bench.state() is State.CANNOT


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("zh", "货还没到"),
        ("zh_CN", "货还没到"),
        ("zh-Hant-TW", "货还没到"),
        ("en", "The goods have not come"),
        ("", "The goods have not come"),
    ],
)
def test_a_reason_is_given_out_in_the_chosen_language(language: str, words: str) -> None:
    """Or as HQ wrote it first."""
    assert reason_words(REASONS[0], language) == words
    assert reason_words(REASONS[1], language) == "There is no room"
