"""A simulated chain whose machines lose their power at any write or sync of their databases.

Owns when that happens, and what of interrupted commands is taken as said: what a command had not
yet reported may be there or not, and if it is, it must stay.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from buswire.states import State
from hqconsole.ledger.directives import Draft
from tests.disk.databases import FileDisk, FileDisks
from tests.disk.shim import Shim
from tests.simulation.disks import Killed
from tests.simulation.head_office import HeadOffice
from tests.simulation.journal import Entry, Statement
from tests.simulation.machine import Machine
from tests.simulation.scenarios import Scenario
from tests.simulation.timeline import Timeline
from tests.simulation.world import World

if TYPE_CHECKING:
    from hqconsole.audience import Selector
    from hqconsole.ledger.directives import Issued

POWER_CUTS = Scenario(
    "power cuts",
    loss=0.03,
    duplication=0.03,
    delay_most_seconds=0.5,
    rates={"cut": 0.03, "broker_restart": 0.01, "power_cut": 1.5},
    trouble_seconds=40.0,
    stores=2,
    devices=(1, 2),
    issue_seconds=2.0,
    say_seconds=0.5,
)
_OPERATIONS_MOST = 25
_PREFIX = "storebus-disk-"


class _Timeline(Timeline):
    """Who dies at a power cut does nothing of what they had in mind."""

    def run_until(self, when: float) -> None:
        while True:
            try:
                super().run_until(when)
            except Killed:
                continue
            return


class PowerWorld(World):
    """A world whose disks lose power until the faults end."""

    def __init__(self, scenario: Scenario, seed: int, disks: FileDisks) -> None:
        self.files = disks
        super().__init__(scenario, seed, disks)
        self.timeline.__class__ = _Timeline
        self._draft: Draft | None = None
        self._issue = self.hq.issue
        self.hq.issue = self._issue_noted  # type: ignore[method-assign]
        self.faults.power_cut = self._power_cut  # type: ignore[attr-defined]
        self._plan_adoption(self.hq)

    def add_machine(self, *arguments: object, **more: object) -> Machine:
        """As in any world; its disk may lose power."""
        machine = super().add_machine(*arguments, **more)  # type: ignore[arg-type]
        self._plan_adoption(machine)
        return machine

    def _plan_adoption(self, one: Machine | HeadOffice) -> None:
        """After a power cut, look for what the command of that moment left."""
        kill, disk = one.kill, one.disk
        assert isinstance(disk, FileDisk)

        def kill_and_look() -> None:
            lost_power, interrupted = disk.lost_power, self.files.command_on is disk
            kill()
            if lost_power and interrupted:
                if isinstance(one, Machine):
                    self._adopt_entries(one)
                else:
                    self._adopt_directives()

        one.kill = kill_and_look  # type: ignore[method-assign]

    def _issue_noted(
        self, draft: Draft, selector: Selector
    ) -> tuple[Issued, frozenset[tuple[str, str]]]:
        self._draft = draft
        return self._issue(draft, selector)

    def _adopt_entries(self, machine: Machine) -> None:
        connection = machine.disk.database.connection
        for id_, kind, data in connection.execute(
            "SELECT id, kind, data FROM act UNION ALL SELECT id, kind, data FROM bulk"
        ).fetchall():
            key = machine.identity, id_.hex()
            if key in self.journal.entries or kind not in {"receipt", "reply", "alert", "report"}:
                continue
            said = json.loads(data)
            if said.get("state") == State.DELIVERED:
                continue
            self.counts["interrupted and done"] += 1
            entry = Entry(*key, kind, self.timeline.now, data)
            self.journal.entries[key] = entry
            if kind == "receipt":
                mailbox = machine.identity.store, said["role"]
                self.journal.statements.append(
                    Statement(entry, said["directive"], mailbox, State(said["state"]))
                )

    def _adopt_directives(self) -> None:
        connection = self.hq.ledger.connection
        for (directive,) in connection.execute("SELECT id FROM directive").fetchall():
            if directive not in self.journal.directives:
                assert self._draft is not None
                self.counts["interrupted and done"] += 1
                audience = connection.execute(
                    "SELECT store.id, role FROM delivery"
                    " JOIN directive ON directive.no = directive_no"
                    " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
                    " WHERE directive.id = ?",
                    (directive,),
                )
                self.journal.directive(directive, self._draft, frozenset(map(tuple, audience)))
        for (directive,) in connection.execute("SELECT directive_id FROM cancel").fetchall():
            if self.journal.directives[directive].cancelled_at is None:
                self.counts["interrupted and done"] += 1
                self.journal.cancelled(directive)

    def _power_cut(self) -> None:
        """Some machine loses power a few changes of its disk from now."""
        random = self.timeline.random
        at_hq = random.random() < 0.4
        disk = self.hq.disk if at_hq else random.choice(self.machines).disk
        assert isinstance(disk, FileDisk)
        disk.cut_power(random.randint(1, random.choice((2, 6, _OPERATIONS_MOST))))


@contextmanager
def watched_folder() -> Iterator[Shim]:
    """A folder below which the shim sees everything, in memory where that can be.

    Within, nobody collects garbage but `FileDisks.close`: inside the hook, SQLite holds a mutex,
    and to finalize a forgotten connection there would wait for it for ever.
    """
    gc.disable()
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() else Path(tempfile.gettempdir())
    for left in where.glob(f"{_PREFIX}*"):  # of a process that was killed
        if not Path(f"/proc/{left.name.removeprefix(_PREFIX).partition('-')[0]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    prefix = f"{_PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=where) as folder:
        shim = Shim(Path(folder))
        try:
            yield shim
        finally:
            shim.close()
            gc.enable()
            shim.check()
