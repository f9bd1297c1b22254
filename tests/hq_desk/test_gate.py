"""Whose word counts at HQ: forged, misdirected, revoked and stale messages change nothing."""

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from buswire import frame
from buswire.cursors import START, Cursor
from buswire.messages import (
    Ack,
    Alert,
    Bye,
    Heads,
    Hub,
    Join,
    Joined,
    Nudge,
    Record,
    Records,
    Reply,
    Snapshot,
    Trouble,
    Welcome,
    encode_data,
)
from buswire.signing import SigningKey, signature_text
from buswire.states import State
from buswire.topics import Identity
from hqconsole.desk import Heard, Linked, Tick
from hqconsole.ledger import enrolment
from tests.hq_desk.office import (
    AT,
    OTHER,
    RUN,
    SIBLING,
    TILL,
    TOPICS,
    Office,
    key_of,
    new_id,
    receipt,
    seed,
)

# What a message may leave behind that is not taken.
TRACES = {"quarantine", "incident"}


def contents(office: Office) -> dict[str, list[Any]]:
    """Everything in the ledger but the traces."""
    tables = [
        name
        for (name,) in office.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if name not in TRACES and not name.startswith("sqlite")
    ]
    return {name: sorted(office.rows(f"SELECT * FROM {name}"), key=repr) for name in tables}


def messages(office: Office, directive: str) -> list[Any]:
    """Every kind of message, those of devices such as would have an effect."""
    said = [
        receipt(directive, State.DONE),
        Record(
            id=new_id(),
            kind="reply",
            at=AT,
            data=Raw(encode_data(Reply(directive=directive, role="any", text="Yes"))),
        ),
        Record(id=new_id(), kind="alert", at=AT, data=Raw(encode_data(Alert(alert="stockout")))),
        Record(id=new_id(), kind="trouble", at=AT, data=Raw(encode_data(Trouble(what="odd")))),
    ]
    return [
        office.a_hello(),
        Records(log="act", after=START, records=said),
        Records(log="bulk", after=START, records=said[1:2]),
        Bye(run=RUN),
        Welcome(nonce=new_id(), run=RUN, at=AT, mode="snapshot"),
        Snapshot(nonce=new_id(), page=1, pages=1, items=[]),
        Ack(run=RUN, log="act", cursor=Cursor(1, new_id())),
        Nudge(reason="x"),
        Heads(run=RUN, heads={}),
        Hub(run=RUN, up=True),
        Join(
            nonce=new_id(),
            device_key=key_of(TILL).public.text,
            token_hash="0" * 64,
            proof=signature_text(b"\0" * 64),
        ),
        Joined(nonce=new_id(), verdict="accepted", store="S1", device="till-1"),
    ]


def forgeries(office: Office, message: Any) -> list[tuple[str, bytes]]:
    """The message as nobody who may speak on the topic has signed it, each with its topic."""
    topic = TOPICS.from_(TILL)
    good = frame.encode(message, topic, key_of(TILL))
    header, _, text = good.partition(b"\n")
    version, key_id, signature = header.split(b" ")
    hq = office.keys.signing(AT)
    elsewhere = [TOPICS.from_(OTHER), TOPICS.to(TILL), TOPICS.hq, "other/v1/from/S1/till-1"]
    altered = bytearray(good)
    altered[-3] ^= 1
    return [
        (topic, version + b"\n" + text),
        (topic, b"%b %b \n%b" % (version, key_id, text)),
        (topic, b"%b %b %b\n%b" % (version, key_id, signature[:-1] + b"!", text)),
        (topic, b"%b %b %b\n%b" % (version, key_id, b"A" * 86, text)),
        (topic, b"%b %b %b\n%b" % (version, b"0" * 32, signature, text)),
        (topic, bytes(altered)),
        (topic, good + b" "),
        (topic, good.replace(b"storebus/1", b"storebus/2", 1)),
        *((topic, frame.encode(message, place, key_of(TILL))) for place in elsewhere),
        (topic, frame.encode(message, topic, SigningKey(seed("stranger")))),
        (topic, frame.encode(message, topic, key_of(OTHER))),
        (topic, frame.encode(message, topic, hq)),
        (TOPICS.from_(OTHER), good),
        (TOPICS.from_(SIBLING), good),
        (TOPICS.from_(Identity("S9", "till-1")), good),
    ]


def test_nothing_forged_of_any_kind_is_taken(office: Office) -> None:
    """Unsigned, altered, of another key, for another topic: the ledger has traces and no more."""
    directive = office.issue()
    office.enrol(SIBLING)
    office.hello()
    before = contents(office)
    for message in messages(office, directive):
        for topic, payload in forgeries(office, message):
            out = office.desk.handle([Heard(topic, payload)], office.now)
            assert [one for one in out if "/to/" in one.topic] == []
    assert contents(office) == before
    assert set(office.incidents()) == {"forged", "not a device"}


def test_random_mutations_of_good_messages_are_never_taken(office: Office) -> None:
    """A few thousand payloads with a byte or more changed, cut, or put together from two."""
    directive = office.issue()
    office.hello()
    before = contents(office)
    seed_number = 20_260_101
    print(f"seed {seed_number}")
    draw = random.Random(seed_number)
    good = [office.payload(message) for message in messages(office, directive)]
    events = []
    while len(events) < 3000:
        payload = bytearray(draw.choice(good))
        match draw.randrange(4):
            case 0:
                payload[draw.randrange(len(payload))] ^= 1 << draw.randrange(8)
            case 1:
                del payload[draw.randrange(len(payload)) :]
            case 2:
                place = draw.randrange(len(payload))
                payload[place:place] = draw.randbytes(draw.randrange(1, 9))
            case 3:
                other = draw.choice(good)
                place = draw.randrange(len(payload))
                payload[place:] = other[place:]
        if bytes(payload) not in good:
            events.append(Heard(TOPICS.from_(TILL), bytes(payload)))
    out = office.desk.handle(events, office.now)
    assert [one for one in out if "/to/" in one.topic] == []
    assert contents(office) == before


def test_a_flood_of_forgeries_leaves_a_handful_of_rows(office: Office) -> None:
    """Ten thousand forged messages with keys at random: one row, and an incident at each power."""
    payloads = [b"storebus/1 %032x %b\n{}" % (number, b"A" * 86) for number in range(10_000)]
    office.hear_raw(*payloads)
    assert office.reasons() == {"signed with another key than the device's": 10_000}
    assert office.incidents() == ["forged"] * 5
    assert len(office.rows("SELECT 1 FROM quarantine")) == 1


def test_a_flood_of_strangers_leaves_a_handful_of_rows(office: Office) -> None:
    """A thousand devices that nobody added, in known and unknown stores, are counted together."""
    payload = office.payload(Bye(run=RUN))
    events = [
        Heard(TOPICS.from_(Identity(store, f"till-{number + 100}")), payload)
        for number in range(500)
        for store in ("S1", f"X{number}")
    ]
    office.desk.handle(events, office.now)
    assert sorted(office.rows("SELECT source, times FROM quarantine")) == [
        ("from/*", 500),
        ("from/S1/*", 500),
    ]
    assert office.rows("SELECT count(*) FROM device") == [(2,)]


def test_who_was_added_and_has_not_joined_is_not_heard(office: Office) -> None:
    """An invitation is no key."""
    with office.ledger.write() as connection:
        enrolment.add(connection, SIBLING, None, at=AT, new_id=new_id)
    assert office.hear(office.a_hello(), identity=SIBLING) == []
    assert office.incidents() == ["not a device"]


def test_a_revoked_device_is_not_heard_whatever_the_broker_lets_through(office: Office) -> None:
    """From the commit of the revocation on, and its will counts neither."""
    office.hello()
    with office.ledger.write() as connection:
        enrolment.revoke(connection, TILL, at=AT, by="Ana", why="stolen")
    before = contents(office)
    assert office.hear(office.a_hello(), Bye(run=RUN)) == []
    assert contents(office) == before
    assert office.incidents() == ["revoked device speaks"]
    assert office.rows("SELECT online FROM device WHERE no = 1") == [(0,)]


def test_the_old_key_counts_no_more_once_the_device_joined_anew(office: Office) -> None:
    """Whoever has the old disk is not heard beside the new one, and HQ says which key it was."""
    new = SigningKey(seed("new disk"))
    office.hello()
    office.enrol(TILL, key=new)
    assert office.hear(office.a_hello()) == []
    assert office.reasons() == {"signed with a key that the device had before": 1}
    assert [type(one) for one in office.hear(office.a_hello(), key=new)][:1] == [Welcome]


def test_what_was_not_acknowledged_is_taken_signed_anew(office: Office) -> None:
    """A device that joins anew sends again what HQ has not acknowledged, and loses nothing."""
    directive = office.issue()
    office.hello()
    said = Records(log="act", after=START, records=[receipt(directive, State.DONE)])
    new = SigningKey(seed("new key"))
    office.enrol(TILL, key=new)
    assert office.hear(said) == []
    office.hear(office.a_hello(), key=new)
    assert [type(one) for one in office.hear(said, key=new)] == [Ack]
    assert office.rows("SELECT state FROM delivery WHERE mailbox_no = 1") == [(5,)]


@pytest.mark.parametrize("role", ["clerk", "nobody"])
def test_a_receipt_for_a_role_that_is_not_its_own_has_no_effect(tmp_path: Path, role: str) -> None:
    """It is kept as evidence, marked, and told once a day; `any` is everybody's."""
    office = Office(tmp_path)
    office.roster("S1", "S2", roles=("manager", "clerk"))
    office.enrol(SIBLING, ["manager"])
    office.desk.handle([Linked()], office.now)
    directive = office.issue()
    office.hello(identity=SIBLING)
    said = [receipt(directive, State.DONE, role=role) for _ in range(3)]
    (ack,) = office.hear(Records(log="act", after=START, records=said), identity=SIBLING)
    assert ack.cursor.seq == 3, "the log goes on behind it"
    assert office.rows("SELECT DISTINCT outcome FROM arrival") == [("not its role",)]
    assert office.incidents() == ["not its role"]
    assert office.rows("SELECT count(*) FROM delivery WHERE open = 0") == [(0,)]
    office.ledger.close()


def test_work_may_be_answered_after_the_roles_changed(tmp_path: Path) -> None:
    """What a device served once it may go on to answer for: by assignment and by the roster."""
    office = Office(tmp_path)
    office.roster("S1", "S2", roles=("manager", "clerk"))
    office.enrol(TILL, ["clerk"])
    office.desk.handle([Linked()], office.now)
    office.hello()
    office.enrol(TILL, ["manager"])  # was clerk
    office.hello()
    office.roster("S1", "S2", roles=("manager",))  # S2's device served all roles
    mail = [receipt("d" * 32, State.READ, role="clerk")]
    for identity in (TILL, OTHER):
        office.hello(identity=identity)
        office.hear(Records(log="act", after=START, records=mail), identity=identity)
    assert office.rows("SELECT DISTINCT outcome FROM arrival") == [(None,)]
    assert "not its role" not in office.incidents()
    office.ledger.close()


def test_hq_signs_all_that_it_says_with_its_present_key(office: Office) -> None:
    """After a rotation the next message bears the new key, and the welcome carries the chain."""
    office.issue()
    office.hello()
    first = office.keys.signing(AT).id
    office.keys.rotate()
    office.desk.take_keys(office.keys)
    office.issue()
    out = office.desk.handle([Tick(), Linked()], office.now)
    assert out
    for one in out:
        office.read(one)
    welcome = office.hello(hq_key=first)
    assert welcome.keys == list(office.keys.entries[1:])
    assert office.hello(hq_key=office.keys.signing(AT).id).keys == []
    assert office.hello(hq_key="").keys == list(office.keys.entries), "who knows no key is told all"


def test_a_hello_that_names_channels_of_others_learns_nothing(office: Office) -> None:
    """Whether HQ has forgotten is judged by the device's own channels alone."""
    office.hello()
    strange = {"store/S2/any": Cursor(3, "c" * 32), "all/clerk": Cursor(4, "d" * 32)}
    assert office.hello(cursors=strange).forgot is False
    assert office.hello(cursors={"all/any": Cursor(3, "c" * 32)}).forgot is True
