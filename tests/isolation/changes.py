"""Changes of access under clients that are connected, or away with a session.

The pages `CHANGES`, `BEFORE` and `ENDS` of `table` say what is right.
"""

import itertools

from tests.isolation.engines import Engine
from tests.isolation.table import BEFORE, CHANGES, ENDS, ROOT, TOOL_CHANGES, cells, unescape
from tests.isolation.tally import Tally
from tests.isolation.world import Actor, World, access, publishing, subscribing

CATEGORY = "change of access"


class Changes:
    """One change of everything that can change, and back again."""

    def __init__(self, tally: Tally, engine: Engine, world: World) -> None:
        """Take a world whose steward and auditor are connected."""
        self._tally = tally
        self._engine = engine
        self._world = world
        self._rounds = itertools.count()
        before = {name: set(unescape(topics).split()) for name, topics in cells(BEFORE)}
        self._before: dict[str, set[str]] = {}
        self._loses: dict[str, set[str]] = {}
        self._may: dict[str, set[str]] = {}
        for name, _, _, loses, may in cells(CHANGES):
            store = name[:2]
            for sibling in (name, f"{store}.u"):
                letter = sibling[-1]
                self._before[sibling] = {
                    topic.replace(f"/to/{store}/t", f"/to/{store}/{letter}")
                    for topic in before[name]
                }
                self._loses[sibling] = set(unescape(loses).split())
                self._may[sibling] = set(unescape(may).split())
        for name, reads, _, loses, may in cells(TOOL_CHANGES):
            self._before[name] = set(unescape(reads).split())
            self._loses[name] = set(unescape(loses).split())
            self._may[name] = set(unescape(may).split())
        tables = (self._before, self._loses, self._may)
        filters = set().union(*(topics for one in tables for topics in one.values()))
        self._topics = sorted(one for one in filters if "+" not in one)
        self._away = [self._actor(name) for name in self._before if name.endswith(".u")]
        self._connected = [self._actor(name) for name in self._before if not name.endswith(".u")]

    def _actor(self, name: str) -> Actor:
        actor = self._world.actor(name)
        actor.filters = sorted(self._before[name])
        return actor

    def run(self) -> None:
        """Go there and back."""
        world = self._world
        world.guests = list(self._connected)
        for actor in self._connected:
            actor.open()
            self._try(actor, self._may[actor.name], may=False, when="before the change")
        self._hear("before the change", self._before)
        self._leave_sessions()
        ends = self._connect_those_who_end()

        self._engine.apply(access(changed=True))
        self._see_who_ended(ends)
        now = {name: self._before[name] - self._loses[name] for name in self._before}
        self._hear("after the change", now)
        self._come_back(now)
        for actor in self._connected:
            self._try(actor, self._loses[actor.name], may=False, when="after the change")
            self._try(actor, self._may[actor.name], may=True, when="after the change")
        both = {name: now[name] | self._may[name] for name in now}
        self._hear("after asking again", {n: now[n] if n.endswith(".u") else both[n] for n in now})

        self._engine.apply(access())
        self._hear("after the change back", now)
        for actor in self._connected:
            self._try(actor, self._may[actor.name], may=False, when="after the change back")
            self._try(actor, self._loses[actor.name], may=True, when="after the change back")
        self._hear(
            "after asking again",
            {n: now[n] if n.endswith(".u") else self._before[n] for n in now},
        )
        self._come_back_after_revocation()
        for actor in world.guests:
            actor.close()
        world.guests = []

    def _check(self, what: str, *, may: bool, did: bool) -> None:
        self._tally.check(CATEGORY, what, may=may, did=did)

    def _try(self, actor: Actor, filters: set[str], *, may: bool, when: str) -> None:
        """Subscribe to these."""
        answers = actor.attempt([subscribing(one) for one in sorted(filters)])
        for one, answer in zip(sorted(filters), answers, strict=True):
            did = answer is not None and answer[-1] <= 2
            self._check(f"{actor.name} subscribes to {one} {when}", may=may, did=did)

    def _say(self, mark: str) -> None:
        makes = [publishing(topic, f"{mark} {topic}".encode()) for topic in self._topics]
        self._world.steward.attempt(makes)

    def _hear(self, when: str, expected: dict[str, set[str]]) -> None:
        """Say something on every topic and compare what the guests heard."""
        mark = f"round {next(self._rounds)}"
        self._say(mark)
        lost = self._world.settle()
        for actor in self._world.everybody:
            heard = {one.payload.decode() for one in actor.take()}
            if actor.name not in expected or (actor.client is None and actor not in lost):
                continue
            if actor in lost:
                self._tally.unproven.append(f"{actor.name} did not hear its sentinel {when}")
            for topic in self._topics:
                self._check(
                    f"{actor.name} hears {topic} {when}",
                    may=any(_matches(one, topic) for one in expected[actor.name]),
                    did=f"{mark} {topic}" in heard,
                )

    # -- sessions of those who are away --

    def _leave_sessions(self) -> None:
        for actor in self._away:
            actor.clean, actor.qos = False, 1
            actor.open()
            actor.leave()
        self._say("while away")

    def _come_back(self, expected: dict[str, set[str]]) -> None:
        """What waited and may not be heard any more is gone; the rest is there."""
        for actor in self._away:
            code = actor.open(subscribe=False)
            self._check(f"{actor.name} comes back", may=True, did=code == 0)
            self._check(f"{actor.name} has its session", may=True, did=actor.session_present)
        self._world.guests += self._away
        lost = self._world.settle()
        for actor in self._away:
            if actor in lost:
                self._tally.unproven.append(f"{actor.name} did not hear its sentinel")
            heard = {one.payload.decode() for one in actor.take()}
            for topic in self._topics:
                self._check(
                    f"{actor.name} finds what waited on {topic}",
                    may=topic in expected[actor.name],
                    did=f"while away {topic}" in heard,
                )

    # -- those who go --

    def _connect_those_who_end(self) -> dict[str, Actor]:
        actors = {}
        for name, *_ in cells(ENDS):
            actor = actors[name] = self._world.actor(name)
            actor.filters = [f"{ROOT}/{name}" if name.startswith("join/") else f"{ROOT}/hq"]
            if name == "RV.t":
                actor.clean, actor.qos = False, 1
                topic = f"{ROOT}/from/RV/t"
                actor.will = (topic, b"the last word of who was revoked", 1, False)
            self._check(f"{name} connects", may=True, did=actor.open() == 0)
        return actors

    def _see_who_ended(self, actors: dict[str, Actor]) -> None:
        world = self._world
        for name, _, connection, old, new in cells(ENDS):
            actor = actors[name]
            if connection == "stays":
                world.guests.append(actor)
                self._check(f"{name} stays", may=True, did=actor not in world.settle())
                world.guests.remove(actor)
            else:
                self._check(f"{name} stays", may=False, did=not actor.is_ended())
            for word, verdict in ((name, old), (f"{name} new", new)):
                if verdict == "-":
                    continue
                login = world.actor(name, word=word)
                code = login.open()
                self._check(
                    f"{name} with the token {word!r}: {code}",
                    may=verdict == "let in",
                    did=code == 0 or code not in (None, 4, 5),
                )
                login.close()
            actor.close()
        world.settle()
        heard = [one.payload for one in world.auditor.take() if b"last word" in one.payload]
        self._check(f"the will of who was revoked: {heard}", may=False, did=bool(heard))

    def _come_back_after_revocation(self) -> None:
        """Who was revoked and is let in again has lost the session."""
        actor = self._world.actor("RV.t")
        actor.clean = False
        code = actor.open(subscribe=False)
        self._check("RV.t is let in again", may=True, did=code == 0)
        self._check("RV.t has its old session", may=False, did=actor.session_present)
        actor.leave()


def _matches(topic_filter: str, topic: str) -> bool:
    """Whether one of the filters of the page matches a topic of the page."""
    wanted, there = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(there) and all(
        level in ("+", word) for level, word in zip(wanted, there, strict=True)
    )
