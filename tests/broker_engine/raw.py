"""A tiny MQTT 3.1.1 client that does exactly what it is told, byte by byte.

It shares no code with the broker, so that a mistake in one is not excused by the other.
"""

import socket
import ssl
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from tests.helpers.waiting import TIME_SCALE

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, PINGRESP = 9, 11, 13


def text(value: str | bytes) -> bytes:
    """Encode a field with its length."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(data)) + data


def packet(first: int, body: bytes = b"") -> bytes:
    """Put a fixed header before a body."""
    length = len(body)
    header = bytearray([first])
    while True:
        length, low = divmod(length, 128)
        header.append(low | (128 if length else 0))
        if not length:
            return bytes(header) + body


def connect_packet(
    client_id: str = "",
    *,
    clean: bool = True,
    keepalive: int = 0,
    will: tuple[str, bytes, int, bool] | None = None,
    username: str | None = None,
    password: bytes | None = None,
    protocol: bytes = b"MQTT",
    level: int = 4,
    flags: int | None = None,
) -> bytes:
    """Build a CONNECT; `will` is (topic, payload, QoS, retain), `flags` overrides what follows."""
    bits = 0x02 if clean else 0
    payload = text(client_id)
    if will:
        topic, message, qos, retain = will
        bits |= 0x04 | qos << 3 | (0x20 if retain else 0)
        payload += text(topic) + text(message)
    if username is not None:
        bits |= 0x80
        payload += text(username)
    if password is not None:
        bits |= 0x40
        payload += text(password)
    head = text(protocol) + bytes([level, bits if flags is None else flags])
    return packet(0x10, head + struct.pack("!H", keepalive) + payload)


def publish_packet(
    topic: str | bytes,
    payload: bytes = b"",
    qos: int = 0,
    *,
    packet_id: int = 1,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """Build a PUBLISH."""
    body = text(topic) + (struct.pack("!H", packet_id) if qos else b"") + payload
    return packet(0x30 | dup << 3 | qos << 1 | retain, body)


def subscribe_packet(*wanted: tuple[str, int], packet_id: int = 1) -> bytes:
    """Build a SUBSCRIBE."""
    body = b"".join(text(name) + bytes([qos]) for name, qos in wanted)
    return packet(0x82, struct.pack("!H", packet_id) + body)


@dataclass(frozen=True)
class Packet:
    """One packet from the broker."""

    kind: int
    flags: int
    body: bytes

    @property
    def packet_id(self) -> int:
        """The packet identifier of everything but PUBLISH."""
        return int.from_bytes(self.body[:2], "big")


@dataclass(frozen=True)
class Message:
    """One PUBLISH from the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int


def _message(got: Packet) -> Message:
    end = 2 + int.from_bytes(got.body[:2], "big")
    qos = got.flags >> 1 & 3
    packet_id = int.from_bytes(got.body[end : end + 2], "big") if qos else 0
    return Message(
        topic=got.body[2:end].decode(),
        payload=got.body[end + 2 :] if qos else got.body[end:],
        qos=qos,
        retain=bool(got.flags & 1),
        dup=bool(got.flags & 8),
        packet_id=packet_id,
    )


class ClosedError(Exception):
    """The broker closed the connection."""


class Client:
    """A socket with MQTT on it; a context manager that closes it without DISCONNECT."""

    def __init__(
        self,
        port: int,
        *,
        receive_buffer_bytes: int | None = None,
        tls: ssl.SSLContext | None = None,
        source: str | None = None,
    ) -> None:
        """Connect the socket, from an address of one's own maybe; nothing is said yet."""
        self.socket = socket.socket()
        if source is not None:
            self.socket.bind((source, 0))
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(10 * TIME_SCALE)
        try:
            self.socket.connect(("127.0.0.1", port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        except BaseException:
            self.socket.close()
            raise
        self._received = b""
        self._aside: list[Packet] = []
        self._last_packet_id = 0

    def __enter__(self) -> Self:
        """Nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the socket, which is not a DISCONNECT."""
        self.socket.close()

    def cut(self) -> None:
        """Close the socket with a reset, as a crash does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *data: bytes) -> None:
        """Send all at once."""
        self.socket.sendall(b"".join(data))

    def disconnect(self) -> None:
        """Say DISCONNECT and close."""
        self.send(b"\xe0\x00")
        self.close()

    def read(self, seconds: float = 5.0) -> Packet:
        """Read the next packet.

        Raises:
            TimeoutError: When there is none in time.
            ClosedError: When there will be none.
        """
        if self._aside:
            return self._aside.pop(0)
        return self._read(seconds)

    def _read(self, seconds: float = 5.0) -> Packet:
        deadline = time.monotonic() + seconds * TIME_SCALE
        while True:
            cut = self._cut()
            if cut is not None:
                return cut
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.socket.recv(262_144)
            except (ConnectionError, ssl.SSLEOFError) as error:
                raise ClosedError from error
            if not data:
                raise ClosedError
            self._received += data

    def _cut(self) -> Packet | None:
        data = self._received
        length = shift = 0
        for position in range(1, len(data)):
            length |= (data[position] & 127) << shift
            shift += 7
            if data[position] < 128:
                end = position + 1 + length
                if end > len(data):
                    return None
                self._received = data[end:]
                return Packet(data[0] >> 4, data[0] & 15, data[position + 1 : end])
        return None

    def expect(self, kind: int, seconds: float = 5.0) -> Packet:
        """Read the next packet, which must be of that kind."""
        got = self.read(seconds)
        assert got.kind == kind, f"expected packet type {kind}, got {got}"
        return got

    def expect_closed(self, seconds: float = 5.0) -> list[Packet]:
        """Read until the broker has closed the connection; return what it said before."""
        said = []
        try:
            while True:
                said.append(self.read(seconds))
        except ClosedError:
            return said
        except TimeoutError:
            raise AssertionError(f"the connection is still open after {seconds} s") from None

    def connect(self, client_id: str = "", **options: object) -> tuple[int, bool]:
        """Say CONNECT (see `connect_packet`); return return code and session present."""
        self.send(connect_packet(client_id, **options))  # type: ignore[arg-type]
        flags, code = self.expect(CONNACK).body
        return code, bool(flags)

    def subscribe(self, *wanted: tuple[str, int] | str, seconds: float = 5.0) -> list[int]:
        """Subscribe, at QoS 0 where only a filter is given; return the codes of the SUBACK."""
        pairs = [(w, 0) if isinstance(w, str) else w for w in wanted]
        self.send(subscribe_packet(*pairs, packet_id=self._packet_id()))
        return list(self.expect(SUBACK, seconds).body[2:])

    def unsubscribe(self, *filters: str) -> None:
        """Unsubscribe and wait for UNSUBACK."""
        body = struct.pack("!H", self._packet_id()) + b"".join(map(text, filters))
        self.send(packet(0xA2, body))
        self.expect(UNSUBACK)

    def _packet_id(self) -> int:
        self._last_packet_id = self._last_packet_id % 65535 + 1
        return self._last_packet_id

    def publish(
        self, topic: str, payload: bytes = b"", qos: int = 0, *, retain: bool = False
    ) -> None:
        """Publish, and at QoS 1 or 2 do what belongs to it to the end."""
        number = self._packet_id()
        self.send(publish_packet(topic, payload, qos, packet_id=number, retain=retain))
        if qos == 1:
            assert self.expect(PUBACK).packet_id == number
        elif qos == 2:
            assert self.expect(PUBREC).packet_id == number
            self.send(packet(0x62, struct.pack("!H", number)))
            assert self.expect(PUBCOMP).packet_id == number

    def message(self, seconds: float = 5.0, *, acknowledge: bool = True) -> Message:
        """Read the next packet, a PUBLISH, and acknowledge it as its QoS demands."""
        got = _message(self.expect(PUBLISH, seconds))
        if acknowledge:
            self.acknowledge([got])
        return got

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Do what the QoS of received messages demands, to the end."""
        for got in messages:
            number = struct.pack("!H", got.packet_id)
            if got.qos == 1:
                self.send(packet(0x40, number))
            elif got.qos == 2:
                self.send(packet(0x50, number))
                while (answer := self._read()).kind != PUBREL:
                    self._aside.append(answer)  # other messages may come before
                assert answer.packet_id == got.packet_id
                self.send(packet(0x70, number))

    def messages(
        self, count: int, seconds: float = 5.0, *, acknowledge: bool = True
    ) -> list[Message]:
        """Read that many messages, or as many as come in time."""
        deadline = time.monotonic() + seconds * TIME_SCALE
        found: list[Message] = []
        while len(found) < count:
            try:
                left = max(0.001, (deadline - time.monotonic()) / TIME_SCALE)
                found.append(self.message(left, acknowledge=acknowledge))
            except (TimeoutError, ClosedError):
                break
        return found

    def messages_so_far(self) -> list[Message]:
        """Return what was routed to this client before now, not acknowledging it.

        The broker answers a PINGREQ behind everything that it has already sent.
        """
        self.send(b"\xc0\x00")
        found = []
        while (got := self.read()).kind != PINGRESP:
            if got.kind == PUBLISH:
                found.append(_message(got))
        return found

    def is_served(self) -> bool:
        """Tell whether the broker still answers."""
        try:
            return self.messages_so_far() is not None
        except (ClosedError, TimeoutError, OSError):
            return False
