"""Many light devices in one process, for demonstrations and load: real cores, real links.

Owns the devices, when they answer what arrives, and the totals. Each device has its database in
memory, so the whole fleet is one disk that dies with the process; all links share one loop.

Invariants:
- A device runs the very core of the daemon; only its database and its thread are different.
- What a device answers, and when, follows from the seed, the identity and the directive alone.
"""

import heapq
import itertools
import os
import queue
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from buskit.link import (
    Connected,
    Disconnected,
    Link,
    LinkEvent,
    LinkLoop,
    LinkSettings,
    Publication,
    Published,
    Received,
    Subscribed,
)
from buswire.device import Timing
from buswire.signing import SigningKey
from buswire.states import State
from buswire.topics import Identity, Topics
from buswire.trust import Trusted
from storeagent.carrier import Carrier
from storeagent.core import AgentCore, Event, Heard, Linked, Rang, Unlinked
from storeagent.database import agent_database_from, empty_image
from storeagent.delivery import Delivery
from storeagent.statements import Outcome, Statements

_WAIT_SECONDS = 0.25
_BATCH_EVENTS = 5_000
_FAREWELL_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Member:
    """One device of the fleet."""

    identity: Identity
    seed: bytes = field(repr=False)
    """Of its key."""
    token: str = field(repr=False)
    """Its password for the broker."""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How the fleet behaves."""

    brokers: tuple[str, ...]
    root: str
    trust: Trusted
    """HQ's keys, for all of them."""
    qos: int = 0
    keepalive_seconds: int = 60
    connects_per_second: float = 200.0
    answers: tuple[State, ...] = ()
    """What each device says about what arrives, in this order."""
    within_seconds: float = 5.0
    """All of it is said within so long of the arrival."""
    cannot_ratio: float = 0.0
    """So many say cannot where they would say done."""
    reply_ratio: float = 0.0
    """So many reply, too."""
    alerts_per_second: float = 0.0
    """Of the whole fleet."""
    seed: int = 1
    timing: Timing = field(default_factory=Timing)


@dataclass(slots=True)
class Totals:
    """How the whole fleet is."""

    devices: int = 0
    connected: int = 0
    welcomed: int = 0
    taken: int = 0
    """Deliveries that are saved."""
    open: int = 0
    """Deliveries that HQ still waits for."""
    said: int = 0
    """Statements of the devices, without the receipts that they write by themselves."""
    alerts: int = 0
    replies: int = 0
    unacknowledged: int = 0
    """Entries that HQ has not acknowledged."""
    twice: int = 0
    """Deliveries that arrived again after they were there; HQ reopening them counts, too."""
    aside: int = 0


class _Device:
    """One light device, owned by the fleet's thread."""

    def __init__(self, member: Member, fleet: "Fleet", image: bytes) -> None:
        self.member = member
        self.random = random.Random(f"{fleet.settings.seed} {member.identity}")  # noqa: S311
        database = agent_database_from(image)
        self.core = AgentCore(
            database,
            member.identity,
            fleet.topics,
            key=SigningKey(member.seed),
            trust=fleet.settings.trust,
            draw=self.random.random,
            new_id=_new_id,
            wall_clock=time.time,
            roles=member.roles,
            version="fleet",
            timing=fleet.settings.timing,
        )
        self.statements = Statements(database, wall_clock=time.time)
        bye = self.core.bye()
        self.bye = Publication(bye.topic, bye.payload, qos=fleet.settings.qos)
        self.link = Link(
            LinkSettings(
                addresses=fleet.settings.brokers,
                client_id=str(member.identity),
                username=str(member.identity),
                password=member.token,
                keepalive_seconds=fleet.settings.keepalive_seconds,
                will=self.bye,
                backoff_most_seconds=15.0,
            ),
            deliver=self._deliver,
            random=self.random,
            loop=fleet.loop,
        )
        self.carrier = Carrier(self.link, qos=fleet.settings.qos)
        self._inbound = fleet.inbound
        self.due_at: float | None = None
        self.arrivals = 0
        self.seen_arrival = 0
        self.totals = Totals(devices=1)
        self.said = self.alerts = self.replies = 0

    def _deliver(self, event: LinkEvent) -> None:
        if not isinstance(event, Published):  # one for each message sent, and of no use here
            self._inbound.put((self, event))

    def count(self) -> Totals:
        """Count anew."""
        inbox, outbox = self.core.inbox, self.core.outbox
        states = inbox.counts()
        taken = sum(states.values())
        return Totals(
            devices=1,
            connected=int(self.link.connected),
            welcomed=int(self.core.welcomed),
            taken=taken,
            open=inbox.open_count(),
            said=self.said,
            alerts=self.alerts,
            replies=self.replies,
            unacknowledged=outbox.pending("act") + outbox.pending("bulk"),
            twice=self.core.memory.number("arrivals") - taken,
            aside=inbox.aside_count(),
        )


class Fleet:
    """The fleet; made to run once."""

    def __init__(self, members: Sequence[Member], settings: FleetSettings) -> None:
        """Prepare the devices; nothing connects before `run`.

        Args:
            members: The devices; identities are different from one another.
            settings: How they behave.
        """
        self.settings = settings
        self.topics = Topics(settings.root)
        self.inbound: queue.SimpleQueue[tuple[_Device, LinkEvent] | None] = queue.SimpleQueue()
        self.loop = LinkLoop("fleet")
        image = empty_image()
        self._devices = [_Device(member, self, image) for member in members]
        self._random = random.Random(settings.seed)  # noqa: S311 - a load, no secret
        self._serial = itertools.count()
        self._due: list[tuple[float, int, _Device]] = []
        self._plans: list[tuple[float, int, _Device, Delivery, tuple[State, ...]]] = []
        self._changed: set[_Device] = set()
        self._totals = Totals(devices=len(self._devices))
        self._stopping = False
        self._started = 0
        self._alerts = 0

    def stop(self) -> None:
        """End `run` soon; safe inside a signal handler."""
        self._stopping = True
        self.inbound.put(None)

    def run(self, tell: Callable[[Totals], None], *, every_seconds: float = 1.0) -> Totals:
        """Run until `stop`.

        Args:
            tell: Takes the totals, every so often.
            every_seconds: How often.

        Returns:
            The totals at the end, before the farewell.
        """
        begun_at = time.monotonic()
        tell_at = begun_at + every_seconds
        while not self._stopping:
            now = time.monotonic()
            self._start_some(now - begun_at)
            self._raise_alerts(now - begun_at)
            self._take(self._gather(now))
            self._say_what_is_due(time.monotonic())
            self._tick_what_is_due(time.monotonic())
            if time.monotonic() >= tell_at:
                tell_at = max(tell_at + every_seconds, time.monotonic())
                tell(self.totals())
        final = self.totals()
        self._leave()
        return final

    def totals(self) -> Totals:
        """How the fleet is now."""
        for device in self._changed:
            before, device.totals = device.totals, device.count()
            for name in Totals.__slots__:
                if name != "devices":
                    change = getattr(device.totals, name) - getattr(before, name)
                    setattr(self._totals, name, getattr(self._totals, name) + change)
        self._changed.clear()
        return self._totals

    # --- one round -------------------------------------------------------------------------------

    def _start_some(self, elapsed_seconds: float) -> None:
        most = min(len(self._devices), int(elapsed_seconds * self.settings.connects_per_second) + 1)
        while self._started < most:
            self._devices[self._started].link.start()
            self._started += 1

    def _gather(self, now: float) -> dict[_Device, list[LinkEvent]]:
        wait = _WAIT_SECONDS
        for heap in (self._due, self._plans):
            if heap:
                wait = min(wait, max(0.0, heap[0][0] - now))
        if self._started < len(self._devices):
            wait = min(wait, 1.0 / self.settings.connects_per_second)
        if self.settings.alerts_per_second:
            wait = min(wait, 1.0 / self.settings.alerts_per_second)
        gathered: dict[_Device, list[LinkEvent]] = {}
        try:
            one = self.inbound.get(timeout=wait)
            for _ in range(_BATCH_EVENTS):
                if one is not None:
                    gathered.setdefault(one[0], []).append(one[1])
                one = self.inbound.get_nowait()
        except queue.Empty:
            pass
        return gathered

    def _take(self, gathered: dict[_Device, list[LinkEvent]]) -> None:
        for device, happened in gathered.items():
            events: list[Event] = []
            for event in happened:
                match event:
                    case Received(topic, payload):
                        events.append(Heard(topic, payload))
                    case Connected():
                        device.carrier.connected()
                        events.append(Linked())
                    case Disconnected():
                        device.carrier.forget()
                        events.append(Unlinked())
                    case Subscribed(_, refused):
                        device.carrier.subscribed(refused, time.monotonic())
                    case _:
                        pass
            now = time.monotonic()
            if events:
                self._handle(device, events, now)
            else:
                device.carrier.pump(now)

    def _handle(self, device: _Device, events: list[Event], now: float) -> None:
        device.carrier.carry(device.core.handle(events, now), now)
        self._changed.add(device)
        if device.core.arrivals != device.arrivals:
            device.arrivals = device.core.arrivals
            self._plan_answers(device, now)
        due_at = device.core.next_at()
        if due_at is not None and due_at != device.due_at:
            heapq.heappush(self._due, (due_at, next(self._serial), device))
        device.due_at = due_at

    def _tick_what_is_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now and not self._stopping:
            at, _, device = heapq.heappop(self._due)
            if device.due_at == at:
                device.due_at = None
                self._handle(device, [Rang()], now)

    # --- what the devices say --------------------------------------------------------------------

    def _plan_answers(self, device: _Device, now: float) -> None:
        for item in device.core.inbox.items_since(device.seen_arrival, 10_000):
            device.seen_arrival = item.delivery.arrival
            if not item.delivery.todo or not self.settings.answers:
                continue
            rng = random.Random(  # noqa: S311 - a load, no secret
                f"{self.settings.seed} {device.member.identity} {item.delivery.directive}"
            )
            moments = sorted(
                now + rng.random() * self.settings.within_seconds for _ in self.settings.answers
            )
            cannot = rng.random() < self.settings.cannot_ratio
            steps = tuple(
                State.CANNOT if cannot and state is State.DONE else state
                for state in self.settings.answers
            )
            if rng.random() < self.settings.reply_ratio:
                # A reply is planned as an answer without a state.
                heapq.heappush(
                    self._plans, (moments[-1], next(self._serial), device, item.delivery, ())
                )
            for at, state in zip(moments, steps, strict=True):
                heapq.heappush(
                    self._plans, (at, next(self._serial), device, item.delivery, (state,))
                )

    def _say_what_is_due(self, now: float) -> None:
        speakers: set[_Device] = set()
        while self._plans and self._plans[0][0] <= now:
            _, _, device, delivery, states = heapq.heappop(self._plans)
            speakers.add(device)
            if not states:
                text = f"{device.member.identity} has a question"
                device.statements.reply(delivery.directive, delivery.role, text=text, by="fleet")
                device.replies += 1
            elif self._say(device, delivery, states[0]):
                device.said += 1
        for device in speakers:
            self._handle(device, [Rang()], now)

    def _say(self, device: _Device, delivery: Delivery, state: State) -> bool:
        say, which = device.statements, (delivery.directive, delivery.role)
        match state:
            case State.READ:
                said = say.read(*which, by="fleet")
            case State.IN_PROGRESS:
                said = say.start(*which, by="fleet")
            case State.CANNOT:
                offered = device.core.inbox.terms(delivery.directive).reasons
                code = offered[0].code if offered else ""
                said = say.cannot(*which, reason="the fleet says so", code=code, by="fleet")
            case _:
                said = say.done(*which, by="fleet")
        return said.outcome is Outcome.SAID

    def _raise_alerts(self, elapsed_seconds: float) -> None:
        wanted = int(elapsed_seconds * self.settings.alerts_per_second)
        for _ in range(min(wanted - self._alerts, 1_000)):
            self._alerts += 1
            device = self._random.choice(self._devices)
            fields = {
                "sku": f"{self._random.randrange(10**7):07d}",
                "on_hand": self._random.randrange(5),
                "reorder_point": 12,
            }
            device.statements.alert("replenishment", fields, by="fleet")
            device.alerts += 1
            self._handle(device, [Rang()], time.monotonic())

    # --- the end ---------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Say farewell for all of them at once; whoever is not heard has left a will."""
        for device in self._devices[: self._started]:
            device.link.publish(device.bye)
        deadline = time.monotonic() + _FAREWELL_SECONDS
        while time.monotonic() < deadline:
            if not any(device.link.unsent_bytes for device in self._devices[: self._started]):
                break
            time.sleep(0.05)
        self.loop.stop()
        for device in self._devices:
            device.core.database.close()


def _new_id() -> str:
    return os.urandom(16).hex()
