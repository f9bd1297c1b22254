"""Words of texts: how the full-text index splits them, how they are asked for, how a hit is shown.

Owns what a word is, for the index and for the person alike. Chinese, Japanese, Korean, Thai and
their neighbours are written without spaces between words, so each of their characters is a word of
its own here, and several in a row are looked for side by side: words of one or two characters are
found exactly. All other text is split where letters and digits end. Letter case, accents, and the
width of letters and digits do not matter.

Must not know tables. The index is given words that are apart already, so what SQLite's own
tokenizers take for a letter does not matter either.

Invariant: the expression that `parse` builds holds nothing of the person's but letters and digits
between double quotes, so nothing that anybody writes is an error of its syntax.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from buskit.terminal import display_width
from hqconsole.errors import HqError

TERMS_MOST = 50
"""More words than these nobody types; a pasted page would take long to look for."""

# Scripts without spaces between words: Thai, Lao, Myanmar, Khmer; Hangul; kana, bopomofo, Han.
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005-\u3007\u3040-\u318f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")
_HALF_WIDTH_KANA = re.compile("[\uff65-\uff9f]+")
_ACCENTS = range(0x300, 0x370)
_QUOTES = {'"': '"', "“": "”", "„": "“", "”": "”", "«": "»", "「": "」", "『": "』"}
_MINUS = "-−－"  # noqa: RUF001 - as other keyboards write it
_ELLIPSIS = "…"
_SPANS_MOST = 200


class QueryError(HqError):
    """What is to be looked for names no word."""

    exit_code = 2


class Term(NamedTuple):
    """Words that stand side by side; with `prefix` the last is only the beginning of one."""

    words: tuple[str, ...]
    prefix: bool = False


class Query(NamedTuple):
    """What a person looks for.

    Attributes:
        match: The expression for the index.
        terms: What a hit may have in it, for marking.
    """

    match: str
    terms: tuple[Term, ...]


class Excerpt(NamedTuple):
    """A piece of a text.

    Attributes:
        text: On one line.
        marks: Where in it the hits are: from, to.
    """

    text: str
    marks: tuple[tuple[int, int], ...]

    def marked(self, before: str = "[", behind: str = "]") -> str:
        """The text with something around each hit."""
        parts, at = [], 0
        for start, end in self.marks:
            parts += [self.text[at:start], before, self.text[start:end], behind]
            at = end
        return "".join([*parts, self.text[at:]])


class _Fold(dict[int, str]):
    """What each character is looked for as; computed once for each."""

    def __missing__(self, code: int) -> str:
        apart = unicodedata.normalize("NFKD", chr(code).casefold())
        bare = "".join(one for one in apart if ord(one) not in _ACCENTS)
        self[code] = found = unicodedata.normalize("NFKC", bare).casefold()
        return found


_fold = _Fold()


def tidy(text: str) -> str:
    """The text with each character in one way of writing it, as people read it."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    return _HALF_WIDTH_KANA.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)


def for_index(text: str) -> str:
    """The words of a text, apart by spaces."""
    return " ".join(_words(text))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower() if text.isascii() else tidy(text).translate(_fold))


def parse(text: str) -> Query:
    """Read what a person looks for.

    All words must be there, in any order. `"side by side"` in quotes, `this OR that`, `-without`,
    and `begin*` for words that begin so. `OR` holds for its two neighbours alone.

    Raises:
        QueryError: It names no word that must be there, or more than `TERMS_MOST`.
    """
    groups: list[list[Term]] = []
    without: list[Term] = []
    joined = False
    for piece, quoted, negative in _pieces(text):
        if piece == "OR" and not quoted and not negative:
            joined = bool(groups)
            continue
        if (term := _term(piece)) is None:
            continue
        if negative:
            without.append(term)
        elif joined:
            groups[-1].append(term)
        else:
            groups.append([term])
        joined = False
    if not groups:
        raise QueryError(
            f"{text[:60]!r} names nothing that must be there"
            if without
            else f"there is no word in {text[:60]!r}",
            hint="write words, such as: hq search lot 2231; see hq search --help",
        )
    terms = [term for group in groups for term in group]
    if len(terms) + len(without) > TERMS_MOST or any(len(t.words) > TERMS_MOST * 4 for t in terms):
        raise QueryError("that is too much to look for", hint=f"at most {TERMS_MOST} words")
    match = " AND ".join(_any_of(group) for group in groups)
    if without:
        match = f"({match}) NOT {_any_of(without)}"
    return Query(match, tuple(terms))


def _any_of(terms: Sequence[Term]) -> str:
    words = [f'"{" ".join(term.words)}"{" *" if term.prefix else ""}' for term in terms]
    return words[0] if len(words) == 1 else f"({' OR '.join(words)})"


def _term(piece: str) -> Term | None:
    words = tuple(_words(piece))
    if not words:
        return None
    # Where each character is a word, whatever begins so is found without saying it.
    prefix = piece.endswith(("*", "＊")) and not re.match(rf"[{_ALONE}]", words[-1])  # noqa: RUF001
    return Term(words, prefix)


def _pieces(text: str) -> Iterator[tuple[str, bool, bool]]:
    """The words and quoted phrases, whether it was quoted, and whether a minus stands before it."""
    at, end = 0, len(text)
    while at < end:
        if text[at].isspace():
            at += 1
            continue
        negative = text[at] in _MINUS
        at += negative
        if at < end and text[at] in _QUOTES:
            close = text.find(_QUOTES[text[at]], at + 1)
            close = end if close < 0 else close
            star = text[close + 1 : close + 2] == "*"
            yield text[at + 1 : close] + "*" * star, True, negative
            at = close + 1 + star
            continue
        start = at
        while at < end and not text[at].isspace() and (at == start or text[at] != '"'):
            at += 1
        yield text[start:at], False, negative


class _Word(NamedTuple):
    folded: str
    start: int
    end: int


def _places(text: str) -> list[_Word]:
    """The words of a text that is tidy, with their places in it."""
    if text.isascii():
        return [_Word(one[0], one.start(), one.end()) for one in _WORD.finditer(text.lower())]
    folded = text.translate(_fold)
    if all(len(_fold[ord(one)]) == 1 for one in set(text)):
        return [_Word(one[0], one.start(), one.end()) for one in _WORD.finditer(folded)]
    origin = [at for at, one in enumerate(text) for _ in _fold[ord(one)]]
    return [
        _Word(one[0], origin[one.start()], origin[one.end() - 1] + 1)
        for one in _WORD.finditer(folded)
    ]


def excerpt(text: str, terms: Sequence[Term], *, columns: int) -> Excerpt:
    """The piece of a text that has the most of these terms in it.

    Args:
        text: Of any length.
        terms: What to mark.
        columns: How wide the piece may be, in columns of a terminal.
    """
    text = " ".join(tidy(text).split())
    words = _places(text)
    spans = _spans(words, terms)
    if not spans:
        return Excerpt(_cut(text, 0, columns)[0], ())
    best, most = 0, 0
    for index, (first, _, _) in enumerate(spans):
        start = words[first].start
        near = {t for f, last, t in spans[index:] if words[last].end - start <= columns}
        if len(near) > most:
            best, most = index, len(near)
    # Some words before the hit say what it is about.
    start = end = words[spans[best][0]].start
    before = columns // 4
    while start > 0 and before > 0:
        start -= 1
        before -= display_width(text[start])
    if start > 0:
        after_gap = text.find(" ", start, end)
        start = after_gap + 1 if after_gap >= 0 else start
    piece, end = _cut(text, start, columns)
    shift = len(_ELLIPSIS) - start if start > 0 else 0
    marks = [
        (words[first].start + shift, words[last].end + shift)
        for first, last, _ in spans
        if start <= words[first].start and words[last].end <= end
    ]
    return Excerpt((_ELLIPSIS if start > 0 else "") + piece, tuple(_merged(marks)))


def _spans(words: Sequence[_Word], terms: Sequence[Term]) -> list[tuple[int, int, int]]:
    """First and last word of each place where a term stands, and which term it is."""
    by_first: dict[str, list[int]] = {}
    begins: list[int] = []
    for number, term in enumerate(terms):
        if len(term.words) == 1 and term.prefix:
            begins.append(number)
        else:
            by_first.setdefault(term.words[0], []).append(number)
    found: list[tuple[int, int, int]] = []
    for at, word in enumerate(words):
        found += [
            (at, at + len(terms[number].words) - 1, number)
            for number in (*by_first.get(word.folded, ()), *begins)
            if _stands(words, at, terms[number])
        ]
        if len(found) >= _SPANS_MOST:
            break
    return found


def _stands(words: Sequence[_Word], at: int, term: Term) -> bool:
    there = [word.folded for word in words[at : at + len(term.words)]]
    if len(there) < len(term.words) or there[:-1] != list(term.words[:-1]):
        return False
    return there[-1].startswith(term.words[-1]) if term.prefix else there[-1] == term.words[-1]


def _cut(text: str, start: int, columns: int) -> tuple[str, int]:
    """What fits from `start` on, and where that ends."""
    end, left = start, columns
    while end < len(text) and (left := left - display_width(text[end])) >= 0:
        end += 1
    if end >= len(text):
        return text[start:], len(text)
    gap = text.rfind(" ", start + (end - start) // 2, end + 1)
    end = gap if gap > 0 else end
    return text[start:end] + _ELLIPSIS, end


def _merged(marks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Marks in their order, none inside or across another."""
    reached = 0
    for start, end in sorted(marks, key=lambda mark: (mark[0], -mark[1])):
        if start >= reached:
            yield start, end
            reached = end
