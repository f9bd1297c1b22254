"""The outbox: the two uplink logs of a device, in SQL.

Owns the rows of `act` and `bulk`, how far HQ has acknowledged each, what may still be accepted and
when acknowledged rows may go. Must not know what an entry says.

Invariants:
- Positions are dense from 1 and never given twice; see `database`.
- An entry that was accepted stays until HQ has acknowledged it and, after that, as long as the
  limits allow. What does not fit is refused before it is accepted.
- Acknowledgement is one position per log, not a flag per row, because it can move backwards: HQ's
  ledger may come back from an older copy. Then the rows behind it are simply pending again.
- What the disk has changed is never given out: each entry is held against its sum, and what is
  given out is dense.
- How many entries and bytes are pending costs the same with a million rows as with none.

Every method that changes something must run inside `Database.write()`.

A script that raises one alert passes through here, so the contract's messages are imported only
where entries are read.
"""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from buskit.database import Database
from buskit.row_sums import row_sum
from buswire.phrases import phrase
from storeagent.database import damaged, require_sum
from storeagent.errors import OutboxFull
from storeagent.limits import Limits

if TYPE_CHECKING:
    from buswire.cursors import Cursor
    from buswire.messages import Log
    from buswire.uplink import Entry, Settled

LOGS: "tuple[Log, ...]" = ("act", "bulk")

_LOOK_SECONDS = 1.0  # how long the disk's free space is believed
_PRUNE_ROWS = 2_000  # at a time, so that no acknowledgement takes long


class Added(NamedTuple):
    """Where an entry stands, and whether it is new; if not, it was there already, unchanged."""

    position: int
    new: bool


class Backlog(NamedTuple):
    """What of a log waits for HQ."""

    rows: int
    size_bytes: int


class _Statements(NamedTuple):
    ends: str
    head: str
    first: str
    find: str
    insert: str
    entries: str
    oldest: str
    prune: str


def _statements(log: "Log") -> _Statements:
    return _Statements(
        ends=(
            "SELECT ifnull(newest.position, 0), ifnull(newest.total_bytes, 0),"
            " acked.sum, log, seq, acked.id, acked.position, from_position, from_bytes"
            f" FROM acked LEFT JOIN {log} AS newest"
            f" ON newest.position = (SELECT max(position) FROM {log}) WHERE log = '{log}'"
        ),
        head=f"SELECT ifnull(max(position), 0) FROM {log}",
        first=f"SELECT min(position) FROM {log}",
        find=f"SELECT position FROM {log} WHERE id = ?",
        insert=(
            f"INSERT INTO {log} (position, id, kind, said_at, total_bytes, data, sum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
        ),
        entries=(
            f"SELECT sum, position, id, kind, said_at, total_bytes, data FROM {log}"
            " WHERE position > ? ORDER BY position LIMIT ?"
        ),
        oldest=(
            f"SELECT position, total_bytes - length(data), total_bytes FROM {log}"
            " WHERE position > ? ORDER BY position LIMIT 1"
        ),
        prune=f"DELETE FROM {log} WHERE position <= ?",
    )


_SQL: "dict[Log, _Statements]" = {log: _statements(log) for log in LOGS}


class Outbox:
    """The uplink logs of one open database; also the machine's window on them."""

    def __init__(self, database: Database, limits: Limits | None = None) -> None:
        """Work on this database, which the caller opens and closes."""
        self._connection = database.connection
        self._folder = None if database.path is None else database.path.parent
        self.limits = limits or Limits()
        self._look_at = 0.0

    # --- writing ---------------------------------------------------------------------------------

    def add(
        self,
        log: "Log",
        record_id: str,
        kind: str,
        data: bytes,
        *,
        said_at: float,
        reserve: bool = False,
    ) -> Added:
        """Append an entry, unless one with this id is there; idempotent by `record_id`.

        Args:
            log: Which log.
            record_id: 128 bits in hex, unique for ever.
            kind: The record's kind.
            data: Its exact bytes, as they will go out.
            said_at: Unix time by this device's clock.
            reserve: Whether this is the protocol's own word, which may use the reserve.

        Raises:
            OutboxFull: Too much waits for HQ. Nothing was changed.
        """
        limits = self.limits
        most_rows = limits.rows + (limits.reserve_rows if reserve else 0)
        most_bytes = limits.size_bytes + (limits.reserve_bytes if reserve else 0)
        head, total_bytes, begin, begin_bytes = self._ends(log)
        total_bytes += len(data)
        if head - begin < most_rows and total_bytes - begin_bytes <= most_bytes:
            row = (head + 1, bytes.fromhex(record_id), kind, said_at, total_bytes, data)
            if self._connection.execute(_SQL[log].insert, (*row, row_sum(*row))).rowcount:
                return Added(head + 1, new=True)
        known = self.position_of(log, record_id)
        if known is not None:
            return Added(known, new=False)
        rows, size_bytes = self.backlog(log)
        raise OutboxFull(
            phrase(
                "the outbox is full: {rows} entries with {size:.1f} MB wait for HQ in the log "
                "{log}, {most_rows} entries or {most:.1f} MB are the most",
                rows=rows,
                size=size_bytes / 1e6,
                log=log,
                most_rows=most_rows,
                most=most_bytes / 1e6,
            ),
            hint=phrase(
                "nothing was recorded; see `storeagent status` for why nothing gets through, "
                "and try again when the backlog is smaller"
            ),
        )

    def refuse_when_disk_low(self) -> None:
        """Refuse new entries of people and scripts while the disk is nearly full.

        Raises:
            OutboxFull: There is less room than the limits demand.
        """
        now = time.monotonic()
        if self._folder is None or now < self._look_at:
            return
        free_bytes = _free_bytes(str(self._folder))
        if free_bytes < self.limits.least_free_bytes:
            raise OutboxFull(
                phrase(
                    "the disk is nearly full: {free:.0f} MB are free at {folder} and {least:.0f} "
                    "MB must stay free",
                    free=free_bytes / 1e6,
                    folder=self._folder,
                    least=self.limits.least_free_bytes / 1e6,
                ),
                hint=phrase("nothing was recorded; free space on that disk and try again"),
            )
        self._look_at = now + _LOOK_SECONDS

    def settle(self, settled: "Settled") -> None:
        """Save how far HQ has the log; further back than before is as good as further on."""
        log, cursor, position = settled
        begin, begin_bytes = position, 0
        oldest = self._connection.execute(_SQL[log].oldest, (0,)).fetchone()
        if oldest is None:
            begin = 0
        elif position < oldest[0]:
            begin, begin_bytes = oldest[0] - 1, oldest[1]
        else:
            found = self._connection.execute(
                f"SELECT total_bytes FROM {log} WHERE position = ?", (position,)
            ).fetchone()
            begin_bytes = found[0]
        row = (cursor.seq, cursor.id, position, begin, begin_bytes)
        self._connection.execute(
            "UPDATE acked SET seq = ?, id = ?, position = ?, from_position = ?, from_bytes = ?,"
            " sum = ? WHERE log = ?",
            (*row, row_sum(log, *row), log),
        )

    def prune(self, log: "Log", *, before: int = 0) -> int:
        """Let acknowledged rows go: those before a position, and the oldest beyond the limits.

        At most a few thousand rows at a time; call it again for more.

        Args:
            log: Which log.
            before: Acknowledged rows up to this position are too old to keep.

        Returns:
            How many rows went.
        """
        head, _, acked, acked_bytes = self._ends(log)
        end = min(acked, head - 1)  # the newest row stays: the next position follows from it
        gone = 0
        last = 0
        for position, total_bytes in self._connection.execute(
            f"SELECT position, total_bytes FROM {log} WHERE position <= ?"
            f" ORDER BY position LIMIT {_PRUNE_ROWS}",
            (end,),
        ):
            too_much = (
                acked_bytes - total_bytes >= self.limits.kept_bytes
                or acked - position >= self.limits.kept_rows
            )
            if position > before and not too_much:
                break
            last = position
            gone += 1
        if gone:
            self._connection.execute(_SQL[log].prune, (last,))
        return gone

    # --- reading ---------------------------------------------------------------------------------

    def acked(self) -> "dict[Log, tuple[Cursor, int]]":
        """HQ's cursor in each log, and the position that it stands for."""
        from buswire.cursors import Cursor  # noqa: PLC0415 - see the module's docstring

        found: dict[Log, tuple[Cursor, int]] = {}
        for total, *row in self._connection.execute(
            "SELECT sum, log, seq, id, position, from_position, from_bytes FROM acked"
        ):
            require_sum("acked", total, *row)
            log, seq, id_, position = row[:4]
            found[log] = (Cursor(seq, id_), position)
        return found

    def is_pending(self, log: "Log", position: int) -> bool:
        """Whether that entry is still on its way to HQ."""
        return position > self._ends(log)[2]

    def position_of(self, log: "Log", record_id: str) -> int | None:
        """Where the record stands in the log, or None when it is not kept."""
        row = self._connection.execute(_SQL[log].find, (bytes.fromhex(record_id),)).fetchone()
        return None if row is None else int(row[0])

    def entries(self, log: "Log", *, after: int, most: int, most_bytes: int) -> "Sequence[Entry]":
        """The entries behind a position, in order; at least one where there is any.

        Raises:
            DatabaseDamaged: They are not as they were written, or not all there.
        """
        from msgspec import Raw  # noqa: PLC0415 - see the module's docstring

        from buswire.messages import Record  # noqa: PLC0415
        from buswire.uplink import Entry  # noqa: PLC0415

        found: list[Entry] = []
        size_bytes = 0
        due = after + 1
        for total, *row in self._connection.execute(_SQL[log].entries, (after, most)):
            require_sum(log, total, *row)
            position, id_, kind, said_at, _, data = row
            if position != due and (found or not self._begins_at(log, position)):
                raise damaged(f"entries of its table {log} are missing from number {due} on")
            due = position + 1
            size_bytes += len(data)
            if found and size_bytes > most_bytes:
                break
            found.append(
                Entry(position, Record(id=id_.hex(), kind=kind, at=said_at, data=Raw(data)))
            )
        if not found and self.head(log) > after:
            raise damaged(f"entries of its table {log} cannot be found")
        return found

    def head(self, log: "Log") -> int:
        """The position of the newest entry, 0 when there never was one."""
        return int(self._connection.execute(_SQL[log].head).fetchone()[0])

    def heads(self) -> dict[str, int]:
        """The position of the newest entry of each log."""
        return {log: self.head(log) for log in LOGS}

    def pending(self, log: "Log") -> int:
        """How many entries of the log HQ has not acknowledged."""
        return self.backlog(log).rows

    def backlog(self, log: "Log") -> Backlog:
        """How much of the log HQ has not acknowledged."""
        head, total_bytes, acked, acked_bytes = self._ends(log)
        return Backlog(head - acked, total_bytes - acked_bytes)

    def oldest_pending_at(self, log: "Log") -> float | None:
        """When the oldest entry that waits for HQ was said, by this device's clock."""
        begin = self._ends(log)[2]
        row = self._connection.execute(
            f"SELECT said_at FROM {log} WHERE position > ? ORDER BY position LIMIT 1", (begin,)
        ).fetchone()
        return None if row is None else float(row[0])

    def _ends(self, log: "Log") -> tuple[int, int, int, int]:
        """Head and its total, and where pending begins and its total."""
        head, total_bytes, total, *acked = self._connection.execute(_SQL[log].ends).fetchone()
        require_sum("acked", total, *acked)
        return head, total_bytes, acked[4], acked[5]

    def _begins_at(self, log: "Log", position: int) -> bool:
        """Whether nothing older of the log is kept."""
        return bool(self._connection.execute(_SQL[log].first).fetchone()[0] == position)


def _free_bytes(folder: str) -> int:
    if hasattr(os, "statvfs"):  # shutil does the same, and costs 5 ms to import
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize
    import shutil  # noqa: PLC0415

    return shutil.disk_usage(folder).free
