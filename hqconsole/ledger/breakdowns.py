"""What the console reads of one directive in parts: by region and so on, waves, versions, proofs.

Reading only. A row is a dict with the names that `--json` shows.

Invariant: the deliveries of one directive are read as one range, grouped by SQLite; what is said of
them is a matter of some thousand rows, also for an audience of tens of thousands.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from buswire.messages import Reminder
from buswire.states import Needs, State
from hqconsole.ledger import archived
from hqconsole.ledger.deliveries import STATE_CODES, STATE_OF
from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.views import SHORT_ID, Tally, document_of, loaded
from hqconsole.lifecycle import DirectiveState
from hqconsole.prospects import Outlook
from hqconsole.reason_clusters import Said
from hqconsole.reminders import Escalation
from hqconsole.rollout import Gate
from hqconsole.store_times import StoreTimes

Rule = TypeVar("Rule", Reminder, Escalation)

_STORES = (
    " CROSS JOIN mailbox ON mailbox.no = {table}.mailbox_no"
    " CROSS JOIN store ON store.no = mailbox.store_no"
)
_GROUPS: Mapping[str, tuple[str, str]] = {
    "region": ("store.region", "store.region"),
    "role": ("mailbox.role", "mailbox.role"),
    "wave": ("delivery.wave_no", "planned.wave_no"),
    "city": ("store.city", "store.city"),
    "country": ("store.country", "store.country"),
    "timezone": ("store.timezone", "store.timezone"),
}
"""What deliveries can be grouped by: the expression for those that went out, and for the others."""
GROUPINGS = tuple(_GROUPS)

BY = {
    name: (
        f"SELECT {sent}, store.timezone, delivery.state, count(*), total(delivery.open),"
        " total(delivery.late & 1), total(delivery.late >> 1) FROM delivery"
        + _STORES.format(table="delivery")
        + " WHERE delivery.directive_no = ? AND delivery.joined_at IS NULL GROUP BY 1, 2, 3"
    )
    for name, (sent, _) in _GROUPS.items()
}
BY_PLANNED = {
    name: (
        f"SELECT {planned}, count(*) FROM planned"
        + _STORES.format(table="planned")
        + " WHERE planned.directive_no = ? GROUP BY 1"
    )
    for name, (_, planned) in _GROUPS.items()
}
OPEN_ZONES = (
    "SELECT store.timezone, count(*) FROM delivery INDEXED BY delivery_open_of"
    + _STORES.format(table="delivery")
    + " WHERE delivery.directive_no = ? AND delivery.open = 1 GROUP BY store.timezone"
)
PLANNED_ZONES = (
    "SELECT DISTINCT store.timezone FROM planned"
    + _STORES.format(table="planned")
    + " WHERE planned.directive_no = ?"
)
WAVES = (
    "SELECT no, label, mailboxes, not_before, began_at, sent_at,"
    " (SELECT count(*) FROM planned WHERE planned.directive_no = wave.directive_no"
    " AND planned.wave_no = wave.no) FROM wave WHERE directive_no = ? ORDER BY no"
)
BY_WAVE = (
    "SELECT wave_no, state, count(*), total(open), total(late & 1), total(late >> 1)"
    " FROM delivery WHERE directive_no = ? AND wave_no IS NOT NULL GROUP BY 1, 2"
)
PROOF = (
    "SELECT state, before_hq, was, count(*) FROM delivery WHERE directive_no = ? GROUP BY 1, 2, 3"
)
CANNOT = (
    "SELECT store.id, store.region, mailbox.role, arrival.kind, "
    + DATA
    + " FROM delivery"
    + _STORES.format(table="delivery")
    + " LEFT JOIN arrival ON arrival.no = delivery.arrival_no"
    f" WHERE delivery.directive_no = ? AND delivery.state = {STATE_CODES[State.CANNOT]}"
)
# What stands in for a directive, or undoes it, was written after it.
UNDOING = "SELECT id, title, state FROM directive WHERE no > ?1 AND undoes_no = ?1 ORDER BY no"
_VERSION = (
    "SELECT no, id, title, state, issued_at, issued_by, supersedes_no, superseded_by_no"
    " FROM directive WHERE no = ?"
)
_SUPERSEDES, _SUPERSEDED_BY = 6, 7
_MOST_VERSIONS = 100


def by(
    connection: sqlite3.Connection, directive_no: int, grouping: str, now_at: float
) -> list[dict[str, Any]]:
    """How far a directive is in each region, or as else it is grouped.

    Args:
        connection: Of the ledger.
        directive_no: Which.
        grouping: One of `GROUPINGS`.
        now_at: Unix time; by it some are overdue.

    Returns:
        Of the frozen audience: `group`, `name` where it has one beside that, `mailboxes`, and the
        counts as a directive has them, with `overdue`; the furthest behind first.
    """
    due_text, needs_text = connection.execute(
        "SELECT due, needs FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    due, needs = StoreTimes(due_text), Needs(needs_text)
    tallies: dict[Any, Tally] = {}
    overdue: dict[Any, int] = {}
    for group, timezone, code, *counts in connection.execute(BY[grouping], (directive_no,)):
        tallies.setdefault(group, Tally(needs)).add(code, *map(int, counts))
        if counts[1] and due.is_past(timezone, now_at):
            overdue[group] = overdue.get(group, 0) + int(counts[1])
    for group, count in connection.execute(BY_PLANNED[grouping], (directive_no,)):
        tallies.setdefault(group, Tally(needs)).planned = count
    names = group_names(connection, directive_no, grouping)
    found = [
        {
            "group": "" if group is None else str(group),
            "name": names.get(group, ""),
            "mailboxes": tally.known,
            **tally.as_row(),
            "overdue": overdue.get(group, 0),
        }
        for group, tally in tallies.items()
    ]
    if grouping == "wave":
        return sorted(found, key=lambda one: int(one["group"] or 0))
    return sorted(found, key=lambda one: (one["met"] / one["mailboxes"], one["group"]))


def group_names(connection: sqlite3.Connection, directive_no: int, grouping: str) -> dict[Any, str]:
    """What people call the groups, where they have a name beside what they are grouped by."""
    if grouping == "region":
        return dict(connection.execute("SELECT slug, name FROM region").fetchall())
    if grouping == "wave":
        query = "SELECT no, label FROM wave WHERE directive_no = ?"
        return dict(connection.execute(query, (directive_no,)).fetchall())
    return {}


def open_zones(connection: sqlite3.Connection, directive_no: int) -> dict[str, int]:
    """For how many deliveries of a directive HQ waits in each time zone."""
    return dict(connection.execute(OPEN_ZONES, (directive_no,)).fetchall())


def outlook(connection: sqlite3.Connection, directive_no: int, zones: Collection[str]) -> Outlook:
    """What the future of a directive follows from.

    Args:
        connection: Of the ledger.
        directive_no: Which.
        zones: Those of `open_zones`.
    """
    state, due, forced_from, expires_at, gate, escalate = connection.execute(
        "SELECT directive.state, due, forced_from, expires_at, gate, escalate FROM directive"
        " LEFT JOIN plan ON plan.directive_no = directive.no WHERE directive.no = ?",
        (directive_no,),
    ).fetchone()
    planned = connection.execute(PLANNED_ZONES, (directive_no,)).fetchall()
    document = document_of(connection, directive_no)
    return Outlook(
        state=DirectiveState(state),
        due=due,
        forced_from=forced_from,
        expires_at=expires_at,
        zones={*zones, *(zone for (zone,) in planned)},
        waves=waves(connection, directive_no),
        gate=None if gate is None else Gate.from_json(gate),
        reminders=_rules(document.get("remind"), Reminder),
        escalations=_rules(json.loads(escalate or "[]"), Escalation),
    )


def _rules(found: Any, kind: type[Rule]) -> list[Rule]:
    """Rules as JSON has them; what a newer program wrote is left out."""
    try:
        return msgspec.convert(found or [], list[kind])  # type: ignore[valid-type]
    except msgspec.ValidationError:
        return []


def waves(connection: sqlite3.Connection, directive_no: int) -> list[dict[str, Any]]:
    """The waves of a directive, in their order, each with its counts; none where it has no waves.

    `planned` of a wave are those who are yet to get it.
    """
    row = connection.execute("SELECT needs FROM directive WHERE no = ?", (directive_no,)).fetchone()
    found: dict[int, tuple[dict[str, Any], Tally]] = {}
    for no, label, mailboxes, not_before, began_at, sent_at, planned in connection.execute(
        WAVES, (directive_no,)
    ):
        tally = Tally(Needs(row[0]))
        tally.planned = planned
        found[no] = (
            {
                "wave": no,
                "label": label,
                "mailboxes": mailboxes,
                "not_before_at": not_before,
                "began_at": began_at,
                "sent_at": sent_at,
            },
            tally,
        )
    for no, code, *counts in connection.execute(BY_WAVE, (directive_no,)):
        if no in found:
            found[no][1].add(code, *map(int, counts))
    return [{**wave, **tally.as_row()} for wave, tally in found.values()]


def steps(connection: sqlite3.Connection, directive_no: int) -> list[dict[str, Any]]:
    """Every move of a directive, the first one first."""
    names = ("at", "action", "state", "by", "note")
    rows = connection.execute(
        "SELECT at, action, state, by, note FROM directive_step WHERE directive_no = ? ORDER BY no",
        (directive_no,),
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def proof(connection: sqlite3.Connection, directive_no: int) -> dict[str, Any]:
    """How far the work of a withdrawn directive was, and how many devices confirmed that.

    `was`: in each state of a store, how many mailboxes had got so far, by what their devices said
    when they took the withdrawal, or else by what head office knew; `pending` never saw it.
    `confirmed`: how many said so; `unconfirmed`: how many have not, of those that were open.
    `never_sent`: how many it had not gone out to.
    """
    left = archived.stub(connection, directive_no)
    if left is not None:
        return left.proof
    counted = {state.value: 0 for state in STATE_OF if state in _BY_STORES}
    confirmed = unconfirmed = 0
    for state, before_hq, was, count in connection.execute(PROOF, (directive_no,)):
        known = before_hq if before_hq is not None else state
        furthest = known if was is None else max(known, was)
        if STATE_OF[furthest] not in _BY_STORES:  # closed by HQ before that was remembered
            furthest = STATE_CODES[State.PENDING]
        counted[STATE_OF[furthest].value] += count
        if was is not None:
            confirmed += count
        elif STATE_OF[state] is State.CANCELLED:
            unconfirmed += count
    (never_sent,) = connection.execute(
        "SELECT count(*) FROM planned WHERE directive_no = ?", (directive_no,)
    ).fetchone()
    return {
        "was": counted,
        "confirmed": confirmed,
        "unconfirmed": unconfirmed,
        "never_sent": never_sent,
    }


_BY_STORES = frozenset(STATE_OF[: STATE_CODES[State.DONE] + 1])


def versions(connection: sqlite3.Connection, directive_no: int) -> list[dict[str, Any]]:
    """The chain of directives that stand in for one another, the first one first.

    A directive that neither stands in for another nor is replaced has none.
    """
    this = connection.execute(_VERSION, (directive_no,)).fetchone()
    seen = {directive_no}
    before = _linked(connection, this, _SUPERSEDES, seen)
    chain = [*before[::-1], this, *_linked(connection, this, _SUPERSEDED_BY, seen)]
    if len(chain) == 1:
        return []
    return [
        {
            "id": row[1],
            "short_id": row[1][:SHORT_ID],
            "title": row[2],
            "state": row[3],
            "issued_at": row[4] or None,
            "issued_by": row[5],
            "this": row[0] == directive_no,
        }
        for row in chain
    ]


def _linked(
    connection: sqlite3.Connection, row: Sequence[Any], link: int, seen: set[int]
) -> list[Sequence[Any]]:
    """What one directive leads to by this link, and that one, and so on."""
    found: list[Sequence[Any]] = []
    # A chain that came back from stores in parts may be anything, also a circle.
    while (no := row[link]) is not None and no not in seen and len(found) < _MOST_VERSIONS:
        seen.add(no)
        row = connection.execute(_VERSION, (no,)).fetchone()
        found.append(row)
    return found


def undoing(connection: sqlite3.Connection, directive_no: int) -> list[dict[str, Any]]:
    """The directives that ask for this one to be undone."""
    return [
        {"id": row[0], "short_id": row[0][:SHORT_ID], "title": row[1], "state": row[2]}
        for row in connection.execute(UNDOING, (directive_no,))
    ]


def cannot(connection: sqlite3.Connection, directive_no: int, grouping: str) -> list[Said]:
    """What the mailboxes said that cannot, each counted by its region or role."""
    found = []
    for store, region, role, kind, data in connection.execute(CANNOT, (directive_no,)):
        said = loaded(data) if kind == "receipt" else {}
        text = ". ".join(filter(None, (said.get("reason", ""), said.get("note", ""))))
        group = role if grouping == "role" else region
        found.append(Said(store, group, str(said.get("code") or ""), text))
    return found
