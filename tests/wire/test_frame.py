"""The frame: whatever arrives is a message or a WireError, and what is laid in comes out."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from buswire import frame
from buswire.cursors import START
from buswire.errors import WireError
from buswire.messages import (
    MESSAGE_BYTES_LIMIT,
    AnyMessage,
    Hello,
    Nudge,
    Record,
    Records,
    UnknownKindError,
)
from buswire.signing import (
    ForgeryError,
    SigningKey,
    UnknownKeyError,
    message_bytes,
    signature_text,
)
from tests.wire.words import cursor, id_of, records

TOPIC = "storebus/v1/from/S017/till-1"
KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))


def payload_of(text: bytes, *, topic: str = TOPIC, key: SigningKey = KEY) -> bytes:
    """A payload with this text, rightly signed."""
    signature = signature_text(key.sign(message_bytes(topic, text)))
    return f"storebus/1 {key.id} {signature}\n".encode() + text


def read(payload: bytes, topic: str = TOPIC) -> AnyMessage:
    """What a reader that trusts `KEY` takes."""
    return frame.read(payload, topic, {KEY.id: KEY.public}.get)


def written(message: AnyMessage) -> bytes:
    """What a writer with `KEY` sends."""
    return frame.encode(message, TOPIC, KEY)


def _decoded(payload: bytes) -> AnyMessage | None:
    """The message, or None for a WireError; anything else fails the test."""
    try:
        return read(payload)
    except WireError as error:
        told = str(error)
    assert len(told) < 1000
    return None


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(payload_of)))
def test_garbage_raises_nothing_but_wire_error(payload: bytes) -> None:
    """Bytes of any kind, with and without the header."""
    _decoded(payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = ["nonce", "run", "log", "after", "records", "cursors", "uplink", "heads", "unsure", "id"]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["hello", "records", "welcome", "ack", "hub", "snapshot", "?", "nudge"]),
    st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_json_of_any_shape_raises_nothing_but_wire_error(
    kind: str, fields: dict[str, object]
) -> None:
    """A known kind with fields of the wrong types is refused, not half understood."""
    text = json.dumps({"kind": kind, **fields}).encode()
    _decoded(payload_of(text))


def test_a_message_with_flipped_bytes_raises_nothing_but_wire_error() -> None:
    """Damage of one to four bytes in a real message: refused, unless nothing was changed."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    whole = written(Records(log="all/any", after=cursor(3), records=records(range(4, 7))))
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 5)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            taken = _decoded(bytes(damaged))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        assert taken is None or bytes(damaged) == whole, f"seed {seed}"


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "not a message of storebus"),
        (b"storebus/1", "not a message of storebus"),
        (b"\n{}", "not a message of storebus"),
        (b"hello\n{}", "not a message of storebus"),
        (b'storebus/2\n{"kind":"nudge"}', "version 'storebus/2'"),
        (b"storebus/\xff\n{}", "version"),
        (b'storebus/1\n{"kind":"nudge"}', "without a signature"),
        (b'storebus/1 key\n{"kind":"nudge"}', "without a signature"),
        (b'storebus/1 key sig\n{"kind":"nudge"}', "without a signature"),
        (payload_of(b""), "does not fit"),
        (payload_of(b"[]"), "does not fit"),
        (payload_of(b'{"reason":"no kind"}'), "does not fit"),
        (payload_of(b'{"kind":7}'), "does not fit"),
        (payload_of(b'{"kind":"nudge"} x'), "does not fit"),
        (payload_of(b'{"kind":"nudge","reason":"\xff"}'), "does not fit"),
        (payload_of(b'{"kind":"nudge","reason":"\\ud800"}'), "does not fit"),
        (payload_of(b'{"kind":"nudge","reason":' + b"[" * 100_000), "does not fit"),
        (payload_of(b'{"kind":"nudge","unknown":' + b"[" * 100_000), "does not fit"),
        (payload_of(b'{"kind":' * 20_000), "does not fit"),
        (payload_of(b" " * 1_000_000), "over the limit"),
        (b"\0" * 1_000_000, "over the limit"),
    ],
    ids=range(21),
)
def test_what_is_no_message_says_why(payload: bytes, told: str) -> None:
    """Wrong version, invalid UTF-8, deep nesting and a megabyte each get their reason."""
    with pytest.raises(WireError, match=told) as caught:
        read(payload)
    assert not isinstance(caught.value, UnknownKindError)


def test_another_version_says_what_mends_it() -> None:
    """Whoever reads the refusal knows that a side is to be updated."""
    with pytest.raises(WireError) as caught:
        read(b'storebus/2 key sig\n{"kind":"nudge"}')
    assert caught.value.hint


def test_a_kind_of_a_newer_version_is_told_apart_from_garbage() -> None:
    """It is kept aside and reported, and its name is cut."""
    with pytest.raises(UnknownKindError, match="'parley'"):
        read(payload_of(b'{"kind":"parley","x":1}'))
    with pytest.raises(UnknownKindError) as caught:
        read(payload_of(b'{"kind":"' + b"x" * 1000 + b'"}'))
    assert len(str(caught.value)) < 100


def test_the_signed_bytes_are_those_behind_the_first_line_feed() -> None:
    """Further line feeds belong to the text."""
    assert read(payload_of(b'\n{"kind":\n"nudge"}')) == Nudge()


def test_a_message_counts_on_its_own_topic_only() -> None:
    """What was signed for one device, channel or chain is void for every other."""
    payload = written(Nudge())
    assert read(payload) == Nudge()
    for other in (
        "storebus/v1/from/S018/till-1",
        "storebus/v1/to/S017/till-1",
        "b/from/S017/till-1",
    ):
        with pytest.raises(ForgeryError, match="did not sign"):
            read(payload, other)


def test_topic_and_text_cannot_be_shifted_into_each_other() -> None:
    """A line feed in the topic does not make another message of the same signed bytes."""
    header, _, _ = payload_of(b'{"kind":\n"nudge"}').partition(b"\n")
    with pytest.raises(ForgeryError):
        read(header + b'\n"nudge"}', TOPIC + '\n{"kind":')


def test_a_key_that_is_not_trusted_is_named() -> None:
    """Whoever refuses it can say which it was, and ask whether there is a new one."""
    with pytest.raises(UnknownKeyError) as caught:
        read(payload_of(b'{"kind":"nudge"}', key=OTHER))
    assert caught.value.key_id == OTHER.id


def test_a_signature_of_another_key_under_a_trusted_name_is_refused() -> None:
    """The name in the header proves nothing."""
    theirs = payload_of(b'{"kind":"nudge"}', key=OTHER)
    with pytest.raises(ForgeryError, match="did not sign"):
        read(theirs.replace(OTHER.id.encode(), KEY.id.encode()))


def test_nothing_is_read_before_the_signature_holds() -> None:
    """A text that would break a reader never reaches it."""
    broken = payload_of(b'{"kind":"nudge"}').replace(b"nudge", b"parley")
    with pytest.raises(ForgeryError):
        read(broken)


def test_unknown_fields_are_ignored() -> None:
    """A newer side may add fields, at every depth."""
    text = (
        b'{"kind":"records","log":"act","after":[0,""],"new":{"a":[1]},"records":'
        b'[{"id":"' + id_of(1).encode() + b'","kind":"alert","at":1,"data":{"q":0},"more":true}]}'
    )
    found = read(payload_of(text))
    assert isinstance(found, Records)
    assert bytes(found.records[0].data) == b'{"q":0}'


def test_data_of_a_record_comes_out_as_the_very_bytes() -> None:
    """Blanks, order and escapes are kept: they were signed, and may have to go up again."""
    data = b'{ "b" : 1,  "a":"\\u00e9" }'
    message = Records(
        log="act", after=START, records=[Record(id=id_of(1), kind="x", at=1.5, data=Raw(data))]
    )
    again = read(written(message))
    assert isinstance(again, Records)
    assert bytes(again.records[0].data) == data
    assert written(again) == written(message)


def test_defaults_are_left_out_and_come_back() -> None:
    """A bare hello takes few bytes."""
    hello = Hello(nonce=id_of(1), run=id_of(2), install=id_of(3))
    payload = written(hello)
    assert len(payload) < 300
    assert read(payload) == hello


def test_a_message_over_the_limit_is_refused_where_it_is_written() -> None:
    """One byte more than the limit never reaches the wire; the limit itself passes both ways."""
    empty = len(written(_padded(0)))
    assert read(written(_padded(MESSAGE_BYTES_LIMIT - empty)))
    with pytest.raises(WireError, match="over the limit"):
        written(_padded(MESSAGE_BYTES_LIMIT - empty + 1))


def _padded(more_bytes: int) -> Records:
    data = Raw(b'"' + b"x" * more_bytes + b'"')
    return Records(
        log="act", after=START, records=[Record(id=id_of(1), kind="x", at=1.0, data=data)]
    )
