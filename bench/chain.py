"""A made-up chain at head office: its home, its roster, and a ledger that is open.

Owns how such a chain is made. Must not know what is measured on it.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from bench.processes import command, new_id
from buskit.database import Database
from hqconsole.ledger import organisation
from hqconsole.ledger.opening import open_ledger
from hqconsole.store_row import StoreRow

ROLES = ("manager", "clerk", "warehouse", "delivery")
STORES_PER_REGION = 500


def roster(stores: int, *, roles: Sequence[str] = ROLES) -> list[StoreRow]:
    """So many stores in regions of 500; with `any`, four roles make five mailboxes a store."""
    return [
        StoreRow(
            store_id=f"S{number:05}",
            name=f"Store {number}",
            region=f"r{number // STORES_PER_REGION}",
            region_name=f"Region {number // STORES_PER_REGION}",
            city="",
            country="",
            timezone="UTC",
            roles=tuple(roles),
            role_names=tuple(roles),
            tags=(),
            extra={},
        )
        for number in range(1, stores + 1)
    ]


def head_office(home: Path, stores: Sequence[StoreRow], *, port: int = 1883) -> Database:
    """Make a home with this roster. Returns its ledger, which the caller closes."""
    broker = f"mqtt://127.0.0.1:{port}"
    command("hq", "init", "--home", str(home), "--broker", broker)
    ledger = open_ledger(home)
    with ledger.write() as connection:
        organisation.save_roster(connection, stores, at=time.time(), new_id=new_id)
    return ledger
