"""The inbox: a device's work, in SQL.

Owns the rows of directives, deliveries, their events and the hook's failures; what else is held of
HQ's words is `inbox_held`. Must not know the rules by which HQ's words and the staff's move a
delivery; those are `effects` and `statements`.

Invariants:
- `open` and `todo` of a row are those of its `Delivery`, whenever it is saved.
- What the disk has changed is not given out: what the tables with sums give is held against them.
- A number that people type belongs to one delivery as long as the delivery is kept.
- `arrival` rises with every arrival and every reopening and is never given twice, so that a reader
  who remembers one number misses nothing.

Every method that changes something must run inside `Database.write()`.
"""

import json
from collections.abc import Sequence
from typing import Any

from buskit.row_sums import row_sum
from buswire.messages import Directive, Work
from buswire.states import Needs, State
from storeagent.database import require_sum
from storeagent.delivery import (
    Delivery,
    Event,
    HookFailure,
    Item,
    Terms,
    terms_of,
)
from storeagent.inbox_held import HeldWords

SHORT_NUMBERS = 999
"""Numbers for people begin again behind this one, where that is free."""


_COLUMNS = (
    "delivery.directive, delivery.role, number, arrival, needs, state, said, closed_by_hq, open,"
    " todo, unsure, asked, receipt_position, original_position, received_at, changed_at,"
    " changed_by, reason, day, code, remind_at, reminded_at, reminder, reminded_by, steps, insisted"
)
_DIRECTIVE = (
    "directive.id, title, directive.kind, priority, due, issued_at, issued_by, directive.data,"
    " directive.seal"
)
_ITEM = (
    f"SELECT {_COLUMNS}, delivery.sum, {_DIRECTIVE}, directive.sum"
    " FROM delivery JOIN directive ON directive.id = delivery.directive"
)
_DELIVERY = f"SELECT {_COLUMNS}, sum FROM delivery"
_DAY = 18
"""Which of a delivery's columns is its day."""
_COUNT = _COLUMNS.count(",") + 1
_SET = ", ".join(f"{name.strip()} = ?" for name in _COLUMNS.split(",")[2:])
_MARKS = ", ".join("?" * (_COUNT + 1))


class Inbox(HeldWords):
    """The deliveries of one open database, and what else it holds of HQ's words."""

    # --- deliveries ------------------------------------------------------------------------------

    def delivery(self, directive: str, role: str) -> Delivery | None:
        """The delivery of this directive for this role, or None."""
        row = self._connection.execute(
            f"{_DELIVERY} WHERE directive = ? AND role = ?", (directive, role)
        ).fetchone()
        return None if row is None else _delivery(row)

    def deliveries(self, directive: str) -> list[Delivery]:
        """The deliveries of this directive, for whatever role."""
        rows = self._connection.execute(
            f"{_DELIVERY} WHERE directive = ? ORDER BY role", (directive,)
        )
        return [_delivery(row) for row in rows]

    def insert(self, delivery: Delivery) -> None:
        """Save a delivery that is not there yet; its directive must be. Fills in its numbers."""
        delivery.arrival = self._memory.count("arrivals")
        delivery.number = self._next_number()
        delivery.unsure = delivery.unsure and delivery.open
        row = _row(delivery, self._memory.today)
        self._connection.execute(
            f"INSERT INTO delivery ({_COLUMNS.replace('delivery.', '')}, sum) VALUES ({_MARKS})",
            (*row, row_sum(*row)),
        )

    def save(self, delivery: Delivery) -> None:
        """Save a delivery that is there; what is not open any more is not unsure either."""
        delivery.unsure = delivery.unsure and delivery.open
        self._replace(_row(delivery, self._memory.today))

    def _replace(self, row: Sequence[object]) -> None:
        self._connection.execute(
            f"UPDATE delivery SET {_SET}, sum = ? WHERE directive = ? AND role = ?",
            (*row[2:], row_sum(*row), *row[:2]),
        )

    def arrive_again(self, delivery: Delivery) -> None:
        """Give a reopened delivery the next arrival number; the caller owes a `save`."""
        delivery.arrival = self._memory.count("arrivals")

    def unsure(self, most: int) -> Sequence[Work]:
        """Open work that HQ did not name in the latest snapshot, the longest unasked first."""
        rows = self._connection.execute(
            "SELECT directive, role FROM delivery WHERE unsure = 1 ORDER BY asked, arrival LIMIT ?",
            (most,),
        )
        return [Work(directive, role) for directive, role in rows]

    def unsure_count(self) -> int:
        """How much open work HQ has to be asked about."""
        return self._single("SELECT count(*) FROM delivery WHERE unsure = 1")

    def mark_unsure_unless(self, named: set[tuple[str, str]]) -> None:
        """Mark the open work that is not among `named` as unsure, and unmark what is."""
        rows = self._connection.execute(f"{_DELIVERY} WHERE open = 1").fetchall()
        for row in rows:
            delivery = _delivery(row)
            if delivery.unsure == ((delivery.directive, delivery.role) in named):
                delivery.unsure = not delivery.unsure
                self._replace(_row(delivery, row[_DAY]))

    def next_asked(self) -> int:
        """A number behind all that was asked about, for the order of asking."""
        return 1 + self._single("SELECT coalesce(max(asked), 0) FROM delivery WHERE unsure = 1")

    # --- directives ------------------------------------------------------------------------------

    def save_directive(self, directive: Directive, data: bytes, seal: str = "") -> None:
        """Keep a directive as it was received; the first copy stays, but one with a seal is better.

        HQ takes back only what it sealed, and a seal is over exact bytes, so all of the row is
        replaced.
        """
        row = (
            directive.id,
            directive.title,
            directive.kind,
            directive.priority,
            directive.due,
            directive.issued_at,
            directive.issued_by,
            data,
            seal,
        )
        self._connection.execute(
            "INSERT INTO directive"
            " (id, title, kind, priority, due, issued_at, issued_by, data, seal, sum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET title = excluded.title, kind = excluded.kind, priority = excluded.priority,"
            " due = excluded.due, issued_at = excluded.issued_at, issued_by = excluded.issued_by,"
            " data = excluded.data, seal = excluded.seal, sum = excluded.sum"
            " WHERE directive.seal = '' AND excluded.seal != ''",
            (*row, row_sum(*row)),
        )

    def directive_seal(self, directive: str) -> str:
        """HQ's seal on a directive; empty where there is none, or no such directive."""
        row = self._directive_row(directive)
        return "" if row is None else str(row[8])

    def directive_data(self, directive: str) -> bytes | None:
        """The exact bytes of a directive as it was received, or None when it is not kept."""
        row = self._directive_row(directive)
        return None if row is None else bytes(row[7])

    def directive_title(self, directive: str) -> str:
        """The title of a directive, to name one by which another was replaced; empty if unknown."""
        row = self._directive_row(directive)
        return "" if row is None else str(row[1])

    def terms(self, directive: str) -> Terms:
        """What of a directive no column has; nothing of it where the directive is not kept."""
        data = self.directive_data(directive)
        return Terms() if data is None else terms_of(data)

    def _directive_row(self, directive: str) -> Sequence[Any] | None:
        found = self._connection.execute(
            f"SELECT {_DIRECTIVE}, sum FROM directive WHERE id = ?", (directive,)
        ).fetchone()
        if found is None:
            return None
        *row, total = found
        require_sum("directive", total, *row)
        return list(row)

    # --- what people look at ---------------------------------------------------------------------

    def items(self, *, everything: bool = False, most: int = 1_000_000) -> list[Item]:
        """What is to do, or all that is kept; the newest arrivals first."""
        where = "" if everything else "WHERE todo = 1"
        rows = self._connection.execute(f"{_ITEM} {where} ORDER BY arrival DESC LIMIT ?", (most,))
        return [self._item(row) for row in rows]

    def items_with_number(self, number: int) -> list[Item]:
        """The delivery that people know by this number, if there is one."""
        return self._some("number = ?", (number,))

    def items_with_prefix(self, prefix: str, most: int = 10) -> list[Item]:
        """Deliveries of directives whose ids begin so; `prefix` in small hex digits."""
        return self._some(
            "delivery.directive >= ? AND delivery.directive < ?", (prefix, prefix + "g"), most
        )

    def items_since(self, arrival: int, most: int) -> list[Item]:
        """What arrived after that number, in order."""
        rows = self._connection.execute(
            f"{_ITEM} WHERE arrival > ? ORDER BY arrival LIMIT ?", (arrival, most)
        )
        return [self._item(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many deliveries stand in each state."""
        return dict(self._connection.execute("SELECT state, count(*) FROM delivery GROUP BY state"))

    def open_count(self) -> int:
        """How many deliveries HQ still waits for."""
        return self._single("SELECT count(*) FROM delivery WHERE open = 1")

    def todo_count(self) -> int:
        """How many deliveries somebody should look at."""
        return self._single("SELECT count(*) FROM delivery WHERE todo = 1")

    # --- reminders -------------------------------------------------------------------------------

    def next_remind_at(self) -> float | None:
        """When the reminders of some work are to be looked at next; None when of none."""
        row = self._connection.execute(
            "SELECT min(remind_at) FROM delivery WHERE remind_at IS NOT NULL"
        ).fetchone()
        return None if row[0] is None else float(row[0])

    def to_remind(self, at: float, most: int) -> list[Delivery]:
        """The work whose reminders are to be looked at by then, the longest due first."""
        rows = self._connection.execute(
            f"{_DELIVERY} WHERE remind_at IS NOT NULL AND remind_at <= ?"
            " ORDER BY remind_at LIMIT ?",
            (at, most),
        )
        return [_delivery(row) for row in rows]

    def reminded_after(self, at: float) -> list[Delivery]:
        """Open work of which somebody was reminded later than that."""
        rows = self._connection.execute(f"{_DELIVERY} WHERE open = 1 AND reminded_at > ?", (at,))
        return [_delivery(row) for row in rows]

    def open_deliveries(self) -> list[Delivery]:
        """All that HQ waits for."""
        rows = self._connection.execute(f"{_DELIVERY} WHERE open = 1")
        return [_delivery(row) for row in rows]

    def add_event(self, kind: str, delivery: Delivery, at: float) -> None:
        """Keep something for the hook to hear of; of a kind only the latest for a piece of work."""
        self._connection.execute(
            "INSERT INTO event (directive, role, kind, number, at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (directive, role, kind) DO UPDATE"
            " SET number = excluded.number, at = excluded.at",
            (delivery.directive, delivery.role, kind, self._memory.count("events"), at),
        )

    def events_since(self, number: int, most: int) -> list[Event]:
        """What came after that number, in order."""
        rows = self._connection.execute(
            "SELECT number, kind, directive, role, at FROM event WHERE number > ?"
            " ORDER BY number LIMIT ?",
            (number, most),
        )
        return [Event(*row) for row in rows]

    def item(self, directive: str, role: str) -> Item | None:
        """One delivery with what a list shows, or None."""
        found = self._some("delivery.directive = ? AND delivery.role = ?", (directive, role))
        return found[0] if found else None

    # --- the hook --------------------------------------------------------------------------------

    def set_hook_failure_aside(self, failure: HookFailure) -> None:
        """Keep that the hook failed for an arrival; the latest hundred are kept."""
        self._connection.execute(
            "INSERT OR REPLACE INTO hook_failure (arrival, directive, role, error, failed_at)"
            " VALUES (?, ?, ?, ?, ?)",
            failure,
        )
        self._connection.execute(
            "DELETE FROM hook_failure WHERE arrival NOT IN"
            " (SELECT arrival FROM hook_failure ORDER BY arrival DESC LIMIT 100)"
        )

    def hook_failures(self) -> list[HookFailure]:
        """For which arrivals the hook failed, the latest first."""
        rows = self._connection.execute(
            "SELECT arrival, directive, role, error, failed_at FROM hook_failure"
            " ORDER BY arrival DESC"
        )
        return [HookFailure(*row) for row in rows]

    # --- getting old -----------------------------------------------------------------------------

    def prune(self, *, before_day: int) -> None:
        """Let closed work, withdrawals and early changes of before that day go."""
        execute = self._connection.execute
        rows = execute(
            "SELECT directive, role FROM delivery WHERE open = 0 AND day < ?",
            (before_day,),
        ).fetchall()
        for directive, role in rows:
            execute("DELETE FROM delivery WHERE directive = ? AND role = ?", (directive, role))
            execute("DELETE FROM event WHERE directive = ? AND role = ?", (directive, role))
            execute(
                "DELETE FROM directive WHERE id = ?1"
                " AND NOT EXISTS (SELECT 1 FROM delivery WHERE directive = ?1)",
                (directive,),
            )
        execute("DELETE FROM cancel WHERE day < ?", (before_day,))
        execute("DELETE FROM early WHERE day < ?", (before_day,))
        execute("DELETE FROM withdrawn WHERE day < ?", (before_day,))

    # --- inside ----------------------------------------------------------------------------------

    def _some(self, where: str, values: tuple[object, ...], most: int = 10) -> list[Item]:
        rows = self._connection.execute(
            f"{_ITEM} WHERE {where} ORDER BY arrival LIMIT ?", (*values, most)
        )
        return [self._item(row) for row in rows]

    def _item(self, found: Sequence[Any]) -> Item:
        delivery = _delivery(found[: _COUNT + 1])
        *row, total = found[_COUNT + 1 :]
        require_sum("directive", total, *row)
        _, title, kind, priority, due, issued_at, issued_by, data, _ = row
        terms = terms_of(bytes(data))
        cancel = self.cancel(delivery.directive) if delivery.state is State.CANCELLED else None
        return Item(
            delivery,
            title,
            kind,
            priority,
            due,
            issued_at,
            issued_by,
            terms.forced_from,
            terms.reasons,
            terms.supersedes,
            "" if cancel is None else _superseded_by(cancel.data),
            terms.undoes,
        )

    def _next_number(self) -> int:
        """The next number for people: short as long as that is possible, and free."""
        number = self._memory.number("numbers") + 1
        if number > SHORT_NUMBERS and not self._in_use(1):
            number = 1
        if self._in_use(number):
            number = 1 + self._single("SELECT coalesce(max(number), 0) FROM delivery")
        self._memory.keep("numbers", number)
        return number

    def _in_use(self, number: int) -> bool:
        return bool(
            self._single("SELECT EXISTS (SELECT 1 FROM delivery WHERE number = ?)", (number,))
        )


def _row(delivery: Delivery, day: int) -> tuple[Any, ...]:
    """A delivery as its row, in the order of the table, without the sum."""
    return (
        delivery.directive,
        delivery.role,
        delivery.number,
        delivery.arrival,
        delivery.needs.value,
        delivery.state.value,
        delivery.said.value,
        delivery.closed_by_hq,
        delivery.open,
        delivery.todo,
        delivery.unsure,
        delivery.asked,
        delivery.receipt_position,
        delivery.original_position,
        delivery.received_at,
        delivery.changed_at,
        delivery.changed_by,
        delivery.reason,
        day,
        delivery.code,
        delivery.remind_at if delivery.open else None,
        delivery.reminded_at,
        delivery.reminder,
        delivery.reminded_by,
        json.dumps(delivery.steps),
        delivery.insisted,
    )


def _delivery(found: Sequence[Any]) -> Delivery:
    """The delivery of a row with its sum.

    Raises:
        DatabaseDamaged: It is not as it was written.
    """
    *row, total = found
    require_sum("delivery", total, *row)
    return Delivery(
        directive=row[0],
        role=row[1],
        number=row[2],
        arrival=row[3],
        needs=Needs(row[4]),
        state=State(row[5]),
        said=State(row[6]),
        closed_by_hq=bool(row[7]),
        unsure=bool(row[10]),
        asked=row[11],
        receipt_position=row[12],
        original_position=row[13],
        received_at=row[14],
        changed_at=row[15],
        changed_by=row[16],
        reason=row[17],
        code=row[19],
        remind_at=row[20],
        reminded_at=row[21],
        reminder=row[22],
        reminded_by=row[23],
        steps=tuple(json.loads(row[24])),
        insisted=bool(row[25]),
    )


def _superseded_by(data: bytes) -> str:
    try:
        return str(json.loads(data).get("superseded_by", ""))
    except ValueError:
        return ""
