"""A simulated chain whose disks fail: with the daemons' own loops, which have to bear it.

What stands for a daemon here is the very object that `storeagent run` and `hq hub` run, save its
link and its clock.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from buskit.database import Database, DatabaseError
from buskit.link import Publication
from buswire.device import Process
from buswire.states import State
from hqconsole.home import HqSettings
from hqconsole.hub import HubProcess
from hqconsole.key_watch import KeyWatch
from hqconsole.ledger.directives import Draft
from storeagent.agent import AgentProcess
from storeagent.carrier import Carrier
from storeagent.core import AgentCore, Event, Linked, Rang, Unlinked
from storeagent.keys import DeviceKey, seed_text
from storeagent.settings import AgentSettings
from tests.disk.failing_disk import FailingDisk, FailingDisks, Refused
from tests.simulation.disks import Killed
from tests.simulation.head_office import HeadOffice
from tests.simulation.journal import Entry, Statement
from tests.simulation.machine import Machine, _Wire
from tests.simulation.scenarios import Scenario
from tests.simulation.timeline import WALL_CLOCK_START, Timeline
from tests.simulation.world import World

if TYPE_CHECKING:
    from hqconsole.audience import Selector
    from hqconsole.desk import Desk
    from hqconsole.ledger.directives import Issued

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
    draft: Draft | None = None

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


class _Timeline(Timeline):
    """Who dies, or is refused, does nothing more of what they had in mind."""

    def run_until(self, when: float) -> None:
        while True:
            try:
                super().run_until(when)
            except (Killed, Refused):
                continue
            return


class FailingWorld(World):
    """A world whose disks fail until the faults end; sometimes the power goes as well."""

    head_office_kind = FailingHeadOffice
    machine_kind = FailingMachine

    def __init__(self, scenario: Scenario, seed: int, disks: FailingDisks) -> None:
        self.files = disks
        self.worst_recovery_seconds: float | None = None
        super().__init__(scenario, seed, disks)
        self.timeline.__class__ = _Timeline
        disks.later = self.timeline.after  # type: ignore[method-assign]
        disks.now = lambda: self.timeline.now  # type: ignore[method-assign]
        self._drafts: dict[str, Draft] = {}
        self._issue = self.hq.issue
        self.hq.issue = self._issue_noted  # type: ignore[method-assign]
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

    def _issue_noted(
        self, draft: Draft, selector: Selector
    ) -> tuple[Issued, frozenset[tuple[str, str]]]:
        self._drafts[draft.title] = draft
        return self._issue(draft, selector)

    def _adopt(self) -> None:
        for machine in self.machines:
            assert isinstance(machine.disk, FailingDisk)
            refused = {
                at + WALL_CLOCK_START + machine.clock_offset_seconds
                for at in machine.disk.refused_at
            }
            for id_, kind, data, said_at in machine.disk.database.connection.execute(
                "SELECT id, kind, data, said_at FROM act"
                " UNION ALL SELECT id, kind, data, said_at FROM bulk"
            ).fetchall():
                key = machine.identity, id_.hex()
                near = any(abs(said_at - at) < 1e-3 for at in refused)
                if near and key not in self.journal.entries:
                    self._adopt_entry(machine, key[1], kind, data)
        assert isinstance(self.hq.disk, FailingDisk)
        refused = {at + WALL_CLOCK_START for at in self.hq.disk.refused_at}
        connection = self.hq.ledger.connection
        for directive, title, at in connection.execute(
            "SELECT id, title, issued_at FROM directive"
        ).fetchall():
            if directive not in self.journal.directives and at in refused:
                self.counts["refused and done"] += 1
                audience = connection.execute(
                    "SELECT store.id, role FROM delivery"
                    " JOIN directive ON directive.no = directive_no"
                    " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
                    " WHERE directive.id = ?",
                    (directive,),
                )
                draft = self._drafts[title]
                self.journal.directive(directive, draft, frozenset(map(tuple, audience)))
        for directive, at in connection.execute(
            "SELECT directive_id, cancelled_at FROM cancel"
        ).fetchall():
            issue = self.journal.directives.get(directive)
            if issue is not None and issue.cancelled_at is None and at in refused:
                self.counts["refused and done"] += 1
                self.journal.cancelled(directive)

    def _adopt_entry(self, machine: Machine, record_id: str, kind: str, data: bytes) -> None:
        said = json.loads(data)
        if said.get("state") == State.DELIVERED:
            return
        self.counts["refused and done"] += 1
        entry = Entry(machine.identity, record_id, kind, self.timeline.now, data)
        self.journal.entries[machine.identity, record_id] = entry
        if kind == "receipt":
            mailbox = machine.identity.store, said["role"]
            self.journal.statements.append(
                Statement(entry, said["directive"], mailbox, State(said["state"]))
            )


__all__ = ["IO_ERRORS", "FailingWorld", "Rang"]
