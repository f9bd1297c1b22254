"""A device of a store: the agent's process as the daemon runs it, its disk, and its place.

Drives `AgentCore` and `Carrier` as they ship; what stands for the daemon here is the loop around
them: gather events, hand them over in batches, carry what comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from buskit.database import DatabaseFull
from buskit.link import Publication
from buswire.device import Process, Timing
from buswire.signing import SigningKey
from buswire.topics import Identity
from buswire.trust import Trusted
from storeagent.carrier import Carrier
from storeagent.core import AgentCore, Event, Heard, Linked, Rang, Unlinked
from storeagent.statements import Statements
from tests.simulation.disks import Killed

if TYPE_CHECKING:
    from tests.simulation.network import Session
    from tests.simulation.world import World

TIMING = Timing(
    connect_jitter_seconds=0.3,
    gap_jitter_seconds=0.5,
    heads_jitter_seconds=1.0,
    retry_first_seconds=1.5,
    retry_most_seconds=12.0,
    spacing_seconds=0.5,
    beat_seconds=20.0,
    unsure_first_seconds=0.5,
    unsure_most_seconds=8.0,
    ack_seconds=5.0,
)


class Joined(NamedTuple):
    """What a device has from its joining, in files beside its database."""

    key: SigningKey
    trust: Trusted


class Home(NamedTuple):
    """All that is on a machine's disk."""

    database: bytes
    joined: Joined | None = None
    process: Process | None = None
    """Of the agent that ran, in an image of a whole virtual machine."""


class _Wire:
    """What the carrier takes for a link."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._filters: set[str] = set()

    @property
    def connected(self) -> bool:
        return self._machine.session is not None

    def publish(self, publication: Publication) -> int | None:
        session = self._machine.session
        if session is None:
            return None
        session.publish(publication.topic, publication.payload, retain=publication.retain)
        return 1

    def subscribe(self, filters: Iterable[tuple[str, int]]) -> int | None:
        self._filters |= {one for one, _ in filters}
        return self._tell()

    def unsubscribe(self, filters: Iterable[str]) -> int | None:
        self._filters -= set(filters)
        return self._tell()

    def _tell(self) -> int | None:
        session = self._machine.session
        if session is None:
            return None
        session.subscribe(self._filters, lambda: self._machine.subscribed(session))
        return 1


class Machine:
    """One machine in a store, with or without power, network and a running agent."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        home: Home,
        *,
        roles: Sequence[str] = (),
        clock_offset_seconds: float = 0.0,
    ) -> None:
        self.world = world
        self.identity = identity
        self.roles = tuple(roles)
        self.clock_offset_seconds = clock_offset_seconds
        self.session: Session | None = None
        self.core: AgentCore | None = None
        self.powered = False
        self.in_network = True
        self.gone = False
        self._inbound: list[Event] = []
        self._round_planned = False
        self._due_at: float | None = None
        self._die_after_commit = False
        self._life = 0
        """Rises with each start and each death, so that what was planned in one ends with it."""
        self.put_in_disk(home)

    def wall_clock(self) -> float:
        """Unix time as this machine believes it."""
        return self.world.timeline.wall_clock() + self.clock_offset_seconds

    def put_in_disk(self, home: Home) -> None:
        """Begin with the content of this image; the old disk is gone."""
        self.disk = self.world.disks.device(str(self.identity), home.database)
        self.disk.died = self._come_back_later
        self.joined = home.joined
        self.last_id = ""

    @property
    def statements(self) -> Statements:
        """What a command on this machine works with."""
        return Statements(self.disk.database, wall_clock=self.wall_clock, new_id=self._statement_id)

    def home(self) -> Home:
        """An image of the machine as it is."""
        process = None if self.core is None else replace(self.core.process)
        return Home(self.disk.database.serialize(), self.joined, process)

    def join(self, joined: Joined) -> None:
        """Go on with this key; the agent runs again if the machine has power."""
        self.kill()
        self.joined = joined
        if self.powered:
            self.start()

    def _statement_id(self) -> str:
        self.last_id = self.world.timeline.new_id()
        return self.last_id

    # --- power and network -----------------------------------------------------------------------

    def start(self, process: Process | None = None) -> None:
        """The machine has power; the agent starts, if it has joined; or goes on as it was."""
        if self.core is not None or self.gone:
            return
        self.powered = True
        if self.joined is None:
            return
        try:
            self.core = self.disk.run(lambda: self.make_core(process))
        except Killed:
            self._come_back_later()
            return
        self._carrier = Carrier(_Wire(self), qos=0)  # type: ignore[arg-type]
        self._begin_life()

    def _begin_life(self) -> None:
        self._life += 1
        self._due_at = None
        self._inbound = []
        self._plan_connect(0.3)

    def make_core(self, process: Process | None) -> AgentCore:
        """An agent's protocol on the database as it is."""
        assert self.joined is not None
        return AgentCore(
            self.disk.database,
            self.identity,
            self.world.topics,
            key=self.joined.key,
            trust=self.joined.trust,
            draw=self.world.timeline.random.random,
            new_id=self.world.timeline.new_id,
            wall_clock=self.wall_clock,
            roles=self.roles,
            timing=TIMING,
            process=process,
        )

    def kill(self) -> None:
        """The agent dies as with SIGKILL; what it has saved stays."""
        self.core = None
        self._life += 1
        self._die_after_commit = False
        self._inbound = []
        self.disk.be_well()
        if self.session is not None:
            self.session.vanish()
            self.session = None

    def stop(self) -> None:
        """The agent stops properly, and says so."""
        if self.core is not None and self.session is not None:
            bye = self.core.bye()
            self.session.publish(bye.topic, bye.payload)
            self.session.hang_up()
            self.session = None
        self.kill()

    def kill_soon(self, *, before_commit: bool) -> None:
        """The agent dies at its next commit, or right behind its next batch."""
        if before_commit:
            self.disk.kill_at_commit()
        else:
            self._die_after_commit = True

    def set_network(self, *, there: bool) -> None:
        """Plug the network in or out."""
        self.in_network = there
        if not there and self.session is not None:
            self.session.cut()

    def _plan_connect(self, most_seconds: float) -> None:
        life = self._life
        timeline = self.world.timeline

        def connect() -> None:
            if self._life != life or self.core is None or self.session is not None:
                return
            if self.in_network:
                bye = self.core.bye()
                self.session = self.world.network.connect(
                    str(self.identity), self._receive, self._lost, (bye.topic, bye.payload, False)
                )
            if self.session is None:
                self._plan_connect(2.0)
                return
            self._carrier.connected()
            # A new wire for each connection: a clean session has no subscriptions.
            self._carrier._link = _Wire(self)  # type: ignore[assignment]
            self._gather(Linked())

        timeline.after(timeline.between(0.05, most_seconds), connect)

    def _lost(self) -> None:
        self.session = None
        self._carrier.forget()
        self._gather(Unlinked())
        self._plan_connect(2.0)

    def subscribed(self, session: Session) -> None:
        """The broker has answered a subscription."""
        if self.session is session and self.core is not None:
            self._carrier.subscribed()
            self._carrier.pump(self.world.timeline.now)

    def _receive(self, topic: str, payload: bytes) -> None:
        self._gather(Heard(topic, payload))

    # --- the daemon's loop -----------------------------------------------------------------------

    def ring(self) -> None:
        """Somebody wrote the outbox."""
        self._gather(Rang())

    def _gather(self, event: Event) -> None:
        if self.core is None:
            return
        self._inbound.append(event)
        if not self._round_planned:
            self._round_planned = True
            timeline = self.world.timeline
            timeline.after(0.02 * timeline.random.random(), self._round)

    def _round(self) -> None:
        self._round_planned = False
        core, now = self.core, self.world.timeline.now
        if core is None:
            return
        events, self._inbound = self._inbound, []
        counts = self.world.counts
        try:
            outgoing = self.disk.run(lambda: core.handle(events, now))
        except Killed:
            counts["devices killed before a commit"] += 1
            self._come_back_later()
            return
        except DatabaseFull:
            counts["device disks full"] += 1
            links = [event for event in events if isinstance(event, Linked | Unlinked)]
            self._carrier.forget()
            self.world.timeline.after(0.5, lambda: [self._gather(e) for e in (*links, Rang())])
            return
        if self._die_after_commit:
            counts["devices killed behind a commit"] += 1
            self._come_back_later()
            return
        self.world.oracle.looked_at(self)
        self._carrier.carry(outgoing, now)
        self._plan_due(self.next_at())

    def next_at(self) -> float | None:
        """When the daemon has something to do if nothing happens."""
        return None if self.core is None else self.core.next_at()

    def _plan_due(self, due: float | None) -> None:
        if due is None:
            return
        life = self._life
        due = max(due, self.world.timeline.now + 0.001)
        if self._due_at is not None and self.world.timeline.now < self._due_at <= due:
            return

        def wake() -> None:
            if self._due_at == due:
                self._due_at = None
            if self._life == life and self.core is not None:
                later = self.next_at()
                if later is not None and later > self.world.timeline.now:
                    self._plan_due(later)
                else:
                    self._gather(Rang())

        self._due_at = due
        self.world.timeline.at(due, wake)

    def _come_back_later(self) -> None:
        self.kill()
        timeline = self.world.timeline
        timeline.after(timeline.between(0.2, 8.0), lambda: self.start() if self.powered else None)
