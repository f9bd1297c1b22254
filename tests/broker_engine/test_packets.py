"""The wire format, without sockets."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import packets
from broker.errors import CloseReason, ConnectionClosedError, ProtocolError
from broker.packets import Framer, Message
from tests.broker_engine import raw

LIMIT = 100_000


def _cut(framer: Framer, *pieces: bytes) -> list[tuple[int, bytes]]:
    return [frame for piece in pieces for frame in framer.cut(piece)]


@given(
    st.lists(st.binary(max_size=300) | st.just(bytes(20_000)), max_size=8),
    st.lists(st.integers(1, 30_000), max_size=20),
)
def test_framing_does_not_depend_on_the_pieces(bodies: list[bytes], cuts: list[int]) -> None:
    """Whatever pieces the stream comes in, the packets are the same."""
    stream = b"".join(raw.packet(0x30, body) for body in bodies)
    pieces = []
    for size in cuts:
        pieces.append(stream[:size])
        stream = stream[size:]
    frames = _cut(Framer(LIMIT), *pieces, stream)
    assert frames == [(0x30, body) for body in bodies]


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_remaining_length(length: int) -> None:
    """The length is encoded as the standard's table 2.4 has it, and read back."""
    encoded = packets.encode_length(length)
    assert encoded == raw.packet(0, bytes(length))[1 : 1 + len(encoded)]
    assert _cut(Framer(3_000_000), b"\x30" + encoded, bytes(length)) == [(0x30, bytes(length))]


def test_packets_before_the_fault_count() -> None:
    """What comes before a malformed packet in the same piece is still handed out."""
    frames = Framer(LIMIT).cut(b"\xc0\x00\xc0\x00\x00\x00")
    assert [next(frames), next(frames)] == [(0xC0, b"")] * 2
    with pytest.raises(ProtocolError, match="0x00"):
        next(frames)


def test_size_limit_is_judged_by_the_header() -> None:
    """A packet over the limit is refused before a byte of its body is there."""
    with pytest.raises(ConnectionClosedError) as caught:
        _cut(Framer(100), b"\x30\x63")
    assert caught.value.reason is CloseReason.PACKET_TOO_LARGE
    assert _cut(Framer(100), b"\x30\x62", bytes(98)) == [(0x30, bytes(98))]


@pytest.mark.parametrize("first", set(range(256)) - packets._FROM_CLIENTS)
def test_first_bytes_no_client_may_send(first: int) -> None:
    """Wrong flags, server packets and reserved types are refused by their first byte."""
    with pytest.raises(ProtocolError):
        _cut(Framer(LIMIT), bytes([first]))


def test_the_first_bytes_a_client_may_send() -> None:
    """They are those of section 2.2, and 16 of PUBLISH."""
    others = {0x10, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0}
    assert others | set(range(0x30, 0x40)) == packets._FROM_CLIENTS


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_publish_there_and_back(qos: int, retain: bool) -> None:
    """A PUBLISH is decoded as it was built elsewhere, and encoded into the same bytes."""
    data = raw.publish_packet("a/文", b"payload", qos, packet_id=513, retain=retain)
    ((first, body),) = Framer(LIMIT).cut(data)
    message, packet_id = packets.decode_publish(first, body)
    assert (message.topic, message.payload, message.qos) == ("a/文", b"payload", qos)
    assert (message.retain, packet_id) == (retain, 513 if qos else 0)
    if qos:
        assert message.as_packet(qos, 513, retain=retain, dup=False) == data
        dup = raw.publish_packet("a/文", b"payload", qos, packet_id=513, retain=retain, dup=True)
        assert message.as_packet(qos, 513, retain=retain, dup=True) == dup
    else:
        assert message.as_qos0(retain=retain) == data


def test_a_message_is_encoded_once() -> None:
    """All subscribers at QoS 0 share the very same bytes."""
    message = Message("a", b"x" * 1000)
    assert message.as_qos0(retain=False) is message.as_qos0(retain=False)


@given(st.binary(max_size=60), st.sampled_from(sorted(packets._FROM_CLIENTS)))
def test_garbage_is_refused_and_nothing_else_happens(body: bytes, first: int) -> None:
    """Any body is decoded or refused as a broken protocol; no other error comes out."""
    decoders = {
        packets.CONNECT: lambda: packets.decode_connect(body),
        packets.SUBSCRIBE: lambda: packets.decode_subscribe(body, 100),
        packets.UNSUBSCRIBE: lambda: packets.decode_unsubscribe(body, 100),
        packets.PUBACK: lambda: packets.decode_packet_id(body, "PUBACK"),
    }
    with contextlib.suppress(ProtocolError):
        decoders.get(first, lambda: packets.decode_publish(first, body))()


@given(st.data())
def test_mutated_connects_are_refused_or_understood(data: st.DataObject) -> None:
    """A CONNECT with bytes changed, cut or added raises nothing but a broken protocol."""
    good = raw.connect_packet(
        "client", will=("will", b"gone", 1, True), username="user", password=b"secret"
    )
    body = bytearray(good[2:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)))] + data.draw(st.binary(max_size=3))
    with contextlib.suppress(ProtocolError):
        packets.decode_connect(bytes(body))


@pytest.mark.parametrize(
    "data",
    [b"a\0", b"\x1f", b"\x7f", "\x9f".encode(), "\ufdd0".encode(), "\uffff".encode(),
     "\U0010fffe".encode(), b"\xed\xa0\x80", b"\xc0\x80", b"\xff"],
)  # fmt: skip
def test_text_that_is_refused(data: bytes) -> None:
    """Control characters, non-characters, surrogates and what is not UTF-8."""
    with pytest.raises(ProtocolError):
        packets.decode_text(data)


@pytest.mark.parametrize("text", ["", "a b", "ÿ", "文", "\ufeff", "\U0001f6d2", "\ufffd"])
def test_text_that_passes(text: str) -> None:
    """Any other script, the byte order mark included [1.5.3-3]."""
    assert packets.decode_text(text.encode()) == text
