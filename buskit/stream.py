"""A connection that never blocks: TCP, and WebSocket over it, shaped like the socket paho expects.

Owns the descriptor, the bytes on their way in both directions, and how a connection comes about.
Must not know MQTT. The place for TLS is between `_connected` and the WebSocket handshake.

Invariants:
- No call waits. What cannot be done now raises BlockingIOError, as with any non-blocking socket.
- One system call reads or writes as much as there is, whatever the pieces paho asks for.
- `close` only marks the end. The descriptor is closed by `release`, when the loop has let go of it;
  otherwise its number could come back as another connection's while the loop still watches it.
"""

import os
import socket
from typing import Any

from buskit.websocket import WebSocketClient

_CHUNK_BYTES = 64 * 1024
_HIGH_WATER_BYTES = 256 * 1024


class Stream:
    """One connection, from the first attempt on.

    Attributes:
        ready: Whether it can carry data.
        closed: Whether someone has closed it; the descriptor may still be open.
        written_bytes: What the kernel has taken so far, with frames and all.
        trouble: What went wrong, in words, where paho would only say that the connection is lost.
    """

    def __init__(
        self,
        family: int,
        address: Any,
        *,
        websocket: WebSocketClient | None = None,
        receive_limit_bytes: int,
    ) -> None:
        """Begin to connect.

        Args:
            family: The address family, as `getaddrinfo` says it.
            address: The socket address.
            websocket: The WebSocket to open over it, or None for plain MQTT.
            receive_limit_bytes: The longest packet that is taken in.

        Raises:
            OSError: It failed at once.
        """
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._websocket = websocket
        self._limit = receive_limit_bytes
        self._incoming = bytearray() if websocket is None else websocket.received
        self._plain = bytearray()
        self._outgoing = bytearray()
        self._ended = False
        self._tcp_done = False
        self.ready = False
        self.closed = False
        self.written_bytes = 0
        self.trouble = ""
        try:
            self._socket.setblocking(False)
            # Small packets must leave at once: waiting for more to join them costs 40 ms each.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            try:
                self._socket.connect(address)
            except BlockingIOError:
                pass
            else:
                self._connected()
        except BaseException:
            self._socket.close()
            raise

    def advance(self) -> bool:
        """Go on with connecting after the descriptor became readable or writable.

        Returns:
            Whether it can carry data now.

        Raises:
            OSError: It could not be connected.
            WebSocketError: The peer does not accept the WebSocket.
        """
        if not self._tcp_done:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            try:
                self._socket.getpeername()
            except OSError:  # woken up, but still on the way
                return False
            self._connected()
        if not self.ready:
            self.flush()
            self._fill()
            self._open_if_accepted()
        return self.ready

    def _connected(self) -> None:
        self._tcp_done = True
        if self._websocket is None:
            self.ready = True
        else:
            self._outgoing += self._websocket.request()

    def _open_if_accepted(self) -> None:
        if self._websocket is not None and self._websocket.is_open:
            self.ready = True
        elif self._ended:
            raise ConnectionAbortedError("the peer closed the connection during the handshake")

    @property
    def wants_write(self) -> bool:
        """Whether the descriptor should be watched for being writable."""
        return not self._tcp_done or bool(self._outgoing or self._plain)

    def position(self) -> int:
        """Return what `written_bytes` will be when everything up to here is with the kernel."""
        self._seal()
        return self.written_bytes + len(self._outgoing)

    def flush(self) -> None:
        """Give the kernel what it will take.

        Raises:
            OSError: The connection is lost.
        """
        self._seal()
        while self._outgoing:
            try:
                with memoryview(self._outgoing) as view:
                    count = self._socket.send(view[:_HIGH_WATER_BYTES])
            except BlockingIOError:
                return
            except OSError as error:
                self.trouble = error.strerror or str(error)
                raise
            del self._outgoing[:count]
            self.written_bytes += count

    def _seal(self) -> None:
        """Make everything that was sent since the last time into one frame."""
        if self._plain and self._websocket is not None:
            self._outgoing += self._websocket.frame(self._plain, mask=os.urandom(4))
            self._plain.clear()

    def _fill(self) -> None:
        """Read what the kernel has, at most one chunk."""
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.trouble = error.strerror or str(error)
            raise
        if not data:
            self._ended = True
        elif self._websocket is None:
            self._incoming += data
        else:
            self._websocket.receive(data, mask=os.urandom(4))
            if self._websocket.replies:
                self._seal()
                self._outgoing += self._websocket.replies
                self._websocket.replies.clear()

    def finish_writing(self) -> None:
        """Tell the peer that nothing more will come; what it sends can still be read."""
        self._socket.shutdown(socket.SHUT_WR)

    def discard(self) -> bool:
        """Throw away what has arrived; return whether the peer has closed its side, too."""
        try:
            for _ in range(100):
                if not self._socket.recv(_CHUNK_BYTES):
                    return True
        except BlockingIOError:
            return False
        return False

    def release(self) -> None:
        """Close the descriptor; idempotent. The loop must not watch it any more."""
        self.closed = True
        self._socket.close()

    # What follows is what paho calls.

    def recv(self, buffer_size: int) -> bytes:
        """Return up to `buffer_size` bytes; b"" when the peer has closed.

        Raises:
            BlockingIOError: Nothing is there now.
            ConnectionAbortedError: More is asked for than the longest packet that is taken in.
        """
        # paho asks for the rest of a packet at once, so this is the packet's size.
        if buffer_size > self._limit:
            self.trouble = f"a packet of {buffer_size} bytes is over the limit"
            raise ConnectionAbortedError(self.trouble)
        if not self._incoming and not self._ended:
            self._fill()
        if not self._incoming:
            if self._ended:
                return b""
            raise BlockingIOError
        data = bytes(self._incoming[:buffer_size])
        del self._incoming[:buffer_size]
        return data

    def pending(self) -> int:
        """Return how many bytes can be had without the descriptor becoming readable."""
        return len(self._incoming)

    def send(self, buffer: bytes | bytearray) -> int:
        """Take all of `buffer`; it leaves with the next `flush`.

        Raises:
            BlockingIOError: Too much is waiting already.
        """
        if self.closed:
            raise ConnectionAbortedError("closed")
        if len(self._outgoing) + len(self._plain) > _HIGH_WATER_BYTES:
            self.flush()
            if len(self._outgoing) > _HIGH_WATER_BYTES:
                raise BlockingIOError
        (self._outgoing if self._websocket is None else self._plain).extend(buffer)
        return len(buffer)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        """Do nothing: it never blocks anyhow. Part of what paho expects."""

    def close(self) -> None:
        """Mark the end; `release` closes the descriptor."""
        self.closed = True
