"""One client's session: what it is owed and what it owes, with or without a connection.

Owns the in-flight window, the queue behind it, the packet identifiers of both directions, and the
will. Pure but for the log: bytes go to an `Outlet`. It must know nothing of sockets, routing or
other sessions, and of access only whom to ask: what waited is asked about again when it is sent.

Invariants: messages of QoS 1 and 2 are sent in the order they came, at most
`Limits.inflight_messages` unacknowledged; what waits never exceeds `Limits.outgoing_bytes`; on
reconnect what is in flight is sent again first, in its order, marked DUP [4.4.0-1].
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from broker import packets
from broker.access import Identity
from broker.errors import CloseReason, ProtocolError
from broker.limits import Limits
from broker.metering import Waiting
from broker.packets import Message

log = logging.getLogger(__name__)


class Outlet(Protocol):
    """The connection, as far as a session sees it."""

    @property
    def unsent_bytes(self) -> int:
        """Measure what the client has not taken yet."""
        ...

    def send(self, data: bytes) -> None:
        """Hand bytes over; never waits, never raises, does nothing once closed."""
        ...

    def end(self, reason: CloseReason, detail: str = "") -> None:
        """Close the connection; never raises. Idempotent.

        It changes neither session nor subscriptions: whoever is in the middle of a fan-out goes on
        undisturbed, and the connection's own task cleans up afterwards.
        """
        ...


Receives = Callable[[Identity, str], bool]
"""Says whether an identity may receive a topic, now."""


class Session:
    """The state of a client id.

    Attributes:
        client_id: The MQTT client identifier.
        identity: Whose session it is, as of the last CONNECT; nobody else ever gets to see it.
        clean: True when it ends with its connection.
        outlet: The present connection, None while the client is away.
        away_since: Monotonic seconds, meaningful while there is no outlet.
        will: Published when the connection ends without DISCONNECT.
        filters: The session's subscriptions, filter to granted QoS.
        filters_bytes: What the filters take.
        incoming: Packet identifiers of QoS 2 messages that were routed and not yet released.
    """

    def __init__(
        self,
        client_id: str,
        identity: Identity,
        limits: Limits,
        *,
        clean: bool,
        receives: Receives = lambda _identity, _topic: True,
        waiting: Waiting | None = None,
    ) -> None:
        """Start empty and away."""
        self.client_id = client_id
        self.identity = identity
        self.clean = clean
        self.outlet: Outlet | None = None
        self.away_since = 0.0
        self.will: Message | None = None
        self.filters: dict[str, int] = {}
        self.filters_bytes = 0
        self.incoming: set[int] = set()
        self._receives = receives
        self._together = waiting or Waiting(limits.waiting_bytes)
        self._max_inflight = limits.inflight_messages
        self._max_bytes = limits.outgoing_bytes
        # Packet identifier to (message, QoS, retain); the message is None once PUBREL was sent.
        self._inflight: dict[int, tuple[Message | None, int, bool]] = {}
        self._queue: deque[tuple[Message, int, bool]] = deque()
        self._waiting_bytes = 0
        self._last_packet_id = 0
        self._dropped = 0

    @property
    def waiting_messages(self) -> int:
        """Count what is in flight and queued."""
        return len(self._inflight) + len(self._queue)

    @property
    def waiting_bytes(self) -> int:
        """Measure what is in flight and queued."""
        return self._waiting_bytes

    @property
    def is_crowded(self) -> bool:
        """Whether half of what may wait for a client that is here does wait."""
        outlet = self.outlet
        if outlet is None:
            return False
        return max(self._waiting_bytes, outlet.unsent_bytes) > self._max_bytes // 2

    def deliver(self, message: Message, qos: int, *, retain: bool = False) -> None:
        """Send the message to the client, or keep it until it can be sent; never raises.

        At QoS 0 a client that is away misses it.
        """
        outlet = self.outlet
        if not qos:
            if outlet is not None:
                outlet.send(message.as_qos0(retain=retain))
            return
        size = message.size_bytes
        if self._waiting_bytes + size > self._max_bytes:
            self._overflow()
            return
        self._waiting_bytes += size
        self._together.hold(message)
        if outlet is not None and not self._queue and len(self._inflight) < self._max_inflight:
            self._send(outlet, message, qos, retain)
        else:
            self._queue.append((message, qos, retain))

    def _overflow(self) -> None:
        self._dropped += 1
        if self.outlet is not None:
            self.outlet.end(
                CloseReason.TOO_SLOW, f"{self._waiting_bytes} bytes are not acknowledged"
            )
        elif self._dropped == 1:
            log.warning(
                "the queue of client %r, which is away, is full (%d messages, %d bytes): "
                "newer messages are dropped",
                self.client_id,
                self.waiting_messages,
                self._waiting_bytes,
            )

    def _send(self, outlet: Outlet, message: Message, qos: int, retain: bool) -> None:
        packet_id = self._last_packet_id
        while True:
            packet_id = packet_id % 65535 + 1
            if packet_id not in self._inflight:
                break
        self._last_packet_id = packet_id
        self._inflight[packet_id] = (message, qos, retain)
        outlet.send(message.as_packet(qos, packet_id, retain=retain, dup=False))

    def _send_queued(self) -> None:
        outlet = self.outlet
        queue = self._queue
        while outlet is not None and queue and len(self._inflight) < self._max_inflight:
            message, qos, retain = queue.popleft()
            if self._receives(self.identity, message.topic):
                self._send(outlet, message, qos, retain)
            else:
                self._free(message)

    def _free(self, message: Message) -> None:
        self._waiting_bytes -= message.size_bytes
        self._together.release(message)

    def clear(self) -> None:
        """Drop what is in flight and queued, because the session ends. Idempotent."""
        for message, _, _ in self._inflight.values():
            if message is not None:
                self._free(message)
        self._inflight.clear()
        for queued, _, _ in self._queue:
            self._free(queued)
        self._queue.clear()

    def resume(self, outlet: Outlet) -> None:
        """Attach a new connection, whose CONNACK was sent, and go on where the last one ended."""
        self.outlet = outlet
        for packet_id, (message, qos, retain) in tuple(self._inflight.items()):
            if message is not None and not self._receives(self.identity, message.topic):
                self._free(message)
                if qos == 1:
                    del self._inflight[packet_id]
                    continue
                # The client may have it and wait for its release: until then the identifier is
                # not to be used again.
                self._inflight[packet_id] = (None, qos, retain)
                outlet.send(packets.pubrel(packet_id))
            elif message is None:
                outlet.send(packets.pubrel(packet_id))
            else:
                outlet.send(message.as_packet(qos, packet_id, retain=retain, dup=True))
        if self._dropped:
            log.warning("%d messages for client %r were dropped", self._dropped, self.client_id)
            self._dropped = 0
        self._send_queued()

    def on_puback(self, packet_id: int) -> bool:
        """Take the end of a QoS 1 delivery; one that is not in flight is ignored.

        Returns:
            Whether it was awaited.

        Raises:
            ProtocolError: When that message has QoS 2.
        """
        entry = self._inflight.get(packet_id)
        if entry is None:
            return False
        message, qos, _ = entry
        if qos != 1 or message is None:
            raise ProtocolError("a PUBACK for a message of QoS 2 [4.3.3]")
        del self._inflight[packet_id]
        self._free(message)
        if self._queue:
            self._send_queued()
        return True

    def on_pubrec(self, packet_id: int) -> bool:
        """Take the receipt of a QoS 2 delivery and release it; one unknown is released as well.

        Returns:
            Whether it was awaited.

        Raises:
            ProtocolError: When that message has QoS 1.
        """
        entry = self._inflight.get(packet_id)
        is_awaited = False
        if entry is not None:
            message, qos, retain = entry
            if qos != 2:
                raise ProtocolError("a PUBREC for a message of QoS 1 [4.3.2]")
            if message is not None:
                is_awaited = True
                self._free(message)
                self._inflight[packet_id] = (None, qos, retain)
        if self.outlet is not None:
            self.outlet.send(packets.pubrel(packet_id))
        return is_awaited

    def on_pubcomp(self, packet_id: int) -> bool:
        """Take the end of a QoS 2 delivery; one that is not in flight is ignored.

        Returns:
            Whether it was awaited.

        Raises:
            ProtocolError: When that message was not released yet, or has QoS 1.
        """
        entry = self._inflight.get(packet_id)
        if entry is None:
            return False
        if entry[0] is not None:
            raise ProtocolError("a PUBCOMP for a message that was not released [4.3.2, 4.3.3]")
        del self._inflight[packet_id]
        self._send_queued()
        return True
