"""Malformed MQTT, made by the thousand from a seed; pure.

Two kinds of cases:

- `crafted`: one named fault each, of which it is written here what the standard demands;
- `mutated`: sessions that are right but for a few bytes, of which `judge` says what is demanded.

Each case is all that one client sends on its connection.
"""

import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random

from tests.broker_engine.raw import connect_packet, packet, publish_packet, subscribe_packet, text

MARK = "never"
"""In the topic of every message that must not be routed."""


class Verdict(Enum):
    """What the standard demands."""

    CLOSE = "close, nothing of it routed"
    GO_ON = "go on"
    EITHER = "either"


@dataclass(frozen=True)
class Case:
    """One connection's bytes.

    Attributes:
        name: Of the fault.
        stream: What the client sends.
        verdict: By hand; None where the judge is asked.
        connack: The code of CONNACK that the standard prescribes with closing.
    """

    name: str
    stream: bytes
    verdict: Verdict | None = None
    connack: int | None = None


BAD_TEXTS: dict[str, bytes] = {
    "an overlong slash": b"a\xc0\xafb",
    "an overlong NUL": b"a\xc0\x80",
    "an overlong three bytes": b"a\xe0\x80\xaf",
    "an overlong four bytes": b"a\xf0\x80\x80\xaf",
    "half a surrogate pair": b"a\xed\xa0\x80",
    "a surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "a low surrogate": b"\xed\xb0\x80",
    "beyond U+10FFFF": b"a\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "a byte that is none": b"a\xff",
    "FE": b"\xfe",
    "a continuation alone": b"\x80a",
    "a character cut off": b"a\xe2\x82",
    "latin-1": "Z\u00fcrich".encode("latin-1"),
    "UTF-16": "topic".encode("utf-16"),
    "U+0000": b"a\x00b",
    "U+0000 alone": b"\x00",
}
"""Text that must end the connection wherever it stands [1.5.3-1, 1.5.3-2]."""

BAD_TOPICS: dict[str, bytes] = {
    "an empty topic": b"",
    "a topic with +": b"never/+/x",
    "a topic with #": b"never/#",
    "# alone": b"#",
    "+ alone": b"+",
    "+ within a level": b"never/a+b",
    "# within a level": b"never/a#",
}
BAD_FILTERS = (
    b"",
    b"a#",
    b"#/a",
    b"a/#/b",
    b"a+",
    b"+a/b",
    b"a/b+/c",
    b"##",
    b"++",
    b"#+",
    b"a/+#",
)
WRONG_FLAGS = [
    kind << 4 | flags
    for kind in (1, 4, 5, 6, 7, 8, 10, 12, 14)
    for flags in range(16)
    if flags != (2 if kind in (6, 8, 10) else 0)
]
NOT_FOR_CLIENTS = [kind << 4 | flags for kind in (0, 2, 9, 11, 13, 15) for flags in range(16)]

_MAKERS: list[Callable[["_Maker"], Iterator[Case]]] = []


def crafted(random: Random) -> Iterator[Case]:
    """Every crafted case once, with random details; call it again for others."""
    maker = _Maker(random)
    for makes in _MAKERS:
        yield from makes(maker)


def mutated(random: Random) -> Iterator[Case]:
    """Sessions with a few bytes changed, without end."""
    maker = _Maker(random)
    for number in itertools.count():
        stream = bytearray(maker.session(number))
        changes = [maker.change(stream) for _ in range(random.choice((1, 1, 1, 2, 3)))]
        yield Case(" and ".join(changes), bytes(stream))


def truncated(random: Random) -> Iterator[Case]:
    """One session, ended at every byte."""
    stream = _Maker(random).session(random.randrange(1_000_000))
    for end in range(len(stream)):
        yield Case(f"cut at {end} of {len(stream)}", stream[:end])


def _makes(method: Callable[["_Maker"], Iterator[Case]]) -> Callable[["_Maker"], Iterator[Case]]:
    _MAKERS.append(method)
    return method


class _Maker:
    def __init__(self, random: Random) -> None:
        self.random = random

    def word(self, most: int = 12) -> str:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789-_\u00e9\u6587\U0001f600"
        return "".join(self.random.choices(letters, k=self.random.randint(1, most)))

    def client_id(self) -> str:
        # Far enough from any other one that a changed byte does not make one of them the other.
        return f"m{self.random.getrandbits(96):024x}"

    def payload(self) -> bytes:
        return self.random.randbytes(self.random.choice((0, 1, 7, 40)))

    def number(self) -> int:
        return self.random.randint(1, 65_535)

    def connect(self) -> bytes:
        return connect_packet(self.client_id())

    def tail(self) -> bytes:
        """What must have no effect any more."""
        topic = f"{MARK}/behind/{self.word()}"
        return publish_packet(topic, b"behind", 1, packet_id=self.number()) + b"\xc0\x00"

    def closing(self, name: str, fault: bytes, connack: int | None = None) -> Case:
        """A fault as the first packet."""
        return Case(name, fault + self.tail(), Verdict.CLOSE, connack)

    def closing_later(self, name: str, fault: bytes) -> Case:
        """A fault on a connection that was fine."""
        return Case(name, self.connect() + fault + self.tail(), Verdict.CLOSE)

    def session(self, number: int) -> bytes:
        """A client's whole life, all of it right."""
        random = self.random
        will = None
        if random.random() < 0.3:
            will = (f"will/{number}/{self.word()}", self.payload(), random.randint(0, 2), False)
        user = self.word() if random.random() < 0.5 else None
        password = self.payload() if user is not None and random.random() < 0.5 else None
        stream = [
            connect_packet(
                self.client_id(), keepalive=600, will=will, username=user, password=password
            )
        ]
        for _ in range(random.randint(1, 5)):
            packet_id = self.number()
            topic = f"session/{number}/{self.word()}"
            what = random.randrange(6)
            if what < 3:
                stream.append(publish_packet(topic, self.payload(), what, packet_id=packet_id))
                if what == 2:
                    stream.append(packet(0x62, struct.pack("!H", packet_id)))
            elif what == 3:
                wanted = [(f"{topic}/{self.word()}", 0), (f"nobody/{number}/+/#", 0)]
                stream.append(subscribe_packet(*wanted, packet_id=packet_id))
            elif what == 4:
                stream.append(packet(0xA2, struct.pack("!H", packet_id) + text(topic)))
            else:
                stream.append(b"\xc0\x00")
        stream.append(b"\xc0\x00")
        if random.random() < 0.7:
            stream.append(b"\xe0\x00")
        return b"".join(stream)

    def change(self, stream: bytearray) -> str:
        random = self.random
        at = random.randrange(len(stream)) if stream else 0
        what = random.randrange(9) if stream else 2
        if what == 0:
            stream[at] ^= 1 << random.randrange(8)
            return f"a bit flipped at {at}"
        if what == 1:
            stream[at] = random.choice((0, 1, 0x7F, 0x80, 0xC0, 0xFF, random.randrange(256)))
            return f"a byte replaced at {at}"
        if what == 2:
            stream[at:at] = random.randbytes(random.choice((1, 1, 2, 5)))
            return f"bytes put in at {at}"
        if what == 3:
            del stream[at : at + random.choice((1, 1, 2, 5))]
            return f"bytes left out at {at}"
        if what == 4:
            length = random.randint(1, 40)
            stream[at:at] = stream[at : at + length]
            return f"{length} bytes doubled at {at}"
        if what == 5:
            del stream[at:]
            return f"cut at {at}"
        if what == 6:
            other = random.randrange(len(stream))
            stream[at], stream[other] = stream[other], stream[at]
            return f"bytes {at} and {other} swapped"
        if what == 7:
            stream[at : at + 2] = struct.pack("!H", random.choice((0, 1, 0x7FFF, 0xFFFF)))
            return f"two bytes replaced at {at}"
        stream += self.random.randbytes(random.randint(1, 8))
        return "bytes added"

    # -- CONNECT --

    @_makes
    def first_packets(self) -> Iterator[Case]:
        number = struct.pack("!H", self.number())
        for name, first in {
            "PUBLISH": publish_packet(f"{MARK}/first", b"x"),
            "PUBLISH of QoS 1": publish_packet(f"{MARK}/first", b"x", 1),
            "PUBACK": packet(0x40, number),
            "PUBREC": packet(0x50, number),
            "PUBREL": packet(0x62, number),
            "PUBCOMP": packet(0x70, number),
            "SUBSCRIBE": subscribe_packet(("#", 0)),
            "UNSUBSCRIBE": packet(0xA2, number + text("a")),
            "PINGREQ": b"\xc0\x00",
            "DISCONNECT": b"\xe0\x00",
            "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "TLS": bytes.fromhex("16030100f5010000f10303") + self.random.randbytes(60),
            "nothing but zeros": bytes(40),
            "nothing but ones": b"\xff" * 40,
        }.items():
            yield self.closing(f"{name} before CONNECT [3.1.0-1]", first)

    @_makes
    def protocols(self) -> Iterator[Case]:
        me = self.client_id()
        for level in (0, 1, 2, 3, 5, 6, 0x84, 255, self.random.randint(6, 255)):
            yield self.closing(
                f"MQTT level {level} [3.1.2-2]", connect_packet(me, level=level), connack=1
            )
        for name in (b"", b"M", b"mqtt", b"MQTt", b"MQTTT", b"MQIsdp", b"HTTP", b"\0\0\0\0"):
            for level in (3, 4, 5):
                yield self.closing(
                    f"protocol {name!r} {level} [3.1.2-1]",
                    connect_packet(me, protocol=name, level=level),
                )

    @_makes
    def connect_flags(self) -> Iterator[Case]:
        for flags in range(256):
            will, qos = flags & 4, flags >> 3 & 3
            contradicts = (
                flags & 1 or qos == 3 or (not will and flags & 0x38) or flags & 0xC0 == 0x40
            )
            fields = text(self.client_id())
            if will:
                fields += text(f"{MARK if contradicts else 'will'}/flags") + text(b"will")
            if flags & 0x80:
                fields += text("user")
            if flags & 0x40:
                fields += text(b"password")
            body = text("MQTT") + bytes([4, flags]) + struct.pack("!H", 60)
            if contradicts:
                yield self.closing(
                    f"CONNECT flags {flags:08b} [3.1.2]", packet(0x10, body + fields)
                )
            else:
                whole = packet(0x10, body + fields) + b"\xc0\x00\xe0\x00"
                yield Case(f"CONNECT flags {flags:08b}", whole, Verdict.GO_ON)
                if fields_missing := flags & 0xC4:
                    name = f"CONNECT without what its flags {fields_missing:08b} announce"
                    short = text(self.client_id())
                    yield self.closing(name, packet(0x10, body + short))
                yield self.closing(
                    "bytes behind CONNECT's fields", packet(0x10, body + fields + b"x")
                )

    @_makes
    def connect_texts(self) -> Iterator[Case]:
        head = text("MQTT") + b"\x04"
        for name, bad in BAD_TEXTS.items():
            me = text(self.client_id())
            yield self.closing(
                f"client id: {name} [1.5.3]", packet(0x10, head + b"\x02\0\0" + text(bad))
            )
            yield self.closing(
                f"will topic: {name} [1.5.3]",
                packet(0x10, head + b"\x06\0\0" + me + text(MARK.encode() + bad) + text("x")),
            )
            yield self.closing(
                f"user name: {name} [1.5.3]", packet(0x10, head + b"\x82\0\0" + me + text(bad))
            )
        yield self.closing(
            "no client id for a session to keep [3.1.3-8]",
            connect_packet("", clean=False),
            connack=2,
        )
        yield Case("no client id", connect_packet("") + b"\xc0\x00\xe0\x00", Verdict.GO_ON)
        yield self.closing_later("a second CONNECT [3.1.0-2]", self.connect())
        yield self.closing("CONNECT without a body", b"\x10\x00")

    @_makes
    def connect_lengths(self) -> Iterator[Case]:
        whole = self.connect()
        for length in range(len(whole) - 2):
            short = bytes([0x10, length]) + whole[2 : 2 + length]
            yield self.closing(f"CONNECT of {length} bytes only", short)
        for size in (128 * 1024, 1024 * 1024, 16 * 1024 * 1024, 268_435_455):
            claim = packet(0x10, b"")[:1] + _length(size)
            yield Case(f"a CONNECT that claims {size} bytes", claim + whole[2:], Verdict.CLOSE)

    # -- fixed headers --

    @_makes
    def fixed_headers(self) -> Iterator[Case]:
        for first in NOT_FOR_CLIENTS:
            for rest in (b"\x00", b"\x02\x00\x01"):
                yield self.closing_later(
                    f"a packet that begins with {first:02x}", bytes([first]) + rest
                )
        bodies = {
            1: self.connect()[2:],
            8: struct.pack("!H", 1) + text("a") + b"\0",
            10: struct.pack("!H", 1) + text("a"),
            12: b"",
            14: b"",
        }
        for first in WRONG_FLAGS:
            body = bodies.get(first >> 4, struct.pack("!H", self.number()))
            fault = packet(first, body)
            if first >> 4 == 1:
                yield self.closing(f"flags {first:02x} [2.2.2-2]", fault)
            else:
                yield self.closing_later(f"flags {first:02x} [2.2.2-2]", fault)

    @_makes
    def remaining_lengths(self) -> Iterator[Case]:
        for first in (0x30, 0x31, 0x32, 0x3B, 0x40, 0x62, 0x82, 0xA2, 0xC0, 0xE0):
            for fifth in (0, 1, 127, 128, 255):
                long = b"\xff\xff\xff\xff" + bytes([fifth])
                yield self.closing_later(
                    f"five bytes of length, {first:02x} [2.2.3]", bytes([first]) + long
                )
            many = b"\x80" * self.random.randint(4, 30) + b"\x01"
            yield self.closing_later(
                f"a length without end, {first:02x} [2.2.3]", bytes([first]) + many
            )
        for size in (1024 * 1024, 16 * 1024 * 1024, 200_000_000, 268_435_455):
            for first in (0x30, 0x3D, 0x82, 0xA2, 0x40):
                claim = bytes([first]) + _length(size) + text(f"{MARK}/large") + b"x" * 100
                yield Case(
                    f"{first:02x} claims {size} bytes", self.connect() + claim, Verdict.CLOSE
                )
        for first, body in ((0xC0, b""), (0xE0, b"")):
            for spelling in (b"\x80\x00", b"\x80\x80\x00", b"\x80\x80\x80\x00"):
                yield Case(
                    "a length in more bytes than it needs",
                    self.connect() + bytes([first]) + spelling + body,
                    Verdict.EITHER,
                )

    # -- what comes after CONNECT --

    @_makes
    def publishes(self) -> Iterator[Case]:
        for name, topic in {**BAD_TEXTS, **BAD_TOPICS}.items():
            for qos in (0, 1, 2):
                topic_of_it = topic if name in BAD_TOPICS else MARK.encode() + b"/" + topic
                yield self.closing_later(
                    f"PUBLISH: {name}",
                    publish_packet(topic_of_it, self.payload(), qos, packet_id=self.number()),
                )
        topic = f"{MARK}/{self.word()}"
        for flags in (0x06, 0x07, 0x0E, 0x0F):
            body = text(topic) + struct.pack("!H", self.number()) + b"x"
            yield self.closing_later("QoS 3 [3.3.1-4]", packet(0x30 | flags, body))
        for flags in (0x08, 0x09):
            yield self.closing_later("DUP at QoS 0 [3.3.1-2]", packet(0x30 | flags, text(topic)))
        for qos in (1, 2):
            for first in (0x30, 0x31, 0x38):
                yield self.closing_later(
                    "packet identifier 0 [2.3.1-1]",
                    packet(first | qos << 1, text(topic) + b"\0\0x"),
                )
            for cut in (0, 1):
                body = text(topic) + b"\x01"[:cut]
                yield self.closing_later(
                    "a PUBLISH without its packet identifier", packet(0x30 | qos << 1, body)
                )
        for length in (0, 1):
            yield self.closing_later("a PUBLISH without a topic", packet(0x30, b"\0" * length))
        for excess in (1, 2, 255, 60_000):
            claim = struct.pack("!H", len(topic.encode()) + excess) + topic.encode()
            yield self.closing_later("a topic longer than its packet", packet(0x30, claim))

    @_makes
    def publishes_that_are_fine(self) -> Iterator[Case]:
        for topic in (
            "/",
            "//",
            " ",
            "\ufeffBOM first",
            "in the middle\ufeff",
            "\U0010fffd",
            "\u00e9" * 100,
            "x" * 60_000,
            "a/" * 100,
        ):
            stream = publish_packet(topic, self.payload(), 1, packet_id=self.number())
            yield Case("a strange topic", self.connect() + stream + b"\xc0\x00", Verdict.GO_ON)
        for topic in ("$SYS/x", "$x", "$share/g/x", "$"):
            stream = publish_packet(topic, b"x", 1, packet_id=self.number())
            yield Case("a $ topic", self.connect() + stream + b"\xc0\x00", Verdict.GO_ON)
        for topic in (
            "a\x01b",
            "a\x7f",
            "a\x9fb",
            "\ufffe",
            "a\ufdd0",
            "\U0001ffff",
            "a/" * 20_000,
        ):
            yield Case(
                "a topic that may be closed for",
                self.connect() + publish_packet(topic, b"x"),
                Verdict.EITHER,
            )

    @_makes
    def acknowledgements(self) -> Iterator[Case]:
        for first in (0x40, 0x50, 0x62, 0x70):
            for length in (0, 1, 3, 4, 100):
                yield self.closing_later(
                    f"{first:02x} of {length} bytes", packet(first, b"\x01" * length)
                )
            yield Case(
                "an acknowledgement of nothing",
                self.connect() + packet(first, struct.pack("!H", self.number())),
                Verdict.EITHER,
            )

    @_makes
    def subscribes(self) -> Iterator[Case]:
        number = struct.pack("!H", self.number())
        for first, name in ((0x82, "SUBSCRIBE"), (0xA2, "UNSUBSCRIBE")):
            end = b"\0" if first == 0x82 else b""
            for cut in (0, 1):
                yield self.closing_later(f"{name} of {cut} bytes", packet(first, b"\x01" * cut))
            yield self.closing_later(f"{name} without a filter [3.8.3-3]", packet(first, number))
            yield self.closing_later(
                f"{name} with packet identifier 0 [2.3.1-1]",
                packet(first, b"\0\0" + text("a") + end),
            )
            for wrong, bad in BAD_TEXTS.items():
                yield self.closing_later(
                    f"{name}: {wrong}", packet(first, number + text(bad) + end)
                )
            for cut in range(1, 8):
                body = number + text("a/b/c/d") + end
                yield self.closing_later(f"{name} cut short", packet(first, body[:-cut]))
            for bad_filter in BAD_FILTERS:
                yield Case(
                    f"{name} of {bad_filter!r}",
                    self.connect() + packet(first, number + text(bad_filter) + end),
                    Verdict.EITHER,
                )
        for qos in (3, 4, 0x80, 255, self.random.randint(3, 255)):
            body = number + text("a") + bytes([qos])
            yield self.closing_later(f"SUBSCRIBE with QoS {qos} [3.8.3-4]", packet(0x82, body))
            body = number + text("a") + b"\x01" + text("b") + bytes([qos])
            yield self.closing_later("SUBSCRIBE, its second QoS wrong", packet(0x82, body))

    @_makes
    def bodies(self) -> Iterator[Case]:
        for first, name in ((0xC0, "PINGREQ"), (0xE0, "DISCONNECT")):
            for length in (1, 2, 127, 128, 1000):
                yield self.closing_later(f"{name} with a body", packet(first, b"\0" * length))
        yield self.closing_later("a packet after DISCONNECT", b"\xe0\x00")


def _length(length: int) -> bytes:
    encoded = bytearray()
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    return bytes([*encoded, length])
