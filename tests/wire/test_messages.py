"""Messages and records: limits, unknown fields, unknown kinds, and what can never be encoded."""

import msgspec
import pytest

from buswire.errors import WireError
from buswire.messages import (
    BATCH_BYTES,
    BATCH_RECORDS,
    DEVICE_KINDS,
    DIRECTIVE_BYTES_LIMIT,
    HQ_KINDS,
    MESSAGE_BYTES_LIMIT,
    MESSAGE_KINDS,
    RECORD_BYTES_LIMIT,
    UNSURE_LIMIT,
    Alert,
    Directive,
    Hello,
    Original,
    Record,
    Records,
    Reply,
    Report,
    UnknownKindError,
    Work,
    decode_data,
    encode_data,
)
from buswire.states import Needs
from tests.wire.words import cursor, id_of


def test_the_limits_fit_into_one_another() -> None:
    """A directive fits a record when sent back, records fit a batch, a batch fits a message."""
    assert DIRECTIVE_BYTES_LIMIT < RECORD_BYTES_LIMIT < BATCH_BYTES < MESSAGE_BYTES_LIMIT
    overhead = len(
        msgspec.json.encode(
            Record(id=id_of(1), kind="k" * 40, at=1234567890.123456, data=msgspec.Raw(b""))
        )
    )
    assert BATCH_BYTES + BATCH_RECORDS * (overhead + 1) + 1000 < MESSAGE_BYTES_LIMIT


def test_the_largest_directive_fits_a_record_when_it_comes_back() -> None:
    """A store can always heal HQ: an original of the longest directive and role is no too long."""
    data = b"{" + b'"x":"' + b"y" * (DIRECTIVE_BYTES_LIMIT - 8) + b'"}'
    assert len(data) == DIRECTIVE_BYTES_LIMIT
    encode_data(Original(kind="directive", role="東" * 64, data=msgspec.Raw(data)))


def test_a_record_over_the_limit_is_refused_where_it_is_entered() -> None:
    """In bytes, not in characters; what just fits passes and comes back."""
    reply = Reply(directive=id_of(1), role="any", text="x")
    room = RECORD_BYTES_LIMIT - len(encode_data(reply)) + 1
    fits = msgspec.structs.replace(reply, text="x" * room)
    assert decode_data("reply", encode_data(fits), DEVICE_KINDS) == fits
    for text in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(WireError, match="65536 are the most") as caught:
            encode_data(msgspec.structs.replace(reply, text=text))
        assert caught.value.hint


def test_text_that_is_no_text_is_refused_with_a_hint() -> None:
    """A lone surrogate, as a wrongly decoded command line gives it, is no crash."""
    with pytest.raises(WireError, match="no text") as caught:
        encode_data(Reply(directive=id_of(1), role="any", text="caf\udce9"))
    assert caught.value.hint


def test_unknown_fields_of_a_record_are_ignored() -> None:
    """A newer HQ may say more of a directive."""
    data = b'{"id":"' + id_of(1).encode() + b'","title":"t","later":{"deep":[1,2]}}'
    assert decode_data("directive", data, HQ_KINDS) == Directive(id=id_of(1), title="t")


@pytest.mark.parametrize("kinds", [HQ_KINDS, DEVICE_KINDS], ids=["hq", "device"])
def test_unknown_kinds_are_told_apart(kinds: dict[str, object]) -> None:
    """A kind of the other side is as unknown as one that nobody has."""
    others = (HQ_KINDS.keys() | DEVICE_KINDS.keys()) - kinds.keys()
    for kind in (*others, "", "parley"):
        with pytest.raises(UnknownKindError):
            decode_data(kind, b"{}", kinds)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("directive", b'{"id":"x","title":"t"}'),
        ("directive", b'{"id":"00000000000000000000000000000001","title":""}'),
        ("directive", b'{"id":"0000000000000000000000000000000G","title":"t"}'),
        ("directive", b'{"id":"00000000000000000000000000000001","title":"t","needs":"money"}'),
        ("directive", b'{"id":"00000000000000000000000000000001","title":"t","priority":9}'),
        ("state", b'{"directive":"00000000000000000000000000000001","state":"lost"}'),
        ("cancel", b"[]"),
        ("cancel", b"\xff\xfe"),
        ("cancel", b"[" * 100_000),
        ("cancel", b""),
    ],
)
def test_data_that_does_not_fit_its_kind_is_a_wire_error(kind: str, data: bytes) -> None:
    """Types, patterns, choices, UTF-8 and depth are checked where data is read."""
    with pytest.raises(WireError, match=kind) as caught:
        decode_data(kind, data, HQ_KINDS)
    assert not isinstance(caught.value, UnknownKindError)


def test_fields_keep_their_types() -> None:
    """A SKU with leading zeros stays text, a number stays a number, nothing stays nothing."""
    fields = {"sku": "0069", "on_hand": 3, "wanted": 2.5, "urgent": True, "note": None}
    alert = Alert(alert="replenishment", fields=fields)
    again = decode_data("alert", encode_data(alert), DEVICE_KINDS)
    assert again.fields == fields
    assert {name: type(value) for name, value in again.fields.items()} == {
        name: type(value) for name, value in fields.items()
    }
    report = Report(
        report="r", name="stock", part=1, parts=1, columns=["a"], rows=[["007"], [7], [None]]
    )
    assert decode_data("report", encode_data(report), DEVICE_KINDS) == report


def test_a_part_of_a_report_begins_with_one() -> None:
    """A part zero would never be complete."""
    report = Report(report="r", name="n", part=0, parts=1, columns=[], rows=[])
    with pytest.raises(WireError):
        decode_data("report", encode_data(report), DEVICE_KINDS)


def test_a_hello_asks_about_so_much_unsure_work_and_no_more() -> None:
    """What a device can make HQ look up with one message is bounded."""
    hello = Hello(nonce=id_of(1), run=id_of(2), install=id_of(3))
    for count, fits in ((UNSURE_LIMIT, True), (UNSURE_LIMIT + 1, False)):
        work = [Work(id_of(number), "any") for number in range(count)]
        text = msgspec.json.encode(msgspec.structs.replace(hello, unsure=work))
        if fits:
            assert len(msgspec.json.decode(text, type=Hello).unsure) == count
        else:
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(text, type=Hello)


def test_numbers_are_those_that_every_json_reader_keeps_exact() -> None:
    """From 0 to 2**53; a negative or greater sequence number is no cursor."""
    for seq, fits in ((0, True), (2**53, True), (-1, False), (2**53 + 1, False)):
        text = msgspec.json.encode(Records(log="act", after=cursor(0), records=[]))
        text = text.replace(b"[0,", b"[%d," % seq)
        if fits:
            assert msgspec.json.decode(text, type=Records).after.seq == seq
        else:
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(text, type=Records)


def test_a_directive_asks_to_be_read_unless_it_says_more() -> None:
    """The default is what a notice needs."""
    assert Directive(id=id_of(1), title="t").needs is Needs.READ


def test_every_kind_is_named_after_its_class() -> None:
    """The wire's word is the class name in small letters, and no two share one."""
    assert all(name == kind.__name__.lower() for name, kind in MESSAGE_KINDS.items())
    assert all(kind.__struct_config__.tag == name for name, kind in MESSAGE_KINDS.items())
    assert not HQ_KINDS.keys() & DEVICE_KINDS.keys()
