"""A client's byte stream, over TCP or over WebSocket, as amqtt's adapters with what they lack.

Owns reading in pieces as they come (amqtt's adapters wait for exact counts), knowing how much a
slow peer leaves unread, and cutting a connection at once. It must know nothing of MQTT but that
WebSocket carries it as the subprotocol `mqtt` in binary frames (section 6 of the standard).
"""

import asyncio
import ssl
from typing import Any, Protocol, cast

from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter, WriterAdapter
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from broker.errors import CloseReason, ConnectionClosedError, ProtocolError

_PIECE_BYTES = 64 * 1024


class ByteReader(Protocol):
    """What a connection reads from."""

    async def read_some(self) -> bytes:
        """Wait for bytes and return what is there; empty at the end of the stream."""
        ...


class ByteWriter(Protocol):
    """What a connection writes to."""

    def write(self, data: bytes) -> None:
        """Send, or keep in memory what the peer does not take yet; never waits."""
        ...

    def pending_bytes(self) -> int:
        """Return how much waits for the peer to read."""
        ...

    async def drain(self) -> None:
        """Wait until the peer has read most of it."""
        ...

    def finish(self) -> None:
        """Close once everything is sent."""
        ...

    def abort(self) -> None:
        """Close now; what waits is lost. Idempotent."""
        ...

    async def wait_closed(self) -> None:
        """Wait until the socket is gone."""
        ...

    def peer(self) -> str:
        """Name the other end, for the log."""
        ...

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """Return the TLS side of the connection."""
        ...


class SocketReader(StreamReaderAdapter):
    """Reads a TCP or TLS stream; asyncio stops reading the socket while we do not read here."""

    def __init__(self, reader: asyncio.StreamReader, *, max_read_bytes: int) -> None:
        """Take the stream and the most that amqtt's own exact `read` may ask for."""
        super().__init__(reader)
        self._stream = reader
        self._max_read_bytes = max_read_bytes

    async def read_some(self) -> bytes:
        """Wait for bytes and return what is there; empty at the end of the stream."""
        return await self._stream.read(_PIECE_BYTES)

    async def read(self, n: int = -1) -> bytes:
        """Read exactly `n` bytes, if that is within the limit.

        amqtt asks for a payload of announced length in one read, so the limit must hold here too,
        whichever way a connection is read.
        """
        if n > self._max_read_bytes:
            raise ConnectionClosedError(CloseReason.PACKET_TOO_LARGE, f"{n} bytes are announced")
        return cast("bytes", await super().read(n))


class SocketWriter(StreamWriterAdapter):
    """Writes a TCP or TLS stream."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        """Take the stream."""
        super().__init__(writer)
        self._stream = writer
        self._transport = writer.transport

    def write(self, data: bytes) -> None:
        """Send, or keep in memory what the peer does not take yet; void once closing."""
        transport = self._transport
        if not transport.is_closing():
            transport.write(data)

    def pending_bytes(self) -> int:
        """Return how much waits for the peer to read."""
        return self._transport.get_write_buffer_size()

    def finish(self) -> None:
        """Close once everything is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close now; what waits is lost. Idempotent."""
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is gone."""
        await self._stream.wait_closed()

    def peer(self) -> str:
        """Name the other end, for the log."""
        address = self._transport.get_extra_info("peername")
        return f"{address[0]}:{address[1]}" if address else "a peer that is gone"


class WebSocketReader(ReaderAdapter):
    """Reads the binary frames of a WebSocket, answering handshake, pings and closing by itself.

    The protocol is websockets' sans-I/O one, so that deadline, limits and back-pressure are the
    same as for TCP, down to the socket.
    """

    def __init__(self, reader: SocketReader, writer: SocketWriter, *, max_frame_bytes: int) -> None:
        """Wait for the HTTP request of the handshake."""
        self.protocol = ServerProtocol(subprotocols=[Subprotocol("mqtt")], max_size=max_frame_bytes)
        self._reader = reader
        self._writer = writer
        self._is_text = False

    async def read_some(self) -> bytes:
        """Wait for bytes of MQTT and return what is there; empty at the end of the stream."""
        while True:
            if error := self.protocol.parser_exc:
                raise ProtocolError(f"a WebSocket that cannot go on: {error}")
            data = await self._reader.read_some()
            if data:
                self.protocol.receive_data(data)
            else:
                self.protocol.receive_eof()
            collected = [self._take(event) for event in self.protocol.events_received()]
            self.send_pending()
            if received := b"".join(collected):
                return received
            if not data or (self.protocol.state > OPEN and not self.protocol.parser_exc):
                return b""

    def _take(self, event: Any) -> bytes:
        if isinstance(event, Request):
            response = self.protocol.accept(event)
            self.protocol.send_response(response)
            if response.status_code != 101:
                self.send_pending()
                raise ProtocolError(f"a WebSocket handshake answered with {response.status_code}")
            return b""
        frame = cast("Frame", event)
        if frame.opcode is Opcode.TEXT:
            raise ProtocolError("a WebSocket text frame [6.0.0-1]")
        if frame.opcode in (Opcode.BINARY, Opcode.CONT):
            return bytes(frame.data)
        return b""

    def send_pending(self) -> None:
        """Write what the WebSocket protocol has to say."""
        for data in self.protocol.data_to_send():
            if data:
                self._writer.write(data)

    async def read(self, n: int = -1) -> bytes:
        """Refuse: amqtt's exact reads are not used on this path."""
        raise NotImplementedError(f"use read_some, not read({n})")

    def feed_eof(self) -> None:
        """End the stream, as amqtt's interface asks for."""
        self._reader.feed_eof()


class WebSocketWriter(WriterAdapter):
    """Writes MQTT as binary frames."""

    def __init__(self, writer: SocketWriter, reader: WebSocketReader) -> None:
        """Share the protocol of the reading side."""
        self._writer = writer
        self._reader = reader

    def write(self, data: bytes) -> None:
        """Send, or keep in memory what the peer does not take yet; void once closing."""
        protocol = self._reader.protocol
        if protocol.state is OPEN:
            protocol.send_binary(data)
            self._reader.send_pending()

    def pending_bytes(self) -> int:
        """Return how much waits for the peer to read."""
        return self._writer.pending_bytes()

    async def drain(self) -> None:
        """Wait until the peer has read most of it."""
        await self._writer.drain()

    def finish(self) -> None:
        """Say so in WebSocket's way, and close once everything is sent."""
        protocol = self._reader.protocol
        if protocol.state is OPEN:
            try:
                protocol.send_close()
            except WebSocketException:  # the peer was faster; closing the socket is enough
                pass
            else:
                self._reader.send_pending()
        self._writer.finish()

    def abort(self) -> None:
        """Close now; what waits is lost. Idempotent."""
        self._writer.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is gone."""
        await self._writer.wait_closed()

    def peer(self) -> str:
        """Name the other end, for the log."""
        return self._writer.peer()

    def get_peer_info(self) -> tuple[str, int] | None:
        """Return address and port, as amqtt's interface asks for."""
        return cast("tuple[str, int] | None", self._writer.get_peer_info())

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """Return the TLS side of the connection."""
        return cast("ssl.SSLObject | None", self._writer.get_ssl_info())

    async def close(self) -> None:
        """Close, as amqtt's interface asks for."""
        self.finish()
