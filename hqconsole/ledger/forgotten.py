"""Directives that stores speak of and this ledger does not know: who is asked to send them up.

That happens when the ledger was put back from an older copy. What was said of such a directive
waits (`waiting`), and one device at a time is asked for its copy (`asked`): a chain of 25,000
stores does not send the same text 25,000 times.
"""

import sqlite3

from buswire.topics import Identity

ASKED_MOST = 5000
"""So many directives are remembered of which devices alone say that there were such."""
STALE_SECONDS = 3600.0
ASK_AGAIN_SECONDS = 60.0
"""Who has not sent it by then may not have it: the next one is asked."""


def ask(
    connection: sqlite3.Connection,
    directive_id: str,
    device_no: int,
    *,
    at: float,
    most: int | None = None,
) -> bool:
    """Whether this device is the one to send a forgotten directive up; one is asked at a time.

    Args:
        connection: In a write transaction.
        directive_id: What is forgotten.
        device_no: Who may have it.
        at: The present time.
        most: With so many under way nothing more is remembered, and whoever may have it is asked:
            nobody but the device says that there ever was such a directive.
    """
    row = connection.execute(
        "SELECT device_no, asked_at FROM asked WHERE directive_id = ?", (directive_id,)
    ).fetchone()
    if row is not None and at - row[1] < ASK_AGAIN_SECONDS:
        return bool(row[0] == device_no)
    if row is None and most is not None:
        (count,) = connection.execute("SELECT count(*) FROM asked").fetchone()
        if count >= most:
            return True
    connection.execute(
        "INSERT INTO asked (directive_id, device_no, asked_at, first_asked_at)"
        " VALUES (?1, ?2, ?3, ?3) ON CONFLICT (directive_id)"
        " DO UPDATE SET device_no = ?2, asked_at = ?3",
        (directive_id, device_no, at),
    )
    return True


def any_stale(connection: sqlite3.Connection, *, before_at: float) -> bool:
    """Whether `forget_stale` would find something."""
    return (
        connection.execute(
            "SELECT 1 FROM asked WHERE asked_at < ? LIMIT 1", (before_at,)
        ).fetchone()
        is not None
    )


def forget_stale(connection: sqlite3.Connection, *, before_at: float) -> None:
    """Forget what nobody has spoken of since then: whoever does is asked anew."""
    connection.execute("DELETE FROM asked WHERE asked_at < ?", (before_at,))


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
