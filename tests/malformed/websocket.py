"""MQTT over WebSocket (section 6 of the standard), and what is no WebSocket (RFC 6455). Pure."""

import struct
from collections.abc import Iterator
from random import Random

from tests.broker_engine.raw import connect_packet, publish_packet
from tests.malformed.cases import MARK, Case, Verdict

REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)

CHANGED = "a changed WebSocket"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    payload: bytes, opcode: int = BINARY, *, end: bool = True, mask: bytes | None = b"mask"
) -> bytes:
    """Build a client's frame."""
    length = len(payload)
    bit = 0x80 if mask is not None else 0
    if length < 126:
        size = bytes([bit | length])
    elif length < 65_536:
        size = bytes([bit | 126]) + struct.pack("!H", length)
    else:
        size = bytes([bit | 127]) + struct.pack("!Q", length)
    if mask is not None:
        payload = bytes(one ^ mask[at % 4] for at, one in enumerate(payload))
    return bytes([0x80 * end | opcode]) + size + (mask or b"") + payload


def wrapped(case: Case, random: Random) -> bytes:
    """A case's bytes as frames of any sizes, some of them in fragments, with pings between."""
    stream, frames = case.stream, []
    while stream:
        size = random.choice((1, 2, 5, 50, 1000, 100_000))
        piece, stream = stream[:size], stream[size:]
        mask = random.randbytes(4)
        if len(piece) > 1 and random.random() < 0.3:
            at = random.randrange(1, len(piece))
            frames.append(frame(piece[:at], end=False, mask=mask))
            if random.random() < 0.5:
                frames.append(frame(b"between", PING, mask=mask))
            frames.append(frame(piece[at:], CONTINUATION, mask=mask))
        else:
            frames.append(frame(piece, mask=mask))
        if random.random() < 0.1:
            frames.append(frame(b"", random.choice((PING, PONG, BINARY)), mask=mask))
    return b"".join(frames)


def unwrapped(received: bytes) -> bytes:
    """The MQTT in what the broker sent behind the handshake."""
    rest = received
    payloads = []
    while len(rest) >= 2:
        length, start = rest[1] & 127, 2
        if length == 126:
            length, start = int.from_bytes(rest[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(rest[2:10], "big"), 10
        if rest[0] & 15 in (CONTINUATION, BINARY):
            payloads.append(rest[start : start + length])
        rest = rest[start + length :]
    return b"".join(payloads)


def garbage(random: Random) -> Iterator[Case]:
    """What must end a WebSocket: the handshake, then the frames."""
    hello = frame(connect_packet(f"w{random.getrandbits(96):024x}"))
    behind = frame(publish_packet(f"{MARK}/websocket", b"x", 1))
    for name, request in {
        "no request": b"\x10\x20\0\4MQTT\4\2\0\0" + bytes(200),
        "another method": REQUEST.replace(b"GET", b"POST"),
        "HTTP 1.0": REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        "no upgrade": REQUEST.replace(b"Upgrade: websocket\r\n", b""),
        "another upgrade": REQUEST.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        "no connection": REQUEST.replace(b"Connection: Upgrade\r\n", b""),
        "no key": REQUEST.replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""),
        "a short key": REQUEST.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhl"),
        "another version": REQUEST.replace(b"Version: 13", b"Version: 12"),
        "a header without a name": REQUEST.replace(b"Host: localhost", b": localhost"),
        "a NUL in a header": REQUEST.replace(b"localhost", b"local\0host"),
        "a header line without end": b"GET /mqtt HTTP/1.1\r\nHost: " + b"a" * 70_000,
        "headers without end": b"GET /mqtt HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    }.items():
        yield Case(f"handshake with {name}", request + hello + behind, Verdict.CLOSE)
    open_frames = REQUEST + hello
    claim = bytes([0x80 | BINARY])
    for name, fault in {
        "no mask": frame(b"\xc0\0", mask=None),
        "text": frame(b"\xc0\0", TEXT),
        "RSV1": frame(b"\xc0\0", 0x40 | BINARY),
        "RSV2": frame(b"\xc0\0", 0x20 | BINARY),
        "RSV3": frame(b"\xc0\0", 0x10 | BINARY),
        **{
            f"opcode {code}": frame(b"\xc0\0", code) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
        },
        "a ping in fragments": frame(b"x", PING, end=False),
        "a ping of 126 bytes": frame(bytes(126), PING),
        "a continuation of nothing": frame(b"\xc0\0", CONTINUATION),
        "a frame within fragments": frame(b"\xc0", end=False) + frame(b"\0"),
        "a close of one byte": frame(b"\x03", CLOSE),
        "a close of code 1005": frame(struct.pack("!H", 1005), CLOSE),
        "a close with text that is no UTF-8": frame(b"\x03\xe8\xff", CLOSE),
        "a close": frame(b"\x03\xe8", CLOSE),
        "2^63 bytes": claim + b"\xff" + b"\x80" + bytes(7) + b"mask" + b"x" * 50,
        "2^62 bytes": claim + b"\xff" + b"\x40" + bytes(7) + b"mask" + b"x" * 50,
        "256 MB": claim + b"\xff" + struct.pack("!Q", 1 << 28) + b"mask" + b"x" * 50,
        "the end of MQTT": frame(b"\xe0\0"),
    }.items():
        yield Case(f"a frame with {name}", open_frames + fault + behind, Verdict.CLOSE)


def mutated(random: Random, stream: bytes) -> Case:
    """A WebSocket with some bytes changed: nobody says what must come of it, but that it ends."""
    changed = bytearray(stream)
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(changed))
        if random.random() < 0.5:
            changed[at] ^= 1 << random.randrange(8)
        elif random.random() < 0.5:
            del changed[at : at + random.randint(1, 9)]
        else:
            changed[at:at] = random.randbytes(random.randint(1, 9))
    return Case(CHANGED, bytes(changed), Verdict.EITHER)
