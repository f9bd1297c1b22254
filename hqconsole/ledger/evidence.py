"""The signed messages of devices, kept once each, and how to read what a record said from them.

A message is kept byte by byte, with its signature and the key and topic that it is checked with;
the arrivals of its records name their place in its text.
"""

import sqlite3
from typing import NamedTuple

from buswire.cursors import Cursor

MESSAGE_OVERHEAD_BYTES = 400
"""What a kept message takes beside its text, with its indexes."""

DATA = (
    "CASE WHEN arrival.message_no IS NULL THEN arrival.data ELSE (SELECT"
    " substr(message.text, arrival.data_at + 1, arrival.data_bytes)"
    " FROM message WHERE message.no = arrival.message_no) END"
)
"""What an arrival said, as an SQL expression over a row of `arrival`."""


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
