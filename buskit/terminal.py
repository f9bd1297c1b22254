"""Manners towards whoever reads the output: a person at a terminal, a pipe, a program.

Owns how text from outside is made harmless, how times and counts are put into words, and how one
value becomes a table, plain lines or JSON. Must not know what is shown, nor how commands are read.

Invariants:
- No character from outside reaches a terminal that could move its cursor, change its colours, or
  turn the order of the text around.
- Data goes to the given stream, narration to standard error; nothing but data in a pipe.
- Nothing is lost for lack of width: long text is folded on a terminal and left whole in a pipe.
- rich is imported only for a table on a terminal; it costs more than a short command.
"""

import contextlib
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from buswire.phrases import phrase

# Control characters; marks that reorder text or cannot be seen; separators of lines; surrogates.
# Joiners (200c, 200d) and the plain direction marks stay: several scripts cannot do without.
_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u180e\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_MOST_ROWS_IN_A_TABLE = 2000  # laying out more takes seconds; plain lines take none
_MANY_ROWS = 1000
_WIDE = 110
_BETWEEN_COLUMNS = 2
_SHORT = 16  # a moment, "2026-05-01 18:00", is not folded while anything longer can be
_LONG = 12  # what long text is left with, before short text is folded, too
_COMPARABLE = frozenset({str, bool, int, float})
"""Types of values of which a long list has few different ones, such as regions and states."""


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""Return `text` with everything that a terminal would obey made visible instead.

    Args:
        text: Text from outside.
        keep_newlines: Leave line breaks (also CR LF, as LF) as they are; otherwise they show as \n.
    """
    if text.isascii() and text.isprintable():  # nearly all of a long table
        return text
    if keep_newlines:
        text = text.replace("\r\n", "\n")
    return _HARMFUL.sub(lambda m: _visible(m[0], keep_newlines=keep_newlines), text)


def _visible(character: str, *, keep_newlines: bool) -> str:
    if character == "\t":
        return "    "
    if character == "\n":
        return "\n" if keep_newlines else "\\n"
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def display_width(text: str) -> int:
    """Return how many columns of a terminal `text` takes; East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def ago(seconds: float) -> str:
    """Return how long ago something was, in one unit, such as "5 min ago"."""
    if seconds >= _DAY:
        return phrase("{n} d ago", n=int(seconds // _DAY))
    if seconds >= _HOUR:
        return phrase("{n} h ago", n=int(seconds // _HOUR))
    if seconds >= _MINUTE:
        return phrase("{n} min ago", n=int(seconds // _MINUTE))
    return phrase("{n} s ago", n=int(seconds)) if seconds >= 1 else phrase("just now")


def clock(unix_at: float | None) -> str:
    """Return a moment on this machine's clock, such as "2026-05-01 18:00"; "-" for none."""
    if unix_at is None:
        return "-"
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_at))
    except (OverflowError, ValueError, OSError):
        return "?"  # a clock from a store may say anything


def bar(*parts: tuple[int, str], width: int = 30) -> str:
    """Return a bar of `width` columns, shared among the parts by their counts.

    Args:
        parts: Pairs of a count and the character that stands for it, such as (87, "#").
        width: How long it is in all.

    A part that is not empty gets a column if there are enough, so that one store of a thousand
    still shows; the whole bar is blank when all parts are empty.
    """
    total = sum(count for count, _ in parts)
    if total <= 0:
        return " " * width
    cells = [max(1, count * width // total) if count else 0 for count, _ in parts]
    # Hand out what rounding left over, or take back what the small parts got too much, where it
    # shows least: at the part whose share is furthest from the truth.
    while sum(cells) != width:
        step = 1 if sum(cells) < width else -1
        filled = [i for i in range(len(parts)) if parts[i][0]]
        if step < 0:
            filled = [i for i in filled if cells[i] > 1] or [i for i in filled if cells[i]]
        misfit = {i: step * (parts[i][0] * width / total - cells[i]) for i in filled}
        cells[max(filled, key=misfit.__getitem__)] += step
    return "".join(char * cell for (_, char), cell in zip(parts, cells, strict=True))


def narrate(text: str) -> None:
    """Say something to the person, not to the data: one line on standard error.

    Nobody may be able to hear it: a daemon's log can lie on the very disk that is full, and its
    work must not end by that.
    """
    with contextlib.suppress(OSError, ValueError):
        print(printable(text, keep_newlines=True), file=sys.stderr, flush=True)  # noqa: T201 - its job


@dataclass(frozen=True)
class Column:
    """One column of a sheet.

    Attributes:
        key: The name of the value in a row.
        title: What stands above it.
        right: Align to the right, as numbers are.
        text: How a value is put into words; by default "" for None, yes and no for truth values.
        style: The colour on a terminal, in rich's words, or how the row decides it.
    """

    key: str
    title: str
    right: bool = False
    text: Callable[[Any], str] | None = None
    style: str | Callable[[Mapping[str, Any]], str] = ""

    def words(self, row: Mapping[str, Any]) -> str:
        """Return the value of `row` as harmless text of one line."""
        return self.in_words(row.get(self.key))

    def in_words(self, value: Any) -> str:
        """Return a value of this column as harmless text of one line."""
        return printable(self.text(value) if self.text is not None else _plain(value))

    def colour(self, row: Mapping[str, Any]) -> str:
        """Return the style for `row`."""
        return self.style if isinstance(self.style, str) else self.style(row)


def column_widths(titles: Sequence[str], cells: Sequence[Sequence[str]], free: int) -> list[int]:
    """Share the columns of a terminal out among those of a table.

    What is short (an id, a moment, a count) stays in one piece as long as that is possible at all,
    and is then folded at its blanks; long text is folded before it, and titles before anything.

    Args:
        titles: What stands above each column.
        cells: The text in each column.
        free: How many columns of the terminal there are for all of them together.
    """
    natural = [max(map(display_width, column), default=0) for column in cells]
    words = [max(map(display_width, title.split()), default=0) for title in titles]
    pieces = [_longest_word(column) for column in cells]
    widths = [
        min(max(cell, display_width(title)), max(1, free))
        for cell, title in zip(natural, titles, strict=True)
    ]
    least = [max(cell, word) for cell, word in zip(natural, words, strict=True)]
    _shrink(widths, least, free)
    long = [min(low, _LONG) if low > _SHORT else low for low in least]
    _shrink(widths, long, free)
    _shrink(widths, [min(*pair) for pair in zip(long, map(max, pieces, words), strict=True)], free)
    _shrink(widths, [1] * len(widths), free)
    return widths


def _longest_word(texts: Iterable[str]) -> int:
    return max((display_width(word) for text in set(texts) for word in text.split()), default=0)


def _shrink(widths: list[int], least: Sequence[int], free: int) -> None:
    """Take from the widest what is too much in all, and from none more than to its least."""
    while sum(widths) > free:
        wide = [i for i, width in enumerate(widths) if width > least[i]]
        if not wide:
            return
        widths[max(wide, key=widths.__getitem__)] -= 1


class Sheet:
    """Shows values on one stream: as tables on a terminal, plain lines in a pipe, or as JSON."""

    def __init__(self, out: TextIO | None = None, *, width: int | None = None) -> None:
        """Take the stream to show on, and its width if it is not to be asked.

        Args:
            out: The stream; standard output by default.
            width: Columns of the terminal.
        """
        self._out = sys.stdout if out is None else out
        self._width = width

    @property
    def on_terminal(self) -> bool:
        """Whether a person is looking."""
        return self._out.isatty()

    @property
    def narrow(self) -> bool:
        """Whether a person is looking at fewer columns than a table likes to have."""
        width = self._width or shutil.get_terminal_size().columns
        return self.on_terminal and width < _WIDE

    def show(
        self,
        rows: Iterable[Mapping[str, Any]],
        columns: Sequence[Column],
        *,
        as_json: bool,
        empty: str,
    ) -> None:
        """Show rows: one JSON array of the rows as they are, or their columns as a table.

        Args:
            rows: The values; JSON has all of them, the table what `columns` names.
            columns: What a person sees.
            as_json: Whether a program reads.
            empty: What to tell a person when there are no rows; never part of the data.
        """
        rows = list(rows)
        if as_json:
            self.json(rows)
        elif not rows:
            narrate(empty)
        elif self.on_terminal and len(rows) <= _MOST_ROWS_IN_A_TABLE:
            self._table(rows, columns)
        else:
            self._lines(rows, columns)

    def show_one(
        self, value: Mapping[str, Any], columns: Sequence[Column], *, as_json: bool
    ) -> None:
        """Show one thing: a JSON object, or one line for each column with its title before it."""
        if as_json:
            self.json(value)
            return
        titles = max((display_width(column.title) for column in columns), default=0)
        for column in columns:
            pad = " " * (titles - display_width(column.title))
            self._write(f"{column.title}{pad}  {column.words(value)}".rstrip() + "\n")
        self._out.flush()

    def text(self, text: str) -> None:
        """Show text from outside with its line breaks, such as the body of a directive."""
        self._write(printable(text, keep_newlines=True).rstrip("\n") + "\n")
        self._out.flush()

    def json(self, value: Any) -> None:
        """Show one JSON document, indented for the eye on a terminal."""
        self._write(_json(value, 2 if self.on_terminal else None, self._out.encoding) + "\n")
        self._out.flush()

    def json_line(self, value: Any) -> None:
        """Show one JSON document on one line at once, for those who follow along."""
        self._write(_json(value, None, self._out.encoding) + "\n")
        self._out.flush()

    def _table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        from rich import box  # noqa: PLC0415 - see the invariants
        from rich.console import Console  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        console = Console(file=self._out, width=self._width, highlight=False)
        cells = [[column.words(row) for row in rows] for column in columns]
        # One blank belongs to each cell, the other is the line between two columns.
        free = console.width - _BETWEEN_COLUMNS * (len(columns) - 1)
        widths = column_widths([column.title for column in columns], cells, free)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for column, width in zip(columns, widths, strict=True):
            table.add_column(
                Text(column.title),
                justify="right" if column.right else "left",
                overflow="fold",
                width=width,
            )
        for row, words in zip(rows, zip(*cells, strict=True), strict=True):
            # Text, not str: a name in square brackets is a name and no markup.
            styled = zip(words, columns, strict=True)
            table.add_row(*(Text(text, style=column.colour(row)) for text, column in styled))
        console.print(table)

    def _lines(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        padded = [_padded(column, rows) for column in columns]
        for line in zip(*padded, strict=True):
            self._write("  ".join(line).rstrip() + "\n")
        self._out.flush()

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
        except UnicodeEncodeError:  # a pipe or terminal that knows only some letters
            encoding = self._out.encoding or "ascii"
            self._out.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_plain(item) for item in value)
    return str(value)


def _padded(column: Column, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A column's title and cells, all of one width."""
    values = [row.get(column.key) for row in rows]
    kinds = set(map(type, values)) - {type(None)}
    if len(kinds) <= 1 and kinds <= _COMPARABLE:  # 1 and True are equal, and other words
        known = {value: column.in_words(value) for value in set(values)}
        cells = [column.title, *map(known.__getitem__, values)]
    else:
        cells = [column.title, *map(column.in_words, values)]
    if all(map(str.isascii, cells)):
        width = max(map(len, cells))
        pad = str.rjust if column.right else str.ljust
        return [pad(cell, width) for cell in cells]
    width = max(map(display_width, cells))
    return [_pad(cell, width, right=column.right) for cell in cells]


def _pad(cell: str, width: int, *, right: bool) -> str:
    pad = " " * (width - display_width(cell))
    return pad + cell if right else cell + pad


def _json(value: Any, indent: int | None, encoding: str | None) -> str:
    import json  # noqa: PLC0415 - a few milliseconds that most short commands need not pay

    unicode_out = (encoding or "").lower().replace("-", "").startswith("utf")
    document = None
    if unicode_out and indent is None and isinstance(value, list) and len(value) > _MANY_ROWS:
        import msgspec  # noqa: PLC0415 - ten times as quick, which shows from here on

        with contextlib.suppress(UnicodeEncodeError):  # half a character; json can write it
            document = msgspec.json.encode(value).decode()
    if document is None:
        document = json.dumps(value, ensure_ascii=not unicode_out, indent=indent)
    if document.isascii() and "\x7f" not in document:  # json escaped what else there is
        return document
    # json leaves some harmful characters as they are, all inside strings; escapes are equal there.
    return _HARMFUL.sub(lambda m: m[0] if m[0] == "\n" else _json_escape(m[0]), document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
