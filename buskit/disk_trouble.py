"""A daemon whose disk fails: it pauses ever longer, opens its database anew, and says so.

Owns when the next try is, how a database is opened anew, and the words about both. Must not know
whose database it is; what damage leads to is the daemon's. Time is monotonic and comes in, and so
does randomness.

Invariants:
- Pauses are random (from half of it up to min(most, first * 2**n)), since what has filled one disk
  has often filled many, and grow until something could be saved.
- Trouble is told when it begins and when its words change, not at every try; so is its end.
- A database is opened anew with the old connection closed last. As long as one is open, SQLite's
  index of the write-ahead log says which transactions count. Without it a transaction whose sync
  failed would be read back from the system's cache, and taken for one that is on the disk.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from buskit.database import Database
from buskit.database_errors import DatabaseError

RETRY_FIRST_SECONDS = 1.0
RETRY_MOST_SECONDS = 30.0
_DOUBLINGS_MOST = 30

T = TypeVar("T")


class DiskTrouble:
    """What one daemon knows of its disk.

    Attributes:
        problem: Why nothing can be saved, with what mends it; "" while all is well.
        retry_at: When the next try is, in monotonic seconds; None while all is well.
        must_reopen: Whether the database is to be opened anew before it is used again.
        suspicions: How often in a row the database seemed damaged. A single read that failed looks
            the same to SQLite, so that one time proves nothing.
    """

    def __init__(self, *, say: Callable[[str], None], draw: Callable[[], float]) -> None:
        """Begin with a disk that works.

        Args:
            say: Tells whoever reads the daemon's log.
            draw: A random number in [0, 1).
        """
        self._say = say
        self._draw = draw
        self._retries = 0
        self.problem = ""
        self.retry_at: float | None = None
        self.must_reopen = False
        self.suspicions = 0

    @property
    def is_there(self) -> bool:
        """Whether nothing could be saved when that was last tried."""
        return self.retry_at is not None

    def waits(self, now: float) -> bool:
        """Whether the next try is still to come."""
        return self.retry_at is not None and now < self.retry_at

    def pause(self, error: Exception, now: float) -> None:
        """Nothing could be saved: wait a while, longer each time."""
        wait = min(RETRY_MOST_SECONDS, RETRY_FIRST_SECONDS * 2**self._retries)
        self._retries = min(self._retries + 1, _DOUBLINGS_MOST)
        self.retry_at = now + wait * (0.5 + 0.5 * self._draw())
        hint = getattr(error, "hint", None)
        problem = f"{error} ({hint})" if hint else str(error)
        if problem != self.problem:
            self._say(f"cannot save: {problem}; trying again")
        self.problem = problem

    def retry_now(self, now: float) -> None:
        """Something was mended: the next try is due."""
        self.retry_at = now

    def over(self) -> None:
        """Something could be saved; cheap where there was no trouble."""
        if self.retry_at is None:
            return
        self.retry_at, self._retries = None, 0
        self.problem = ""
        self._say("the disk works again")

    def reopen(
        self, old: Database, open_anew: Callable[[], Database], begin: Callable[[Database], T]
    ) -> tuple[Database, T]:
        """Open a database anew, since nobody knows what a failing disk has kept.

        Args:
            old: The present one; it is closed, unless this raises.
            open_anew: Opens the same file.
            begin: Looks at what was opened and makes whatever works with it.

        Raises:
            DatabaseError: It cannot be used yet; everything is as it was.
            sqlite3.Error: Likewise.
        """
        new = open_anew()
        try:
            made = begin(new)
        except BaseException:
            close_quietly(new)
            raise
        close_quietly(old)
        self.begin_anew()
        return new, made

    def begin_anew(self) -> None:
        """The database is another one, and nothing is known against it."""
        self.must_reopen = False
        self.suspicions = 0


def close_quietly(database: Database) -> None:
    """Close what failed; that this fails as well is nothing new."""
    with contextlib.suppress(DatabaseError, sqlite3.Error):
        database.close()
