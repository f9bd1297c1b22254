"""A small chain under one seed: head office, stores, a broker, people and what goes wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from unittest import mock

from buswire import uplink
from buswire.topics import Identity, Topics
from hqconsole.ledger import channels
from hqconsole.store_row import StoreRow
from tests.simulation.captured import CapturedBroker
from tests.simulation.disks import Disks
from tests.simulation.faults import Faults
from tests.simulation.head_office import HeadOffice
from tests.simulation.joining import Joining
from tests.simulation.journal import Journal
from tests.simulation.keys import HqKeys, Seeds, remembered_signatures
from tests.simulation.machine import Home, Machine
from tests.simulation.network import Network
from tests.simulation.oracle import Oracle
from tests.simulation.people import (
    REGIONS,
    ROLES,
    Operators,
    RosterKeepers,
    Staff,
    make_store,
)
from tests.simulation.scenarios import Scenario
from tests.simulation.templates import device_image, ledger_image
from tests.simulation.timeline import Timeline

_FIRST_CONTACT_SECONDS = 5.0
QUIET_SECONDS = 300.0
"""So long after the last fault all must agree, at the latest."""
_LOOK_SECONDS = 25.0
_ALL_VERIFIED = 10
"""Of so many seeds, one verifies every signature."""
_REST_SECONDS = 45.0
"""How long it is watched at rest, once it agrees."""


class World:
    """Everything of one seed. Make it, then `run`."""

    head_office_kind: type[HeadOffice] = HeadOffice
    machine_kind: type[Machine] = Machine

    def __init__(self, scenario: Scenario, seed: int, disks: Disks | None = None) -> None:
        self.disks = Disks() if disks is None else disks
        self.scenario = scenario
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.timeline = Timeline(seed)
        self.topics = Topics()
        self.network = Network(self.timeline, self.counts)
        self.seeds = Seeds(seed)
        self.keys = HqKeys(self.timeline, self.seeds, under_way_seconds=scenario.under_way_seconds)
        self.machines: list[Machine] = []
        self.roster: dict[str, StoreRow] = {}
        self.closed: set[str] = set()
        self.journal = Journal(self)
        self.oracle = Oracle(self)
        self.hq = self.head_office_kind(self, ledger_image())
        self.operators = Operators(self)
        self.staff = Staff(self)
        self.keepers = RosterKeepers(self)
        self.joining = Joining(self)
        self.captured: CapturedBroker | None = None
        self.faults = Faults(self)

    # --- who is there ----------------------------------------------------------------------------

    def add_machine(
        self, identity: Identity, *, home: Home | None = None, roles: Sequence[str] = ()
    ) -> Machine:
        """Put a machine into a store; it is off, and a new one joins when it can."""
        random = self.timeline.random
        offset = random.choice((0.0, 0.0, random.uniform(-30, 30), -1.7e9, 86_400.0))
        machine = self.machine_kind(
            self,
            identity,
            Home(device_image()) if home is None else home,
            roles=roles,
            clock_offset_seconds=offset,
        )
        self.machines.append(machine)
        if home is None:
            self.joining.join(machine)
        return machine

    def machines_of(self, identity: Identity) -> list[Machine]:
        """The machines that go by this identity: one, unless it is cloned."""
        return [machine for machine in self.machines if machine.identity == identity]

    def roles_in_ledger(self, store: str) -> list[str] | None:
        """The roles that the present ledger gives a store; None when it does not know it."""
        row = self.hq.ledger.connection.execute(
            "SELECT roles FROM store WHERE id = ?", (store,)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    # --- its life --------------------------------------------------------------------------------

    def run(self) -> None:
        """Live through the trouble, calm down, and be judged.

        Batches are small, so that windows fill, replays are cut short and snapshots have pages.

        Raises:
            AssertionError: Something that must hold does not.
        """
        with (
            nullcontext() if self.seed % _ALL_VERIFIED == 0 else remembered_signatures(),
            mock.patch.object(uplink, "BATCH_RECORDS", 3),
            mock.patch.object(channels, "BATCH_RECORDS", 4),
            self.oracle.listening(),
        ):
            self._live()

    def _live(self) -> None:
        self._set_up()
        self.timeline.run_until(_FIRST_CONTACT_SECONDS)
        self._plan_people()
        self.faults.begin()
        self.timeline.run_until(self.timeline.now + self.scenario.trouble_seconds)
        self.faults.end()
        self.oracle.calm_begins()
        latest = self.timeline.now + QUIET_SECONDS
        while self.timeline.now < latest:
            self.timeline.run_until(self.timeline.now + _LOOK_SECONDS)
            if not self.oracle.disagreements():
                break
        self.counts["seconds until all agreed"] += round(self.timeline.now - self.oracle.calm_at)
        self.timeline.run_until(self.timeline.now + _REST_SECONDS)
        self.oracle.judge(rest_seconds=_REST_SECONDS)

    def _set_up(self) -> None:
        random = self.timeline.random
        for number in range(1, self.scenario.stores + 1):
            row = make_store(number, REGIONS[number % 2], random.choice((ROLES, ROLES, ROLES[:1])))
            self.roster[row.store_id] = row
        self.keepers.save()
        for row in list(self.roster.values()):
            for number in range(1, random.choice(self.scenario.devices) + 1):
                asked = random.choice(((), (), row.roles[:1]))
                machine = self.add_machine(Identity(row.store_id, f"till-{number}"), roles=asked)
                self.timeline.after(self.timeline.between(0.0, 4.0), machine.start)
        self.timeline.after(self.timeline.between(0.0, 3.0), self.hq.start)

    def _plan_people(self) -> None:
        end = self.timeline.now + self.scenario.trouble_seconds
        scenario = self.scenario
        for act, mean in (
            (self.operators.act, scenario.issue_seconds),
            (self.staff.act, scenario.say_seconds),
        ):
            at = self.timeline.now
            while (at := at + self.timeline.random.expovariate(1 / mean)) < end:
                self.timeline.at(at, act)
