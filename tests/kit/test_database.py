"""Database files: opened, written, copied and closed in one way, with errors that help."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buskit.database import (
    Database,
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseFailed,
    DatabaseForeign,
    DatabaseFull,
    DatabaseMissing,
    DatabaseNewer,
    Migration,
    open_database,
)
from buskit.locks import FileLock

OURS = 0x53420001

FIRST = Migration(
    "notes",
    """
    -- a semicolon; in a comment
    CREATE TABLE note (seq INTEGER PRIMARY KEY, text TEXT NOT NULL DEFAULT ';');
    CREATE TABLE total (one INTEGER PRIMARY KEY CHECK (one = 1), notes INTEGER NOT NULL);
    CREATE TRIGGER count_note AFTER INSERT ON note BEGIN
        UPDATE total SET notes = notes + 1;
    END;
    INSERT INTO total VALUES (1, 0);
    """,
)


def add_author(db: Any) -> None:
    """Change a table the sqlite_utils way, which wraps its work in savepoints."""
    db["note"].add_column("author", str)
    db["author"].insert_all([{"name": "Ann"}, {"name": "伊藤"}], pk="name")


SECOND = Migration("authors", add_author)
OPENING: dict[str, Any] = {
    "application_id": OURS,
    "what": "the notebook",
    "hint_create": "notebook init",
}


def open_notebook(path: Path | str, *migrations: Migration, **more: Any) -> Database:
    """Open a notebook, made if need be."""
    return open_database(path, migrations or (FIRST,), **{**OPENING, "create": True, **more})


def add(database: Database, text: str) -> None:
    """Write one note, durably."""
    with database.write() as connection:
        connection.execute("INSERT INTO note (text) VALUES (?)", (text,))


def texts(database: Database) -> list[str]:
    """Read all notes."""
    return [row[0] for row in database.connection.execute("SELECT text FROM note ORDER BY seq")]


def files(folder: Path) -> list[str]:
    """Name what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_new_database_has_every_protection_switched_on(tmp_path: Path) -> None:
    """WAL, full durability, foreign keys, no trust in the schema, our marks, private mode."""
    with open_notebook(tmp_path / "n.db") as database:
        settings = {
            name: database.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "trusted_schema",
                "application_id",
                "user_version",
                "busy_timeout",
            )
        }
        assert settings == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "trusted_schema": 0,
            "application_id": OURS,
            "user_version": 1,
            "busy_timeout": 30000,
        }
        add(database, "first")
        if sys.platform != "win32":
            modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
            assert modes == {0o600}
    # The last one to close has moved everything into the one file.
    assert files(tmp_path) == ["n.db", "n.db.lock"]


def test_migrations_continue_where_they_ended_and_take_both_forms(tmp_path: Path) -> None:
    """SQL text with triggers and a sqlite_utils callable both apply once, in order."""
    with open_notebook(tmp_path / "n.db") as database:
        add(database, "kept")
    with open_notebook(tmp_path / "n.db", FIRST, SECOND) as database:
        assert database.version == 2
        row = database.connection.execute("SELECT text, author FROM note").fetchone()
        assert row == ("kept", None)
        assert database.connection.execute("SELECT notes FROM total").fetchone() == (1,)
    with open_notebook(tmp_path / "n.db", FIRST, SECOND) as database:
        assert database.connection.execute("SELECT count(*) FROM author").fetchone() == (2,)


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """Half a migration is rolled back with its version, and the error names it."""

    def break_off(db: Any) -> None:
        db["half"].insert({"a": 1})
        raise ValueError("power cut")

    with pytest.raises(ValueError, match="power cut"):
        open_notebook(tmp_path / "n.db", FIRST, Migration("half", break_off))
    wrong = Migration("typo", "CREATE TABLE half (a); CREATE TABEL other (b);")
    with pytest.raises(sqlite3.OperationalError, match="TABEL") as caught:
        open_notebook(tmp_path / "n.db", FIRST, wrong)
    assert caught.value.__notes__ == ["in migration 'typo'"]
    with open_notebook(tmp_path / "n.db") as database:
        assert database.version == 1
        query = "SELECT count(*) FROM sqlite_schema WHERE name = 'half'"
        assert database.connection.execute(query).fetchone() == (0,)


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK", "END"])
def test_a_migration_cannot_end_its_own_transaction(tmp_path: Path, word: str) -> None:
    """A step that commits midway would be half applied after a crash; it is refused instead."""
    sneaky = Migration("sneaky", f"CREATE TABLE half (a); {word}; CREATE TABLE rest (b);")
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        open_notebook(tmp_path / "n.db", FIRST, sneaky)
    with open_notebook(tmp_path / "n.db") as database:
        assert database.version == 1


def test_sqlite_utils_is_not_imported_without_need(tmp_path: Path) -> None:
    """A short command that only needs SQL migrations does not pay for the big import."""
    script = (
        "import sys; from buskit.database import open_database, Migration\n"
        "d = open_database(sys.argv[1], [Migration('a', 'CREATE TABLE a (b)')], application_id=5,"
        " what='x', hint_create='y', create=True)\n"
        "with d.write() as c: c.execute('INSERT INTO a VALUES (1)')\n"
        "d.close(); print([m for m in sys.modules if m in ('sqlite_utils', 'click', 'rich')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "n.db")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_a_missing_database_is_not_made_by_accident(tmp_path: Path) -> None:
    """Without `create` nothing appears on the disk, and the error says which command makes one."""
    with pytest.raises(DatabaseMissing, match="the notebook does not exist yet") as caught:
        open_notebook(tmp_path / "n.db", create=False)
    assert caught.value.hint == "notebook init"
    assert files(tmp_path) == []
    (tmp_path / "empty.db").touch()
    with pytest.raises(DatabaseMissing, match="is empty"):
        open_notebook(tmp_path / "empty.db", create=False)


def test_databases_of_others_are_refused_unchanged(tmp_path: Path) -> None:
    """Another kind of ours, another program's, a folder: refused, and not a byte is changed."""
    open_notebook(tmp_path / "kind.db", application_id=OURS + 1).close()
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    for name in ("kind.db", "other.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(DatabaseForeign, match="another kind"):
            open_notebook(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(DatabaseForeign, match="is not a file"):
        open_notebook(tmp_path / "folder.db")


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    """An old program neither reads nor writes tables it does not know."""
    open_notebook(tmp_path / "n.db", FIRST, SECOND).close()
    with pytest.raises(DatabaseNewer, match="has version 2, this program knows up to 1") as caught:
        open_notebook(tmp_path / "n.db", FIRST)
    assert caught.value.hint


def test_an_upgrade_under_a_running_program_stops_its_writes(tmp_path: Path) -> None:
    """A daemon of the old version does not write into tables that a new command has changed."""
    with open_notebook(tmp_path / "n.db") as old:
        open_notebook(tmp_path / "n.db", FIRST, SECOND).close()
        with pytest.raises(DatabaseNewer, match="changed by a newer version"):
            add(old, "x")


def test_garbage_is_called_damaged(tmp_path: Path) -> None:
    """A file that is no database is named as damaged, with the way out."""
    (tmp_path / "n.db").write_bytes(os.urandom(8192))
    with pytest.raises(DatabaseDamaged, match="is damaged") as caught:
        open_notebook(tmp_path / "n.db")
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert "backup" in (caught.value.hint or "")


def test_check_finds_a_page_that_was_overwritten(tmp_path: Path) -> None:
    """A page of noise in the middle of the file does not pass for data."""
    with open_notebook(tmp_path / "n.db") as database:
        for number in range(200):
            add(database, f"{number} " * 100)
        database.check()
    with (tmp_path / "n.db").open("rb+") as file:
        file.seek(4096 * 6)
        file.write(b"\x05" * 4096)
    with open_notebook(tmp_path / "n.db") as database, pytest.raises(DatabaseDamaged):
        database.check()


def test_a_write_that_raises_leaves_no_trace(tmp_path: Path) -> None:
    """What the block did before it raised is undone, and the next write works."""
    with open_notebook(tmp_path / "n.db") as database:
        with pytest.raises(ZeroDivisionError), database.write() as connection:  # noqa: PT012 - the block is the case
            connection.execute("INSERT INTO note (text) VALUES ('gone')")
            raise ZeroDivisionError
        with pytest.raises(sqlite3.IntegrityError), database.write() as connection:  # noqa: PT012
            connection.execute("INSERT INTO note (text) VALUES ('gone as well')")
            connection.execute("INSERT INTO note (text) VALUES (NULL)")
        add(database, "kept")
        assert texts(database) == ["kept"]


def test_transactions_do_not_nest(tmp_path: Path) -> None:
    """A write inside a write or a read is refused at once, instead of waiting for itself."""
    with open_notebook(tmp_path / "n.db", busy_seconds=0.2) as database:
        with database.write(), pytest.raises(RuntimeError, match="open already"):
            add(database, "nested")
        with database.read(), pytest.raises(RuntimeError, match="open already"):
            add(database, "nested")
        with database.write(), pytest.raises(RuntimeError, match="open already"), database.read():
            pass
        add(database, "fine")
    with pytest.raises(RuntimeError, match="is closed"):
        add(database, "late")


def test_a_read_sees_one_state_while_others_write(tmp_path: Path) -> None:
    """Two queries of one read agree, though another connection commits between them."""
    with open_notebook(tmp_path / "n.db") as reader, open_notebook(tmp_path / "n.db") as writer:
        add(writer, "one")
        before = reader.changes_by_others()
        with reader.read():
            assert texts(reader) == ["one"]
            add(writer, "two")
            assert texts(reader) == ["one"]
        assert texts(reader) == ["one", "two"]
        assert reader.changes_by_others() != before
        assert reader.changes_by_others() == reader.changes_by_others()


def test_writers_in_many_processes_lose_nothing(tmp_path: Path) -> None:
    """Four processes that read, add one and write agree on the sum, all with durable commits."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path; from tests.kit.test_database import open_notebook\n"
        "d = open_notebook(Path(sys.argv[1]))\n"
        "for _ in range(60):\n"
        "    with d.write() as c:\n"
        "        (n,) = c.execute('SELECT count(*) FROM note').fetchone()\n"
        "        c.execute('INSERT INTO note VALUES (?, ?)', (n + 1, sys.argv[2]))\n"
        "d.close()\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "n.db"), str(number)])
        for number in range(4)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    with open_notebook(tmp_path / "n.db") as database:
        row = database.connection.execute("SELECT count(*), max(seq) FROM note").fetchone()
        assert row == (240, 240)
        assert database.connection.execute("SELECT notes FROM total").fetchone() == (240,)
        database.check()


def test_a_writer_killed_in_the_middle_leaves_the_last_commit(tmp_path: Path) -> None:
    """SIGKILL inside a transaction: the lock is free at once, and only whole commits are there."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path; from tests.kit.test_database import open_notebook, add\n"
        "d = open_notebook(Path(sys.argv[1]))\n"
        "add(d, 'whole')\n"
        "with d.write() as c:\n"
        "    c.execute(\"INSERT INTO note (text) VALUES ('half')\")\n"
        "    print('in', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "n.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"in"
    with open_notebook(tmp_path / "n.db", busy_seconds=0.1) as database:
        with pytest.raises(DatabaseBusy, match=f"process {process.pid}"), database.write():
            pass
        process.kill()
        process.communicate()
        add(database, "after")
        assert texts(database) == ["whole", "after"]


def test_closing_waits_for_the_lock(tmp_path: Path) -> None:
    """A close checkpoints, so it does not happen while another process writes."""
    database = open_notebook(tmp_path / "n.db", busy_seconds=0.1)
    add(database, "x")
    other = FileLock(tmp_path / "n.db.lock")
    with other:
        with pytest.raises(DatabaseBusy):
            database.close()
        assert texts(database) == ["x"]
    database.close()
    database.close()
    other.close()


def test_who_was_refused_is_not_kept_as_long_again_for_closing(tmp_path: Path) -> None:
    """A command that waited in vain ends then, with the error that says how long it waited."""
    with open_notebook(tmp_path / "n.db") as database:
        add(database, "x")
    other, waited = FileLock(tmp_path / "n.db.lock"), []
    database = open_notebook(tmp_path / "n.db", busy_seconds=30.0)
    acquire = database._lock.acquire

    def waits(seconds: float) -> None:
        waited.append(seconds)
        acquire(0.2)

    database._lock.acquire = waits
    with other:
        with (
            pytest.raises(DatabaseBusy, match="for 30 s by process"),
            database,
            database.write(),
        ):
            pass
        assert waited == [30.0, 1.0]
        with pytest.raises(DatabaseBusy, match="for 30 s by process"):
            database.close()
    add(database, "y")
    database.close()
    assert waited[-2:] == [30.0, 30.0]
    other.close()


def test_a_foreign_program_that_holds_the_file_is_named_as_the_cause(tmp_path: Path) -> None:
    """Someone with the sqlite3 shell in a transaction makes us wait, then say so."""
    with open_notebook(tmp_path / "n.db", busy_seconds=0.1) as database:
        shell = sqlite3.connect(tmp_path / "n.db", isolation_level=None)
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy, match="another program"):
            add(database, "x")
        shell.execute("ROLLBACK")
        shell.close()
        add(database, "y")
        assert texts(database) == ["y"]


def test_a_full_database_keeps_what_it_had(tmp_path: Path) -> None:
    """When no page is left the transaction is gone as a whole, and work goes on when there is."""
    with open_notebook(tmp_path / "n.db") as database:
        add(database, "before")
        pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
        database.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(DatabaseFull, match="no room left") as caught:
            add(database, "x" * 100_000)
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        assert texts(database) == ["before"]
        database.connection.execute("PRAGMA max_page_count = 100000")
        add(database, "x" * 100_000)
        assert len(texts(database)) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte, where one can be had."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only the administrator of a Linux machine can make a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_its_log_is_used_again(small_disk: Path) -> None:
    """With no byte left on the disk every refused write is gone whole, and what fits still works.

    The log could not grow, but once it has been moved into the file, changes to what is there find
    room in it; so a device with a full disk can still settle what it has.
    """
    with open_notebook(small_disk / "n.db") as database:
        for _ in range(20):
            add(database, "x" * 4000)
        database.checkpoint()
        filler = (small_disk / "filler").open("wb", buffering=0)
        with filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"x" * 4096)
        with pytest.raises(DatabaseFull):
            add(database, "y" * 500_000)
        os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - 100_000)
        changed = refused = 0
        for number in range(60):
            try:
                with database.write() as connection:
                    body = f"{number} " * 1500
                    connection.execute("UPDATE note SET text = ? WHERE seq = 7", (body[:4000],))
                changed += 1
            except DatabaseFull:
                refused += 1
        assert changed > 50
        assert refused > 0
        assert len(texts(database)) == 20
        with pytest.raises(DatabaseFull, match="the copy"):
            database.backup(small_disk / "copy.db")
        assert files(small_disk) == ["filler", "n.db", "n.db-shm", "n.db-wal", "n.db.lock"]
        database.check()


def test_a_replaced_file_is_not_written_into(tmp_path: Path) -> None:
    """After a restore put another file there, an old connection refuses instead of losing data."""
    database = open_notebook(tmp_path / "n.db")
    database.backup(tmp_path / "copy.db")
    if sys.platform == "win32":
        pytest.skip("Windows does not let an open file be replaced")
    (tmp_path / "copy.db").replace(tmp_path / "n.db")
    for _ in range(2):
        with pytest.raises(DatabaseFailed, match="replaced"):
            add(database, "lost")
    database.close()


def test_a_failing_disk_demands_that_the_file_is_opened_anew(tmp_path: Path) -> None:
    """After an I/O error no transaction begins on that connection, until it is opened again."""
    database = open_notebook(tmp_path / "n.db")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = (
        sqlite3.SQLITE_IOERR_FSYNC,
        "SQLITE_IOERR_FSYNC",
    )
    with pytest.raises(DatabaseFailed, match="SQLITE_IOERR_FSYNC"), database.write():
        raise error
    with pytest.raises(DatabaseFailed, match="opened anew"):
        add(database, "x")
    with pytest.raises(DatabaseFailed, match="opened anew"), database.read():
        pass
    database.close()
    with open_notebook(tmp_path / "n.db") as again:
        add(again, "works")


def test_an_owner_that_was_stopped_in_its_recovery_is_somebody_to_wait_for(tmp_path: Path) -> None:
    """What SQLite calls a locking protocol error is no matter of the disk, and passes."""
    database = open_notebook(tmp_path / "n.db")
    error = sqlite3.OperationalError("locking protocol")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_PROTOCOL, "SQLITE_PROTOCOL"
    with pytest.raises(DatabaseBusy, match="another program"), database.write():
        raise error
    add(database, "works")
    database.close()


def test_a_folder_that_is_not_there_is_an_error_for_people(tmp_path: Path) -> None:
    """No folder, no stack trace of the system's own errors."""
    with pytest.raises(DatabaseFailed, match="No such file"):
        open_notebook(tmp_path / "no" / "n.db")


def test_the_log_does_not_grow_without_limit(tmp_path: Path) -> None:
    """Automatic checkpoints stay on: the log stays far below what was written."""
    with open_notebook(tmp_path / "n.db") as database:
        for _ in range(40):
            with database.write() as connection:
                connection.execute("DELETE FROM note")
                connection.execute("INSERT INTO note (text) VALUES (?)", ("x" * 400_000,))
        assert (tmp_path / "n.db-wal").stat().st_size < 8_000_000
        database.checkpoint()
        assert (tmp_path / "n.db-wal").stat().st_size == 0


def test_a_backup_is_one_whole_file_taken_while_others_write(tmp_path: Path) -> None:
    """The copy is a database of the same kind, has no companions, and replaces an old one."""
    (tmp_path / "to").mkdir()
    with open_notebook(tmp_path / "n.db") as database, open_notebook(tmp_path / "n.db") as other:
        add(database, "one")
        database.backup(tmp_path / "to" / "copy.db")
        add(database, "two")
        with other.write() as connection:
            connection.execute("INSERT INTO note (text) VALUES ('uncommitted')")
            database.backup(tmp_path / "to" / "copy.db")
    assert files(tmp_path / "to") == ["copy.db"]
    with open_notebook(tmp_path / "to" / "copy.db", create=False) as copy:
        assert texts(copy) == ["one", "two"]
        copy.check()


def test_a_backup_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    """No folder to write to: an error for people, and nothing half-written anywhere."""
    with open_notebook(tmp_path / "n.db") as database:
        with pytest.raises(DatabaseFailed, match="the copy"):
            database.backup(tmp_path / "no" / "copy.db")
        (tmp_path / "taken").mkdir()
        with pytest.raises(DatabaseFailed, match="the copy"):
            database.backup(tmp_path / "taken")
        assert files(tmp_path) == ["n.db", "n.db-shm", "n.db-wal", "n.db.lock", "taken"]


def test_memory_databases_go_into_images_and_back(tmp_path: Path) -> None:
    """An image restores the state it was taken of, from memory or from a WAL file."""
    with open_notebook(":memory:") as database:
        add(database, "early")
        image = database.serialize()
        add(database, "late")
    with Database.from_bytes(image, [FIRST], application_id=OURS, what="the notebook") as old:
        assert texts(old) == ["early"]
        add(old, "other")
        assert texts(old) == ["early", "other"]
    with open_notebook(tmp_path / "n.db") as database:
        add(database, "filed")
        database.checkpoint()
        image = database.serialize()
    with Database.from_bytes(image, [FIRST], application_id=OURS, what="the notebook") as copy:
        assert texts(copy) == ["filed"]
    with pytest.raises(DatabaseNewer):
        Database.from_bytes(image, [], application_id=OURS, what="the notebook")
    with pytest.raises(DatabaseDamaged):
        Database.from_bytes(os.urandom(8192), [FIRST], application_id=OURS, what="the notebook")
