"""A daemon's disk fails: pauses, words, and a database opened anew."""

import sqlite3
from pathlib import Path

import pytest

from buskit.database import Database, DatabaseFailed, DatabaseFull, Migration, open_database
from buskit.disk_trouble import DiskTrouble

FULL = DatabaseFull("no room left", hint="free space")


def trouble(said: list[str], *, draw: float = 0.0) -> DiskTrouble:
    """Trouble with chance of one's choice."""
    return DiskTrouble(say=said.append, draw=lambda: draw)


def opened(path: Path) -> Database:
    """A database with a table."""
    steps = [Migration("t", lambda db: db.conn.execute("CREATE TABLE t (x)"))]
    return open_database(
        path, steps, application_id=7, what="the test's", hint_create="none", create=True
    )


def test_pauses_grow_to_their_limit_and_begin_small_again() -> None:
    """From half of it to all of it by chance: 1, 2, 4 ... 30 s; success forgets them."""
    for draw, share in ((0.0, 0.5), (0.999999, 1.0)):
        one = trouble([], draw=draw)
        assert not one.is_there
        waits = []
        for _ in range(40):
            one.pause(FULL, 100.0)
            assert one.retry_at is not None
            waits.append(one.retry_at - 100.0)
        expected = [share * min(30.0, 2.0**n) for n in range(40)]
        assert waits == pytest.approx(expected, rel=1e-5)
        assert one.waits(100.0)
        assert not one.waits(131.0)
        one.over()
        assert not one.is_there
        assert not one.waits(0.0)
        one.pause(FULL, 0.0)
        assert one.retry_at == pytest.approx(share, rel=1e-5)


def test_trouble_is_told_once_and_its_end_too() -> None:
    """A disk that stays full for a night is one line; another cause is another line."""
    said: list[str] = []
    one = trouble(said)
    one.over()
    assert said == []
    for _ in range(5):
        one.pause(FULL, 0.0)
    assert one.problem == "no room left (free space)"
    one.pause(OSError("the disk is gone"), 0.0)
    one.over()
    one.over()
    assert said == [
        "cannot save: no room left (free space); trying again",
        "cannot save: the disk is gone; trying again",
        "the disk works again",
    ]
    assert one.problem == ""
    one.pause(FULL, 0.0)
    assert said[-1].startswith("cannot save: no room left")


def test_the_old_connection_is_closed_last(tmp_path: Path) -> None:
    """While the new one is looked at, the old one still holds what SQLite knows of the log."""
    one = trouble([])
    one.must_reopen, one.suspicions = True, 2
    old = opened(tmp_path / "a.db")
    seen = []

    def begin(new: Database) -> str:
        assert old.connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        seen.append(new)
        return "made"

    new, made = one.reopen(old, lambda: opened(tmp_path / "a.db"), begin)
    assert made == "made"
    assert seen == [new]
    assert (one.must_reopen, one.suspicions) == (False, 0)
    with pytest.raises(sqlite3.ProgrammingError):
        old.connection.execute("SELECT 1")
    new.close()


def test_what_cannot_be_opened_anew_leaves_all_as_it_was(tmp_path: Path) -> None:
    """Whether opening fails or looking: the old one is still there, and it is still due."""
    one = trouble([])
    one.must_reopen = True
    made: list[Database] = []

    def open_anew() -> Database:
        made.append(opened(tmp_path / "a.db"))
        return made[-1]

    def fail(*_: object) -> Database:
        raise DatabaseFailed("the disk fails")

    with opened(tmp_path / "a.db") as old:
        with pytest.raises(DatabaseFailed):
            one.reopen(old, fail, str)
        with pytest.raises(DatabaseFailed):
            one.reopen(old, open_anew, fail)
        assert one.must_reopen
        with pytest.raises(sqlite3.ProgrammingError):
            made[0].connection.execute("SELECT 1")
        assert old.connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
