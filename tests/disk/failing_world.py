"""A simulated chain whose disks fail: with the daemons' own loops, which have to bear it.

What stands for a daemon here is the very object that `storeagent run` and `hq hub` run, save its
link and its clock.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from buskit.database import Database, DatabaseError
from buskit.link import Publication
from buswire.device import Process
from hqconsole.desk import Desk, Event, Linked, Unlinked
from hqconsole.home import HqSettings
from hqconsole.hub import HubProcess
from hqconsole.key_watch import KeyWatch
from storeagent.agent import AgentProcess
from storeagent.carrier import Carrier
from storeagent.core import AgentCore
from storeagent.keys import DeviceKey, seed_text
from storeagent.settings import AgentSettings
from tests.disk.failing_disk import FailingDisk, FailingDisks
from tests.disk.unanswered import UnansweredWorld, When
from tests.simulation.disks import Disk, Killed
from tests.simulation.head_office import HeadOffice
from tests.simulation.machine import Machine, _Wire
from tests.simulation.scenarios import Scenario
from tests.simulation.timeline import WALL_CLOCK_START

IO_ERRORS = Scenario(
    "I/O errors",
    loss=0.02,
    duplication=0.02,
    delay_most_seconds=0.5,
    rates={"cut": 0.03, "io_error": 2.5, "power_cut": 0.15},
    trouble_seconds=40.0,
    stores=2,
    devices=(1, 2),
    issue_seconds=2.0,
    say_seconds=0.5,
)
_UNUSABLE = (DatabaseError, sqlite3.DatabaseError)
"""With one of these a daemon may end at its start; its supervisor starts it again."""


class _AgentLink:
    """What the agent's loop asks of its link, beside what the carrier does with it."""

    failure = None

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def connected(self) -> bool:
        return self._machine.session is not None


class FailingMachine(Machine):
    """A machine with the agent's own loop."""

    agent: AgentProcess | None = None
    disk: FailingDisk

    def start(self, process: Process | None = None) -> None:
        """The agent starts; if it cannot, its supervisor tries again."""
        if self.core is not None or self.gone:
            return
        self.powered = True
        if self.joined is None:
            return
        try:
            self.disk.run(self._make_agent)
        except Killed:
            self._come_back_later()
            return
        except _UNUSABLE:
            self.world.counts["daemons that could not start"] += 1
            self._come_back_later()
            return
        self._begin_life()

    def _make_agent(self) -> None:
        assert self.joined is not None
        self.disk.open_anew()
        key = DeviceKey(
            store=self.identity.store,
            device=self.identity.device,
            root="storebus/v1",
            seed=seed_text(self.joined.key.seed),
            token="",
            trust=self.joined.trust,
        )
        settings = AgentSettings(*self.identity, roles=self.roles, silence_seconds=1e12)
        chance = self.world.timeline.random
        agent: Any = AgentProcess(self.disk.home, settings, key, say=self._said, chance=chance)
        agent._database = self.disk.database
        agent._make_core = self._core_on
        agent._core = agent._make_core(agent._database, process=None)
        agent._teller.begin(None, settings.silence_seconds)
        agent._link = _AgentLink(self)
        agent._carrier = Carrier(_Wire(self), qos=0)  # type: ignore[arg-type]
        self.agent, self.core, self._carrier = agent, agent._core, agent._carrier

    def _core_on(self, database: Database, *, process: Process | None) -> AgentCore:
        before, self.disk.database = self.disk.database, database
        try:
            return self.make_core(process)
        finally:
            self.disk.database = before

    def _said(self, words: str) -> None:
        if words.startswith("cannot save"):
            self.world.counts["said that it cannot save"] += 1
            if "(" not in words:
                self.world.oracle.faults.append(f"no hint: {words}")
        elif words == "the disk works again" and self.disk.mended_at is not None:
            self.world.recovered(self.world.timeline.now - self.disk.mended_at)  # type: ignore[attr-defined]
            self.disk.mended_at = None

    def _round(self) -> None:
        self._round_planned = False
        agent: Any = self.agent
        if self.core is None:
            return
        events, self._inbound = self._inbound, []
        try:
            self.disk.run(lambda: agent._step(events, self.world.timeline.now))
        except Killed:
            self._come_back_later()
            return
        self.core = agent._core
        self.disk.follow(agent._database)
        if not agent._trouble.is_there:
            self.world.oracle.looked_at(self)
        self._plan_due(self.next_at())

    def next_at(self) -> float | None:
        """When it tries again, or has something to do."""
        agent: Any = self.agent
        if agent is not None and agent._trouble.is_there:
            return float(agent._trouble.retry_at)
        return super().next_at()


class _HubLink:
    """What the hub's loop asks of its link."""

    failure = None

    def __init__(self, hq: FailingHeadOffice) -> None:
        self._hq = hq

    @property
    def connected(self) -> bool:
        return self._hq.session is not None

    def publish(self, one: Publication) -> int | None:
        session = self._hq.session
        if session is None:
            return None
        if "/to/" in one.topic:
            self._hq.world.oracle.answered(one.payload)
        session.publish(one.topic, one.payload, retain=one.retain)
        return 1

    def renew(self, _will: Publication) -> None:
        """The keys of these worlds do not change."""


class _NoAccessFile:
    """These worlds' broker asks for none."""

    def attend(self, _ledger: Database, _clock_at: object) -> None:
        """Nobody reads it."""


class FailingHeadOffice(HeadOffice):
    """Head office with the hub's own loop."""

    hub: HubProcess | None = None
    disk: FailingDisk

    def start(self, *, run: str | None = None) -> None:
        """The hub starts; if it cannot, its supervisor tries again."""
        if self.desk is not None:
            return
        try:
            self.disk.run(lambda: self._make_hub(run))
        except Killed:
            self.come_back_later()
            return
        except _UNUSABLE:
            self.world.counts["daemons that could not start"] += 1
            self.come_back_later()
            return
        self._begin_life()

    def _make_hub(self, run: str | None) -> None:
        self.disk.open_anew()
        chance = self.world.timeline.random
        hub: Any = HubProcess(self.disk.home, HqSettings(), say=self._said, chance=chance)
        hub._ledger = self.disk.database
        at = self.world.timeline.wall_clock()
        hub._key_watch = KeyWatch(self.disk.home, self.world.keys, say=self._said, at=at)
        hub._make_desk = self._desk_on
        hub._desk = hub._make_desk(hub._ledger, run=run)
        hub._link = _HubLink(self)
        hub._access = _NoAccessFile()
        self.hub, self.desk = hub, hub._desk

    def _desk_on(self, ledger: Database, *, run: str | None) -> Desk:
        before, self.disk.database = self.disk.database, ledger
        try:
            return self.make_desk(run)
        finally:
            self.disk.database = before

    def _said(self, words: str) -> None:
        if words.startswith("cannot save"):
            self.world.counts["said that it cannot save"] += 1
            if "(" not in words:
                self.world.oracle.faults.append(f"no hint: {words}")
        elif words == "the disk works again" and self.disk.mended_at is not None:
            self.world.recovered(self.world.timeline.now - self.disk.mended_at)  # type: ignore[attr-defined]
            self.disk.mended_at = None

    def _gather(self, event: Event) -> None:
        hub: Any = self.hub
        if isinstance(event, Linked | Unlinked) and hub is not None:
            hub._linked = isinstance(event, Linked)
            hub._waiting.clear()
        super()._gather(event)

    def _round(self) -> None:
        self._round_planned = False
        hub: Any = self.hub
        if self.desk is None:
            return
        events, self._inbound = self._inbound, []
        try:
            self.disk.run(lambda: hub._step(events, self.world.timeline.now))
        except Killed:
            self.come_back_later()
            return
        self.desk = hub._desk
        self.disk.follow(hub._ledger)
        self._renew_will()
        self._plan_due()

    def next_at(self, now: float) -> float:
        """When it tries again, or has something to do."""
        hub: Any = self.hub
        return super().next_at(now) if not hub._trouble.is_there else float(hub._trouble.retry_at)


class FailingWorld(UnansweredWorld):
    """A world whose disks fail until the faults end; sometimes the power goes as well."""

    head_office_kind = FailingHeadOffice
    machine_kind = FailingMachine

    def __init__(self, scenario: Scenario, seed: int, disks: FailingDisks) -> None:
        self.worst_recovery_seconds: float | None = None
        super().__init__(scenario, seed, disks)
        disks.later = self.timeline.after
        disks.now = lambda: self.timeline.now
        self.faults.io_error = self._io_error  # type: ignore[attr-defined]
        self.faults.power_cut = self._power_cut  # type: ignore[attr-defined]
        disagreements = self.oracle.disagreements

        def adopt_and_look() -> list[str]:
            self._adopt()
            return disagreements()

        self.oracle.disagreements = adopt_and_look  # type: ignore[method-assign]

    def recovered(self, seconds: float) -> None:
        """A daemon works again, so long after its disk was mended."""
        self.worst_recovery_seconds = max(self.worst_recovery_seconds or 0.0, seconds)

    # --- what fails ------------------------------------------------------------------------------

    def _disk(self) -> FailingDisk:
        random = self.timeline.random
        disk = self.hq.disk if random.random() < 0.4 else random.choice(self.machines).disk
        assert isinstance(disk, FailingDisk)
        return disk

    def _io_error(self) -> None:
        random = self.timeline.random
        self._disk().fail_in(random.randint(0, random.choice((2, 10, 40))))

    def _power_cut(self) -> None:
        self._disk().cut_power(self.timeline.random.randint(1, 12))

    # --- what was refused, and may be there all the same -----------------------------------------

    def _adopt(self) -> None:
        for machine in self.machines:
            self.adopt_entries(machine, _refused(machine.disk, machine.clock_offset_seconds))
        self.adopt_directives(_refused(self.hq.disk, 0.0))


def _refused(disk: Disk, clock_offset_seconds: float) -> When:
    assert isinstance(disk, FailingDisk)
    refused_at = [at + WALL_CLOCK_START + clock_offset_seconds for at in disk.refused_at]
    return lambda at: any(abs(at - one) < 1e-3 for one in refused_at)
