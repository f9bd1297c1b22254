"""The downlink logs: dense from 1 per channel, append-only.

`channel_log.no` runs through all channels in the order of writing, so "what has the hub not yet
published" is one number. What a record says stands once in `doc`.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Raw

from buskit.row_sums import row_sum
from buswire.cursors import START, Cursor
from buswire.messages import BATCH_BYTES, BATCH_RECORDS, Record, Records
from buswire.topics import ALL_PLACE, Channel
from hqconsole.ledger.opening import damaged, require_sum

NewId = Callable[[], str]

RECORD_OVERHEAD_BYTES = 250
"""About what a record takes in a message beside its data: id, kind, seal."""
SEALED_KINDS = frozenset({"directive", "cancel"})


def add_doc(
    connection: sqlite3.Connection, kind: str, data: bytes, *, seal: str | None = None
) -> int:
    """Keep what a record says; its number goes into any number of channels.

    Without a seal, directives and cancels go out only after the hub has sealed them.
    """
    row = (_next_no(connection, "doc"), kind, data, seal)
    connection.execute(
        "INSERT INTO doc (no, kind, data, seal, sum) VALUES (?, ?, ?, ?, ?)", (*row, row_sum(*row))
    )
    return row[0]


def _next_no(connection: sqlite3.Connection, table: str) -> int:
    found = connection.execute(f"SELECT ifnull(max(no), 0) + 1 FROM {table}").fetchone()
    return int(found[0])


_UNSEALED = "seal IS NULL AND kind IN ('directive', 'cancel')"
ANY_UNSEALED = f"SELECT 1 FROM doc WHERE {_UNSEALED} LIMIT 1"
_SEALED_AT_ONCE = 200


def any_unsealed(connection: sqlite3.Connection) -> bool:
    """Whether a document waits for its seal."""
    return connection.execute(ANY_UNSEALED).fetchone() is not None


def seal_all(connection: sqlite3.Connection, seal: Callable[[str, bytes], str]) -> int:
    """Seal every document that needs a seal and has none; `seal` is given its kind and its bytes.

    Returns:
        How many those were.
    """
    count = 0
    while rows := connection.execute(
        f"SELECT no, kind, data FROM doc WHERE {_UNSEALED} LIMIT {_SEALED_AT_ONCE}"
    ).fetchall():
        _save_seals(
            connection,
            [(no, kind, data, seal(kind, bytes(data))) for no, kind, data in rows],
        )
        count += len(rows)
    return count


def unseal(connection: sqlite3.Connection, key_id: str) -> int:
    """Take every seal of this key away, so that `seal_all` makes new ones; reads all documents."""
    return _take_seals_away(connection, "seal >= ? AND seal < ?", f"{key_id} ", f"{key_id}!")


def unseal_all(connection: sqlite3.Connection) -> int:
    """Take every seal away, for who has lost all keys; reads all documents."""
    return _take_seals_away(connection, "seal IS NOT NULL")


def _take_seals_away(connection: sqlite3.Connection, which: str, *values: str) -> int:
    count = 0
    while rows := connection.execute(
        f"SELECT no, kind, data, NULL FROM doc WHERE {which} LIMIT {_SEALED_AT_ONCE}", values
    ).fetchall():
        _save_seals(connection, rows)
        count += len(rows)
    return count


def _save_seals(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
    connection.executemany(
        "UPDATE doc SET seal = ?, sum = ? WHERE no = ?",
        [(row[3], row_sum(*row), row[0]) for row in rows],
    )


def append(
    connection: sqlite3.Connection,
    channels: Iterable[Channel],
    doc_no: int,
    *,
    at: float,
    new_id: NewId,
) -> int:
    """Append one record per channel, all saying the same. Returns how many there were."""
    count = 0
    first_no = _next_no(connection, "channel_log")
    for channel in channels:
        name = str(channel)
        record_id = new_id()
        row = connection.execute(
            "UPDATE channel SET head_seq = head_seq + 1, head_id = ? WHERE name = ?"
            " RETURNING no, head_seq",
            (record_id, name),
        ).fetchone()
        if row is None:
            row = connection.execute(
                "INSERT INTO channel (name, place, head_seq, head_id) VALUES (?, ?, 1, ?)"
                " RETURNING no, head_seq",
                (name, channel.place, record_id),
            ).fetchone()
        connection.execute(
            "UPDATE channel SET sum = ? WHERE no = ?",
            (row_sum(row[0], name, channel.place, row[1], record_id), row[0]),
        )
        entry = (first_no + count, row[0], row[1], bytes.fromhex(record_id), at, doc_no)
        connection.execute(
            "INSERT INTO channel_log (no, channel_no, seq, id, at, doc_no, sum)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*entry, row_sum(*entry)),
        )
        count += 1
    return count


def heads(connection: sqlite3.Connection, channels: Sequence[Channel]) -> dict[Channel, Cursor]:
    """The head of each of these channels; a log that nothing was written to stands at the start."""
    marks = ",".join("?" * len(channels))
    found: dict[str, Cursor] = {}
    for total, *row in connection.execute(
        f"SELECT sum, no, name, place, head_seq, head_id FROM channel WHERE name IN ({marks})",
        [str(channel) for channel in channels],
    ):
        require_sum("channel", total, *row)
        found[row[1]] = Cursor(row[3], row[4])
    return {channel: found.get(str(channel), START) for channel in channels}


def heads_by_region(connection: sqlite3.Connection) -> dict[str, dict[str, Cursor]]:
    """For each region with an open store: the heads of the `all` channels and of its own."""
    common: dict[str, Cursor] = {}
    own: dict[str, dict[str, Cursor]] = {
        region: {}
        for (region,) in connection.execute(
            "SELECT DISTINCT region FROM store WHERE closed_at IS NULL"
        )
    }
    for total, *row in connection.execute(
        "SELECT sum, no, name, place, head_seq, head_id FROM channel"
        " WHERE place = ? OR (place >= 'region/' AND place < 'region0')",
        (ALL_PLACE,),
    ):
        require_sum("channel", total, *row)
        _, name, place, seq, record_id = row
        region = place.partition("/")[2]
        if place == ALL_PLACE:
            common[name] = Cursor(seq, record_id)
        elif region in own:
            own[region][name] = Cursor(seq, record_id)
    return {region: common | heads for region, heads in own.items()}


class Logs:
    """Reads the logs for `buswire.headoffice.judge`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read through this connection."""
        self._connection = connection

    def id_at(self, channel: Channel, seq: int) -> str | None:
        """The id of that record, or None where the log has no such number."""
        row = self._connection.execute(
            "SELECT id FROM channel_log WHERE seq = ?"
            " AND channel_no = (SELECT no FROM channel WHERE name = ?)",
            (seq, str(channel)),
        ).fetchone()
        return None if row is None else bytes(row[0]).hex()


_RECORD = (
    "channel_log.id, doc.kind, channel_log.at, doc.data, doc.seal, channel_log.sum,"
    " channel_log.no, channel_no, channel_log.seq, doc_no, doc.sum"
)


_SEQ = 8
"""Which of these is the number in the channel's log."""


def _record(row: Sequence[Any]) -> Record:
    """The record of a row.

    Raises:
        DatabaseDamaged: It is not as it was written.
    """
    record_id, kind, at, data, seal, entry_sum, no, channel_no, seq, doc_no, doc_sum = row
    require_sum("channel_log", entry_sum, no, channel_no, seq, record_id, at, doc_no)
    require_sum("doc", doc_sum, doc_no, kind, data, seal)
    return Record(id=bytes(record_id).hex(), kind=kind, at=at, data=Raw(data), seal=seal or "")


def replay(
    connection: sqlite3.Connection, after: Mapping[Channel, Cursor], *, most_bytes: int
) -> tuple[list[Records], dict[Channel, Cursor]]:
    """What follows these cursors, densely, up to about `most_bytes` in all.

    Returns:
        The messages, and for each channel how far they go.
    """
    messages: list[Records] = []
    through = dict(after)
    left = most_bytes
    for channel, cursor in after.items():
        at = cursor
        while left > 0:
            message = _one_message(connection, channel, at, most_bytes=min(left, BATCH_BYTES))
            if message is None:
                break
            messages.append(message)
            at = Cursor(at.seq + len(message.records), message.records[-1].id)
            left -= sum(len(record.data) + RECORD_OVERHEAD_BYTES for record in message.records)
        through[channel] = at
    return messages, through


def _one_message(
    connection: sqlite3.Connection, channel: Channel, after: Cursor, *, most_bytes: int
) -> Records | None:
    records: list[Record] = []
    size = 0
    for row in connection.execute(
        f"SELECT {_RECORD} FROM channel_log JOIN doc ON doc.no = channel_log.doc_no"
        " WHERE channel_no = (SELECT no FROM channel WHERE name = ?) AND seq > ?"
        " ORDER BY seq LIMIT ?",
        (str(channel), after.seq, BATCH_RECORDS),
    ):
        if row[_SEQ] != after.seq + len(records) + 1:
            raise damaged(f"its log of {channel} has holes")
        size += len(row[3])
        if records and size > most_bytes:
            break
        records.append(_record(row))
    return Records(log=str(channel), after=after, records=records) if records else None


class Unpublished(NamedTuple):
    """What the hub has yet to publish: messages, and the number to remember when it has."""

    messages: list[tuple[Channel, Records]]
    through_no: int
    unsealed: bool
    """Whether it ends at a document that has no seal yet."""


def unpublished(connection: sqlite3.Connection, after_no: int, *, most: int) -> Unpublished:
    """The records behind a place in the order of writing, as messages of consecutive ones.

    Ends before the first one that needs a seal and has none: a command may have committed it a
    moment ago.
    """
    runs: dict[str, tuple[int, list[Record], int]] = {}
    messages: list[tuple[Channel, Records]] = []
    before_ids: dict[str, str] = {}
    through = after_no
    unsealed = False

    def close(name: str) -> None:
        first_seq, records, _ = runs.pop(name)
        before = Cursor(first_seq - 1, before_ids[name])
        messages.append((Channel.parse(name), Records(log=name, after=before, records=records)))

    for no, name, seq, *channel_row in connection.execute(
        "SELECT channel_log.no, channel.name, channel_log.seq, channel.sum, place, head_seq,"
        f" head_id, {_RECORD} FROM channel_log"
        " JOIN channel ON channel.no = channel_log.channel_no"
        " JOIN doc ON doc.no = channel_log.doc_no"
        " WHERE channel_log.no > ? ORDER BY channel_log.no LIMIT ?",
        (after_no, most),
    ):
        channel_sum, place, head_seq, head_id, *record_row = channel_row
        require_sum("channel", channel_sum, record_row[7], name, place, head_seq, head_id)
        if record_row[4] is None and record_row[1] in SEALED_KINDS:
            unsealed = True
            break
        record = _record(record_row)
        size = len(record_row[3])
        run = runs.get(name)
        if run is not None and run[2] + size > BATCH_BYTES:
            close(name)
            run = None
        if run is None:
            before_ids[name] = Logs(connection).id_at(Channel.parse(name), seq - 1) or ""
            runs[name] = (seq, [record], size)
        else:
            run[1].append(record)
            runs[name] = (run[0], run[1], run[2] + size)
        through = no
    for name in list(runs):
        close(name)
    return Unpublished(messages, through, unsealed)
