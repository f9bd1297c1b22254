"""A disk that fails is not a damaged database, whatever SQLite calls it."""

import errno
import os
import sqlite3
from pathlib import Path
from typing import NoReturn

import pytest

from buskit import database_check, database_errors
from buskit.cli import CommandGroup
from buskit.database import Database, DatabaseDamaged, DatabaseFailed, Migration, open_database
from buskit.defects import is_defect

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SQLite does so on POSIX only")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A small database."""
    return open_database(
        tmp_path / "n.db",
        (Migration("notes", "CREATE TABLE note (text TEXT NOT NULL)"),),
        application_id=7,
        what="the notebook",
        hint_create="make it",
        create=True,
    )


def malformed() -> sqlite3.DatabaseError:
    """What SQLite says of a damaged page, and of a page that the disk did not give."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def test_a_disk_that_cannot_be_read_is_told_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same error is damage where the file can be read, and a failing disk where it cannot."""
    (tmp_path / "n.db").write_bytes(b"whatever it is")
    with pytest.raises(DatabaseDamaged):
        database_errors.translate(malformed(), "the notebook", tmp_path / "n.db")

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(database_errors.os, "read", fail)
    with pytest.raises(DatabaseFailed, match="cannot be read") as caught:
        database_errors.translate(malformed(), "the notebook", tmp_path / "n.db")
    assert "unharmed" in str(caught.value.hint)


def test_looking_whether_it_can_be_read_keeps_sqlites_locks(database: Database) -> None:
    """To close a descriptor would give up the locks of this process on the same file."""
    with database.write() as connection:
        connection.execute("INSERT INTO note VALUES ('a')")
    before = _locks()
    assert before
    with pytest.raises(DatabaseDamaged):
        database_errors.translate(malformed(), "the notebook", database.path)
    assert _locks() == before
    database.close()


def _locks() -> list[str]:
    """The POSIX locks of this process."""
    lines = Path("/proc/locks").read_text().splitlines()
    mine = [line.split(maxsplit=1)[1] for line in lines if line.split()[4] == str(os.getpid())]
    return sorted(line for line in mine if line.startswith("POSIX"))


def test_one_read_that_failed_is_not_damage(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check looks a second time, and pages that were not given are the disk's fault."""
    real, times = database_check.first_damage, 0

    def fail_once(*arguments: object) -> str:
        nonlocal times
        times += 1
        if times == 1:
            raise malformed()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("buskit.database.first_damage", fail_once)
    database.check()
    assert times == 2
    with pytest.raises(sqlite3.OperationalError, match="8458"):
        database_check._refuse_unread(["Page 30: unable to get the page. error code=8458"])
    database_check._refuse_unread(["row 3 missing from index a"])
    database.close()


def test_a_failing_disk_is_no_defect_of_a_message() -> None:
    """Else a message would be put aside, and lost, because of one read that failed."""
    assert not is_defect(malformed())
    assert is_defect(sqlite3.IntegrityError("a constraint without a code"))


def test_a_command_says_it_without_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """What SQLite raises while a command reads is told in our words, with the hint."""
    group = CommandGroup("tool")

    @group.command("look")
    def look() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    assert group.run(["look"], "tool") == 1
    said = capsys.readouterr().err
    assert "cannot be read or written" in said
    assert "look at the disk" in said
    assert "Traceback" not in said
