"""What the console reads of what stores said: the stream, replies, alerts, reports.

Owns the *position* in the stream, `<number>-<beginning of the entry's id>`: whoever keeps the last
one can go on behind it without loss, and is told when the ledger is not the one it came from.
Reading only; a row is a dict with the names that `--json` shows.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hqconsole.errors import HqError
from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.views import SHORT_ID, in_batches, loaded

START = "start"

_ID = 8
_POSITION = re.compile(rf"(\d{{1,18}})-([0-9a-f]{{{_ID}}})", re.ASCII)
_COLUMNS = (
    "SELECT arrival.no, arrival.id, arrival.kind, arrival.said_at, arrival.received_at,"
    f" {DATA}, arrival.outcome, store.id, store.name, device.name, directive.id,"
    " directive.title, mailbox.role FROM arrival"
    " CROSS JOIN device ON device.no = arrival.device_no"
    " CROSS JOIN store ON store.no = device.store_no"
    " LEFT JOIN directive ON directive.no = arrival.directive_no"
    " LEFT JOIN mailbox ON mailbox.no = arrival.mailbox_no"
)
_USABLE = "arrival.outcome IS NOT 'aside'"
STREAM = f"{_COLUMNS} WHERE arrival.no > ? ORDER BY arrival.no LIMIT ?"
# The first condition, word for word, is how SQLite recognizes the partial index.
TOLD = {
    kind: f"{_COLUMNS} WHERE arrival.kind IN ('reply', 'alert')"
    f" AND arrival.kind = '{kind}' AND {_USABLE} ORDER BY arrival.no DESC"
    for kind in ("reply", "alert")
}
REPLIES_OF = (
    f"{_COLUMNS} WHERE arrival.directive_no = ? AND arrival.kind = 'reply' ORDER BY arrival.no DESC"
)


class PositionError(HqError):
    """A position that is none, or one of another ledger."""

    exit_code = 2


class Position(NamedTuple):
    """A place in the stream: behind the entry with this number, whose id begins so."""

    no: int
    id_start: str

    def __str__(self) -> str:
        return f"{self.no}-{self.id_start}" if self.no else START


def parse_position(text: str) -> Position:
    """Read what `str` wrote.

    Raises:
        PositionError: It is no position.
    """
    if text == START:
        return Position(0, "")
    match = _POSITION.fullmatch(text)
    if match is None:
        raise PositionError(
            f"{text[:60]!r} is no position",
            hint=f"give the position of a line of hq tail --json, or {START}",
        )
    return Position(int(match[1]), match[2])


def check_position(connection: sqlite3.Connection, position: Position) -> None:
    """Refuse a position behind which this ledger could not go on without a gap.

    Raises:
        PositionError: The ledger has no such entry: it was put back from an older copy.
    """
    if position.no == 0:
        return
    row = connection.execute("SELECT id FROM arrival WHERE no = ?", (position.no,)).fetchone()
    if row is None or bytes(row[0]).hex()[:_ID] != position.id_start:
        raise PositionError(
            f"position {position} does not fit this ledger, which was put back from an older copy"
            " or is another one",
            hint=f"go through it again with --from {START}, and drop what you have by its id",
        )


def position_before_last(connection: sqlite3.Connection, entries: int) -> Position:
    """The position behind which the latest `entries` come."""
    row = connection.execute(
        "SELECT no, id FROM arrival ORDER BY no DESC LIMIT 1 OFFSET ?", (entries,)
    ).fetchone()
    return Position(0, "") if row is None else Position(row[0], bytes(row[1]).hex()[:_ID])


def stream(connection: sqlite3.Connection, after: Position) -> Iterator[dict[str, Any]]:
    """What arrived behind a position, in the order in which it was saved."""
    for row in in_batches(connection, STREAM, after.no):
        yield entry(row)


def replies(
    connection: sqlite3.Connection, directive_no: int | None, most: int
) -> list[dict[str, Any]]:
    """The latest replies, of one directive or of all, the oldest first."""
    if directive_no is None:
        rows = connection.execute(f"{TOLD['reply']} LIMIT ?", (most,))
    else:
        rows = connection.execute(f"{REPLIES_OF} LIMIT ?", (directive_no, most))
    found = []
    for row in rows.fetchall():
        one = entry(row)
        said = one.pop("data")
        one["directive"] = one["directive"] or said.get("directive")
        one["role"] = one["role"] or said.get("role")
        found.append({**one, "by": said.get("by", ""), "text": said.get("text", "")})
    return found[::-1]


def alerts(connection: sqlite3.Connection, kind: str | None, most: int) -> list[dict[str, Any]]:
    """The latest alerts, of one kind or of all, the oldest first."""
    found: list[dict[str, Any]] = []
    for row in connection.execute(TOLD["alert"]):
        one = entry(row)
        said = one.pop("data")
        if kind is not None and said.get("alert") != kind:
            continue
        for name in ("directive", "title", "role"):
            del one[name]
        fields = said.get("fields", {})
        found.append(
            {
                **one,
                "alert": said.get("alert", ""),
                "fields": fields if isinstance(fields, dict) else {},
                "note": said.get("note", ""),
                "by": said.get("by", ""),
            }
        )
        if len(found) >= most:
            break
    return found[::-1]


def entry(row: Sequence[Any]) -> dict[str, Any]:
    """One entry of the stream, with its position."""
    entry_id = bytes(row[1]).hex()
    return {
        "position": str(Position(row[0], entry_id[:_ID])),
        "id": entry_id,
        "kind": row[2],
        "said_at": row[3],
        "received_at": row[4],
        "outcome": row[6],
        "store": row[7],
        "store_name": row[8],
        "device": row[9],
        "directive": row[10],
        "title": row[11],
        "role": row[12],
        "data": loaded(row[5]),
    }


def short(directive_id: str | None) -> str:
    """A directive's id as people see it."""
    return (directive_id or "")[:SHORT_ID]


def reports(connection: sqlite3.Connection, most: int) -> list[dict[str, Any]]:
    """The latest reports, the oldest first."""
    rows = connection.execute(
        "SELECT report.no, report.name, store.id, store.name, device.name, report.key, parts,"
        " parts_here, rows, first_at, complete_at FROM report"
        " JOIN device ON device.no = report.device_no JOIN store ON store.no = device.store_no"
        " ORDER BY report.no DESC LIMIT ?",
        (most,),
    ).fetchall()
    names = (
        *("no", "name", "store", "store_name", "device", "key"),
        *("parts", "parts_here", "rows", "first_at", "complete_at"),
    )
    return [
        {**dict(zip(names, row, strict=True)), "complete": row[10] is not None}
        for row in reversed(rows)
    ]


class ReportRows:
    """The rows of one report, in order, part by part."""

    def __init__(self, connection: sqlite3.Connection, report_no: int) -> None:
        """Find the report.

        Raises:
            HqError: There is none of that number.
        """
        found = connection.execute(
            "SELECT name, parts, parts_here FROM report WHERE no = ?", (report_no,)
        ).fetchone()
        if found is None:
            raise HqError(f"there is no report {report_no}", hint="hq reports lists them")
        self.name, self.parts, self.parts_here = found
        self._connection = connection
        self._no = report_no

    @property
    def complete(self) -> bool:
        """Whether all parts are here."""
        return bool(self.parts_here >= self.parts)

    def columns(self) -> list[str]:
        """The names of the columns, as the first part that is here has them."""
        for part in self._parts():
            return [str(name) for name in part.get("columns", [])]
        return []

    def __iter__(self) -> Iterator[list[Any]]:
        """The rows."""
        for part in self._parts():
            yield from part.get("rows", [])

    def _parts(self) -> Iterator[dict[str, Any]]:
        query = (
            f"SELECT part, {DATA} FROM report_part"
            " CROSS JOIN arrival ON arrival.no = arrival_no"
            f" WHERE report_no = {int(self._no)} AND part > ? ORDER BY part LIMIT ?"
        )
        for _, data in in_batches(self._connection, query, 0, batch_rows=20):
            yield loaded(data)
