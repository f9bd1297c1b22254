"""Counting what clients send and what waits for them, against the limits. Pure.

Owns four counters: `Bucket` for anything that may come so often a second, `Meter` for what one
client sends, `Regulars` for what each identity does over all its connections, `Waiting` for the
bytes that wait for all clients together. Time comes in as an
argument. What happens to who is over a limit is decided by whoever asks.
"""

from collections.abc import Callable
from typing import Protocol

from broker.limits import Limits, Rate

# What a place in a queue takes beside the message itself.
_ENTRY_BYTES = 200


class Bucket:
    """A token bucket: it fills at a rate up to its size, and may be overdrawn."""

    __slots__ = ("_at", "_per_second", "_size", "_tokens")

    def __init__(self, per_second: float, size: float, *, now: float) -> None:
        """Start full."""
        self._per_second = per_second
        self._size = size
        self._tokens = size
        self._at = now

    def fill(self, now: float) -> float:
        """Fill for the time that went by, and return what is in it."""
        self._tokens = min(self._size, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        return self._tokens

    def take(self, tokens: float) -> None:
        """Take, whether there is enough or not; a negative number gives back."""
        self._tokens = min(self._size, self._tokens - tokens)

    @property
    def is_full(self) -> bool:
        """Whether nothing is missing; `fill` first."""
        return self._tokens >= self._size

    @property
    def is_half_full(self) -> bool:
        """Whether at most half is missing; `fill` first."""
        return self._tokens * 2 >= self._size

    @property
    def debt_seconds(self) -> float:
        """How long it takes until it is not overdrawn any more."""
        return max(0.0, -self._tokens / self._per_second)


class Meter:
    """What one client sends, against its rate."""

    __slots__ = ("_bytes", "_over_since", "_packets")

    def __init__(self, rate: Rate, *, now: float) -> None:
        """Start with the whole burst."""
        seconds = rate.burst_seconds
        self._packets = Bucket(
            rate.packets_per_second, max(1.0, rate.packets_per_second * seconds), now=now
        )
        self._bytes = Bucket(
            rate.bytes_per_second, max(1.0, rate.bytes_per_second * seconds), now=now
        )
        self._over_since: float | None = None

    def charge(self, packets: int, size_bytes: int, now: float) -> float:
        """Count what was sent; return for how many seconds the client must be held back."""
        self._packets.fill(now)
        self._bytes.fill(now)
        if self._packets.is_half_full and self._bytes.is_half_full:
            self._over_since = None
        self._packets.take(packets)
        self._bytes.take(size_bytes)
        pause_seconds = max(self._packets.debt_seconds, self._bytes.debt_seconds)
        if pause_seconds and self._over_since is None:
            self._over_since = now
        return pause_seconds

    def is_calm(self, now: float) -> bool:
        """Tell whether a new meter would be the same."""
        self._packets.fill(now)
        self._bytes.fill(now)
        return self._packets.is_full and self._bytes.is_full

    def over_seconds(self, now: float) -> float:
        """Tell for how long the client has been held back without having been calm between."""
        return 0.0 if self._over_since is None else now - self._over_since


class Regulars:
    """What identities do over all their connections, for who could come again and again.

    With a count for each connection, who reconnects would be at its burst again; and each CONNECT
    can throw a connection out and bring a will.
    """

    def __init__(self, limits: Limits) -> None:
        """Start with nobody."""
        self._limits = limits
        self._known: dict[str, tuple[Bucket, Meter]] = {}
        self._prune_at = 1_000

    def come(self, name: str, rate: Rate, now: float) -> Meter | None:
        """Count a CONNECT; return the meter for what follows, or None for one too many.

        One too many is not counted, so that it comes in as often as the limit says who never stops.
        """
        found = self._known.get(name)
        if found is None:
            found = self._add(name, rate, now)
        connects, meter = found
        if connects.fill(now) < 1:
            return None
        connects.take(1)
        return meter

    def _add(self, name: str, rate: Rate, now: float) -> tuple[Bucket, Meter]:
        if len(self._known) >= self._prune_at:
            for old, (connects, meter) in tuple(self._known.items()):
                connects.fill(now)
                if connects.is_full and meter.is_calm(now):
                    del self._known[old]
            self._prune_at = max(1_000, 2 * len(self._known))
        limits = self._limits
        connects = Bucket(limits.connects_per_second, limits.connects_burst, now=now)
        found = self._known[name] = (connects, Meter(rate, now=now))
        return found


class Held(Protocol):
    """What can wait in several queues at once, and takes its memory once."""

    holders: int

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        ...


class Waiting:
    """The bytes that wait for all clients together, as an estimate that is never too low.

    Messages in queues are counted exactly, a shared one once. What leaves a socket's buffer is not
    told, so the whole only has to be exact when it matters: once the estimate is over the limit it
    is measured, and who holds most has to go.

    Attributes:
        limit_bytes: What all may hold together.
        queued_bytes: Of the messages in queues.
    """

    __slots__ = (
        "_estimate",
        "_is_relieving",
        "_relieve",
        "_threshold",
        "limit_bytes",
        "queued_bytes",
    )

    def __init__(self, limit_bytes: int) -> None:
        """Start with nothing."""
        self.limit_bytes = limit_bytes
        self.queued_bytes = 0
        self._threshold = limit_bytes
        self._estimate = 0
        self._is_relieving = False
        self._relieve: Callable[[], int] = lambda: 0

    def on_limit(self, relieve: Callable[[], int]) -> None:
        """Take what is called above the limit: it measures, relieves and returns what is left."""
        self._relieve = relieve

    def hold(self, message: Held) -> None:
        """Count a message that goes into a queue."""
        size_bytes = _ENTRY_BYTES
        if not message.holders:
            size_bytes += message.size_bytes
        message.holders += 1
        self.queued_bytes += size_bytes
        self.change(size_bytes)

    def release(self, message: Held) -> None:
        """Count a message that leaves a queue."""
        message.holders -= 1
        size_bytes = _ENTRY_BYTES
        if not message.holders:
            size_bytes += message.size_bytes
        self.queued_bytes -= size_bytes
        self._estimate -= size_bytes

    def change(self, size_bytes: int) -> None:
        """Count bytes that wait from now on, or, negative, that do not any more."""
        self._estimate = estimate = self._estimate + size_bytes
        if estimate > self._threshold and not self._is_relieving:
            self._is_relieving = True
            try:
                self._estimate = left = self._relieve()
            finally:
                self._is_relieving = False
            # Measuring looks at every client: not again before a good deal more has come.
            self._threshold = max(self.limit_bytes, left + self.limit_bytes // 16)
