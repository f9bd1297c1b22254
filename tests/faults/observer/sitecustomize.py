"""Notes when a process writes, checkpoints or closes a database: beneath the product, in sqlite3.

Python imports a module of this name at the start of every process that has its folder on
PYTHONPATH. It knows nothing of the product's lock. Each process appends to a file of its own, named
by its pid, in the folder that OBSERVED_WRITES names: one line per section, with its begin and end
on the clock that all processes share, what it was, and of which file.

A section begins before SQLite is asked to begin, and ends when COMMIT has returned, with the
checkpoint that may belong to it. UNLOCKED_WRITES takes the product's lock away, to see that it is
what keeps the sections apart.
"""

import os
import sqlite3
import time
from typing import Any

_connect = sqlite3.connect
_notes = os.open(
    os.path.join(os.environ["OBSERVED_WRITES"], str(os.getpid())),  # noqa: PTH118 - at each start
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
)


class Observed(sqlite3.Connection):
    """A connection that notes what it does."""

    began: float | None = None
    file = ""

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement, and note it if a section ends with it."""
        now = time.monotonic()
        if sql.startswith("BEGIN IMMEDIATE"):
            cursor = super().execute(sql, *values)
            self.began = now
            return cursor
        cursor = super().execute(sql, *values)
        if sql in {"COMMIT", "ROLLBACK"} and self.began is not None:
            began, self.began = self.began, None
            self.note(began, "write")
        elif sql.startswith(("PRAGMA wal_checkpoint", "PRAGMA journal_mode =")):
            self.note(now, "checkpoint")
        return cursor

    def close(self) -> None:
        """Close, which the last connection does with a checkpoint."""
        now = time.monotonic()
        super().close()
        self.note(now, "close")

    def note(self, began: float, what: str) -> None:
        """Note a section that ends now."""
        line = f"{began:.9f} {time.monotonic():.9f} {what} {self.file}\n"
        os.write(_notes, line.encode())


def connect(database: Any, *words: Any, **more: Any) -> sqlite3.Connection:
    """Connect, observed."""
    connection = _connect(database, *words, **{"factory": Observed, **more})
    if isinstance(connection, Observed):
        connection.file = str(database).rpartition("/")[2].partition("?")[0]
    return connection


sqlite3.connect = connect  # type: ignore[assignment]

if "UNLOCKED_WRITES" in os.environ:
    from buskit.locks import FileLock

    FileLock.acquire = FileLock.release = lambda *_: None  # type: ignore[method-assign]
