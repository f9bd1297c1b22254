"""What the link's thread hands to a daemon's main thread: in order, bounded, taken in batches.

Owns the queue between the two. Must not know what an event means, nor databases.

Invariants:
- Handing over never waits and never fails. `ring` is safe inside a signal handler.
- Messages that nobody has taken yet are bounded, in number and in bytes. What is too many is
  dropped and counted; the protocol asks for it again. Nothing but messages is ever dropped.
- What is taken at once is bounded as well: it becomes one transaction.
"""

import queue
import threading
from dataclasses import dataclass

from buskit.link_settings import LinkEvent, Received


class Rung:
    """Somebody rang, or the daemon is to look around."""


RUNG = Rung()

Gathered = LinkEvent | Rung
"""What comes to the main thread."""


@dataclass(frozen=True, slots=True)
class GatheringLimits:
    """How much may wait, and how much is taken at once.

    Attributes:
        batch_events: One batch has at most so many events.
        batch_bytes: One batch ends with the message that reaches this.
        waiting_messages: While more messages wait, further ones are dropped.
        waiting_bytes: While more bytes of messages wait, further ones are dropped.
    """

    batch_events: int
    batch_bytes: int
    waiting_messages: int
    waiting_bytes: int


class Gathering:
    """The queue; any thread may put, one takes."""

    def __init__(self, limits: GatheringLimits) -> None:
        """Begin with nothing."""
        self._limits = limits
        self._events: queue.SimpleQueue[Gathered] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._messages = 0
        self._bytes = 0
        self._dropped = 0

    def put(self, event: LinkEvent) -> None:
        """Hand over an event; a message may be dropped."""
        if isinstance(event, Received):
            limits = self._limits
            with self._guard:
                full = self._bytes > limits.waiting_bytes
                if full or self._messages > limits.waiting_messages:
                    self._dropped += 1
                    return
                self._messages += 1
                self._bytes += len(event.payload)
        self._events.put(event)

    def ring(self) -> None:
        """Make whoever takes look around; safe inside a signal handler."""
        self._events.put(RUNG)  # the guard may be held by the very code that a signal interrupts

    def take(self, patience_seconds: float) -> list[Gathered]:
        """Wait for the first event, and take with it all that is there, up to one batch.

        Args:
            patience_seconds: How long to wait at most; nothing may come of it.
        """
        taken: list[Gathered] = []
        messages = size_bytes = 0
        try:
            event = self._events.get(timeout=patience_seconds)
            while True:
                taken.append(event)
                if isinstance(event, Received):
                    messages += 1
                    size_bytes += len(event.payload)
                if (
                    len(taken) >= self._limits.batch_events
                    or size_bytes >= self._limits.batch_bytes
                ):
                    break
                event = self._events.get_nowait()
        except queue.Empty:
            pass
        if messages:
            with self._guard:
                self._messages -= messages
                self._bytes -= size_bytes
        return taken

    def dropped(self) -> int:
        """How many messages were dropped since this was last asked."""
        with self._guard:
            dropped, self._dropped = self._dropped, 0
        return dropped
