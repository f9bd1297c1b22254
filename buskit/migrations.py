"""Steps that bring a database from nothing to the present tables, each all or nothing.

Owns how one step is run inside the transaction that its caller opened. Must not know any table.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite_utils


@dataclass(frozen=True)
class Migration:
    """One step from an empty database to the present one. Once released it is never changed.

    Attributes:
        name: What it is for, as it appears in errors.
        step: SQL text of any number of statements, or a callable that is given a
            `sqlite_utils.Database`. SQL is preferred for what a short command may have to run:
            importing sqlite_utils costs more than 100 ms. Neither may begin or end a transaction.
    """

    name: str
    step: "str | Callable[[sqlite_utils.Database], object]"


def apply_migration(connection: sqlite3.Connection, migration: Migration) -> None:
    """Run one migration inside the open transaction, which it must leave open."""

    def forbid_transactions(action: int, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK

    connection.set_authorizer(forbid_transactions)
    try:
        if isinstance(migration.step, str):
            for statement in _statements(migration.step):
                connection.execute(statement)
        else:
            import sqlite_utils  # noqa: PLC0415 - costs more than 100 ms, needed by some migrations

            migration.step(sqlite_utils.Database(connection))
    except sqlite3.DatabaseError as error:
        error.add_note(f"in migration {migration.name!r}")
        raise
    finally:
        connection.set_authorizer(None)


def _statements(script: str) -> Iterator[str]:
    """Split SQL text at the semicolons that end a statement (not those in strings or triggers)."""
    pending = ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            if pending.strip(" \t\r\n;"):
                yield pending
            pending = ""
    if pending.strip(" \t\r\n;"):
        yield pending
