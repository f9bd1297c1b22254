"""Why stores cannot, put together: the same reason said in other words is counted once. Pure.

Owns what makes two reasons the same. Must not know the ledger or how it is shown.

Reasons with a code of head office's are put together by the code, then by their words; so are those
without one. Words are compared as tokens: letter case, punctuation and width do not matter, and
each character of a script without blanks (Chinese, Japanese) is a token. Two texts are the same
reason when they have the same tokens, or when one has all of the other's in a row: "no ladder" and
"We have no ladder here, sorry". A text of one short word contains nothing, and what is longer than
some words is compared as a whole, so that thousands of texts are compared quickly.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Tokens = tuple[str, ...]

_CORE_TOKENS = 8
"""A text of more tokens is only ever the same as its equals."""
_LOOKED_AT_TOKENS = 30
"""So much of a text is searched for shorter ones."""
_SHORT_WORD = 5
"""A single word must have at least so many letters to stand for a reason inside a longer text."""


class Said(NamedTuple):
    """What one mailbox said."""

    store: str
    group: str
    """By which it is counted: its region or its role."""
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Wording:
    """Texts that say the same."""

    text: str
    """As most of them put it."""
    count: int
    groups: Mapping[str, int]
    stores: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """All that was said under one code; '' is without."""

    code: str
    count: int
    groups: Mapping[str, int]
    stores: tuple[str, ...]
    wordings: tuple[Wording, ...]
    """The most frequent first; who gave only the code is in none of them."""


def tokens(text: str) -> Tokens:
    """The words of a text, without what does not matter; a CJK character is a word."""
    found: list[str] = []
    word = ""
    for character in unicodedata.normalize("NFKC", text).casefold():
        alone = _stands_alone(character)
        # Marks belong to their letters: several scripts write vowels with them.
        if not alone and unicodedata.category(character)[0] in "LNM":
            word += character
            continue
        if word:
            found.append(word)
            word = ""
        if alone:
            found.append(character)
    return (*found, word) if word else tuple(found)


def _stands_alone(character: str) -> bool:
    code = ord(character)
    return (
        0x3040 <= code <= 0x30FF  # Hiragana, Katakana
        or 0x3400 <= code <= 0x4DBF
        or 0x4E00 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x3FFFF
    )


def clusters(said: Iterable[Said]) -> list[Cluster]:
    """Put together what says the same; the most frequent code first, '' last among equals."""
    by_code: defaultdict[str, list[Said]] = defaultdict(list)
    for one in said:
        by_code[one.code].append(one)
    found = [
        Cluster(
            code,
            len(those),
            _counts(those),
            _stores(those),
            tuple(_wordings(those)),
        )
        for code, those in by_code.items()
    ]
    return sorted(found, key=lambda one: (-one.count, not one.code, one.code))


def _wordings(said: Sequence[Said]) -> list[Wording]:
    by_tokens: defaultdict[Tokens, list[Said]] = defaultdict(list)
    for one in said:
        if words := tokens(one.text):
            by_tokens[words].append(one)
    core_of = _cores({words: len(those) for words, those in by_tokens.items()})
    by_core: defaultdict[Tokens, list[Said]] = defaultdict(list)
    for words, those in by_tokens.items():
        by_core[core_of[words]] += those
    found = []
    for those in by_core.values():
        spelt = Counter(" ".join(one.text.split()) for one in those)
        # Of equally frequent ones the shortest says it best.
        text = min(spelt, key=lambda text: (-spelt[text], len(text), text))
        found.append(Wording(text, len(those), _counts(those), _stores(those)))
    return sorted(found, key=lambda one: (-one.count, one.text))


def _cores(counts: Mapping[Tokens, int]) -> dict[Tokens, Tokens]:
    """For each text the one that stands for it: the most frequent that it contains, or itself."""
    cores = {words for words in counts if _can_be_inside(words)}
    lengths = sorted({len(words) for words in cores})
    found: dict[Tokens, Tokens] = {}
    for words in sorted(counts, key=lambda words: (len(words), words)):
        looked_at = words[:_LOOKED_AT_TOKENS]
        inside = {
            part
            for length in lengths
            if length < len(words)
            for start in range(len(looked_at) - length + 1)
            if (part := looked_at[start : start + length]) in cores
        }
        best = min(inside, key=lambda part: (-counts[part], part), default=None)
        # Shorter ones come first, so what stands for that one is known already.
        found[words] = words if best is None else found[best]
    return found


def _can_be_inside(words: Tokens) -> bool:
    if len(words) == 1:
        return len(words[0]) >= _SHORT_WORD
    return len(words) <= _CORE_TOKENS


def _counts(said: Iterable[Said]) -> dict[str, int]:
    counted = Counter(one.group for one in said)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _stores(said: Iterable[Said]) -> tuple[str, ...]:
    return tuple(sorted({one.store for one in said}))
