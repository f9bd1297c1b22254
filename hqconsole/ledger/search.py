"""Looks for words in the whole history: what directives said, and all that was answered.

Reading only; the index is kept by `search_index`, and what is shown is read from where it was
saved. A row is a dict with the names that `--json` shows.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from hqconsole.errors import HqError
from hqconsole.ledger import archived
from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.search_index import (
    HQ_SOURCES,
    KIND_OF,
    KINDS,
    Source,
    decided,
    is_index_damage,
    plain,
    words_of,
)
from hqconsole.ledger.views import SHORT_ID, loaded
from hqconsole.words import Query, excerpt

RANKED_MOST = 100_000
"""Of more hits than these only the latest are ranked; all are counted."""

_HALF_SECONDS = 90 * 86_400.0
"""After so long a hit has lost half of what being new gives it."""
_TITLE_WEIGHT = 4.0

_COUNT = (
    "SELECT count(*) FROM search_words CROSS JOIN searched ON searched.no = search_words.rowid"
    " WHERE search_words MATCH :match{where}"
)
_BOUND = (
    "SELECT rowid FROM search_words WHERE search_words MATCH :match ORDER BY rowid DESC"
    f" LIMIT 1 OFFSET {RANKED_MOST}"
)
# bm25 is negative, and the lower the better.
RANKED = (
    "SELECT searched.no, searched.source, searched.source_no, searched.at, searched.directive_no,"
    " searched.device_no FROM search_words"
    " CROSS JOIN searched ON searched.no = search_words.rowid"
    " WHERE search_words MATCH :match AND search_words.rowid > :bound{where}"
    f" ORDER BY bm25(search_words, {_TITLE_WEIGHT}, 1.0)"
    f" * (1 + 1 / (1 + max(0, :now - searched.at) / {_HALF_SECONDS})), searched.no DESC LIMIT :most"
)
_OF_DEVICES = (
    " AND (searched.source IN (" + ", ".join(str(int(one)) for one in HQ_SOURCES) + ") OR"
    " coalesce(searched.device_no,"
    " (SELECT device_no FROM arrival WHERE arrival.no = searched.source_no)) IN"
    " (SELECT device.no FROM device JOIN store ON store.no = device.store_no WHERE {where}))"
)
SAID = (
    f"SELECT arrival.kind, {DATA}, store.id, store.name, store.region, directive.id,"
    " directive.title, mailbox.role FROM arrival"
    " CROSS JOIN device ON device.no = arrival.device_no"
    " CROSS JOIN store ON store.no = device.store_no"
    " LEFT JOIN directive ON directive.no = arrival.directive_no"
    " LEFT JOIN mailbox ON mailbox.no = arrival.mailbox_no WHERE arrival.no = ?"
)
_HQ_SAID = {
    Source.DIRECTIVE: (
        "SELECT id, title, state, issued_by, data FROM directive JOIN doc ON doc.no = doc_no"
        " WHERE directive.no = ?"
    ),
    Source.STEP: (
        "SELECT id, title, action, by, note FROM directive_step"
        " JOIN directive ON directive.no = directive_no WHERE directive_step.no = ?"
    ),
}
_DECIDED = "SELECT data FROM doc WHERE no = ?"
_TITLE = "SELECT title FROM directive WHERE id = ?"
# Whether a directive went, or is to go, to such a store.
_REACHES_REGION = (
    "SELECT 1 FROM directive CROSS JOIN {table} AS part ON part.directive_no = directive.no"
    " CROSS JOIN mailbox ON mailbox.no = part.mailbox_no"
    " CROSS JOIN store ON store.no = mailbox.store_no"
    " WHERE directive.id = :id AND store.region = :region LIMIT 1"
)
_REACHES_STORE = (
    "SELECT 1 FROM store CROSS JOIN mailbox ON mailbox.store_no = store.no"
    " CROSS JOIN directive ON directive.id = :id"
    " CROSS JOIN {table} AS part ON part.directive_no = directive.no"
    " AND part.mailbox_no = mailbox.no"
    " WHERE store.id = :store AND (:region IS NULL OR store.region = :region) LIMIT 1"
)


class Filters(NamedTuple):
    """Among what to look.

    Attributes:
        kind: One of `KINDS`; all where it is None.
        store: What this store said, and directives that went to it.
        region: The same of a region's stores.
        since_at: From this Unix time on, by head office's clock.
        until_at: Before this one.
    """

    kind: str | None = None
    store: str | None = None
    region: str | None = None
    since_at: float | None = None
    until_at: float | None = None


class Found(NamedTuple):
    """The best hits, and how many there are in all, before directives are asked where they went."""

    rows: list[dict[str, Any]]
    hits: int


def search(
    connection: sqlite3.Connection,
    query: Query,
    filters: Filters,
    *,
    now_at: float,
    most: int,
    columns: int = 80,
) -> Found:
    """Look for something in what is indexed, best first: by how well it fits, and how new it is.

    Args:
        connection: Of a read transaction.
        query: As `words.parse` read it.
        filters: Among what.
        now_at: Unix time.
        most: At most so many.
        columns: How wide the excerpts are.

    Raises:
        HqError: The index contradicts itself; the hint says how it is made anew.
    """
    where, values = _where(filters)
    values |= {"match": query.match, "now": now_at}
    lazily = filters.store is not None or filters.region is not None
    try:
        hits = _number(connection, _COUNT.format(where=where), values)
        bound = _number(connection, _BOUND, values) if hits > RANKED_MOST else 0
        values |= {"bound": bound, "most": -1 if lazily else most}
        rows = []
        for hit in connection.execute(RANKED.format(where=where), values):
            row = _row(connection, hit, query, columns)
            if row is not None and (not lazily or _is_for(connection, hit, row, filters)):
                rows.append(row)
            if len(rows) >= most:
                break
    except sqlite3.DatabaseError as error:
        if not is_index_damage(error):
            raise
        raise HqError(
            "the index of the search is damaged; the history itself is not",
            hint="hq search --rebuild",
        ) from error
    return Found(rows, hits)


def _number(connection: sqlite3.Connection, query: str, values: dict[str, Any]) -> int:
    row = connection.execute(query, values).fetchone()
    return 0 if row is None else int(row[0])


def _where(filters: Filters) -> tuple[str, dict[str, Any]]:
    where, values = "", dict[str, Any]()
    if filters.kind is not None:
        where += f" AND searched.source IN ({', '.join(str(int(s)) for s in KINDS[filters.kind])})"
    for name, comparison in (("since_at", ">="), ("until_at", "<")):
        if (value := getattr(filters, name)) is not None:
            where += f" AND searched.at {comparison} :{name}"
            values[name] = value
    places = []
    for name, column in (("store", "id"), ("region", "region")):
        if (value := getattr(filters, name)) is not None:
            places.append(f"store.{column} = :{name}")
            values[name] = value
    if places:
        where += _OF_DEVICES.format(where=" AND ".join(places))
    return where, values


def _row(
    connection: sqlite3.Connection, hit: Sequence[Any], query: Query, columns: int
) -> dict[str, Any] | None:
    """A hit as it is shown; None where what it leads to is not there any more."""
    _, code, source_no, at, left_no, device_no = hit
    source = Source(code)
    if left_no is not None:
        found = _row_of_left(connection, source, left_no, device_no)
    else:
        read = _hq_row if source in HQ_SOURCES else _store_row
        found = read(connection, source, source_no)
    if found is None:
        return None
    text = found.pop("text")
    part = excerpt(text, query.terms, columns=columns)
    return {
        "kind": KIND_OF[source],
        "at": at or None,
        **found,
        "excerpt": part.text,
        "marks": [list(mark) for mark in part.marks],
    }


def _row_of_left(
    connection: sqlite3.Connection, source: Source, directive_no: int, device_no: int | None
) -> dict[str, Any] | None:
    """What has left for an archive with its directive: the words are here, the text is not."""
    left = archived.stub(connection, directive_no)
    if left is None:  # a store that had it proved that it is not over
        return None
    directive_id, title = connection.execute(
        "SELECT id, title FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    store = connection.execute(
        "SELECT store.id, store.name, region FROM device JOIN store ON store.no = store_no"
        " WHERE device.no = ?",
        (device_no,),
    ).fetchone() or (None, None, None)
    return {
        **_about(directive_id, title),
        "what": "cannot" if source is Source.CANNOT else "",
        "by": "",
        **dict(zip(("store", "store_name", "region"), store, strict=True)),
        "role": None,
        "text": f"archived in {PurePath(left.file).name}",
    }


def _hq_row(
    connection: sqlite3.Connection, source: Source, source_no: int
) -> dict[str, Any] | None:
    """What head office said or decided."""
    title: str | None
    if source in _HQ_SAID:
        row = connection.execute(_HQ_SAID[source], (source_no,)).fetchone()
        if row is None:
            return None
        directive_id, title, what, by, text = row
        if source is Source.DIRECTIVE:
            body = plain(loaded(text).get("body"))
            text = f"{title}: {body}" if body else title
    else:
        row = connection.execute(_DECIDED, (source_no,)).fetchone()
        if row is None:
            return None
        text, by, _ = decided(source, row[0])
        what = "cancel" if source is Source.WITHDRAWAL else "remind"
        directive_id = plain(loaded(row[0]).get("directive"))
        (title,) = connection.execute(_TITLE, (directive_id,)).fetchone() or (None,)
    return {
        **_about(directive_id, title),
        "what": what,
        "by": by,
        "store": None,
        "store_name": None,
        "region": None,
        "role": None,
        "text": text,
    }


def _store_row(
    connection: sqlite3.Connection, source: Source, source_no: int
) -> dict[str, Any] | None:
    """What a store said."""
    row = connection.execute(SAID, (source_no,)).fetchone()
    if row is None:
        return None
    kind, data, store, store_name, region, directive_id, title, role = row
    said = loaded(data)
    what = {Source.ALERT: "alert", Source.REPLY: ""}.get(source, "state")
    return {
        **_about(directive_id or said.get("directive"), title),
        "what": plain(said.get(what)) if what else "",
        "by": plain(said.get("by")),
        "store": store,
        "store_name": store_name,
        "region": region,
        "role": role or said.get("role"),
        "text": " ".join(filter(None, (plain(said.get("alert")), words_of(kind, said)))),
    }


def _about(directive_id: str | None, title: str | None) -> dict[str, Any]:
    directive_id = directive_id if isinstance(directive_id, str) else None
    return {
        "directive": directive_id,
        "short_id": None if directive_id is None else directive_id[:SHORT_ID],
        "title": title,
    }


def _is_for(
    connection: sqlite3.Connection, hit: Sequence[Any], row: dict[str, Any], filters: Filters
) -> bool:
    """Whether a store or region has to do with it: it said it, or the directive went there."""
    if Source(hit[1]) not in HQ_SOURCES:
        return True
    values = {"id": row["directive"], "store": filters.store, "region": filters.region}
    reaches = _REACHES_REGION if filters.store is None else _REACHES_STORE
    if any(
        connection.execute(reaches.format(table=table), values).fetchone() is not None
        for table in ("delivery", "planned")
    ):
        return True
    no = connection.execute("SELECT no FROM directive WHERE id = ?", (row["directive"],)).fetchone()
    return no is not None and archived.reached(connection, no[0], filters.store, filters.region)
