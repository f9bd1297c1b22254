"""Messages with records that nobody can read, read so far that their log goes on behind them.

Half of a surrogate pair has a spelling in JSON and is no text (RFC 8259, section 8.2); not-a-number
and bare control characters have none, and bytes of another encoding are no JSON at all. Programs
write all of them, and a record that was signed so comes again until it is acknowledged. Such a
record is given on with its data as it came: `decode_data` refuses it alone, and what stands around
it is read as strictly as ever.

Must not know what records say.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from buswire.messages import Records

_NOTHING = b"null"
_FAULTS = (ValueError, LookupError, RecursionError, msgspec.DecodeError)
_SPACE = re.compile(r"[ \t\n\r]*")
_scanner = json.JSONDecoder(strict=False)
_decoder = msgspec.json.Decoder(Records)
_skipper = msgspec.json.Decoder(Raw)


class _Span(NamedTuple):
    """From which byte to which a value goes."""

    start: int
    end: int


def is_readable(data: bytes) -> bool:
    """Whether it is JSON text, whatever it says."""
    try:
        data.decode()  # the decoder passes over what it need not read, whatever is in it
        _skipper.decode(data)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return False
    return True


def records_around(text: bytes) -> Records | None:
    """Read a message of records of which some cannot be read.

    Args:
        text: Of a message that cannot be read as a whole.

    Returns:
        The message, with the exact bytes of every record's data; None where not only data is
        unreadable, or where it cannot even be told where data ends.
    """
    try:
        spans = _data_spans(text.decode("latin-1"))  # one letter for each byte
        unreadable: dict[int, bytes] = {}
        rest: list[bytes] = []
        behind = 0
        for number, (start, end) in enumerate(spans):
            data = text[start:end]
            if not is_readable(data):
                unreadable[number] = data
                rest += (text[behind:start], _NOTHING)
                behind = end
        readable = b"".join((*rest, text[behind:]))
        readable.decode()
        message = _decoder.decode(readable)
    except _FAULTS:
        return None
    records = list(message.records)
    if len(records) != len(spans):
        return None
    for number, data in unreadable.items():
        records[number] = msgspec.structs.replace(records[number], data=Raw(data))
    return msgspec.structs.replace(message, records=records)


def _data_spans(text: str) -> list[_Span]:
    """Where the data of each record stands; of a name that comes twice the last one counts.

    Raises:
        ValueError: It cannot be told.
        LookupError: Likewise.
        RecursionError: Likewise.
    """
    records = dict(_members(text, 0))["records"]
    return [dict(_members(text, element.start))["data"] for element in _elements(text, records)]


def _members(text: str, at: int) -> Iterator[tuple[str, _Span]]:
    """The members of the object that begins here."""
    at = _after(text, at, "{")
    while text[at] != "}":
        name, at = _value(text, at)
        if not isinstance(name, str):
            raise ValueError(f"{name!r} names nothing")  # noqa: TRY004 - no mistake of the caller
        start = _after(text, at, ":")
        _, at = _value(text, start)
        yield name, _Span(start, at)
        at = _after_one(text, at, "}")


def _elements(text: str, array: _Span) -> Iterator[_Span]:
    """The elements of an array."""
    at = _after(text, array.start, "[")
    while text[at] != "]":
        _, end = _value(text, at)
        yield _Span(at, end)
        at = _after_one(text, end, "]")


def _value(text: str, at: int) -> tuple[Any, int]:
    """The value that begins here, and where it ends."""
    return _scanner.raw_decode(text, at)


def _after_one(text: str, at: int, close: str) -> int:
    """Behind the comma that follows a member or element, or at the end of them all."""
    at = _after(text, at)
    return at if text[at] == close else _after(text, at, ",")


def _after(text: str, at: int, sign: str = "") -> int:
    """Where the next thing begins, behind this sign."""
    match = _SPACE.match(text, at)
    at = at if match is None else match.end()
    if not sign:
        return at
    if text[at] != sign:
        raise ValueError(f"{sign} is missing")
    return _after(text, at + 1)
