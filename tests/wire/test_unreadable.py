"""Records that nobody can read do not hold up those around them."""

import json
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buswire import frame
from buswire.cursors import START, Cursor
from buswire.errors import WireError
from buswire.messages import DEVICE_KINDS, Alert, Record, Records, decode_data, encode_data
from buswire.unreadable import is_readable, records_around

GOOD = encode_data(Alert(alert="incident", fields={"what": 'a "leak" \\ { [ , \u00e9 \U0001f600'}))
HEAD = "f" * 32
UNREADABLE = {
    "half a pair": b'{"alert":"incident","fields":{"what":"\\ud800"}}',
    "the other half": b'{"alert":"incident","fields":{"what":"x\\uDC00}"}}',
    "a pair the wrong way round": b'{"alert":"incident","note":"\\udc00\\ud83d"}',
    "in what nobody looks at": b'{"alert":"incident","fields":{"what":"a"},"more":"\\udfff"}',
    "in a name": b'{"alert":"incident","fields":{"\\ud800":"a"}}',
    "a surrogate as bytes": b'{"alert":"incident","fields":{"what":"\xed\xa0\x80"}}',
    "another encoding": b'{"alert":"incident","fields":{"what":"caf\xe9"}}',
    "bytes in what nobody looks at": b'{"alert":"incident","fields":{},"more":"\xff"}',
    "not a number": b'{"alert":"incident","fields":{"what":NaN}}',
    "no end of it": b'{"alert":"incident","fields":{"what":[-Infinity]}}',
    "a line feed": b'{"alert":"incident","fields":{"what":"a\nb"}}',
    "nothing but half a pair": b'"\\ud800"',
}


def message(*datas: bytes, more: bytes = b"", blank: bytes = b"") -> bytes:
    """A message of records with these data, as a foreign program may lay it out."""
    records = b",".join(
        blank.join(
            (b"", b"{", b'"id"', b":", b'"%032x"' % number, b",", b'"data"', b":", data, b",",
             b'"kind":"alert"', b",", b'"at":1.5', b"}", b"")
        )
        for number, data in enumerate(datas)
    )  # fmt: skip
    return b'{"kind":"records",%b"after":[7,"%b"],"records":[%b],"log":"act"}' % (
        more,
        HEAD.encode(),
        records,
    )


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_refused_alone(name: str) -> None:
    """All ids are there, so that the cursor goes on; its data is as it came; the rest is read."""
    bad = UNREADABLE[name]
    assert not is_readable(bad)
    for blank in (b"", b" \r\n\t"):
        found = frame.decode_text(message(GOOD, bad, bad, GOOD, blank=blank))
        assert isinstance(found, Records)
        assert (found.log, found.after) == ("act", Cursor(7, HEAD))
        assert [one.id for one in found.records] == [f"{number:032x}" for number in range(4)]
        assert [bytes(one.data) for one in found.records] == [GOOD, bad, bad, GOOD]
        assert [one.at for one in found.records] == [1.5] * 4
        for number, one in enumerate(found.records):
            if number in (1, 2):
                with pytest.raises(WireError):
                    decode_data(one.kind, one.data, DEVICE_KINDS)
            else:
                assert decode_data(one.kind, one.data, DEVICE_KINDS).alert == "incident"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"kind":"records"}',
        b'{"kind":"bye","run":"\\ud800"}',
        b'{[1]:2,"kind":"records","records":[]}',
        b'{1:2,"records":[{"data":"\\ud800"}]}',
        b'{"records":[{"data":"\\ud800"}]}',
        b'{"records":"\\ud800"}',
        b'{"records":{}}',
        b'{"records":[1]}',
        b'{"records":[{}]}',
        message(b"\\ud800"),
        message(b'"\\x41"'),
        message(b'{"what":"\\ud800"'),
        message(b'"\\ud800"', more=b'"more":"\\ud800",'),
        message(b'"\\ud800"', more=b'"more":"\xff",'),
        message(b'"\\ud800"') + b"x",
        message(b'"\\ud800"').replace(b'"act"', b"7"),
        message(b'"\\ud800"').replace(b'"data"', b'"id":"","data"'),
        message(b"[" * 100_000),
        message(b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_only_data_may_be_unreadable(text: bytes) -> None:
    """What is wrong elsewhere, or has no end, is refused whole."""
    assert records_around(text) is None
    with pytest.raises(WireError):
        frame.decode_text(text)


def test_the_last_of_one_name_counts_here_as_well() -> None:
    """What is read is what a strict reader would have read."""
    text = message(b'1,"data":"\\ud800"')
    found = records_around(text)
    assert found is not None
    assert bytes(found.records[0].data) == b'"\\ud800"'
    assert records_around(message(b'"\\ud800","data":1')) is None


@given(st.lists(st.binary(max_size=6) | st.sampled_from([GOOD, *UNREADABLE.values()]), max_size=6))
def test_whatever_comes_is_read_as_strictly_or_refused(datas: list[bytes]) -> None:
    """Of what a strict reader reads nothing changes, and nothing else is ever raised."""
    text = message(*datas)
    try:
        text.decode()
        strict = msgspec.json.decode(text, type=Records)
    except (msgspec.DecodeError, UnicodeDecodeError):
        strict = None
    found = records_around(text)
    if strict is not None:
        assert found == strict
    if found is not None:
        assert [one.id for one in found.records] == [
            f"{number:032x}" for number in range(len(found.records))
        ]


def test_good_messages_are_read_around_as_they_are_read() -> None:
    """The walk finds the data of each record where the strict reader finds it."""
    random = Random(7)
    letters = ['"', "\\", "{", "}", "[", "]", ",", ":", "\n", "\u00e9", "\U0001f600", "a"]
    for _ in range(200):
        records = [
            Record(
                id=f"{random.getrandbits(128):032x}",
                kind="alert",
                at=random.random(),
                data=msgspec.Raw(
                    json.dumps(
                        {"".join(random.choices(letters, k=5)): [1, None, {"x": "\\u"}]},
                        ensure_ascii=random.random() < 0.5,
                    ).encode()
                ),
            )
            for _ in range(random.randrange(4))
        ]
        text = msgspec.json.encode(Records(log="bulk", after=START, records=records))
        assert records_around(text) == frame.decode_text(text)
