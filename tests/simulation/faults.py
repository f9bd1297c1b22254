"""What goes wrong, each kind a method, at random times; and how it all ends.

Each method counts what really happened: a fault that finds nothing to break is not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from buswire.topics import Identity
from hqconsole.audience import Selector
from hqconsole.errors import HqError
from tests.simulation.captured import CapturedBroker
from tests.simulation.machine import Home, Machine
from tests.simulation.people import REGIONS, ROLES, make_store
from tests.simulation.templates import device_image

if TYPE_CHECKING:
    from tests.simulation.world import World

_MOST_STORES = 6
_MOST_DEVICES = 3


class Faults:
    """Strikes a world at the scenario's rates until it is told to end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._ended = False
        self._images: dict[Identity, list[Home]] = {}
        self._ledgers: list[bytes] = []

    def begin(self) -> None:
        """Plan the first of each kind."""
        scenario = self.world.scenario
        weather = self.world.network.weather
        weather.loss = scenario.loss
        weather.duplication = scenario.duplication
        weather.delay_most_seconds = scenario.delay_most_seconds
        if scenario.captured:
            self.world.captured = CapturedBroker(self.world)
        for name, rate in scenario.rates.items():
            here = self if hasattr(self, name) else self.world.captured
            self._plan(getattr(here, name), rate)

    def end(self) -> None:
        """No fault any more: good weather, power and network everywhere, everybody back."""
        self._ended = True
        world = self.world
        world.network.weather.loss = world.network.weather.duplication = 0.0
        world.network.weather.delay_most_seconds = 0.1
        if not world.network.up:
            world.network.start()
        if world.captured is not None:
            world.captured.end()
        world.hq.disk.be_well()
        world.closed.clear()
        world.keepers.save()
        world.joining.ended = True
        world.joining.put_right()
        for machine in world.machines:
            machine.disk.be_well()
            if not machine.gone:
                machine.in_network = True
                machine.start()
        world.hq.start()
        world.hq.ring()

    def _plan(self, strike: Callable[[], None], rate: float) -> None:
        timeline = self.world.timeline

        def act() -> None:
            if not self._ended:
                strike()
                self._plan(strike, rate)

        timeline.after(timeline.random.expovariate(rate), act)

    def _later(self, least: float, most: float, do: Callable[[], object]) -> None:
        """Do this some time later, unless all faults have ended by then."""
        timeline = self.world.timeline
        timeline.after(timeline.between(least, most), lambda: None if self._ended else do())

    def _machine(self, fits: Callable[[Machine], bool]) -> Machine | None:
        machines = [one for one in self.world.machines if not one.gone and fits(one)]
        return self.world.timeline.random.choice(machines) if machines else None

    # --- wires -----------------------------------------------------------------------------------

    def cut(self) -> None:
        """One link breaks."""
        sessions = self.world.network.sessions
        if sessions:
            self.world.counts["links cut"] += 1
            sessions[self.world.timeline.random.choice(sorted(sessions))].cut()

    def unplug(self) -> None:
        """One store's machine has no network for a while."""
        machine = self._machine(lambda one: one.in_network)
        if machine is not None:
            self.world.counts["devices unplugged"] += 1
            machine.set_network(there=False)
            self._later(2.0, 30.0, lambda: machine.set_network(there=True))

    def broker_restart(self) -> None:
        """The broker is killed and comes back with nothing."""
        network = self.world.network
        if network.up:
            self.world.counts["broker restarts"] += 1
            network.stop()
            self._later(0.1, 5.0, network.start)

    # --- head office -----------------------------------------------------------------------------

    def hub_killed(self) -> None:
        """The hub dies before or behind its next commit."""
        if self.world.hq.desk is not None:
            self.world.hq.kill_soon(before_commit=self.world.timeline.chance(0.5))

    def ledger_copied(self) -> None:
        """A backup is made."""
        self._ledgers.append(self.world.hq.ledger.serialize())
        del self._ledgers[:-4]

    def ledger_put_back(self) -> None:
        """The ledger becomes an older copy; sometimes not even the hub's run id tells."""
        world = self.world
        if not self._ledgers:
            return
        run = None if world.hq.desk is None else world.hq.desk.run
        unnoticed = run is not None and world.timeline.chance(0.5)
        world.counts[f"ledger put back, {'unnoticed' if unnoticed else 'a new run'}"] += 1
        world.hq.kill()
        with world.journal.disks_change():
            world.hq.put_back(world.timeline.random.choice(self._ledgers))
        if unnoticed:
            world.hq.start(run=run)
        else:
            world.timeline.after(world.timeline.between(0.1, 4.0), world.hq.start)
        world.joining.put_right_later()

    # --- keys ------------------------------------------------------------------------------------

    def key_rotated(self) -> None:
        """HQ goes on with another key, after an overlap."""
        world = self.world
        if world.keys.may_rotate():
            world.counts["HQ keys rotated"] += 1
            world.keys.rotate(world.timeline.between(0.5, 4.0))
            world.hq.keys_changed()

    def keys_lost(self) -> None:
        """HQ's keys are lost: it begins anew with the recovery key."""
        self.world.counts["HQ keys lost"] += 1
        self.world.keys.recover(stolen=False)
        self.world.hq.keys_changed()

    def keys_stolen(self) -> None:
        """Somebody else has HQ's keys, and HQ has noticed: what they sealed counts no longer."""
        self.world.counts["HQ keys stolen"] += 1
        self.world.keys.recover(stolen=True)
        self.world.hq.keys_changed()

    def revoked(self) -> None:
        """A device is revoked, and joins again some time later."""
        world = self.world
        machine = self._machine(lambda one: one.joined is not None)
        if machine is None:
            return
        try:
            world.hq.put_out(machine.identity)
        except HqError:
            return  # the ledger is from before it joined
        world.counts["devices revoked"] += 1
        if machine.session is not None:
            machine.session.cut()
        world.joining.put_right_later()

    # --- devices ---------------------------------------------------------------------------------

    def device_killed(self) -> None:
        """An agent dies before or behind its next commit."""
        machine = self._machine(lambda one: one.core is not None)
        if machine is not None:
            machine.kill_soon(before_commit=self.world.timeline.chance(0.5))

    def disk_full(self) -> None:
        """A device's next commit finds no room."""
        machine = self._machine(lambda one: one.core is not None)
        if machine is not None:
            machine.disk.be_full()

    def power_off(self) -> None:
        """A machine is without power for a while."""
        machine = self._machine(lambda one: one.powered)
        if machine is not None:
            self.world.counts["devices without power"] += 1
            machine.powered = False
            machine.kill()
            self._later(1.0, 30.0, machine.start)

    def stopped(self) -> None:
        """An agent is stopped properly, for a moment."""
        machine = self._machine(lambda one: one.core is not None)
        if machine is not None:
            self.world.counts["devices stopped"] += 1
            machine.stop()
            self._later(0.1, 5.0, machine.start)

    def image_taken(self) -> None:
        """Somebody copies a device's disk."""
        machine = self._machine(lambda one: True)
        if machine is not None:
            images = self._images.setdefault(machine.identity, [])
            images.append(machine.home())
            del images[:-3]

    def wiped(self) -> None:
        """A device gets an empty disk; sometimes its key is saved from the old one."""
        machine = self._machine(lambda one: True)
        if machine is not None:
            self.world.counts["devices wiped"] += 1
            self.world.journal.wiped(machine)
            saved = machine.joined if self.world.timeline.chance(0.5) else None
            self._new_disk(machine, Home(device_image(), saved))

    def put_back(self) -> None:
        """A device gets an older copy of its own disk."""
        machine = self._machine(lambda one: one.identity in self._images)
        if machine is not None:
            self.world.counts["devices put back"] += 1
            self._new_disk(
                machine, self.world.timeline.random.choice(self._images[machine.identity])
            )

    def put_back_whole(self) -> None:
        """A virtual machine goes on where it was when its image was taken, with its agent."""
        machine = self._machine(lambda one: one.identity in self._images)
        if machine is None:
            return
        home = self.world.timeline.random.choice(self._images[machine.identity])
        if home.process is None or home.joined is None:
            return
        self.world.counts["devices put back whole"] += 1
        self.world.journal.put_back_whole[machine.identity] += 1
        self._new_disk(machine, home)
        machine.start(replace(home.process))

    def _new_disk(self, machine: Machine, home: Home) -> None:
        machine.kill()
        with self.world.journal.disks_change():
            machine.put_in_disk(home)
        self.world.joining.put_right_later()
        if machine.powered:
            self._later(0.1, 5.0, machine.start)

    def cloned(self) -> None:
        """A copy of a machine runs beside it for a while, under the same identity."""
        world = self.world
        machine = self._machine(
            lambda one: one.core is not None and len(world.machines_of(one.identity)) == 1
        )
        if machine is None:
            return
        world.counts["devices cloned"] += 1
        clone = world.add_machine(machine.identity, home=machine.home(), roles=machine.roles)
        clone.clock_offset_seconds = machine.clock_offset_seconds
        world.journal.cloned.add(machine.identity)
        clone.start()
        timeline = world.timeline
        doomed = timeline.random.choice((machine, clone))

        def take_away() -> None:
            doomed.gone = True
            doomed.powered = False
            doomed.kill()
            with world.journal.disks_change():
                world.machines.remove(doomed)
            world.joining.put_right_later()

        timeline.after(timeline.between(2.0, 15.0), take_away)

    # --- the roster ------------------------------------------------------------------------------

    def _store(self) -> str:
        return self.world.timeline.random.choice(list(self.world.roster))

    def _move(self, store: str) -> None:
        here = self.world.roster[store].region
        there = next(region for region in REGIONS if region != here)
        self.world.keepers.change(store, region=there)

    def moved(self) -> None:
        """A store goes to the other region."""
        self.world.counts["stores moved"] += 1
        self._move(self._store())

    def moved_there_and_back(self) -> None:
        """A store goes to the other region and comes back, and something is issued meanwhile."""
        world, store = self.world, self._store()
        world.counts["stores moved there and back"] += 1
        self._move(store)
        world.operators.act()
        world.timeline.after(world.timeline.between(0.0, 3.0), lambda: self._move(store))

    def issued_in_error(self) -> None:
        """A region gets a directive, then one more store, and the directive is withdrawn.

        So the withdrawal goes by other channels than the directive, and may overtake it.
        """
        world = self.world
        region = world.timeline.random.choice(REGIONS)
        directive = world.operators.issue(Selector(regions=(region,)))
        others = [store for store, row in world.roster.items() if row.region != region]
        if directive is None or not others:
            return
        world.counts["directives issued in error"] += 1
        self._move(world.timeline.random.choice(others))
        self._later(0.0, 1.0, lambda: world.operators.withdraw(directive))

    def roles_of_store(self) -> None:
        """A store gets or loses a role."""
        store = self._store()
        present = self.world.roster[store].roles
        roles = tuple(
            role for role in ROLES if (role in present) != self.world.timeline.chance(0.5)
        )
        if roles != present:
            self.world.counts["stores changed roles"] += 1
            self.world.keepers.change(store, roles=roles)

    def roles_of_device(self) -> None:
        """A device serves other roles of its store."""
        machine = self._machine(lambda one: one.identity.store in self.world.roster)
        if machine is None:
            return
        present = self.world.roles_in_ledger(machine.identity.store)
        if present is None:
            return
        random = self.world.timeline.random
        roles = random.choice([None, list(present), list(present[:1]), list(present[1:])])
        with contextlib.suppress(HqError):  # the ledger may be from before it joined
            self.world.hq.assign_roles(machine.identity.store, machine.identity.device, roles)
            self.world.counts["devices changed roles"] += 1

    def new_store(self) -> None:
        """A store opens, with a device or two."""
        world = self.world
        if len(world.roster) >= _MOST_STORES:
            return
        world.counts["new stores"] += 1
        random = world.timeline.random
        row = make_store(
            len(world.roster) + 1, random.choice(REGIONS), random.choice((ROLES, ROLES[:1]))
        )
        world.roster[row.store_id] = row
        world.keepers.save()
        for number in range(1, random.choice((2, 3))):
            self._later(0.0, 5.0, world.add_machine(Identity(row.store_id, f"till-{number}")).start)

    def new_device(self) -> None:
        """A store gets another device."""
        world, store = self.world, self._store()
        names = {one.identity.device for one in world.machines if one.identity.store == store}
        free = [f"till-{n}" for n in range(1, _MOST_DEVICES + 1) if f"till-{n}" not in names]
        if free:
            world.counts["new devices"] += 1
            world.add_machine(Identity(store, free[0])).start()

    def closed_for_a_while(self) -> None:
        """A store closes and opens again."""
        world, store = self.world, self._store()
        if store in world.closed or len(world.closed) + 1 >= len(world.roster):
            return
        world.counts["stores closed for a while"] += 1
        world.closed.add(store)
        world.keepers.save()

        def open_again() -> None:
            world.closed.discard(store)
            world.keepers.save()

        self._later(0.5, 20.0, open_again)
