"""What a cell of somebody's list says: a text to compare, a number, a date.

Pure. Cells come from any system in any country, so the rules are few and told: what could be read
in two ways is read in neither.

A **number** is digits with an optional sign and an optional `.` and decimals. Its thousands may be
grouped by one of `,`, space, `'` or `_`, every group having three digits: 8200, 8,200, 8 200,
1'250.50. No unit, no currency, no percent, no exponent; `8,2` is none (8.2, or a slip?), and what
begins with a zero too many is none (007 is a code). `8.200` is 8.2, as programs write it.

A **date** is year, month and day in this order, with `-`, `/` or `.` between them, a time of day
behind it left out: 2026-05-01, 2026/5/1, 2026-05-01T08:00. 01.05.2026 is none.

A **text** is compared without regard to letter case, full width, and spaces around and between.
"""

import re
import unicodedata
from datetime import date

_MAX_CHARACTERS = 40  # of a number or a date

_NUMBER = re.compile(
    r"[+-]?(?:0|[1-9][0-9]{0,2}(?:([,_' ])[0-9]{3}(?:\1[0-9]{3})*)|[1-9][0-9]*)(?:\.[0-9]+)?"
)
_BEGINS = frozenset("+-0123456789")
_GROUPING = str.maketrans("", "", ",_' ")
# Not by compatibility: that would make a number of the ² of m², and another one of 8².
_ONE_SPELLING = {
    **{0xFF01 + offset: 0x21 + offset for offset in range(94)},  # full width
    **dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f\u3000"), " "),
    ord("\N{MINUS SIGN}"): "-",
    ord("\N{RIGHT SINGLE QUOTATION MARK}"): "'",
}
_DAY = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})(?:[T ].*)?")


def folded(text: str) -> str:
    """Return the text as it is compared with others."""
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def number(text: str) -> int | float | None:
    """Return the number that a cell is; None when it is none."""
    text = _plain(text)
    if not _NUMBER.fullmatch(text):
        return None
    digits = text.translate(_GROUPING)
    return float(digits) if "." in digits else int(digits)


def day(text: str) -> date | None:
    """Return the day that a cell names, its time of day left out; None when it is no date."""
    match = _DAY.fullmatch(_plain(text))
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None


def _plain(text: str) -> str:
    """The text with the usual characters; nothing where it is long or begins like no number."""
    if len(text) > _MAX_CHARACTERS:
        return ""
    if not text.isascii():
        text = text.translate(_ONE_SPELLING)
    text = text.strip()
    return text if text[:1] in _BEGINS else ""
