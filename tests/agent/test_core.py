"""The core: one transaction a batch, nothing sent before its commit, nothing raises."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buskit.database import DatabaseFull
from buswire.cursors import Cursor
from buswire.messages import Answer, AnyMessage, Bye, Hello, Records, Work
from buswire.signing import message_bytes, signature_text
from buswire.states import State
from storeagent.core import (
    Event,
    Heard,
    Linked,
    Publish,
    Rang,
    Subscribe,
    Unlinked,
)
from storeagent.database import agent_database_from, open_agent_database
from tests.agent.device import Device
from tests.agent.head_office import ME, TOPICS, HeadOffice
from tests.agent.words import ALL_ANY, ALL_MANAGER, STORE_ANY, ids


@pytest.fixture
def hq() -> HeadOffice:
    """A head office with empty logs."""
    return HeadOffice()


@pytest.fixture
def device(hq: HeadOffice) -> Device:
    """A device that is linked and welcomed."""
    device = Device(hq)
    device.talk(Linked())
    assert device.core.welcomed
    return device


@pytest.fixture
def writes(device: Device, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The write transactions that the device begins from now on."""
    seen: list[str] = []

    def trace(statement: str) -> None:
        if statement.startswith("BEGIN IMMEDIATE"):
            seen.append(statement)

    device.database.connection.set_trace_callback(trace)
    yield seen
    device.database.connection.set_trace_callback(None)


def test_the_first_contact_subscribes_to_the_channels_of_the_welcome(hq: HeadOffice) -> None:
    """A new device hears its own topics first, and its channels once HQ has named them."""
    device = Device(hq)
    first, hello = device.handle(Linked())
    assert first == Subscribe((TOPICS.hq, TOPICS.to(ME)))
    assert isinstance(hello, Publish)
    filters = [o.filters for o in device.handle(*hq.hear([hello])) if isinstance(o, Subscribe)]
    assert filters == [
        TOPICS.filters_of_device(ME, "east", hq.logs),
    ]


def test_a_directive_comes_down_and_its_receipt_goes_up(device: Device, hq: HeadOffice) -> None:
    """Record in, saved, receipt out, acknowledged: nothing pending at the end."""
    device.talk(hq.issue(ALL_ANY))
    assert [item.delivery.state for item in device.core.inbox.items()] == [State.DELIVERED]
    assert [said["state"] for said in hq.said("receipt")] == ["delivered"]
    assert device.core.outbox.pending("act") == 0


def test_what_staff_say_goes_up_when_the_core_is_rung(device: Device, hq: HeadOffice) -> None:
    """A statement of another connection is found in the outbox."""
    device.talk(hq.issue(ALL_ANY))
    device.statements.done(ids("d", 1), "any", by="Ana")
    device.talk(Rang())
    assert [said["state"] for said in hq.said("receipt")] == ["delivered", "done"]


def test_an_alert_overtakes_a_backlog_of_reports(hq: HeadOffice) -> None:
    """The act log is sent whatever waits in bulk, and before it."""
    from storeagent.reports import make_table

    device = Device(hq)
    rows = [{"sku": f"{n:013d}", "sold": n} for n in range(20_000)]
    device.statements.report("sales", make_table(rows), key="monday")
    device.statements.alert("incident", {"what": "a flood"})
    outgoing = device.handle(*hq.hear(device.handle(Linked())))
    sent = [hq.read(o.topic, o.payload) for o in outgoing if isinstance(o, Publish)]
    logs = [message.log for message in sent if isinstance(message, Records)]
    assert logs[0] == "act"
    assert set(logs[1:]) == {"bulk"}


def test_a_missed_record_is_replayed(device: Device, hq: HeadOffice) -> None:
    """A gap is seen at the next record, and mended by one hello."""
    hq.issue(ALL_ANY, 1)
    device.talk(hq.issue(ALL_ANY, 2))
    device.go_on(1.0)
    assert len(device.core.inbox.items()) == 2
    assert len(hq.said("receipt")) == 2


def test_a_snapshot_arrives_for_a_new_set_version(device: Device, hq: HeadOffice) -> None:
    """After a roster change everything is in the snapshot, and unnamed work is asked about."""
    device.talk(hq.issue(ALL_ANY, 1))
    hq.set_version = Cursor(2, ids("a", 2))
    hq.open_item(2)
    hq.answers = [Answer(work=Work(ids("d", 1), "any"), verdict="gone", state=State.EXPIRED)]
    device.talk(Unlinked(), Linked())
    device.go_on(10.0)
    states = {
        i.delivery.directive: i.delivery.state for i in device.core.inbox.items(everything=True)
    }
    assert states == {ids("d", 1): State.EXPIRED, ids("d", 2): State.DELIVERED}
    assert device.core.inbox.unsure_count() == 0


def test_a_snapshot_subscribes_again_to_channels_that_stayed(
    device: Device, hq: HeadOffice
) -> None:
    """A role that was taken away and given back has lost its subscription at the broker."""
    hq.set_version = Cursor(3, ids("a", 3))
    outgoing = device.handle(Unlinked(), Linked())
    (renewed,) = [o for o in device.handle(*hq.hear(outgoing)) if isinstance(o, Subscribe)]
    assert renewed.filters == TOPICS.filters_of_device(ME, "east", hq.logs)
    assert set(renewed.again) == {TOPICS.down(channel) for channel in hq.logs}


def test_hqs_word_about_lost_entries_is_kept(device: Device, hq: HeadOffice) -> None:
    """The largest number stays, although HQ's number shrinks as the log grows again."""
    hq.lost = {"act": 7}
    device.talk(Unlinked(), Linked())
    hq.lost = {"act": 3}
    device.talk(Unlinked(), Linked())
    assert [(lost.log, lost.entries) for lost in device.core.memory.lost()] == [("act", 7)]


# --- transactions --------------------------------------------------------------------------------


def test_beats_and_idle_ticks_write_nothing(
    device: Device, hq: HeadOffice, writes: list[str]
) -> None:
    """A quiet hour of beats, with their welcomes, opens no write transaction."""
    before = len(hq.hellos)
    device.go_on(3_600.0)
    assert len(hq.hellos) - before >= 10
    device.talk(hq.up())
    assert writes == []


def test_a_batch_is_one_transaction(device: Device, hq: HeadOffice, writes: list[str]) -> None:
    """Forty messages that arrive together cost one commit."""
    device.handle(*[hq.issue(ALL_ANY, number) for number in range(1, 41)])
    assert len(writes) == 1
    assert len(device.core.inbox.items()) == 40


def test_a_failing_commit_leaves_nothing_half_done(device: Device, hq: HeadOffice) -> None:
    """Disk full at COMMIT: no row, no receipt, nothing sent; afterwards the protocol repeats."""
    message = hq.issue(ALL_ANY)
    full = True

    def refuse(action: int, operation: str | None, *_: object) -> int:
        if full and action == sqlite3.SQLITE_TRANSACTION and operation == "COMMIT":
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    device.database.connection.set_authorizer(refuse)
    with pytest.raises(sqlite3.DatabaseError):
        device.handle(message)
    full = False
    assert device.core.inbox.items() == []
    assert device.core.outbox.head("act") == 0
    device.database.connection.set_authorizer(None)
    device.talk(Rang())
    device.go_on(5.0)
    assert len(device.core.inbox.items()) == 1
    assert [said["state"] for said in hq.said("receipt")] == ["delivered"]
    assert hq.twice == 0


def test_an_error_in_the_middle_undoes_the_whole_batch(
    device: Device, hq: HeadOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third message of a batch fails: the first two are not there either, then all come."""
    messages = [hq.issue(ALL_ANY, number) for number in (1, 2, 3)]
    real = device.core.inbox.insert

    def fail_at_third(delivery: object) -> None:
        if getattr(delivery, "directive") == ids("d", 3):  # noqa: B009 - any object has it here
            raise MemoryError
        real(delivery)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(device.core.inbox, "insert", fail_at_third)
        with pytest.raises(MemoryError):
            device.handle(*messages)
    assert device.core.inbox.items() == []
    device.go_on(5.0)
    assert len(device.core.inbox.items()) == 3
    assert len(hq.said("receipt")) == 3


def test_what_was_not_kept_is_not_believed_though_nothing_can_be_read(
    device: Device, hq: HeadOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for a batch, and nothing can be read after it: the records come again, all."""
    messages = [hq.issue(ALL_ANY, number) for number in (1, 2)]

    def no_room(_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    def unreadable() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(device.core.inbox, "insert", no_room)
        patch.setattr(device.core.memory, "facts", unreadable)
        with pytest.raises(DatabaseFull):
            device.handle(*messages)
    assert device.core.inbox.items() == []
    device.handle(hq.issue(ALL_ANY, 3))
    device.go_on(5.0)
    assert len(device.core.inbox.items()) == 3
    assert len(hq.said("receipt")) == 3


def test_a_full_disk_is_said_as_such(tmp_path: Path, hq: HeadOffice) -> None:
    """A database that may not grow raises DatabaseFull, and goes on when there is room again."""
    database = open_agent_database(tmp_path / "agent.db", create=True)
    device = Device(hq, database)
    device.talk(Linked())
    pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
    database.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(DatabaseFull):
        device.handle(*[hq.issue(ALL_ANY, n, body="x" * 9_000) for n in range(1, 9)])
    assert device.core.inbox.items() == []
    database.connection.execute("PRAGMA max_page_count = 1000000")
    device.go_on(5.0)
    assert len(device.core.inbox.items()) == 8
    database.close()


def test_nothing_is_sent_after_the_link_went(device: Device, hq: HeadOffice) -> None:
    """A batch that ends without a link has nothing to send."""
    assert device.handle(hq.issue(ALL_ANY), Unlinked()) == []
    assert len(device.core.inbox.items()) == 1


# --- old copies ----------------------------------------------------------------------------------


def test_a_device_from_an_old_image_gets_everything_again(hq: HeadOffice) -> None:
    """An image from before: work comes back, and what HQ has is not counted twice."""
    device = Device(hq)
    image = device.database.serialize()
    device.talk(Linked())
    device.talk(hq.issue(ALL_ANY, 1))
    device.statements.done(ids("d", 1), "any")
    device.talk(Rang())
    hq.open_item(2)
    hq.set_version = Cursor(2, ids("a", 2))
    device.open(agent_database_from(image))
    device.talk(Linked())
    device.go_on(20.0)
    device.statements.alert("incident", {"what": "back again"})
    device.talk(Rang())
    assert [i.delivery.directive for i in device.core.inbox.items()] == [ids("d", 2)]
    assert len(hq.said("alert")) == 1
    assert hq.twice == 0


def test_a_ledger_from_an_old_copy_gets_the_receipts_again(device: Device, hq: HeadOffice) -> None:
    """HQ's cursor went back to nothing: all that is kept is sent again, each record once."""
    device.talk(hq.issue(ALL_ANY, 1))
    device.statements.alert("incident", {"what": "one"})
    device.talk(Rang())
    before = dict(hq.taken)
    hq.uplink = {"act": Cursor(0, ""), "bulk": Cursor(0, "")}
    hq.taken = {}
    hq.run = ids("9", 2)
    device.talk(hq.up())
    device.go_on(20.0)
    assert hq.taken.keys() == before.keys()
    assert device.core.outbox.pending("act") == 0


# --- garbage -------------------------------------------------------------------------------------


def _signed(topic: str, text: bytes) -> tuple[str, bytes]:
    """A text that HQ did sign for the topic."""
    key = HeadOffice().key
    signature = signature_text(key.sign(message_bytes(topic, text)))
    return topic, b"storebus/1 %b %b\n%b" % (key.id.encode(), signature.encode(), text)


def _said(topic: str, message: AnyMessage) -> tuple[str, bytes]:
    heard = HeadOffice().lay(topic, message)
    return heard.topic, heard.payload


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPICS.to(ME), b""),
        (TOPICS.to(ME), b"\xff" * 1_000_000),
        (TOPICS.to(ME), b"storebus/9\n{}"),
        (TOPICS.to(ME), b'storebus/1\n{"kind":"nudge"}'),
        _signed(TOPICS.to(ME), b'{"kind":"telepathy"}'),
        _signed(TOPICS.to(ME), b'{"kind":"welcome"}'),
        _signed(TOPICS.to(ME), b"[" * 100_000),
        _said(TOPICS.hq, Bye(run=ids("9"))),
        _said(TOPICS.down(ALL_ANY), Records(log="all/manager", after=Cursor(0, ""), records=[])),
        _said(TOPICS.down(ALL_ANY), Bye(run=ids("9"))),
        _said(TOPICS.from_(ME), Bye(run=ids("9"))),
        ("something/else", b"x"),
        _signed(TOPICS.heads("east"), b'{"kind":"heads","run":"x","heads":{}}'),
    ],
)
def test_garbage_is_put_aside_and_the_good_beside_it_takes_effect(
    device: Device, hq: HeadOffice, topic: str, payload: bytes
) -> None:
    """No payload on any topic can raise or hold up a good message."""
    device.talk(Heard(topic, payload), hq.issue(ALL_ANY), Heard(topic, payload))
    assert len(device.core.inbox.items()) == 1
    (aside,) = device.core.inbox.asides()
    assert aside.times == 2


def test_a_cleared_retained_message_is_nothing(device: Device) -> None:
    """An empty payload on the hub's topic is how MQTT clears a retained message."""
    device.talk(Heard(TOPICS.hq, b""))
    assert device.core.inbox.aside_count() == 0


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "log", "after", "records", "nonce", "run", "heads", "id", "x"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["records", "welcome", "snapshot", "ack", "heads", "hub", "nudge", "?"]),
    rest=st.dictionaries(
        st.sampled_from(
            ["log", "after", "records", "nonce", "run", "heads", "mode", "at", "cursor", "up"]
        ),
        _json,
    ),
    topic=st.sampled_from([TOPICS.to(ME), TOPICS.hq, TOPICS.down(ALL_ANY), TOPICS.heads("east")]),
)
def test_no_message_can_raise(kind: str, rest: dict[str, object], topic: str) -> None:
    """Whatever JSON stands in the frame, the core takes it or puts it aside."""
    device = Device(HeadOffice())
    device.talk(Linked())
    try:
        text = msgspec.json.encode({"kind": kind, **rest})
    except (UnicodeEncodeError, msgspec.EncodeError):
        return
    device.handle(Heard(*_signed(topic, text)))


# --- random life ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_a_rough_life_ends_with_everything_once(seed: int, tmp_path: Path) -> None:
    """Messages lost, doubled and cut, the process killed: each word arrives once both ways."""
    rng = random.Random(seed)
    hq = HeadOffice()
    path = tmp_path / "agent.db"
    device = Device(hq, open_agent_database(path, create=True), seed=seed)
    device.talk(Linked())
    accepted = 0
    issued = 0
    for _ in range(150):
        events: list[Event] = [Rang()]
        match rng.randrange(6):
            case 0:
                issued += 1
                events.append(hq.issue(rng.choice([ALL_ANY, ALL_MANAGER, STORE_ANY]), issued))
            case 1:
                device.statements.alert("incident", {"what": f"{accepted}"})
                accepted += 1
            case 2 if rng.random() < 0.3:
                events += [Unlinked(), Linked()]
            case 3 if rng.random() < 0.3:
                device.database.close()
                device.open(open_agent_database(path))
                events = [Linked()]
            case 4 if rng.random() < 0.3:
                hq.run = ids("9", rng.randrange(1_000_000))
                events.append(hq.up())
        for _ in range(4):
            events = [e for e in events if not isinstance(e, Heard) or rng.random() < 0.8]
            events += [e for e in events if isinstance(e, Heard) and rng.random() < 0.1]
            outgoing = [o for o in device.handle(*events) if rng.random() < 0.8]
            events = list(hq.hear(outgoing))
        device.now += rng.random() * 3
    device.talk(Unlinked(), Linked())
    device.go_on(400.0)
    assert len(hq.said("alert")) == accepted, f"seed {seed}"
    assert len({str(said["directive"]) for said in hq.said("receipt")}) == issued, f"seed {seed}"
    assert len(device.core.inbox.items()) == issued
    assert hq.twice == 0
    assert device.core.outbox.pending("act") == 0
    device.database.close()


def test_the_install_and_the_run_keep_their_meaning(tmp_path: Path, hq: HeadOffice) -> None:
    """The install is the database's for life, the run is the process's, as the bye says."""
    path = tmp_path / "agent.db"
    device = Device(hq, open_agent_database(path, create=True), seed=1)
    device.talk(Linked())
    device.core.reload()
    device.talk(Rang())
    device.database.close()
    device = Device(hq, open_agent_database(path), seed=2)
    device.talk(Linked())
    assert len({hello.install for hello in hq.hellos}) == 1
    runs = list(dict.fromkeys(hello.run for hello in hq.hellos))
    assert len(runs) == 2
    bye = hq.read(device.core.bye().topic, device.core.bye().payload)
    assert isinstance(bye, Bye)
    assert bye.run == runs[1]
    device.database.close()


def test_old_things_go_by_hqs_clock(device: Device, hq: HeadOffice) -> None:
    """A month of HQ's days later, what is acknowledged or closed is gone; open work stays."""
    from buswire.messages import Welcome

    device.talk(hq.issue(ALL_ANY, 1), hq.issue(ALL_ANY, 2))
    device.statements.done(ids("d", 1), "any")
    device.talk(Rang())
    assert device.core.outbox.entries("act", after=0, most=9, most_bytes=9999)[0].position == 1

    def welcome_at(at: float) -> None:
        hello = next(
            hq.read(o.topic, o.payload)
            for o in device.handle(Unlinked(), Linked())
            if isinstance(o, Publish)
        )
        assert isinstance(hello, Hello)
        (plain, *_) = hq._answer(hello)
        assert isinstance(plain, Welcome)
        message = msgspec.structs.replace(plain, at=at)
        device.handle(hq.lay(TOPICS.to(ME), message))

    day = 86_400.0
    for number in range(1, 33):
        welcome_at(1_700_000_000.0 + number * day)
    assert [i.delivery.directive for i in device.core.inbox.items(everything=True)] == [ids("d", 2)]
    assert device.core.inbox.directive_data(ids("d", 1)) is None
    entries = device.core.outbox.entries("act", after=0, most=9, most_bytes=9999)
    assert [entry.position for entry in entries] == [3], "the newest row stays"
    device.statements.done(ids("d", 2), "any")
    assert device.core.outbox.head("act") == 4
