"""The control packets of MQTT 3.1.1 as bytes: cutting the stream, decoding, encoding.

Pure: bytes in, values out. Every rule on the *form* of a packet is here, and a packet that breaks
one raises `ProtocolError`; what a packet *means* is `broker.connection`'s and `broker.session`'s
business. Numbers in brackets are sections and statements of the OASIS standard.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from broker.errors import CloseReason, ConnectionClosedError, ProtocolError

# First bytes of what a client may send, flags included [2.2.2]; PUBLISH is 0x30 to 0x3F.
CONNECT = 0x10
PUBLISH = 0x30
PUBACK = 0x40
PUBREC = 0x50
PUBREL = 0x62
PUBCOMP = 0x70
SUBSCRIBE = 0x82
UNSUBSCRIBE = 0xA2
PINGREQ = 0xC0
DISCONNECT = 0xE0
_FROM_CLIENTS = frozenset(
    {CONNECT, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT}
    | set(range(PUBLISH, PUBLISH + 16))
)

PINGRESP_PACKET = b"\xd0\x00"

# Return codes of CONNACK [3.2.2.3] and SUBACK [3.9.3].
ACCEPTED = 0
UNACCEPTABLE_PROTOCOL = 1
IDENTIFIER_REJECTED = 2
SERVER_UNAVAILABLE = 3
NOT_AUTHORIZED = 5
SUBSCRIBE_FAILED = 0x80

# Characters that text must not [1.5.3-2] or should not [1.5.3] hold: control characters and what
# Unicode calls non-characters. Closing for the latter is allowed, and what mosquitto does.
_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)


class Framer:
    """Cuts a client's byte stream into packets.

    Attributes:
        max_packet_bytes: The size limit, which may be raised once the client is known.
    """

    def __init__(self, max_packet_bytes: int) -> None:
        """Expect the first packet."""
        self.max_packet_bytes = max_packet_bytes
        self._partial = bytearray()
        self._missing_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Measure what is kept of a packet that has not come whole."""
        return len(self._partial)

    def cut(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (first byte, body) of each packet that `data` completes; keep the rest.

        The iterator must be exhausted before the next call.

        Raises:
            ConnectionClosedError: For a first byte no client may send, a length that is none, or
                a packet over the limit; as soon as its header is seen, after the packets before it.
        """
        if self._partial:
            self._partial += data
            if len(data) < self._missing_bytes:
                self._missing_bytes -= len(data)
                return
            data = bytes(self._partial)
            self._partial.clear()
        position = 0
        end = len(data)
        while position < end:
            first = data[position]
            if first not in _FROM_CLIENTS:
                raise ProtocolError(f"a packet that starts with 0x{first:02x}")
            # Remaining length [2.2.3]: seven bits a byte, least significant first, four at most.
            length = shift = 0
            start = position + 1
            complete = False
            while start < end:
                byte = data[start]
                start += 1
                length |= (byte & 0x7F) << shift
                if byte < 0x80:
                    complete = True
                    break
                shift += 7
                if shift > 21:
                    raise ProtocolError("a remaining length of more than four bytes")
            if not complete:
                self._missing_bytes = 1
                break
            stop = start + length
            if stop - position > self.max_packet_bytes:
                raise ConnectionClosedError(
                    CloseReason.PACKET_TOO_LARGE,
                    f"{stop - position} bytes are announced, {self.max_packet_bytes} allowed",
                )
            if stop > end:
                self._missing_bytes = stop - end
                break
            yield first, data[start:stop]
            position = stop
        if position < end:
            self._partial += data[position:]


class Message:
    """One application message, shared by everyone it is delivered to, and encoded once.

    Attributes:
        topic: The topic name.
        payload: The bytes, never looked into.
        qos: As published, or as granted to a will.
        retain: As published.
        holders: How many queues it is in, so that what it takes is counted once.
    """

    __slots__ = ("_frame", "_qos0", "holders", "payload", "qos", "retain", "topic")

    def __init__(self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False) -> None:
        """Take what a PUBLISH or a will holds; the topic must be a valid topic name."""
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.holders = 0
        self._qos0: bytes | None = None
        self._frame: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """Approximate what the message takes in memory while it waits for someone."""
        return len(self.topic) + len(self.payload) + 200

    def as_qos0(self, *, retain: bool) -> bytes:
        """Encode a QoS 0 PUBLISH; the usual one, without RETAIN, is made once for all."""
        if retain:
            return b"\x31" + self._tail(0) + self.payload
        packet = self._qos0
        if packet is None:
            packet = self._qos0 = b"\x30" + self._tail(0) + self.payload
        return packet

    def as_packet(self, qos: int, packet_id: int, *, retain: bool, dup: bool) -> bytes:
        """Encode a QoS 1 or 2 PUBLISH."""
        frame = self._frame
        if frame is None:
            frame = self._frame = self._tail(2)
        first = PUBLISH | dup << 3 | qos << 1 | retain
        return b"%c%b%b%b" % (first, frame, packet_id.to_bytes(2, "big"), self.payload)

    def _tail(self, packet_id_bytes: int) -> bytes:
        """Encode what lies between the first byte and the packet identifier."""
        topic = self.topic.encode()
        length = 2 + len(topic) + packet_id_bytes + len(self.payload)
        return encode_length(length) + len(topic).to_bytes(2, "big") + topic


class Connect(NamedTuple):
    """What a CONNECT says [3.1]."""

    client_id: str
    clean_session: bool
    keepalive_seconds: int
    will: Message | None
    username: str | None
    password: bytes | None


class UnsupportedProtocolError(ProtocolError):
    """CONNECT of another version of MQTT: it gets CONNACK 1 [3.1.2-2] before it is closed."""


class _Body:
    """Reads the fields of one packet's body in order."""

    __slots__ = ("_data", "_name", "_position")

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position >= len(self._data)

    def take(self, count: int) -> bytes:
        start = self._position
        self._position = stop = start + count
        if stop > len(self._data):
            raise ProtocolError(f"a {self._name} that is cut short")
        return self._data[start:stop]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        return decode_text(self.binary())

    def packet_id(self) -> int:
        number = self.number()
        if number == 0:
            raise ProtocolError(f"a {self._name} with packet identifier 0 [2.3.1-1]")
        return number

    def finish(self) -> None:
        if not self.at_end:
            raise ProtocolError(f"a {self._name} with bytes behind its end")


def decode_text(data: bytes) -> str:
    """Decode a text field, as strictly as the standard allows [1.5.3].

    Raises:
        ProtocolError: When it is not UTF-8, or holds a character that it must or should not.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ProtocolError("text that is not UTF-8 [1.5.3-1]") from None
    if _UNFIT.search(text):
        raise ProtocolError("text with a control character or a non-character [1.5.3]")
    return text


def encode_length(length: int) -> bytes:
    """Encode a remaining length [2.2.3]."""
    if length < 0x80:
        return length.to_bytes(1, "big")
    encoded = bytearray()
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


def decode_connect(data: bytes) -> Connect:
    """Decode a CONNECT; the topic of its will is not judged here, nor is the client id.

    Raises:
        UnsupportedProtocolError: For another protocol version, which is known before the rest.
        ProtocolError: For what cannot be a CONNECT.
    """
    body = _Body(data, "CONNECT")
    name = body.binary()
    if name not in (b"MQTT", b"MQIsdp"):
        raise ProtocolError("a protocol name that is not MQTT [3.1.2-1]")
    level = body.byte()
    if name != b"MQTT" or level != 4:
        raise UnsupportedProtocolError(f"MQTT protocol level {level}, only 3.1.1 (4) is spoken")
    flags = body.byte()
    keepalive_seconds = body.number()
    has_will = bool(flags & 0x04)
    will_qos = flags >> 3 & 0x03
    if flags & 0x01:
        raise ProtocolError("a CONNECT whose reserved flag is set [3.1.2-3]")
    if will_qos == 3 or (not has_will and flags & 0x38):
        raise ProtocolError("a CONNECT whose will flags contradict each other [3.1.2-13]")
    if flags & 0x40 and not flags & 0x80:
        raise ProtocolError("a CONNECT with a password but no user name [3.1.2-22]")
    client_id = body.text()
    will = None
    if has_will:
        will_topic = body.text()
        will = Message(will_topic, body.binary(), will_qos, retain=bool(flags & 0x20))
    username = body.text() if flags & 0x80 else None
    password = body.binary() if flags & 0x40 else None
    body.finish()
    return Connect(client_id, bool(flags & 0x02), keepalive_seconds, will, username, password)


def decode_publish(first: int, data: bytes) -> tuple[Message, int]:
    """Decode a PUBLISH into its message and packet identifier (0 for QoS 0).

    Whether the topic is one that may be published to is not judged here.

    Raises:
        ProtocolError: For what cannot be a PUBLISH.
    """
    qos = first >> 1 & 0x03
    if qos == 3:
        raise ProtocolError("a PUBLISH of QoS 3 [3.3.1-4]")
    if not qos and first & 0x08:
        raise ProtocolError("a PUBLISH of QoS 0 that is marked DUP [3.3.1-2]")
    payload_at = 2 + int.from_bytes(data[:2], "big")
    topic = decode_text(data[2:payload_at])
    packet_id = 0
    if qos:
        packet_id = int.from_bytes(data[payload_at : payload_at + 2], "big")
        payload_at += 2
    if payload_at > len(data) or len(data) < 2:
        raise ProtocolError("a PUBLISH that is cut short")
    if qos and not packet_id:
        raise ProtocolError("a PUBLISH with packet identifier 0 [2.3.1-1]")
    return Message(topic, data[payload_at:], qos, retain=bool(first & 0x01)), packet_id


def decode_packet_id(data: bytes, name: str) -> int:
    """Decode PUBACK, PUBREC, PUBREL or PUBCOMP: a packet identifier and no more.

    Raises:
        ProtocolError: For any other body.
    """
    if len(data) != 2 or data == b"\0\0":
        raise ProtocolError(f"a {name} that is not just a packet identifier")
    return int.from_bytes(data, "big")


def decode_subscribe(data: bytes, max_filters: int) -> tuple[int, list[tuple[str, int]]]:
    """Decode a SUBSCRIBE into packet identifier and (filter, QoS) pairs.

    Raises:
        ProtocolError: For what cannot be a SUBSCRIBE; the filters' wildcards are not judged here.
        ConnectionClosedError: For more filters than that: a packet is handled in one turn.
    """
    body = _Body(data, "SUBSCRIBE")
    packet_id = body.packet_id()
    wanted = []
    while not body.at_end:
        topic_filter = body.text()
        qos = body.byte()
        if qos > 2:
            raise ProtocolError(f"a SUBSCRIBE with QoS byte {qos} [3.8.3-4]")
        wanted.append((topic_filter, qos))
        if len(wanted) > max_filters:
            raise _too_many_filters(max_filters)
    if not wanted:
        raise ProtocolError("a SUBSCRIBE without a filter [3.8.3-3]")
    return packet_id, wanted


def decode_unsubscribe(data: bytes, max_filters: int) -> tuple[int, list[str]]:
    """Decode an UNSUBSCRIBE into packet identifier and filters.

    Raises:
        ProtocolError: For what cannot be an UNSUBSCRIBE.
        ConnectionClosedError: For more filters than that: a packet is handled in one turn.
    """
    body = _Body(data, "UNSUBSCRIBE")
    packet_id = body.packet_id()
    filters = []
    while not body.at_end:
        filters.append(body.text())
        if len(filters) > max_filters:
            raise _too_many_filters(max_filters)
    if not filters:
        raise ProtocolError("an UNSUBSCRIBE without a filter [3.10.3-2]")
    return packet_id, filters


def _too_many_filters(allowed: int) -> ConnectionClosedError:
    return ConnectionClosedError(
        CloseReason.PACKET_TOO_LARGE, f"more than {allowed} filters in one packet"
    )


def connack(code: int, *, session_present: bool = False) -> bytes:
    """Encode a CONNACK."""
    return bytes((0x20, 2, session_present, code))


def puback(packet_id: int) -> bytes:
    """Encode a PUBACK."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def pubrec(packet_id: int) -> bytes:
    """Encode a PUBREC."""
    return b"\x50\x02" + packet_id.to_bytes(2, "big")


def pubrel(packet_id: int) -> bytes:
    """Encode a PUBREL."""
    return b"\x62\x02" + packet_id.to_bytes(2, "big")


def pubcomp(packet_id: int) -> bytes:
    """Encode a PUBCOMP."""
    return b"\x70\x02" + packet_id.to_bytes(2, "big")


def suback(packet_id: int, codes: list[int]) -> bytes:
    """Encode a SUBACK."""
    return b"\x90" + encode_length(2 + len(codes)) + packet_id.to_bytes(2, "big") + bytes(codes)


def unsuback(packet_id: int) -> bytes:
    """Encode an UNSUBACK."""
    return b"\xb0\x02" + packet_id.to_bytes(2, "big")
