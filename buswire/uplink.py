"""The writing end of one of a device's logs: what to send, what is under way, what is acknowledged.

Numbers on the wire follow from the cursor that HQ gave in its latest welcome; the outbox knows only
its own positions. So an older copy on either side needs no special case: HQ's cursor is looked up
in the outbox by its id, and everything behind that place is sent, acknowledged before or not. A
cursor whose id the outbox does not know means that the two sides are not of one history: then all
that is kept is sent again, and HQ drops by id what it already has.

The machine holds no rows and reads no clock; `Outbox` is its window on the database.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from buswire.cursors import Cursor, advance
from buswire.messages import BATCH_BYTES, BATCH_RECORDS, Log, Record, Records


class Entry(NamedTuple):
    """A row of the outbox: its dense position in its log, and the record as it goes out."""

    position: int
    record: Record


class Outbox(Protocol):
    """What the machine reads of a device's database."""

    def position_of(self, log: Log, record_id: str) -> int | None:
        """Where the record stands in the log, or None when it is not kept."""

    def entries(self, log: Log, *, after: int, most: int, most_bytes: int) -> Sequence[Entry]:
        """The entries behind a position, in order; at least one where there is any."""

    def head(self, log: Log) -> int:
        """The position of the newest entry, 0 when there never was one."""


class Settled(NamedTuple):
    """HQ has everything of the log up to this position; what is owed is to save that."""

    log: Log
    cursor: Cursor
    position: int


class _Sent(NamedTuple):
    cursor: Cursor
    position: int


class UplinkWriter:
    """One log's window of records that are sent and not acknowledged."""

    def __init__(self, log: Log, acked: Cursor, position: int, *, window: int) -> None:
        """Begin from what was saved; nothing may be sent before the first `rebase`.

        Args:
            log: Which of the device's logs.
            acked: HQ's cursor as it was last heard.
            position: The place in the outbox that the cursor stands for.
            window: How many messages may be under way at a time.
        """
        self.log: Log = log
        self.acked = acked
        self.position = position
        self._window = window
        self._under_way: deque[_Sent] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an acknowledgement."""
        return not self._under_way

    def rebase(self, cursor: Cursor, outbox: Outbox) -> tuple[Settled, bool]:
        """Go on from the cursor that HQ gave; all that was under way counts as not sent.

        Returns:
            What to save, and whether the cursor is of this device's history. If not, the device
            or HQ is an older copy or a new disk, and everything kept is sent again.
        """
        self._under_way.clear()
        known = True
        if cursor.seq == 0:
            self.position = 0
        elif cursor != self.acked or not self._stands(outbox):
            position = outbox.position_of(self.log, cursor.id)
            known = position is not None
            self.position = position or 0
        self.acked = cursor
        return Settled(self.log, cursor, self.position), known

    def _stands(self, outbox: Outbox) -> bool:
        """Whether the outbox has what HQ acknowledged last in the place where that was saved.

        A database put together from files of different moments may lack it: what is said then gets
        places that look acknowledged. An acknowledged entry may be gone, but not with all behind.
        """
        if not self.position:
            return True
        found = outbox.entries(self.log, after=self.position - 1, most=1, most_bytes=1)
        return bool(found) and (
            found[0].position > self.position or found[0].record.id == self.acked.id
        )

    def next(self, outbox: Outbox) -> Records | None:
        """The next message to send, or None when the window is full or nothing is left."""
        if len(self._under_way) >= self._window or not self.has_more(outbox):
            return None
        last = self._last()
        entries = outbox.entries(
            self.log, after=last.position, most=BATCH_RECORDS, most_bytes=BATCH_BYTES
        )
        if not entries:
            return None
        records = [entry.record for entry in entries]
        cursor = advance(last.cursor, [record.id for record in records])
        self._under_way.append(_Sent(cursor, entries[-1].position))
        return Records(log=self.log, after=last.cursor, records=records)

    def has_more(self, outbox: Outbox) -> bool:
        """Whether something is left to send, be the window full or not."""
        return outbox.head(self.log) > self._last().position

    def pending(self, outbox: Outbox) -> int:
        """How many entries that are kept HQ lacks, by its latest word, be that saved or not yet."""
        first = outbox.entries(self.log, after=self.position, most=1, most_bytes=1)
        return outbox.head(self.log) - first[0].position + 1 if first else 0

    def acknowledge(self, cursor: Cursor, outbox: Outbox) -> Settled | bool:
        """Take HQ's word for everything up to the cursor.

        The cursor need not be the end of a message as sent last: HQ may have taken a message from
        before a rebase, cut at another place.

        Returns:
            What to save; or, where nothing is to be saved, whether the cursor makes sense: True for
            one that is merely old, False for one that this writer never reached.
        """
        if cursor.seq <= self.acked.seq:
            return True
        if not self._under_way or cursor.seq > self._under_way[-1].cursor.seq:
            return False
        position = outbox.position_of(self.log, cursor.id)
        if position is None or not self.position < position <= self._under_way[-1].position:
            return False
        while self._under_way and self._under_way[0].position <= position:
            self._under_way.popleft()
        self.acked, self.position = cursor, position
        return Settled(self.log, cursor, position)

    def _last(self) -> _Sent:
        """The end of what was sent."""
        return self._under_way[-1] if self._under_way else _Sent(self.acked, self.position)
