"""Whether a database file is still what was written into it.

Owns the looking, and the words for what was found. Must not know any table: which ones there are
is what the migrations make, and a column called `sum` is the sum of the others of its row
(`row_sums`).
"""

import re
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from buskit.database_errors import DatabaseDamaged, DatabaseForeign, DatabaseMissing
from buskit.migrations import Migration, apply_migration, columns_under_sum
from buskit.row_sums import SUM, row_sum
from buswire.phrases import phrase

_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"


@dataclass(frozen=True)
class Guard:
    """Says of one kind of database what is damaged in it.

    Attributes:
        what: What it is called towards people, such as "the ledger".
        hint: The command that mends it.
    """

    what: str
    hint: str

    def damaged(self, how: str) -> DatabaseDamaged:
        """Make the error that says so, for whoever found it in a row."""
        said = phrase("{what} is damaged: {cause}", what=self.what, cause=how)
        return DatabaseDamaged(said, hint=self.hint)

    def gone(self, error: DatabaseMissing | DatabaseForeign) -> DatabaseDamaged:
        """Make the error that says so of a file that must have been there."""
        if isinstance(error, DatabaseMissing):
            return self.damaged("there is nothing left of it")
        return self.damaged("it cannot be recognized any more")

    def require_sum(self, table: str, found: object, *values: object) -> None:
        """Make sure that a row is as it was written.

        Args:
            table: Whose row it is.
            found: Its sum.
            values: Its other columns, in the order of the table.

        Raises:
            DatabaseDamaged: It is not.
        """
        if row_sum(*values) != found:
            raise self.damaged(f"a row of its table {table} is not as it was written")


def first_damage(
    connection: sqlite3.Connection, migrations: Sequence[Migration], but_sums_of: Collection[str]
) -> str:
    """What does not fit, in words; empty if all does.

    Raises:
        sqlite3.Error: It cannot even be looked at.
    """
    expected = _expected_schema(migrations)
    if _schema(connection) != expected:
        return "its tables are not those of this program"
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
    if found != ["ok"]:
        _refuse_unread(found)
        return "; ".join(" ".join(one.split()) for one in found)[:500]
    for kind, table, _, _ in expected:
        if kind == "table" and table not in but_sums_of:
            columns = columns_under_sum(connection, table)
            wrong = _rows_that_do_not_fit(connection, table, columns) if columns else 0
            if wrong:
                return f"{wrong} rows of its table {table} are not as they were written"
    return ""


def _refuse_unread(found: Sequence[str]) -> None:
    """Raise where the check speaks of pages that the disk did not give: that is no damage."""
    for code in map(int, re.findall(r"error code=(\d+)", " ".join(found))):
        if code & 0xFF == sqlite3.SQLITE_IOERR:
            error = sqlite3.OperationalError(f"a page cannot be read (error code {code})")
            error.sqlite_errorcode = code
            raise error


def has_tables_of(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> bool:
    """Whether all tables are as these migrations make them.

    Raises:
        sqlite3.Error: They cannot even be looked at.
    """
    return _schema(connection) == _expected_schema(migrations)


def _rows_that_do_not_fit(
    connection: sqlite3.Connection, table: str, columns: Sequence[str]
) -> int:
    rows = connection.execute(f"SELECT {', '.join(columns)}, {SUM} FROM {table}")
    return sum(row_sum(*row[:-1]) != row[-1] for row in rows)


def _expected_schema(migrations: Sequence[Migration]) -> list[tuple[str, ...]]:
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for migration in migrations:
            fresh.execute("BEGIN")
            apply_migration(fresh, migration)
            fresh.execute("COMMIT")
        return _schema(fresh)
    finally:
        fresh.close()


def _schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return [tuple(row) for row in connection.execute(_SCHEMA)]
