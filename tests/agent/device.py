"""A device without a daemon: a core on a database, and a clock that the test moves."""

import random

from buskit.database import Database
from buswire.device import Process, Timing
from storeagent.core import AgentCore, Event, Outgoing, Rang
from storeagent.database import open_agent_database
from storeagent.limits import Limits
from storeagent.statements import Statements
from tests.agent.head_office import DEVICE_KEY, ME, QUICK, TOPICS, HeadOffice


class Device:
    """A core with a clock, and a link to a scripted head office."""

    def __init__(
        self,
        hq: HeadOffice,
        database: Database | None = None,
        *,
        seed: int = 1,
        timing: Timing = QUICK,
        limits: Limits | None = None,
        wall_at: float = 1_000.0,
    ) -> None:
        self.hq = hq
        self.now = 100.0
        self.random = random.Random(seed)
        self.limits = limits
        self.timing = timing
        self.trust = hq.trust
        self.wall_at = wall_at
        self.open(database or open_agent_database(":memory:"))

    def open(self, database: Database, *, process: Process | None = None) -> None:
        """Make the core anew on this database: in a new process, unless one is given."""
        self.database = database
        self.core = AgentCore(
            database,
            ME,
            TOPICS,
            key=DEVICE_KEY,
            trust=self.trust,
            draw=self.random.random,
            new_id=self.new_id,
            wall_clock=lambda: self.wall_at + self.now,
            roles=("manager",),
            timing=self.timing,
            limits=self.limits,
            process=process,
        )
        self.statements = Statements(
            database,
            wall_clock=lambda: self.wall_at + self.now,
            new_id=self.new_id,
            limits=self.limits,
        )

    def new_id(self) -> str:
        """An id that depends on the seed."""
        return f"{self.random.getrandbits(128):032x}"

    def handle(self, *events: Event) -> list[Outgoing]:
        """Hand events over, at the present time."""
        return self.core.handle(events, self.now)

    def talk(self, *events: Event, rounds: int = 50) -> None:
        """Hand events over and carry messages to and fro until both are quiet."""
        outgoing = self.handle(*events)
        for _ in range(rounds):
            answers = self.hq.hear(outgoing)
            if not answers:
                return
            outgoing = self.handle(*answers)
        raise AssertionError("they never stop talking")

    def go_on(self, seconds: float) -> None:
        """Let time pass, with everything that is due in it."""
        until = self.now + seconds
        for _ in range(1_000):
            at = self.core.next_at()
            if at is None or at > until:
                self.now = until
                return
            self.now = max(self.now, at)
            self.talk(Rang())
        raise AssertionError("a storm")
