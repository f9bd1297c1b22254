"""What can be saved from a damaged database: row by row, and only what is as it was written.

Owns which rows are taken over into a new database and what becomes of their numbers, and the count
of what could not be saved. Must not know files, locks or the daemon.

Invariants:
- A row is taken over if it fits its sum, whatever the pages around it look like; no other is.
- The logs begin again at 1 without holes, in the order in which things were said. HQ knows entries
  by their ids, so it takes each once.
- What a device says of a piece of work goes over only with the entry that told HQ so: otherwise the
  work comes back from HQ as HQ has it, and the store says again what HQ does not know.
- That HQ was told of a withdrawal goes over with the entry that told it.
- The protocol's place goes over only as far as HQ has the logs. The channel set does not, so HQ
  answers with a snapshot.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from buskit.database import Database
from buskit.migrations import columns_under_sum
from buskit.row_sums import SUM, row_sum
from buswire.messages import LOGS, Log, Receipt, Withdrawn
from buswire.states import STORE_RANK, State
from storeagent.inbox import Inbox
from storeagent.memory import Memory

_KEEP = (
    *("install", "starts", "numbers", "arrivals", "facts", "trust", "welcome_at", "hook_arrival"),
    *(f"lost {log}" for log in LOGS),
)
_GAP_MOST = 100_000
"""So many entries between two readable ones are looked for one by one."""
_NOBODY = ("", 0, "", 0, 0, 0)

_receipts = msgspec.json.Decoder(Receipt)
_withdrawals = msgspec.json.Decoder(Withdrawn)
_ranks = {state.value: rank for state, rank in STORE_RANK.items()}


class SavedLog(NamedTuple):
    """What became of one log."""

    saved: int
    """Entries that HQ has not acknowledged, and that go to it now."""
    lost: int
    """Entries that are gone and that HQ may not have; what is known of."""
    open_ended: bool
    """Whether there may have been more behind them."""


class _Source:
    """A damaged database, read leniently."""

    def __init__(
        self, connection: sqlite3.Connection, columns: Mapping[str, Sequence[str]]
    ) -> None:
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        self._connection = connection
        self._columns = columns
        self.torn: set[str] = set()
        """Tables that could not be read in one go."""
        self.open_ended: set[str] = set()
        """Logs whose end could not be read."""

    def rows(self, table: str, key: str) -> Iterator[tuple[Any, ...]]:
        """The good rows of a small table: from its begin, and from its end where it is torn."""
        seen: set[object] = set()
        for order in ("", " DESC"):
            keys = ", ".join(f"{one}{order}" for one in key.split(", "))
            try:
                for row in self._good(table, f"ORDER BY {keys}"):
                    if row not in seen:
                        seen.add(row)
                        yield row
            except (sqlite3.Error, UnicodeDecodeError):
                self.torn.add(table)
            else:
                return

    def entries(self, log: Log) -> Iterator[tuple[Any, ...]]:
        """The good entries of a log, in order."""
        last = 0
        try:
            for row in self._good(log, "ORDER BY position"):
                if row[0] <= last:
                    break
                last = row[0]
                yield row
            else:
                return
        except (sqlite3.Error, UnicodeDecodeError):
            pass
        self.torn.add(log)
        behind = [position for position in self._positions_from_the_end(log) if position > last]
        begin = min(behind, default=last + 1)
        for position in (*range(last + 1, min(begin, last + 1 + _GAP_MOST)), *sorted(behind)):
            try:
                yield from self._good(log, "WHERE position = ?", position)
            except (sqlite3.Error, UnicodeDecodeError):
                continue

    def highest(self, log: Log) -> int:
        """The highest number that a log is known to have reached, by its table or its index."""
        found = [0]
        for query in (
            f"SELECT max(position) FROM {log}",
            f"SELECT max(position) FROM {log} INDEXED BY sqlite_autoindex_{log}_1 WHERE id >= x''",
        ):
            try:
                found += [int(row[0] or 0) for row in self._connection.execute(query)]
            except (sqlite3.Error, ValueError, TypeError):
                self.torn.add(log)
        return max(found)

    def _positions_from_the_end(self, log: Log) -> list[int]:
        found: list[int] = []
        try:
            for (position,) in self._connection.execute(
                f"SELECT position FROM {log} ORDER BY position DESC"
            ):
                if found and position >= found[-1]:
                    break
                found.append(position)
        except (sqlite3.Error, UnicodeDecodeError):
            pass
        if not found:
            self.open_ended.add(log)
        return found

    def _good(self, table: str, where: str, *values: object) -> Iterator[tuple[Any, ...]]:
        columns = ", ".join(self._columns[table])
        for *row, total in self._connection.execute(
            f"SELECT {columns}, {SUM} FROM {table} {where}", values
        ):
            if row_sum(*row) == total:
                yield tuple(row)


def salvage(
    connection: sqlite3.Connection, target: Database, heads: Mapping[str, int]
) -> dict[Log, SavedLog]:
    """Take over what is good of a damaged database into a new one, in its open transaction.

    Args:
        connection: The damaged one, or a copy of it; nothing is written there.
        target: Just made, in a write transaction.
        heads: How far the logs are known to have reached, from elsewhere.
    """
    return _Removal(connection, target).run(heads)


class _Removal:
    """Everything that can be carried, from one house to the other."""

    def __init__(self, connection: sqlite3.Connection, target: Database) -> None:
        tables = (*LOGS, "meta", "acked", "directive", "delivery", "cancel")
        self._columns = {name: columns_under_sum(target.connection, name) for name in tables}
        self._source = _Source(connection, self._columns)
        self._target = target
        self._said: dict[tuple[str, str], int] = {}
        """How far the entries that were saved move each piece of work."""
        self._moved: dict[int, int] = {}
        """The new numbers of the entries of `act` by the old ones."""

    def run(self, heads: Mapping[str, int]) -> dict[Log, SavedLog]:
        acked = {row[0]: row for row in self._source.rows("acked", "log")}
        logs: dict[Log, SavedLog] = {}
        for log in LOGS:
            logs[log] = self._move_log(log, acked.get(log), heads.get(log))
        self._move_work()
        self._move_memory()
        return logs

    def _move_log(
        self, log: Log, acked: tuple[Any, ...] | None, known_head: int | None
    ) -> SavedLog:
        _, seq, cursor_id, acked_position, _, _ = acked or _NOBODY
        new = total_bytes = acked_new = acked_bytes = first = last = 0
        for position, id_, kind, said_at, _, data in self._source.entries(log):
            first, last = first or position, position
            row = (new + 1, id_, kind, said_at, total_bytes + len(data), data)
            if not self._insert(log, row):
                continue
            new, total_bytes = new + 1, total_bytes + len(data)
            if position <= acked_position:
                acked_new, acked_bytes = new, total_bytes
            if log == "act":
                self._moved[position] = new
            if kind == "receipt":
                self._note_receipt(data)
            if kind == "withdrawn":
                self._note_withdrawn(data)
        self._target.connection.execute("DELETE FROM acked WHERE log = ?", (log,))
        self._insert("acked", (log, seq, cursor_id, acked_new, acked_new, acked_bytes))
        begin = acked_position if acked is not None else max(first - 1, 0)
        head = max(last, acked_position, known_head or 0, self._source.highest(log))
        saved = new - acked_new
        lost = max(0, head - begin - saved)
        return SavedLog(saved, lost, log in self._source.open_ended)

    def _note_receipt(self, data: bytes) -> None:
        try:
            receipt = _receipts.decode(data)
        except msgspec.DecodeError:
            return
        work = (receipt.directive, receipt.role)
        self._said[work] = max(self._said.get(work, 0), STORE_RANK.get(receipt.state, 0))

    def _note_withdrawn(self, data: bytes) -> None:
        with contextlib.suppress(msgspec.MsgspecError):
            said = _withdrawals.decode(data)
            Inbox(self._target).note_withdrawn(said.directive, said.role)

    def _move_work(self) -> None:
        deliveries: dict[str, list[tuple[Any, ...]]] = {}
        for row in self._source.rows("delivery", "directive, role"):
            delivery = dict(zip(self._columns["delivery"], row, strict=True))
            rank = _ranks.get(delivery["said"], 0)
            told = self._said.get((delivery["directive"], delivery["role"]), 0)
            if rank > STORE_RANK[State.DELIVERED] and told < rank:
                continue
            for name in ("receipt_position", "original_position"):
                delivery[name] = self._moved.get(delivery[name], 0)
            delivery["day"] = 0
            deliveries.setdefault(delivery["directive"], []).append(tuple(delivery.values()))
        for row in self._source.rows("directive", "rowid"):
            if row[0] in deliveries and self._insert("directive", row):
                for found in deliveries.pop(row[0]):
                    self._insert("delivery", found)
        for directive, role, data, position, _, seal in self._source.rows("cancel", "directive"):
            moved = self._moved.get(position, 0)
            self._insert("cancel", (directive, role, data, moved, 0, seal))

    def _move_memory(self) -> None:
        kept = {key: value for key, value in self._source.rows("meta", "key") if key in _KEEP}
        if not {"install", "starts"} <= kept.keys():
            # HQ goes by both together; without them this is a new database to it.
            kept.pop("install", None)
            kept.pop("starts", None)
        number, arrival = self._target.connection.execute(
            "SELECT ifnull(max(number), 0), ifnull(max(arrival), 0) FROM delivery"
        ).fetchone()
        kept.setdefault("numbers", number)
        kept.setdefault("arrivals", max(arrival, int(kept.get("hook_arrival", 0))))
        memory = Memory(self._target)
        for key, value in kept.items():
            memory.keep(key, value)

    def _insert(self, table: str, row: tuple[Any, ...]) -> bool:
        columns = self._columns[table]
        marks = ", ".join("?" * (len(columns) + 1))
        added = self._target.connection.execute(
            f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}, {SUM}) VALUES ({marks})",
            (*row, row_sum(*row)),
        )
        return bool(added.rowcount)
