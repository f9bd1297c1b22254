"""A made-up chain: its home, its roster, a ledger that is open, broker and hub, devices that join.

Owns how such a chain is made. Must not know what is measured on it.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import command, embedded_broker, hub, new_id, output
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


def head_office(home: Path, stores: Sequence[StoreRow]) -> Database:
    """Make a home with this roster. Returns its ledger, which the caller closes."""
    command("hq", "init", "--home", str(home))
    ledger = open_ledger(home)
    with ledger.write() as connection:
        organisation.save_roster(connection, stores, at=time.time(), new_id=new_id)
    return ledger


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain at work: broker and hub run as long as the block of `chain` lasts."""

    folder: Path
    home: Path
    """HQ's."""
    ledger: Database
    port: int
    broker_pid: int
    hub_pid: int

    @property
    def broker(self) -> str:
        """Where the broker is."""
        return f"mqtt://127.0.0.1:{self.port}"

    def join(self, store: str, device: str) -> Path:
        """Let a device in, and make it a home, which is returned."""
        home, bundle = self.folder / f"{store}.{device}", self.folder / f"{store}.{device}.bundle"
        hq = ("--home", str(self.home))
        command("hq", "device", "add", store, device, "-o", str(bundle), *hq)
        command("storeagent", "join", str(bundle), "--home", str(home))
        return home

    def fleet(self, device: str) -> Path:
        """Let a device of this name into every store at once; the file with their keys."""
        keys = self.folder / "fleet.keys"
        hq = ("--home", str(self.home))
        command("hq", "device", "add", "--all", device, "--fleet", str(keys), *hq)
        return keys

    def tool(self, name: str, *reads: str) -> str:
        """Let a program listen; its token."""
        words = [word for one in reads for word in ("--reads", one)]
        said = output("hq", "tool", "add", name, *words, "--home", str(self.home))
        return dict(line.split(maxsplit=1) for line in said.splitlines())["password"].strip()


@contextlib.contextmanager
def chain(folder: Path, stores: Sequence[StoreRow], *, settings: str = "") -> Iterator[Chain]:
    """Run a head office with this roster, and the broker that goes by its access file."""
    home = folder / "hq"
    with contextlib.ExitStack() as stack:
        ledger = head_office(home, stores)
        stack.callback(ledger.close)
        broker = embedded_broker(folder, "--access", str(home / "access.json"))
        port, broker_pid = stack.enter_context(broker)
        command("hq", "init", "--home", str(home), "--broker", f"mqtt://127.0.0.1:{port}")
        with (home / "hq.toml").open("a") as file:
            file.write(settings)
        hub_pid = stack.enter_context(hub(home))
        yield Chain(folder, home, ledger, port, broker_pid, hub_pid)
