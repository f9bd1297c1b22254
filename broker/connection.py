"""One client's network connection, from its first byte to its last.

Owns the order CONNECT, authentication, session, CONNACK; the reading loop; keep-alive; the bound on
what a slow reader makes us hold; holding a client back that sends more than its rate; and the
closing, with its reason in the log. What packets mean for others is the router's business, what is
owed to this client its session's.

Invariants: no session is looked at before the client is authenticated; a packet is handled without
waiting for anybody, so it is acknowledged after it was routed and the order of a client's packets
is kept; what was received is handled even if the connection breaks meanwhile; everything written in
one turn of the event loop leaves in one piece; a connection ends exactly once.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from broker import packets
from broker.access import Authenticator, Credentials, Kind
from broker.errors import CloseReason, ConnectionClosedError, ProtocolError
from broker.limits import Limits
from broker.metering import Meter, Regulars, Waiting
from broker.notices import Notices
from broker.packets import Framer, UnsupportedProtocolError
from broker.routing import RefusedError, Router
from broker.session import Session
from broker.streams import StreamReader, StreamWriter

log = logging.getLogger(__name__)

# After so many packets and deliveries the other connections get their turn.
_EFFORT_A_TURN = 500

# How long a device waits before it looks whether the hub has room again; longer when many wait.
_CROWD_SECONDS = 0.05
_LOOKS_A_SECOND = 2_000

# So many filters of a SUBSCRIBE or UNSUBSCRIBE count as one more packet against the rate.
_FILTERS_A_PACKET = 10

# Reasons for which what was not sent yet is dropped: there is too much of it.
_UNREAD = frozenset({CloseReason.TOO_SLOW, CloseReason.MEMORY})


class Flusher:
    """Writes, once a turn of the event loop, what connections gathered during it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the loop of the broker."""
        self._loop = loop
        self._waiting: list[Connection] = []

    def add(self, connection: "Connection") -> None:
        """Have the connection's `flush` called soon; add it once only."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(connection)

    def flush(self) -> None:
        """Have it called now, in the middle of a turn, because much was gathered."""
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.flush()


@dataclass(slots=True)
class Surroundings:
    """What all connections of a broker share; who may connect can change while they live."""

    router: Router
    authenticator: Authenticator
    limits: Limits
    flusher: Flusher
    loop: asyncio.AbstractEventLoop
    waiting: Waiting
    regulars: Regulars
    notices: Notices
    wait_for_hub: int = 0
    """How many connections are held back because a hub is crowded."""


class Connection:
    """A client's connection; `run` is its whole life."""

    def __init__(
        self, reader: StreamReader, writer: StreamWriter, surroundings: Surroundings
    ) -> None:
        """Take a stream of which nothing was read."""
        self._reader = reader
        self._writer = writer
        self._router = surroundings.router
        self._surroundings = surroundings
        self._limits = surroundings.limits
        self._flusher = surroundings.flusher
        self._loop = surroundings.loop
        self._framer = Framer(surroundings.limits.connect_packet_bytes)
        self._frames: Iterator[tuple[int, bytes]] | None = None
        self._unread: list[bytes] = []
        self._is_held_back = False
        self._has_ended = False
        self._is_lost = False
        self._session: Session | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._closed: CloseReason | None = None
        self._is_gone: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_at(
            reader.accepted_at + surroundings.limits.connect_seconds,
            self.end,
            CloseReason.CONNECT_LATE,
        )
        self._silence_seconds = 0.0
        self._heard_at = 0.0
        self._effort = 0
        self._waiting = surroundings.waiting
        self._counted_out_bytes = 0
        self._counted_in_bytes = 0
        self._meter: Meter | None = None
        self._sent_packets = 0
        self._sent_bytes = 0
        self._frames_below = 0
        self._yields = False
        self._is_in_crowd = False

    async def run(self) -> None:
        """Serve the client; returns when its socket is closed."""
        self._reader.start(self)
        try:
            await self._is_gone
        except asyncio.CancelledError as cancelled:
            self.end(CloseReason.CROWDED_OUT if cancelled.args else CloseReason.SHUTDOWN)
            raise

    # -- outgoing: the session's Outlet --

    def send(self, data: bytes) -> None:
        """Write the bytes at the end of this turn of the event loop."""
        if self._closed is None:
            out = self._out
            if not out:
                self._out_bytes = 0
                self._flusher.add(self)
            out.append(data)
            size = len(data)
            self._out_bytes += size
            self._counted_out_bytes += size
            self._waiting.change(size)
            if self._out_bytes > self._limits.outgoing_bytes:
                self.end(CloseReason.TOO_SLOW, f"{self._out_bytes} bytes at once")

    def flush(self) -> None:
        """Write what was gathered; a client that leaves too much of it unread is cut off."""
        out = self._out
        if not out:
            return
        self._out = []
        self._out_bytes = 0
        self._writer.write(out[0] if len(out) == 1 else b"".join(out))
        self._count_unread()

    def _count_unread(self) -> None:
        pending = self._out_bytes + self._writer.pending_bytes()
        self._waiting.change(pending - self._counted_out_bytes)
        self._counted_out_bytes = pending
        if self._closed is None and pending > self._limits.outgoing_bytes:
            self.end(CloseReason.TOO_SLOW, f"{pending} bytes are not read")

    @property
    def session(self) -> Session | None:
        """The session that this is the connection of; None before CONNECT and after the end."""
        session = self._session
        return session if session is not None and session.outlet is self else None

    @property
    def unsent_bytes(self) -> int:
        """Measure what the client has not taken yet."""
        return self._out_bytes + self._writer.pending_bytes() if self._closed is None else 0

    def socket_bytes(self) -> int:
        """Measure what is in memory on the way to this client and from it, queues not included."""
        if self._closed is not None:
            return self._counted_out_bytes
        return self.unsent_bytes + self._framer.held_bytes + self._reader.held_bytes

    def end(self, reason: CloseReason, detail: str = "") -> None:
        """Cut the connection; what could be sent at once was sent. Idempotent.

        The session learns of it when the socket is gone, in a turn of its own.
        """
        if self._closed is not None:
            return
        self._closed = reason
        self._timer.cancel()
        self._log_end(reason, detail)
        if reason not in _UNREAD:
            self.flush()
        self._out = []
        self._out_bytes = 0
        self._writer.abort()
        self._count_nothing()

    def _finish(self, reason: CloseReason, detail: str = "") -> None:
        """Close from within, handing over the last bytes for a limited time. Idempotent."""
        if self._closed is not None:
            return
        self._closed = reason
        self._timer.cancel()
        self._log_end(reason, detail)
        self.flush()
        self._detach()
        self._writer.finish()
        if not self._is_gone.done():
            self._timer = self._loop.call_later(self._limits.linger_seconds, self._writer.abort)

    def _detach(self) -> None:
        session = self._session
        if session is not None:
            self._router.detach(
                session,
                self,
                publish_will=self._closed not in (CloseReason.DISCONNECT, CloseReason.SHUTDOWN),
                now=self._loop.time(),
            )

    def _count_nothing(self) -> None:
        self._waiting.change(-self._counted_out_bytes - self._counted_in_bytes)
        self._counted_out_bytes = self._counted_in_bytes = 0

    def _log_end(self, reason: CloseReason, detail: str) -> None:
        level = logging.INFO if reason.is_normal else logging.WARNING
        if not log.isEnabledFor(level):
            return
        who = f"client {self._session.client_id!r}" if self._session else "a client unknown yet"
        tail = f": {detail}" if detail else ""
        told = ("%s, %s: %s%s", who, self._writer.peer(), reason.value, tail)
        if reason.is_normal:
            log.info(*told)
        else:
            self._surroundings.notices.tell(reason.name, self._loop.time(), *told)

    # -- incoming: the stream's Receiver --

    def received(self, data: bytes) -> None:
        """Handle the packets that the bytes complete."""
        if data:
            self._heard_at = self._loop.time()
            self._sent_bytes += len(data)
        if self._frames is not None or self._is_held_back:
            self._unread.append(data)  # TLS has bytes on the way when reading is paused
            return
        self._frames = self._framer.cut(data)
        self._work()

    def _work(self) -> None:
        """Handle what was received, in portions, so that the other clients have their turn."""
        if self._must_wait():
            self._wait_for_hub()
            return
        while self._frames is not None and self._closed is None:
            try:
                for first, body in self._frames:
                    self._effort += 1
                    self._sent_packets += 1
                    self._frames_below -= 1
                    self._handle(first, body)
                    if self._closed is not None:
                        return
                    if self._must_wait():
                        self._wait_for_hub()
                        return
                    if self._effort >= _EFFORT_A_TURN:
                        self._effort = 0
                        self._hold_back(self._charge())
                        return
            except ConnectionClosedError as error:
                self._finish(error.reason, str(error))
                return
            except Exception:  # a defect costs its connection, never the broker
                log.exception("a defect while serving %s", self._writer.peer())
                self._finish(CloseReason.DEFECT)
                return
            self._frames = None
            pause_seconds = self._charge()
            if pause_seconds:
                self._hold_back(pause_seconds)
                return
            if self._unread:
                self._frames = self._framer.cut(self._unread.pop(0))
        if self._closed is None:
            self._count_partial()
        if self._has_ended:
            self._finish(CloseReason.END_OF_STREAM)

    def _must_wait(self) -> bool:
        """Say whether this is a device that has to wait for the hub."""
        return (
            self._yields and self._closed is None and self._router.is_hub_crowded(self._loop.time())
        )

    def _wait_for_hub(self) -> None:
        pause_seconds = self._charge()
        if self._closed is None:
            self._is_in_crowd = True
            crowd = self._surroundings.wait_for_hub = self._surroundings.wait_for_hub + 1
            self._hold_back(max(pause_seconds, _CROWD_SECONDS, crowd / _LOOKS_A_SECOND))

    def framed(self, frames: int) -> None:
        """Count frames below MQTT, of which one for each packet is free, and what answers take."""
        if self._closed is None:
            self._frames_below += frames
            self._count_unread()
            self._count_partial()

    def _count_partial(self) -> None:
        partial_bytes = self._framer.held_bytes + self._reader.held_bytes
        if partial_bytes != self._counted_in_bytes:
            self._waiting.change(partial_bytes - self._counted_in_bytes)
            self._counted_in_bytes = partial_bytes

    def _charge(self) -> float:
        """Have what was sent counted; return for how long the client must be held back."""
        if self._frames is None and not self._unread:
            # A frame that brought no packet, like a ping, is as much work as one.
            self._sent_packets += max(0, self._frames_below)
            self._frames_below = 0
        meter = self._meter
        if meter is None or not self._sent_packets:
            return 0.0
        now = self._loop.time()
        pause_seconds = meter.charge(self._sent_packets, self._sent_bytes, now)
        self._sent_packets = self._sent_bytes = 0
        over_seconds = meter.over_seconds(now)
        if over_seconds > self._limits.over_rate_seconds:
            self.end(CloseReason.TOO_MUCH, f"it was over its rate for {over_seconds:.0f} s")
        return pause_seconds

    def _hold_back(self, seconds: float) -> None:
        """Read no more, so that the client has to wait, and go on later; 0 is the next turn."""
        if self._closed is None:
            self._is_held_back = True
            self._reader.pause()
            self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._is_held_back = False
        if self._is_in_crowd:
            self._is_in_crowd = False
            self._surroundings.wait_for_hub -= 1
        if self._closed is None:
            self._heard_at = self._loop.time()  # what it said meanwhile was not listened to
            if self._frames is None and self._unread:
                self._frames = self._framer.cut(self._unread.pop(0))
            self._work()
            if not self._is_busy and self._closed is None:
                self._reader.resume()
        if self._is_lost and (not self._is_busy or self._closed is not None):
            self._clean_up()

    @property
    def _is_busy(self) -> bool:
        """Whether something that was received is not handled yet."""
        return self._frames is not None or bool(self._unread) or self._is_held_back

    def failed(self, error: ConnectionClosedError) -> None:
        """Close because of what is wrong below MQTT."""
        self._finish(error.reason, str(error))

    def ended(self) -> None:
        """Close, once what was received is handled: the client sends no more."""
        self._has_ended = True
        if not self._is_busy:
            self._finish(CloseReason.END_OF_STREAM)

    def lost(self, error: Exception | None) -> None:
        """Clean up, once what was received is handled: the socket is closed."""
        self._is_lost = True
        self._timer.cancel()
        if not self._is_busy or self._closed is not None:
            self._clean_up(str(error or ""))

    def _clean_up(self, detail: str = "") -> None:
        if self._closed is None:
            self._closed = CloseReason.CONNECTION_LOST
            self._log_end(CloseReason.CONNECTION_LOST, detail)
        self._count_nothing()
        self._detach()
        if not self._is_gone.done():
            self._is_gone.set_result(None)

    def _handle(self, first: int, body: bytes) -> None:
        session = self._session
        if session is None:
            self._on_connect(first, body)
        elif first & 0xF0 == packets.PUBLISH:
            self._on_publish(session, first, body)
        elif first == packets.PUBACK:
            self._sent_packets -= session.on_puback(packets.decode_packet_id(body, "PUBACK"))
        elif first == packets.PUBREC:
            self._sent_packets -= session.on_pubrec(packets.decode_packet_id(body, "PUBREC"))
        elif first == packets.PUBREL:
            packet_id = packets.decode_packet_id(body, "PUBREL")
            session.incoming.discard(packet_id)
            # One that is not known is answered as well: the last PUBCOMP may be lost.
            self.send(packets.pubcomp(packet_id))
        elif first == packets.PUBCOMP:
            self._sent_packets -= session.on_pubcomp(packets.decode_packet_id(body, "PUBCOMP"))
        elif first == packets.SUBSCRIBE:
            self._on_subscribe(session, body)
        elif first == packets.UNSUBSCRIBE:
            self._on_unsubscribe(session, body)
        elif first == packets.CONNECT:
            raise ProtocolError("a second CONNECT [3.1.0-2]")
        elif body:
            raise ProtocolError("a PINGREQ or DISCONNECT with a body")
        elif first == packets.PINGREQ:
            self.send(packets.PINGRESP_PACKET)
        else:
            self._finish(CloseReason.DISCONNECT)

    def _on_publish(self, session: Session, first: int, body: bytes) -> None:
        message, packet_id = packets.decode_publish(first, body)
        if message.qos == 0:
            self._effort += self._router.publish_from(session, message)
        elif message.qos == 1:
            self._effort += self._router.publish_from(session, message)
            self.send(packets.puback(packet_id))
        else:
            # Delivered at once and remembered until PUBREL [4.3.3, method B], so that one sent
            # again is not delivered again.
            before = len(self._out)
            if packet_id not in session.incoming:
                if len(session.incoming) >= self._limits.unreleased_messages:
                    raise ConnectionClosedError(
                        CloseReason.TOO_MUCH, "messages of QoS 2 without a PUBREL"
                    )
                self._effort += self._router.publish_from(session, message)
                session.incoming.add(packet_id)
            self.send(packets.pubrec(packet_id))
            # A client that subscribes to its own topic reads PUBREC before its copy, as from
            # brokers that deliver on PUBREL: some clients wait for it and nothing else.
            if before < len(self._out) - 1:
                self._out.insert(before, self._out.pop())

    def _on_subscribe(self, session: Session, body: bytes) -> None:
        packet_id, wanted = packets.decode_subscribe(body, self._limits.filters_per_client)
        codes = [self._router.subscribe(session, topic_filter, qos) for topic_filter, qos in wanted]
        self._count_filters(len(codes))
        self.send(packets.suback(packet_id, codes))
        for (topic_filter, _), code in zip(wanted, codes, strict=True):
            if self._closed is not None:
                return  # what was retained was more than it may be sent at once
            if code == packets.SUBSCRIBE_FAILED:
                continue
            for message in self._router.retained_for(session, topic_filter):
                session.deliver(message, min(message.qos, code), retain=True)
                self._effort += 1

    def _on_unsubscribe(self, session: Session, body: bytes) -> None:
        packet_id, filters = packets.decode_unsubscribe(body, self._limits.filters_per_client)
        self._count_filters(len(filters))
        for topic_filter in filters:
            self._router.unsubscribe(session, topic_filter)
        self.send(packets.unsuback(packet_id))

    def _count_filters(self, filters: int) -> None:
        self._effort += filters
        self._sent_packets += filters // _FILTERS_A_PACKET

    # -- CONNECT --

    def _on_connect(self, first: int, body: bytes) -> None:
        if first != packets.CONNECT:
            raise ProtocolError("a first packet that is not CONNECT [3.1.0-1]")
        try:
            connect = packets.decode_connect(body)
        except UnsupportedProtocolError:
            self.send(packets.connack(packets.UNACCEPTABLE_PROTOCOL))
            raise
        try:
            session, present = self._admit(connect)
        except RefusedError as refusal:
            self.send(packets.connack(refusal.code))
            raise ConnectionClosedError(CloseReason.CONNECT_REFUSED, str(refusal)) from None
        self._timer.cancel()
        self._framer.max_packet_bytes = self._limits.packet_bytes
        self._reader.admit()
        self._session = session
        self._watch(connect.keepalive_seconds)
        log.info("client %r connected from %s", session.client_id, self._writer.peer())
        self.send(packets.connack(packets.ACCEPTED, session_present=present))
        session.resume(self)

    def _admit(self, connect: packets.Connect) -> tuple[Session, bool]:
        if not connect.client_id and not connect.clean_session:
            raise RefusedError(packets.IDENTIFIER_REJECTED, "no client id, but a session to keep")
        if len(connect.client_id.encode()) > self._limits.client_id_bytes:
            raise RefusedError(packets.IDENTIFIER_REJECTED, "its client id is too long")
        client_id = connect.client_id or f"auto-{secrets.token_hex(16)}"
        tls = self._writer.get_ssl_info()
        credentials = Credentials(
            client_id=client_id,
            username=connect.username,
            password=connect.password,
            peer_address=self._writer.peer(),
            peer_certificate=tls.getpeercert() if tls is not None else None,
        )
        try:
            identity = self._surroundings.authenticator.authenticate(credentials)
        except Exception:  # an authenticator's defect must close the door, not the broker
            log.exception("authentication failed to decide about %r", connect.client_id)
            identity = None
        if identity is None:
            raise RefusedError(packets.NOT_AUTHORIZED, f"client {client_id!r} is not known")
        now = self._loop.time()
        rate = self._limits.rate_of(identity.kind)
        self._yields = identity.kind in (Kind.DEVICE, Kind.JOIN)
        if identity.kind is Kind.OTHER:  # a name that anybody may take
            self._meter = Meter(rate, now=now)
        else:
            self._meter = self._surroundings.regulars.come(identity.name, rate, now)
            if self._meter is None:
                # It is who it says: its address must not pay for it, with others behind it.
                self._reader.admit()
                raise RefusedError(
                    packets.SERVER_UNAVAILABLE, f"client {client_id!r} connects too often"
                )
        return self._router.open(connect, client_id, identity, now=now)

    # -- keep-alive --

    def _watch(self, keepalive_seconds: int) -> None:
        """Have silence noticed [3.1.2-24]; one timer that looks again, not one for each packet."""
        if keepalive_seconds:
            self._silence_seconds = 1.5 * keepalive_seconds
            self._timer = self._loop.call_later(self._silence_seconds, self._look)

    def _look(self) -> None:
        if self._is_held_back:
            self._heard_at = self._loop.time()
        left = self._heard_at + self._silence_seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.end(CloseReason.KEEPALIVE)
