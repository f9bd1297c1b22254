"""The database of one daemon: opened when it is sound, and another one in its place when it is not.

Owns how the daemon finds out that its file is damaged or an older one, and what it says of that.
How a damaged file is set aside is `mending`'s, and when to look is the daemon's.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from buskit.database import Database, DatabaseDamaged, DatabaseError
from buskit.disk_trouble import close_quietly
from buswire.messages import LOGS
from storeagent.database import database_path, open_agent_database
from storeagent.limits import Limits
from storeagent.memory import Memory
from storeagent.mending import clear_suspicion, drop_unfinished, file_id, mend, report
from storeagent.outbox import Outbox
from storeagent.status import DaemonStatus

_SECOND_LOOK_SECONDS = 0.5
"""Between two looks at a database that seems to be damaged."""


class OwnDatabase:
    """Opens it, for the life of one daemon."""

    def __init__(
        self,
        home: Path,
        *,
        limits: Limits,
        status: DaemonStatus,
        say: Callable[[str], None],
        wall_clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        """Begin with nothing open.

        Args:
            home: The caller is its only daemon.
            limits: What may be kept.
            status: Has the file and the heads of the last daemon; kept up to date from here on.
            say: Tells whoever reads the log.
            wall_clock: Unix time as this machine believes it.
            new_id: A random 128-bit id in hex.
        """
        self._home = home
        self._limits = limits
        self._status = status
        self._say = say
        self._wall_clock = wall_clock
        self._new_id = new_id
        self._before = status.file, dict(status.heads)

    def open(self) -> Database:
        """Open the database and look at all of it; a damaged one is set aside for a new one.

        Entries are not summed up: that is done when they are sent.

        Raises:
            DatabaseError: It cannot be opened, or not be set aside.
        """
        clear_suspicion(self._home)
        try:
            database = self._open_sound()
            drop_unfinished(self._home)
            return database
        except DatabaseDamaged:
            time.sleep(_SECOND_LOOK_SECONDS)  # a few reads that failed look like damage to SQLite
        try:
            return self._open_sound()
        except DatabaseDamaged as damaged:
            return self.open_another(str(damaged))

    def reopen(self) -> Database:
        """Open the same one anew; the caller looks at it.

        Raises:
            DatabaseError: It cannot be opened.
        """
        return open_agent_database(database_path(self._home))

    def _open_sound(self) -> Database:
        database = self.reopen()
        try:
            database.check(but_sums_of=LOGS)
        except BaseException:
            close_quietly(database)
            raise
        return database

    def open_another(self, why: str) -> Database:
        """Set the database aside, which the caller has closed, and begin another one.

        Raises:
            DatabaseError: It cannot be done.
        """
        self._say(why)
        mended = mend(
            self._home,
            limits=self._limits,
            why=why,
            at=self._wall_clock(),
            new_id=self._new_id,
            heads=self._status.heads,
        )
        self._say(f"{mended.words()}; what head office has comes back from there")
        database = self.reopen()
        self._note(database)
        return database

    def look_back(self, database: Database) -> None:
        """Tell HQ when entries are gone that were here when the last daemon ran.

        Raises:
            DatabaseError: It cannot be written down.
            OutboxFull: Not even the reserve has room.
        """
        file, heads_before = self._before
        self._note(database)
        heads = self._status.heads
        gone = sum(max(0, head - heads.get(log, 0)) for log, head in heads_before.items())
        if file != self._status.file or not gone:
            return
        words = (
            f"the database is an older one than the last daemon had: the latest {gone} entries are"
            " gone, and those that head office has not acknowledged may be lost"
        )
        self._say(words)
        with database.write():
            report(
                Outbox(database, self._limits),
                "its database is an older one",
                words,
                at=self._wall_clock(),
                new_id=self._new_id(),
            )

    def _note(self, database: Database) -> None:
        self._status.file = file_id(Memory(database))
        self._status.heads = Outbox(database).heads()


def damage_behind(database: Database, error: Exception) -> str:
    """What is damaged, if that led to an error; empty if not."""
    try:
        database.explain(error)
        if isinstance(error, DatabaseDamaged):
            # A single read that failed looks the same to SQLite: the whole file must tell.
            database.check()
    except DatabaseDamaged as damaged:
        return str(damaged)
    except (DatabaseError, sqlite3.Error):
        return ""  # the disk fails, and what is on it may be unharmed
    return ""
