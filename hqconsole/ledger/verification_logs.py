"""Checks what devices said: signatures, arrivals, and that each log is dense.

Density: HQ's cursor in a device's log only ever goes forward within one ledger. A device that was
put back from an older copy (its cursor is not known, so it sends all it keeps again) is numbered on
from HQ's cursor: known ids under new numbers, which is no second id for a number. A ledger that was
put back takes its kept messages back with it, so its logs go on from where it stands. A gap or two
ids for one number are therefore never honest: rows were taken out, or put in. What came before
messages were signed is counted apart, and nothing of it may come after the first signed message.
Where messages have left for an archive, their log goes on behind the place that is kept of them,
and a record that answers a directive which has left need not have an arrival any more. An archive
itself has some messages of a log, and need not have what else was in them.

Messages and arrivals are each read once, side by side in the order of saving.
"""

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from buswire import frame, signing
from buswire.cursors import START, Cursor
from buswire.errors import WireError
from buswire.messages import Record, Records
from hqconsole.ledger.evidence import same_ids
from hqconsole.ledger.verification_context import Context, MisfitError, verifies

_ANSWER_KINDS = frozenset({"receipt", "reply", "withdrawn"})


class _Answer(msgspec.Struct):
    """Of a record that answers a directive: which."""

    directive: str


class _Run(NamedTuple):
    """Messages that left: before which number they were saved, and from where to where they go."""

    first_no: int
    after: Cursor
    through: Cursor


MESSAGES = (
    "SELECT no, device_no, key_no, topic, log, after_seq, after_id, records, signature, text"
    " FROM message ORDER BY no"
)
ARRIVALS = (
    "SELECT no, device_no, id, kind, said_at, message_no, data_at, data_bytes, length(data)"
    " FROM arrival ORDER BY no"
)
RUNS = (
    "SELECT first_no, after_seq, after_id, through_seq, through_id FROM archived_run"
    " WHERE device_no = ? AND log = ? ORDER BY first_no"
)
_answers = msgspec.json.Decoder(_Answer)


class Logs:
    """All logs of all devices at once."""

    def __init__(self, context: Context) -> None:
        """Check in this walk; keys and devices must be known to it."""
        self._context = context
        self._counts = context.counts
        self._cursors: dict[tuple[int, str], Cursor] = {}
        self._runs: dict[tuple[int, str], deque[_Run]] = {}

    def check_messages(self) -> None:
        """Each message is signed, goes on where its log stood, and is what its arrivals say."""
        arrivals = _Arrivals(self._context.connection)
        for row in self._context.connection.execute(MESSAGES):
            no, device_no = row[0], row[1]
            message = self._signed_message(row)
            if not self._context.is_archive:
                self._check_place(no, device_no, message)
            mine = self._unsigned_and_mine(arrivals, no)
            self._check_records(no, device_no, message, bytes(row[9]), mine)
            self._counts["messages"] += 1
            self._context.step(1 + len(mine))
        for arrival in self._unsigned_and_mine(arrivals, None):
            raise self._stray(arrival)

    def _unsigned_and_mine(
        self, arrivals: "_Arrivals", message_no: int | None
    ) -> list[Sequence[Any]]:
        """The arrivals of a message; those from before signing are counted on the way."""
        mine: list[Sequence[Any]] = []
        while (arrival := arrivals.next) is not None:
            if arrival[5] is None:
                if self._counts["records"] or mine:
                    raise MisfitError(
                        "unsigned",
                        f"arrival {arrival[0]} of {self._context.name(arrival[1])}",
                        "no message proves it, and it came after signed ones: it was put in",
                    )
                self._counts["unsigned"] += 1
                self._context.step()
            elif message_no is None or arrival[5] == message_no:
                mine.append(arrival)
                if message_no is None:
                    return mine
            elif arrival[5] < message_no:
                raise self._stray(arrival)
            else:
                break
            arrivals.pass_over()
        return mine

    def _stray(self, arrival: Sequence[Any]) -> MisfitError:
        return MisfitError(
            "arrival",
            f"arrival {arrival[0]} of {self._context.name(arrival[1])}",
            f"it refers to message {arrival[5]}, which is not there or came at another time",
        )

    def _signed_message(self, row: Sequence[Any]) -> Records:
        no, device_no, key_no, topic, log, after_seq, after_id, count, signature, text = row
        what = f"message {no} of {self._context.name(device_no)}"
        found = self._context.device_keys.get(key_no)
        if found is None or found.device_no != device_no or device_no not in self._context.devices:
            raise MisfitError("message key", what, "it names a key that is not its device's")
        if not found.proved:  # the hub gives its word before it takes anything
            raise MisfitError(
                "device key",
                what,
                f"head office never gave its word that {found.key.id[:8]} is this device's key (in"
                " a ledger that was put back into another home the hub does so when it comes up)",
            )
        identity = self._context.devices[device_no][0]
        if not topic.endswith(f"/from/{identity.store}/{identity.device}"):
            raise MisfitError("topic", what, f"it was signed for another topic, {topic}")
        if not verifies(found.key, signature, signing.message_bytes(topic, bytes(text))):
            raise MisfitError(
                "signature",
                what,
                f"the key {found.key.id[:8]} did not sign it so: its text, its topic or its"
                " signature was altered after it came, or it was put in",
            )
        try:
            message = frame.decode_text(bytes(text))
        except WireError as error:
            raise MisfitError("message", what, str(error)) from None
        if not isinstance(message, Records):
            raise MisfitError("message", what, f"a {type(message).__name__} carries no records")
        kept = (log, Cursor(after_seq, after_id), count)
        if kept != (message.log, message.after, len(message.records)):
            raise MisfitError(
                "message", what, "log, place or count beside it are not those that were signed"
            )
        return message

    def _check_records(
        self,
        no: int,
        device_no: int,
        message: Records,
        text: bytes,
        arrivals: Sequence[Sequence[Any]],
    ) -> None:
        """Its arrivals are its records, and each of these has one, here or before."""
        by_id = {record.id: record for record in reversed(message.records)}
        for arrival in arrivals:
            record = by_id.pop(bytes(arrival[2]).hex(), None)
            if record is None or arrival[1] != device_no or not _says(arrival, record, text):
                raise MisfitError(
                    "arrival",
                    f"arrival {arrival[0]} of {self._context.name(arrival[1])}",
                    f"it is not what was signed in message {no}: it was altered or put in",
                )
            self._counts["records"] += 1
        for record_id, record in by_id.items():
            if self._may_be_elsewhere(record):
                continue
            earlier = self._context.arrival(device_no, record_id)
            if earlier is None or (earlier[0] is not None and earlier[0] >= no):
                raise MisfitError(
                    "record",
                    f"record {record_id[:8]} ({record.kind}) in message {no} of"
                    f" {self._context.name(device_no)}",
                    "it was signed and has no arrival: its row was taken out",
                )

    def _may_be_elsewhere(self, record: Record) -> bool:
        """Whether the arrival of a record may be in an archive, or the record in the ledger."""
        if self._context.is_archive:
            return True
        if not self._context.archived or record.kind not in _ANSWER_KINDS:
            return False
        try:
            return _answers.decode(record.data).directive in self._context.archived
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False

    # --- density -----------------------------------------------------------------------------

    def _check_place(self, no: int, device_no: int, message: Records) -> None:
        """The message goes on where the log stood, without a gap and without another history."""
        place = (device_no, message.log)
        what = f"message {no} of {self._context.name(device_no)}, log {message.log}"
        ids = [record.id for record in message.records]
        after = message.after
        self._pass_runs(place, no)
        cursor = self._cursors.get(place)
        if cursor is None:
            self._check_beginning(what, device_no, after)
            cursor = after
        known = cursor.seq - after.seq
        if known < 0:
            raise MisfitError(
                "gap",
                what,
                f"numbers {cursor.seq + 1} to {after.seq} are missing:"
                " kept messages were taken out",
            )
        if known == 0:
            fits = after.id == cursor.id
        else:
            fits = known <= len(ids) and self._same_ids(place, no, after, ids[:known], cursor)
        if not fits:
            raise MisfitError(
                "fork",
                what,
                f"it has another id for a number up to {cursor.seq} than was taken before, and"
                " HQ's cursor never goes back: messages were put in, or taken out",
            )
        if ids:
            self._cursors[place] = Cursor(after.seq + len(ids), ids[-1])

    def _pass_runs(self, place: tuple[int, str], before_no: int | None) -> None:
        """Go on behind the messages that left and were saved before this one, or all of them."""
        if place not in self._runs:
            rows = self._context.connection.execute(RUNS, place)
            self._runs[place] = deque(
                _Run(no, Cursor(*after), Cursor(*through))
                for no, *ends in rows
                for after, through in [(ends[:2], ends[2:])]
            )
        runs = self._runs[place]
        while runs and (before_no is None or runs[0].first_no < before_no):
            run = runs.popleft()
            what = f"what was archived of {self._context.name(place[0])}, log {place[1]}"
            cursor = self._cursors.get(place)
            if cursor is None:
                self._check_beginning(what, place[0], run.after)
            elif run.after.seq > cursor.seq:
                raise MisfitError(
                    "gap",
                    what,
                    f"numbers {cursor.seq + 1} to {run.after.seq} are missing:"
                    " kept messages were taken out",
                )
            elif run.through.seq < cursor.seq or (
                run.after.seq == cursor.seq and run.after.id != cursor.id
            ):
                raise MisfitError(
                    "fork", what, f"it does not go on from number {cursor.seq}, where the log stood"
                )
            self._cursors[place] = run.through

    def _same_ids(
        self, place: tuple[int, str], no: int, after: Cursor, ids: Sequence[str], cursor: Cursor
    ) -> bool:
        """Whether these ids, behind `after`, are those that earlier messages had there."""
        return ids[-1] == cursor.id and same_ids(
            self._context.connection, place, after, ids, before_no=no
        )

    def _check_beginning(self, what: str, device_no: int, after: Cursor) -> None:
        """The first message of a log begins it, or goes on from what came before signing."""
        if after == START:
            return
        before = self._context.arrival(device_no, after.id) if after.id else None
        if before is None or before[0] is not None:
            raise MisfitError(
                "gap",
                what,
                f"the log begins at number {after.seq + 1}: what came before it was taken out",
            )

    def check_heads(self) -> None:
        """After the messages: each log ends where HQ's cursor stands."""
        for place in self._context.connection.execute(
            "SELECT DISTINCT device_no, log FROM archived_run"
        ).fetchall():
            self._pass_runs(place, None)
        for device_no, log, seq, cursor_id in self._context.connection.execute(
            "SELECT device_no, log, seq, id FROM uplink"
        ):
            what = f"log {log} of {self._context.name(device_no)}"
            cursor = self._cursors.pop((device_no, log), None)
            if cursor is None:
                before = self._context.arrival(device_no, cursor_id) if seq and cursor_id else None
                fits = seq == 0 or (before is not None and before[0] is None)
            else:
                fits = cursor == Cursor(seq, cursor_id)
            if not fits:
                raise MisfitError(
                    "head",
                    what,
                    f"HQ's cursor is at {seq} and the kept messages reach"
                    f" {0 if cursor is None else cursor.seq}: the newest were taken out or put in",
                )
        for device_no, log in self._cursors:
            raise MisfitError(
                "head",
                f"log {log} of {self._context.name(device_no)}",
                "messages are kept, and HQ has no cursor in it",
            )


class _Arrivals:
    """All arrivals in the order of saving, with one to look at."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._rows: Iterator[Sequence[Any]] = iter(connection.execute(ARRIVALS))
        self.next: Sequence[Any] | None = None
        self.pass_over()

    def pass_over(self) -> None:
        self.next = next(self._rows, None)


def _says(arrival: Sequence[Any], record: Record, text: bytes) -> bool:
    """Whether an arrival is this record of this text."""
    _, _, _, kind, said_at, _, at, length, own_bytes = arrival
    return bool(
        kind == record.kind
        and said_at == record.at
        and own_bytes == 0
        and text[at : at + length] == bytes(record.data)
    )
