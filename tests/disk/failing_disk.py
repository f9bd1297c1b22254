"""A database on a disk whose calls fail: once, for a while, or until somebody mends it.

Owns which call of whom fails how. Daemon and commands have connections of their own, as they are
processes of their own; calls of the test itself never fail.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

from buskit.database import Database, DatabaseError
from tests.disk.databases import FileDisk, FileDisks, Kind
from tests.disk.shim import GO_ON, PRETEND, Op
from tests.disk.unanswered import Refused
from tests.disk.volume import Image
from tests.simulation.disks import Killed

T = TypeVar("T")

_KINDS: tuple[frozenset[Op], ...] = (
    frozenset({Op.SYNC}),
    frozenset({Op.SYNC}),
    frozenset({Op.WRITE}),
    frozenset({Op.WRITE, Op.SYNC, Op.TRUNCATE}),
    frozenset({Op.READ}),
    frozenset({Op.OPEN, Op.UNLINK, Op.TRUNCATE, Op.RENAME}),
    frozenset({Op.LOCK}),
    frozenset(Op) - {Op.OPENED, Op.CLOSE},
)
_MENDED_AFTER_SECONDS = (1.0, 15.0)


class FailingDisk(FileDisk):
    """One database in a file, on a disk that may fail."""

    def __init__(self, disks: FailingDisks, name: str, image: bytes, kind: Kind) -> None:
        self._failing = disks
        self._armed = False
        self._skip = 0
        self._left = 0
        self._errno = 0
        self._ops: frozenset[Op] = frozenset()
        self._struck = False
        self.mended_at: float | None = None
        self.refused_at: set[float] = set()
        """When commands were refused; what they wanted may be there all the same, or not."""
        self._own: Database | None = None
        super().__init__(disks, name, image, kind)

    def _mount(self, image: Image) -> Database:
        self._left = 0
        database = super()._mount(image)
        self.volume.decide = self._decide
        return database

    def _unmount(self, database: Database | None = None) -> Image:
        self._disks.shim.remove(self.home.name)
        if self._own is not None:
            self._own.close()
        return super()._unmount(database)

    # --- failing ---------------------------------------------------------------------------------

    def fail_in(self, calls: int) -> None:
        """After so many calls of some kind, one fails, or some, or all until it is mended."""
        random = self._disks.random
        self._skip = calls
        self._ops = random.choice(_KINDS)
        no_room = Op.WRITE in self._ops and random.random() < 0.25
        self._errno = errno.ENOSPC if no_room else errno.EIO
        self._left = random.choice((1, 1, 1, random.randint(2, 6), 10**9))
        self._struck = False

    def mend(self) -> None:
        """Nothing fails any more."""
        if self._struck and self._left > 10**6 and self.mended_at is None:
            self.mended_at = self._failing.now()
        self._left = 0

    def _decide(self, op: Op, name: str) -> int:
        if not self._armed or not self._left or op not in self._ops:
            return GO_ON
        if op is Op.LOCK and not name.endswith(".lock"):
            return GO_ON  # SQLite takes that for somebody else's lock, and waits
        if self._skip > 0:
            self._skip -= 1
            return GO_ON
        counts = self._disks.counts
        if not self._struck:
            self._struck = True
            counts["I/O errors"] += 1
            counts[f"errors at {op.name.lower()}"] += 1
            if self._left > 10**6:
                counts["disks that stayed broken"] += 1
                self._failing.later(self._disks.random.uniform(*_MENDED_AFTER_SECONDS), self.mend)
        counts["failing calls"] += 1
        self._left -= 1
        return PRETEND if self._failing.unnoticed else self._errno

    # --- doing -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _exposed(self) -> Iterator[None]:
        self._armed = True
        try:
            yield
        finally:
            self._armed = False

    def run(self, do: Callable[[], T]) -> T:
        """Do something as the daemon does it."""
        with self._exposed():
            return super().run(do)

    def quietly(self, do: Callable[[], T]) -> T:
        """Do something as a command does it: on a connection of its own.

        Raises:
            Killed: The power went.
            Refused: It could not be done.
        """
        daemons = self.database
        try:
            with self._exposed():
                try:
                    return self._guarded(lambda: self._on_own_connection(do))
                finally:
                    self.database, own, self._own = daemons, self._own, None
                    if own is not None and self.volume.on:
                        _close(own)
                    else:
                        self._own = own
        except Killed:
            self.refused_at.add(self._failing.now())
            self.died()
            raise
        except (DatabaseError, sqlite3.OperationalError, OSError) as error:
            self._disks.counts["commands refused"] += 1
            self.refused_at.add(self._failing.now())
            raise Refused(str(error)) from None

    def _on_own_connection(self, do: Callable[[], T]) -> T:
        self._own = self._kind.open(self.home)
        self.database = self._own
        return do()

    def open_anew(self) -> None:
        """Open it as a process does that has just started."""
        self._own = self._kind.open(self.home)
        _close(self.database)
        own, self._own = self._own, None
        self.take(own)

    def follow(self, database: Database) -> None:
        """The daemon has opened its database anew."""
        if database is not self.database:
            self._disks.counts["databases opened anew"] += 1
            self.take(database)

    def be_well(self) -> None:
        """The disk is mended, and has power."""
        self.mend()
        super().be_well()


def _close(database: Database) -> None:
    """Close, whatever the disk says to it: a process ends as well."""
    with contextlib.suppress(DatabaseError, sqlite3.Error, OSError):
        database.close()
    database.connection.close()


class FailingDisks(FileDisks):
    """The disks of a world that may fail."""

    later: Callable[[float, Callable[[], None]], None]
    """Does something so many seconds later; the world gives it."""
    now: Callable[[], float] = staticmethod(lambda: 0.0)
    unnoticed = False
    """Whether calls that fail are said to have succeeded; a sabotage."""

    def _made(self, name: str, image: bytes, kind: Kind) -> FailingDisk:
        disk = FailingDisk(self, f"{name}-{len(self.all)}", image, kind)
        self.all.append(disk)
        return disk
