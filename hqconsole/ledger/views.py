"""What the console reads of directives: how far each is, and what is being asked.

Reading only. A row is a dict with the names that `--json` shows. The numbers are honest: every
delivery of the frozen audience is counted once, in the state that it is in; what is yet to go out
stands beside them, and who was taken in later stands apart. After a restore the audience as it was
frozen stands beside what is known of it, which can be less.

Invariant: nothing here reads all deliveries; one directive's are one range of the primary key.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from buswire.states import CLOSED_BY_HQ, Needs, State, is_open
from buswire.unreadable import is_readable
from hqconsole.ledger import archived
from hqconsole.ledger.deliveries import STATE_OF
from hqconsole.lifecycle import UNFINISHED, DirectiveState

_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()

SHORT_ID = 8
"""How many characters of a directive's id are shown to people."""

_OWN = (
    *("no", "id", "title", "kind", "needs", "priority", "due", "forced_from", "expires_at"),
    *("issued_at", "issued_by", "state", "closed_at", "mailboxes", "digest", "adopted_at"),
)
_OF_PLAN = ("author", "written_at", "starts", "paused_why", "continuous")
_LINKS = ("supersedes", "superseded_by", "undoes")
_NAMES = (*_OWN, *_OF_PLAN, *_LINKS)
DIRECTIVES = (
    f"SELECT {', '.join(f'directive.{name}' for name in _OWN)}, {', '.join(_OF_PLAN)}, "
    + ", ".join(
        f"(SELECT id FROM directive AS other WHERE other.no = directive.{name}_no)"
        for name in _LINKS
    )
    + " FROM directive LEFT JOIN plan ON plan.directive_no = directive.no"
)
LATEST = f"{DIRECTIVES} ORDER BY directive.no DESC LIMIT ?"
# The second condition, word for word, is how SQLite recognizes the partial index.
_IN_STATES = "directive.state IN ({})"
_INDEXED = "directive.state NOT IN ('denied', 'completed', 'superseded', 'cancelled', 'expired')"
COUNTS = (
    "SELECT state, joined_at IS NOT NULL, count(*), total(open), total(late & 1),"
    " total(late >> 1), max(changed_at) FROM delivery WHERE directive_no = ? GROUP BY 1, 2"
)
PLANNED_COUNT = "SELECT count(*) FROM planned WHERE directive_no = ?"


def latest_directives(
    connection: sqlite3.Connection, most: int, states: Collection[DirectiveState] = ()
) -> list[dict[str, Any]]:
    """The latest directives with their counts, the newest first.

    Args:
        connection: Of the ledger.
        most: So many of them.
        states: Only those that stand so; none means all.
    """
    query = in_states(states) if states else LATEST
    return [
        {**_directive(row), **_counts(connection, row), "archived": _left(connection, row)}
        for row in connection.execute(query, (most,)).fetchall()
    ]


def in_states(states: Collection[DirectiveState]) -> str:
    """The query for the latest directives that stand so."""
    where = _IN_STATES.format(", ".join(f"'{state.value}'" for state in sorted(states)))
    if UNFINISHED.issuperset(states):
        where = f"{_INDEXED} AND {where}"
    return f"{DIRECTIVES} WHERE {where} ORDER BY directive.no DESC LIMIT ?"


def directive_count(connection: sqlite3.Connection, states: Collection[DirectiveState] = ()) -> int:
    """How many directives there are, or stand so."""
    where = _IN_STATES.format(", ".join(f"'{one.value}'" for one in states)) if states else "1"
    row = connection.execute(f"SELECT count(*) FROM directive WHERE {where}").fetchone()
    return int(row[0])


def one_directive(connection: sqlite3.Connection, directive_no: int) -> dict[str, Any]:
    """One directive with its counts, its text and why it was withdrawn."""
    row = connection.execute(f"{DIRECTIVES} WHERE directive.no = ?", (directive_no,)).fetchone()
    document = document_of(connection, directive_no)
    cancel = connection.execute(
        "SELECT doc.data FROM cancel JOIN doc ON doc.no = doc_no WHERE directive_id = ?",
        (row[1],),
    ).fetchone()
    withdrawn = loaded(cancel[0]) if cancel else {}
    return {
        **_directive(row),
        **_counts(connection, row),
        "archived": _left(connection, row),
        "body": document.get("body", ""),
        "channels": (document.get("audience") or {}).get("channels", []),
        "cancel_reason": withdrawn.get("reason", ""),
        "cancelled_by": withdrawn.get("cancelled_by", ""),
    }


def document_of(connection: sqlite3.Connection, directive_no: int) -> dict[str, Any]:
    """What a directive says, as the stores have it or will."""
    row = connection.execute(
        "SELECT data FROM doc WHERE no = (SELECT doc_no FROM directive WHERE no = ?)",
        (directive_no,),
    ).fetchone()
    return loaded(row[0])


def directive_id(connection: sqlite3.Connection, directive_no: int) -> str:
    """The whole id of a directive that is there."""
    row = connection.execute("SELECT id FROM directive WHERE no = ?", (directive_no,)).fetchone()
    return str(row[0])


def counts_of(connection: sqlite3.Connection, directive_no: int) -> dict[str, Any]:
    """The counts of one directive alone, for those who look again and again."""
    row = connection.execute(f"{DIRECTIVES} WHERE directive.no = ?", (directive_no,)).fetchone()
    return {"state": row[_STATE], **_counts(connection, row)}


_NEEDS, _STATE = _NAMES.index("needs"), _NAMES.index("state")


def _directive(row: Sequence[Any]) -> dict[str, Any]:
    found = dict(zip(_NAMES, row, strict=True))
    found.pop("no")
    found["issued_at"] = found["issued_at"] or None  # 0 as long as it was not sent
    found["continuous"] = bool(found["continuous"])
    for name in ("author", "paused_why"):
        found[name] = found[name] or ""
    return {"short_id": found["id"][:SHORT_ID], **found}


def _left(connection: sqlite3.Connection, directive: Sequence[Any]) -> dict[str, Any] | None:
    """Where the deliveries and answers of a directive are that has left the ledger, since when."""
    found = archived.stub(connection, directive[0])
    return None if found is None else {"at": found.archived_at, "file": found.file}


def _counts(connection: sqlite3.Connection, directive: Sequence[Any]) -> dict[str, Any]:
    left = archived.stub(connection, directive[0])
    if left is not None:
        return left.counts
    tally, joined = Tally(Needs(directive[_NEEDS])), Tally(Needs(directive[_NEEDS]))
    changed_at: float | None = None
    for code, is_joined, *counts, latest_at in connection.execute(COUNTS, (directive[0],)):
        (joined if is_joined else tally).add(code, *map(int, counts))
        changed_at = max(filter(None, (changed_at, latest_at)), default=None)
    (tally.planned,) = connection.execute(PLANNED_COUNT, (directive[0],)).fetchone()
    state = DirectiveState(directive[_STATE])
    waits = state is not DirectiveState.ISSUED or tally.open or joined.open
    return {
        **tally.as_row(),
        "joined": {"mailboxes": joined.known, "met": joined.met, "open": joined.open},
        "complete": not (state in UNFINISHED and waits),
        "changed_at": changed_at,
    }


class Tally:
    """Deliveries of one directive, or of a part of it, counted by their states.

    Attributes:
        open: For how many HQ waits.
        planned: How many are yet to go out.
        late: How many were done in time and heard after HQ closed them.
        done_late: How many were done after they were due.
    """

    def __init__(self, needs: Needs) -> None:
        """Begin with none."""
        self._needs = needs
        self._states = dict.fromkeys(STATE_OF, 0)
        self.open = self.planned = self.late = self.done_late = 0

    def add(self, code: int, count: int, is_open: int, late: int, done_late: int) -> None:
        """Count deliveries in the state of this code; the other numbers say how many of them."""
        self._states[STATE_OF[code]] += count
        self.open += is_open
        self.late += late
        self.done_late += done_late

    @property
    def known(self) -> int:
        """How many there are."""
        return sum(self._states.values()) + self.planned

    @property
    def met(self) -> int:
        """How many did as asked."""
        return sum(count for state, count in self._states.items() if meets(state, self._needs))

    def as_row(self) -> dict[str, Any]:
        """The counts with the names that `--json` shows."""
        return {
            "states": {state.value: count for state, count in self._states.items()},
            "planned": self.planned,
            "known": self.known,
            "met": self.met,
            "open": self.open,
            "late": self.late,
            "done_late": self.done_late,
        }


def meets(state: State, needs: Needs) -> bool:
    """Whether a delivery in this state did as asked."""
    return state not in CLOSED_BY_HQ and state is not State.CANNOT and not is_open(state, needs)


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
    """The JSON object that a record says; an empty one where it says none.

    What is no text (`unreadable`) says none either: whoever prints it, or searches it, would fail.
    """
    raw = bytes(data or b"{}")
    try:
        value = _decoder.decode(raw)  # a long list is some ten thousand of them
    except (msgspec.DecodeError, ValueError, RecursionError):
        value = _loaded_leniently(raw)
    return value if isinstance(value, dict) else {}


def _loaded_leniently(raw: bytes) -> Any:
    """The same for what only another reader takes, such as a number of any size; None for none."""
    try:
        return json.loads(raw) if is_readable(raw) else None
    except (ValueError, RecursionError):
        return None


def in_batches(
    connection: sqlite3.Connection, query: str, after_no: int, batch_rows: int = 500
) -> Iterator[Sequence[Any]]:
    """Rows of a query with `no > ? ... LIMIT ?` whose first column is `no`, in their order.

    No statement stays open between batches, so the write-ahead log can be emptied meanwhile.
    """
    while rows := connection.execute(query, (after_no, batch_rows)).fetchall():
        yield from rows
        after_no = rows[-1][0]
