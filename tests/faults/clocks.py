"""Clocks that jump by minutes, hours, days and years, both ways, to 1970 and to 2100.

Two parts. In worlds of the simulation the wall clocks of all tills and of head office jump in the
middle of everything, while monotonic time goes on; virtual time makes it many. In a chain of real
processes a preloaded library shifts what the system says of the time of day (`clock_shim`).

What must hold beside the simulation's own judgement: nothing expires before its time by true time,
nothing is let go, and in the end HQ goes by the right time again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from unittest import mock

from hqconsole.audience import Selector
from hqconsole.ledger.directives import Draft, Issued
from hqconsole.steady_clock import OFF_SECONDS, TOLERANCE_SECONDS
from tests.faults.clock_shim import Shim
from tests.faults.rows import Row
from tests.faults.worlds import live_through
from tests.helpers.waiting import wait_until
from tests.processes.chain import Daemon
from tests.simulation.faults import Faults
from tests.simulation.machine import Machine
from tests.simulation.oracle import Oracle
from tests.simulation.people import Operators
from tests.simulation.scenarios import Scenario
from tests.simulation.timeline import WALL_CLOCK_START
from tests.simulation.world import World

MINUTE, HOUR, DAY, YEAR = 60.0, 3600.0, 86_400.0, 365 * 86_400.0
IN_2100 = 4_102_444_800.0
SMALL = (2 * MINUTE, -2 * MINUTE, 4 * MINUTE, -4 * MINUTE)
LARGE = (10 * MINUTE, HOUR, -HOUR, 2 * HOUR, DAY, -DAY, 30 * DAY, -30 * DAY, YEAR, -YEAR, 9 * YEAR)

CLOCKS = Scenario(
    "clocks",
    loss=0.05,
    duplication=0.05,
    delay_most_seconds=0.7,
    rates={
        "till_clock_set": 0.8,
        "hq_clock_set": 0.4,
        "device_killed": 0.1,
        "power_off": 0.05,
        "hub_killed": 0.05,
        "cut": 0.1,
        "unplug": 0.05,
        "broker_restart": 0.01,
    },
    stores=3,
    issue_seconds=1.5,
    say_seconds=0.6,
)


class ClockFaults(Faults):
    """The faults of the simulation, and clocks that are set."""

    world: ClockWorld

    def till_clock_set(self) -> None:
        """The clock of a till jumps, powered or not."""
        world = self.world
        machine = self._machine(lambda _: True)
        if machine is not None:
            machine.clock_offset_seconds = world.another(machine.clock_offset_seconds, SMALL)

    def hq_clock_set(self) -> None:
        """The clock of head office jumps, or is set right."""
        world = self.world
        right = world.ahead_seconds and world.timeline.chance(0.4)
        world.ahead_seconds = 0.0 if right else world.another(world.ahead_seconds, ())
        if right:
            world.counts["clock jumps"] += 1
        world.hq.ring()

    def end(self) -> None:
        """Head office's clock is set right; the tills' stay as they are."""
        self.world.ahead_seconds = 0.0
        super().end()


class ClockOracle(Oracle):
    """Knows the true time."""

    world: ClockWorld

    def disagreements(self) -> list[str]:
        """What is not far from over is not expected to expire."""
        later = {
            issue.id[:6]
            for issue in self.world.journal.directives.values()
            if issue.draft.expires_at is not None
            and issue.draft.expires_at > self.world.true_at() + TOLERANCE_SECONDS
        }
        return [
            one
            for one in super().disagreements()
            if not (one.endswith("did not expire") and one.split()[1] in later)
        ]

    def judge(self, *, rest_seconds: float) -> None:
        """Also what must not depend on any clock."""
        self.faults += [*self.world.early, *self._let_go(), *self._hq_time()]
        super().judge(rest_seconds=rest_seconds)

    def _let_go(self) -> Iterator[str]:
        """In minutes of true time nothing is old enough to be let go."""
        for machine in self.world.machines:
            database = machine.disk.database.connection
            for log in ("act", "bulk"):
                kept, last = database.execute(
                    f"SELECT count(*), ifnull(max(position), 0) FROM {log}"
                ).fetchone()
                if kept != last:
                    yield f"{machine.identity} has {kept} of {last} entries of {log}"
            shown = machine.disk.__dict__.get("shown", {})
            (here,) = database.execute("SELECT count(*) FROM delivery").fetchone()
            if here < len(shown):
                yield f"{machine.identity} shows {here} of {len(shown)} deliveries"

    def _hq_time(self) -> Iterator[str]:
        desk = self.world.hq.desk
        assert desk is not None
        off = desk.clock_at(self.world.timeline.now) - self.world.true_at()
        if abs(off) > TOLERANCE_SECONDS:
            yield f"HQ's time is wrong by {off:.0f} s in the end"


class ClockOperators(Operators):
    """Operators have watches: what they want to expire has a date by true time."""

    world: ClockWorld

    def issue(self, selector: Selector) -> str | None:
        """Issue a directive; the command still goes by the machine's clock."""
        with self.world.by_true_time():
            return super().issue(selector)


class ClockWorld(World):
    """A world in which HQ's clock and the tills' are set at random."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self.ahead_seconds = 0.0
        self.early: list[str] = []
        self.timeline.wall_clock = self._hq_wall_clock  # type: ignore[method-assign]
        self.network.watchers.clear()
        self.oracle = ClockOracle(self)
        self.operators = ClockOperators(self)
        self.faults = ClockFaults(self)
        self._issue, self.hq.issue = self.hq.issue, self._issue_by_hq_clock  # type: ignore[method-assign]
        self._start, self.hq.start = self.hq.start, self._start_hub  # type: ignore[method-assign]
        self._true = False
        self._expired: set[str] = set()

    def run(self) -> None:
        """As any world; tills have clocks of their own."""
        with mock.patch.object(
            Machine,
            "wall_clock",
            lambda machine: max(0.0, self.true_at() + machine.clock_offset_seconds),
        ):
            self._look()
            super().run()

    def true_at(self) -> float:
        """Unix time as it is."""
        return WALL_CLOCK_START + self.timeline.now

    def by_true_time(self) -> ExitStack:
        """Within, whoever asks for HQ's time looks at his watch."""
        stack = ExitStack()
        before, self._true = self._true, True
        stack.callback(lambda: setattr(self, "_true", before))
        return stack

    def another(self, offset_seconds: float, small: Sequence[float]) -> float:
        """How far off a clock is after it was set."""
        self.counts["clock jumps"] += 1
        random = self.timeline.random
        to_seconds = random.choice(
            (
                *LARGE,
                *small,
                -self.true_at() + random.uniform(0, 1000),
                IN_2100 - self.true_at(),
                0.0 if offset_seconds else -HOUR,
            )
        )
        return to_seconds + random.uniform(0.0, 50.0)

    def _hq_wall_clock(self) -> float:
        return self.true_at() + (0.0 if self._true else self.ahead_seconds)

    def _issue_by_hq_clock(
        self, draft: Draft, selector: Selector
    ) -> tuple[Issued, frozenset[tuple[str, str]]]:
        random = self.timeline.random
        if draft.expires_at is not None and random.random() < 0.7:
            later_at = draft.expires_at + random.choice((HOUR, DAY, 40 * DAY, 300 * DAY))
            object.__setattr__(draft, "expires_at", later_at)  # the journal has the same draft
        before, self._true = self._true, False
        try:
            return self._issue(draft, selector)
        finally:
            self._true = before

    def _start_hub(self, *, run: str | None = None) -> None:
        if 0 < self.ahead_seconds <= OFF_SECONDS + TOLERANCE_SECONDS:
            # A hub that starts believes that it was off for a day: as documented.
            self.ahead_seconds = 0.0
        self._start(run=run)

    def _look(self) -> None:
        """Note what expires before it is over."""
        for (directive,) in self.hq.ledger.connection.execute(
            "SELECT id FROM directive WHERE state = 'expired'"
        ):
            issue = self.journal.directives.get(directive)
            if issue is None or issue.draft.expires_at is None or directive in self._expired:
                continue
            self._expired.add(directive)
            if issue.draft.expires_at > self.true_at() + TOLERANCE_SECONDS:
                self.early.append(f"directive {directive[:6]} expired before its time")
        self.timeline.after(0.5, self._look)


def clocks(seed: int, share: float) -> Row:
    """Worlds of jumping clocks, then real processes."""
    row = Row("clocks")
    worlds = max(2, round(100 * share))
    for number in range(worlds):
        world = live(seed + number, row)
        row.times += world.counts["clock jumps"]
        row.accepted += len(world.journal.entries) + len(world.journal.directives)
        row.recovered(float(world.counts["seconds until all agreed"]))
    virtual = row.times
    real(seed, round(60 * share), row)
    row.note = f"{worlds} worlds, {virtual:,} jumps; real processes {row.times - virtual:,}"
    return row


def live(seed: int, row: Row) -> ClockWorld:
    """One world under one seed; what does not hold goes into the row."""
    world = ClockWorld(CLOCKS, seed)
    live_through(world, row)
    return world


# --- real processes ------------------------------------------------------------------------------


def real(seed: int, jumps: int, row: Row) -> None:
    """A hub and two agents in their own processes, whose time of day jumps."""
    if jumps < 1:
        return
    random = Random(seed)
    with tempfile.TemporaryDirectory(prefix="clocks-") as name:
        folder = Path(name)
        shim = Shim(folder)
        with shim.chain(folder, ("S1", "S2")) as chain:
            lasting = chain.hq_json(
                "publish", "lasting", "--all", "--kind", "task", "--expires", "+90d"
            )["id"]
            chain.journal.directives[lasting] = {(store, "any"): None for store in chain.stores}
            chain.wait_settled()
            daemons: list[Daemon] = [chain.hub, *chain.tills.values()]
            for number in range(jumps):
                daemon = random.choice(daemons)
                at = time.time()
                to_seconds = random.choice((*SMALL, *LARGE, 0.0, -at + 10.0, IN_2100 - at))
                shim.set(daemon.name, to_seconds)
                row.times += 1
                began = time.monotonic()
                till = chain.tills[random.choice(list(chain.tills))]
                chain.alert(till)
                chain.issue()
                if number % 7 == 3 and daemon is not chain.hub:
                    daemon.kill()
                    daemon.start()
                chain.wait_settled()
                row.recovered(time.monotonic() - began)
                states = set(chain.states(lasting).values())
                if states - {"delivered"}:
                    row.wrong.append(f"jump {number} by {to_seconds:.0f} s: lasting work {states}")
                    break
            for daemon in daemons:
                shim.set(daemon.name, 0.0)
            wait_until(
                lambda: all(till.arrivals()[0] > jumps for till in chain.tills.values()),
                seconds=10,
                what="all work to be kept",
            )
            account = chain.account()
            row.accepted += len(chain.journal.directives) + sum(chain.journal.said.values())
            row.lost += account.lost
            row.twice += account.twice
