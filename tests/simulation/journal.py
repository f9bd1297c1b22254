"""What was accepted, written down outside both sides; and what died with which disk.

An entry is alive as long as it is in the ledger or in the outbox of a machine of its identity; a
directive, or a withdrawal, as long as the ledger or any device has it. What is alive when the
faults end must be at HQ when all is quiet. What is not has died with a disk, and is counted.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from buswire.states import State
from buswire.topics import Identity

if TYPE_CHECKING:
    from hqconsole.ledger.directives import Draft
    from storeagent.inbox import Delivery
    from tests.simulation.machine import Machine
    from tests.simulation.world import World


@dataclass
class Entry:
    """One accepted record of a device's outbox."""

    identity: Identity
    id: str
    kind: str
    at: float
    data: bytes
    died: bool = False


@dataclass
class Statement:
    """What staff said about a delivery; its entry carries it."""

    entry: Entry
    directive: str
    mailbox: tuple[str, str]
    state: State


@dataclass
class Issue:
    """One directive as it was issued."""

    id: str
    draft: Draft
    audience: frozenset[tuple[str, str]]
    at: float
    died: bool = False
    forgotten: bool = False
    """Some ledger came back without it, so that its audience may have been put together anew."""
    cancelled_at: float | None = None
    cancel_died: bool = False


class Wipe(NamedTuple):
    """An empty disk, and what HQ had heard of and did not have at that moment."""

    identity: Identity
    at: float
    heard_of: frozenset[str]


class _OneDisk(NamedTuple):
    identity: Identity
    number: int


class _Alive(NamedTuple):
    entries: set[tuple[Identity, str]]
    directives: set[str]
    cancels: set[str]


_DIRECTIVES = "SELECT id FROM directive"


class Journal:
    """The oracle's memory."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directives: dict[str, Issue] = {}
        self.entries: dict[tuple[Identity, str], Entry] = {}
        self.statements: list[Statement] = []
        self.wipes: list[Wipe] = []
        self.ledgers_put_back = 0
        self.lost_disks: set[Identity] = set()
        self.joinings: Counter[Identity] = Counter()
        """How often each device joined."""
        self.cloned: set[Identity] = set()
        self.put_back_whole: Counter[Identity] = Counter()
        self.vanished: list[str] = []
        """What was accepted and then on no disk, though no disk was lost."""

    def directive(self, directive: str, draft: Draft, audience: frozenset[tuple[str, str]]) -> None:
        """HQ accepted a directive."""
        self.directives[directive] = Issue(directive, draft, audience, self.world.timeline.now)

    def cancelled(self, directive: str) -> None:
        """HQ accepted that it is withdrawn."""
        issue = self.directives[directive]
        issue.cancelled_at = self.world.timeline.now
        issue.cancel_died = False

    def entry(self, machine: Machine, record_id: str, kind: str) -> Entry:
        """A device accepted an entry."""
        key = (machine.identity, record_id)
        if key not in self.entries:
            (data,) = machine.disk.database.connection.execute(
                "SELECT data FROM act WHERE id = ?1 UNION SELECT data FROM bulk WHERE id = ?1",
                (bytes.fromhex(record_id),),
            ).fetchone()
            now = self.world.timeline.now
            self.entries[key] = Entry(machine.identity, record_id, kind, now, data)
        return self.entries[key]

    def statement(self, machine: Machine, record_id: str, delivery: Delivery, state: State) -> None:
        """A device accepted a statement about work."""
        entry = self.entry(machine, record_id, "receipt")
        mailbox = (machine.identity.store, delivery.role)
        self.statements.append(Statement(entry, delivery.directive, mailbox, state))

    def wiped(self, machine: Machine) -> None:
        """A device is about to get an empty disk: what has HQ heard of and does not have?"""
        first_disk = machine.identity not in self.lost_disks
        if not first_disk or len(self.world.machines_of(machine.identity)) > 1:
            return  # the numbers that HQ heard may be those of another disk
        disk = machine.disk.database.connection
        heard_of: set[str] = set()
        for log, seq, id_, heard_head in self.world.hq.ledger.connection.execute(
            "SELECT log, uplink.seq, uplink.id, heard_head FROM uplink"
            " JOIN device ON device.no = device_no JOIN store ON store.no = store_no"
            " WHERE store.id = ? AND device.name = ? AND install <> ''",
            machine.identity,
        ):
            heard_of |= {
                row[0].hex()
                for row in disk.execute(
                    f"SELECT id FROM {log} WHERE position > coalesce("
                    f"(SELECT position FROM {log} WHERE id = ?), 0) ORDER BY position LIMIT ?",
                    (bytes.fromhex(id_), heard_head - seq),
                )
            }
        if heard_of:
            now = self.world.timeline.now
            self.wipes.append(Wipe(machine.identity, now, frozenset(heard_of)))

    @contextlib.contextmanager
    def disks_change(self) -> Iterator[None]:
        """Around the replacing or the end of a disk: what only that disk had dies with it."""
        ledger = self.world.hq.ledger
        before, disks = self._alive(), self._disks()
        yield
        after = self._alive()
        self.lost_disks |= {one.identity for one in disks if one not in self._disks()}
        for key, entry in self.entries.items():
            if not entry.died and key not in before.entries:
                self.vanished.append(f"{entry.kind} {entry.id[:6]} of {entry.identity} vanished")
            entry.died = key not in after.entries
            if entry.died and entry.identity not in self.lost_disks:
                self.vanished.append(f"{entry.kind} {entry.id[:6]} is not on its device any more")
        for issue in self.directives.values():
            if not issue.died and issue.id not in before.directives:
                self.vanished.append(f"directive {issue.id[:6]} vanished")
            issue.died = issue.id not in after.directives
            issue.cancel_died = issue.cancelled_at is not None and issue.id not in after.cancels
        if self.world.hq.ledger is not ledger:
            self.ledgers_put_back += 1
            self.world.oracle.forget_runs()
            known = {row[0] for row in self.world.hq.ledger.connection.execute(_DIRECTIVES)}
            for issue in self.directives.values():
                issue.forgotten = issue.forgotten or issue.id not in known

    def _disks(self) -> set[_OneDisk]:
        return {_OneDisk(one.identity, id(one.disk)) for one in self.world.machines}

    def _alive(self) -> _Alive:
        ledger = self.world.hq.ledger.connection
        entries = {
            (Identity(store, device), id_.hex())
            for store, device, id_ in ledger.execute(
                "SELECT store.id, device.name, arrival.id FROM arrival"
                " JOIN device ON device.no = device_no JOIN store ON store.no = store_no"
            )
        }
        directives = {row[0] for row in ledger.execute(_DIRECTIVES)}
        cancels = {row[0] for row in ledger.execute("SELECT directive_id FROM cancel")}
        for machine in self.world.machines:
            disk = machine.disk.database.connection
            entries.update(
                (machine.identity, id_.hex())
                for (id_,) in disk.execute("SELECT id FROM act UNION ALL SELECT id FROM bulk")
            )
            directives.update(row[0] for row in disk.execute(_DIRECTIVES))
            cancels.update(row[0] for row in disk.execute("SELECT directive FROM cancel"))
        return _Alive(entries, directives, cancels)

    def died(self) -> dict[str, int]:
        """How much died with disks, by what it was."""
        return {
            "entries died with a disk": sum(entry.died for entry in self.entries.values()),
            "directives died with a disk": sum(one.died for one in self.directives.values()),
            "withdrawals died with a disk": sum(
                one.cancel_died for one in self.directives.values()
            ),
        }
