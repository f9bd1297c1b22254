"""What must be so before a database file is used: that it is there, ours, and of a known version.

Owns how SQLite is connected to, and how a file is recognized without being changed. Must not know
any table, nor transactions and locks.
"""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from buskit.database_errors import (
    DAMAGED_HINT,
    DatabaseForeign,
    DatabaseMissing,
    DatabaseNewer,
    named,
)
from buskit.migrations import Migration
from buswire.phrases import phrase

MEMORY = ":memory:"

_STATEMENTS_CACHED = 256


@dataclass(frozen=True)
class Terms:
    """What a caller demands of a database, see `open_database`."""

    migrations: Sequence[Migration]
    application_id: int
    what: str
    hint_create: str
    create: bool
    busy_seconds: float
    hint_damaged: str = DAMAGED_HINT


def connect(target: str, *, busy_seconds: float, any_thread: bool) -> sqlite3.Connection:
    """Connect, in autocommit mode: transactions are begun and ended by name."""
    return sqlite3.connect(
        target,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=not any_thread,
        cached_statements=_STATEMENTS_CACHED,
        uri=target != MEMORY,
    )


def require_file(path: Path, what: str, hint_create: str, *, create: bool) -> None:
    """Refuse what is no file, and make one where there is none and one is wanted."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not create:
            raise DatabaseMissing(
                phrase("{what} does not exist yet ({path})", what=what, path=path), hint=hint_create
            ) from None
        with contextlib.suppress(FileExistsError):  # another process was quicker, which is as good
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        return
    if not stat.S_ISREG(mode):
        raise DatabaseForeign(f"{path} is not a file", hint="name another place")


def identify(connection: sqlite3.Connection, path: Path | None, terms: Terms) -> None:
    """Refuse what is not ours or not for this version, without changing it."""
    connection.execute("BEGIN DEFERRED")  # or someone could be making it between these lines
    found = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    filled = connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").fetchone()[0]
    connection.execute("ROLLBACK")
    if found == terms.application_id:
        if version > len(terms.migrations):
            refuse_newer(path, version, terms)
        return
    if found != 0 or version != 0 or filled:
        raise DatabaseForeign(
            f"{named(terms.what, path)} is a database of another program or of another kind",
            hint="name another place; nothing in it was changed",
        )
    if not terms.create:
        raise DatabaseMissing(f"{named(terms.what, path)} is empty", hint=terms.hint_create)


def refuse_newer(path: Path | None, version: int, terms: Terms) -> NoReturn:
    """Refuse a file that a newer program has changed."""
    raise DatabaseNewer(
        f"{named(terms.what, path)} has version {version}, "
        f"this program knows up to {len(terms.migrations)}",
        hint="install the newer storebus here; an older one cannot read what it wrote",
    )


def roll_back(connection: sqlite3.Connection) -> None:
    """End the open transaction, if SQLite has not ended it by itself already."""
    if connection.in_transaction:
        # What led here is more telling than a failing rollback, and closing rolls back as well.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def file_identity(path: str | Path) -> tuple[int, int] | None:
    """Return what tells this very file from another one of the same name; None if it is gone."""
    try:
        found = os.stat(path)  # noqa: PTH116 - at each write; a Path takes twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino
