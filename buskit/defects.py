"""What a daemon does about a defect of its own: one message must not stop it for ever.

Owns how a defect is told from trouble with the disk. Must not know what is processed.

A defect that strikes while a message is processed strikes again when the message comes again, which
it does until it is acknowledged: a daemon that ends by it never gets further. So the message is
tried once more alone, and is then put aside for people.
"""

import sqlite3

from buskit.database_errors import DatabaseError

EXPLAINED_SECONDS = 600.0
"""For so long a file that was found sound is not suspected again."""
_TEXT_CHARACTERS = 150
_OUR_SQL = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_TOOBIG,
}


def is_defect(error: BaseException) -> bool:
    """Whether the program is at fault, or what it was given; not the disk, nor the system."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.Error) and code is not None:
        # An error in our SQL can depend on values. All else is the file's, or its disk's: SQLite
        # says of a read that failed that the file is malformed.
        return (code & 0xFF) in _OUR_SQL
    return isinstance(error, Exception) and not isinstance(
        error, DatabaseError | OSError | MemoryError
    )


def told(error: BaseException) -> str:
    """Say what happened, on one short line."""
    text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    name = type(error).__name__
    return f"{name}: {text[:_TEXT_CHARACTERS]}" if text else name
