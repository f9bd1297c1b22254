"""The desk, one message at a time: what it saves, what it answers, and when."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec import Raw

from buskit.database import DatabaseFull
from buswire.cursors import START, Cursor
from buswire.messages import (
    HQ_KINDS,
    Ack,
    Backlog,
    Bye,
    Heads,
    Nudge,
    Record,
    Records,
    Snapshot,
    Welcome,
    Work,
    decode_data,
)
from buswire.states import State
from buswire.topics import Identity
from hqconsole.desk import Heard, Linked, Publish, Tick, Unlinked
from hqconsole.ledger import (
    adoption,
    channels,
    deliveries,
    device_runs,
    devices,
    directives,
    due,
    enrolment,
    troubles,
    waves,
)
from tests.hq_desk.office import OTHER, TILL, TOPICS, Office, new_id, original, receipt


def test_first_hello_gets_a_snapshot_with_the_open_work(office: Office) -> None:
    """A device that HQ never heard of gets its channels and all open work in one answer."""
    directive_id = office.issue()
    welcome = office.hello()
    assert welcome.mode == "snapshot"
    assert set(welcome.heads) == {
        f"{place}/{role}"
        for place in ("all", "region/east", "store/S1")
        for role in ("any", "manager")
    }
    pages = [one for one in office.answers if isinstance(one, Snapshot)]
    assert len(pages) == welcome.pages == 1
    assert [decode_data("directive", i.data, HQ_KINDS).id for i in pages[0].items] == [directive_id]


def test_matching_cursors_get_what_follows(office: Office) -> None:
    """A device that stands in HQ's history is replayed the records behind its cursors."""
    first = office.hello()
    office.issue()
    second = office.hello(set_version=first.set_version, cursors=first.heads)
    assert second.mode == "replay"
    replayed = [one for one in office.answers if isinstance(one, Records)]
    assert [(one.log, len(one.records)) for one in replayed] == [("all/any", 1)]
    assert second.through == second.heads


def test_moved_there_and_back_gets_a_snapshot(office: Office) -> None:
    """The version of the channel set is compared, not the set: east, west, east again shows."""
    first = office.hello()
    office.roster("S1", "S2", region="west")
    office.roster("S1", "S2", region="east")
    again = office.hello(set_version=first.set_version, cursors=first.heads)
    assert again.mode == "snapshot"


def test_acknowledges_after_the_commit_and_takes_each_id_once(office: Office) -> None:
    """The same records sent twice move the delivery once and are acknowledged both times."""
    directive_id = office.issue()
    office.hello()
    said = Records(log="act", after=START, records=[receipt(directive_id, State.DONE)])
    for _ in range(2):
        (ack,) = office.hear(said)
        assert ack == Ack(run=office.desk.run, log="act", cursor=Cursor(1, said.records[0].id))
    assert office.rows("SELECT count(*) FROM arrival") == [(1,)]
    assert office.rows("SELECT state, open FROM delivery WHERE mailbox_no = 1") == [(5, 0)]


def test_a_gap_is_answered_with_a_nudge_and_nothing_is_saved(office: Office) -> None:
    """Records that do not follow the cursor are not taken, and the device is asked to say hello."""
    office.hello()
    far = Records(log="act", after=Cursor(7, "c" * 32), records=[receipt("d" * 32, State.READ)])
    assert [type(one) for one in office.hear(far)] == [Nudge]
    assert office.hear(far) == [], "one nudge is enough for a while"
    assert office.rows("SELECT count(*) FROM arrival") == [(0,)]


def test_a_batch_that_cannot_be_saved_says_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full nothing is acknowledged, and the same records are taken later."""
    directive_id = office.issue()
    office.hello()
    connection = office.ledger.connection
    said = Records(log="act", after=START, records=[receipt(directive_id, State.READ)])
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = Record(id=new_id(), kind="reply", at=0.0, data=Raw(b'"' + b"x" * 60_000 + b'"'))
    with pytest.raises(DatabaseFull):
        office.hear(said, Records(log="bulk", after=START, records=[big]))
    connection.execute("PRAGMA max_page_count = 100000")
    assert office.rows("SELECT count(*) FROM arrival") == [(0,)]
    assert [type(one) for one in office.hear(said)] == [Ack]


def test_garbage_is_put_aside_and_what_stands_beside_it_is_taken(office: Office) -> None:
    """Unreadable messages, unknown kinds and strangers are kept aside; good records go on."""
    office.hello()
    topic = TOPICS.from_(TILL)
    stranger = Identity("S99", "till-1")
    odd = Record(id=new_id(), kind="horoscope", at=0.0, data=Raw(b"{}"))
    broken = Record(id=new_id(), kind="receipt", at=0.0, data=Raw(b'{"directive": 5}'))
    good = receipt("e" * 32, State.READ)
    said = Records(log="act", after=START, records=[odd, broken, good])
    out = office.desk.handle(
        [
            Heard(topic, b"\xff\xfe" * 1000),
            Heard(topic, b"storebus/9\n{}"),
            Heard(TOPICS.from_(stranger), office.payload(Bye(run="1" * 32), identity=stranger)),
            Heard(topic, office.payload(Heads(run="1" * 32, heads={}))),
            Heard(topic, office.payload(said)),
        ],
        office.now,
    )
    assert [type(one) for one in office.said_to(out)] == [Ack]
    reasons = [reason for (reason,) in office.rows("SELECT reason FROM quarantine")]
    assert len(reasons) == 6
    assert office.rows("SELECT kind, outcome FROM arrival ORDER BY no") == [
        ("horoscope", "aside"),
        ("receipt", "aside"),
        ("receipt", None),
    ]


def test_quarantine_is_bounded_whatever_one_device_sends(office: Office) -> None:
    """A thousand different kinds of garbage take some fifty rows, and are counted."""
    office.hear_raw(*(f"storebus/{number + 2}\n{{}}".encode() for number in range(1000)))
    ((rows, times),) = office.rows("SELECT count(*), sum(times) FROM quarantine")
    assert rows <= 51
    assert times == 1000


def test_wiped_device_says_how_much_may_be_lost(office: Office) -> None:
    """HQ remembers the highest head it heard: a wiped device is told what may have died."""
    office.hello(uplink={"act": Backlog(acked=START, pending=9)})
    office.hear(
        Records(log="act", after=START, records=[receipt("f" * 32, State.READ) for _ in range(2)])
    )
    welcome = office.hello(install="b" * 32, uplink={"act": Backlog()})
    assert welcome.lost == {"act": 7}
    kinds = [kind for (kind,) in office.rows("SELECT kind FROM incident ORDER BY no")]
    assert kinds == ["device set up anew", "entries may be lost"]
    assert office.hello(install="b" * 32, uplink={"act": Backlog()}).lost == {}


def test_unpublished_records_go_out_when_the_link_is_back(office: Office) -> None:
    """What was published just before the link broke is published again; later, once only."""
    office.issue()

    def published(out: Sequence[Publish]) -> int:
        return sum(one.topic.startswith(f"{TOPICS.root}/down/") for one in out)

    assert published(office.desk.handle([Tick()], office.now)) == 1
    assert published(office.desk.handle([Tick()], office.now)) == 0
    office.desk.handle([Unlinked()], office.now)
    assert published(office.desk.handle([Linked()], office.now)) == 1
    office.now += 60
    office.desk.handle([Tick()], office.now)
    office.desk.handle([Unlinked()], office.now)
    assert published(office.desk.handle([Linked()], office.now)) == 0


def test_a_new_run_publishes_what_the_old_one_could_not_prove(office: Office) -> None:
    """A hub that died right after the commit leaves nothing unsent."""
    office.issue()
    office.desk = office.another_desk()
    out = office.desk.handle([Linked()], office.now)
    assert [one.topic for one in out if "/down/" in one.topic] == [f"{TOPICS.root}/down/all/any"]
    assert [one.retain for one in out if one.topic == TOPICS.hq] == [True]


def test_too_many_hellos_are_told_to_come_later(tmp_path: Path) -> None:
    """A herd is answered at once, some of it with a time to come again."""
    office = Office(tmp_path, hellos_per_batch=3)
    office.desk.handle([Linked()], office.now)
    messages = [office.a_hello() for _ in range(5)]
    answers = [one for one in office.hear(*messages) if isinstance(one, Welcome)]
    assert [one.mode for one in answers].count("later") == 2
    assert all(one.later_seconds >= 1 for one in answers if one.mode == "later")
    office.ledger.close()


def test_done_before_expiry_arriving_after_it_counts_late(office: Office) -> None:
    """HQ expires; what the store had done by then counts, what it did later is evidence only."""
    in_time, too_late = (office.issue(expires_at=office.at + 100) for _ in range(2))
    office.hello()
    said_at = office.at + 50
    office.at += 200
    office.desk.handle([Tick()], office.now)
    records = [
        receipt(in_time, State.DONE, at=said_at),
        receipt(too_late, State.DONE, at=office.at + 10),
    ]
    office.hear(Records(log="act", after=START, records=records))
    states = office.rows("SELECT state, late FROM delivery WHERE mailbox_no = 1 ORDER BY 1")
    assert states == [(5, 1), (6, None)]
    outcomes = office.rows("SELECT outcome FROM arrival ORDER BY no")
    assert outcomes == [(None,), ("too late",)]


def test_forgotten_work_is_asked_for_once_and_adopted(office: Office, tmp_path: Path) -> None:
    """Of two devices with work that HQ forgot one is asked; its copy brings all of it back."""
    (tmp_path / "other").mkdir()
    other = Office(tmp_path / "other")
    directive_id = other.issue("Forgotten")
    other.desk.handle([Tick()], other.now)
    ((data, seal),) = other.rows("SELECT data, seal FROM doc")
    other.ledger.close()
    unsure = [Work(directive_id, "any")]
    assert office.hello(unsure=unsure).answers[0].verdict == "unknown"
    assert office.hello(unsure=unsure, identity=OTHER).answers[0].verdict == "wait"
    sent_up = original("directive", data, seal)
    office.hear(Records(log="act", after=START, records=[sent_up]))
    assert office.hello(unsure=unsure, identity=OTHER).answers[0].verdict == "open"
    assert office.rows("SELECT count(*) FROM delivery") == [(2,)], "the audience is whole again"
    assert office.rows("SELECT count(*) FROM asked") == [(0,)]


def test_receipts_wait_for_a_directive_that_hq_forgot(office: Office, tmp_path: Path) -> None:
    """A receipt for an unknown directive is kept, asked about, and counts once it is adopted."""
    (tmp_path / "other").mkdir()
    other = Office(tmp_path / "other")
    directive_id = other.issue("Forgotten")
    other.desk.handle([Tick()], other.now)
    ((data, seal),) = other.rows("SELECT data, seal FROM doc")
    other.ledger.close()
    office.hello()
    done = receipt(directive_id, State.DONE)
    office.hear(Records(log="act", after=START, records=[done]))
    office.now += 1
    out = office.said_to(office.desk.handle([Tick()], office.now))
    assert [type(one) for one in out] == [Nudge], "the device is asked within a second"
    assert office.hello().want == [directive_id]
    sent_up = original("directive", data, seal)
    office.hear(Records(log="act", after=Cursor(1, done.id), records=[sent_up]))
    assert office.rows("SELECT state FROM delivery WHERE mailbox_no = 1") == [(5,)]


def test_idle_ticks_write_nothing(office: Office) -> None:
    """A tick with nothing due opens no write transaction."""
    before = office.ledger.connection.total_changes
    for _ in range(5):
        office.now += 100
        office.desk.handle([Tick()], office.now)
    assert office.ledger.connection.total_changes == before


HOT = (
    (
        "SELECT directive_no FROM delivery WHERE mailbox_no = ? AND open = 1",
        "delivery_open",
    ),
    (channels.ANY_UNSEALED, "doc_unsealed"),
    (enrolment.ANY_UNPROVED, "device_key_unproved"),
    (enrolment.BUNDLE, "PRIMARY KEY"),
    (devices.FIND, "sqlite_autoindex_device_1"),
    (devices.HAD_KEY, "device_key_of_device"),
    (troubles.LAST_OF_KIND, "incident_of_device"),
    (device_runs.OF_DEVICE, "PRIMARY KEY"),
    ("SELECT DISTINCT directive_id FROM waiting WHERE device_no = ? LIMIT 20", "waiting_of_device"),
    (
        "SELECT 1 FROM device WHERE online = 1 AND last_heard_at < ? LIMIT 1",
        "device_online",
    ),
    (directives.NEXT_EXPIRY, "directive_expiring"),
    (due.TO_LOOK_AT, "plan_to_look_at"),
    (due.NEXT_LOOK, "plan_to_look_at"),
    (due.LIVE_NOW, "directive_by_state"),
    (due.TAKES_IN, "INTEGER PRIMARY KEY"),
    (directives.EXPIRING, "directive_expiring"),
    (deliveries.OPEN_OF, "delivery_open_of"),
    (waves.PLANNED_IN, "PRIMARY KEY"),
    (adoption.MAILBOX_NO, "sqlite_autoindex_mailbox_1"),
)


@pytest.mark.parametrize(("sql", "index"), HOT)
def test_hot_queries_use_their_index(office: Office, sql: str, index: str) -> None:
    """What runs for each message or tick never scans a table."""
    values = [1] * sql.count("?")
    plan = " ".join(
        str(row[3]) for row in office.ledger.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
    )
    assert index in plan
    # A partial index is read from its start: it has only what is looked for.
    for table in ("doc", "device_key", "directive", "plan"):
        plan = plan.replace(f"SCAN {table} USING INDEX {index}", "")
        plan = plan.replace(f"SCAN {table} USING COVERING INDEX {index}", "")
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan.replace("TEMP B-TREE FOR DISTINCT", "")


def test_sqlite_is_what_it_is_believed_to_be() -> None:
    """The ledger's SQL (RETURNING, partial indexes, upsert) needs SQLite 3.35."""
    assert sqlite3.sqlite_version_info >= (3, 35)
