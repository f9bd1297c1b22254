"""The outbox: dense, bounded, idempotent, and as quick with a million rows as with none."""

import sqlite3
from pathlib import Path

import pytest

from buswire.cursors import START, Cursor
from buswire.messages import Log
from buswire.uplink import Settled
from storeagent.database import open_agent_database
from storeagent.errors import OutboxFull
from storeagent.limits import Limits
from storeagent.outbox import Added, Backlog, Outbox
from storeagent.statements import Statements
from tests.agent.words import ids


def _fill(outbox: Outbox, count: int, *, log: Log = "act", size_bytes: int = 10) -> None:
    for number in range(outbox.head(log) + 1, outbox.head(log) + count + 1):
        outbox.add(log, ids("a", number), "alert", b"1" * size_bytes, said_at=float(number))


def _settle(outbox: Outbox, position: int, log: Log = "act") -> None:
    outbox.settle(Settled(log, Cursor(position, ids("a", position)), position))


def _outbox(**limits: int) -> Outbox:
    outbox = Outbox(open_agent_database(":memory:"), Limits(**limits))
    outbox._connection.execute("BEGIN")
    return outbox


def test_positions_are_dense_and_separate_for_each_log() -> None:
    """Each log counts from one, without gaps, whatever the other does."""
    outbox = _outbox()
    _fill(outbox, 3)
    _fill(outbox, 2, log="bulk")
    assert [e.position for e in outbox.entries("act", after=0, most=9, most_bytes=999)] == [1, 2, 3]
    assert [e.position for e in outbox.entries("bulk", after=0, most=9, most_bytes=999)] == [1, 2]
    assert outbox.head("act") == 3
    assert outbox.position_of("act", ids("a", 2)) == 2
    assert outbox.position_of("bulk", ids("a", 3)) is None


def test_an_entry_comes_back_byte_for_byte() -> None:
    """Id, kind, time and data are those that were handed in."""
    outbox = _outbox()
    outbox.add("act", ids("f", 9), "reply", b'{"text":"\xc3\xa9"}', said_at=12.5)
    (entry,) = outbox.entries("act", after=0, most=1, most_bytes=1)
    record = entry.record
    assert (record.id, record.kind, record.at) == (ids("f", 9), "reply", 12.5)
    assert bytes(record.data) == b'{"text":"\xc3\xa9"}'


def test_the_same_id_again_is_no_entry() -> None:
    """Adding twice is harmless and says so."""
    outbox = _outbox()
    assert outbox.add("act", ids("a"), "alert", b"1", said_at=0.0) == Added(1, new=True)
    assert outbox.add("act", ids("a"), "alert", b"2", said_at=1.0) == Added(1, new=False)
    assert outbox.backlog("act") == Backlog(1, 1)


def test_entries_stop_at_the_bytes_but_give_at_least_one() -> None:
    """A batch is cut by size, and a large entry goes alone."""
    outbox = _outbox()
    _fill(outbox, 5, size_bytes=100)
    assert len(outbox.entries("act", after=0, most=9, most_bytes=250)) == 2
    assert len(outbox.entries("act", after=0, most=9, most_bytes=1)) == 1
    assert len(outbox.entries("act", after=4, most=9, most_bytes=1)) == 1
    assert outbox.entries("act", after=5, most=9, most_bytes=1) == []


def test_what_is_pending_follows_the_acknowledged_position() -> None:
    """Forwards and backwards, in rows and in bytes."""
    outbox = _outbox()
    _fill(outbox, 10)
    _settle(outbox, 4)
    assert outbox.backlog("act") == Backlog(6, 60)
    _settle(outbox, 10)
    assert outbox.backlog("act") == Backlog(0, 0)
    outbox.settle(Settled("act", START, 0))
    assert outbox.backlog("act") == Backlog(10, 100)
    assert outbox.acked()["act"] == (START, 0)


def test_after_pruning_only_what_is_kept_counts_as_pending() -> None:
    """HQ's cursor went back behind what is kept: the backlog is what can still be sent."""
    outbox = _outbox()
    _fill(outbox, 10)
    _settle(outbox, 8)
    assert outbox.prune("act", before=5) == 5
    outbox.settle(Settled("act", START, 0))
    assert outbox.backlog("act") == Backlog(5, 50)
    assert outbox.entries("act", after=0, most=1, most_bytes=1)[0].position == 6
    _settle(outbox, 8)
    assert outbox.backlog("act") == Backlog(2, 20)


def test_pruning_keeps_what_waits_and_the_newest_row() -> None:
    """Unacknowledged rows never go, and no position is ever given twice."""
    outbox = _outbox()
    _fill(outbox, 6)
    _settle(outbox, 4)
    outbox.prune("act", before=100)
    assert outbox.entries("act", after=0, most=9, most_bytes=999)[0].position == 5
    _settle(outbox, 6)
    outbox.prune("act", before=100)
    assert outbox.head("act") == 6
    _fill(outbox, 1)
    assert outbox.head("act") == 7


def test_acknowledged_rows_are_bounded_by_rows_and_bytes() -> None:
    """The oldest go first when too much is kept."""
    outbox = _outbox(kept_rows=3)
    _fill(outbox, 10)
    _settle(outbox, 8)
    outbox.prune("act")
    assert outbox.entries("act", after=0, most=1, most_bytes=1)[0].position == 6
    outbox = _outbox(kept_bytes=25)
    _fill(outbox, 10)
    _settle(outbox, 8)
    outbox.prune("act")
    assert outbox.entries("act", after=0, most=1, most_bytes=1)[0].position == 6


@pytest.mark.parametrize("limits", [{"rows": 5}, {"size_bytes": 50}])
def test_a_full_log_refuses_and_keeps_what_it_has(limits: dict[str, int]) -> None:
    """Too many rows or bytes: refused before accepted, with how full it is; ids are still known."""
    outbox = _outbox(**limits)
    _fill(outbox, 5)
    with pytest.raises(OutboxFull, match=r"5 entries with 0\.0 MB wait") as caught:
        outbox.add("act", ids("b"), "alert", b"1", said_at=0.0)
    assert caught.value.hint is not None
    assert outbox.head("act") == 5
    assert outbox.add("act", ids("a", 3), "alert", b"1", said_at=0.0) == Added(3, new=False)
    outbox.add("bulk", ids("b"), "report", b"1", said_at=0.0)
    outbox.add("act", ids("c"), "receipt", b"1", said_at=0.0, reserve=True)
    _settle(outbox, 2)
    outbox.add("act", ids("b"), "alert", b"1", said_at=0.0)


def test_the_reserve_has_an_end_too() -> None:
    """Even the protocol's own words are bounded."""
    outbox = _outbox(rows=2, reserve_rows=1)
    _fill(outbox, 2)
    outbox.add("act", ids("c", 1), "receipt", b"1", said_at=0.0, reserve=True)
    with pytest.raises(OutboxFull):
        outbox.add("act", ids("c", 2), "receipt", b"1", said_at=0.0, reserve=True)


def test_a_low_disk_refuses_people_and_not_the_protocol(tmp_path: Path) -> None:
    """With too little room new entries are refused, with the figures."""
    database = open_agent_database(tmp_path / "agent.db", create=True)
    limits = Limits(least_free_bytes=2**62)
    statements = Statements(database, wall_clock=lambda: 0.0, limits=limits)
    with pytest.raises(OutboxFull, match="disk is nearly full"):
        statements.alert("incident", {"what": "x"})
    assert statements.outbox.head("act") == 0
    database.close()


def _rows_touched(connection: sqlite3.Connection, outbox: Outbox) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(count, 1)
    outbox.backlog("act")
    outbox.head("act")
    outbox.entries("act", after=outbox.head("act") - 1, most=1, most_bytes=1)
    outbox.position_of("act", ids("a", 1))
    connection.set_progress_handler(None, 1)
    return steps


def test_a_backlog_costs_nothing_to_measure() -> None:
    """The questions of every tick take the same number of SQLite's steps at 10 and 20,000 rows."""
    outbox = _outbox()
    _fill(outbox, 10)
    few = _rows_touched(outbox._connection, outbox)
    _fill(outbox, 20_000)
    assert _rows_touched(outbox._connection, outbox) <= few + 10
