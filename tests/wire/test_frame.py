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
from tests.wire.words import cursor, id_of, records

HEAD = b"storebus/1\n"


def _decoded(payload: bytes) -> AnyMessage | None:
    """The message, or None for a WireError; anything else fails the test."""
    try:
        return frame.decode(payload)
    except WireError as error:
        told = str(error)
    assert len(told) < 1000
    return None


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(HEAD.__add__)))
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
    _decoded(HEAD + text)


def test_a_message_with_flipped_bytes_raises_nothing_but_wire_error() -> None:
    """Damage of one to four bytes in a real message."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    whole = frame.encode(Records(log="all/any", after=cursor(3), records=records(range(4, 7))))
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 5)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            _decoded(bytes(damaged))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "not a message of storebus"),
        (b"storebus/1", "not a message of storebus"),
        (b"\n{}", "not a message of storebus"),
        (b"hello\n{}", "not a message of storebus"),
        (b'storebus/2\n{"kind":"nudge"}', "version 'storebus/2'"),
        (b"storebus/\xff\n{}", "version"),
        (HEAD, "does not fit"),
        (HEAD + b"[]", "does not fit"),
        (HEAD + b'{"reason":"no kind"}', "does not fit"),
        (HEAD + b'{"kind":7}', "does not fit"),
        (HEAD + b'{"kind":"nudge"} x', "does not fit"),
        (HEAD + b'{"kind":"nudge","reason":"\xff"}', "does not fit"),
        (HEAD + b'{"kind":"nudge","reason":"\\ud800"}', "does not fit"),
        (HEAD + b'{"kind":"nudge","reason":' + b"[" * 100_000, "does not fit"),
        (HEAD + b'{"kind":"nudge","unknown":' + b"[" * 100_000, "does not fit"),
        (HEAD + b'{"kind":' * 20_000, "does not fit"),
        (HEAD + b" " * 1_000_000, "over the limit"),
        (b"\0" * 1_000_000, "over the limit"),
    ],
    ids=range(18),
)
def test_what_is_no_message_says_why(payload: bytes, told: str) -> None:
    """Wrong version, invalid UTF-8, deep nesting and a megabyte each get their reason."""
    with pytest.raises(WireError, match=told) as caught:
        frame.decode(payload)
    assert not isinstance(caught.value, UnknownKindError)


def test_another_version_says_what_mends_it() -> None:
    """Whoever reads the refusal knows that a side is to be updated."""
    with pytest.raises(WireError) as caught:
        frame.decode(b'storebus/2 key sig\n{"kind":"nudge"}')
    assert caught.value.hint


def test_a_kind_of_a_newer_version_is_told_apart_from_garbage() -> None:
    """It is kept aside and reported, and its name is cut."""
    with pytest.raises(UnknownKindError, match="'parley'"):
        frame.decode(HEAD + b'{"kind":"parley","x":1}')
    with pytest.raises(UnknownKindError) as caught:
        frame.decode(HEAD + b'{"kind":"' + b"x" * 1000 + b'"}')
    assert len(str(caught.value)) < 100


def test_a_header_has_room_for_a_signature() -> None:
    """What stands behind the version is passed over by who does not check it."""
    assert frame.decode(b'storebus/1 key-7 c2lnbmF0dXJl\n{"kind":"nudge"}') == Nudge()


def test_the_signed_bytes_are_those_behind_the_first_line_feed() -> None:
    """Further line feeds belong to the text."""
    assert frame.decode(b'storebus/1\n\n{"kind":\n"nudge"}') == Nudge()


def test_unknown_fields_are_ignored() -> None:
    """A newer side may add fields, at every depth."""
    found = frame.decode(
        HEAD + b'{"kind":"records","log":"act","after":[0,""],"new":{"a":[1]},"records":'
        b'[{"id":"' + id_of(1).encode() + b'","kind":"alert","at":1,"data":{"q":0},"more":true}]}'
    )
    assert isinstance(found, Records)
    assert bytes(found.records[0].data) == b'{"q":0}'


def test_data_of_a_record_comes_out_as_the_very_bytes() -> None:
    """Blanks, order and escapes are kept: they were signed, and may have to go up again."""
    data = b'{ "b" : 1,  "a":"\\u00e9" }'
    message = Records(
        log="act", after=START, records=[Record(id=id_of(1), kind="x", at=1.5, data=Raw(data))]
    )
    again = frame.decode(frame.encode(message))
    assert isinstance(again, Records)
    assert bytes(again.records[0].data) == data
    assert frame.encode(again) == frame.encode(message)


def test_defaults_are_left_out_and_come_back() -> None:
    """A bare hello takes few bytes."""
    hello = Hello(nonce=id_of(1), run=id_of(2), install=id_of(3))
    payload = frame.encode(hello)
    assert len(payload) < 180
    assert frame.decode(payload) == hello


def test_a_message_over_the_limit_is_refused_where_it_is_written() -> None:
    """One byte more than the limit never reaches the wire; the limit itself passes both ways."""
    empty = len(frame.encode(_padded(0)))
    assert frame.decode(frame.encode(_padded(MESSAGE_BYTES_LIMIT - empty)))
    with pytest.raises(WireError, match="over the limit"):
        frame.encode(_padded(MESSAGE_BYTES_LIMIT - empty + 1))


def _padded(more_bytes: int) -> Records:
    data = Raw(b'"' + b"x" * more_bytes + b'"')
    return Records(
        log="act", after=START, records=[Record(id=id_of(1), kind="x", at=1.0, data=data)]
    )
