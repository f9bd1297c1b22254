"""Those who use the bus: operators at head office, staff and scripts in the stores.

Owns what people do, at random, and writes all that was accepted into the journal. Knows no fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from buswire.states import Needs, State
from hqconsole.audience import AudienceError, Selector
from hqconsole.errors import HqError
from hqconsole.ledger.directives import Draft
from hqconsole.store_row import StoreRow
from storeagent.inbox import Delivery
from storeagent.reports import make_table
from storeagent.scripts import derived_id
from storeagent.statements import Outcome

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

REGIONS = ("east", "west")
ROLES = ("clerk", "manager")


def make_store(number: int, region: str, roles: tuple[str, ...]) -> StoreRow:
    """A row of the roster."""
    return StoreRow(
        store_id=f"S{number:03d}",
        name=f"Store {number}",
        region=region,
        region_name=region.title(),
        city="",
        country="",
        timezone="Europe/Paris",
        roles=roles,
        role_names=tuple(role.title() for role in roles),
    )


class Operators:
    """Head office."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.issued = 0

    def act(self) -> None:
        """Issue a directive, or withdraw one."""
        random, known = self.world.timeline.random, list(self.world.journal.directives)
        if known and random.random() < self.world.scenario.withdrawn_share:
            newest = 1 if random.random() < 0.3 else 12
            self.withdraw(random.choice(known[-newest:]))
        else:
            self.issue(self._selector())

    def _selector(self) -> Selector:
        world, random = self.world, self.world.timeline.random
        roles = tuple(random.sample((*ROLES, "any"), random.choice((0, 0, 1, 1, 2))))
        place = random.random()
        if place < 0.35:
            return Selector(everyone=True, roles=roles)
        if place < 0.7:
            return Selector(regions=(random.choice(REGIONS),), roles=roles)
        return Selector(stores=(random.choice(list(world.roster)),), roles=roles)

    def issue(self, selector: Selector) -> str | None:
        """Issue a directive to these; None when nobody is meant."""
        world, random = self.world, self.world.timeline.random
        expires_at = None
        if random.random() < 0.2:
            expires_at = world.timeline.wall_clock() + world.timeline.between(1.0, 40.0)
        self.issued += 1
        draft = Draft(
            title=f"Directive {self.issued}",
            body="Do it. " * random.choice((1, 1, 1, 60)),
            needs=random.choice((Needs.DONE, Needs.DONE, Needs.READ, Needs.DELIVERED)),
            expires_at=expires_at,
            issued_by="operator",
        )
        in_parts = world.scenario.in_parts_share and random.random() < world.scenario.in_parts_share
        try:
            send = world.hq.issue_in_parts if in_parts else world.hq.issue
            issued, audience = send(draft, selector)
        except AudienceError:
            return None
        world.counts["directives issued in parts"] += bool(in_parts)
        world.counts["directives issued"] += 1
        world.counts["directives expired"] += expires_at is not None
        world.journal.directive(issued.id, draft, audience)
        return issued.id

    def withdraw(self, directive: str) -> None:
        """Withdraw a directive, if the ledger has it and it is not withdrawn already."""
        try:
            self.world.hq.cancel(directive)
        except HqError:
            return
        self.world.counts["directives cancelled"] += 1
        self.world.journal.cancelled(directive)


class Staff:
    """The people and scripts of the stores, at whichever machine has power."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._number = 0

    def act(self) -> None:
        """Somebody at some machine says something."""
        world, random = self.world, self.world.timeline.random
        machines = [machine for machine in world.machines if not machine.gone]
        machine = random.choice(machines)
        if not machine.powered and random.random() < 0.8:
            return  # the machine is off; only sometimes is just the agent not running
        todo = random.random()
        if todo < 0.22:
            self._alert(machine)
        elif todo < 0.32:
            self._report(machine)
        else:
            self._about_work(machine)

    def _about_work(self, machine: Machine) -> None:
        random = self.world.timeline.random
        rows = machine.statements.inbox.items(most=8)
        if not rows:
            return
        delivery = random.choice(rows).delivery
        work = delivery.directive, delivery.role
        say = machine.statements
        match random.choices(
            ("read", "start", "done", "cannot", "reply"), (0.35, 0.15, 0.35, 0.05, 0.15)
        )[0]:
            case "read":
                self._receipt(machine, delivery, State.READ, lambda: say.read(*work).outcome)
            case "start":
                self._receipt(
                    machine, delivery, State.IN_PROGRESS, lambda: say.start(*work).outcome
                )
            case "done":
                self._receipt(machine, delivery, State.DONE, lambda: say.done(*work).outcome)
            case "cannot":
                self._receipt(
                    machine,
                    delivery,
                    State.CANNOT,
                    lambda: say.cannot(*work, reason="no room").outcome,
                )
            case "reply":
                self._number += 1
                recorded = machine.disk.quietly(
                    lambda: say.reply(*work, text=f"answer {self._number}")
                )
                self.world.counts["replies"] += 1
                self._accepted(machine, recorded.id, "reply")  # type: ignore[attr-defined]

    def _receipt(
        self, machine: Machine, delivery: Delivery, state: State, say: Callable[[], Outcome]
    ) -> None:
        outcome = machine.disk.quietly(say)
        if outcome in {Outcome.SAID, Outcome.FOR_THE_RECORD}:
            self.world.counts["statements"] += 1
            self.world.journal.statement(machine, machine.last_id, delivery, state)
            self._rang(machine)

    def _alert(self, machine: Machine) -> None:
        self._number += 1
        key = f"alert {self._number}" if self._number % 2 else None
        fields = {"sku": f"sku {self._number}", "on_hand": 1, "reorder_point": 5}
        times = 2 if key is not None and self.world.timeline.chance(0.3) else 1
        for _ in range(times):  # a script that is run again
            recorded = machine.disk.quietly(
                lambda: machine.statements.alert("replenishment", fields, key=key)
            )
        self.world.counts["alerts"] += 1
        self._accepted(machine, recorded.id, "alert")  # type: ignore[attr-defined]

    def _report(self, machine: Machine) -> None:
        self._number += 1
        key = f"report {self._number}"
        many = self.world.timeline.chance(0.05)
        filler = "x" * (900 if many else 10)
        table = make_table(
            [{"sku": f"{number} {filler}", "sold": number} for number in range(130 if many else 3)]
        )
        recorded = machine.disk.quietly(
            lambda: machine.statements.report("daily-sales", table, key=key)
        )
        self.world.counts["reports"] += 1
        for part in range(1, recorded.parts + 1):  # type: ignore[attr-defined]
            self._accepted(machine, derived_id("report/daily-sales", key, part), "report")

    def _accepted(self, machine: Machine, record_id: str, kind: str) -> None:
        self.world.journal.entry(machine, record_id, kind)
        self._rang(machine)

    def _rang(self, machine: Machine) -> None:
        if self.world.timeline.chance(0.8):
            machine.ring()
        else:  # the daemon looks around by itself now and then
            self.world.timeline.after(1.0, machine.ring)


class RosterKeepers:
    """Those who move stores, open and close them, and hand out roles."""

    def __init__(self, world: World) -> None:
        self.world = world

    def change(self, store: str, **changes: object) -> None:
        """Change one store in the roster."""
        row = replace(self.world.roster[store], **changes)  # type: ignore[arg-type]
        if "roles" in changes:
            row = replace(row, role_names=tuple(role.title() for role in row.roles))
        self.world.roster[store] = row
        self.save()

    def save(self) -> None:
        """Import the roster as it is meant to be."""
        world = self.world
        world.hq.save_roster(
            [row for store, row in world.roster.items() if store not in world.closed]
        )
