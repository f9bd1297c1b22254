"""The chain at a glance, read again and again: counts that are only counted where something moved.

Owns which numbers `hq board` shows, and how they are kept up to date cheaply: a directive's
deliveries are counted anew when stores said something of it or its row changed, and each of the
others now and then, because time and the roster move numbers too. Presence is counted anew no
oftener than it is worth. Reading only; the view is a dict with the names that `--json` shows.

Invariants:
- One `refresh` counts for about `budget_seconds`, however much has changed: what there is no room
  for keeps its older numbers and comes first the next time (`behind` says how many those are).
- What is shown of one directive is of one moment.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from buswire.states import State
from hqconsole.ledger import arrival_views, breakdowns, views
from hqconsole.ledger.deliveries import STATE_CODES
from hqconsole.ledger.views import SHORT_ID
from hqconsole.lifecycle import LIVE, DirectiveState
from hqconsole.store_times import StoreTimes

BUDGET_SECONDS = 0.05
INCOMING = 20
_MOST_DIRECTIVES = 500
_MOST_NEW_ARRIVALS = 5_000
_WORTH = 20
"""Counting all that is there may take this part of the time at most: one twentieth."""
_PRESENCE_SECONDS = 2.0
_OTHERS_SECONDS = 1.0
_NAMED = 3
_UNSENT = (DirectiveState.DRAFT, DirectiveState.WAITING, DirectiveState.SCHEDULED)
_UNREAD = (State.PENDING, State.DELIVERED)

PRESENCE = (
    "SELECT region.slug, region.name, count(*), sum(EXISTS (SELECT 1 FROM device"
    " WHERE device.store_no = store.no AND device.online = 1 AND device.state = 'active'))"
    " FROM store JOIN region ON region.slug = store.region"
    " WHERE store.closed_at IS NULL GROUP BY region.slug"
)
_NAMES = (
    *("no", "id", "title", "kind", "needs", "priority", "state", "due", "issued_at"),
    "mailboxes",
)
ZONES = "SELECT DISTINCT timezone FROM store"
# The first condition, word for word, is how SQLite recognizes the partial index.
_UNFINISHED = "state NOT IN ('denied', 'completed', 'superseded', 'cancelled', 'expired')"
LIVE_ROWS = (
    f"SELECT {', '.join(_NAMES)} FROM directive WHERE {_UNFINISHED}"
    f" AND state IN ({', '.join(repr(one.value) for one in sorted(LIVE))}) ORDER BY no DESC LIMIT ?"
)
NEWLY_SAID = (
    f"SELECT no, directive_no FROM arrival WHERE no > ? ORDER BY no LIMIT {_MOST_NEW_ARRIVALS + 1}"
)
BY_STATE = f"SELECT state, count(*) FROM directive WHERE {_UNFINISHED} GROUP BY state"
UNREAD = (
    "SELECT store.id, mailbox.role FROM delivery INDEXED BY delivery_open_of"
    " CROSS JOIN mailbox ON mailbox.no = delivery.mailbox_no"
    " CROSS JOIN store ON store.no = mailbox.store_no"
    " WHERE delivery.directive_no = ? AND delivery.open = 1"
    f" AND delivery.state <= {STATE_CODES[State.DELIVERED]} LIMIT {_NAMED}"
)
UNSEEN = (
    "SELECT escalation.at, directive.id, directive.title, escalation.region, escalation.mailboxes"
    " FROM escalation INDEXED BY escalation_unseen"
    " JOIN directive ON directive.no = escalation.directive_no"
    f" WHERE escalation.seen_at IS NULL ORDER BY escalation.no DESC LIMIT {_NAMED}"
)


@dataclass
class _Counted:
    """One live directive, as it was counted last."""

    row: tuple[Any, ...]
    counts: dict[str, Any] = field(default_factory=dict)
    counted_at: float = float("-inf")
    dirty: bool = True


class Board:
    """Keeps the numbers; one ledger, one board."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Begin with nothing counted.

        Args:
            monotonic: A clock for what counting costs.
        """
        self._monotonic = monotonic
        self._directives: dict[int, _Counted] = {}
        self._last_arrival: int | None = None
        self._regions: list[dict[str, Any]] = []
        self._zones: list[str] = []
        self._presence_due_at = float("-inf")
        self._others_due_at = float("-inf")
        self._incoming: list[dict[str, Any]] = []

    @property
    def behind(self) -> int:
        """How many directives have older numbers than the ledger."""
        return sum(one.dirty for one in self._directives.values())

    def refresh(
        self,
        connection: sqlite3.Connection,
        *,
        now_at: float,
        budget_seconds: float = BUDGET_SECONDS,
    ) -> dict[str, Any]:
        """Bring the numbers up to date, as far as the budget goes, and return what to show.

        Args:
            connection: Of a read transaction.
            now_at: Unix time.
            budget_seconds: About so long is counted; infinite for all of it.
        """
        began = self._monotonic()
        self._look_for_changes(connection)
        self._count_presence(connection, began)
        self._count_directives(connection, now_at, began, budget_seconds)
        return self._view(connection, now_at)

    def _look_for_changes(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute(LIVE_ROWS, (_MOST_DIRECTIVES,)).fetchall()
        live = {row[0]: tuple(row) for row in rows}
        for no in self._directives.keys() - live.keys():
            del self._directives[no]
        for no, row in live.items():
            known = self._directives.get(no)
            if known is None:
                self._directives[no] = _Counted(row)
            elif known.row != row:
                known.row, known.dirty = row, True
        if self._last_arrival is None:  # all of it is counted the first time
            row = connection.execute("SELECT max(no) FROM arrival").fetchone()
            self._last_arrival = row[0] or 0
            self._hear(connection)
            return
        said = connection.execute(NEWLY_SAID, (self._last_arrival,)).fetchall()
        if not said:
            return
        if len(said) > _MOST_NEW_ARRIVALS:
            row = connection.execute("SELECT max(no) FROM arrival").fetchone()
            self._last_arrival, moved = row[0], set(self._directives)
        else:
            self._last_arrival, moved = said[-1][0], {no for _, no in said}
        for no in moved & self._directives.keys():
            self._directives[no].dirty = True
        self._hear(connection)

    def _hear(self, connection: sqlite3.Connection) -> None:
        """Read what came in last of what is written for people."""
        told = [
            *arrival_views.replies(connection, None, INCOMING),
            *arrival_views.alerts(connection, None, INCOMING),
        ]
        told.sort(key=lambda one: int(one["position"].partition("-")[0]))
        self._incoming = [_incoming(one) for one in told[-INCOMING:][::-1]]

    def _count_presence(self, connection: sqlite3.Connection, now: float) -> None:
        if now < self._presence_due_at:
            return
        names = ("region", "name", "stores", "there")
        self._regions = [
            dict(zip(names, row, strict=True)) for row in connection.execute(PRESENCE).fetchall()
        ]
        self._zones = [zone for (zone,) in connection.execute(ZONES)]
        took = self._monotonic() - now
        self._presence_due_at = now + max(_PRESENCE_SECONDS, took * _WORTH)

    def _count_directives(
        self, connection: sqlite3.Connection, now_at: float, began: float, budget_seconds: float
    ) -> None:
        waiting = [no for no, one in self._directives.items() if one.dirty]
        waiting.sort(key=lambda no: self._directives[no].counted_at)
        for no in waiting:
            self._count(connection, no, now_at)
            if self._monotonic() - began > budget_seconds:
                return
        others = [no for no in self._directives if no not in waiting]
        if others and began >= self._others_due_at:
            oldest = min(others, key=lambda no: self._directives[no].counted_at)
            before = self._monotonic()
            self._count(connection, oldest, now_at)
            took = self._monotonic() - before
            self._others_due_at = began + max(_OTHERS_SECONDS / len(others), took * _WORTH)

    def _count(self, connection: sqlite3.Connection, no: int, now_at: float) -> None:
        one = self._directives[no]
        row = dict(zip(_NAMES, one.row, strict=True))
        counts = views.counts_of(connection, no)
        overdue = self._overdue(connection, no, row["due"], counts["open"], now_at)
        unread = sum(counts["states"][state.value] for state in _UNREAD)
        named: list[str] = []
        if unread and counts["open"]:
            named = [f"{store}/{role}" for store, role in connection.execute(UNREAD, (no,))]
        one.counts = {
            "short_id": row["id"][:SHORT_ID],
            **{name: row[name] for name in _NAMES if name != "no"},
            **{name: counts[name] for name in ("states", "planned", "met", "open", "late")},
            "overdue": overdue,
            "cannot": counts["states"][State.CANNOT.value],
            "unread": unread if named else 0,
            "unread_by": named,
        }
        one.counted_at, one.dirty = self._monotonic(), False

    def _overdue(
        self,
        connection: sqlite3.Connection,
        no: int,
        due: str | None,
        still_open: int,
        now_at: float,
    ) -> int:
        times = StoreTimes(due)
        span = times.span(self._zones)
        if span is None or span[0] > now_at or not still_open:
            return 0
        zones = breakdowns.open_zones(connection, no)
        return sum(count for zone, count in zones.items() if times.is_past(zone, now_at))

    def _view(self, connection: sqlite3.Connection, now_at: float) -> dict[str, Any]:
        shown = [one.counts for one in self._directives.values() if one.counts]
        shown.sort(key=_urgency)
        unread = sorted((one for one in shown if one["unread"]), key=lambda one: one["issued_at"])
        by_state = dict(connection.execute(BY_STATE).fetchall())
        unseen = connection.execute(UNSEEN).fetchall()
        return {
            "at": now_at,
            "stores": sum(one["stores"] for one in self._regions),
            "stores_there": sum(one["there"] for one in self._regions),
            "regions": self._regions,
            "live": sum(by_state.get(state.value, 0) for state in LIVE),
            "unsent": {state.value: by_state.get(state.value, 0) for state in _UNSENT},
            "directives": shown,
            "unread": [
                {
                    **{name: one[name] for name in ("id", "short_id", "title")},
                    "since_at": one["issued_at"],
                    "mailboxes": one["unread"],
                    "by": one["unread_by"],
                }
                for one in unread[:INCOMING]
            ],
            "incoming": self._incoming,
            "escalations": _number(
                connection, "SELECT count(*) FROM escalation WHERE seen_at IS NULL"
            ),
            "unseen": [
                {
                    "at": at,
                    "id": directive_id,
                    "short_id": directive_id[:SHORT_ID],
                    "title": title,
                    "region": region,
                    "mailboxes": mailboxes,
                }
                for at, directive_id, title, region, mailboxes in unseen
            ],
            "incidents": _number(
                connection, "SELECT count(*) FROM incident WHERE acknowledged_at IS NULL"
            ),
            "behind": self.behind,
        }


_PRIORITIES = ("urgent", "high", "normal", "low")


def _urgency(one: dict[str, Any]) -> tuple[Any, ...]:
    """What an operator should look at first: urgent and late work, then the newest."""
    known = one["priority"] in _PRIORITIES
    rank = _PRIORITIES.index(one["priority"]) if known else len(_PRIORITIES)
    return (rank > 0, not one["overdue"], rank, -one["issued_at"])


def _incoming(one: dict[str, Any]) -> dict[str, Any]:
    """A reply or an alert in the words of one line."""
    words = one.get("text") or ""
    if one["kind"] == "alert":
        fields = " ".join(f"{name}={value}" for name, value in one["fields"].items())
        words = " ".join(str(part) for part in (one["alert"], fields, one["note"]) if part)
    return {
        **{name: one[name] for name in ("kind", "received_at", "store", "store_name", "by")},
        "directive": one.get("directive"),
        "text": words,
    }


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
