"""A seat: the mailbox of a role in a store, with its open work and its history.

Work belongs to the mailbox and not to a person, so whoever takes over finds it all here: what is
still open, what is to come, who said what before, and what could not be done. What is for the store
as a whole (the role `any`) is part of every seat. Reading only; a row is a dict with the names that
`--json` shows.

Invariant: nothing here reads what other stores said.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from buswire.states import State
from hqconsole.errors import HqError
from hqconsole.ledger.deliveries import STATE_OF
from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.presence import serves
from hqconsole.ledger.views import SHORT_ID, loaded
from hqconsole.store_times import StoreTimes, wall

ANY = "any"

_STORE = (
    "SELECT store.no, store.id, store.name, store.region, region.name, store.city, store.timezone,"
    " store.roles, store.role_names, store.closed_at FROM store"
    " JOIN region ON region.slug = store.region WHERE store.id = ?"
)
_DIRECTIVE = (
    "directive.id, directive.title, directive.kind, directive.needs, directive.priority,"
    " directive.due, directive.forced_from, directive.expires_at, directive.issued_at,"
    " directive.issued_by"
)
OPEN_WORK = (
    f"SELECT {_DIRECTIVE}, doc.data, delivery.state, delivery.changed_at FROM delivery"
    " CROSS JOIN directive ON directive.no = delivery.directive_no"
    " CROSS JOIN doc ON doc.no = directive.doc_no"
    " WHERE delivery.mailbox_no = ? AND delivery.open = 1"
)
CLOSED_WORK = (
    f"SELECT {_DIRECTIVE}, delivery.state, delivery.changed_at, delivery.late, arrival.kind,"
    f" {DATA} FROM directive CROSS JOIN delivery"
    " ON delivery.directive_no = directive.no AND delivery.mailbox_no = ?"
    " LEFT JOIN arrival ON arrival.no = delivery.arrival_no"
    " WHERE delivery.open = 0 AND delivery.changed_at >= ? ORDER BY directive.no"
)
COMING = (
    "SELECT directive.id, directive.title, directive.kind, directive.priority, directive.state,"
    " directive.due, wave.label, wave.not_before, plan.starts FROM directive"
    " CROSS JOIN wave ON wave.directive_no = directive.no"
    " CROSS JOIN planned ON planned.directive_no = directive.no AND planned.wave_no = wave.no"
    " LEFT JOIN plan ON plan.directive_no = directive.no"
    " WHERE directive.state NOT IN ('denied', 'completed', 'superseded', 'cancelled', 'expired')"
    " AND directive.state IN ('scheduled', 'rolling', 'paused') AND planned.mailbox_no = ?"
)
SAID = (
    f"SELECT arrival.no, arrival.kind, arrival.said_at, arrival.received_at, arrival.outcome,"
    f" {DATA}, device.name, arrival.mailbox_no, directive.id, directive.title FROM device"
    " CROSS JOIN arrival ON arrival.device_no = device.no"
    " LEFT JOIN directive ON directive.no = arrival.directive_no"
    " WHERE device.store_no = ? AND arrival.received_at >= ?"
    " AND arrival.kind IN ('receipt', 'reply', 'alert') AND arrival.outcome IS NOT 'aside'"
)
_DEVICES = (
    "SELECT name, roles, online, last_heard_at FROM device"
    " WHERE store_no = ? AND state = 'active' ORDER BY name"
)


def seat(
    connection: sqlite3.Connection, store: str, role: str, *, since_at: float, now_at: float
) -> dict[str, Any]:
    """All that whoever takes over a seat should know.

    Args:
        connection: Of a read transaction.
        store: Its identifier.
        role: Its role, or `any` for the store as a whole.
        since_at: History from this Unix time on; open work is told however old it is.
        now_at: Unix time.

    Raises:
        HqError: There is no such store, or it never had such a role.
    """
    row = connection.execute(_STORE, (store,)).fetchone()
    if row is None:
        raise HqError(f"there is no store {store!r}", hint="hq stores lists them")
    store_no, *place = row
    facts = dict(
        zip(("store", "name", "region", "region_name", "city", "timezone"), place[:6], strict=True)
    )
    roles, names = json.loads(place[6]), json.loads(place[7])
    mailboxes = dict(
        connection.execute("SELECT role, no FROM mailbox WHERE store_no = ?", (store_no,))
    )
    if role != ANY and role not in roles and role not in mailboxes:
        there = ", ".join([*roles, ANY])
        raise HqError(f"store {store} has no {role!r}", hint=f"its roles are: {there}")
    of_seat = {mailboxes[one]: one for one in dict.fromkeys((role, ANY)) if one in mailboxes}
    said = list(_said(connection, store_no, since_at, of_seat))
    closed = [
        one
        for mailbox_no, of_role in of_seat.items()
        for one in _closed(connection, mailbox_no, of_role, since_at)
    ]
    return {
        **facts,
        "role": role,
        "role_name": names.get(role, "") if isinstance(names, dict) else "",
        "closed_at": place[8],
        "at": now_at,
        "since_at": since_at,
        "devices": _devices(connection, store_no, role),
        "open": _open(connection, of_seat, facts["timezone"], now_at),
        "coming": _coming(connection, of_seat),
        "people": _people(said),
        "closed": sorted(closed, key=lambda one: one["changed_at"]),
        "said": [one for one in said if one["kind"] != "alert"],
        "alerts": [one for one in said if one["kind"] == "alert"],
    }


def _devices(connection: sqlite3.Connection, store_no: int, role: str) -> list[dict[str, Any]]:
    return [
        {"device": name, "online": bool(online), "last_heard_at": last_heard_at or None}
        for name, roles, online, last_heard_at in connection.execute(_DEVICES, (store_no,))
        if serves(roles, role)
    ]


def _open(
    connection: sqlite3.Connection, of_seat: Mapping[int, str], timezone: str, now_at: float
) -> list[dict[str, Any]]:
    found = []
    for mailbox_no, role in of_seat.items():
        for row in connection.execute(OPEN_WORK, (mailbox_no,)).fetchall():
            one = _directive(row, role)
            *_, data, state, changed_at = row
            due = StoreTimes(one["due"])
            found.append(
                {
                    **one,
                    "body": loaded(data).get("body", ""),
                    "state": STATE_OF[state].value,
                    "changed_at": changed_at,
                    "due_at": due.at(timezone),
                    "due_there": wall(due.at(timezone), timezone),
                    "overdue": due.is_past(timezone, now_at),
                }
            )
    urgency = ("urgent", "high", "normal", "low")
    found.sort(
        key=lambda one: (
            not one["overdue"],
            urgency.index(one["priority"]) if one["priority"] in urgency else len(urgency),
            one["due_at"] or float("inf"),
            one["issued_at"],
        )
    )
    return found


def _directive(row: Sequence[Any], role: str) -> dict[str, Any]:
    names = (
        *("directive", "title", "kind", "needs", "priority", "due", "forced_from", "expires_at"),
        *("issued_at", "issued_by"),
    )
    found = dict(zip(names, row, strict=False))
    return {"short_id": found["directive"][:SHORT_ID], "role": role, **found}


def _closed(
    connection: sqlite3.Connection, mailbox_no: int, role: str, since_at: float
) -> Iterator[dict[str, Any]]:
    for row in connection.execute(CLOSED_WORK, (mailbox_no, since_at)).fetchall():
        *_, state, changed_at, late, kind, data = row
        said = loaded(data) if kind == "receipt" else {}
        yield {
            **_directive(row, role),
            "state": STATE_OF[state].value,
            "changed_at": changed_at,
            "late": bool(late),
            **{name: said.get(name, "") for name in ("by", "code", "reason", "note")},
        }


def _coming(connection: sqlite3.Connection, of_seat: Mapping[int, str]) -> list[dict[str, Any]]:
    names = (
        "directive",
        "title",
        "kind",
        "priority",
        "state",
        "due",
        "wave",
        "not_before",
        "starts",
    )
    return [
        {
            "short_id": row[0][:SHORT_ID],
            "role": role,
            **dict(zip(names, row, strict=True)),
        }
        for mailbox_no, role in of_seat.items()
        for row in connection.execute(COMING, (mailbox_no,)).fetchall()
    ]


def _said(
    connection: sqlite3.Connection, store_no: int, since_at: float, of_seat: Mapping[int, str]
) -> Iterator[dict[str, Any]]:
    """What the seat said, and the store's alerts, in the order of saving."""
    rows = connection.execute(SAID, (store_no, since_at)).fetchall()
    for row in sorted(rows, key=lambda one: int(one[0])):
        _, kind, said_at, received_at, outcome, data, device, mailbox_no, directive, title = row
        said = loaded(data)
        # That a device saved something is no word of a person's.
        if kind != "alert" and (
            mailbox_no not in of_seat or said.get("state") == State.DELIVERED.value
        ):
            continue
        fields = said.get("fields")
        yield {
            "kind": kind,
            "said_at": said_at,
            "received_at": received_at,
            "device": device,
            "role": of_seat.get(mailbox_no),
            "directive": directive,
            "short_id": (directive or "")[:SHORT_ID] or None,
            "title": title,
            "outcome": outcome,
            **{
                name: said.get(name, "")
                for name in ("by", "state", "code", "reason", "note", "text", "alert")
            },
            "fields": fields if isinstance(fields, dict) else {},
        }


def _people(said: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who gave a name, the latest first."""
    found: dict[str, dict[str, Any]] = {}
    for one in said:
        if name := one["by"]:
            at = one["received_at"]
            person = found.setdefault(str(name), {"name": name, "first_at": at, "times": 0})
            person |= {"last_at": at, "times": person["times"] + 1}
    return sorted(found.values(), key=lambda person: -float(person["last_at"]))
