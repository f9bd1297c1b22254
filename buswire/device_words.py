"""What the device's machine is made with and what it answers: waits, saved state, effects.

The vocabulary between `device.DeviceMachine` and whoever carries its effects out; no rule is here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from buswire.cursors import START, Cursor
from buswire.messages import (
    Answer,
    Bye,
    Hello,
    Log,
    Record,
    Records,
    SnapshotItem,
    StoreFacts,
    Work,
)
from buswire.topics import Channel
from buswire.uplink import Outbox, Settled


@dataclass(frozen=True, slots=True)
class Timing:
    """Every wait of the machine, in seconds; tests and simulations shorten them."""

    connect_jitter_seconds: float = 0.5
    gap_jitter_seconds: float = 2.0
    heads_jitter_seconds: float = 5.0
    retry_first_seconds: float = 5.0
    retry_most_seconds: float = 120.0
    spacing_seconds: float = 1.0
    """The least time between two hellos, unless the first one made progress."""
    beat_seconds: float = 300.0
    unsure_first_seconds: float = 1.0
    unsure_most_seconds: float = 60.0
    ack_seconds: float = 20.0
    """How long records may stay unacknowledged before the device says hello about them."""


@dataclass(slots=True)
class Process:
    """One process of a device: it outlives the machines that are made in it, one after another."""

    run: str
    """Drawn when the process began; its `bye` must name it."""
    start: int = 0
    """How often a process has begun on this database, this one included."""
    machine: str = ""
    """What the machine calls itself."""
    hellos: int = 0
    """How many were said; only the device's machine counts."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What the database remembers of the protocol."""

    install: str
    set_version: Cursor = START
    cursors: Mapping[Channel, Cursor] = field(default_factory=dict)
    acked: Mapping[Log, tuple[Cursor, int]] = field(default_factory=dict)
    region: str = ""


class Desk(Outbox, Protocol):
    """What the machine reads of the device's database."""

    def unsure(self, most: int) -> Sequence[Work]:
        """Open work that HQ did not name in the latest snapshot, the longest unasked first."""


# --- effects -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Publish on the device's `from` topic, after the commit; nothing is owed if that fails."""

    message: Hello | Records | Bye


@dataclass(frozen=True, slots=True)
class Listen:
    """Make the subscriptions those of this region and these channels, after the commit."""

    region: str
    channels: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class Take:
    """Save these records' effects, each id once, and the cursor behind them."""

    channel: Channel
    records: Sequence[Record]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Reset:
    """Save a snapshot: all of it or nothing.

    Open work that `items` does not name becomes unsure. An item outranks what is saved, except
    signed cancels (send those up as originals) and the device's own statements.
    """

    set_version: Cursor
    cursors: Mapping[Channel, Cursor]
    items: Sequence[SnapshotItem]
    facts: StoreFacts


@dataclass(frozen=True, slots=True)
class Learn:
    """Save HQ's answers about unsure work, and send up the originals it wants."""

    answers: Sequence[Answer]
    want: Sequence[str]
    facts: StoreFacts
    lost: Mapping[Log, int]
    forgot: bool = False
    """HQ's ledger is an older copy: send up the signed cancels, which it may lack."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Save that the channel set is not to be trusted (its version is `START`) until a `Reset`.

    A process that dies before the snapshot has come must not forget that it needs one.
    """


@dataclass(frozen=True, slots=True)
class Strange:
    """Keep aside and report: HQ said something that this device cannot use."""

    what: str


Effect = Send | Listen | Take | Reset | Learn | Settled | Doubt | Strange
