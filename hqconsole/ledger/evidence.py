"""The signed messages of devices, kept once each, and how to read what a record said from them.

A message is kept byte by byte, with its signature and the key and topic that it is checked with;
the arrivals of its records name their place in its text.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from buswire import frame
from buswire.cursors import Cursor
from buswire.messages import Records

MESSAGE_OVERHEAD_BYTES = 400
"""What a kept message takes beside its text, with its indexes."""

DATA = (
    "CASE WHEN arrival.message_no IS NULL THEN arrival.data ELSE (SELECT"
    " substr(message.text, arrival.data_at + 1, arrival.data_bytes)"
    " FROM message WHERE message.no = arrival.message_no) END"
)
"""What an arrival said, as an SQL expression over a row of `arrival`."""

EARLIER_MESSAGES = (
    "SELECT after_seq, text FROM message"
    " WHERE device_no = ? AND log = ? AND no < ? ORDER BY no DESC LIMIT ?"
)


class Evidence(NamedTuple):
    """A message of a device as it was signed."""

    key_no: int
    topic: str
    log: str
    after: Cursor
    records: int
    signature: str
    text: bytes

    @property
    def kept_bytes(self) -> int:
        """How much of the disk it takes."""
        return len(self.text) + MESSAGE_OVERHEAD_BYTES


def keep(connection: sqlite3.Connection, device_no: int, evidence: Evidence, *, at: float) -> int:
    """Keep a message. Returns its number."""
    cursor = connection.execute(
        "INSERT INTO message (device_no, key_no, topic, log, after_seq, after_id, records,"
        " received_at, signature, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            device_no,
            evidence.key_no,
            evidence.topic,
            evidence.log,
            evidence.after.seq,
            evidence.after.id,
            evidence.records,
            at,
            evidence.signature,
            evidence.text,
        ),
    )
    return int(cursor.lastrowid or 0)


def same_ids(
    connection: sqlite3.Connection,
    place: tuple[int, str],
    after: Cursor,
    ids: Sequence[str],
    *,
    before_no: int = 2**63 - 1,
    most: int = -1,
) -> bool:
    """Whether these ids are those that the kept messages of a log had in their places.

    Args:
        connection: Of the ledger.
        place: Number of the device, and the log.
        after: The place that the ids follow.
        ids: Of records that were taken already.
        before_no: Only messages before this one count.
        most: So many messages are looked at; where that is too few, the answer is no.
    """
    wanted = {after.seq + 1 + index: one for index, one in enumerate(ids)}
    wanted[after.seq] = after.id
    looked = 0
    for first, text in connection.execute(EARLIER_MESSAGES, (*place, before_no, most)):
        looked += 1
        earlier = frame.decode_text(bytes(text))
        assert isinstance(earlier, Records)  # nothing else is kept
        if first in wanted and wanted[first] != earlier.after.id:
            return False
        for index, record in enumerate(earlier.records):
            if wanted.pop(first + 1 + index, record.id) != record.id:
                return False
        if first <= after.seq:
            return True
    return looked != most  # the rest is from before messages were signed
