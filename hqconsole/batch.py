"""A batch of the desk's: its events, its one transaction, and what is to be sent after its commit.

Owns that the transaction is opened only when something is to be saved, and that what commands wrote
is sealed the moment it is opened. Must not know what events mean.
"""

import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from buskit.database import Database
from buswire.cursors import Cursor
from buswire.messages import AnyMessage, Log, Nudge
from buswire.topics import Identity, Topics
from hqconsole.notary import Notary


@dataclass(frozen=True, slots=True)
class Linked:
    """The link is up and the hub's subscriptions stand."""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The link is gone."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message arrived."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, or a command has written into the ledger."""


Event = Linked | Unlinked | Heard | Tick


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this; when it gets lost, the protocol sends it again by itself."""

    topic: str
    payload: bytes
    retain: bool = False


class Batch:
    """One transaction at work, with what is to be sent once it is committed.

    Attributes:
        now: Monotonic time in seconds.
        at: Unix time.
        out: What is to be sent.
        acks: Up to where logs of devices were saved, to be said after the commit.
        hellos: How many hellos it had so far.
        touched: The directives whose deliveries were moved.
        carefully: Whether a record that makes this program fail is to be put aside alone.
    """

    def __init__(
        self,
        ledger: Database,
        notary: Notary,
        topics: Topics,
        *,
        now: float,
        at: float,
        carefully: bool = False,
    ) -> None:
        """Begin without a transaction."""
        self.now = now
        self.at = at
        self.out: list[Publish] = []
        self.acks: dict[tuple[Identity, Log], Cursor] = {}
        self.hellos = 0
        self.touched: set[int] = set()
        self.carefully = carefully
        self._ledger = ledger
        self._notary = notary
        self._topics = topics
        self._stack = ExitStack()
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, with a write transaction open on it."""
        if self._connection is None:
            self._connection = self._stack.enter_context(self._ledger.write())
            self._notary.attend(self._connection, self.at)
        return self._connection

    @property
    def reading(self) -> sqlite3.Connection:
        """The same connection, for looking without opening a transaction."""
        return self._ledger.connection

    @property
    def writes(self) -> bool:
        """Whether anything opened the transaction."""
        return self._connection is not None

    def say(self, topic: str, message: AnyMessage, *, retain: bool = False) -> Publish:
        """Send this, signed, once the batch is committed."""
        publish = Publish(topic, self._notary.sign(topic, message, self.at), retain=retain)
        self.out.append(publish)
        return publish

    def tell(self, identity: Identity, message: AnyMessage) -> None:
        """Say this to one device."""
        self.say(self._topics.to(identity), message)


class Nudges:
    """Asks devices to say hello, and none of them too often."""

    def __init__(self, spacing_seconds: float) -> None:
        """Take the unit in which distances are given."""
        self._spacing_seconds = spacing_seconds
        self._at: dict[Identity, float] = {}

    def nudge(self, batch: Batch, identity: Identity, reason: str, spacings: float) -> None:
        """Ask, unless that was done a moment ago."""
        if batch.now - self._at.get(identity, -1e18) >= spacings * self._spacing_seconds:
            self._at[identity] = batch.now
            batch.tell(identity, Nudge(reason=reason))
