"""Between a core and its link: subscriptions made so, and messages sent when there is room.

Owns what waits to be sent and what is subscribed on the present connection. Must not know what
any message means, nor databases or threads.

Invariants:
- Nothing is sent before the broker has answered the subscriptions asked for: whoever answers us
  must find us listening.
- What the link has no room for waits, in order, and is gone with the connection; the protocol
  sends it again. Nothing spins.
- What the broker does not let us hear is asked for again, ever more slowly: HQ's roster reaches us
  and the broker on different ways, and a broker that is behind refuses what it will soon allow.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from buskit.link import Link, Publication
from storeagent.core import Outgoing, Publish, Subscribe

_SUBACK_SECONDS = 5.0
"""A broker that never answers a subscription does not silence the device for ever."""
_DENIED_FIRST_SECONDS = 1.0
_DENIED_MOST_SECONDS = 300.0


class Carrier:
    """Carries one core's words onto one link."""

    def __init__(self, link: Link, *, qos: int) -> None:
        """Carry onto this link, which the caller starts and stops."""
        self._link = link
        self._qos = qos
        self._waiting: deque[Publication] = deque()
        self._listening: frozenset[str] = frozenset()
        self._denied: frozenset[str] = frozenset()
        self._denied_pause_seconds = _DENIED_FIRST_SECONDS
        self._ask_again_at = 0.0
        self._suback_by: float | None = None

    def connected(self) -> None:
        """A new connection: nothing is subscribed and nothing waits."""
        self._waiting.clear()
        self._listening = self._denied = frozenset()
        self._denied_pause_seconds = _DENIED_FIRST_SECONDS
        self._suback_by = None

    def subscribed(self, refused: Iterable[str] = (), now: float = 0.0) -> None:
        """The broker has answered a subscription; `pump` is due, now and from time to time.

        Args:
            refused: What it does not allow.
            now: Monotonic seconds, as in `pump`.
        """
        self._suback_by = None
        denied = self._listening.intersection(refused)
        if denied:
            self._listening -= denied
            self._denied |= denied
            self._ask_again_at = now + self._denied_pause_seconds
            self._denied_pause_seconds = min(_DENIED_MOST_SECONDS, 2 * self._denied_pause_seconds)

    def forget(self) -> None:
        """Drop what waits: the connection is gone, or what waits is void."""
        self._waiting.clear()

    def carry(self, outgoing: Sequence[Outgoing], now: float) -> None:
        """Take what a core wants done; what cannot go at once goes with a later `pump`."""
        for one in outgoing:
            match one:
                case Publish(topic, payload):
                    self._waiting.append(Publication(topic, payload, qos=self._qos))
                case Subscribe(filters, again):
                    self._listening -= frozenset(again)
                    self._listen(frozenset(filters), now)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send what waits, as far as there is room; cheap when nothing does."""
        if self._denied and now >= self._ask_again_at:
            self._subscribe(self._denied, now)
        if self._suback_by is not None:
            if now < self._suback_by:
                return
            self._suback_by = None
        while self._waiting:
            if self._link.publish(self._waiting[0]) is None:
                if not self._link.connected:
                    self._waiting.clear()
                return  # no room: what goes out makes some, and `pump` is called again
            self._waiting.popleft()

    def _listen(self, filters: frozenset[str], now: float) -> None:
        gone, new = self._listening - filters, filters - self._listening
        self._listening &= filters
        self._denied = frozenset()
        self._denied_pause_seconds = _DENIED_FIRST_SECONDS
        if gone:
            self._link.unsubscribe(gone)
        self._subscribe(new, now)

    def _subscribe(self, filters: frozenset[str], now: float) -> None:
        self._denied -= filters
        self._listening |= filters
        if filters and self._link.subscribe([(one, self._qos) for one in sorted(filters)]):
            self._suback_by = now + _SUBACK_SECONDS
