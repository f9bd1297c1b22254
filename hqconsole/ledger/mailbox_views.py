"""What the console reads of one directive's mailboxes: who has not, who has, and who is yet to.

Reading only. A row is a dict with the names that `--json` shows.

Invariant: one directive's deliveries are one range of a key, and each store is looked at once: all
of it is quick for an audience of tens of thousands in a hundred time zones.
"""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from buswire.states import State
from hqconsole.ledger.deliveries import ARRIVED_LATE, DONE_AFTER_DUE, STATE_CODES, STATE_OF
from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.presence import Presence
from hqconsole.ledger.views import loaded
from hqconsole.store_times import StoreTimes, wall

PLANNED = "planned"
"""What a mailbox is shown as that the directive has not gone out to."""

_COLUMNS = (
    "SELECT store.id, store.name, store.region, mailbox.role, store.timezone,"
    " store.closed_at IS NOT NULL, mailbox.store_no, {rest}"
)
# CROSS JOIN keeps SQLite to this order: the directive's range first, then the few keys it names.
_STORES = (
    " CROSS JOIN mailbox ON mailbox.no = {table}.mailbox_no"
    " CROSS JOIN store ON store.no = mailbox.store_no"
)
_WHO = (
    _COLUMNS.format(
        rest="delivery.wave_no, delivery.state, delivery.open, delivery.changed_at,"
        " delivery.late, delivery.joined_at, delivery.before_hq, delivery.was, arrival.kind,"
        f" {DATA}, arrival.said_at"
    )
    + " FROM delivery {index}"
    + _STORES.format(table="delivery")
    + " LEFT JOIN arrival ON arrival.no = delivery.arrival_no WHERE delivery.directive_no = ?"
)
WHO_OPEN = _WHO.replace("{index}", "INDEXED BY delivery_open_of") + " AND delivery.open = 1"
WHO_STATES = _WHO.replace("{index}", "") + " AND delivery.state IN ({})"
WHO_PLANNED = (
    _COLUMNS.format(rest="planned.wave_no")
    + " FROM planned"
    + _STORES.format(table="planned")
    + " WHERE planned.directive_no = ?"
)


def who(
    connection: sqlite3.Connection,
    directive_no: int,
    states: Collection[State],
    now_at: float,
) -> list[dict[str, Any]]:
    """The mailboxes that have a directive, by region and store.

    Args:
        connection: Of a read transaction, so that states and devices fit together.
        directive_no: Which.
        states: In which of these states; none means everyone that HQ still waits for.
        now_at: Unix time; by it some are overdue.
    """
    if states:
        codes = sorted(STATE_CODES[state] for state in states)
        query = WHO_STATES.format(",".join("?" * len(codes)))
    else:
        codes, query = [], WHO_OPEN
    rows = connection.execute(query, (directive_no, *codes)).fetchall()
    return _found(connection, directive_no, rows, now_at)


def who_planned(
    connection: sqlite3.Connection, directive_no: int, now_at: float
) -> list[dict[str, Any]]:
    """The mailboxes that a directive is yet to go out to, by region and store."""
    rows = connection.execute(WHO_PLANNED, (directive_no,)).fetchall()
    return _found(connection, directive_no, rows, now_at)


class _Due(dict[str, tuple[float | None, str | None, bool]]):
    """When a directive is due in each time zone: Unix time, store time, and whether it is past."""

    def __init__(self, due: str | None, now_at: float) -> None:
        super().__init__()
        self._times = StoreTimes(due)
        self._now_at = now_at

    def __missing__(self, timezone: str) -> tuple[float | None, str | None, bool]:
        at = self._times.at(timezone)
        found = (at, wall(at, timezone), self._times.is_past(timezone, self._now_at))
        self[timezone] = found
        return found


_NOT_OUT = (STATE_CODES[State.PENDING], 0, None, None, None, None, None, None, None, None)


def _found(
    connection: sqlite3.Connection,
    directive_no: int,
    rows: Sequence[Sequence[Any]],
    now_at: float,
) -> list[dict[str, Any]]:
    (due_text,) = connection.execute(
        "SELECT due FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    due = _Due(due_text, now_at)
    presence = Presence(connection, {row[6] for row in rows})
    found = []
    for row in rows:
        store, name, region, role, timezone, closed, store_no, wave_no, *delivery = row
        state, is_open, since, late, joined_at, before_hq, was, kind, data, said_at = (
            delivery or _NOT_OUT
        )
        said = loaded(data) if kind in {"receipt", "withdrawn"} else {}
        online, last_heard_at, devices = presence.of(store_no, role)
        due_at, due_local, is_past = due[timezone]
        found.append(
            {
                "store": store,
                "name": name,
                "region": region,
                "role": role,
                "state": STATE_OF[state].value if delivery else PLANNED,
                "open": bool(is_open),
                "since": since,
                "due_at": due_at,
                "due_local": due_local,
                "timezone": timezone,
                "overdue": bool(is_open) and is_past,
                "late": bool((late or 0) & ARRIVED_LATE),
                "done_late": bool((late or 0) & DONE_AFTER_DUE),
                "wave": wave_no,
                "joined_at": joined_at,
                "before_hq": None if before_hq is None else STATE_OF[before_hq].value,
                "was": None if was is None else STATE_OF[was].value,
                "closed_store": bool(closed),
                "by": said.get("by", ""),
                "code": said.get("code", ""),
                "reason": said.get("reason", ""),
                "note": said.get("note", ""),
                "said_at": said_at,
                "devices": devices,
                "online": online,
                "last_heard_at": last_heard_at,
            }
        )
    found.sort(key=lambda one: (one["region"], one["store"], one["role"]))
    return found
