"""The client's side of WebSocket (RFC 6455), as far as MQTT needs it: bytes in, bytes out.

Owns the opening handshake and the frames. Knows no socket, clock or randomness, and no MQTT.

Invariants:
- What the peer says is bounded before it is kept: the answer to the handshake, control frames.
- Control frames are answered between frames of ours, never inside one.
- Only binary messages carry MQTT (MQTT 3.1.1, section 6: MQTT-6.0.0-1); anything else is an error.
"""

import base64
import hashlib

from buskit.errors import KitError

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_MOST_ANSWER_BYTES = 16 * 1024
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA


class WebSocketError(KitError):
    """The peer does not speak WebSocket, does not want to, or has closed the connection."""


class WebSocketClient:
    """One connection. Send `request()`, pass on all that arrives, send all of `replies`.

    Attributes:
        is_open: Whether the peer has accepted; nothing may be sent before.
        received: Payload that has arrived and was not taken yet; the caller takes from its front.
        replies: Bytes that are owed to the peer; the caller sends and clears them.
    """

    def __init__(self, *, host: str, path: str, key: bytes) -> None:
        """Prepare a connection.

        Args:
            host: What stands in the Host header: the name and, if unusual, the port.
            path: The path and query of the address.
            key: 16 random bytes.
        """
        self._host = host
        self._path = path
        self._key = base64.b64encode(key)
        self._buffer = bytearray()
        self._payload_left = 0
        self._in_message = False
        self.is_open = False
        self.received = bytearray()
        self.replies = bytearray()

    def request(self) -> bytes:
        """Return what opens the connection."""
        return (
            f"GET {self._path} HTTP/1.1\r\n"
            f"Host: {self._host}\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {self._key.decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: mqtt\r\n"
            "\r\n"
        ).encode()

    def receive(self, data: bytes, *, mask: bytes) -> None:
        """Take in what has arrived.

        Args:
            data: Any piece of the stream.
            mask: Four random bytes, for the replies.

        Raises:
            WebSocketError: The peer refused, broke the rules or closed. The connection is over.
        """
        self._buffer += data
        if not self.is_open:
            self._read_answer()
        while self.is_open and self._read_frame(mask):
            pass

    def frame(self, payload: bytes | bytearray, *, mask: bytes) -> bytes:
        """Return one binary message; `mask` is four random bytes, new for each frame."""
        return _frame(_BINARY, payload, mask)

    def _read_answer(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MOST_ANSWER_BYTES:
                raise WebSocketError("the answer to the WebSocket request does not end")
            return
        status, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        words = status.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or words[1] != "101":
            raise WebSocketError(
                f"the WebSocket request was answered with {status[:200]!r}",
                hint="check the path of the address",
            )
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        accept = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest())
        if (
            headers.get("upgrade", "").lower() != "websocket"
            or "upgrade" not in headers.get("connection", "").lower()
            or headers.get("sec-websocket-accept") != accept.decode()
            or headers.get("sec-websocket-protocol", "mqtt").lower() != "mqtt"
        ):
            raise WebSocketError("the peer answered, but not as a WebSocket server for MQTT does")
        self.is_open = True

    def _read_frame(self, mask: bytes) -> bool:
        """Move on by one step; return whether another one may be possible."""
        if self._payload_left:
            piece = self._buffer[: self._payload_left]
            del self._buffer[: len(piece)]
            self.received += piece
            self._payload_left -= len(piece)
            return bool(piece)
        if len(self._buffer) < 2:
            return False
        first, second = self._buffer[0], self._buffer[1]
        if first & 0x70 or second & 0x80:
            raise WebSocketError("the peer sent a WebSocket frame that no server may send")
        head, length = 2, second & 0x7F
        if length > 125:
            head = 4 if length == 126 else 10
            if len(self._buffer) < head:
                return False
            length = int.from_bytes(self._buffer[2:head], "big")
        if first & 0x08:
            return self._read_control(first, length, mask)
        if (first & 0x0F) != (_CONTINUATION if self._in_message else _BINARY):
            raise WebSocketError("the peer sent a WebSocket message that is not binary")
        del self._buffer[:head]
        self._in_message = not first & 0x80
        self._payload_left = length
        return True

    def _read_control(self, first: int, length: int, mask: bytes) -> bool:
        if length > 125 or not first & 0x80:
            raise WebSocketError("the peer sent a WebSocket control frame that is too long")
        if len(self._buffer) < 2 + length:
            return False
        payload = bytes(self._buffer[2 : 2 + length])
        del self._buffer[: 2 + length]
        opcode = first & 0x0F
        if opcode == _PING:
            self.replies += _frame(_PONG, payload, mask)
        elif opcode == _CLOSE:
            code = int.from_bytes(payload[:2], "big")
            why = payload[2:].decode("utf-8", "backslashreplace")
            raise WebSocketError(f"the peer closed the WebSocket ({code} {why})".replace(" )", ")"))
        elif opcode != _PONG:
            raise WebSocketError("the peer sent an unknown WebSocket control frame")
        return True


def _frame(opcode: int, payload: bytes | bytearray, mask: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65536:
        head = bytes((0x80 | opcode, 0xFE)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + length.to_bytes(8, "big")
    # One operation on two long numbers instead of a loop over bytes.
    pattern = (mask * (length // 4 + 1))[:length]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")
    return head + mask + masked.to_bytes(length, "big")
