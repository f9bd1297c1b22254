"""What is exported: whole tables of the history as rows, however many there are.

Owns the columns of each export, which are a promise as those of `--json`, and the walking: batch
by batch along a key, so that memory does not grow and no statement stays open in between. Reading
only. Where the caller holds a read transaction, all rows are of one moment; otherwise each is as it
was when its batch was read.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hqconsole.ledger import audit, views
from hqconsole.ledger.deliveries import STATE_OF
from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.views import loaded

_BATCH_ROWS = 500


class Export(NamedTuple):
    """Something to export.

    Attributes:
        columns: Of its rows, in their order.
        total: Says how many rows there are about, for a progress bar.
        rows: Gives them; each is a dict with at least the columns.
    """

    columns: tuple[str, ...]
    total: Callable[[], int]
    rows: Iterator[dict[str, Any]]


class Among(NamedTuple):
    """Which rows: of this store, of this region, from this Unix time on, before this one."""

    store: str | None = None
    region: str | None = None
    since_at: float | None = None
    until_at: float | None = None


_DELIVERY_COLUMNS = (
    *("directive", "title", "store", "store_name", "region", "city", "role", "state", "open"),
    *("changed_at", "in_audience", "joined_at", "wave", "arrived_late", "done_late", "before_hq"),
    *("withdrawn_at_state", "by", "code", "reason", "note", "said_at", "received_at", "device"),
)
DELIVERIES = (
    "SELECT delivery.mailbox_no, store.id, store.name, store.region, store.city, mailbox.role,"
    " delivery.state, delivery.open, delivery.changed_at, delivery.joined_at, delivery.wave_no,"
    " delivery.late, delivery.before_hq, delivery.was, arrival.kind,"
    f" {DATA}, arrival.said_at, arrival.received_at, device.name FROM delivery"
    " CROSS JOIN mailbox ON mailbox.no = delivery.mailbox_no"
    " CROSS JOIN store ON store.no = mailbox.store_no"
    " LEFT JOIN arrival ON arrival.no = delivery.arrival_no"
    " LEFT JOIN device ON device.no = arrival.device_no"
    " WHERE delivery.directive_no = :directive AND delivery.mailbox_no > :after{where}"
    " ORDER BY delivery.mailbox_no LIMIT :batch"
)
_DELIVERY_COUNT = "SELECT count(*) FROM delivery WHERE directive_no = ?"

_ARRIVAL_COLUMNS = (
    *("id", "kind", "store", "store_name", "region", "device", "role", "directive", "title"),
    *("said_at", "received_at", "outcome"),
)
_SAID_COLUMNS = {
    "reply": ("by", "text"),
    "alert": ("alert", "by", "note", "fields"),
    "receipt": ("state", "by", "code", "reason", "note"),
    None: ("data",),
}
# CROSS JOIN keeps SQLite to the order of saving, whatever else is asked for.
ARRIVALS = (
    "SELECT arrival.no, arrival.id, arrival.kind, store.id, store.name, store.region, device.name,"
    " mailbox.role, directive.id, directive.title, arrival.said_at, arrival.received_at,"
    f" arrival.outcome, {DATA} FROM arrival"
    " CROSS JOIN device ON device.no = arrival.device_no"
    " CROSS JOIN store ON store.no = device.store_no"
    " LEFT JOIN directive ON directive.no = arrival.directive_no"
    " LEFT JOIN mailbox ON mailbox.no = arrival.mailbox_no"
    " WHERE arrival.no > :after{where} ORDER BY arrival.no LIMIT :batch"
)
_ARRIVAL_COUNT = (
    "SELECT count(*) FROM arrival CROSS JOIN device ON device.no = arrival.device_no"
    " CROSS JOIN store ON store.no = device.store_no WHERE 1{where}"
)
# The first condition, word for word, is how SQLite recognizes the partial index.
OF_KIND = {
    None: "",
    "receipt": " AND arrival.kind = 'receipt'",
    "reply": " AND arrival.kind IN ('reply', 'alert') AND arrival.kind = 'reply'",
    "alert": " AND arrival.kind IN ('reply', 'alert') AND arrival.kind = 'alert'",
}

_COUNTED = ("planned", "known", "met", "open", "late", "done_late")
_DIRECTIVE_COLUMNS = (
    *("id", "title", "kind", "needs", "priority", "due", "forced_from", "expires_at", "issued_at"),
    *("issued_by", "state", "closed_at", "mailboxes", "digest", "adopted_at"),
    *("author", "written_at", "starts", "continuous"),
)
_STATE_COLUMNS = tuple(state.value for state in STATE_OF)
DIRECTIVES = (
    "SELECT directive.no, directive.id, directive.title, directive.kind, directive.needs,"
    " directive.priority, directive.due, directive.forced_from, directive.expires_at,"
    " nullif(directive.issued_at, 0), directive.issued_by, directive.state, directive.closed_at,"
    " directive.mailboxes, directive.digest, directive.adopted_at, plan.author, plan.written_at,"
    " plan.starts, coalesce(plan.continuous, 0) FROM directive"
    " LEFT JOIN plan ON plan.directive_no = directive.no"
    " WHERE directive.no > :after{where} ORDER BY directive.no LIMIT :batch"
)
_WRITTEN_AT = "coalesce(nullif(directive.issued_at, 0), plan.written_at)"
_DIRECTIVE_COUNT = (
    "SELECT count(*) FROM directive LEFT JOIN plan ON plan.directive_no = directive.no"
    " WHERE 1{where}"
)

_AUDIT_COLUMNS = ("no", "at", "operator", "origin", "action", "detail", "hash")


def deliveries(connection: sqlite3.Connection, directive_no: int, among: Among) -> Export:
    """Every delivery of one directive, in the order of the roster."""
    where, values = _where(among._replace(since_at=None, until_at=None), "")
    directive_id, title = connection.execute(
        "SELECT id, title FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()

    def rows() -> Iterator[dict[str, Any]]:
        query = DELIVERIES.format(where=where)
        for row in _walk(connection, query, values | {"directive": directive_no}):
            yield {"directive": directive_id, "title": title, **_delivery(row)}

    def total() -> int:
        return _count(connection, _DELIVERY_COUNT, (directive_no,))

    return Export(_DELIVERY_COLUMNS, total, rows())


def _delivery(row: Sequence[Any]) -> dict[str, Any]:
    _, store, name, region, city, role, state, is_open, changed_at, joined_at, wave, *more = row
    late, before_hq, was, kind, data, said_at, received_at, device = more
    said = loaded(data) if kind == "receipt" else {}
    return {
        "store": store,
        "store_name": name,
        "region": region,
        "city": city,
        "role": role,
        "state": STATE_OF[state].value,
        "open": bool(is_open),
        "changed_at": changed_at,
        "in_audience": joined_at is None,
        "joined_at": joined_at,
        "wave": wave,
        "arrived_late": bool((late or 0) & 1),
        "done_late": bool((late or 0) & 2),
        "before_hq": None if before_hq is None else STATE_OF[before_hq].value,
        "withdrawn_at_state": None if was is None else STATE_OF[was].value,
        **{name: said.get(name, "") for name in ("by", "code", "reason", "note")},
        "said_at": said_at,
        "received_at": received_at,
        "device": device,
    }


def arrivals(connection: sqlite3.Connection, kind: str | None, among: Among) -> Export:
    """What stores said, of one kind or all of it, in the order of saving.

    Args:
        connection: Reads the ledger.
        kind: reply, alert, receipt, or None for every arrival as it came.
        among: Times are those of receiving.
    """
    where, values = _where(among, "arrival.received_at")
    where = OF_KIND[kind] + where + (" AND arrival.outcome IS NOT 'aside'" if kind else "")

    def rows() -> Iterator[dict[str, Any]]:
        for row in _walk(connection, ARRIVALS.format(where=where), values):
            yield _arrival(row, kind)

    def total() -> int:
        return _count(connection, _ARRIVAL_COUNT.format(where=where), values)

    return Export((*_ARRIVAL_COLUMNS, *_SAID_COLUMNS[kind]), total, rows())


def _arrival(row: Sequence[Any], kind: str | None) -> dict[str, Any]:
    found = dict(zip(_ARRIVAL_COLUMNS, _arrival_values(row), strict=True))
    said = loaded(row[13])
    for name in ("directive", "role"):
        value = said.get(name)
        found[name] = found[name] or (value if isinstance(value, str) else None)
    if kind is None:
        return found | {"data": said}
    return found | {name: said.get(name, "") for name in _SAID_COLUMNS[kind]}


def _arrival_values(row: Sequence[Any]) -> list[Any]:
    _, entry_id, kind, store, name, region, device, role, directive, title, *rest = row
    said_at, received_at, outcome, _ = rest
    place = [store, name, region, device, role, directive, title]
    return [bytes(entry_id).hex(), kind, *place, said_at, received_at, outcome]


def directives(connection: sqlite3.Connection, among: Among) -> Export:
    """Every directive with its counts, the oldest first; drafts by when they were written."""
    where, values = _where(among._replace(store=None, region=None), _WRITTEN_AT)

    def rows() -> Iterator[dict[str, Any]]:
        for no, *row in _walk(connection, DIRECTIVES.format(where=where), values, batch_rows=20):
            found = dict(zip(_DIRECTIVE_COLUMNS, row, strict=True))
            found["continuous"] = bool(found["continuous"])
            counts = views.counts_of(connection, no)
            yield {**found, **{n: counts.get(n) for n in _COUNTED}, **counts["states"]}

    def total() -> int:
        return _count(connection, _DIRECTIVE_COUNT.format(where=where), values)

    return Export((*_DIRECTIVE_COLUMNS, *_COUNTED, *_STATE_COLUMNS), total, rows())


def audit_rows(connection: sqlite3.Connection, among: Among) -> Export:
    """Who did what at head office, the oldest first."""

    def rows() -> Iterator[dict[str, Any]]:
        for row in audit.rows(connection):
            before = among.since_at is not None and row.at < among.since_at
            behind = among.until_at is not None and row.at >= among.until_at
            if not (before or behind):
                yield {**row._asdict(), "detail": _detail(row.detail)}

    def total() -> int:
        return _count(connection, "SELECT count(*) FROM audit", {})

    return Export(_AUDIT_COLUMNS, total, rows())


def _detail(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # altered by somebody; hq verify says so, and this has it as it is
        return text


def _where(among: Among, at: str) -> tuple[str, dict[str, Any]]:
    parts = (
        ("store", "store.id = :store"),
        ("region", "store.region = :region"),
        ("since_at", f"{at} >= :since_at"),
        ("until_at", f"{at} < :until_at"),
    )
    given = {name: value for name, value in among._asdict().items() if value is not None}
    return "".join(f" AND {condition}" for name, condition in parts if name in given), given


def _walk(
    connection: sqlite3.Connection,
    query: str,
    values: dict[str, Any],
    batch_rows: int = _BATCH_ROWS,
) -> Iterator[Sequence[Any]]:
    """Rows of a query with `> :after ... LIMIT :batch`, whose first column is the key."""
    after = 0
    while True:
        given = values | {"after": after, "batch": batch_rows}
        rows = connection.execute(query, given).fetchall()
        yield from rows
        if len(rows) < batch_rows:
            return
        after = rows[-1][0]


def _count(connection: sqlite3.Connection, query: str, values: Any) -> int:
    return int(connection.execute(query, values).fetchone()[0])
