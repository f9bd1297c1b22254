"""Directives that stores speak of and this ledger does not know: who is asked to send them up.

That happens when the ledger was put back from an older copy. What was said of such a directive
waits (`waiting`), and one device at a time is asked for its copy (`asked`): a chain of 25,000
stores does not send the same text 25,000 times.
"""

import sqlite3

from buswire.topics import Identity

ASK_AGAIN_SECONDS = 60.0
"""Who has not sent it by then may not have it: the next one is asked."""


def ask(connection: sqlite3.Connection, directive_id: str, device_no: int, *, at: float) -> bool:
    """Whether this device is the one to send a forgotten directive up; one is asked at a time."""
    row = connection.execute(
        "SELECT device_no, asked_at FROM asked WHERE directive_id = ?", (directive_id,)
    ).fetchone()
    if row is not None and at - row[1] < ASK_AGAIN_SECONDS:
        return bool(row[0] == device_no)
    connection.execute(
        "INSERT INTO asked (directive_id, device_no, asked_at, first_asked_at)"
        " VALUES (?1, ?2, ?3, ?3) ON CONFLICT (directive_id)"
        " DO UPDATE SET device_no = ?2, asked_at = ?3",
        (directive_id, device_no, at),
    )
    return True


def wanted_of(connection: sqlite3.Connection, device_no: int, *, most: int, at: float) -> list[str]:
    """Directives that HQ does not know and this device spoke of, as far as it is its turn."""
    ids = [
        directive_id
        for (directive_id,) in connection.execute(
            "SELECT DISTINCT directive_id FROM waiting WHERE device_no = ? LIMIT ?",
            (device_no, most),
        )
    ]
    return [directive_id for directive_id in ids if ask(connection, directive_id, device_no, at=at)]


def any_waiting(connection: sqlite3.Connection) -> bool:
    """Whether anything waits for a directive that HQ does not know."""
    return connection.execute("SELECT 1 FROM waiting LIMIT 1").fetchone() is not None


def next_to_ask(
    connection: sqlite3.Connection, *, at: float, most: int
) -> list[tuple[str, int, Identity]]:
    """Forgotten directives that nobody is asked for at present, each with a device to ask.

    Only devices that are there; another one than last time, where there is another.
    """
    return [
        (directive_id, device_no, Identity(store_id, name))
        for directive_id, device_no, store_id, name, _ in connection.execute(
            # SQLite takes the other columns from the row that has the max.
            "SELECT waiting.directive_id, waiting.device_no, store.id, device.name,"
            " max(waiting.device_no <> coalesce(asked.device_no, 0)) FROM waiting"
            " JOIN device ON device.no = waiting.device_no AND device.online = 1"
            " JOIN store ON store.no = device.store_no"
            " LEFT JOIN asked ON asked.directive_id = waiting.directive_id"
            " WHERE asked.asked_at IS NULL OR asked.asked_at <= ?"
            " GROUP BY waiting.directive_id LIMIT ?",
            (at - ASK_AGAIN_SECONDS, most),
        ).fetchall()
    ]
