"""Output: harmless to terminals, aligned in pipes, exact in JSON, complete in narrow windows."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buskit.terminal import (
    Column,
    Sheet,
    ago,
    bar,
    clock,
    column_widths,
    display_width,
    narrate,
    printable,
)

COLUMNS = [
    Column("id", "Store"),
    Column("name", "Name"),
    Column("open", "Open", right=True, style="red"),
]
ROWS: list[dict[str, Any]] = [
    {"id": "S001", "name": "Riverside", "open": 12},
    {"id": "S002", "name": "上海南京东路", "open": 3},
    {"id": "S003", "name": "[bold]evil[/]\x1b[2J\x9b31m\u202egnp", "open": None},
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Say so."""
        return True


class Pipe(io.StringIO):
    """A stream that is none."""

    encoding = "utf-8"


@settings(max_examples=300, deadline=None)
@given(st.text(), st.booleans())
def test_nothing_a_terminal_would_obey_gets_through(text: str, keep_newlines: bool) -> None:
    """No control character, reordering mark or lone surrogate is left, whatever comes in."""
    shown = printable(text, keep_newlines=keep_newlines)
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown
    )
    assert keep_newlines or "\n" not in shown
    shown.encode()


def test_what_is_hidden_becomes_visible() -> None:
    """Escape sequences show as text; letters of all scripts and emoji stay as they are."""
    assert printable("a\x1b[31mb\x07") == "a\\x1b[31mb\\x07"
    assert printable("one\r\ntwo\tx") == "one\\x0d\\ntwo    x"
    assert printable("one\r\ntwo", keep_newlines=True) == "one\ntwo"
    assert printable("\u202eevil\U000e0041") == "\\u202eevil\\U000e0041"
    for text in ("Zürich", "上海", "ക്ഷ\u200d", "👩\u200d🍳", "مرحبا\u200f"):
        assert printable(text) == text


def test_lines_in_a_pipe_are_aligned_by_what_the_eye_sees() -> None:
    """Wide characters count double, nothing is cut, no tab, colour or border appears."""
    out = Pipe()
    Sheet(out).show(ROWS, COLUMNS, as_json=False, empty="none")
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["Store", "Name", "Open"]
    assert {display_width(line) for line in lines[:3]} == {display_width(lines[0])}
    assert lines[2].endswith("上海南京东路" + " " * 36 + "3") or lines[2].endswith("3")
    assert "\\x1b[2J\\x9b31m\\u202egnp" in lines[3]
    assert not set(out.getvalue()) & {"\t", "\x1b", "│", "─"}


def test_a_table_folds_and_loses_nothing() -> None:
    """On a narrow terminal every letter of a long name is still there, and markup is text."""
    out = Terminal()
    Sheet(out, width=40).show(ROWS, COLUMNS, as_json=False, empty="none")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert max(map(display_width, shown.splitlines())) <= 40
    letters = re.sub(r"\s", "", shown)
    assert "上海南京东路" in letters
    assert "[bold]evil[/]\\x1b[2J\\x9b31m\\u202egnp" in letters.replace("S003", "")
    assert "\x9b" not in out.getvalue()


def test_short_values_stay_in_one_piece_on_a_narrow_terminal() -> None:
    """Long text is folded, and titles at their blanks, before an id, a moment or a count is."""
    cells = [["302ef0e5"], ["2026-11-23 14:42"], ["18 of 180 done"], ["Set up the promotion " * 4]]
    titles = ["id", "when it was issued", "as asked", "title"]
    widths = column_widths(titles, cells, 74)
    assert widths == [8, 16, 14, 36]
    assert column_widths(titles, cells, 50) == [8, 16, 14, 12]
    assert sum(column_widths(titles, cells, 200)) < 200
    narrow = column_widths(titles, cells, 20)  # nothing fits any more, and still nothing is lost
    assert sum(narrow) == 20
    assert min(narrow) >= 1


def test_json_is_exact_and_harmless() -> None:
    """A program gets back the very values; the bytes on the way hold no control characters."""
    for out in (Pipe(), Terminal()):
        Sheet(out).show(ROWS, COLUMNS, as_json=True, empty="none")
        assert json.loads(out.getvalue()) == ROWS
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out.getvalue())
    out = Pipe()
    Sheet(out).show([], COLUMNS, as_json=True, empty="none")
    assert out.getvalue() == "[]\n"
    out = Pipe()
    for row in ROWS:
        Sheet(out).json_line(row)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == ROWS
    out = Pipe()
    Sheet(out).json({"odd": "\ud800 \U000e0041"})
    assert json.loads(out.getvalue()) == {"odd": "\ud800 \U000e0041"}


@pytest.mark.parametrize("odd", ["plain", "a\x1b[2Jb\x7f\u202e", "Größe 两行", "half \ud800"])
def test_json_of_many_rows_is_as_exact_and_harmless_as_of_few(odd: str) -> None:
    """A long list is written by another encoder, and says the same."""
    rows = [{"name": odd, "at": 1.5, "none": None, "in": {"a": [1, True]}}] * 1500
    out = Pipe()
    Sheet(out).json(rows)
    assert json.loads(out.getvalue()) == rows
    assert not set(out.getvalue()) & set("\x1b\x7f\u202e\ud800")


def test_no_rows_is_told_to_the_person_and_not_to_the_pipe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An empty answer leaves standard output empty and says so on standard error."""
    Sheet().show([], COLUMNS, as_json=False, empty="no stores yet")
    assert capsys.readouterr() == ("", "no stores yet\n")


def test_one_value_is_shown_as_titled_lines() -> None:
    """A single thing has one line per column, titles aligned; as JSON it is one object."""
    out = Pipe()
    Sheet(out).show_one(ROWS[0] | {"up": True}, [*COLUMNS, Column("up", "Up")], as_json=False)
    assert out.getvalue() == "Store  S001\nName   Riverside\nOpen   12\nUp     yes\n"
    out = Pipe()
    Sheet(out).show_one(ROWS[1], COLUMNS, as_json=True)
    assert json.loads(out.getvalue()) == ROWS[1]


def test_a_terminal_of_few_letters_stops_nothing() -> None:
    """Where Chinese cannot be written it is escaped, in JSON by JSON's own escapes."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Sheet(out).show(ROWS, COLUMNS, as_json=False, empty="")
    Sheet(out).json_line(ROWS[1])
    lines = raw.getvalue().decode("ascii").splitlines()
    assert "\\u4e0a" in lines[2]
    assert json.loads(lines[-1]) == ROWS[1]


def test_rich_is_not_imported_for_a_pipe() -> None:
    """A short command in a script does not pay for tables it does not draw."""
    script = (
        "import sys; from buskit.terminal import *\n"
        "Sheet().show([{'a': 1}], [Column('a', 'A')], as_json=False, empty='')\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert done.stdout == "A\n1\nFalse\n"


def test_times_are_put_into_words() -> None:
    """One unit that fits; impossible clocks of a store do not raise."""
    assert [ago(s) for s in (-5, 0.5, 1, 59, 60, 3599, 7200, 86400, 864000)] == [
        "just now",
        "just now",
        "1 s ago",
        "59 s ago",
        "1 min ago",
        "59 min ago",
        "2 h ago",
        "1 d ago",
        "10 d ago",
    ]
    assert clock(None) == "-"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", clock(1_777_777_777))
    assert clock(1e30) == clock(float("nan")) == "?"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=5), st.integers(5, 60))
def test_a_bar_is_always_full_and_shows_the_smallest_part(counts: list[int], width: int) -> None:
    """Whatever the counts, the bar has its width, and one of thousands still has a column."""
    shown = bar(*((count, "abcde"[i]) for i, count in enumerate(counts)), width=width)
    assert len(shown) == width
    for i, count in enumerate(counts):
        assert ("abcde"[i] in shown) == (count > 0)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("closed")])
def test_words_that_nobody_can_take_end_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A daemon goes on when its log is on a full disk, or closed."""

    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise error

    monkeypatch.setattr(sys, "stderr", Full())
    narrate("cannot save: no room left")
