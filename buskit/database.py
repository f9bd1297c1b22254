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
- An error that nothing else explains is told as damage where the file proves to be damaged: pages
  that contradict each other, tables that are not as the migrations make them, a row that does not
  fit its sum (`row_sums`).
"""

import contextlib
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from buskit.crash_points import crash_point
from buskit.database_check import first_damage, has_tables_of
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
from buskit.database_opening import (
    MEMORY,
    Terms,
    connect,
    file_identity,
    identify,
    refuse_newer,
    require_file,
    roll_back,
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

LOOK_SECONDS = 0.01
"""For so long a file that was looked at is believed to be still the one of its name."""
# What reading a damaged row can end with, in SQLite and in whoever takes it for what it should be.
_BY_DAMAGE = (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
# The write-ahead log is cut back to this after a checkpoint; a huge import would leave it huge.
_WAL_LIMIT_BYTES = 32 * 1024 * 1024
_CLOSING_SECONDS = 1.0
"""Who has waited in vain for the lock a moment ago is not kept as long again for closing."""


class Database:
    """An open database. Made by `open_database`; whoever has it owes a `close`.

    Attributes:
        path: The file, or None in memory.
        what: What it is called towards people, such as "the ledger".
        connection: The raw connection, in autocommit mode, for single reads. Changes made past
            `write()` break the rule of one writer.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None, terms: Terms) -> None:
        """Take over a connection that is fully set up; use `open_database` instead."""
        self.connection = connection
        self.path = path
        self.what = terms.what
        self.version = 0
        self._terms = terms
        self._busy_seconds = terms.busy_seconds
        self._lock = None if path is None else FileLock(f"{path}.lock")
        self._name = None if path is None else str(path)
        self._file = None if path is None else file_identity(path)
        self._look_at = 0.0
        self._broken: str | None = None
        self._closed = False
        self._refused: DatabaseBusy | None = None

    @classmethod
    def from_bytes(
        cls, data: bytes, migrations: Sequence[Migration], *, application_id: int, what: str
    ) -> Self:
        """Return a database in memory that begins as the image `data` (see `serialize`).

        Raises:
            DatabaseError: The image is not one of ours, is newer than this program, or is damaged.
        """
        connection = connect(MEMORY, busy_seconds=0, any_thread=False)
        try:
            # An image in WAL mode cannot live in memory; these two bytes of the header say WAL.
            connection.deserialize(data[:18] + b"\x01\x01" + data[20:])
        except sqlite3.Error as error:
            connection.close()
            translate(error, what, None)
        terms = Terms(migrations, application_id, what, "", create=False, busy_seconds=0.0)
        return cls._begin(connection, None, terms)

    @classmethod
    def _begin(cls, connection: sqlite3.Connection, path: Path | None, terms: Terms) -> Self:
        """Identify, configure and migrate what `connection` is connected to, or close it."""
        database = None
        try:
            identify(connection, path, terms)
            database = cls(connection, path, terms)
            database._set_up(terms)
        except (sqlite3.OperationalError, IndexError, DatabaseNewer) as error:
            damaged = _header_is_damaged(connection, terms)
            damaged = damaged or "unsupported file format" in str(error)
            _give_up(connection, database)
            if damaged:
                how = "its header is not as it was written"
                label = named(terms.what, path)
                raise DatabaseDamaged(
                    f"{label} is damaged: {how}", hint=terms.hint_damaged
                ) from error
            if not isinstance(error, sqlite3.Error):
                raise
            translate(error, terms.what, path, terms.hint_damaged)
        except sqlite3.Error as error:
            _give_up(connection, database)
            translate(error, terms.what, path, terms.hint_damaged)
        except UnicodeDecodeError as error:  # of a message of SQLite's that quotes the file
            _give_up(connection, database)
            how = f"is damaged: not even its tables can be read: {error.reason}"
            raise DatabaseDamaged(
                f"{named(terms.what, path)} {how}", hint=terms.hint_damaged
            ) from error
        except BaseException:
            _give_up(connection, database)
            raise
        return database

    def _set_up(self, terms: Terms) -> None:
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

    def _migrate(self, terms: Terms) -> None:
        """Apply the next migration, unless another process was quicker."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self.version = self._int_pragma("user_version")
            if self.version > len(terms.migrations):
                refuse_newer(self.path, self.version, terms)
            if self.version < len(terms.migrations):
                apply_migration(self.connection, terms.migrations[self.version])
                self.version += 1
                self.connection.execute(f"PRAGMA application_id = {terms.application_id}")
                self.connection.execute(f"PRAGMA user_version = {self.version}")
            self._commit("migration")
        except BaseException:
            roll_back(self.connection)
            raise

    def write(
        self, timeout_seconds: float | None = None
    ) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """Run a write transaction: durable when the block has ended, undone when it raises.

        Args:
            timeout_seconds: How long to wait for other writers, if not `busy_seconds`.

        Returns:
            What gives the connection for the block. Do not commit or roll back on it.

        Raises:
            DatabaseBusy: Others wrote for too long. Nothing was changed.
            DatabaseFull: No room left. Nothing of the transaction was kept.
            DatabaseDamaged: The file contradicts itself.
            DatabaseNewer: A newer program has changed the tables since the file was opened.
            DatabaseFailed: An I/O error; see there. Also when the file was replaced since.
            RuntimeError: A transaction of this object is open already.
        """
        return _Transaction(self, timeout_seconds)

    def _begin_write(self, timeout_seconds: float | None) -> sqlite3.Connection:
        self._refuse_unfit()
        self._take_lock(timeout_seconds)
        try:
            self._refuse_replaced()
            self.connection.execute("BEGIN IMMEDIATE")
            self._refuse_migrated()
        except BaseException as error:
            self._abandon(error)
            raise
        return self.connection

    def _end_write(self, error: BaseException | None) -> None:
        if error is None:
            try:
                self._commit("commit")
            except BaseException as failed:
                self._abandon(failed)
                raise
            if self._lock is not None:
                self._lock.release()
        else:
            self._abandon(error)

    def _commit(self, what: str) -> None:
        self._crash_point("before", what)
        self.connection.execute("COMMIT")
        self._crash_point("after", what)

    def _crash_point(self, side: str, what: str) -> None:
        if self._name is not None:
            crash_point(side, what)

    def _abandon(self, error: BaseException) -> None:
        """Undo what was begun, give the lock back, and put SQLite's errors into our words."""
        try:
            roll_back(self.connection)
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                # What is in the log already can move into the file, and its room be used again.
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            if self._lock is not None:
                self._lock.release()
        if isinstance(error, sqlite3.Error):
            self._translate(error)

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
                roll_back(self.connection)

    def changes_by_others(self) -> int:
        """Return a number that changes when another connection has committed something."""
        return self._int_pragma("data_version")

    def checkpoint(self) -> None:
        """Move everything from the write-ahead log into the file and empty the log."""
        self._refuse_unfit()
        if self.path is not None:
            with self._locked(), self._translated():
                self._crash_point("before", "checkpoint")
                self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                self._crash_point("after", "checkpoint")

    def check(self, *, but_sums_of: Collection[str] = ()) -> None:
        """Read the whole file and compare it with itself: pages, tables, indexes, sums of rows.

        Takes some 8 ms for each MB, and 8 us for each row with a sum.

        Args:
            but_sums_of: Tables whose rows are not summed up; whoever reads them does it.

        Raises:
            DatabaseDamaged: Something does not fit.
        """
        terms = self.connection, self._terms.migrations, but_sums_of
        with self._translated():
            try:
                found = first_damage(*terms)
            except sqlite3.DatabaseError:  # SQLite calls a read that failed damage as well
                found = first_damage(*terms)
            except UnicodeDecodeError as error:  # of a message of SQLite's that quotes the file
                found = f"not even its tables can be read: {error.reason}"
        if found:
            raise self.damaged(found)

    def damaged(self, how: str) -> DatabaseDamaged:
        """Make the error that says so, for whoever found it."""
        hint = self._terms.hint_damaged
        return DatabaseDamaged(f"{self._named()} is damaged: {how}", hint=hint)

    def explain(self, error: BaseException) -> None:
        """Look whether damage of the file explains an error; reads all of it where it might.

        Raises:
            DatabaseDamaged: It does.
        """
        if self._closed or not isinstance(error, _BY_DAMAGE):
            return
        try:
            roll_back(self.connection)
            self.check()
        except DatabaseDamaged as damaged:
            raise damaged from error
        except (DatabaseError, sqlite3.Error):
            return  # what is known already is the better word

    def tell(self, error: BaseException) -> None:
        """Raise what people should be told of an error; return where it is no matter of the file.

        Raises:
            DatabaseError: Instead of it.
        """
        self.explain(error)
        if isinstance(error, sqlite3.Error):
            self._translate(error)

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
            DatabaseBusy: Others hold the lock for too long; the database is still open. Where that
                is why the last write was refused, it is the same error, and soon.
        """
        if self._closed:
            return
        refused = self._refused
        try:
            self._take_lock(None if refused is None else min(_CLOSING_SECONDS, self._busy_seconds))
        except DatabaseBusy as busy:
            self._refused = refused or busy
            raise self._refused from None
        try:
            self._closed = True
            roll_back(self.connection)
            self._crash_point("before", "close")
            self.connection.close()
            self._crash_point("after", "close")
        finally:
            if self._lock is not None:
                self._lock.release()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self.tell(error)
        finally:
            self.close()

    @contextlib.contextmanager
    def _locked(self, timeout_seconds: float | None = None) -> Iterator[None]:
        self._take_lock(timeout_seconds)
        try:
            yield
        finally:
            if self._lock is not None:
                self._lock.release()

    def _take_lock(self, timeout_seconds: float | None) -> None:
        if self._lock is None:
            return
        limit = self._busy_seconds if timeout_seconds is None else timeout_seconds
        try:
            self._lock.acquire(limit)
        except LockBusy as busy:
            self._refused = DatabaseBusy(
                f"{self._named()} has been locked for {limit:g} s by "
                + ("another process" if busy.pid is None else f"process {busy.pid}"),
                hint="try again; if it stays so, look at what that process is doing",
            )
            raise self._refused from busy
        except OSError as error:
            translate_os(error, f"the lock of {self.what}", self._lock.path)
        self._refused = None

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._translate(error)

    def _translate(self, error: sqlite3.Error) -> NoReturn:
        try:
            translate(error, self.what, self.path, self._terms.hint_damaged)
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
        # What was written a moment before a replacement is lost in any case, so many writes in a
        # row need not look each time.
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        if self._name is not None and file_identity(self._name) != self._file:
            self._broken = "the file was replaced by another one"
            raise DatabaseFailed(
                f"{self._named()} was moved, deleted or replaced while it was open",
                hint="run the command again",
            )

    def _refuse_migrated(self) -> None:
        """Refuse to write into tables which a newer program has changed meanwhile."""
        if self.connection.execute("PRAGMA user_version").fetchone()[0] != self.version:
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


class _Transaction:
    """The block of one `Database.write`; as a generator it would cost a sixth of a commit more."""

    __slots__ = ("_database", "_timeout_seconds")

    def __init__(self, database: Database, timeout_seconds: float | None) -> None:
        self._database = database
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> sqlite3.Connection:
        return self._database._begin_write(self._timeout_seconds)  # noqa: SLF001 - half of it

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database._end_write(error)  # noqa: SLF001


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
    hint_damaged: str = DAMAGED_HINT,
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
        hint_damaged: The command that mends it.

    Raises:
        DatabaseMissing: There is none, or an empty file, and `create` is not set.
        DatabaseForeign: It is not one of ours. It was left as it is.
        DatabaseNewer: It has had more migrations than this program knows. It was left as it is.
        DatabaseBusy: Another process holds it for too long.
        DatabaseDamaged: It is no database.
        DatabaseFailed: It cannot be read or written.
    """
    if str(path) == MEMORY:
        connection = connect(MEMORY, busy_seconds=0, any_thread=any_thread)
        terms = Terms(migrations, application_id, what, hint_create, create=True, busy_seconds=0.0)
        return Database._begin(connection, None, terms)  # noqa: SLF001 - one constructor, two halves
    file = Path(path).absolute()
    try:
        require_file(file, what, hint_create, create=create)
        uri = f"{file.as_uri()}?mode=rw"
        connection = connect(uri, busy_seconds=busy_seconds, any_thread=any_thread)
    except sqlite3.Error as error:
        translate(error, what, file, hint_damaged)
    except OSError as error:
        translate_os(error, what, file)
    terms = Terms(migrations, application_id, what, hint_create, create, busy_seconds, hint_damaged)
    return Database._begin(connection, file, terms)  # noqa: SLF001


def _header_is_damaged(connection: sqlite3.Connection, terms: Terms) -> bool:
    """Whether what cannot be opened has all of our tables: then it is one of ours."""
    try:
        roll_back(connection)
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        found = int(connection.execute("PRAGMA application_id").fetchone()[0])
        if found != terms.application_id or version == len(terms.migrations):
            return False
        return has_tables_of(connection, terms.migrations)
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def _give_up(connection: sqlite3.Connection, database: Database | None) -> None:
    """Close what could not be opened; the cause at hand outranks any trouble with closing."""
    with contextlib.suppress(sqlite3.Error, DatabaseError):
        if database is not None:
            database.close()
        else:
            connection.close()
