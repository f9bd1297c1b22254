"""What HQ did not sign for this device, here and now, is refused and changes nothing.

Every kind of message that HQ sends, each where it would take effect, times every way of not being
what it seems. For each kind there is a proof beside it that the genuine message does take effect.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from buswire.cursors import START, Cursor
from buswire.device import Timing
from buswire.messages import (
    MESSAGE_BYTES_LIMIT,
    Ack,
    AnyMessage,
    Heads,
    Hello,
    Hub,
    Nudge,
    Records,
    Snapshot,
    SnapshotItem,
    Welcome,
    encode_data,
)
from buswire.signing import SigningKey, message_bytes, signature_text
from buswire.states import State
from buswire.topics import Identity
from storeagent.core import Heard, Linked, Publish, Rang, Unlinked
from storeagent.hearing import UNKNOWN_KEY
from storeagent.limits import Limits
from tests.agent.device import Device
from tests.agent.head_office import DEVICE_KEY, ME, RECOVERY, TOPICS, HeadOffice, hq_key
from tests.agent.words import ALL_ANY, FACTS, STORE_ANY, directive, ids

TO = TOPICS.to(ME)
OTHER = Identity("S018", "till-1")
STRANGER = SigningKey(b"a stranger".ljust(32, b"."))

Message = tuple[str, AnyMessage]


# --- where each kind would take effect -----------------------------------------------------------


def _asking(device: Device) -> Hello:
    """Let the device say hello; the answer is the test's."""
    device.now += 1.0
    for one in device.handle(Unlinked(), Linked()):
        if isinstance(one, Publish):
            hello = device.hq.read(one.topic, one.payload)
            if isinstance(hello, Hello):
                return hello
    raise AssertionError("no hello")


def _welcome(device: Device, **changes: Any) -> Welcome:
    hq = device.hq
    (welcome, *_) = hq._answer(_asking(device))
    assert isinstance(welcome, Welcome)
    return msgspec.structs.replace(welcome, keys=[], **changes)


def _records_down(device: Device) -> Message:
    record, after = device.hq.words.issue(7), device.hq.head(ALL_ANY)
    device.hq.append(ALL_ANY, record)
    return TOPICS.down(ALL_ANY), Records(log=str(ALL_ANY), after=after, records=[record])


def _records_replayed(device: Device) -> Message:
    return TO, _records_down(device)[1]


def _welcome_replay(device: Device) -> Message:
    return TO, _welcome(device, run=ids("9", 7), store=msgspec.structs.replace(FACTS, name="?"))


def _welcome_later(device: Device) -> Message:
    return TO, _welcome(device, mode="later", later_seconds=86_400.0)


def _snapshot(device: Device) -> Message:
    """The last page; the welcome before it is genuine."""
    welcome = _welcome(device, mode="snapshot", pages=1, set_version=Cursor(7, ids("a", 7)))
    device.handle(device.hq.lay(TO, welcome))
    raw = msgspec.Raw(encode_data(directive(7)))
    item = SnapshotItem(role="any", state=State.PENDING, data=raw)
    return TO, Snapshot(nonce=welcome.nonce, page=1, pages=1, items=[item])


def _ack(device: Device) -> Message:
    device.statements.alert("incident", {"what": "water"})
    for one in device.handle(Rang()):
        assert isinstance(one, Publish)
        records = device.hq.read(one.topic, one.payload)
        assert isinstance(records, Records)
        last = Cursor(records.after.seq + len(records.records), records.records[-1].id)
        return TO, Ack(run=device.hq.run, log="act", cursor=last)
    raise AssertionError("nothing was sent")


def _nudge(_: Device) -> Message:
    return TO, Nudge(reason="say", challenge=ids("c", 1))


def _heads(_: Device) -> Message:
    heads = {str(ALL_ANY): Cursor(99, ids("e", 99))}
    return TOPICS.heads("east"), Heads(run=ids("9", 1), heads=heads)


def _hub(_: Device) -> Message:
    return TOPICS.hq, Hub(run=ids("9", 8), up=True)


KINDS: dict[str, Callable[[Device], Message]] = {
    "records on down": _records_down,
    "records on to": _records_replayed,
    "welcome": _welcome_replay,
    "welcome, later": _welcome_later,
    "snapshot": _snapshot,
    "ack": _ack,
    "nudge": _nudge,
    "heads": _heads,
    "hub": _hub,
}


# --- ways of not being what it seems -------------------------------------------------------------


def _elsewhere(topic: str) -> str:
    """A topic of another device or place, of the same shape."""
    if topic == TO:
        return TOPICS.to(OTHER)
    return TOPICS.down(STORE_ANY) if "/down/" in topic else TOPICS.heads("west")


def _changed(payload: bytes, place: int) -> bytes:
    altered = bytearray(payload)
    altered[place] ^= 0x01
    return bytes(altered)


def _in_text(payload: bytes) -> int:
    """Somewhere behind the header, inside a value."""
    return payload.index(b"\n") + (len(payload) - payload.index(b"\n")) // 2


FORGERIES: dict[str, Callable[[HeadOffice, str, AnyMessage], Heard]] = {
    "unsigned": lambda hq, topic, m: Heard(topic, b"storebus/1\n" + msgspec.json.encode(m)),
    "a header with blanks": lambda hq, topic, m: Heard(
        topic, b"storebus/1  \n" + msgspec.json.encode(m)
    ),
    "a signature of nothing": lambda hq, topic, m: Heard(
        topic,
        b"storebus/1 %b %b\n" % (hq.key.id.encode(), b"A" * 86) + msgspec.json.encode(m),
    ),
    "a stranger's key": lambda hq, topic, m: hq.lay(topic, m, STRANGER),
    "a stranger's key under HQ's name": lambda hq, topic, m: Heard(
        topic, _named(hq.lay(topic, m, STRANGER).payload, STRANGER, hq.key)
    ),
    "the device's own key": lambda hq, topic, m: hq.lay(topic, m, DEVICE_KEY),
    "the recovery key": lambda hq, topic, m: hq.lay(topic, m, RECOVERY),
    "signed for another topic": lambda hq, topic, m: Heard(
        topic, hq.lay(_elsewhere(topic), m).payload
    ),
    "signed for another root": lambda hq, topic, m: Heard(
        topic, hq.lay(topic.replace("storebus/v1", "other"), m).payload
    ),
    "another device's, on its topic": lambda hq, topic, m: hq.lay(
        TOPICS.to(OTHER) if topic == TO else TOPICS.from_(ME), m
    ),
    "an altered byte in the version": lambda hq, topic, m: Heard(
        topic, _changed(hq.lay(topic, m).payload, 3)
    ),
    "an altered byte in the key's id": lambda hq, topic, m: Heard(
        topic, _changed(hq.lay(topic, m).payload, 20)
    ),
    "an altered byte in the signature": lambda hq, topic, m: Heard(
        topic, _changed(hq.lay(topic, m).payload, 70)
    ),
    "an altered byte in the text": lambda hq, topic, m: Heard(
        topic, _changed((payload := hq.lay(topic, m).payload), _in_text(payload))
    ),
    "a byte more": lambda hq, topic, m: Heard(topic, hq.lay(topic, m).payload + b" "),
    "a byte less": lambda hq, topic, m: Heard(topic, hq.lay(topic, m).payload[:-1]),
    "another text behind a genuine header": lambda hq, topic, m: Heard(
        topic,
        hq.up().payload.partition(b"\n")[0] + b"\n" + msgspec.json.encode(m),
    ),
}


def _named(payload: bytes, really: SigningKey, claimed: SigningKey) -> bytes:
    return payload.replace(really.id.encode(), claimed.id.encode(), 1)


# --- what counts as changed ----------------------------------------------------------------------


def _state(device: Device) -> dict[str, Any]:
    """All that a message of HQ's can change, save the count of what was refused.

    That HQ is told of it and asked for its keys is no change either.
    """
    core, machine = device.core, device.core._machine
    connection = device.database.connection
    tables = ("meta", "acked", "cursor", "directive", "delivery", "cancel", "early", "taken", "day")
    found: dict[str, Any] = {
        table: sorted(map(repr, connection.execute(f"SELECT * FROM {table}"))) for table in tables
    }
    # When HQ last answered is saved with whatever is saved next.
    found["meta"] = [row for row in found["meta"] if "welcome_at" not in row]
    found["outbox"] = [
        row for row in connection.execute("SELECT id, kind FROM act") if row[1] != "trouble"
    ]
    names = ("run", "welcomed", "cursors", "region", "set_version", "last_welcome_at")
    private = ("_welcome", "_pages", "_challenge", "_heard_run", "_through", "_distrust")
    found |= {name: repr(getattr(machine, name)) for name in names + private}
    found["writers"] = [(writer.acked, writer.position) for writer in machine.writers.values()]
    usual = {"beat", "connected", "signed with a key not known here", "a gap while asking"}
    found["asks"] = "" if machine._reason in usual else machine._reason
    found["put off"] = machine._asking and machine._nonce is None
    found["trust"] = core.trusted
    return found


@pytest.fixture
def hq() -> HeadOffice:
    """A head office."""
    return HeadOffice()


@pytest.fixture
def device(hq: HeadOffice) -> Device:
    """A device that is linked, welcomed, and has some work."""
    device = Device(hq)
    device.talk(Linked())
    device.talk(hq.issue(ALL_ANY, 1))
    return device


# --- the matrix ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_genuine_message_takes_effect(device: Device, hq: HeadOffice, kind: str) -> None:
    """What the forgeries below imitate does change something where it is genuine."""
    topic, message = KINDS[kind](device)
    before = _state(device)
    device.handle(hq.lay(topic, message))
    assert _state(device) != before
    assert device.core.inbox.aside_count() == 0


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_forgery_is_refused_and_changes_nothing(
    device: Device, hq: HeadOffice, kind: str, forgery: str
) -> None:
    """Nothing but its count is saved; the genuine message takes effect behind it."""
    topic, message = KINDS[kind](device)
    before = _state(device)
    forged = FORGERIES[forgery](hq, topic, message)
    for _ in range(3):
        device.handle(forged)
    assert _state(device) == before
    counted = sum(aside.times for aside in device.core.inbox.asides())
    counted += sum(refusal.times for refusal in device.core._refusals.waiting())
    assert counted + len(device.core._unjudged) == 3
    device.handle(hq.lay(topic, message))
    # Where a hello is under way about the stranger's key, the genuine reason for one waits.
    assert _state(device) != before or device.core._machine._again


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_from_before_a_recovery_is_worthless(
    device: Device, hq: HeadOffice, kind: str
) -> None:
    """A thief with the old key says nothing that counts once the device has heard of the new."""
    stolen = hq.key
    hq.recover()
    device.talk(Unlinked(), Linked())
    assert device.core.trusted.epoch == 2
    topic, message = KINDS[kind](device)
    before = _state(device)
    device.handle(hq.lay(topic, message, stolen))
    assert _state(device) == before


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"nudge", "heads", "hub"}))
def test_a_replayed_message_changes_nothing(device: Device, hq: HeadOffice, kind: str) -> None:
    """What was taken once does nothing more, neither at once nor after another hello."""
    topic, message = KINDS[kind](device)
    heard = hq.lay(topic, message)
    device.handle(heard)
    after = _state(device)
    device.handle(heard)
    assert _state(device) == after
    device.talk(Unlinked(), Linked())
    device.go_on(30.0)
    later = _state(device)
    device.handle(heard)
    assert _state(device) == later


@pytest.mark.parametrize("kind", ["nudge", "heads", "hub"])
def test_a_replayed_reason_to_ask_only_makes_the_device_ask(hq: HeadOffice, kind: str) -> None:
    """These carry nothing but a reason for a hello, and hellos keep their distance."""
    device = Device(hq, timing=Timing())
    device.talk(Linked())
    device.go_on(1.0)
    device.talk(hq.issue(ALL_ANY, 1))
    topic, message = KINDS[kind](device)
    rows = {k: v for k, v in _state(device).items() if k in {"delivery", "cursor", "acked"}}
    heard, hellos = hq.lay(topic, message), len(hq.hellos)
    for _ in range(500):
        device.talk(heard)
        device.go_on(0.01)
    device.go_on(5.0)
    assert rows.items() <= _state(device).items()
    assert 1 <= len(hq.hellos) - hellos <= 12


# --- what hurts most -----------------------------------------------------------------------------


def test_a_forged_ack_does_not_empty_the_outbox(device: Device, hq: HeadOffice) -> None:
    """A captured broker says that HQ has everything; HQ gets it all the same."""
    hq.silent = True
    for number in range(20):
        device.statements.alert("incident", {"what": f"{number}"})
    device.talk(Rang())
    newest = device.core.outbox.entries("act", after=0, most=100, most_bytes=10**9)[-1]
    ack = Ack(run=hq.run, log="act", cursor=Cursor(newest.position, newest.record.id))
    device.handle(hq.lay(TO, ack, STRANGER))
    assert device.core.outbox.pending("act") >= 20
    hq.silent = False
    device.go_on(60.0)
    assert len(hq.said("alert")) == 20
    assert device.core.outbox.pending("act") == 0


def test_a_forged_snapshot_does_not_clear_the_inbox(device: Device, hq: HeadOffice) -> None:
    """An empty snapshot with the right nonce, welcome and all, by somebody else."""
    hello = _asking(device)
    forged = Welcome(
        nonce=hello.nonce,
        run=hq.run,
        at=0.0,
        mode="snapshot",
        set_version=Cursor(9, ids("a", 9)),
        heads={str(channel): START for channel in hq.logs},
        pages=1,
        store=FACTS,
        keys=hq.entries,
    )
    page = Snapshot(nonce=hello.nonce, page=1, pages=1, items=[])
    device.handle(hq.lay(TO, forged, STRANGER), hq.lay(TO, page, STRANGER))
    assert len(device.core.inbox.items()) == 1
    assert device.core.inbox.unsure_count() == 0
    device.talk(*hq._to(*hq._answer(hello)))
    assert device.core.welcomed


# --- floods --------------------------------------------------------------------------------------


def _rubbish(rng: random.Random, hq: HeadOffice) -> Heard:
    """Something that a stranger may send, never twice the same."""
    made_up = [TOPICS.down(ALL_ANY) + str(rng.random()), str(rng.random())]
    topic = rng.choice([TO, TOPICS.hq, TOPICS.heads("east"), TOPICS.to(OTHER), *made_up])
    text = msgspec.json.encode({"kind": rng.choice(["ack", "nudge", "x"]), "x": rng.random()})
    match rng.randrange(6):
        case 0:
            payload = rng.randbytes(rng.randrange(1, 400))
        case 1:
            payload = b"storebus/%d x\n" % rng.randrange(2, 10**9) + text
        case 2:
            payload = b"x" * (MESSAGE_BYTES_LIMIT + rng.randrange(9))
        case 3:
            payload = b"storebus/1 %b %b\n" % (rng.randbytes(16).hex().encode(), b"A" * 86) + text
        case 4:
            payload = b"storebus/1 %b %b\n" % (hq.key.id.encode(), rng.randbytes(9).hex().encode())
        case _:
            payload = b"storebus/1\n" + text
    return Heard(topic, payload)


def test_a_flood_of_forgeries_fills_neither_outbox_nor_disk(device: Device, hq: HeadOffice) -> None:
    """Ten thousand, no two alike: all counted, few rows, few words to HQ, few hellos."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    before, hellos = device.core.outbox.head("act"), len(hq.hellos)
    items = len(device.core.inbox.items())
    for _ in range(100):
        device.talk(*[_rubbish(rng, hq) for _ in range(100)])
        device.now += 0.1
    device.go_on(400.0)  # to the next beat: HQ's welcome tells that no key was its own
    aside = device.core.inbox.asides(1_000)
    assert sum(one.times for one in aside) == 10_000, f"seed {seed}"
    assert len(aside) <= 30
    troubles = device.core.outbox.head("act") - before
    assert 5 <= troubles <= 100, f"seed {seed}"
    assert len(hq.hellos) - hellos <= 15, f"seed {seed}"
    assert len(device.core.inbox.items()) == items
    said = {str(one["what"]) for one in hq.said("trouble")}
    assert all(what.startswith("refused: ") for what in said)
    assert f"refused: {UNKNOWN_KEY}" in said


def test_a_flood_does_not_keep_the_disk_writing(device: Device) -> None:
    """One at a time, as on a slow line: the first is saved at once, the rest every ten seconds."""
    device.go_on(1.0)
    commits: list[str] = []

    def trace(statement: str) -> None:
        if statement.startswith("COMMIT"):
            commits.append(statement)

    device.database.connection.set_trace_callback(trace)
    for _ in range(1_000):
        device.handle(Heard(TO, b"storebus/1\n{}"))
        device.now += 0.02
    device.now += 10.0
    assert device.core.next_at() <= device.now
    device.handle(Rang())
    device.database.connection.set_trace_callback(None)
    assert 2 <= len(commits) <= 5
    assert [aside.times for aside in device.core.inbox.asides()] == [1_000]


def test_refusals_go_on_when_the_outbox_is_full(hq: HeadOffice) -> None:
    """Not even the reserve has room: the count is kept, and nothing is held up."""
    limits = Limits(rows=1, reserve_rows=0)
    device = Device(hq, limits=limits)
    device.talk(Linked())
    hq.silent = True
    device.statements.alert("incident", {"what": "the one that fits"})
    device.handle(Rang(), Heard(TO, b"rubbish"), Heard(TO, b"rubbish"))
    assert sum(one.times for one in device.core.inbox.asides()) == 2
    assert device.core.outbox.head("act") == 1


def test_what_is_refused_is_said_first_and_with_each_further_digit(
    device: Device, hq: HeadOffice
) -> None:
    """HQ hears how often it came by then, and where."""
    for _ in range(150):
        device.talk(Heard(TO, b"storebus/1\n{}"))
        device.go_on(10.0)
    told = [str(one["detail"]) for one in hq.said("trouble")]
    assert [detail.split(":")[0] for detail in told] == [
        f"on {TO}, 1 so far",
        f"on {TO}, 10 so far",
        f"on {TO}, 100 so far",
    ]


# --- dates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wall_at", [0.0, 4.0e9, 2.5e11])
@pytest.mark.parametrize("hq_at", [0.0, 1.7e9, 2.5e11])
def test_nothing_is_refused_for_its_date(wall_at: float, hq_at: float) -> None:
    """A till in 1970, or in the year 9999, and an HQ in either: everything is taken."""
    hq = HeadOffice()
    device = Device(hq, wall_at=wall_at)
    device.talk(Linked())
    welcome = _welcome(device, at=hq_at)
    device.talk(hq.lay(TO, welcome))
    hq.rotate()
    device.talk(hq.issue(ALL_ANY, 1, issued_at=hq_at, expires_at=1.0))
    device.go_on(20.0)
    assert len(device.core.inbox.items()) == 1
    assert device.core.trusted == hq.trust
    assert device.core.inbox.aside_count() == 0


def test_a_message_is_bound_to_its_bytes(device: Device, hq: HeadOffice) -> None:
    """The same content spelt otherwise is another message, and not signed."""
    topic, message = _records_down(device)
    text = msgspec.json.encode(message)
    signature = signature_text(hq_key(1).sign(message_bytes(topic, text)))
    header = b"storebus/1 %b %b\n" % (hq_key(1).id.encode(), signature.encode())
    before = _state(device)
    device.handle(Heard(topic, header + text.replace(b'":', b'": ', 1)))
    assert _state(device) == before
    device.handle(Heard(topic, header + text))
    assert _state(device) != before
