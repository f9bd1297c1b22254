"""Keeps the full-text index: what of the history has words, and which.

Owns the index and the tables that it stands in (`searched`, `search_words`). It is derived:
whatever happens to it, `forget` and `catch_up` make it anew from directives, steps, withdrawals and
arrivals, so nothing in it is evidence of anything. It holds words and where they came from, and no
texts. How words are split is `hqconsole.words`; looking for them is `search`.

Invariants:
- What is new is found by the numbers up to which all was looked at (`meta`), and what was not sent
  when it was indexed is compared again, since its text can still change.
- One piece of catching up is bounded in rows and bytes, and all of it or nothing is there.
- An index that contradicts itself is forgotten and begun anew, and never stops anybody's work.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final

from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.views import loaded
from hqconsole.words import for_index

PIECE_ROWS = 1000
"""A good size for one piece of `catch_up`: some 50 ms."""

_PIECE_CHARACTERS = 2_000_000
_BATCH = 200


class Source(IntEnum):
    """What a row of the index is about, as `searched.source` has it; only ever added to."""

    DIRECTIVE = 1
    STEP = 2
    WITHDRAWAL = 3
    REMINDER = 4
    REPLY = 5
    ALERT = 6
    NOTE = 7
    CANNOT = 8


KINDS: Final[dict[str, tuple[Source, ...]]] = {
    "directive": (Source.DIRECTIVE,),
    "decision": (Source.STEP, Source.WITHDRAWAL, Source.REMINDER),
    "reply": (Source.REPLY,),
    "alert": (Source.ALERT,),
    "note": (Source.NOTE,),
    "cannot": (Source.CANNOT,),
}
"""What people can look among; a decision is what head office did with a directive, and why."""
KIND_OF = {source: kind for kind, sources in KINDS.items() for source in sources}
HQ_SOURCES = (*KINDS["directive"], *KINDS["decision"])

_MARK = "SELECT coalesce(max(value), 0) FROM meta WHERE key = 'searched_' || ?"
NEW_ARRIVALS = (
    f"SELECT arrival.no, arrival.kind, arrival.received_at, {DATA} FROM arrival"
    " WHERE arrival.no > ? ORDER BY arrival.no LIMIT ?"
)
NEW_STEPS = (
    "SELECT no, at, note, by FROM directive_step WHERE no > ? AND note <> '' ORDER BY no LIMIT ?"
)
NEW_DECISIONS = (
    "SELECT no, kind, data FROM doc WHERE kind IN ('cancel', 'remind') AND no > ?"
    " ORDER BY no LIMIT ?"
)
_DIRECTIVE = (
    "SELECT directive.no, directive.issued_at, directive.title, doc.data, doc.sum,"
    " plan.written_at FROM directive JOIN doc ON doc.no = directive.doc_no"
    " LEFT JOIN plan ON plan.directive_no = directive.no"
)
NEW_DIRECTIVES = f"{_DIRECTIVE} WHERE directive.no > ? ORDER BY directive.no LIMIT ?"
# What was not sent when it was indexed, and has another text now, or has gone out.
CHANGED = (
    "SELECT searched.no, searched.source_no FROM searched"
    " CROSS JOIN directive ON directive.no = searched.source_no"
    " CROSS JOIN doc ON doc.no = directive.doc_no"
    " WHERE searched.unsent = 1 AND (directive.issued_at > 0 OR doc.sum <> searched.version)"
    " LIMIT ?"
)
_LATEST = {
    "arrival": "SELECT max(no) FROM arrival",
    "step": "SELECT max(no) FROM directive_step",
    "decision": "SELECT max(no) FROM doc WHERE kind IN ('cancel', 'remind')",
    "directive": "SELECT max(no) FROM directive",
}


def behind(connection: sqlite3.Connection) -> int:
    """About how many rows were not looked at yet; 0 when there is nothing to do. Cheap."""
    rows = sum(max(0, _latest(connection, name) - _mark(connection, name)) for name in _LATEST)
    return rows or len(connection.execute(CHANGED, (1,)).fetchall())


def catch_up(connection: sqlite3.Connection, most: int = PIECE_ROWS) -> int:
    """Index a piece of what is new.

    Whoever is idle calls it, in a write transaction of its own, until it returns 0.

    Args:
        connection: With a write transaction open.
        most: About so many rows are looked at.

    Returns:
        How many rows were looked at; 0 when nothing is left.
    """
    connection.execute("SAVEPOINT searching")
    try:
        looked = _Piece(connection, most).index()
        # Here at the latest the index is written, and whatever it is contradicted by shows.
        connection.execute("RELEASE searching")
    except sqlite3.DatabaseError as error:
        if not is_index_damage(error):
            raise
        with suppress(sqlite3.OperationalError):  # a release that fails has ended it all the same
            connection.execute("ROLLBACK TO searching")
            connection.execute("RELEASE searching")
        forget(connection)
        return 1
    return looked


def forget(connection: sqlite3.Connection) -> None:
    """Empty the index; `catch_up` makes it anew.

    Args:
        connection: With a write transaction open.
    """
    connection.execute("INSERT INTO search_words (search_words) VALUES ('delete-all')")
    connection.execute("DELETE FROM searched")
    connection.execute("DELETE FROM meta WHERE key GLOB 'searched_*'")


def is_index_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether it is the index alone that contradicts itself."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code == sqlite3.SQLITE_CORRUPT_VTAB or code & 0xFF == sqlite3.SQLITE_CONSTRAINT


def _mark(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(_MARK, (name,)).fetchone()[0])


def _latest(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(_LATEST[name]).fetchone()[0] or 0)


class _Piece:
    """One piece of catching up, in the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection, most: int) -> None:
        self._connection = connection
        self._rows_left = most
        self._characters_left = _PIECE_CHARACTERS

    @property
    def _full(self) -> bool:
        return self._rows_left <= 0 or self._characters_left <= 0

    def index(self) -> int:
        """Index what there is room for. Returns how many rows were looked at."""
        before = self._rows_left
        # What head office said comes last: of many hits the highest numbers are ranked.
        self._walk("arrival", NEW_ARRIVALS, self._put_arrival)
        self._walk("step", NEW_STEPS, self._put_step)
        self._walk("decision", NEW_DECISIONS, self._put_decision)
        self._walk("directive", NEW_DIRECTIVES, self._put_directive)
        self._put_changed()
        return before - self._rows_left

    def _walk(self, name: str, query: str, put: Callable[[Sequence[Any]], None]) -> None:
        """Put what is behind a mark, and move the mark."""
        last = mark = _mark(self._connection, name)
        while not self._full:
            batch = min(_BATCH, self._rows_left)
            rows = self._connection.execute(query, (last, batch)).fetchall()
            for row in rows:
                put(row)
                last = row[0]
                self._rows_left -= 1
                if self._full:
                    break
            else:
                if len(rows) < batch:
                    # Rows that have nothing for the index need not be looked at again.
                    last = max(last, _latest(self._connection, name))
                    break
        if last != mark:
            self._connection.execute(
                "INSERT INTO meta (key, value) VALUES ('searched_' || ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (name, last),
            )

    def _put(self, source: Source, source_no: int, *, at: float, title: str, text: str) -> int:
        self._characters_left -= len(title) + len(text) + 20
        no = self._connection.execute(
            "INSERT INTO searched (source, source_no, at) VALUES (?, ?, ?)",
            (source, source_no, at),
        ).lastrowid
        self._connection.execute(
            "INSERT INTO search_words (rowid, title, text) VALUES (?, ?, ?)",
            (no, for_index(title), for_index(text)),
        )
        return int(no or 0)

    def _put_arrival(self, row: Sequence[Any]) -> None:
        no, kind, received_at, data = row
        if found := _told(kind, data):
            source, title, text = found
            self._put(source, no, at=received_at, title=title, text=text)

    def _put_step(self, row: Sequence[Any]) -> None:
        no, at, note, by = row
        self._put(Source.STEP, no, at=at, title="", text=f"{note} {by}")

    def _put_decision(self, row: Sequence[Any]) -> None:
        no, kind, data = row
        source = Source.WITHDRAWAL if kind == "cancel" else Source.REMINDER
        text, by, at = decided(source, data)
        said_by_a_step = self._connection.execute(
            "SELECT 1 FROM directive_step WHERE note = ? AND directive_no ="
            " (SELECT no FROM directive WHERE id = ?)",
            (text, plain(loaded(data).get("directive"))),
        ).fetchone()
        if text and not said_by_a_step:
            self._put(source, no, at=at, title="", text=f"{text} {by}")

    def _put_directive(self, row: Sequence[Any]) -> None:
        no, issued_at, title, data, version, written_at = row
        said = loaded(data)
        text = " ".join(plain(said.get(name)) for name in ("body", "kind", "issued_by"))
        at = issued_at or written_at or 0.0
        searched_no = self._put(Source.DIRECTIVE, no, at=at, title=title, text=text)
        self._connection.execute(
            "UPDATE searched SET version = ?, unsent = ? WHERE no = ?",
            (version, int(not issued_at), searched_no),
        )

    def _put_changed(self) -> None:
        if self._full:
            return
        for no, directive_no in self._connection.execute(CHANGED, (self._rows_left,)).fetchall():
            query = f"{_DIRECTIVE} WHERE directive.no = ?"
            self._put_directive(self._connection.execute(query, (directive_no,)).fetchone())
            # Its old words stay in the index, and lead to nothing any more. Only then: SQLite would
            # give the highest number away again, and the new words would join the old ones.
            self._connection.execute("DELETE FROM searched WHERE no = ?", (no,))
            self._rows_left -= 1


def _told(kind: str, data: Any) -> tuple[Source, str, str] | None:
    """What a device said in words: source, title and text; None where there is nothing to read."""
    # Most receipts are none of a person's words, and there are hundreds of thousands.
    if kind == "receipt" and not any(
        name in bytes(data or b"") for name in (b'"reason"', b'"note"', b'"code"')
    ):
        return None
    if kind not in {"reply", "alert", "receipt"}:
        return None
    said = loaded(data)
    title, text = "", words_of(kind, said)
    if kind == "alert":
        title = plain(said.get("alert"))
    if not (title or text):
        return None
    source = {"reply": Source.REPLY, "alert": Source.ALERT}.get(kind)
    if source is None:
        source = Source.CANNOT if said.get("state") == "cannot" else Source.NOTE
    return source, title, f"{text} {plain(said.get('by'))}"


def words_of(kind: str, said: dict[str, Any]) -> str:
    """What a person reads in it, on one line."""
    if kind == "reply":
        return plain(said.get("text"))
    if kind == "alert":
        fields = said.get("fields")
        pairs = fields.items() if isinstance(fields, dict) else ()
        return " ".join(
            [*(f"{name}={plain(value)}" for name, value in pairs), plain(said.get("note"))]
        )
    parts = (plain(said.get(name)) for name in ("code", "reason", "note"))
    return " ".join(filter(None, parts))


def decided(source: Source, data: Any) -> tuple[str, str, float]:
    """Why head office withdrew or reminded, who did, and when."""
    said = loaded(data)
    names = (
        ("reason", "cancelled_by", "cancelled_at")
        if source is Source.WITHDRAWAL
        else ("text", "reminded_by", "reminded_at")
    )
    text, by, at = (said.get(name) for name in names)
    return plain(text), plain(by), float(at) if isinstance(at, int | float) else 0.0


def plain(value: Any) -> str:
    """A value of a record as text; what a device says may be of any form."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
