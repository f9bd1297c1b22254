"""An honest bus in memory: HQ's desk, agents' cores, and what is on its way between them.

Nothing is lost or late here: what is tested is not the network but who is believed. Time stands
still while messages are carried, and goes on when the story says so.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from buskit.database import Database
from buswire import frame
from buswire.access import token_hash
from buswire.joining import Bundle
from buswire.signing import SigningKey
from buswire.topics import Identity, Topics
from hqconsole import desk as hq_desk
from hqconsole.audience import Selector, select
from hqconsole.desk import Desk, DeskTiming
from hqconsole.ledger import directives, enrolment, organisation, withdrawing
from hqconsole.ledger.opening import open_ledger
from hqconsole.store_row import StoreRow
from hqconsole.timing import HubLimits
from storeagent.core import AgentCore, Heard, Linked, Outgoing, Publish, Rang, Subscribe, Unlinked
from storeagent.database import open_agent_database
from storeagent.joining import Draft, Joining
from storeagent.keys import seed_text
from storeagent.statements import Statements
from tests.helpers.hq_keys import MemoryKeys

AT = 1_800_000_000.0
TIMING = DeskTiming(
    nudge_spacing_seconds=0.5,
    hellos_per_batch=3,
    replay_records=4,
    page_bytes=700,
    nudge_seconds=20.0,
)
# Forgeries come by the hundred here; the bounds on honest messages are tested elsewhere.
LIMITS = HubLimits(hellos_per_minute=100_000)


def seed(name: str) -> bytes:
    """The same seed for the same name."""
    return hashlib.sha256(name.encode()).digest()


def key(name: str) -> SigningKey:
    """The same key for the same name."""
    return SigningKey(seed(name))


@dataclass(frozen=True)
class Delivery:
    """A message about to be delivered; `to` is `hq`, a device, or a bundle."""

    to: str
    topic: str
    payload: bytes

    @property
    def message(self) -> Any:
        """What it says, unverified."""
        return frame.decode_text(frame.take_apart(self.payload).text)

    @property
    def kind(self) -> str:
        """Which message it is, fine enough that each has an effect of its own."""
        message = self.message
        name = type(message).__name__.lower()
        place = self.topic.split("/")[2]
        if name == "records":
            return f"records {message.log}" if place == "from" else f"records on {place}"
        return f"welcome {message.mode}" if name == "welcome" else name


Picture = dict[str, list[Any]]


def picture(database: Database, *, without: Iterable[str], but: dict[str, str]) -> Picture:
    """All rows of a database, in the order in which it keeps them.

    Args:
        database: In memory.
        without: Tables that do not count.
        but: Which rows of a table do.
    """
    connection = database.connection
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    found = {}
    for (name,) in names:
        if name not in without:
            where = but.get(name, "1")
            rows = connection.execute(f"SELECT * FROM {name} WHERE {where}").fetchall()
            found[name] = rows
    return found


class Till:
    """A device."""

    def __init__(self, bus: "Bus", identity: Identity, signing: SigningKey) -> None:
        """Make it, not linked."""
        self._bus = bus
        self.identity = identity
        self.name = str(identity)
        self.key = signing
        self.database = open_agent_database(":memory:")
        self.filters: tuple[str, ...] = ()
        self.linked = False
        self.core = AgentCore(
            self.database,
            identity,
            bus.topics,
            key=signing,
            trust=bus.keys.trusted(),
            draw=lambda: 0.5,
            new_id=bus.new_id,
            wall_clock=lambda: bus.at,
            roles=("manager",),
        )
        self.statements = Statements(self.database, wall_clock=lambda: bus.at, new_id=bus.new_id)

    def handle(self, *events: Any) -> list[Outgoing]:
        """Hand events over; what it sends, subscriptions taken note of."""
        out = self.core.handle(events, self._bus.now)
        for one in out:
            if isinstance(one, Subscribe):
                self.filters = one.filters
        return out

    def picture(self) -> Picture:
        """All that it keeps, but for what it counts of refusals."""
        # When HQ answered last is saved with whatever is saved next, be it what was refused.
        rows = {"act": "kind <> 'trouble'", "meta": "key <> 'welcome_at'"}
        return picture(self.database, without={"aside"}, but=rows)


class Bus:
    """A chain: its head office, its devices, and what is on its way."""

    def __init__(self, name: str, root: str = "storebus/v1") -> None:
        """Begin with an empty roster."""
        self.name = name
        self.topics = Topics(root)
        self.now = 1000.0
        self._ids = itertools.count(1)
        self._began = int.from_bytes(seed(name)[:4], "big")
        numbers = itertools.count()
        self.keys = MemoryKeys(lambda: seed(f"{name} {next(numbers)}"))
        self.ledger = open_ledger(None, create=True)
        self.desk = self._new_desk()
        self.tills: dict[str, Till] = {}
        self.joining: dict[str, Joining] = {}
        self.joined: dict[str, list[Any]] = {}
        self._on_the_way: deque[Delivery] = deque()
        self.said: list[Delivery] = []
        self.before: Callable[[Delivery], None] = lambda delivery: None
        self.after: Callable[[Delivery], None] = lambda delivery: None
        self.lose: str | None = None
        """Who does not get the next records of a channel."""
        self.is_calm = False
        """Whether nothing shall make devices ask HQ but what is genuine."""

    def _new_desk(self) -> Desk:
        return Desk(
            self.ledger,
            self.topics,
            keyring=self.keys,
            draw=lambda: 0.5,
            new_id=self.new_id,
            wall_clock=lambda: self.at,
            timing=TIMING,
            limits=LIMITS,
        )

    def new_id(self) -> str:
        """An id that nobody else has."""
        return f"{self._began:08x}{next(self._ids):024x}"

    @property
    def at(self) -> float:
        """The time on every clock."""
        return AT + self.now

    # --- what people do --------------------------------------------------------------------------

    def roster(self, regions: dict[str, str]) -> None:
        """Make the roster these stores in these regions."""
        rows = [
            StoreRow(
                store_id=store,
                name=f"Store {store}",
                region=region,
                region_name=region,
                city="",
                country="",
                timezone="UTC",
                roles=("manager", "clerk"),
                role_names=("manager", "clerk"),
                tags=(),
                extra={},
            )
            for store, region in regions.items()
        ]
        with self.ledger.write() as connection:
            organisation.save_roster(connection, rows, at=self.at, new_id=self.new_id)

    def enrol(self, name: str, signing: SigningKey) -> None:
        """Let a device in with this key."""
        with self.ledger.write() as connection:
            enrolment.activate(
                connection,
                Identity.parse(name),
                None,
                public=signing.public,
                token_hash=token_hash(name),
                at=self.at,
                new_id=self.new_id,
            )

    def add_till(self, name: str) -> Till:
        """Let a device in and set it up."""
        signing = key(f"{self.name} {name}")
        self.enrol(name, signing)
        till = self.tills[name] = Till(self, Identity.parse(name), signing)
        return till

    def revoke(self, name: str) -> None:
        """Throw a device out."""
        with self.ledger.write() as connection:
            enrolment.revoke(connection, Identity.parse(name), at=self.at, by="Ana")

    def invite(self, name: str) -> Joining:
        """Make a bundle, and give it to somebody who will join with it."""
        identity = Identity.parse(name)
        invite, token = seed(f"invite {name}"), "t" * 43
        with self.ledger.write() as connection:
            bundle_id = enrolment.invite(
                connection,
                identity,
                None,
                at=self.at,
                by="Ana",
                expires_at=self.at + 86_400.0,
                new_id=self.new_id,
                token_hash=token_hash(token),
                invite_public=SigningKey(invite).public,
            )
        bundle = Bundle(
            id=bundle_id,
            root=self.topics.root,
            store=identity.store,
            device=identity.device,
            roles=["manager"],
            brokers=["mqtt://127.0.0.1"],
            token=token,
            invite=seed_text(invite),
            trust=self.keys.trusted(),
            expires_at=self.at + 86_400.0,
        )
        draft = Draft(bundle=bundle_id, seed=seed_text(seed(f"{self.name} {name}")), token=token)
        joining = Joining(bundle, draft, new_id=self.new_id, machine="PC-1")
        self.joining[bundle_id] = joining
        self.joined[bundle_id] = []
        return joining

    def issue(self, title: str, selector: Selector | None = None, **draft: Any) -> str:
        """Issue a directive, to everyone if not told otherwise."""
        with self.ledger.write() as connection:
            present = organisation.organisation(connection)
            issued = directives.issue(
                connection,
                directives.Draft(title=title, **draft),
                select(selector or Selector(everyone=True), present),
                present,
                at=self.at,
                new_id=self.new_id,
            )
        return issued.id

    def cancel(self, directive: str) -> None:
        """Withdraw a directive."""
        with self.ledger.write() as connection:
            withdrawing.cancel(
                connection,
                directives.find(connection, directive),
                reason="no more",
                by="Ana",
                organisation=organisation.organisation(connection),
                at=self.at,
                new_id=self.new_id,
            )

    # --- links -----------------------------------------------------------------------------------

    def link(self, *names: str) -> None:
        """The links of these devices come up, all before anything is carried."""
        for name in names:
            till = self.tills[name]
            till.linked = True
            self._from_till(till, till.handle(Linked()))

    def unlink(self, name: str) -> None:
        """The link of a device breaks; it says nothing."""
        till = self.tills[name]
        till.linked = False
        till.filters = ()
        till.handle(Unlinked())

    def bye(self, name: str) -> None:
        """A device goes, with its word."""
        till = self.tills[name]
        self._from_till(till, [till.core.bye()])
        self.carry()
        self.unlink(name)

    def hub_up(self) -> None:
        """HQ's link comes up, of a new process."""
        self.desk = self._new_desk()
        self._from_hq(self.desk.handle([hq_desk.Linked()], self.now))
        self.carry()

    def hub_down(self) -> None:
        """HQ's process goes, with its word."""
        self._from_hq([self.desk.farewell()])
        self.carry()

    def ask_to_join(self, bundle: str) -> None:
        """Who holds a bundle asks."""
        joining = self.joining[bundle]
        self._on_the_way.append(Delivery("hq", joining.topic, joining.ask()))
        self.carry()

    # --- carrying --------------------------------------------------------------------------------

    def _from_till(self, till: Till, outgoing: Sequence[Outgoing]) -> None:
        self._on_the_way.extend(
            Delivery("hq", one.topic, one.payload) for one in outgoing if isinstance(one, Publish)
        )

    def _from_hq(self, published: Sequence[hq_desk.Publish]) -> None:
        for one in published:
            for name, till in self.tills.items():
                if till.linked and one.topic in till.filters:
                    self._on_the_way.append(Delivery(name, one.topic, one.payload))
            for bundle, joining in self.joining.items():
                if one.topic == joining.topic:
                    self._on_the_way.append(Delivery(bundle, one.topic, one.payload))

    def carry(self, *, together: bool = False) -> None:
        """Deliver all that is on its way, and what follows from it.

        Args:
            together: Hand HQ everything that waits for it at once.
        """
        while self._on_the_way:
            delivery = self._on_the_way.popleft()
            if delivery.to == self.lose and delivery.kind == "records on down":
                self.lose = None
                continue
            if together and delivery.to == "hq":
                waiting = [delivery, *(one for one in self._on_the_way if one.to == "hq")]
                self._on_the_way = deque(one for one in self._on_the_way if one.to != "hq")
                events = [hq_desk.Heard(one.topic, one.payload) for one in waiting]
                for one in waiting:
                    self.before(one)
                self._from_hq(self.desk.handle(events, self.now))
            else:
                self.before(delivery)
                self.deliver(delivery)
                self.after(delivery)

    def deliver(self, delivery: Delivery, *, carry_on: bool = True) -> list[Delivery]:
        """Hand one message to whom it is for.

        Returns:
            What was said to it; on its way already, unless it is not to be carried on.
        """
        waiting, self._on_the_way = self._on_the_way, deque()
        if delivery.to == "hq":
            event = hq_desk.Heard(delivery.topic, delivery.payload)
            self._from_hq(self.desk.handle([event], self.now))
        elif delivery.to in self.tills:
            till = self.tills[delivery.to]
            self._from_till(till, till.handle(Heard(delivery.topic, delivery.payload)))
        else:
            joined = self.joining[delivery.to].hear(delivery.topic, delivery.payload)
            if joined is not None:
                self.joined[delivery.to].append(joined)
        self.said = said = list(self._on_the_way)
        self._on_the_way = waiting
        if carry_on:
            self._on_the_way.extend(said)
        return said

    def send(self, deliveries: Iterable[Delivery]) -> None:
        """Put messages on their way."""
        self._on_the_way.extend(deliveries)

    def go_on(self, seconds: float, *, together: bool = False) -> None:
        """Let time pass, with everything that is due in it."""
        until = self.now + seconds
        while True:
            self._from_hq(self.desk.handle([hq_desk.Tick()], self.now))
            for till in self.tills.values():
                if till.linked:
                    self._from_till(till, till.handle(Rang()))
            self.carry(together=together)
            times = [self.desk.next_at(self.now)]
            for till in self.tills.values():
                at = till.core.next_at() if till.linked else None
                if at is not None:
                    times.append(at)
            if min(times) > until:
                self.now = until
                return
            self.now = max(self.now + 0.001, min(times))

    # --- what is there ---------------------------------------------------------------------------

    def picture(self) -> Picture:
        """All that HQ keeps, but for what it puts aside and tells operators of."""
        # How far the desk has published is its own note, saved along with whatever is saved.
        note = {"meta": "key NOT IN ('published_no', 'clock_at')"}
        return picture(self.ledger, without={"quarantine", "incident"}, but=note)
