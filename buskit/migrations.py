"""Steps that bring a database from nothing to the present tables, each all or nothing.

Owns how one step is run inside the transaction that its caller opened. Must not know any table.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buskit.row_sums import SUM, row_sum

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
        sums: Tables with sums (`row_sums`) that the step has given other columns or other rows.
    """

    name: str
    step: "str | Callable[[sqlite_utils.Database], object]"
    sums: tuple[str, ...] = ()


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
        for table in migration.sums:
            _sum_up(connection, table)
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


def columns_under_sum(connection: sqlite3.Connection, table: str) -> list[str]:
    """The columns that a table's sums are over, in their order; none where it has no sums."""
    columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
    return [name for name in columns if name != SUM] if SUM in columns else []


def _sum_up(connection: sqlite3.Connection, table: str) -> None:
    columns, key = columns_under_sum(connection, table), _key(connection, table)
    places = [columns.index(name) for name in key]
    where = " AND ".join(f"{name} = ?" for name in key)
    rows = connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
    connection.executemany(
        f"UPDATE {table} SET {SUM} = ? WHERE {where}",
        [(row_sum(*row), *(row[place] for place in places)) for row in rows],
    )


def _key(connection: sqlite3.Connection, table: str) -> list[str]:
    rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return [str(row[1]) for row in sorted(rows, key=lambda row: int(row[5])) if row[5]]
