"""Opens the ledger."""

from pathlib import Path

from buskit.database import (
    MEMORY,
    Database,
    DatabaseForeign,
    DatabaseMissing,
    open_database,
)
from buskit.database_check import Guard
from hqconsole.ledger.schema import APPLICATION_ID, MIGRATIONS

FILE_NAME = "ledger.db"
WHAT = "the ledger"
_KEYS = "keys"
HINT_DAMAGED = (
    "stop the hub and put the newest backup back: hq restore FILE (the damaged ledger is kept "
    "beside it, and what the backup lacks comes back from the stores); without any backup, "
    "copy the folder keys/ into a new home, and there: hq init"
)


_guard = Guard(WHAT, HINT_DAMAGED)
damaged = _guard.damaged
require_sum = _guard.require_sum


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
            raise _guard.gone(error) from error
        raise


def ledger_from_bytes(image: bytes) -> Database:
    """A ledger in memory from an image that `Database.serialize` made."""
    return Database.from_bytes(image, MIGRATIONS, application_id=APPLICATION_ID, what=WHAT)
