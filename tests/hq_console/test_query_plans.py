"""The queries that stand before a person's eyes use their indexes, however big the ledger is."""

import sqlite3
from typing import Any

import pytest

from hqconsole.ledger import (
    archived,
    archiving,
    arrival_views,
    audit,
    board,
    breakdowns,
    custody,
    devices,
    evidence,
    evidence_views,
    exports,
    mailbox_views,
    presence,
    search,
    search_index,
    seats,
    store_views,
    verification_context,
    verification_logs,
    views,
)
from hqconsole.ledger.opening import open_ledger
from hqconsole.lifecycle import DirectiveState

QUERIES: dict[str, tuple[str, Any]] = {
    "status, its directives": (views.LATEST, (20,)),
    "status, counts": (views.COUNTS, (1,)),
    "status, those that wait": (views.in_states([DirectiveState.PAUSED]), (20,)),
    "status, not yet sent": (views.PLANNED_COUNT, (1,)),
    **{f"status by {name}": (query, (1,)) for name, query in breakdowns.BY.items()},
    **{f"planned by {name}": (query, (1,)) for name, query in breakdowns.BY_PLANNED.items()},
    "status, open in zones": (breakdowns.OPEN_ZONES, (1,)),
    "status, planned in zones": (breakdowns.PLANNED_ZONES, (1,)),
    "status, waves": (breakdowns.WAVES, (1,)),
    "status, deliveries of waves": (breakdowns.BY_WAVE, (1,)),
    "status, proof": (breakdowns.PROOF, (1,)),
    "status, undone by": (breakdowns.UNDOING, (1,)),
    "cannot": (breakdowns.CANNOT, (1,)),
    "who, open": (mailbox_views.WHO_OPEN, (1,)),
    "who, states": (mailbox_views.WHO_STATES.format("?,?"), (1, 0, 1)),
    "who, planned": (mailbox_views.WHO_PLANNED, (1,)),
    "who, devices": (presence.DEVICES_OF_STORE, (1,)),
    "why, roles": (custody.ROLES_WITH_IT, (1, 1)),
    "why, planned": (custody.PLANNED, (1, 1)),
    "why, statements": (custody.STATEMENTS, (1, 1)),
    "why, logged": (custody.LOGGED, ("a", "b", "c", 1)),
    "why, devices": (custody.DEVICES, (1,)),
    "hub, without receipt": (devices.WITHOUT_RECEIPT, (0.0, "any", 10)),
    "tail": (arrival_views.STREAM, (0, 500)),
    "replies": (arrival_views.TOLD["reply"] + " LIMIT ?", (10,)),
    "replies of one": (arrival_views.REPLIES_OF + " LIMIT ?", (1, 10)),
    "alerts": (arrival_views.TOLD["alert"], ()),
    "devices of a store": (
        store_views.ENROLLED.format(where="1 AND store.id = ? AND device.name = ?"),
        ("S1", "till-1"),
    ),
    "audit": (audit.LATEST.format(where="1"), (100,)),
    "evidence, answers": (evidence_views.ANSWERS, (1,)),
    "verify, an arrival": (verification_context.ARRIVAL, (1, b"")),
    "verify, earlier messages": (evidence.EARLIER_MESSAGES, (1, "act", 5, -1)),
    "search, new arrivals": (search_index.NEW_ARRIVALS, (1, 200)),
    "search, new decisions": (search_index.NEW_DECISIONS, (1, 200)),
    "search, new steps": (search_index.NEW_STEPS, (1, 200)),
    "search, new directives": (search_index.NEW_DIRECTIVES, (1, 200)),
    "search, changed": (search_index.CHANGED, (200,)),
    "search, what a store said": (search.SAID, (1,)),
    "handover, open": (seats.OPEN_WORK, (1,)),
    "handover, closed": (seats.CLOSED_WORK, (1, 0.0)),
    "handover, said": (seats.SAID, (1, 0.0)),
    "handover, coming": (seats.COMING, (1,)),
    "board, live": (board.LIVE_ROWS, (500,)),
    "board, newly said": (board.NEWLY_SAID, (1,)),
    "board, states": (board.BY_STATE, ()),
    "board, unread": (board.UNREAD, (1,)),
    "board, unseen": (board.UNSEEN, ()),
    "export, deliveries": (
        exports.DELIVERIES.format(where=""),
        {"directive": 1, "after": 0, "batch": 500},
    ),
    "export, replies": (
        exports.ARRIVALS.format(where=exports.OF_KIND["reply"]),
        {"after": 0, "batch": 500},
    ),
    "archive, finished": (archiving.ENDED, (0, 500)),
    "archive, what stays": (archived.STUB, (1,)),
    "archive, places in a log": (verification_logs.RUNS, (1, "act")),
    "stores of a region": (
        store_views.STORES.format(where="store.closed_at IS NULL AND store.region = ?"),
        ("east",),
    ),
}
# A scan in the order of the key under a LIMIT reads only what it shows.
# One row for each store; the few latest runs of one device; a record in three channels.
# Directives that are out, escalations that nobody has seen.
SORT_LITTLE = {
    *("stores of a region", "devices of a store", "why, logged"),
    *("board, live", "board, unseen"),
}
SCANS_ALLOWED = {
    "status, its directives": {"SCAN directive"},
    "audit": {"SCAN audit"},
    "hub, without receipt": {"SCAN json_each VIRTUAL TABLE INDEX 1:"},
    # Each directive is looked up under this one mailbox, in the order of issue.
    "handover, closed": {"SCAN directive"},
}


@pytest.mark.parametrize("name", QUERIES)
def test_no_hot_query_scans_a_table(name: str) -> None:
    """Every table is searched by a key or an index, and nothing big is sorted aside."""
    query, values = QUERIES[name]
    with open_ledger(None, create=True) as ledger:
        plan = steps(ledger.connection, query, values)
    scans = {step for step in plan if step.startswith("SCAN") and " USING " not in step}
    assert scans <= SCANS_ALLOWED.get(name, set()), plan
    if name not in SORT_LITTLE:
        assert not [step for step in plan if "TEMP B-TREE FOR ORDER" in step], plan


def test_who_reads_only_what_is_open() -> None:
    """When nearly everyone has answered, the few others are found without reading the rest."""
    with open_ledger(None, create=True) as ledger:
        plan = steps(ledger.connection, mailbox_views.WHO_OPEN, (1,))
    assert plan[0] == "SEARCH delivery USING INDEX delivery_open_of (directive_no=?)"


def steps(connection: sqlite3.Connection, query: str, values: Any) -> list[str]:
    """The steps of SQLite's plan."""
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
