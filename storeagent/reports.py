"""Tables of figures: read from CSV or JSON Lines, and cut into parts that fit a record.

Owns how text becomes figures. Must not know outboxes or commands; the whole table comes in as
bytes, because its hash is its name.

Rules:
- A column of a CSV file is numbers when every filled cell of it is one, as a till writes numbers:
  no leading zero, no sign but minus, no exponent, no more digits than a number keeps. Otherwise all
  of it stays text, so that a column of SKUs with one `0012` in it is not half numbers.
- An empty cell is nothing (null), not zero and not an empty text.
- JSON Lines keep the types that they have.
- The parts of a table are the same whenever it is cut again.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from buswire.errors import WireError
from buswire.messages import Report, encode_data
from storeagent.errors import InvalidEntry

Cell = str | int | float | bool | None
Format = Literal["csv", "jsonl"]

PART_BYTES = 48 * 1024
"""The most that the data of one part takes."""
TABLE_BYTES_LIMIT = 256 * 1024 * 1024
_COLUMNS_BYTES_LIMIT = 16 * 1024
_COLUMN_CHARACTERS = 500

_WHOLE = re.compile(r"-?(?:0|[1-9]\d*)", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d*)\.\d+", re.ASCII)
_NAME = re.compile(r"[\w.-]{1,40}")


class Table(NamedTuple):
    """Figures: the columns' names, and rows with one cell for each."""

    columns: list[str]
    rows: list[list[Cell]]


def content_key(data: bytes) -> str:
    """The name of a report that was not given one: the hash of its content."""
    return hashlib.sha256(data).hexdigest()


def check_report_name(name: str) -> str:
    """Return the name if a report may be called so.

    Raises:
        InvalidEntry: It may not.
    """
    if not _NAME.fullmatch(name):
        raise InvalidEntry(
            f"a report cannot be called {name[:60]!r}",
            hint="letters, digits, - _ and . , at most 40: for instance daily-sales",
        )
    return name


def guess_format(data: bytes, file_name: str = "") -> Format:
    """Tell CSV from JSON Lines by the file's name or, without one, by how the content begins."""
    if file_name.lower().endswith((".jsonl", ".ndjson", ".json")):
        return "jsonl"
    if file_name.lower().endswith((".csv", ".tsv", ".txt")):
        return "csv"
    return "jsonl" if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "csv"


def read_table(data: bytes, kind: Format, *, delimiter: str | None = None) -> Table:
    """Read a table.

    Args:
        data: UTF-8, with or without a byte order mark, whatever line ends.
        kind: How it is written.
        delimiter: What separates the cells of a CSV file; found in its first line if not given.

    Raises:
        InvalidEntry: With the line at which it cannot be read.
    """
    if len(data) > TABLE_BYTES_LIMIT:
        raise InvalidEntry(
            f"the file has {len(data) / 1e6:.0f} MB, {TABLE_BYTES_LIMIT / 1e6:.0f} MB are the most",
            hint="send it in several files",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidEntry(
            f"line {line} is not UTF-8", hint="save the file as UTF-8 and try again"
        ) from None
    table = _read_jsonl(text) if kind == "jsonl" else _read_csv(text, delimiter)
    size_bytes = len(msgspec.json.encode(table.columns))
    if size_bytes > _COLUMNS_BYTES_LIMIT:
        raise InvalidEntry(f"the names of the {len(table.columns)} columns take {size_bytes} bytes")
    return table


def make_table(rows: Sequence[dict[str, Cell]]) -> Table:
    """Make a table of rows that a program has; the columns are all keys, in order of appearance.

    Raises:
        InvalidEntry: With the row, counted from 1, that cannot be sent.
    """
    return _table([(number, row) for number, row in enumerate(rows, 1)], "row")


def cut(name: str, key: str, table: Table) -> list[Report]:
    """Cut a table into parts of at most `PART_BYTES` each; an empty table has one part.

    Args:
        name: What the report is called.
        key: Which report it is: its content's hash, or a name of the caller's.
        table: The figures.

    Raises:
        InvalidEntry: A single row is too long.
    """
    frame_bytes = 400 + len(msgspec.json.encode([name, key, table.columns]))
    chunks: list[list[list[Cell]]] = []
    room = 0
    for number, row in enumerate(table.rows, 1):
        size_bytes = len(msgspec.json.encode(row)) + 1
        if size_bytes > PART_BYTES - frame_bytes:
            raise InvalidEntry(
                f"row {number} of the table takes {size_bytes} bytes, "
                f"{PART_BYTES - frame_bytes} are the most"
            )
        if size_bytes > room:
            chunks.append([])
            room = PART_BYTES - frame_bytes
        chunks[-1].append(row)
        room -= size_bytes
    chunks = chunks or [[]]
    return [
        Report(
            report=key,
            name=name,
            part=part,
            parts=len(chunks),
            columns=table.columns,
            rows=rows,
        )
        for part, rows in enumerate(chunks, 1)
    ]


def encode_part(part: Report) -> bytes:
    """The exact bytes of a part's record.

    Raises:
        InvalidEntry: Something in it is no text.
    """
    try:
        return encode_data(part)
    except WireError as error:
        raise InvalidEntry(str(error), hint=error.hint) from None


# --- CSV -----------------------------------------------------------------------------------------


def _read_csv(text: str, delimiter: str | None) -> Table:
    first, _, _ = text.lstrip("\r\n").partition("\n")
    mark = delimiter or max(
        ",;\t|", key=lambda candidate: (first.count(candidate), candidate == ",")
    )
    rows = _csv_rows(text, mark)
    header = next(rows, None)
    if header is None:
        raise InvalidEntry("the table is empty", hint="its first line names the columns")
    columns = _check_columns([name.strip() for name in header[1]], header[0])
    lines: list[int] = []
    cells: list[list[str]] = []
    for line, row in rows:
        if len(row) != len(columns):
            raise InvalidEntry(
                f"line {line} has {len(row)} cells and the first line names {len(columns)} columns",
                hint="cells that hold the separator, a quote or a line break go into double quotes",
            )
        lines.append(line)
        cells.append(row)
    typed = [_typed(column) for column in zip(*cells, strict=True)] if cells else []
    return Table(columns, [list(row) for row in zip(*typed, strict=True)])


def _csv_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidEntry(f"line {reader.line_num} cannot be read: {error}") from None


def _check_columns(columns: list[str], line: int) -> list[str]:
    seen: set[str] = set()
    for position, name in enumerate(columns, 1):
        if not name:
            raise InvalidEntry(f"column {position} in line {line} has no name")
        if len(name) > _COLUMN_CHARACTERS:
            raise InvalidEntry(f"the name of column {position} in line {line} is too long")
        if name in seen:
            raise InvalidEntry(f"two columns in line {line} are called {name!r}")
        seen.add(name)
    return columns


def _typed(column: Sequence[str]) -> list[Cell]:
    filled = [cell for cell in column if cell.strip()]
    if filled and all(_is_number(cell.strip()) for cell in filled):
        return [_number(cell.strip()) if cell.strip() else None for cell in column]
    return [cell if cell.strip() else None for cell in column]


def _is_number(cell: str) -> bool:
    if _WHOLE.fullmatch(cell):
        return cell != "-0" and len(cell) <= 16 and abs(int(cell)) <= 2**53
    # Fifteen digits are what a binary number always gives back.
    return bool(_DECIMAL.fullmatch(cell)) and len(cell.strip("-").replace(".", "")) <= 15


def _number(cell: str) -> int | float:
    return float(cell) if "." in cell else int(cell)


# --- JSON Lines ----------------------------------------------------------------------------------


def _read_jsonl(text: str) -> Table:
    decoder = msgspec.json.Decoder()
    rows: list[tuple[int, object]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, decoder.decode(line)))
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidEntry(f"line {number} is not JSON: {error}") from None
    if not rows:
        raise InvalidEntry("the table is empty", hint="each line is one JSON object")
    return _table(rows, "line")


def _table(rows: Sequence[tuple[int, object]], unit: str) -> Table:
    columns: dict[str, None] = {}
    for number, row in rows:
        if not isinstance(row, dict):
            raise InvalidEntry(
                f"{unit} {number} is not an object", hint='each is like {"sku": "0012", "sold": 3}'
            )
        for name, cell in row.items():
            if not isinstance(name, str) or not 0 < len(name) <= _COLUMN_CHARACTERS:
                raise InvalidEntry(f"{unit} {number} has the column {str(name)[:60]!r}")
            if not isinstance(cell, str | int | float | bool | None) or (
                isinstance(cell, float) and cell - cell != 0  # infinite, or not a number
            ):
                raise InvalidEntry(
                    f"{name!r} in {unit} {number} is neither text nor a number, truth or null"
                )
            if isinstance(cell, int) and abs(cell) > 2**53:
                raise InvalidEntry(
                    f"{name!r} in {unit} {number} has more digits than a number keeps",
                    hint="write it as text, in quotes",
                )
            columns[name] = None
    names = list(columns)
    return Table(names, [[row.get(name) for name in names] for _, row in rows])  # type: ignore[attr-defined]
