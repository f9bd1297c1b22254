"""What the tests of the contract are written with: ids, records, and a database that is a list."""

from collections.abc import Iterable, Sequence

from msgspec import Raw

from buswire.cursors import START, Cursor
from buswire.messages import LOGS, Log, Record, Work
from buswire.uplink import Entry


def id_of(number: int) -> str:
    """A 128-bit id that a reader of a failure can recognize."""
    return f"{number:032x}"


def record(number: int, kind: str = "directive", data: bytes = b"{}") -> Record:
    """A record with that id."""
    return Record(id=id_of(number), kind=kind, at=float(number), data=Raw(data))


def records(numbers: Iterable[int]) -> list[Record]:
    """Records with those ids."""
    return [record(number) for number in numbers]


def cursor(seq: int, number: int | None = None) -> Cursor:
    """A cursor at that number, of the history in which each record's id is its number."""
    return Cursor(seq, id_of(seq if number is None else number)) if seq else START


class ListDesk:
    """The device's database as lists; what of a log was let go is None."""

    def __init__(self) -> None:
        self.rows: dict[Log, list[Record | None]] = {log: [] for log in LOGS}
        self.unsure_work: list[Work] = []

    def add(self, log: Log, *numbers: int, data: bytes = b"{}") -> None:
        """Append entries with those ids."""
        self.rows[log] += [record(number, "receipt", data) for number in numbers]

    def position_of(self, log: Log, record_id: str) -> int | None:
        """Where the record stands."""
        for position, row in enumerate(self.rows[log], 1):
            if row is not None and row.id == record_id:
                return position
        return None

    def entries(self, log: Log, *, after: int, most: int, most_bytes: int) -> Sequence[Entry]:
        """The entries behind a position."""
        found: list[Entry] = []
        size = 0
        for position, row in enumerate(self.rows[log], 1):
            if position <= after or row is None:
                continue
            size += len(bytes(row.data))
            if found and (size > most_bytes or len(found) >= most):
                break
            found.append(Entry(position, row))
        return found

    def head(self, log: Log) -> int:
        """The newest position."""
        return len(self.rows[log])

    def unsure(self, most: int) -> Sequence[Work]:
        """Open work that HQ did not name."""
        return self.unsure_work[:most]
