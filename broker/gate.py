"""Who may come in at all: sockets by number, by address and by how often they come to nothing.

Pure: sockets are `Visitor`s here, time is an argument. A *stranger* is a visitor that is not
authenticated yet. One address that floods is refused at the door, at the price of an accept and a
close; strangers that only sit there are closed, the oldest first, when their place is needed. So a
flood costs neither those who are connected nor, from other addresses, those who come.
"""

import ipaddress
from enum import Enum
from typing import Protocol

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


class _Address:
    __slots__ = ("bucket", "strangers")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.strangers: dict[Visitor, float] = {}


class Gate:
    """The door of one broker.

    Attributes:
        refused: How many were refused or crowded out since the start.
    """

    def __init__(self, limits: Limits) -> None:
        """Start with nobody inside."""
        self._limits = limits
        self._visitors: dict[Visitor, str] = {}
        self._strangers: dict[Visitor, None] = {}
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
        key = _key(address)
        record = self._addresses.get(key)
        if record is None:
            record = self._record(key, now)
        if record.bucket.fill(now) < cost:
            self.refused += 1
            return Refusal.FLOOD
        record.bucket.take(cost)
        if len(self._visitors) >= self._limits.connections:
            self.refused += 1
            return Refusal.FULL
        if len(record.strangers) >= self._limits.strangers_per_address:
            self._crowd_out(next(iter(record.strangers)))
        elif len(self._strangers) >= self._limits.strangers:
            self._crowd_out(next(iter(self._strangers)))
        self._visitors[visitor] = key
        self._strangers[visitor] = None
        record.strangers[visitor] = cost
        return None

    def know(self, visitor: Visitor) -> None:
        """Take note that a stranger is authenticated. Idempotent."""
        if visitor in self._strangers:
            record, cost = self._forget_stranger(visitor)
            record.bucket.take(-cost)

    def leave(self, visitor: Visitor) -> None:
        """Take note that a visitor's socket is closed. Idempotent."""
        if visitor in self._strangers:
            self._forget_stranger(visitor)
        self._visitors.pop(visitor, None)

    def _crowd_out(self, visitor: Visitor) -> None:
        self.refused += 1
        self._forget_stranger(visitor)
        visitor.crowded_out()

    def _forget_stranger(self, visitor: Visitor) -> tuple[_Address, float]:
        del self._strangers[visitor]
        record = self._addresses[self._visitors[visitor]]
        return record, record.strangers.pop(visitor)

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
