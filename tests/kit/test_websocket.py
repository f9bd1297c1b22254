"""WebSocket: whatever the pieces in which frames arrive, the bytes are the same; rules are kept."""

import base64
import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buskit.websocket import WebSocketClient, WebSocketError

KEY = bytes(range(16))
MASK = b"\x11\x22\x33\x44"


def answer(key: bytes = KEY, protocol: str = "mqtt") -> bytes:
    """Return how a server accepts, by the text of RFC 6455."""
    token = base64.b64encode(key) + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(token).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nserver: x\r\nUPGRADE: WebSocket\r\n"
        "connection: keep-alive, Upgrade\r\n"
        f"Sec-WebSocket-Accept:{accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    ).encode()


def opened() -> WebSocketClient:
    """Return a client that was accepted."""
    client = WebSocketClient(host="h:1", path="/mqtt", key=KEY)
    client.receive(answer(), mask=MASK)
    return client


def server_frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """Return a frame as a server sends it."""
    length = len(payload)
    head = bytes([(0x80 if last else 0) | opcode])
    if length < 126:
        head += bytes([length])
    elif length < 65536:
        head += b"\x7e" + length.to_bytes(2, "big")
    else:
        head += b"\x7f" + length.to_bytes(8, "big")
    return head + payload


def unmask(frame: bytes) -> tuple[int, bytes]:
    """Take a client's frame apart, byte by byte as the standard describes it."""
    length, head = frame[1] & 0x7F, 2
    assert frame[1] & 0x80, "a client must mask"
    if length == 126:
        length, head = int.from_bytes(frame[2:4], "big"), 4
    elif length == 127:
        length, head = int.from_bytes(frame[2:10], "big"), 10
    mask, body = frame[head : head + 4], frame[head + 4 :]
    assert len(body) == length
    return frame[0], bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))


def test_the_request_asks_for_mqtt() -> None:
    """The opening names the path, the host, the key and MQTT's subprotocol."""
    request = WebSocketClient(host="h:1", path="/mqtt?a=b", key=KEY).request().decode()
    assert request.startswith("GET /mqtt?a=b HTTP/1.1\r\nHost: h:1\r\n")
    assert "\r\nSec-WebSocket-Protocol: mqtt\r\n" in request
    assert request.endswith("\r\n\r\n")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(0, 2**32))
def test_any_pieces_give_the_same_bytes(payloads: list[bytes], seed: int) -> None:
    """Frames, fragments and pings between them, cut anywhere, give exactly what was sent."""
    chance = random.Random(seed)
    wire = answer()
    pings = []
    for payload in payloads:
        cut = chance.randrange(len(payload) + 1)
        wire += server_frame(2, payload[:cut], last=False)
        if chance.random() < 0.5:
            pings.append(chance.randbytes(chance.randrange(126)))
            wire += server_frame(9, pings[-1])
        wire += server_frame(0, payload[cut:])
    client = WebSocketClient(host="h", path="/", key=KEY)
    while wire:
        size = chance.randrange(1, 40)
        client.receive(wire[:size], mask=MASK)
        wire = wire[size:]
    assert bytes(client.received) == b"".join(payloads)
    pongs = b"".join(
        bytes([0x8A, 0x80 | len(p)]) + MASK + bytes(b ^ MASK[i % 4] for i, b in enumerate(p))
        for p in pings
    )
    assert bytes(client.replies) == pongs


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_001])
def test_frames_of_every_length_can_be_read_by_the_standard(size: int) -> None:
    """Short, long and very long frames carry their length and masked bytes rightly, both ways."""
    body = random.Random(size).randbytes(size)
    assert unmask(opened().frame(body, mask=b"\x00\xff\x12\x34")) == (0x82, body)
    client = opened()
    client.receive(server_frame(2, body), mask=MASK)
    assert bytes(client.received) == body


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (server_frame(1, b"text"), "not binary"),
        (server_frame(0, b"out of the blue"), "not binary"),
        (server_frame(2, b"a", last=False) + server_frame(2, b"b"), "not binary"),
        (server_frame(9, b"x" * 126), "too long"),
        (server_frame(9, b"x", last=False), "too long"),
        (server_frame(11, b""), "unknown"),
        (b"\xc2\x00", "no server may send"),
        (b"\x82\x81abcdx", "no server may send"),
        (server_frame(8, b"\x03\xe9going"), "closed the WebSocket (1001 going)"),
        (server_frame(8, b""), "closed the WebSocket (0)"),
    ],
)
def test_a_server_that_breaks_the_rules_is_left(wire: bytes, reason: str) -> None:
    """Text, fragments out of order, oversized control frames, masks, a close: an error in words."""
    with pytest.raises(WebSocketError) as caught:
        opened().receive(wire, mask=MASK)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "wire",
    [
        answer(key=bytes(16)),
        answer(protocol="chat"),
        answer().replace(b"UPGRADE", b"X-UP"),
        answer().replace(b"keep-alive, Upgrade", b"close"),
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"\x00" * 17_000,
    ],
)
def test_what_is_no_acceptance_is_refused(wire: bytes) -> None:
    """Another key's answer, another protocol, a plain page, another service: refused."""
    client = WebSocketClient(host="h", path="/", key=KEY)
    with pytest.raises(WebSocketError):
        client.receive(wire, mask=MASK)
    assert not client.is_open
