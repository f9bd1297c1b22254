"""A CSV file that somebody else's system wrote, as rows with the line numbers of the file.

Owns encodings, delimiters, quoting and ragged rows. Knows nothing of what the columns mean.

Accepted: UTF-8 with or without a byte order mark, UTF-16 with one; `,`, `;` or tab between cells
(also announced by a first line `sep=;`); LF, CRLF or CR; quoted cells with line breaks in them.
Anything else is refused, never guessed: a wrong guess would be in the names of stores for years.

Invariant: a row has exactly as many cells as the header, or it is a problem and not a row.
"""

import codecs
import csv
import io
import re
from dataclasses import dataclass, field

from hqconsole.errors import HqError

_DELIMITERS = (",", ";", "\t")
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])\r?\n|sep=([,;\t])\r", re.IGNORECASE)
_NOT_TEXT = {
    b"PK\x03\x04": "an Excel or LibreOffice workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive",
}
_AS_UTF8 = "in a spreadsheet, save it as 'CSV UTF-8'"


class TableError(HqError):
    """The bytes are no table that could be read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a list, in words for the person who keeps the list.

    Attributes:
        line: Where it is in the file, counted from 1; of a row over several lines, the first.
        column: The column by the name it has in the file; empty when the row as a whole is wrong.
        reason: What is wrong, and what to write instead where that is known.
    """

    line: int
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """A header and the rows below it.

    Attributes:
        header: The column names with single spaces on one line, as many as each row has cells.
        rows: (line number, cells) of each row that has anything in it.
        problems: The rows that could not be read as such.
        blank_rows: How many rows below the header had nothing in them and were passed over.
    """

    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    blank_rows: int = 0


def read_table(data: bytes) -> Table:
    """Read a whole CSV file.

    Raises:
        TableError: Nothing in it can be trusted: not text, an unknown encoding, no header.
    """
    text = _decoded(data)
    skipped_lines = 0
    delimiter = None
    if separator := _SEPARATOR_LINE.match(text):
        text = text[separator.end() :]
        delimiter = separator[1] or separator[2]
        skipped_lines = 1
    records = _records(text, delimiter or _delimiter(text), skipped_lines)
    header_at = next((n for n, (_, cells, _) in enumerate(records) if any(cells)), None)
    if header_at is None:
        raise TableError(
            "there is nothing in the list",
            hint="its first line must name the columns, for example: store_id,name,region",
        )
    line, cells, reason = records[header_at]
    if reason:
        raise TableError(f"line {line}, the column names: {reason}", hint="mend that line")
    if "\0" in "".join(cells):
        raise TableError(f"line {line}, the column names: a NUL byte", hint=f"{_AS_UTF8}")
    # Spreadsheets end every line with the delimiters of columns that nobody filled.
    while not cells[-1]:
        cells.pop()
    table = Table(tuple(" ".join(name.split()) for name in cells))
    blank_rows = 0
    for row_line, row, row_reason in records[header_at + 1 :]:
        if row_reason:
            table.problems.append(Problem(row_line, "", row_reason))
        elif not any(row):
            blank_rows += 1
        elif trouble := _fitted(row, len(cells)):
            table.problems.append(Problem(row_line, "", trouble))
        else:
            table.rows.append((row_line, row))
    return Table(table.header, table.rows, table.problems, blank_rows)


def _fitted(row: list[str], width: int) -> str:
    """Cut empty cells beyond the header off, in place; return what is wrong with the row."""
    while len(row) > width and not row[-1]:
        row.pop()
    if len(row) != width:
        return (
            f"the row has {len(row)} cells where the first line names {width} columns: "
            "a delimiter is missing, or one inside a cell is not quoted"
        )
    if "\0" in "".join(row):
        return "the row has a NUL byte in it: the file is damaged or was exported wrongly"
    return ""


def _records(text: str, delimiter: str, skipped_lines: int) -> list[tuple[int, list[str], str]]:
    """Return (first line, stripped cells, what is wrong) of every record, header included."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    records: list[tuple[int, list[str], str]] = []
    while True:
        line = skipped_lines + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return records
        except csv.Error as error:
            # The reader starts afresh on the next line.
            last = skipped_lines + reader.line_num
            records.append((line, ["?"], _quoting(error, line, last)))
            continue
        records.append((line, [cell.strip() for cell in cells], ""))


def _quoting(error: csv.Error, line: int, last_line: int) -> str:
    where = "" if last_line <= line else f", and it was read on as far as line {last_line}"
    if "unexpected end" in str(error):
        return f"a quote opened here is never closed{where}"
    if "field larger" in str(error):
        return f"a cell is longer than {csv.field_size_limit()} characters{where}"
    return f'a quote is out of place{where}; a quote inside a quoted cell is written twice: ""'


def _delimiter(text: str) -> str:
    """The one that makes most columns of the first line with anything in it."""
    widths: dict[str, int] = {}
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            widths[delimiter] = next((len(cells) for cells in reader if any(cells)), 0)
        except csv.Error:
            widths[delimiter] = 0
    return max(_DELIMITERS, key=lambda delimiter: widths[delimiter])


def _decoded(data: bytes) -> str:
    for beginning, kind in _NOT_TEXT.items():
        if data.startswith(beginning):
            raise TableError(f"this is {kind}, not a CSV file", hint=f"open it and {_AS_UTF8}")
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise TableError("the list is in UTF-32", hint=f"write it as UTF-8: {_AS_UTF8}")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise TableError(
                f"the list begins as UTF-16 and is none at byte {error.start + 1}",
                hint=f"export it again: {_AS_UTF8}",
            ) from None
    head = data[:1024]
    if head.count(0) * 3 > len(head):
        raise TableError(
            "the list looks like UTF-16 without a byte order mark",
            hint=f"{_AS_UTF8}, or: iconv -f UTF-16LE -t UTF-8 LIST > LIST-utf8.csv",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the byte order mark.
        at = error.start + (3 if data.startswith(codecs.BOM_UTF8) else 0)
        line = len((data[:at] + b"x").splitlines())
        raise TableError(
            f"the list is not UTF-8: byte {at + 1}, on line {line}, is 0x{data[at]:02X}",
            hint=f"{_AS_UTF8}, or, if it came from Windows in Western Europe or America: "
            "iconv -f WINDOWS-1252 -t UTF-8 LIST > LIST-utf8.csv",
        ) from None
