"""How a part of an open transaction is undone by itself. Must not know what is in it."""

import contextlib
import sqlite3
from collections.abc import Iterator


@contextlib.contextmanager
def undone_alone(connection: sqlite3.Connection) -> Iterator[None]:
    """Within an open transaction: what raises undoes the block, and nothing before it."""
    connection.execute("SAVEPOINT alone")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite may have ended it by itself
            connection.execute("ROLLBACK TO alone")
            connection.execute("RELEASE alone")
        raise
    connection.execute("RELEASE alone")
