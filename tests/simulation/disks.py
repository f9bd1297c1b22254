"""A database in memory that can fail at the very moment of its commit."""

from collections.abc import Callable
from typing import TypeVar

from buskit.database import Database, DatabaseFull
from hqconsole.ledger.opening import ledger_from_bytes
from storeagent.database import agent_database_from

T = TypeVar("T")


class Killed(BaseException):
    """The process died here; no handler of the code that ships may catch it."""


class Disk:
    """One database, whose next commit can be made to fail."""

    def __init__(self, database: Database) -> None:
        self._fail: type[BaseException] | None = None
        self.died: Callable[[], None] = lambda: None
        """Called when a command took the whole machine with it, before `quietly` raises."""
        self.take(database)

    def take(self, database: Database) -> None:
        """Have this one from now on."""
        self.database = database
        self._end_write = database._end_write
        database._end_write = self._end  # type: ignore[method-assign]

    def kill_at_commit(self) -> None:
        """The process that commits next dies instead."""
        self._fail = Killed

    def be_full(self) -> None:
        """The next commit finds no room."""
        self._fail = DatabaseFull

    def be_well(self) -> None:
        """Nothing fails any more."""
        self._fail = None

    def run(self, do: Callable[[], T]) -> T:
        """Do something as the daemon does it.

        Raises:
            Killed: The process is dead.
        """
        return do()

    def quietly(self, do: Callable[[], T]) -> T:
        """Do something whose commit is spared: another process does it."""
        planned, self._fail = self._fail, None
        try:
            return do()
        finally:
            self._fail = planned

    def _end(self, error: BaseException | None) -> None:
        if error is None and self._fail is not None:
            fail, self._fail = self._fail, None
            wrong = fail("the simulation's disk")
            self.database._abandon(wrong)
            raise wrong
        self._end_write(error)


class Disks:
    """Where the databases of a world are: in memory."""

    def device(self, name: str, image: bytes) -> Disk:
        """The disk of a device, which begins as this image."""
        del name
        return Disk(agent_database_from(image))

    def ledger(self, image: bytes) -> Disk:
        """HQ's disk."""
        return Disk(ledger_from_bytes(image))
