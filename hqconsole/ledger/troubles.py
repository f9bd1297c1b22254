"""What could not be used, and what an operator should know: quarantine and incidents.

Both are bounded, whatever a device sends: one quarantine row per source and reason, with a count;
the latest incidents only.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

_ROWS_PER_SOURCE = 50
_ROWS = 10_000
_PAYLOAD_BYTES = 4096
_INCIDENTS = 100_000
_COUNT_EVERY = 1000
_INCIDENTS_OF_A_DEVICE = 500
"""Of one kind: a device that reports trouble without end drives out no incidents but its own."""
_AGAIN_SECONDS = 24 * 3600.0

LAST_OF_KIND = (
    "SELECT at, acknowledged_at FROM incident WHERE device_no IS ? AND kind = ?"
    " ORDER BY no DESC LIMIT 1"
)
SURPLUS = (
    "DELETE FROM incident WHERE no <= (SELECT no FROM incident ORDER BY no DESC LIMIT 1 OFFSET ?)"
)
SURPLUS_OF_DEVICE = (
    "DELETE FROM incident WHERE device_no = ?1 AND kind = ?2 AND no <= (SELECT no FROM incident"
    " WHERE device_no = ?1 AND kind = ?2 ORDER BY no DESC LIMIT 1 OFFSET ?3)"
)


def put_aside(
    connection: sqlite3.Connection, *, source: str, reason: str, payload: bytes, at: float
) -> int:
    """Keep aside what a source sent and nobody can use; `hq quarantine` shows it.

    The first payload of each reason is kept, cut to 4 KiB, and the times are counted. Beyond 50
    reasons of one source the rest is counted under one.

    Returns:
        How often that source has sent something for this reason by now.
    """
    source, reason = source[:200], reason[:300]
    known = connection.execute(
        "UPDATE quarantine SET times = times + 1, last_at = ? WHERE source = ? AND reason = ?"
        " RETURNING times",
        (at, source, reason),
    ).fetchall()
    if known:
        return int(known[0][0])
    of_source, rows = connection.execute(
        "SELECT (SELECT count(*) FROM quarantine WHERE source = ?),"
        " (SELECT count(*) FROM quarantine)",
        (source,),
    ).fetchone()
    if of_source >= _ROWS_PER_SOURCE:
        reason = "and other reasons"
    elif rows >= _ROWS:
        source, reason = "others", "and other sources"
    ((times,),) = connection.execute(
        "INSERT INTO quarantine (source, reason, first_at, last_at, times, payload, payload_bytes)"
        " VALUES (?, ?, ?, ?, 1, ?, ?)"
        " ON CONFLICT (source, reason) DO UPDATE SET times = times + 1,"
        " last_at = excluded.last_at RETURNING times",
        (source, reason, at, at, payload[:_PAYLOAD_BYTES], len(payload)),
    ).fetchall()
    return int(times)


def drop(connection: sqlite3.Connection, numbers: Sequence[int] | None) -> int:
    """Forget what was put aside, all of it for None; how many rows that were."""
    return connection.execute(
        "DELETE FROM quarantine WHERE ?1 IS NULL OR no IN (SELECT value FROM json_each(?1))",
        (None if numbers is None else json.dumps(list(numbers)),),
    ).rowcount


def report_aside(
    connection: sqlite3.Connection,
    kind: str,
    *,
    source: str,
    reason: str,
    payload: bytes,
    at: float,
    device_no: int | None,
    **detail: Any,
) -> None:
    """Keep something aside that an operator should know of; a flood makes a handful of incidents.

    The first of its source and reason is an incident, then the 10th, the 100th and so on.
    """
    times = put_aside(connection, source=source, reason=reason, payload=payload, at=at)
    if str(times).strip("0") == "1":
        told = {"source": source[:200], "reason": reason[:300], "times": times, **detail}
        record_incident(connection, kind, at=at, device_no=device_no, **told)


def record_incident(
    connection: sqlite3.Connection, kind: str, *, at: float, device_no: int | None, **detail: Any
) -> None:
    """Keep something that an operator should know; `hq incidents` shows it."""
    cursor = connection.execute(
        "INSERT INTO incident (at, kind, device_no, detail) VALUES (?, ?, ?, ?)",
        (at, kind, device_no, json.dumps(detail, ensure_ascii=False)),
    )
    if device_no is not None:
        connection.execute(SURPLUS_OF_DEVICE, (device_no, kind, _INCIDENTS_OF_A_DEVICE))
    if (cursor.lastrowid or 0) % _COUNT_EVERY == 0:
        connection.execute(SURPLUS, (_INCIDENTS,))


def acknowledge(
    connection: sqlite3.Connection, numbers: Sequence[int] | None, *, at: float, by: str
) -> list[int]:
    """Note that an operator knows of incidents; what goes on is then raised again.

    Args:
        connection: In a write transaction.
        numbers: Which; None for all that nobody has acknowledged.
        at: The present time.
        by: Who knows.

    Returns:
        The numbers of those that were open until now.
    """
    rows = connection.execute(
        "UPDATE incident SET acknowledged_at = ?1, acknowledged_by = ?2"
        " WHERE acknowledged_at IS NULL"
        " AND (?3 IS NULL OR no IN (SELECT value FROM json_each(?3))) RETURNING no",
        (at, by, None if numbers is None else json.dumps(list(numbers))),
    ).fetchall()
    return sorted(no for (no,) in rows)


def is_acknowledged(connection: sqlite3.Connection, kind: str) -> bool:
    """Whether an operator knows of the latest incident of a kind that is no device's."""
    last = connection.execute(LAST_OF_KIND, (None, kind)).fetchone()
    return last is not None and last[1] is not None


def record_standing_incident(
    connection: sqlite3.Connection, kind: str, *, at: float, device_no: int | None, **detail: Any
) -> bool:
    """Record what goes on for long: again only after a day, or once the last was acknowledged."""
    last = connection.execute(LAST_OF_KIND, (device_no, kind)).fetchone()
    # The clock may have been put back since: then "a day later" would be long in coming.
    if last is not None and last[1] is None and abs(at - last[0]) < _AGAIN_SECONDS:
        return False
    record_incident(connection, kind, at=at, device_no=device_no, **detail)
    return True
