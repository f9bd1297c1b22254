"""Opens the ledger."""

from pathlib import Path

from buskit.database import (
    MEMORY,
    Database,
    DatabaseDamaged,
    DatabaseForeign,
    DatabaseMissing,
    open_database,
)
from buskit.row_sums import row_sum
from hqconsole.ledger.schema import APPLICATION_ID, MIGRATIONS

FILE_NAME = "ledger.db"
WHAT = "the ledger"
_KEYS = "keys"
HINT_DAMAGED = (
    "stop the hub and put the newest backup back: hq restore FILE (the damaged ledger is kept "
    "beside it, and what the backup lacks comes back from the stores); without any backup, "
    "copy the folder keys/ into a new home, and there: hq init"
)


def damaged(how: str) -> DatabaseDamaged:
    """Make the error that says so, for whoever found it in a row."""
    return DatabaseDamaged(f"{WHAT} is damaged: {how}", hint=HINT_DAMAGED)


def require_sum(table: str, found: object, *values: object) -> None:
    """Make sure that a row is as it was written.

    Args:
        table: Whose row it is.
        found: Its sum.
        values: Its other columns, in the order of the table.

    Raises:
        DatabaseDamaged: It is not.
    """
    if row_sum(*values) != found:
        raise damaged(f"a row of its table {table} is not as it was written")


def open_ledger(home: Path | None, *, create: bool = False) -> Database:
    """Open the ledger of a home, bringing older tables up to date.

    Args:
        home: HQ's home, or None for a ledger in memory (simulations).
        create: Make it if it is not there.

    Raises:
        DatabaseError: It is not there, is newer than this program, or is damaged; with the hint.
    """
    try:
        return open_database(
            MEMORY if home is None else home / FILE_NAME,
            MIGRATIONS,
            application_id=APPLICATION_ID,
            create=create,
            what=WHAT,
            hint_create="hq init",
            hint_damaged=HINT_DAMAGED,
        )
    except (DatabaseMissing, DatabaseForeign) as error:
        if home is not None and (home / _KEYS).is_dir():  # which `hq init` makes behind the ledger
            gone = isinstance(error, DatabaseMissing)
            how = "there is nothing left of it" if gone else "it cannot be recognized any more"
            raise damaged(how) from error
        raise


def ledger_from_bytes(image: bytes) -> Database:
    """A ledger in memory from an image that `Database.serialize` made."""
    return Database.from_bytes(image, MIGRATIONS, application_id=APPLICATION_ID, what=WHAT)
