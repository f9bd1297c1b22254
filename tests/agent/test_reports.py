"""Figures: what is a number, what stays text, and which line is wrong."""

import pytest

from storeagent.errors import InvalidEntry
from storeagent.reports import Table, check_report_name, cut, guess_format, make_table, read_table


def test_a_sku_with_leading_zeros_stays_text_with_its_whole_column() -> None:
    """One 0012 makes the column text; other columns are numbers; empty is nothing."""
    table = read_table(b"sku,sold,price\n0012,3,1.50\n6901234,,2\n", "csv")
    assert table == Table(["sku", "sold", "price"], [["0012", 3, 1.5], ["6901234", None, 2]])


@pytest.mark.parametrize(
    "cell",
    ["1e5", "+3", "-0", "0x10", "1_000", "1,5", "nan", "inf", "٣", "9" * 17, "0.1234567890123456"],
)
def test_what_a_number_would_change_stays_text(cell: str) -> None:
    """Only what comes back as it was written becomes a number."""
    table = read_table(f'a;b\n"{cell}";1\n'.encode(), "csv")
    assert table.rows == [[cell, 1]]


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", [[1, 2]]),
        (b"a\tb\n1\tx y\n\n", [[1, "x y"]]),
        (b"a|b\n1|2", [[1, 2]]),
        (b'a,b\n1,"two\nlines"\n', [[1, "two\nlines"]]),
        (b"a,b\n", []),
    ],
)
def test_csv_as_programs_write_it(data: bytes, rows: list[list[object]]) -> None:
    """Byte order marks, CRLF, tabs, bars, quoted line breaks, and no rows at all."""
    table = read_table(data, "csv")
    assert table.columns == ["a", "b"]
    assert table.rows == rows


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", "csv", "empty"),
        (b"a,b\n1,2\n3\n", "csv", "line 3 has 1 cells"),
        (b'a,b\n"1\nx",2\n3\n', "csv", "line 4 has 1 cells"),
        (b'a,b\n1,"2\n', "csv", "line 2 cannot be read"),
        (b"a,a\n1,2\n", "csv", "called 'a'"),
        (b"a,\n1,2\n", "csv", "column 2 in line 1 has no name"),
        (b"a,b\n1,\xe9\n", "csv", "line 2 is not UTF-8"),
        (b"", "jsonl", "empty"),
        (b'{"a":1}\n{"a":\n', "jsonl", "line 2 is not JSON"),
        (b'{"a":1}\n\n[1]\n', "jsonl", "line 3 is not an object"),
        (b'{"a":[1]}\n', "jsonl", "'a' in line 1"),
        (b'{"a":99999999999999999999}\n', "jsonl", "more digits"),
        (b'{"":1}\n', "jsonl", "column"),
    ],
)
def test_what_cannot_be_read_names_its_line(data: bytes, kind: str, message: str) -> None:
    """A person finds the place."""
    with pytest.raises(InvalidEntry, match=message):
        read_table(data, kind)  # type: ignore[arg-type]


def test_json_lines_keep_their_types_and_all_their_columns() -> None:
    """Columns in order of appearance, what a line lacks is null."""
    table = read_table(b'{"a":"0012","b":1}\r\n{"c":true,"a":2.5}\n', "jsonl")
    assert table == Table(["a", "b", "c"], [["0012", 1, None], [2.5, None, True]])


def test_the_format_is_guessed_from_name_or_content() -> None:
    """A file's name decides, or the first character."""
    assert guess_format(b"{}", "x.csv") == "csv"
    assert guess_format(b"a,b", "x.JSONL") == "jsonl"
    assert guess_format(b'\xef\xbb\xbf\n{"a":1}') == "jsonl"
    assert guess_format(b"a,b\n") == "csv"


def test_a_row_too_long_for_any_part_is_refused() -> None:
    """It cannot be cut, so it cannot be sent."""
    with pytest.raises(InvalidEntry, match="row 2"):
        cut("x", "k", make_table([{"a": "x"}, {"a": "x" * 50_000}]))


def test_an_empty_table_is_one_part() -> None:
    """No sales today is a report, too."""
    (part,) = cut("x", "k", Table(["a"], []))
    assert (part.part, part.parts, part.rows) == (1, 1, [])


@pytest.mark.parametrize("name", ["", "a b", "x" * 41, "a/b"])
def test_a_report_has_a_plain_name(name: str) -> None:
    """Names go into lists and file names."""
    with pytest.raises(InvalidEntry):
        check_report_name(name)
