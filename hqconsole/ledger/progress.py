"""How far the hub surely has published the channel logs, and what time it was then."""

import sqlite3

_KEY = "published_no"
_CLOCK = "clock_at"


def published_no(connection: sqlite3.Connection) -> int:
    """The last record, in the order of writing, that was surely published."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    return int(row[0]) if row else 0


def save_published_no(connection: sqlite3.Connection, no: int) -> None:
    """Remember that; it may only be said of what really went out."""
    _save(connection, _KEY, no)


def clock_at(connection: sqlite3.Connection) -> float | None:
    """What time it was when the hub last looked, in Unix seconds; None if it never did."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_CLOCK,)).fetchone()
    return float(row[0]) if row else None


def save_clock_at(connection: sqlite3.Connection, at: float) -> None:
    """Remember what time it is."""
    _save(connection, _CLOCK, at)


def _save(connection: sqlite3.Connection, key: str, value: float) -> None:
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )
