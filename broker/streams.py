"""A client's byte stream, over TCP or over WebSocket, behind amqtt's adapters.

Owns getting bytes from the socket to whoever serves the connection, knowing how much a slow peer
leaves unread, and cutting a connection at once. Bytes are pushed as they come, where amqtt's own
adapters are asked for exact counts, three times a packet, by a task that has to be woken for each.
It must know nothing of MQTT but that WebSocket carries it as the subprotocol `mqtt` in binary
frames (section 6 of the standard).

Invariants: nothing here waits; after `lost` was called nothing more is called.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol, cast

from amqtt.adapters import ReaderAdapter, WriterAdapter
from websockets.exceptions import PayloadTooBig, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from broker.errors import CloseReason, ConnectionClosedError, ProtocolError
from broker.limits import Limits

# The library would log a trace for each handshake that is garbage, as often as a stranger likes.
_SILENT = logging.Logger("websockets", logging.CRITICAL + 1)  # noqa: LOG001  # nobody hears it

# So much of what a WebSocket brought is looked at before anyone asks whether it is too much: empty
# frames have 6 bytes and cost 10 µs each.
_PIECE_BYTES = 16 * 1024
_STRANGERS_PIECE_BYTES = 1024

Peer = tuple[str, int]
"""Address and port of the other end."""


class Receiver(Protocol):
    """Who is served by a stream: a connection."""

    def received(self, data: bytes) -> None:
        """Take bytes, in order."""
        ...

    def framed(self, frames: int) -> None:
        """Learn that the layer below MQTT took frames, and perhaps answered; `received` follows."""
        ...

    def failed(self, error: ConnectionClosedError) -> None:
        """Learn that the peer broke the rules of the layer below MQTT."""
        ...

    def ended(self) -> None:
        """Learn that the peer will send no more."""
        ...

    def lost(self, error: Exception | None) -> None:
        """Learn that the socket is closed; the last call."""
        ...


class Socket(asyncio.Protocol):
    """One accepted TCP or TLS socket, as asyncio drives it.

    Attributes:
        peer: Address and port of the other end.
        accepted_at: When the system gave it to us, in the event loop's time.
        on_admit: Called once the client is authenticated.
        transport: What is written to.
        tcp: What is below TLS; the same as `transport` without TLS.
    """

    def __init__(
        self, peer: Peer, accepted_at: float, on_admit: Callable[[], None], *, tls: bool
    ) -> None:
        """Take what is known; with `tls` nothing is read before `secured`."""
        self.peer = peer
        self.accepted_at = accepted_at
        self.on_admit = on_admit
        self._tls = tls
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        self._ended = False
        self._lost: tuple[Exception | None] | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.tcp: asyncio.Transport = self.transport

    @property
    def is_lost(self) -> bool:
        """Whether the socket is closed already."""
        return self._lost is not None

    def secured(self, transport: asyncio.Transport) -> None:
        """Speak through TLS from now on."""
        self.transport = transport

    def start(self, receiver: Receiver) -> None:
        """Push to the receiver from now on, first what came before."""
        self._receiver = receiver
        early, self._early = self._early, []
        for data in early:
            receiver.received(data)
        if self._ended:
            receiver.ended()
        if self._lost is not None:
            receiver.lost(self._lost[0])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio's call."""
        self.transport = self.tcp = cast("asyncio.Transport", transport)
        if self._tls:
            self.transport.pause_reading()  # the first byte is TLS's
        connected = transport.get_extra_info("socket")
        if connected is not None:
            # Small packets must not wait for each other (Nagle). asyncio sees to it too.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; asyncio's call."""
        if self._receiver is not None:
            self._receiver.received(data)
        else:
            self._early.append(data)

    def eof_received(self) -> bool:
        """Pass the end on; asyncio's call. The receiver closes the socket when it is ready."""
        self._ended = True
        if self._receiver is not None:
            self._receiver.ended()
        return not self._tls  # TLS cannot be closed on one side alone

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end of all on; asyncio's call."""
        self._lost = (exc,)
        if self._receiver is not None:
            self._receiver.lost(exc)


class StreamReader(ReaderAdapter):
    """What a connection reads from: TCP or TLS."""

    def __init__(self, connected: Socket) -> None:
        """Take the socket."""
        self._socket = connected

    @property
    def accepted_at(self) -> float:
        """When the socket was accepted, in the event loop's time."""
        return self._socket.accepted_at

    def start(self, receiver: Receiver) -> None:
        """Push to the receiver from now on. Called once."""
        self._socket.start(receiver)

    def admit(self) -> None:
        """Learn that the client is authenticated, and may do more than a stranger. Called once."""
        self._socket.on_admit()

    def pause(self) -> None:
        """Leave what the peer sends in the socket, so that the peer has to wait. Idempotent."""
        self._socket.transport.pause_reading()

    def resume(self) -> None:
        """Go on after `pause`. Idempotent."""
        self._socket.transport.resume_reading()

    @property
    def held_bytes(self) -> int:
        """Measure what is kept of frames below MQTT that have not come whole."""
        return 0

    async def read(self, n: int = -1) -> bytes:
        """Refuse: bytes are pushed, and no exact count is ever waited for."""
        raise NotImplementedError(f"use start, not read({n})")

    def feed_eof(self) -> None:
        """Do nothing: the socket itself tells of its end. Part of amqtt's interface."""


class StreamWriter(WriterAdapter):
    """What a connection writes to: TCP or TLS."""

    def __init__(self, connected: Socket) -> None:
        """Take the socket."""
        self._transport = connected.transport
        self._tcp = connected.tcp
        self._peer = connected.peer

    def write(self, data: bytes) -> None:
        """Send, or keep in memory what the peer does not take yet; never waits. Void if closing."""
        transport = self._transport
        if not transport.is_closing():
            transport.write(data)

    def pending_bytes(self) -> int:
        """Return how much waits for the peer to read."""
        pending = self._transport.get_write_buffer_size()
        if self._tcp is not self._transport:
            pending += self._tcp.get_write_buffer_size()
        return pending

    def finish(self) -> None:
        """Close once everything is sent. Idempotent."""
        if not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Close now; what waits is lost. Idempotent."""
        self._tcp.abort()

    def peer(self) -> str:
        """Name the other end, for the log."""
        return f"{self._peer[0]}:{self._peer[1]}"

    def get_peer_info(self) -> tuple[str, int] | None:
        """Return address and port. Part of amqtt's interface."""
        return self._peer

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """Return the TLS side of the connection, None without TLS."""
        return cast("ssl.SSLObject | None", self._transport.get_extra_info("ssl_object"))

    async def drain(self) -> None:
        """Do nothing: who leaves too much unread is disconnected. Part of amqtt's interface."""

    async def close(self) -> None:
        """Close once everything is sent. Part of amqtt's interface."""
        self.finish()


class WebSocketReader(StreamReader):
    """Reads the binary frames of a WebSocket, answering handshake, pings and closing by itself.

    The protocol is websockets' sans-I/O one, so that deadline, limits and closing are the same as
    for TCP, down to the socket.
    """

    def __init__(self, connected: Socket, writer: "WebSocketWriter", limits: Limits) -> None:
        """Wait for the HTTP request of the handshake."""
        super().__init__(connected)
        self._limits = limits
        self._is_admitted = False
        self._unadmitted_bytes = 0
        self._unadmitted_frames = 0
        self._rest = bytearray()
        self._is_paused = False
        self._has_ended = False
        self._protocol = writer.protocol = ServerProtocol(
            subprotocols=[Subprotocol("mqtt")],
            max_size=limits.packet_bytes,
            logger=_SILENT,
        )
        self._writer = writer
        self._receiver: Receiver = cast("Receiver", None)

    def start(self, receiver: Receiver) -> None:
        """Push the payloads of frames to the receiver from now on. Called once."""
        self._receiver = receiver
        super().start(self)

    def admit(self) -> None:
        """Learn that the client is authenticated, and may send larger frames. Called once."""
        super().admit()
        self._is_admitted = True

    @property
    def held_bytes(self) -> int:
        """Measure what is kept of frames that have not come whole, or wait for `resume`."""
        return len(self._rest) + len(self._protocol.reader.buffer)

    def pause(self) -> None:
        """Look at no more of what came, and read no more, until `resume`. Idempotent."""
        self._is_paused = True
        super().pause()

    def resume(self) -> None:
        """Go on after `pause`, first with what came before. Idempotent."""
        self._is_paused = False
        self._go_on()
        if not self._is_paused:
            super().resume()

    def received(self, data: bytes) -> None:
        """Take bytes of the WebSocket protocol; the socket's call."""
        self._rest += data
        self._go_on()

    def _go_on(self) -> None:
        while self._rest and not self._is_paused and not self._writer.is_over:
            size = _PIECE_BYTES if self._is_admitted else _STRANGERS_PIECE_BYTES
            piece = bytes(self._rest[:size])
            del self._rest[:size]
            self._take_piece(piece)
        if self._has_ended and not self._rest:
            self._receiver.ended()

    def _take_piece(self, data: bytes) -> None:
        try:
            self._protocol.receive_data(data)
            events = self._protocol.events_received()
            payload = b"".join([self._take(event) for event in events])
        except ConnectionClosedError as error:
            self._writer.send_pending()
            self._receiver.failed(error)
            return
        except Exception as error:  # some bytes make the library stumble over itself
            self._receiver.failed(ProtocolError(f"a WebSocket that cannot go on: {error!r}"))
            return
        self._writer.send_pending()
        self._receiver.framed(len(events))
        if events:
            self._receiver.received(payload)
        if not self._is_admitted and self._protocol.state <= OPEN:
            self._limit_stranger(len(data), len(events))
        if broken := self._protocol.parser_exc:
            detail = f"a WebSocket that cannot go on: {broken}"
            self._receiver.failed(
                ConnectionClosedError(CloseReason.PACKET_TOO_LARGE, detail)
                if isinstance(broken, PayloadTooBig)
                else ProtocolError(detail)
            )
        elif self._protocol.state > OPEN:
            self._receiver.ended()

    def _limit_stranger(self, received_bytes: int, frames: int) -> None:
        """Bound what is taken before CONNECT: the library takes a MiB, of header lines alone."""
        self._unadmitted_bytes += received_bytes
        self._unadmitted_frames += frames
        limits = self._limits
        most = limits.connect_packet_bytes
        if self._protocol.state is CONNECTING:
            most = limits.handshake_bytes
        if self._unadmitted_bytes > most:
            self._receiver.failed(
                ConnectionClosedError(
                    CloseReason.PACKET_TOO_LARGE, f"more than {most} bytes and no CONNECT in them"
                )
            )
        elif self._unadmitted_frames > limits.connect_frames:
            self._receiver.failed(
                ConnectionClosedError(
                    CloseReason.TOO_MUCH,
                    f"more than {limits.connect_frames} frames and no CONNECT in them",
                )
            )

    def _take(self, event: Any) -> bytes:
        if isinstance(event, Request):
            response = self._protocol.accept(event)
            self._protocol.send_response(response)
            if response.status_code != 101:
                raise ProtocolError(f"a WebSocket handshake answered with {response.status_code}")
            return b""
        frame = cast("Frame", event)
        if frame.opcode is Opcode.TEXT:
            raise ProtocolError("a WebSocket text frame [6.0.0-1]")
        if frame.opcode in (Opcode.BINARY, Opcode.CONT):
            return bytes(frame.data)
        return b""

    def failed(self, error: ConnectionClosedError) -> None:
        """Pass on; there is no layer below that could fail."""
        self._receiver.failed(error)

    def framed(self, frames: int) -> None:
        """Do nothing; there is no layer below that has frames."""

    def ended(self) -> None:
        """Pass the end on, behind what came before it; the socket's call."""
        self._has_ended = True
        if not self._rest:
            self._receiver.ended()

    def lost(self, error: Exception | None) -> None:
        """Pass the end of all on; the socket's call."""
        self._receiver.lost(error)


class WebSocketWriter(StreamWriter):
    """Writes MQTT as binary frames, one for each piece.

    Attributes:
        protocol: What makes them.
        is_over: Whether the connection was closed from here; what comes now is of no interest.
    """

    protocol: ServerProtocol
    is_over = False

    def write(self, data: bytes) -> None:
        """Send, or keep in memory what the peer does not take yet; never waits. Void if closing."""
        if self.protocol.state is OPEN:
            self.protocol.send_binary(data)
            self.send_pending()

    def send_pending(self) -> None:
        """Write what the WebSocket protocol has to say."""
        for data in self.protocol.data_to_send():
            if data:
                super().write(data)

    def finish(self) -> None:
        """Say so in WebSocket's way, and close once everything is sent. Idempotent."""
        self.is_over = True
        if self.protocol.state is OPEN:
            # The peer may have been faster, with a close that is none even: closing the socket is
            # enough then.
            with contextlib.suppress(WebSocketException, AssertionError):
                self.protocol.send_close()
            self.send_pending()
        super().finish()

    def abort(self) -> None:
        """Close now; what waits is lost. Idempotent."""
        self.is_over = True
        super().abort()
