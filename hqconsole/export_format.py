"""Rows as lines of a file: CSV for spreadsheets, JSON Lines for programs. Pure.

Owns how a value is written in each, and that a spreadsheet takes nothing that a store wrote for a
formula: a cell that begins as one gets an apostrophe before it, which spreadsheets take for "this
is text" (CSV injection, OWASP). A plain number is none. JSON Lines has every value as it is.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final

CSV, JSONL = "csv", "jsonl"
FORMATS: Final = (CSV, JSONL)
BOM = "\ufeff"

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")  # noqa: RUF001 - spreadsheets fold these too
_NUMBER = re.compile(r"[+-]?\d{1,15}([.,]\d{1,15})?", re.ASCII)


def format_of(name: str) -> str | None:
    """The format that the name of a file asks for, if it does."""
    ending = name.lower().rpartition(".")[2]
    return {"csv": CSV, "jsonl": JSONL, "ndjson": JSONL}.get(ending)


def harmless(cell: str) -> str:
    """A cell that no spreadsheet computes."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


class CsvLines:
    """Writes rows as CSV; moments are on head office's clock, as spreadsheets read them."""

    def __init__(self, columns: Sequence[str], zone: tzinfo) -> None:
        """Write these columns; names that end in `_at` are Unix times in a row."""
        self._columns = columns
        self._zone = zone
        self._buffer = io.StringIO()
        self._writer = csv.writer(self._buffer, lineterminator="\r\n")

    def header(self) -> str:
        """The first line."""
        return self._line(self._columns)

    def line(self, row: Mapping[str, Any]) -> str:
        """One row; a text with line breaks makes several lines of it, in quotes."""
        return self._line([self._cell(name, row.get(name)) for name in self._columns])

    def _line(self, cells: Sequence[str]) -> str:
        self._buffer.seek(0)
        self._buffer.truncate()
        self._writer.writerow(cells)
        return self._buffer.getvalue()

    def _cell(self, name: str, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int | float):
            return self._moment(value) if name.endswith("_at") else str(value)
        return harmless(_words(value))

    def _moment(self, unix_at: float) -> str:
        try:
            return f"{datetime.fromtimestamp(unix_at, self._zone):%Y-%m-%d %H:%M:%S}"
        except (OverflowError, ValueError, OSError):
            return str(unix_at)  # a clock from a store may say anything


class JsonLines:
    """Writes rows as JSON, one a line, with the values as they are."""

    def __init__(self, columns: Sequence[str]) -> None:
        """Write these columns."""
        self._columns = columns

    def header(self) -> str:
        """Nothing."""
        return ""

    def line(self, row: Mapping[str, Any]) -> str:
        """One row."""
        return (
            json.dumps({name: row.get(name) for name in self._columns}, ensure_ascii=False) + "\n"
        )


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}={_words(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_words, value))
    return "" if value is None else str(value)
