"""A broker and its wires: worse than any real one, by chance and on command.

Owns sessions, subscriptions, retained messages and wills, and what becomes of each packet. What
holds: packets of one topic on one link keep their order, unless one is a duplicate; packets of
different topics overtake one another; a broker that restarts has forgotten everything.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paho.mqtt.client import topic_matches_sub

from tests.simulation.timeline import Timeline

DOUBLED_MOST_SECONDS = 5.0
"""A duplicate may come so long after the packet itself."""
_matches = functools.cache(topic_matches_sub)


@dataclass
class Weather:
    """How bad the wires are at present."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_most_seconds: float = 0.1


class Session:
    """One client's connection; made by `Network.connect`."""

    def __init__(
        self,
        network: "Network",
        client_id: str,
        receive: Callable[[str, bytes], None],
        lost: Callable[[], None],
        will: tuple[str, bytes, bool] | None,
    ) -> None:
        self.client_id = client_id
        self.will = will
        self.filters: frozenset[str] = frozenset()
        self.wild: tuple[str, ...] = ()
        self.client_has_it = True
        self.broker_has_it = True
        self._network = network
        self._receive = receive
        self._lost = lost
        self._clear_at: dict[tuple[bool, str], float] = {}

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send a packet to the broker; whether it comes there is another matter."""
        self._network.note_said(topic, payload)

        def arrive() -> None:
            if self.broker_has_it:
                self._network.route(topic, payload, retain=retain)

        self._carry(topic, arrive, upwards=True)

    def subscribe(self, filters: Iterable[str], done: Callable[[], None]) -> None:
        """Make the subscriptions these; `done` when the broker's answer comes, if it comes."""
        wanted = frozenset(filters)

        def arrive() -> None:
            if not self.broker_has_it:
                return
            new, self.filters = wanted - self.filters, wanted
            self.wild = tuple(sorted(one for one in wanted if "+" in one))
            for topic, payload in sorted(self._network.retained.items()):
                if any(_matches(one, topic) for one in sorted(new)):
                    self.deliver(topic, payload)
            self._network.timeline.after(0.01, lambda: done() if self.client_has_it else None)

        # The wire to the broker keeps its order, and subscribing is not repeated by anybody.
        lane, timeline = (True, "subscribe"), self._network.timeline
        at = max(timeline.now + timeline.between(0.0, 0.05), self._clear_at.get(lane, 0.0))
        self._clear_at[lane] = at
        timeline.at(at, arrive)

    def deliver(self, topic: str, payload: bytes) -> None:
        """The broker sends a packet to the client."""

        def arrive() -> None:
            if self.client_has_it:
                self._receive(topic, payload)

        self._carry(topic, arrive, upwards=False)

    def hang_up(self) -> None:
        """The client goes with a DISCONNECT: no will."""
        self.client_has_it = False
        self.will = None
        self._network.forget(self)

    def vanish(self) -> None:
        """The client is gone without a word; the broker notices some time later."""
        self.client_has_it = False
        timeline = self._network.timeline
        timeline.after(timeline.between(0.1, 6.0), lambda: self._network.forget(self))

    def cut(self) -> None:
        """The link breaks: each end notices at its own time."""
        self.broker_has_it = False
        timeline = self._network.timeline
        timeline.after(timeline.between(0.0, 3.0), self.tell_lost)
        timeline.after(timeline.between(0.0, 6.0), lambda: self._network.forget(self))

    def tell_lost(self) -> None:
        """The client notices that the link is gone."""
        if self.client_has_it:
            self.client_has_it = False
            self._lost()

    def _carry(self, topic: str, arrive: Callable[[], object], *, upwards: bool) -> None:
        network, timeline = self._network, self._network.timeline
        weather, counts = network.weather, network.counts
        if timeline.chance(weather.loss):
            counts["messages lost"] += 1
            return
        lane = (upwards, topic)
        planned = timeline.now + timeline.random.random() * weather.delay_most_seconds
        at = max(planned, self._clear_at.get(lane, 0.0))
        if at < max(self._clear_at.values(), default=0.0):
            counts["messages overtaking"] += 1
        self._clear_at[lane] = at
        timeline.at(at, arrive)
        if timeline.chance(weather.duplication):
            counts["messages doubled"] += 1
            timeline.at(at + timeline.between(0.0, DOUBLED_MOST_SECONDS), arrive)


class Network:
    """The broker, with one session per client id."""

    def __init__(self, timeline: Timeline, counts: Counter[str]) -> None:
        self.timeline = timeline
        self.counts = counts
        self.weather = Weather()
        self.up = True
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, bytes] = {}
        self.watchers: list[Callable[[str, bytes], None]] = []
        """Are told of every packet that the broker routes."""
        self.in_between: Callable[[str, bytes, bool], None] | None = None
        """Who has the broker in their hands, and may `hand_on` what they like."""
        self.said: set[tuple[str, bytes]] = set()
        """Topic and text of all that was ever said by those who are what they say they are."""

    def connect(
        self,
        client_id: str,
        receive: Callable[[str, bytes], None],
        lost: Callable[[], None],
        will: tuple[str, bytes, bool] | None,
    ) -> Session | None:
        """A new clean session, which ends an older one of that client; None if nobody is there."""
        if not self.up:
            return None
        before = self.sessions.get(client_id)
        if before is not None:
            if before.client_has_it:
                self.counts["sessions taken over"] += 1
                self.timeline.after(0.0, before.tell_lost)
            self.forget(before)
        if will is not None:
            self.note_said(*will[:2])
        session = self.sessions[client_id] = Session(self, client_id, receive, lost, will)
        return session

    def note_said(self, topic: str, payload: bytes) -> None:
        """Somebody honest gives this to the broker."""
        self.said.add((topic, payload.partition(b"\n")[2]))

    def route(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """A packet has come to the broker."""
        if not self.up:
            return
        for watch in self.watchers:
            watch(topic, payload)
        if self.in_between is not None:
            self.in_between(topic, payload, retain)
        else:
            self.hand_on(topic, payload, retain=retain)

    def hand_on(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a packet to everyone who subscribed."""
        if retain:
            self.retained[topic] = payload
        for session in list(self.sessions.values()):
            if topic in session.filters or any(_matches(one, topic) for one in session.wild):
                session.deliver(topic, payload)

    def forget(self, session: Session) -> None:
        """The broker gives up a session, and publishes its will."""
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
        session.broker_has_it = False
        if session.will is not None and self.up:
            self.counts["wills published"] += 1
            topic, payload, retain = session.will
            session.will = None
            self.route(topic, payload, retain=retain)

    def stop(self) -> None:
        """The broker dies: no wills, and nothing is remembered."""
        self.up = False
        self.retained.clear()
        for session in list(self.sessions.values()):
            session.broker_has_it = False
            session.will = None
            self.timeline.after(self.timeline.between(0.0, 1.0), session.tell_lost)
        self.sessions.clear()

    def start(self) -> None:
        """The broker is back, empty."""
        self.up = True
