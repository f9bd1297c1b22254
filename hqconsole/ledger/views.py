"""What the console reads of directives: how far each is, who has not, and what is being asked.

Reading only. A row is a dict with the names that `--json` shows. The numbers are honest: every
delivery is counted once, in the state it is in, and the audience frozen at issue stands beside what
is known of it, which can be less after a restore.

Invariant: nothing here reads all deliveries; one directive's are one range of the primary key.
"""

import functools
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from buswire.states import CLOSED_BY_HQ, Needs, State, is_open
from hqconsole.ledger.deliveries import STATE_CODES, STATE_OF
from hqconsole.ledger.evidence import DATA

SHORT_ID = 8
"""How many characters of a directive's id are shown to people."""

_NAMES = (
    *("no", "id", "title", "kind", "needs", "priority", "due", "expires_at", "issued_at"),
    *("issued_by", "state", "closed_at", "mailboxes", "digest", "adopted_at"),
)
DIRECTIVES = f"SELECT {', '.join(_NAMES)} FROM directive"
LATEST = f"{DIRECTIVES} ORDER BY no DESC LIMIT ?"
COUNTS = (
    "SELECT state, count(*), coalesce(sum(open), 0), coalesce(sum(late), 0), max(changed_at)"
    " FROM delivery WHERE directive_no = ? GROUP BY state"
)
# CROSS JOIN keeps SQLite to this order: the directive's range first, then the few keys it names.
WHO = (
    "SELECT store.id, store.name, store.region, mailbox.role, delivery.state, delivery.open,"
    f" delivery.changed_at, delivery.late, store.closed_at IS NOT NULL, arrival.kind, {DATA},"
    " arrival.said_at, mailbox.store_no FROM delivery"
    " CROSS JOIN mailbox ON mailbox.no = delivery.mailbox_no"
    " CROSS JOIN store ON store.no = mailbox.store_no"
    " LEFT JOIN arrival ON arrival.no = delivery.arrival_no"
    " WHERE delivery.directive_no = ?"
)
WHO_OPEN = " AND delivery.open = 1"
WHO_STATES = " AND delivery.state IN ({})"
# Who has not joined or was revoked reads nothing, and serves nobody.
DEVICES_OF_STORE = (
    "SELECT roles, online, last_heard_at FROM device WHERE store_no = ? AND state = 'active'"
)
DEVICES = "SELECT store_no, roles, online, last_heard_at FROM device WHERE state = 'active'"
_FEW_STORES = 500


def latest_directives(connection: sqlite3.Connection, most: int) -> list[dict[str, Any]]:
    """The latest directives with their counts, the newest first."""
    return [
        {**_directive(row), **_counts(connection, row)}
        for row in connection.execute(LATEST, (most,)).fetchall()
    ]


def directive_count(connection: sqlite3.Connection) -> int:
    """How many directives there are."""
    return int(connection.execute("SELECT count(*) FROM directive").fetchone()[0])


def one_directive(connection: sqlite3.Connection, directive_no: int) -> dict[str, Any]:
    """One directive with its counts, its text and why it was cancelled."""
    row = connection.execute(f"{DIRECTIVES} WHERE no = ?", (directive_no,)).fetchone()
    directive_id = row[1]
    data = connection.execute(
        "SELECT data FROM doc WHERE no = (SELECT doc_no FROM directive WHERE no = ?)",
        (directive_no,),
    ).fetchone()[0]
    document = loaded(data)
    cancel = connection.execute(
        "SELECT doc.data FROM cancel JOIN doc ON doc.no = doc_no WHERE directive_id = ?",
        (directive_id,),
    ).fetchone()
    withdrawn = loaded(cancel[0]) if cancel else {}
    return {
        **_directive(row),
        **_counts(connection, row),
        "body": document.get("body", ""),
        "channels": (document.get("audience") or {}).get("channels", []),
        "cancel_reason": withdrawn.get("reason", ""),
        "cancelled_by": withdrawn.get("cancelled_by", ""),
    }


def directive_id(connection: sqlite3.Connection, directive_no: int) -> str:
    """The whole id of a directive that is there."""
    row = connection.execute("SELECT id FROM directive WHERE no = ?", (directive_no,)).fetchone()
    return str(row[0])


def counts_of(connection: sqlite3.Connection, directive_no: int) -> dict[str, Any]:
    """The counts of one directive alone, for those who look again and again."""
    row = connection.execute(f"{DIRECTIVES} WHERE no = ?", (directive_no,)).fetchone()
    return {"state": row[10], **_counts(connection, row)}


def _directive(row: Sequence[Any]) -> dict[str, Any]:
    found = dict(zip(_NAMES, row, strict=True))
    found.pop("no")
    return {"short_id": found["id"][:SHORT_ID], **found}


def _counts(connection: sqlite3.Connection, directive: Sequence[Any]) -> dict[str, Any]:
    needs = Needs(directive[4])
    states = dict.fromkeys((state.value for state in STATE_OF), 0)
    still_open = late = 0
    changed_at: float | None = None
    for code, count, of_them_open, of_them_late, latest_at in connection.execute(
        COUNTS, (directive[0],)
    ):
        states[STATE_OF[code].value] = count
        still_open += of_them_open
        late += of_them_late
        changed_at = max(filter(None, (changed_at, latest_at)), default=None)
    met = sum(
        states[state.value]
        for state in STATE_OF
        if state not in CLOSED_BY_HQ and state is not State.CANNOT and not is_open(state, needs)
    )
    return {
        "states": states,
        "known": sum(states.values()),
        "met": met,
        "open": still_open,
        "late": late,
        "complete": still_open == 0,
        "changed_at": changed_at,
    }


def who(
    connection: sqlite3.Connection, directive_no: int, states: Collection[State]
) -> list[dict[str, Any]]:
    """The mailboxes of one directive, by region and store.

    Args:
        connection: Of a read transaction, so that states and devices fit together.
        directive_no: Which.
        states: In which of these states; none means everyone that HQ still waits for.
    """
    if states:
        codes = sorted(STATE_CODES[state] for state in states)
        where = WHO_STATES.format(",".join("?" * len(codes)))
    else:
        codes, where = [], WHO_OPEN
    rows = connection.execute(WHO + where, (directive_no, *codes)).fetchall()
    presence = _Presence(connection, {row[12] for row in rows})
    found = []
    for row in rows:
        said = loaded(row[10]) if row[9] == "receipt" else {}
        online, last_heard_at, devices = presence.of(row[12], row[3])
        found.append(
            {
                "store": row[0],
                "name": row[1],
                "region": row[2],
                "role": row[3],
                "state": STATE_OF[row[4]].value,
                "open": bool(row[5]),
                "since": row[6],
                "late": bool(row[7]),
                "closed_store": bool(row[8]),
                "by": said.get("by", ""),
                "reason": said.get("reason", ""),
                "note": said.get("note", ""),
                "said_at": row[11],
                "devices": devices,
                "online": online,
                "last_heard_at": last_heard_at,
            }
        )
    found.sort(key=lambda one: (one["region"], one["store"], one["role"]))
    return found


class _Presence:
    """Whether somebody is there, for many mailboxes at a time: each store is looked up once."""

    def __init__(self, connection: sqlite3.Connection, store_nos: Collection[int]) -> None:
        self._devices: dict[int, list[tuple[str | None, int, float]]] = {}
        if len(store_nos) > _FEW_STORES:
            for store_no, *device in connection.execute(DEVICES):
                self._devices.setdefault(store_no, []).append((device[0], device[1], device[2]))
        else:
            for store_no in store_nos:
                self._devices[store_no] = connection.execute(
                    DEVICES_OF_STORE, (store_no,)
                ).fetchall()

    def of(self, store_no: int, role: str) -> tuple[bool, float | None, int]:
        """Whether a device of the mailbox is there, when one was last heard, how many it has."""
        online, heard_at, devices = False, 0.0, 0
        for roles, is_online, last_heard_at in self._devices.get(store_no, ()):
            if serves(roles, role):
                devices += 1
                online = online or bool(is_online)
                heard_at = max(heard_at, last_heard_at)
        return online, heard_at or None, devices


def serves(roles: str | None, role: str) -> bool:
    """Whether a device with these roles, as its row has them, reads what is for that role."""
    return role == "any" or roles is None or role in _roles(roles)


@functools.lru_cache(maxsize=1024)
def _roles(roles: str) -> frozenset[str]:
    # Thousands of devices have one of a few sets of roles.
    return frozenset(json.loads(roles))


def being_asked(connection: sqlite3.Connection) -> dict[str, Any]:
    """What HQ has forgotten and is asking the stores about, after a restore.

    `directives`: of which there are statements and no original; `statements`: those statements;
    `adopted`: directives that came back from stores.
    """
    rows = connection.execute(
        "SELECT waiting.directive_id, count(*), max(asked.first_asked_at), max(asked.asked_at)"
        " FROM waiting LEFT JOIN asked ON asked.directive_id = waiting.directive_id"
        " GROUP BY waiting.directive_id"
        " UNION ALL"
        " SELECT directive_id, 0, first_asked_at, asked_at FROM asked"
        " WHERE directive_id NOT IN (SELECT directive_id FROM waiting) ORDER BY 1"
    ).fetchall()
    adopted = connection.execute(
        "SELECT count(*) FROM directive WHERE adopted_at IS NOT NULL"
    ).fetchone()[0]
    restored = connection.execute(
        "SELECT max(at) FROM incident WHERE kind = 'restored'"
    ).fetchone()[0]
    return {
        "restored_at": restored,
        "adopted": adopted,
        "statements": sum(row[1] for row in rows),
        "directives": [
            {"id": row[0], "statements": row[1], "first_asked_at": row[2], "asked_at": row[3]}
            for row in rows
        ],
    }


def loaded(data: bytes | memoryview | None) -> dict[str, Any]:
    """The JSON object that a record says; an empty one where it says none."""
    try:
        value = json.loads(bytes(data or b"{}"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def in_batches(
    connection: sqlite3.Connection, query: str, after_no: int, batch_rows: int = 500
) -> Iterator[Sequence[Any]]:
    """Rows of a query with `no > ? ... LIMIT ?` whose first column is `no`, in their order.

    No statement stays open between batches, so the write-ahead log can be emptied meanwhile.
    """
    while rows := connection.execute(query, (after_no, batch_rows)).fetchall():
        yield from rows
        after_no = rows[-1][0]
