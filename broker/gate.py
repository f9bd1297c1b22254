"""Who may come in at all: sockets by number, by address and by how often they come to nothing.

Pure: sockets are `Visitor`s here, time is an argument. A *stranger* is a visitor that is not
authenticated yet; one that leaves without having been counts against its address. An address from
which too many such came is refused at the door, at the price of an accept and a close; strangers
that only sit there are closed, the oldest first, when their place is needed. So a flood costs
neither those who are connected nor, from other addresses, those who come, and a chain that comes
back all at once from behind one address is no flood.
"""

import ipaddress
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Protocol

from broker.limits import Limits
from broker.metering import Bucket


class Visitor(Protocol):
    """A socket that was accepted."""

    def crowded_out(self) -> None:
        """Close, to make room; never raises. It still has to `leave`."""
        ...


class Refusal(Enum):
    """Why a socket is closed at once."""

    FULL = "as many connections are open as the limit allows"
    FLOOD = "too many connections from its address come to nothing"
    CROWD = "too many are on their way to CONNECT"


class _Address:
    __slots__ = ("bucket", "load", "strangers")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.load = 0.0
        self.strangers: dict[Visitor, None] = {}


class _Stranger(NamedTuple):
    record: _Address
    cost: float
    since: float


class Gate:
    """The door of one broker.

    Attributes:
        refused: How many were refused or crowded out since the start.
    """

    def __init__(self, limits: Limits) -> None:
        """Start with nobody inside."""
        self._limits = limits
        self._visitors: set[Visitor] = set()
        self._strangers: dict[Visitor, _Stranger] = {}
        self._addresses: dict[str, _Address] = {}
        self._prune_at = 1_000
        self.refused = 0

    @property
    def strangers(self) -> int:
        """Count those who are not authenticated yet."""
        return len(self._strangers)

    def arrive(
        self, visitor: Visitor, address: str, now: float, *, cost: float = 1
    ) -> Refusal | None:
        """Let a visitor in, or say why not; one that is let in has to `leave` later.

        Args:
            visitor: Who.
            address: From where.
            now: Monotonic seconds.
            cost: For how many plain connections it counts, as long as it is a stranger.
        """
        refusal = self._judge(visitor, address, now, cost)
        self.refused += refusal is not None
        return refusal

    def _judge(self, visitor: Visitor, address: str, now: float, cost: float) -> Refusal | None:
        key = _key(address)
        limits = self._limits
        record = self._addresses.get(key)
        if record is None:
            record = self._record(key, now)
        if record.bucket.fill(now) < cost:
            return Refusal.FLOOD
        if len(self._visitors) >= limits.connections:
            self._charge(record, cost)
            return Refusal.FULL
        crowd: Iterable[Visitor] | None = None
        if record.load + cost > limits.strangers_per_address and record.strangers:
            crowd = record.strangers
        elif len(self._strangers) >= limits.strangers:
            crowd = self._strangers
        if crowd is not None:
            oldest = next(iter(crowd))
            if now - self._strangers[oldest].since < limits.stranger_grace_seconds:
                self._charge(record, cost)
                return Refusal.CROWD
            self.refused += 1
            self._fail(oldest, now)
            oldest.crowded_out()
        self._visitors.add(visitor)
        self._strangers[visitor] = _Stranger(record, cost, now)
        record.strangers[visitor] = None
        record.load += cost
        return None

    def know(self, visitor: Visitor) -> None:
        """Take note that a stranger is authenticated. Idempotent."""
        if visitor in self._strangers:
            self._forget(visitor)

    def leave(self, visitor: Visitor, now: float) -> None:
        """Take note that a visitor's socket is closed. Idempotent."""
        if visitor in self._strangers:
            self._fail(visitor, now)
        self._visitors.discard(visitor)

    def _fail(self, visitor: Visitor, now: float) -> None:
        stranger = self._forget(visitor)
        stranger.record.bucket.fill(now)
        self._charge(stranger.record, stranger.cost)

    @staticmethod
    def _charge(record: _Address, cost: float) -> None:
        if not record.bucket.debt_seconds:  # however many failed at once, it is over soon
            record.bucket.take(cost)

    def _forget(self, visitor: Visitor) -> _Stranger:
        stranger = self._strangers.pop(visitor)
        del stranger.record.strangers[visitor]
        stranger.record.load -= stranger.cost
        return stranger

    def _record(self, key: str, now: float) -> _Address:
        if len(self._addresses) >= self._prune_at:
            for old, record in tuple(self._addresses.items()):
                record.bucket.fill(now)
                if not record.strangers and record.bucket.is_full:
                    del self._addresses[old]
            self._prune_at = max(1_000, 2 * len(self._addresses))
        limits = self._limits
        bucket = Bucket(limits.strangers_per_second, limits.strangers_burst, now=now)
        record = self._addresses[key] = _Address(bucket)
        return record


def _key(address: str) -> str:
    """Reduce an address to what one network has; whoever has IPv6 has 2^64 addresses."""
    if ":" not in address:
        return address
    parsed = ipaddress.IPv6Address(address.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.exploded[:19]
