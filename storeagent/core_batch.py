"""What a batch of the core's works on: its one transaction, and the machine's view of the tables.

Owns that a transaction is opened only when something is to be saved. Must not know of events.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from buskit.database import Database
from buskit.database_errors import translate
from buswire.messages import Log, Work
from buswire.uplink import Entry
from storeagent.inbox import Inbox
from storeagent.outbox import Outbox


class Window:
    """The machine's window on the database."""

    def __init__(self, inbox: Inbox, outbox: Outbox) -> None:
        self._inbox = inbox
        self._outbox = outbox

    def position_of(self, log: Log, record_id: str) -> int | None:
        """Where a record stands."""
        return self._outbox.position_of(log, record_id)

    def entries(self, log: Log, *, after: int, most: int, most_bytes: int) -> Sequence[Entry]:
        """The entries behind a position."""
        return self._outbox.entries(log, after=after, most=most, most_bytes=most_bytes)

    def head(self, log: Log) -> int:
        """The newest position."""
        return self._outbox.head(log)

    def unsure(self, most: int) -> Sequence[Work]:
        """What HQ is to be asked about."""
        return self._inbox.unsure(most)


class Batch:
    """A write transaction that begins when the first thing has to be saved, if any has."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._transaction: contextlib.AbstractContextManager[object] | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a transaction."""
        return self._transaction is not None

    def begin(self) -> None:
        """Something is to be saved."""
        if self._transaction is None:
            transaction = self._database.write()
            transaction.__enter__()
            self._transaction = transaction

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._transaction is not None:
            self._transaction.__exit__(kind, error, traceback)
        elif isinstance(error, sqlite3.Error):
            translate(error, self._database.what, self._database.path)
