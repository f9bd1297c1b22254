"""What the console reads of what went wrong: quarantine and incidents. Reading only."""

import json
import sqlite3
from typing import Any


def quarantine(connection: sqlite3.Connection, most: int) -> list[dict[str, Any]]:
    """What was put aside, the latest last."""
    names = ("no", "source", "reason", "first_at", "last_at", "times", "payload_bytes", "payload")
    rows = connection.execute(
        f"SELECT {', '.join(names)} FROM quarantine ORDER BY last_at DESC LIMIT ?", (most,)
    ).fetchall()
    found = [dict(zip(names, row, strict=True)) for row in reversed(rows)]
    for one in found:
        one["payload"] = bytes(one["payload"]).decode("utf-8", "backslashreplace")
    return found


def incidents(connection: sqlite3.Connection, kind: str | None, most: int) -> list[dict[str, Any]]:
    """What an operator should know, the latest last."""
    rows = connection.execute(
        "SELECT incident.no, at, kind, store.id, device.name, detail FROM incident"
        " LEFT JOIN device ON device.no = device_no LEFT JOIN store ON store.no = store_no"
        " WHERE ?1 IS NULL OR kind = ?1 ORDER BY incident.no DESC LIMIT ?2",
        (kind, most),
    ).fetchall()
    names = ("no", "at", "kind", "store", "device", "detail")
    found = [dict(zip(names, row, strict=True)) for row in reversed(rows)]
    for one in found:
        one["detail"] = json.loads(one["detail"])
    return found
