"""What of the ledger the access file shows, and the number that rises with every change of it.

Whoever changes the roster, a device, a bundle or a tool raises the version in the same transaction;
the hub writes the file anew when it sees another version.
"""

import sqlite3

_VERSION = "access_version"


def version(connection: sqlite3.Connection) -> int:
    """The version of what the access file shows."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_VERSION,)).fetchone()
    return int(row[0]) if row else 0


def raise_version(connection: sqlite3.Connection) -> None:
    """Something that the access file shows has changed; durable with the caller's transaction."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, 1)"
        " ON CONFLICT (key) DO UPDATE SET value = value + 1",
        (_VERSION,),
    )
