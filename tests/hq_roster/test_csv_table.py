"""Bytes that other systems call CSV: encodings, delimiters, quotes, and the lines they are on."""

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hqconsole.csv_table import Table, TableError, read_table

PLAIN = "id,name\n1,München\n2,東京\n"


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace(",", " , ").encode(),
        PLAIN.rstrip("\n").encode(),
        PLAIN.replace("\n", ",,\n").encode(),
    ],
)
def test_every_common_form_of_the_same_list_reads_the_same(data: bytes) -> None:
    """Byte order marks, line ends, delimiters and trailing empty cells make no difference."""
    assert read_table(data) == Table(("id", "name"), [(2, ["1", "München"]), (3, ["2", "東京"])])


def test_lines_are_those_of_the_file() -> None:
    """After quoted line breaks and empty lines, a row is where an editor shows it."""
    data = b'\nid,name\n1,"two\nlines"\r\n\r\n2,"a ""b"", c"\n,\n3,x\n'
    table = read_table(data)
    assert table.rows == [(3, ["1", "two\nlines"]), (6, ["2", 'a "b", c']), (8, ["3", "x"])]
    assert table.blank_rows == 2


def test_a_first_line_may_announce_the_delimiter() -> None:
    """Spreadsheets write sep=; and the lines still count from it."""
    table = read_table(b"sep=;\r\nid;name, city\r\n1;a, b\r\n")
    assert table == Table(("id", "name, city"), [(3, ["1", "a, b"])])


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("id,name\n1,München\n".encode("cp1252"), "byte 12, on line 2, is 0xFC"),
        (codecs.BOM_UTF8 + "id\r\nü\r\nx\xff".encode("latin-1"), "byte 8, on line 2, is 0xFC"),
        (b"a\rb\rc\xff", "on line 3, is 0xFF"),
        ("id,name\n1,x\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("id,name\n".encode("utf-32"), "UTF-32"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8a", "none at byte"),
        (b"PK\x03\x04\x14\x00", "workbook"),
        (b"\xd0\xcf\x11\xe0\xa1", "workbook"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"", "nothing in the list"),
        (codecs.BOM_UTF8, "nothing in the list"),
        (b"\n,,\n  \n", "nothing in the list"),
        (b'id,"name\n1,x\n', "line 1, the column names: a quote opened here is never closed"),
        (b"id,na\x00me\n1,x\n", "NUL"),
    ],
)
def test_what_is_no_table_is_refused_with_the_way_out(data: bytes, told: str) -> None:
    """The error names the byte and the line, the hint how to export it properly."""
    with pytest.raises(TableError) as caught:
        read_table(data)
    assert told in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("2,b,c", "3 cells where the first line names 2 columns"),
        ("2", "1 cells where"),
        ("2,a\0b", "NUL byte"),
        ('2,"a"b', "a quote is out of place"),
        (f"2,{'x' * 200_000}", "longer than"),
    ],
)
def test_a_broken_row_is_a_problem_with_its_line_and_the_others_are_read(
    bad: str, told: str
) -> None:
    """One bad row hides neither itself nor the good ones around it."""
    table = read_table(f"id,name\n1,a\n{bad}\n3,c\n".encode())
    assert [cells for _, cells in table.rows] == [["1", "a"], ["3", "c"]]
    assert [problem.line for problem in table.problems] == [3]
    assert told in table.problems[0].reason


def test_a_quote_never_closed_is_told_by_the_line_that_opened_it() -> None:
    """Everything behind it is lost to the reader, so the place to mend is named."""
    table = read_table(b'id,name\n1,a\n2,"b\n3,c\n4,d\n')
    assert table.rows == [(2, ["1", "a"])]
    assert [problem.line for problem in table.problems] == [3]
    assert "never closed, and it was read on as far as line 5" in table.problems[0].reason


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='a,;"\n\r\t\0ü=', max_size=60).map(str.encode))
def test_any_bytes_are_a_table_or_a_clear_refusal(data: bytes) -> None:
    """Nothing but TableError comes out, every row is as wide as the header, every line real."""
    refusal = None
    try:
        table = read_table(data)
    except TableError as error:
        refusal = error
    if refusal is not None:
        assert refusal.hint
        return
    lines = len(data.splitlines())
    assert all(len(cells) == len(table.header) for _, cells in table.rows)
    assert all(1 <= line <= lines for line, _ in table.rows)
    assert all(1 <= problem.line <= lines for problem in table.problems)
