"""What can go wrong with a database file, as causes a person can act on.

Owns the translation of SQLite's result codes and of the system's errors. Errors in our own SQL (no
such table, a constraint, a wrong parameter) are not translated: they are mistakes of the program.
"""

import errno
import os
import sqlite3
from pathlib import Path
from typing import NoReturn

from buskit.errors import KitError
from buswire.phrases import phrase

DAMAGED_HINT = "keep the file for inspection and put the last backup in its place"

_never_closed: dict[tuple[int, int], int] = {}
"""Descriptors: to close one would give up all the locks that SQLite has here on the same file."""

_IO_CODES = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOLFS,
)
# Windows knows no disk quota.
_NO_ROOM = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name))


class DatabaseError(KitError):
    """A database file cannot be used as asked."""


class DatabaseMissing(DatabaseError):  # noqa: N818 - the state of the file is the name, here and below
    """There is no database there yet."""


class DatabaseForeign(DatabaseError):  # noqa: N818
    """The file is a database, but not one of ours, or not one of this kind."""


class DatabaseNewer(DatabaseError):  # noqa: N818
    """A newer version of this program has changed the database."""


class DatabaseBusy(DatabaseError):  # noqa: N818
    """Another process is writing, and went on for too long. Nothing was changed."""


class DatabaseFull(DatabaseError):  # noqa: N818
    """No room is left. Nothing of the transaction was kept; what was there before is unharmed."""


class DatabaseDamaged(DatabaseError):  # noqa: N818
    """The file is not a database any more, or contradicts itself."""


class DatabaseFailed(DatabaseError):  # noqa: N818
    """Reading or writing the file failed, and it is open whether the transaction was kept.

    Close and open the database again, and look; never just repeat the transaction.
    """


def translate(
    error: sqlite3.Error, what: str, path: Path | None, hint_damaged: str = DAMAGED_HINT
) -> NoReturn:
    """Raise the `DatabaseError` for what SQLite said; errors in our own SQL stay as they are."""
    code = getattr(error, "sqlite_errorcode", None)
    label = named(what, path)
    if code is None:
        if "decode to UTF-8" in str(error):  # Python's word for a text that is none
            raise _damaged(label, error, hint_damaged) from error
        raise error
    primary = code & 0xFF
    # SQLITE_PROTOCOL: another process was stopped while it put its write-ahead log in order.
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        raise DatabaseBusy(
            phrase("{what} is locked by another program: {cause}", what=label, cause=error),
            hint=phrase("close other programs that have this file open, and try again"),
        ) from error
    if primary == sqlite3.SQLITE_FULL:
        raise DatabaseFull(
            phrase("no room left for {what}: nothing of this change was kept", what=label),
            hint=phrase("free space on that disk, and try again"),
        ) from error
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        if refused := _refusal_to_read(path):
            raise DatabaseFailed(
                phrase(
                    "{what} cannot be read: {cause}",
                    what=label,
                    cause=refused.strerror or refused,
                ),
                hint=phrase("look at the disk, it fails; what is on it may be unharmed"),
            ) from error
        raise _damaged(label, error, hint_damaged) from error
    if primary in _IO_CODES:
        name = getattr(error, "sqlite_errorname", code)
        raise DatabaseFailed(
            phrase(
                "{what} cannot be read or written: {cause}", what=label, cause=f"{error} ({name})"
            ),
            hint=phrase("look at the disk and at the rights of the file and its folder"),
        ) from error
    raise error


def _refusal_to_read(path: Path | None) -> OSError | None:
    """The error with which the disk refuses to give a part of the file, if it does.

    SQLite on POSIX says of a read that failed (EIO) that the file is damaged. It is the disk that
    is, and to put another file in the place of this one would lose what is on it.
    """
    if path is None or os.name != "posix":
        return None
    for name in (str(path), f"{path}-wal"):
        try:
            found = os.stat(name)  # noqa: PTH116 - a name, no Path
            key = found.st_dev, found.st_ino
            if key not in _never_closed:
                _never_closed[key] = os.open(name, os.O_RDONLY)
            os.lseek(_never_closed[key], 0, os.SEEK_SET)
            while os.read(_never_closed[key], 1024 * 1024):
                pass
        except FileNotFoundError:
            continue
        except OSError as error:
            return error
    return None


def explained(error: Exception, what: str, path: Path | None = None) -> Exception:
    """Return the `DatabaseError` for what SQLite said; anything else as it is."""
    if isinstance(error, sqlite3.Error):
        try:
            translate(error, what, path)
        except (DatabaseError, sqlite3.Error) as better:
            return better
    return error


def translate_os(error: OSError, what: str, path: Path | None) -> NoReturn:
    """Raise the `DatabaseError` for what the system said about the file itself."""
    if error.errno in _NO_ROOM:
        raise DatabaseFull(
            phrase("no room left for {what}", what=named(what, path)),
            hint=phrase("free space on that disk, and try again"),
        ) from error
    raise DatabaseFailed(
        phrase(
            "{what} cannot be read or written: {cause}",
            what=named(what, path),
            cause=error.strerror or error,
        ),
        hint=phrase("look at the disk and at the rights of the file and its folder"),
    ) from error


def _damaged(label: str, error: sqlite3.Error, hint: str) -> DatabaseDamaged:
    return DatabaseDamaged(phrase("{what} is damaged: {cause}", what=label, cause=error), hint=hint)


def named(what: str, path: Path | None) -> str:
    """Return how errors name a database: what it is, and where."""
    return what if path is None else phrase("{what} ({path})", what=what, path=path)
