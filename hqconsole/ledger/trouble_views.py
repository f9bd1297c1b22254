"""What the console reads of what went wrong: quarantine and incidents. Reading only."""

import json
import sqlite3
from typing import Any


def quarantine(
    connection: sqlite3.Connection, most: int, *, source: str | None = None
) -> list[dict[str, Any]]:
    """What was put aside, the latest last; only of sources that have this text in them."""
    names = ("no", "source", "reason", "first_at", "last_at", "times", "payload_bytes", "payload")
    rows = connection.execute(
        f"SELECT {', '.join(names)} FROM quarantine WHERE ?2 IS NULL OR instr(source, ?2) > 0"
        " ORDER BY last_at DESC LIMIT ?1",
        (most, source),
    ).fetchall()
    found = [dict(zip(names, row, strict=True)) for row in reversed(rows)]
    for one in found:
        one["payload"] = bytes(one["payload"]).decode("utf-8", "backslashreplace")
    return found


def incidents(
    connection: sqlite3.Connection, kind: str | None, most: int, *, only_open: bool = False
) -> list[dict[str, Any]]:
    """What an operator should know, the latest last.

    Args:
        connection: Reads the ledger.
        kind: Only this kind.
        most: At most so many, the latest.
        only_open: Without those that were acknowledged.
    """
    rows = connection.execute(
        "SELECT incident.no, at, kind, store.id, device.name, detail, acknowledged_at,"
        " acknowledged_by FROM incident"
        " LEFT JOIN device ON device.no = device_no LEFT JOIN store ON store.no = store_no"
        " WHERE (?1 IS NULL OR kind = ?1) AND (NOT ?3 OR acknowledged_at IS NULL)"
        " ORDER BY incident.no DESC LIMIT ?2",
        (kind, most, only_open),
    ).fetchall()
    names = ("no", "at", "kind", "store", "device", "detail", "acknowledged_at", "acknowledged_by")
    found = [dict(zip(names, row, strict=True)) for row in reversed(rows)]
    for one in found:
        one["detail"] = json.loads(one["detail"])
    return found
