"""Defects are told from trouble with the disk, and a part of a transaction is undone alone."""

import sqlite3

import pytest

from buskit.database import DatabaseBusy
from buskit.database_part import undone_alone
from buskit.defects import is_defect, told


@pytest.mark.parametrize("error", [ValueError(), KeyError("x"), RecursionError(), OverflowError()])
def test_programs_fail_by_what_they_are_given(error: Exception) -> None:
    """Whatever Python raises."""
    assert is_defect(error)


@pytest.mark.parametrize(
    "error", [OSError(5, "no"), MemoryError(), DatabaseBusy("it is"), KeyboardInterrupt()]
)
def test_the_disk_and_the_system_are_no_defects(error: BaseException) -> None:
    """Those are waited for."""
    assert not is_defect(error)


def test_errors_of_sql_are_defects_and_a_failing_disk_is_not() -> None:
    """Both are OperationalErrors."""
    with pytest.raises(sqlite3.OperationalError) as wrong:
        sqlite3.connect(":memory:").execute("SELECT json('{')")
    assert is_defect(wrong.value)
    failing = sqlite3.OperationalError("disk I/O error")
    failing.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    assert not is_defect(failing)


def test_what_is_told_is_one_short_line() -> None:
    """Also of texts that are no text."""
    assert told(ValueError("a\n  b \ud800" + "x" * 1000)).startswith("ValueError: a b \\ud800xxx")
    assert len(told(ValueError("x" * 1000))) < 200
    assert told(KeyError()) == "KeyError"


def test_only_the_block_is_undone() -> None:
    """What came before it in the transaction stays."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (a)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (1)")

    def fail() -> None:
        with undone_alone(connection):
            connection.execute("INSERT INTO t VALUES (2)")
            raise ValueError("now")

    with pytest.raises(ValueError, match="now"):
        fail()
    with undone_alone(connection):
        connection.execute("INSERT INTO t VALUES (3)")
    connection.execute("COMMIT")
    assert connection.execute("SELECT a FROM t").fetchall() == [(1,), (3,)]
