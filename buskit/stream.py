"""A connection that never blocks: TCP, TLS in it and WebSocket in that, as paho expects a socket.

Owns the descriptor, the bytes on their way in both directions, and how a connection comes about.
Must not know MQTT, nor how TLS and WebSocket do what they do: both are bytes in, bytes out.

Invariants:
- No call waits. What cannot be done now raises BlockingIOError, as with any non-blocking socket.
- One system call reads or writes as much as there is, whatever the pieces paho asks for; one frame
  and as few TLS records as possible hold it.
- Nothing goes into a layer before the one around it is open.
- `close` only marks the end. The descriptor is closed by `release`, when the loop has let go of it;
  otherwise its number could come back as another connection's while the loop still watches it.
"""

import contextlib
import os
import socket
from typing import Any

from buskit.errors import KitError
from buskit.tls import TlsClient
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
        tls: TlsClient | None = None,
        websocket: WebSocketClient | None = None,
        receive_limit_bytes: int,
    ) -> None:
        """Begin to connect.

        Args:
            family: The address family, as `getaddrinfo` says it.
            address: The socket address.
            tls: The encryption of all that follows, or None for plain text.
            websocket: The WebSocket to open in it, or None for MQTT without one.
            receive_limit_bytes: The longest packet that is taken in.

        Raises:
            OSError: It failed at once.
        """
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._tls = tls
        self._websocket = websocket
        self._limit = receive_limit_bytes
        self._incoming = bytearray() if websocket is None else websocket.received
        self._plain = bytearray()
        self._outgoing = bytearray()
        self._ended = False
        self._tcp_done = False
        self._inside = False
        self._finishing = False
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
            KitError: The peer cannot be trusted, or does not accept the WebSocket.
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
            self._go_inside()
            self.flush()
        return self.ready

    def _connected(self) -> None:
        self._tcp_done = True
        if self._tls is not None:
            self._tls.begin()
            self._outgoing += self._tls.leaving()
        self._go_inside()

    def _go_inside(self) -> None:
        """Go on to the next layer, if the one around it is open."""
        websocket = self._websocket
        if self._tls is None or self._tls.is_open:
            if websocket is not None and not self._inside:
                self._put(websocket.request())
            self._inside = True
            self.ready = websocket is None or websocket.is_open
        if self._ended and not (self.ready and self._incoming):
            reason = "the peer closed the connection during the handshake"
            raise ConnectionAbortedError(self.trouble or reason)

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
            KitError: Nothing can be encrypted any more.
        """
        self._seal()
        while self._outgoing:
            try:
                with memoryview(self._outgoing) as view:
                    count = self._socket.send(view[:_HIGH_WATER_BYTES])
            except BlockingIOError:
                return
            except OSError as error:
                last = self._last_words() or self._silence()
                self.trouble = last or error.strerror or str(error)
                raise ConnectionAbortedError(self.trouble) from error
            del self._outgoing[:count]
            self.written_bytes += count

    def _seal(self) -> None:
        """Make everything that was sent since the last time into one frame, and encrypt it."""
        if self._plain:
            if self._websocket is not None:
                self._put(self._websocket.frame(self._plain, mask=os.urandom(4)))
            else:
                self._put(self._plain)
            self._plain.clear()

    def _put(self, data: bytes | bytearray) -> None:
        """Let `data` out, encrypted where it has to be."""
        if self._tls is None:
            self._outgoing += data
        else:
            self._tls.send(data)
            self._outgoing += self._tls.leaving()

    def _fill(self) -> None:
        """Read what the kernel has, at most one chunk."""
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.trouble = self._silence() or error.strerror or str(error)
            raise ConnectionAbortedError(self.trouble) from error
        if not data:
            self._ended = True
            self.trouble = self._silence()
        elif self._tls is None:
            self._take(data)
        else:
            self._decrypt(self._tls, data)

    def _decrypt(self, tls: TlsClient, data: bytes) -> None:
        try:
            tls.receive(data)
        except KitError as error:
            self.trouble = str(error)
            self._complain(tls.leaving())
            raise
        self._outgoing += tls.leaving()
        self._ended = tls.ended
        if tls.ended:
            self.trouble = tls.silence()
        if tls.received:
            self._take(tls.received)
            tls.received.clear()

    def _take(self, data: bytes | bytearray) -> None:
        """Take in what has arrived, in plain text."""
        if self._websocket is None:
            self._incoming += data
            return
        self._websocket.receive(bytes(data), mask=os.urandom(4))
        if self._websocket.replies:
            self._seal()
            self._put(self._websocket.replies)
            self._websocket.replies.clear()

    def _silence(self) -> str:
        return "" if self._tls is None else self._tls.silence()

    def _complain(self, alert: bytes) -> None:
        """Tell the peer what we do not like, so that it stands in its log; as far as it goes."""
        with contextlib.suppress(OSError):
            if not self._outgoing:
                self._socket.send(alert)

    def _last_words(self) -> str:
        """Return what the peer said when it closed the connection, if it did; "" otherwise.

        A peer that refuses our certificate says so and closes. By then we may be writing already,
        and the system tells of the close first.
        """
        if self._tls is None or self._ended:
            return ""
        try:
            while data := self._socket.recv(_CHUNK_BYTES):
                self._tls.receive(data)
                self._tls.received.clear()
        except KitError as error:
            return str(error)
        except OSError:
            pass
        return ""

    def finish_writing(self) -> None:
        """Tell the peer that nothing more will come; what it sends can still be read.

        While `wants_write` is true afterwards, not all of it is said: call it again when there is
        room. Idempotent.
        """
        if self._tls is not None and not self._finishing:
            self._finishing = True
            self._seal()
            self._tls.close()
            self._outgoing += self._tls.leaving()
        self.flush()
        if not self._outgoing:
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
            KitError: What arrives breaks the rules of TLS or WebSocket.
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
        """Return how many bytes can be had without the descriptor becoming readable.

        The end counts as one: with TLS it can be there while the system knows of none.
        """
        return len(self._incoming) or int(self._ended)

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
        direct = self._websocket is None and self._tls is None
        (self._outgoing if direct else self._plain).extend(buffer)
        return len(buffer)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        """Do nothing: it never blocks anyhow. Part of what paho expects."""

    def close(self) -> None:
        """Mark the end; `release` closes the descriptor."""
        self.closed = True
