"""What could not be used, and what an operator should know: quarantine and incidents.

Both are bounded, whatever a device sends: one quarantine row per source and reason, with a count;
the latest incidents only.
"""

import json
import sqlite3
from typing import Any

_ROWS_PER_SOURCE = 50
_ROWS = 10_000
_PAYLOAD_BYTES = 4096
_INCIDENTS = 100_000


def put_aside(
    connection: sqlite3.Connection, *, source: str, reason: str, payload: bytes, at: float
) -> None:
    """Keep aside what a source sent and nobody can use; `hq quarantine` shows it.

    The first payload of each reason is kept, cut to 4 KiB, and the times are counted. Beyond 50
    reasons of one source the rest is counted under one.
    """
    source, reason = source[:200], reason[:300]
    known = connection.execute(
        "UPDATE quarantine SET times = times + 1, last_at = ? WHERE source = ? AND reason = ?",
        (at, source, reason),
    ).rowcount
    if known:
        return
    of_source, rows = connection.execute(
        "SELECT (SELECT count(*) FROM quarantine WHERE source = ?),"
        " (SELECT count(*) FROM quarantine)",
        (source,),
    ).fetchone()
    if of_source >= _ROWS_PER_SOURCE:
        reason = "and other reasons"
    elif rows >= _ROWS:
        source, reason = "others", "and other sources"
    connection.execute(
        "INSERT INTO quarantine (source, reason, first_at, last_at, times, payload, payload_bytes)"
        " VALUES (?, ?, ?, ?, 1, ?, ?)"
        " ON CONFLICT (source, reason) DO UPDATE SET times = times + 1,"
        " last_at = excluded.last_at",
        (source, reason, at, at, payload[:_PAYLOAD_BYTES], len(payload)),
    )


def record_incident(
    connection: sqlite3.Connection, kind: str, *, at: float, device_no: int | None, **detail: Any
) -> None:
    """Keep something that an operator should know; `hq incidents` shows it."""
    connection.execute(
        "INSERT INTO incident (at, kind, device_no, detail) VALUES (?, ?, ?, ?)",
        (at, kind, device_no, json.dumps(detail, ensure_ascii=False)),
    )
    connection.execute(
        "DELETE FROM incident WHERE no <= (SELECT max(no) FROM incident) - ?", (_INCIDENTS,)
    )
