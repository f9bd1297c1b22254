"""What a broker must make of a client's bytes, read from the standard alone.

Numbers in brackets are statements of the OASIS standard of MQTT 3.1.1. It shares no code with the
broker: it is slow, goes packet by packet, and says at each whether the broker must go on, must
close, or may do either. From the first packet on at which either is right, what follows may or may
not have an effect.
"""

import re
from dataclasses import dataclass, field

CONNECT_LIMIT_BYTES = 128 * 1024
PACKET_LIMIT_BYTES = 1024 * 1024
"""What the broker documents to take at most; anything larger is closed when it is announced."""

_CONTROL = re.compile("[\x01-\x1f\x7f-\x9f\ufdd0-\ufdef]")


class ViolationError(Exception):
    """The connection must be closed [4.8.0-1]."""


@dataclass
class Outcome:
    """What must come of a connection's bytes.

    Attributes:
        routed: Topic and payload of each message that must reach its subscribers, the will too.
        maybe: The same of what may or may not.
        replies: The packets that the broker answers with, in order, but for codes of SUBACK.
        closes: The broker must close by itself, without waiting for more or for the end.
        connack: The code of CONNACK, None where none must come or nobody prescribes one.
        is_open: Whether a packet came about which the standard leaves the choice.
        why: The statement that was violated.
    """

    routed: list[tuple[str, bytes]] = field(default_factory=list)
    maybe: list[tuple[str, bytes]] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    closes: bool = False
    connack: int | None = None
    is_open: bool = False
    why: str = ""


class _Reader:
    """Reads fields; what is cut short is a violation."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        if len(self.data) < count:
            raise ViolationError("cut short")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def binary(self) -> bytes:
        return self.take(self.number())


class Judge:
    """Follows one connection."""

    def __init__(self, *, connected: bool = False) -> None:
        """Begin before CONNECT, or behind one that was accepted."""
        self.outcome = Outcome()
        self._is_connected = connected
        self._will: tuple[str, bytes] | None = None
        self._unreleased: set[int] = set()

    def judge(self, stream: bytes) -> Outcome:
        """Say what must come of these bytes and the end of the connection behind them."""
        outcome = self.outcome
        try:
            while stream and not outcome.closes:
                cut = self._cut(stream)
                if cut is None:
                    break  # not all of it is there: the broker waits, until the end comes
                first, body, stream = cut
                self._packet(first, body)
        except ViolationError as violation:
            outcome.closes = True
            outcome.why = str(violation)
        if self._will is not None:
            self._route(*self._will)
        return outcome

    def _cut(self, stream: bytes) -> tuple[int, bytes, bytes] | None:
        first = stream[0]
        kind, flags = first >> 4, first & 15
        if kind in (0, 15):
            raise ViolationError("a reserved packet type [table 2.1]")
        if kind in (2, 9, 11, 13):
            raise ViolationError("a packet that only brokers send [table 2.1]")
        demanded = 2 if kind in (6, 8, 10) else 0
        if kind != 3 and flags != demanded:
            raise ViolationError("flags that are not those of table 2.2 [2.2.2-2]")
        if not self._is_connected and kind != 1:
            raise ViolationError("the first packet is no CONNECT [3.1.0-1]")
        length = 0
        for position in range(1, 5):
            if position >= len(stream):
                return None
            byte = stream[position]
            length |= (byte & 127) << 7 * (position - 1)
            if byte < 128:
                break
        else:
            raise ViolationError("a remaining length of more than four bytes [2.2.3]")
        if position > 1 and not byte:
            self._leave_open()  # longer than it must be: only MQTT 5 forbids it
        whole = 1 + position + length
        limit = PACKET_LIMIT_BYTES if self._is_connected else CONNECT_LIMIT_BYTES
        if whole > limit:
            raise ViolationError("larger than the broker documents to take")
        if len(stream) < whole:
            return None
        return first, stream[1 + position : whole], stream[whole:]

    def _packet(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if not self._is_connected:
            self._connect(body)
        elif kind == 1:
            raise ViolationError("a second CONNECT [3.1.0-2]")
        elif kind == 3:
            self._publish(first & 15, body)
        elif kind in (4, 5, 6, 7):
            self._acknowledge(kind, body)
        elif kind == 8:
            self._subscribe(body)
        elif kind == 10:
            self._unsubscribe(body)
        elif body:
            raise ViolationError("a PINGREQ or DISCONNECT with a body [3.12, 3.14]")
        elif kind == 12:
            self._reply(b"\xd0\x00")
        else:
            if not self.outcome.is_open:  # it may have closed before, and that has a will
                self._will = None
            self.outcome.closes = True
            self.outcome.why = "DISCONNECT [3.14.4-2]"

    def _connect(self, body: bytes) -> None:
        reader = _Reader(body)
        name = reader.binary()
        level = reader.take(1)[0]
        if name != b"MQTT" or level != 4:
            # A right name with another level gets CONNACK 1 [3.1.2-2]; a wrong name may [3.1.2-1].
            self.outcome.connack = 1 if name == b"MQTT" else None
            raise ViolationError("another protocol or another version of it [3.1.2-1, 3.1.2-2]")
        flags = reader.take(1)[0]
        reader.number()
        if flags & 1:
            raise ViolationError("the reserved flag of CONNECT [3.1.2-3]")
        has_will, qos = flags & 4, flags >> 3 & 3
        if qos == 3 or (not has_will and flags & 0x38):
            raise ViolationError("will flags that contradict [3.1.2-13, 3.1.2-14, 3.1.2-15]")
        if flags & 0x40 and not flags & 0x80:
            raise ViolationError("a password without a user name [3.1.2-22]")
        client_id = self._text(reader.binary())
        will = None
        if has_will:
            topic = self._text(reader.binary())
            will = topic, reader.binary()
            if not topic or "+" in topic or "#" in topic:
                self._leave_open()  # it cannot be published, and nothing says when to say so
                will = None
        if flags & 0x80:
            self._text(reader.binary())
        if flags & 0x40:
            reader.binary()
        if reader.data:
            raise ViolationError("bytes behind the fields of CONNECT [3.1.3]")
        if not client_id and not flags & 2:
            self.outcome.connack = 2
            raise ViolationError("no client id for a session to keep [3.1.3-8]")
        self._is_connected = True
        self._will = will
        self.outcome.connack = 0

    def _publish(self, flags: int, body: bytes) -> None:
        qos = flags >> 1 & 3
        if qos == 3:
            raise ViolationError("QoS 3 [3.3.1-4]")
        if flags & 8 and not qos:
            raise ViolationError("DUP at QoS 0 [3.3.1-2]")
        reader = _Reader(body)
        topic = self._text(reader.binary())
        number = reader.number() if qos else 0
        if not topic:
            raise ViolationError("an empty topic name [4.7.3-1]")
        if "+" in topic or "#" in topic:
            raise ViolationError("a topic name with a wildcard [3.3.2-2]")
        if qos and not number:
            raise ViolationError("packet identifier 0 [2.3.1-1]")
        if qos < 2 or number not in self._unreleased:
            self._route(topic, reader.data)
        if qos == 2:
            self._unreleased.add(number)
        if qos:
            self._reply(bytes([0x40 if qos == 1 else 0x50, 2]) + number.to_bytes(2, "big"))

    def _acknowledge(self, kind: int, body: bytes) -> None:
        if len(body) != 2:
            raise ViolationError("an acknowledgement that is not a packet identifier [3.4.1]")
        if body == b"\0\0" or kind != 6:
            self._leave_open()  # of nothing that was sent: nothing says what to do
        if kind == 6:
            self._unreleased.discard(int.from_bytes(body, "big"))
            self._reply(b"\x70\x02" + body)
        elif kind == 5:
            self._reply(b"\x62\x02" + body)

    def _subscribe(self, body: bytes) -> None:
        reader = _Reader(body)
        number = reader.number()
        if not number:
            raise ViolationError("packet identifier 0 [2.3.1-1]")
        if not reader.data:
            raise ViolationError("a SUBSCRIBE without a filter [3.8.3-3]")
        count = 0
        while reader.data:
            self._filter(self._text(reader.binary()))
            if reader.take(1)[0] > 2:
                raise ViolationError("a QoS byte that is no QoS [3.8.3-4]")
            count += 1
        self._reply(b"\x90" + _length(2 + count) + number.to_bytes(2, "big") + bytes(count))

    def _unsubscribe(self, body: bytes) -> None:
        reader = _Reader(body)
        number = reader.number()
        if not number:
            raise ViolationError("packet identifier 0 [2.3.1-1]")
        if not reader.data:
            raise ViolationError("an UNSUBSCRIBE without a filter [3.10.3-2]")
        while reader.data:
            if not _is_filter(self._text(reader.binary())):
                self._leave_open()
        self._reply(b"\xb0\x02" + number.to_bytes(2, "big"))

    def _filter(self, topic_filter: str) -> None:
        if not _is_filter(topic_filter):
            self._leave_open()  # refused with 0x80 or by closing [3.9.3, 4.8]

    def _text(self, data: bytes) -> str:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise ViolationError("text that is no UTF-8 [1.5.3-1]") from None
        if "\0" in text:
            raise ViolationError("U+0000 [1.5.3-2]")
        if _CONTROL.search(text) or any(ord(one) & 0xFFFE == 0xFFFE for one in text):
            self._leave_open()  # "should not", and the receiver "may" close [1.5.3]
        return text

    def _leave_open(self) -> None:
        self.outcome.is_open = True

    def _route(self, topic: str, payload: bytes) -> None:
        if self.outcome.is_open:
            self.outcome.maybe.append((topic, payload))
        else:
            self.outcome.routed.append((topic, payload))

    def _reply(self, packet: bytes) -> None:
        if not self.outcome.is_open:
            self.outcome.replies.append(packet)


def _length(length: int) -> bytes:
    encoded = bytearray()
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    return bytes([*encoded, length])


def _is_filter(topic_filter: str) -> bool:
    """Whether it is a topic filter [4.7.1-2, 4.7.1-3, 4.7.3-1]."""
    levels = topic_filter.split("/")
    return bool(topic_filter) and not any(
        ("+" in level and level != "+")
        or ("#" in level and (level != "#" or number != len(levels) - 1))
        for number, level in enumerate(levels)
    )
