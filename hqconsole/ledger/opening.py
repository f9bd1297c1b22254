"""Opens the ledger."""

from pathlib import Path

from buskit.database import MEMORY, Database, open_database
from hqconsole.ledger.schema import APPLICATION_ID, MIGRATIONS

FILE_NAME = "ledger.db"
WHAT = "the ledger"


def open_ledger(home: Path | None, *, create: bool = False) -> Database:
    """Open the ledger of a home, bringing older tables up to date.

    Args:
        home: HQ's home, or None for a ledger in memory (simulations).
        create: Make it if it is not there.

    Raises:
        DatabaseError: It is not there, is newer than this program, or is damaged; with the hint.
    """
    return open_database(
        MEMORY if home is None else home / FILE_NAME,
        MIGRATIONS,
        application_id=APPLICATION_ID,
        create=create,
        what=WHAT,
        hint_create="hq init",
    )


def ledger_from_bytes(image: bytes) -> Database:
    """A ledger in memory from an image that `Database.serialize` made."""
    return Database.from_bytes(image, MIGRATIONS, application_id=APPLICATION_ID, what=WHAT)
