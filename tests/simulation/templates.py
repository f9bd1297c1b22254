"""Empty databases as images, made once: migrating a new one for each world would take longer."""

import functools

from hqconsole.ledger.opening import open_ledger
from storeagent.database import open_agent_database


@functools.cache
def device_image() -> bytes:
    """A device's database with nothing in it."""
    with open_agent_database(":memory:") as database:
        return database.serialize()


@functools.cache
def ledger_image() -> bytes:
    """A ledger with nothing in it."""
    with open_ledger(None, create=True) as ledger:
        return ledger.serialize()
