"""A simulated chain whose machines lose their power at any write or sync of their databases.

Owns when that happens. What is made of a command that this interrupts is `unanswered`'s.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.disk.databases import FileDisk, FileDisks
from tests.disk.shim import Shim
from tests.disk.unanswered import UnansweredWorld
from tests.simulation.head_office import HeadOffice
from tests.simulation.machine import Machine
from tests.simulation.scenarios import Scenario

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


class PowerWorld(UnansweredWorld):
    """A world whose disks lose power until the faults end."""

    def __init__(self, scenario: Scenario, seed: int, disks: FileDisks) -> None:
        super().__init__(scenario, seed, disks)
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
                    self.adopt_entries(one, lambda _: True)
                else:
                    self.adopt_directives(lambda _: True)

        one.kill = kill_and_look  # type: ignore[method-assign]

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
