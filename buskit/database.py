"""The one way in which a database file is opened, written, read, copied and closed.

Owns the settings of a connection, the rule of one writer at a time, the migrations, and the
translation of SQLite's errors into causes that a person can act on. Must not know any table.

Invariants:
- Every write transaction, checkpoint and close holds the advisory lock `<path>.lock`. SQLite 3.7.0
  to 3.51.2 can damage a WAL database when several connections checkpoint at the same time (the
  WAL-reset bug), and Python brings its own SQLite, often an old one.
- When `write()` has returned without an error, its transaction is on the disk (WAL, synchronous
  FULL); when it raised `DatabaseFull` or `DatabaseBusy`, nothing of it is kept.
- After an I/O error nobody knows what the disk holds, so the connection refuses further work until
  it is closed and the file is opened anew.
- `PRAGMA application_id` says whose file it is, `PRAGMA user_version` how many migrations it has
  had. A file that is not ours is never changed, not even its journal mode.
- A database object is used by one thread at a time.
"""

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from buskit.database_copy import copy_database
from buskit.database_errors import (
    DAMAGED_HINT,
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseError,
    DatabaseFailed,
    DatabaseForeign,
    DatabaseFull,
    DatabaseMissing,
    DatabaseNewer,
    named,
    translate,
    translate_os,
)
from buskit.locks import FileLock, LockBusy
from buskit.migrations import Migration, apply_migration

__all__ = [
    "MEMORY",
    "Database",
    "DatabaseBusy",
    "DatabaseDamaged",
    "DatabaseError",
    "DatabaseFailed",
    "DatabaseForeign",
    "DatabaseFull",
    "DatabaseMissing",
    "DatabaseNewer",
    "Migration",
    "open_database",
]

MEMORY = ":memory:"

# The write-ahead log is cut back to this after a checkpoint; a huge import would leave it huge.
_WAL_LIMIT_BYTES = 32 * 1024 * 1024
_STATEMENTS_CACHED = 256


@dataclass(frozen=True)
class _Terms:
    """What a caller demands of a database, see `open_database`."""

    migrations: Sequence[Migration]
    application_id: int
    what: str
    hint_create: str
    create: bool
    busy_seconds: float


class Database:
    """An open database. Made by `open_database`; whoever has it owes a `close`.

    Attributes:
        path: The file, or None in memory.
        what: What it is called towards people, such as "the ledger".
        connection: The raw connection, in autocommit mode, for single reads. Changes made past
            `write()` break the rule of one writer.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, terms: _Terms) -> None:
        """Take over a connection that is fully set up; use `open_database` instead."""
        self.connection = connection
        self.path = path
        self.what = terms.what
        self.version = 0
        self._busy_seconds = terms.busy_seconds
        self._lock = None if path is None else FileLock(f"{path}.lock")
        self._file = None if path is None else _file_identity(path)
        self._broken: str | None = None
        self._closed = False

    @classmethod
    def from_bytes(
        cls, data: bytes, migrations: Sequence[Migration], *, application_id: int, what: str
    ) -> Self:
        """Return a database in memory that begins as the image `data` (see `serialize`).

        Raises:
            DatabaseError: The image is not one of ours, is newer than this program, or is damaged.
        """
        connection = _connect(MEMORY, busy_seconds=0, any_thread=False)
        try:
            # An image in WAL mode cannot live in memory; these two bytes of the header say WAL.
            connection.deserialize(data[:18] + b"\x01\x01" + data[20:])
        except sqlite3.Error as error:
            connection.close()
            translate(error, what, None)
        terms = _Terms(migrations, application_id, what, "", create=False, busy_seconds=0.0)
        return cls._begin(connection, None, terms)

    @classmethod
    def _begin(cls, connection: sqlite3.Connection, path: Path | None, terms: _Terms) -> Self:
        """Identify, configure and migrate what `connection` is connected to, or close it."""
        database = None
        try:
            _identify(connection, path, terms)
            database = cls(connection, path, terms)
            database._set_up(terms)
        except sqlite3.Error as error:
            _give_up(connection, database)
            translate(error, terms.what, path)
        except BaseException:
            _give_up(connection, database)
            raise
        return database

    def _set_up(self, terms: _Terms) -> None:
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute("PRAGMA trusted_schema = OFF")
        if self.path is not None:
            if self._pragma("journal_mode") != "wal":
                with self._locked():
                    self._enter_wal_mode()
            self.connection.execute("PRAGMA synchronous = FULL")
            # macOS keeps an fsync in the drive's cache unless it is asked not to; no-op elsewhere.
            self.connection.execute("PRAGMA fullfsync = ON")
            self.connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}").fetchone()
        self.version = self._int_pragma("user_version")
        while self.version < len(terms.migrations):
            with self._locked():
                self._migrate(terms)

    def _enter_wal_mode(self) -> None:
        """Switch a new file to WAL mode, as soon as nobody is looking at it."""
        # SQLite does not wait by itself here for others that only read.
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                mode = self.connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
            else:
                if mode == "wal":
                    return
                if time.monotonic() > deadline:
                    raise DatabaseFailed(
                        f"{self._named()} cannot have a write-ahead log there",
                        hint="keep it on a local disk; network folders do not work",
                    )
            time.sleep(0.005)

    def _migrate(self, terms: _Terms) -> None:
        """Apply the next migration, unless another process was quicker."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self.version = self._int_pragma("user_version")
            if self.version > len(terms.migrations):
                _refuse_newer(self.path, self.version, terms)
            if self.version < len(terms.migrations):
                apply_migration(self.connection, terms.migrations[self.version])
                self.version += 1
                self.connection.execute(f"PRAGMA application_id = {terms.application_id}")
                self.connection.execute(f"PRAGMA user_version = {self.version}")
            self.connection.execute("COMMIT")
        except BaseException:
            _roll_back(self.connection)
            raise

    @contextlib.contextmanager
    def write(self, timeout_seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        """Run a write transaction: durable when the block has ended, undone when it raises.

        Args:
            timeout_seconds: How long to wait for other writers, if not `busy_seconds`.

        Yields:
            The connection. Do not commit or roll back on it.

        Raises:
            DatabaseBusy: Others wrote for too long. Nothing was changed.
            DatabaseFull: No room left. Nothing of the transaction was kept.
            DatabaseDamaged: The file contradicts itself.
            DatabaseNewer: A newer program has changed the tables since the file was opened.
            DatabaseFailed: An I/O error; see there. Also when the file was replaced since.
            RuntimeError: A transaction of this object is open already.
        """
        self._refuse_unfit()
        with self._locked(timeout_seconds), self._translated():
            self._refuse_replaced()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                self._refuse_migrated()
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException as error:
                _roll_back(self.connection)
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                    # What is in the log already can move into the file, and its room be used again.
                    with contextlib.suppress(sqlite3.Error):
                        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Run several queries on one and the same state; never waits for writers.

        Keep it short: the write-ahead log cannot shrink while it lasts.

        Raises:
            DatabaseError: As for `write`, save that nothing can be full.
            RuntimeError: A transaction of this object is open already.
        """
        self._refuse_unfit()
        with self._translated():
            self.connection.execute("BEGIN DEFERRED")
            try:
                yield self.connection
            finally:
                _roll_back(self.connection)

    def changes_by_others(self) -> int:
        """Return a number that changes when another connection has committed something."""
        return self._int_pragma("data_version")

    def checkpoint(self) -> None:
        """Move everything from the write-ahead log into the file and empty the log."""
        self._refuse_unfit()
        if self.path is not None:
            with self._locked(), self._translated():
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def check(self) -> None:
        """Read the whole file and compare it with itself; slow on a big one.

        Raises:
            DatabaseDamaged: Something does not fit.
        """
        with self._translated():
            found = [str(row[0]) for row in self.connection.execute("PRAGMA quick_check(5)")]
        if found != ["ok"]:
            raise DatabaseDamaged(
                f"{self._named()} is damaged: {'; '.join(found)}", hint=DAMAGED_HINT
            )

    def backup(self, target_path: str | Path) -> None:
        """Copy the database as it is now into one file, while others go on reading and writing.

        The target appears complete and durable, or not at all; an older file there is replaced.

        Raises:
            DatabaseFull: There is no room for the copy.
            DatabaseFailed: It cannot be written.
        """
        self._refuse_unfit()
        copy_database(self.connection, Path(target_path))

    def serialize(self) -> bytes:
        """Return the database as one image, for `from_bytes`."""
        return self.connection.serialize()

    def close(self) -> None:
        """Close the connection, under the lock, as the last one to close also checkpoints.

        Idempotent. The transaction that may be open is rolled back.

        Raises:
            DatabaseBusy: Others hold the lock for too long; the database is still open.
        """
        if self._closed:
            return
        with self._locked():
            self._closed = True
            _roll_back(self.connection)
            self.connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _locked(self, timeout_seconds: float | None = None) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        limit = self._busy_seconds if timeout_seconds is None else timeout_seconds
        try:
            self._lock.acquire(limit)
        except LockBusy as busy:
            raise DatabaseBusy(
                f"{self._named()} has been locked for {limit:g} s by "
                + ("another process" if busy.pid is None else f"process {busy.pid}"),
                hint="try again; if it stays so, look at what that process is doing",
            ) from busy
        except OSError as error:
            translate_os(error, f"the lock of {self.what}", self._lock.path)
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            try:
                translate(error, self.what, self.path)
            except DatabaseFailed as failed:
                self._broken = str(failed)
                raise

    def _refuse_unfit(self) -> None:
        if self._closed:
            raise RuntimeError(f"{self._named()} is closed")
        if self._broken is not None:
            raise DatabaseFailed(
                f"{self._named()} must be opened anew after an error: {self._broken}",
                hint="start this program again",
            )
        if self.connection.in_transaction:
            raise RuntimeError(f"a transaction on {self._named()} is open already")

    def _refuse_replaced(self) -> None:
        """Refuse to write into a file that is no longer the one of this name: it would be lost."""
        if self.path is not None and _file_identity(self.path) != self._file:
            self._broken = "the file was replaced by another one"
            raise DatabaseFailed(
                f"{self._named()} was moved, deleted or replaced while it was open",
                hint="run the command again",
            )

    def _refuse_migrated(self) -> None:
        """Refuse to write into tables which a newer program has changed meanwhile."""
        if self._int_pragma("user_version") != self.version:
            raise DatabaseNewer(
                f"{self._named()} was changed by a newer version of this program",
                hint="stop this program and start it again",
            )

    def _named(self) -> str:
        return named(self.what, self.path)

    def _pragma(self, name: str) -> object:
        return self.connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _int_pragma(self, name: str) -> int:
        return int(self.connection.execute(f"PRAGMA {name}").fetchone()[0])


def open_database(
    path: str | Path,
    migrations: Sequence[Migration],
    *,
    application_id: int,
    what: str,
    hint_create: str,
    create: bool = False,
    busy_seconds: float = 30.0,
    any_thread: bool = False,
) -> Database:
    """Open a database file, make it if that is wanted, and bring it to the present version.

    Args:
        path: The file; its folder must exist. ":memory:" gives one that is never saved.
        migrations: All steps from nothing to the present, in order.
        application_id: The number that marks files of this kind (a signed 32-bit number, not 0).
        what: What to call it towards people, such as "the ledger".
        hint_create: The command that makes one, for when it is missing.
        create: Make the file (mode 0600) if it is not there.
        busy_seconds: How long to wait for other writers before giving up.
        any_thread: Let it be handed from thread to thread; still one at a time.

    Raises:
        DatabaseMissing: There is none, or an empty file, and `create` is not set.
        DatabaseForeign: It is not one of ours. It was left as it is.
        DatabaseNewer: It has had more migrations than this program knows. It was left as it is.
        DatabaseBusy: Another process holds it for too long.
        DatabaseDamaged: It is no database.
        DatabaseFailed: It cannot be read or written.
    """
    if str(path) == MEMORY:
        connection = _connect(MEMORY, busy_seconds=0, any_thread=any_thread)
        terms = _Terms(migrations, application_id, what, hint_create, create=True, busy_seconds=0.0)
        return Database._begin(connection, None, terms)  # noqa: SLF001 - one constructor, two halves
    file = Path(path).absolute()
    try:
        _require_file(file, what, hint_create, create=create)
        uri = f"{file.as_uri()}?mode=rw"
        connection = _connect(uri, busy_seconds=busy_seconds, any_thread=any_thread)
    except sqlite3.Error as error:
        translate(error, what, file)
    except OSError as error:
        translate_os(error, what, file)
    terms = _Terms(migrations, application_id, what, hint_create, create, busy_seconds)
    return Database._begin(connection, file, terms)  # noqa: SLF001


def _connect(target: str, *, busy_seconds: float, any_thread: bool) -> sqlite3.Connection:
    return sqlite3.connect(
        target,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=not any_thread,
        cached_statements=_STATEMENTS_CACHED,
        uri=target != MEMORY,
    )


def _require_file(path: Path, what: str, hint_create: str, *, create: bool) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not create:
            raise DatabaseMissing(f"{what} does not exist yet ({path})", hint=hint_create) from None
        with contextlib.suppress(FileExistsError):  # another process was quicker, which is as good
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return
    if not stat.S_ISREG(mode):
        raise DatabaseForeign(f"{path} is not a file", hint="name another place")


def _identify(connection: sqlite3.Connection, path: Path | None, terms: _Terms) -> None:
    """Refuse what is not ours or not for this version, without changing it."""
    connection.execute("BEGIN DEFERRED")  # or someone could be making it between these lines
    found = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    filled = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").fetchone()[0]
    connection.execute("ROLLBACK")
    if found == terms.application_id:
        if version > len(terms.migrations):
            _refuse_newer(path, version, terms)
        return
    if found != 0 or version != 0 or filled:
        raise DatabaseForeign(
            f"{named(terms.what, path)} is a database of another program or of another kind",
            hint="name another place; nothing in it was changed",
        )
    if not terms.create:
        raise DatabaseMissing(f"{named(terms.what, path)} is empty", hint=terms.hint_create)


def _refuse_newer(path: Path | None, version: int, terms: _Terms) -> NoReturn:
    raise DatabaseNewer(
        f"{named(terms.what, path)} has version {version}, "
        f"this program knows up to {len(terms.migrations)}",
        hint="install the newer storebus here; an older one cannot read what it wrote",
    )


def _roll_back(connection: sqlite3.Connection) -> None:
    """End the open transaction, if SQLite has not ended it by itself already."""
    if connection.in_transaction:
        # What led here is more telling than a failing rollback, and closing rolls back as well.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _give_up(connection: sqlite3.Connection, database: Database | None) -> None:
    """Close what could not be opened; the cause at hand outranks any trouble with closing."""
    with contextlib.suppress(sqlite3.Error, DatabaseError):
        if database is not None:
            database.close()
        else:
            connection.close()


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
