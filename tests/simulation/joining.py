"""Who is let in: operators add devices, devices join, and come again when their key is void.

Joining itself is a talk over the bus that has tests of its own; here it is done at once, in the
ledger and on the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hqconsole.errors import HqError
from tests.simulation.machine import Joined, Machine

if TYPE_CHECKING:
    from tests.simulation.world import World


class Joining:
    """Bundles made and used."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ended = False

    def join(self, machine: Machine) -> None:
        """The machine joins with a key that it draws; later, if its store is not in the roster."""
        world = self.world
        if machine.gone:
            return
        key = world.seeds.key()
        there = world.roles_in_ledger(machine.identity.store) or ()
        again = world.journal.joinings[machine.identity] > 0
        roles = () if again else [role for role in machine.roles if role in there]
        try:
            world.hq.let_in(machine.identity, key.public, roles)
        except HqError:
            if not self.ended:
                again_in = world.timeline.between(1.0, 5.0)
                world.timeline.after(again_in, lambda: self._join_if_need_be(machine))
            return
        world.journal.joinings[machine.identity] += 1
        world.oracle.forget_runs(machine.identity)
        machine.join(Joined(key, world.keys.trusted()))

    def _join_if_need_be(self, machine: Machine) -> None:
        if machine in self.world.machines and not self._counts(machine):
            self.join(machine)

    def _counts(self, machine: Machine) -> bool:
        key = self.world.hq.key_of(machine.identity)
        return machine.joined is not None and machine.joined.key.id == key

    def put_right(self) -> None:
        """Every machine whose key HQ does not take joins anew; of a clone, the machine itself."""
        seen = set()
        for machine in list(self.world.machines):
            if machine.identity not in seen:
                self._join_if_need_be(machine)
            seen.add(machine.identity)

    def put_right_later(self) -> None:
        """Operators see that devices are refused, some time after it began."""
        timeline = self.world.timeline
        # Also when the faults have ended: a clone may be taken away after that.
        timeline.after(timeline.between(0.5, 10.0), self.put_right)
