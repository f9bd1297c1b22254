"""What a device must remember of HQ's words besides its work, in SQL.

Owns the rows of withdrawals, of changes that came early, of the ids of records that took effect, of
what HQ was told about withdrawals, and of things put aside. Must not know the rules by which any of
it counts; those are `effects`.

Invariant: what the disk has changed is not given out where the tables have sums.

Every method that changes something must run inside `Database.write()`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from buskit.database import Database
from buskit.database_part import undone_alone
from buskit.row_sums import row_sum
from storeagent.database import require_sum
from storeagent.delivery import Aside, HeldCancel
from storeagent.memory import Memory

TAKEN_LIMIT = 200_000
"""How many ids of HQ's records are remembered."""
ASIDE_LIMIT = 500
"""How many different things are kept aside."""
EARLY_LIMIT = 10_000
"""How many changes of state wait for their directives."""

_CANCEL = "SELECT directive, role, data, original_position, day, seal, sum FROM cancel"


class HeldWords:
    """HQ's words that one open database holds; the inbox is one of these with the work."""

    def __init__(self, database: Database) -> None:
        """Work on this database, which the caller opens and closes."""
        self._connection = database.connection
        self._memory = Memory(database)

    # --- withdrawals and early changes -----------------------------------------------------------

    def cancel(self, directive: str) -> HeldCancel | None:
        """HQ's withdrawal of this directive, if it is held."""
        row = self._cancel_row(directive)
        return None if row is None else HeldCancel(row[0], row[1], bytes(row[2]), row[5], row[3])

    def _cancel_row(self, directive: str) -> Sequence[Any] | None:
        found = self._connection.execute(f"{_CANCEL} WHERE directive = ?", (directive,)).fetchone()
        if found is None:
            return None
        *row, total = found
        require_sum("cancel", total, *row)
        return list(row)

    def cancels(self) -> list[str]:
        """The directives whose withdrawals are held."""
        rows = self._connection.execute("SELECT directive FROM cancel ORDER BY directive")
        return [row[0] for row in rows]

    def hold_cancel(self, directive: str, role: str, data: bytes, seal: str = "") -> None:
        """Keep a withdrawal, whether the directive is there or not; copies as for directives."""
        row = (directive, role, data, 0, self._memory.today, seal)
        self._connection.execute(
            "INSERT INTO cancel (directive, role, data, original_position, day, seal, sum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (directive) DO UPDATE SET role = excluded.role, data = excluded.data,"
            " original_position = excluded.original_position, day = excluded.day,"
            " seal = excluded.seal, sum = excluded.sum"
            " WHERE cancel.seal = '' AND excluded.seal != ''",
            (*row, row_sum(*row)),
        )

    def note_cancel_sent(self, directive: str, position: int) -> None:
        """Note where in the outbox the withdrawal goes back to HQ."""
        found = self._cancel_row(directive)
        if found is not None:
            row = (*found[:3], position, *found[4:])
            self._connection.execute(
                "UPDATE cancel SET original_position = ?, sum = ? WHERE directive = ?",
                (position, row_sum(*row), directive),
            )

    def note_withdrawn(self, directive: str, role: str) -> bool:
        """Note that HQ is told of the withdrawal; False when it was told before."""
        added = self._connection.execute(
            "INSERT INTO withdrawn (directive, role, day) VALUES (?, ?, ?)"
            " ON CONFLICT (directive, role) DO NOTHING",
            (directive, role, self._memory.today),
        )
        return bool(added.rowcount)

    def hold_early(self, directive: str, role: str, channel: str, data: bytes) -> None:
        """Keep a change of state for a delivery that is not there yet; the latest one stays."""
        row = (directive, role, channel, data, self._memory.today)
        self._connection.execute(
            "INSERT INTO early (directive, role, channel, data, day, sum)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (directive, role) DO UPDATE"
            " SET channel = excluded.channel, data = excluded.data, day = excluded.day,"
            " sum = excluded.sum",
            (*row, row_sum(*row)),
        )
        if self._single("SELECT count(*) FROM early") > EARLY_LIMIT:
            self._connection.execute(
                "DELETE FROM early WHERE (directive, role) IN"
                " (SELECT directive, role FROM early ORDER BY day LIMIT 100)"
            )

    def release_early(self, directive: str, role: str) -> tuple[str, bytes] | None:
        """Give back, and forget, the early change of this delivery: its channel and its data."""
        row = self._connection.execute(
            "SELECT sum, directive, role, channel, data, day FROM early"
            " WHERE directive = ? AND role = ?",
            (directive, role),
        ).fetchone()
        if row is None:
            return None
        require_sum("early", *row)
        self._connection.execute(
            "DELETE FROM early WHERE directive = ? AND role = ?", (directive, role)
        )
        return row[3], bytes(row[4])

    def forget_early(self) -> None:
        """Forget all early changes; a snapshot is newer than any of them."""
        self._connection.execute("DELETE FROM early")

    # --- records and what is put aside -----------------------------------------------------------

    def take_id(self, record_id: str, channel: str, seq: int) -> bool:
        """Note that this record of HQ's takes effect; False when it did before."""
        added = self._connection.execute(
            "INSERT INTO taken (id, channel, seq) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (bytes.fromhex(record_id), channel, seq),
        )
        if not added.rowcount:
            return False
        newest = added.lastrowid or 0
        if newest > TAKEN_LIMIT:
            self._connection.execute("DELETE FROM taken WHERE number <= ?", (newest - TAKEN_LIMIT,))
        return True

    def forget_taken(self, channel: str, *, after: int) -> None:
        """Let the records of a channel behind this number take effect again.

        Rare, so it may look through all of them: there is no index that each record would pay for.
        """
        self._connection.execute(
            "DELETE FROM taken WHERE channel = ? AND seq > ?", (channel, after)
        )

    def put_aside(self, what: str, *, source: str, detail: str, at: float, times: int = 1) -> int:
        """Keep something that cannot be used; the same thing again is counted.

        Args:
            what: In a few words.
            source: Where it came from.
            detail: Of the first of its kind.
            at: Unix time by this device's clock.
            times: How often it came since it was last counted.

        Returns:
            How often it has come.
        """
        total = self._single(
            "INSERT INTO aside (what, source, detail, times, first_at, last_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (what, source) DO UPDATE"
            " SET times = times + excluded.times, last_at = max(last_at, excluded.last_at)"
            " RETURNING times",
            (what[:500], source[:300], detail[:2000], times, at, at),
        )
        if self.aside_count() > ASIDE_LIMIT:
            self._connection.execute(
                "DELETE FROM aside WHERE (what, source) IN"
                " (SELECT what, source FROM aside ORDER BY last_at LIMIT 50)"
            )
        return total

    def asides(self, most: int = 20) -> list[Aside]:
        """What was put aside, the latest first."""
        rows = self._connection.execute(
            "SELECT what, source, detail, times, first_at, last_at FROM aside"
            " ORDER BY last_at DESC LIMIT ?",
            (most,),
        )
        return [Aside(*row) for row in rows]

    def aside_count(self) -> int:
        """How many different things are aside."""
        return self._single("SELECT count(*) FROM aside")

    def forget_asides(self) -> int:
        """Forget what was put aside; how many different things that were."""
        return self._connection.execute("DELETE FROM aside").rowcount

    def undone_alone(self) -> AbstractContextManager[None]:
        """Within, what raises undoes only itself."""
        return undone_alone(self._connection)

    # --- inside ----------------------------------------------------------------------------------

    def _single(self, query: str, values: tuple[object, ...] = ()) -> int:
        return int(self._connection.execute(query, values).fetchone()[0])
