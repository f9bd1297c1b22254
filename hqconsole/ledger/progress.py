"""How far the hub surely has published the channel logs."""

import sqlite3

_KEY = "published_no"


def published_no(connection: sqlite3.Connection) -> int:
    """The last record, in the order of writing, that was surely published."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    return int(row[0]) if row else 0


def save_published_no(connection: sqlite3.Connection, no: int) -> None:
    """Remember that; it may only be said of what really went out."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_KEY, no),
    )
