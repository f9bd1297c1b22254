"""The questions: every actor, every action, every topic and filter, and what came of each.

Owns what is asked and in which order; what is right is `table`'s. Every message carries the number
of its question, so that one that comes late or to the wrong place is told from all others, and
every silence is followed by a sentinel (`world`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from buswire.access import token_hash
from tests.broker_engine.raw import CONNACK, Client, ClosedError
from tests.isolation import table
from tests.isolation.changes import Changes
from tests.isolation.engines import Engine
from tests.isolation.table import IDENTITIES, ROOT, unescape
from tests.isolation.tally import Tally
from tests.isolation.world import (
    Actor,
    Login,
    World,
    access,
    publishing,
    subscribing,
    token,
    unsubscribing,
)

REFUSED = frozenset({2, 4, 5})
"""The codes of CONNACK: no such client id, bad user name or password, not authorized."""

SEEDED_ROOTS = (
    f"{ROOT}/to/S1",
    f"{ROOT}/from/S1",
    f"{ROOT}/heads",
    f"{ROOT}/join",
    f"{ROOT}/down/all",
    f"{ROOT}/down/region/east",
    f"{ROOT}/down/store/S1",
)
"""Only `<root>/hq` can be retained: under these roots that is a private topic of the real one."""


@dataclass
class _Question:
    what: str
    category: str
    topic: str
    hears: frozenset[str]
    """The columns that hear it if it gets through."""
    passes: bool
    either: bool
    heard: set[str] = field(default_factory=set)
    is_judged: bool = False


class Suite:
    """All questions to one engine."""

    def __init__(self, engine: Engine, *, patience_seconds: float, every: int = 1) -> None:
        """Take a running engine.

        Args:
            engine: Started with `world.access()`.
            patience_seconds: How long an answer may take.
            every: Ask about one in so many only of what is nobody's.
        """
        self.tally = Tally()
        self._engine = engine
        self._patience_seconds = patience_seconds
        self._world = World(engine.port, patience_seconds)
        self._tree = _thin(table.rights(table.TOPICS), every)
        self._topics = self._tree | _thin(table.rights(table.LOOK_ALIKES), every)
        self._filters = self._topics | _thin(table.rights(table.WILDCARDS), every)
        self._strangers = list(table.strangers())[:: -(-every // 3)]
        self._impossible_topics = [unescape(one) for one in table.IMPOSSIBLE_TOPICS[::every]]
        self._impossible_filters = [unescape(one) for one in table.IMPOSSIBLE_FILTERS[::every]]
        self._every = every
        self._seeds: dict[str, bytes] = {}
        self._questions: dict[bytes, _Question] = {}
        self._open: list[_Question] = []
        self._numbers = itertools.count()
        for name, actor in self._world.actors.items():
            actor.filters = [what for what, row in self._filters.items() if "s" in row[name]]

    def run(self) -> Tally:
        """Ask everything."""
        try:
            self._retained_reads()
            self._everybody_connects()
            self._strangers_connect()
            self._everybody_publishes()
            self._nothing_was_kept("publish retained")
            self._everybody_subscribes()
            self._everybody_unsubscribes_the_others()
            self._everybody_leaves_a_will()
            self._nothing_was_kept("retained will")
            self._everybody_comes_back_to_a_queue()
            self._everybody_is_taken_for_somebody_else()
            self._access_changes()
        finally:
            self._world.close()
        return self.tally

    # -- who hears what --

    def _ask(
        self,
        category: str,
        what: str,
        topic: str,
        *,
        passes: bool,
        either: bool = False,
    ) -> bytes:
        """Note a message that is about to be sent, and what should come of it; its payload."""
        payload = b"question %d" % next(self._numbers)
        row = self._topics.get(topic, {})
        hears = frozenset(name for name in row if set("sh") & set(row[name]))
        question = _Question(what, category, topic, hears, passes, either)
        self._questions[payload] = question
        self._open.append(question)
        return payload

    def _settle(self) -> None:
        """Prove every silence, and compare what was heard with what should have been."""
        listening = {actor.name for actor in self._world.listeners}
        lost = {actor.name for actor in self._world.settle()}
        self.tally.unproven += [f"{name} did not hear its sentinel" for name in sorted(lost)]
        for actor in self._world.everybody:
            for message in actor.take():
                self._note(actor.name, message.topic, message.payload)
        for question in self._open:
            self._judge(question, listening - lost)
            question.is_judged = True
        self._open = []

    def _note(self, name: str, topic: str, payload: bytes) -> None:
        question = self._questions.get(payload)
        if question is None:
            # What is retained was judged when it was. The auditor reads what the engine says of
            # itself, too.
            if name != "auditor" and payload not in self._seeds.values():
                self._leaked("publish", f"{name} heard something on {topic!r}")
            return
        if topic != question.topic:
            self._leaked(question.category, f"{question.what} came out on {topic!r}")
        may = question.passes and (name in question.hears or name == "auditor")
        if question.is_judged and not may:
            self._leaked(question.category, f"{question.what}: {name} heard it late")
        question.heard.add(name)

    def _judge(self, question: _Question, listening: set[str]) -> None:
        what, category, heard = question.what, question.category, question.heard
        if question.either:
            wrong = heard - question.hears - {"auditor"}
            self.tally.check(
                category, f"{what}: heard by {sorted(wrong)}", may=False, did=bool(wrong)
            )
        elif not question.passes:
            self.tally.check(
                category, f"{what}: heard by {sorted(heard)}", may=False, did=bool(heard)
            )
        else:
            for name in sorted(listening):
                self.tally.check(
                    category,
                    f"{what}: {name} hears it",
                    may=name in question.hears or name == "auditor",
                    did=name in heard,
                )

    def _leaked(self, category: str, what: str) -> None:
        self.tally.check(category, what, may=False, did=True)

    def _say_everything(self, category: str, when: str) -> None:
        """Have everything said on every topic of the tree by who may say it."""
        speakers = self._world.actors | {"hub": self._world.steward}
        for name, actor in speakers.items():
            makes = []
            for topic, row in self._tree.items():
                if "p" in row[name]:
                    what = f"{when}, {name} publishes to {topic}"
                    makes.append(publishing(topic, self._ask(category, what, topic, passes=True)))
            actor.attempt(makes)

    # -- retained messages --

    def _retained_reads(self) -> None:
        """Leave a message on private topics, and see who is sent it who subscribes."""
        world, steward = self._world, self._world.steward
        seeds = self._seeds
        for root in (ROOT, *SEEDED_ROOTS[:: self._every]):
            self._engine.apply(access(root=root))
            steward.open()
            topic = f"{root}/hq"
            seeds[topic] = b"kept on " + topic.encode()
            steward.attempt([publishing(topic, seeds[topic], retain=True)])
        self._engine.apply(access())
        steward.open()
        auditor = world.auditor
        auditor.open()
        world.settle()
        kept = {one.topic: one.payload for one in auditor.take() if one.payload in seeds.values()}
        for topic in seeds:
            self.tally.check("retained read", f"{topic} was retained", may=True, did=topic in kept)
        for name, actor in world.actors.items():
            # What is retained comes between SUBACK and UNSUBACK. One that is closed on a filter
            # comes back with no other.
            own, actor.filters = actor.filters, []
            actor.open()
            for topic_filter, row in self._filters.items():
                actor.attempt([subscribing(topic_filter), unsubscribing(topic_filter)])
                sent = {one.payload for one in actor.take()}
                wanted = {
                    seed
                    for topic, seed in seeds.items()
                    if "s" in row[name] and _matches(topic_filter, topic)
                }
                for seed in wanted | sent or {b"anything"}:
                    self.tally.check(
                        "retained read",
                        f"{name} is sent {seed!r} for {topic_filter!r}",
                        may=seed in wanted,
                        did=seed in sent,
                    )
            self._nothing_more_is_sent(actor, own)
            actor.filters = own
            actor.close()
        auditor.close()

    def _nothing_more_is_sent(self, actor: Actor, own: list[str]) -> None:
        """Have the actor hear a sentinel on the connection that was sent so little."""
        sentinels = {f"{ROOT}/hq", f"{ROOT}/heads/east", f"{ROOT}/join/hq"}
        actor.attempt([subscribing(one) for one in own if one in sentinels])
        if actor in self._world.settle():
            self.tally.unproven.append(f"{actor.name} did not hear its sentinel")
        sent = {one.topic for one in actor.take() if one.payload in self._seeds.values()}
        self.tally.check(
            "retained read",
            f"{actor.name} is sent what is kept on {sent} later",
            may=False,
            did=not sent <= set(own),
        )

    def _nothing_was_kept(self, category: str) -> None:
        """Nothing that was published is retained anywhere but on `hq`."""
        auditor = self._world.auditor
        auditor.open()
        self._world.settle()
        kept = [(one.topic, one.payload) for one in auditor.take() if one.retain]
        for topic, payload in kept:
            question = self._questions.get(payload)
            if question is not None:
                self.tally.check(
                    category,
                    f"{question.what}: it is kept",
                    may=topic == f"{ROOT}/hq" and question.passes,
                    did=True,
                )
        for topic in self._topics:
            self.tally.check(
                category,
                f"something new is kept on {topic}",
                may=topic == f"{ROOT}/hq",
                did=any(one == topic and payload in self._questions for one, payload in kept),
            )

    # -- everybody, one after the other --

    def _everybody_connects(self) -> None:
        world = self._world
        for name, actor in (*world.actors.items(), ("auditor", world.auditor)):
            self.tally.check("connect", f"{name} connects", may=True, did=actor.open() == 0)
            refused = ", ".join(actor.refused) if name != "auditor" else ""
            self.tally.check(
                "subscribe", f"{name} subscribes to its own: {refused}", may=True, did=not refused
            )
        self._say_everything("publish", "at the beginning")
        self._settle()

    def _everybody_publishes(self) -> None:
        ways = ((1, False), (0, False), (2, False), (1, True))
        for name, actor in self._world.actors.items():
            for qos, retain in ways:
                category = "publish retained" if retain else "publish"
                makes = []
                for topic, row in (self._topics if qos == 1 else self._tree).items():
                    letters = row[name]
                    payload = self._ask(
                        category,
                        f"{name} publishes to {topic!r}{' retained' if retain else ''}, QoS {qos}",
                        topic,
                        passes=("r" if retain else "p") in letters,
                        either="?" in letters and not retain,
                    )
                    makes.append(publishing(topic, payload, retain=retain, qos=qos))
                actor.attempt(makes)
                self._settle()
            for topic in self._impossible_topics:
                what = f"{name} publishes to {topic[:40]!r}, which is none"
                payload = self._ask("publish", what, topic, passes=False)
                actor.attempt([publishing(topic, payload)])
            if actor.client is None:
                actor.open()
            self._settle()

    def _everybody_subscribes(self) -> None:
        """Try every filter; then hear what everybody says, and nothing else."""
        for name, actor in self._world.actors.items():
            names = [one for one in self._filters if "s" not in self._filters[one][name]]
            answers = actor.attempt([subscribing(one) for one in names])
            own = actor.filters
            granted = actor.attempt([subscribing(one) for one in own])
            for one, answer in (
                *zip(names, answers, strict=True),
                *zip(own, granted, strict=True),
            ):
                self.tally.check(
                    "subscribe",
                    f"{name} subscribes to {one!r}",
                    may=one in own,
                    did=answer is not None and answer[-1] <= 2,
                )
            for one in self._impossible_filters:
                (answer,) = actor.attempt([subscribing(one)])
                self.tally.check(
                    "subscribe",
                    f"{name} subscribes to {one[:40]!r}, which is none",
                    may=False,
                    did=answer is not None and answer[-1] <= 2,
                )
            if actor.client is None:
                actor.open()
        self._say_everything("subscribe", "when all have tried every filter")
        self._settle()

    def _everybody_unsubscribes_the_others(self) -> None:
        """Take away every filter of the others, as if UNSUBSCRIBE were for all."""
        for actor in self._world.actors.values():
            others = [
                one
                for other in (*self._world.actors.values(), self._world.auditor)
                for one in other.filters
                if one not in actor.filters
            ]
            actor.attempt([unsubscribing(one) for one in dict.fromkeys(others)])
        self._say_everything("unsubscribe of others", "after everybody's UNSUBSCRIBE")
        self._settle()

    def _everybody_leaves_a_will(self) -> None:
        """Connect with a will and break off; connect once more, so that it was dealt with."""
        for name, actor in self._world.actors.items():
            login = actor.login
            if name == "hub":
                login = Login.of(IDENTITIES[name], run="dying")
            else:
                actor.close()
            topics = [*self._topics, *self._impossible_topics][:: -(-self._every // 3)]
            for topic, retain in itertools.product(topics, (False, True)):
                letters = self._topics.get(topic, {}).get(name, ".")
                payload = self._ask(
                    "retained will" if retain else "will",
                    f"{name} has a will{' retained' if retain else ''} for {topic[:40]!r}",
                    topic,
                    passes=("v" if retain else "w") in letters,
                )
                self._die(login, (topic, payload, 1, retain))
            self._die(login, None)
            if name != "hub":
                actor.open()
            self._settle()

    def _die(self, login: Login, will: tuple[str, bytes, int, bool] | None) -> int | None:
        """Connect with a will and break off if let in; the code of CONNACK."""
        with Client(self._engine.port) as client:
            try:
                client.send(login.packet(will=will))
                return client.expect(CONNACK, self._patience_seconds).body[1]
            except (ClosedError, TimeoutError, OSError):
                return None

    # -- who is not who they say --

    def _strangers_connect(self) -> None:
        """Who is refused has no effect, whatever comes in one piece with CONNECT."""
        for who, client_id, user, word in self._strangers:
            login = Login(client_id, user, _password(word))
            for clean in (True, False):
                code = self._intrude(login.packet(clean=clean), [])
                self.tally.check(
                    "connect", f"{who}, clean={clean}: CONNACK {code}", may=False,
                    did=code not in REFUSED,
                )  # fmt: skip
            for topic in (f"{ROOT}/hq", f"{ROOT}/from/S1/till", f"{ROOT}/to/S1/till"):
                for retain in (False, True):
                    category = "retained will" if retain else "will"
                    payload = self._ask(category, f"{who}: a will on {topic}", topic, passes=False)
                    self._intrude(login.packet(will=(topic, payload, 1, retain)), [])
            for retain in (False, True):
                category = "publish retained" if retain else "publish"
                said = []
                for topic in self._tree:
                    payload = self._ask(
                        category, f"{who} publishes to {topic}", topic, passes=False
                    )
                    said.append(publishing(topic, payload, retain=retain)(len(said) + 1))
                self._intrude(login.packet(clean=retain), said)
            numbers = itertools.count(1)
            wishes = [subscribing(one)(next(numbers)) for one in self._filters]
            own = self._world.actors["till"].filters
            wishes += [unsubscribing(one)(next(numbers)) for one in own]
            self._intrude(login.packet(clean=False), wishes, category="subscribe", who=who)
        self._say_everything("unsubscribe of others", "after all strangers have tried")
        self._settle()

    def _intrude(
        self, connect: bytes, packets: Sequence[bytes], *, category: str = "", who: str = ""
    ) -> int | None:
        """Send all in one piece and read what comes until the end."""
        got = []
        with Client(self._engine.port) as client:
            try:
                client.send(connect, *packets, *([b"\xe0\x00"] if packets else []))
                got.append(client.read(self._patience_seconds))
                while packets:
                    got.append(client.read(self._patience_seconds))
            except (ClosedError, TimeoutError, OSError):
                pass
        answers = [one for one in got if one.kind != CONNACK]
        if category:
            for number in range(len(packets)):
                self.tally.check(
                    category,
                    f"{who}: filter {number} is answered",
                    may=False,
                    did=number < len(answers),
                )
        return next((one.body[1] for one in got if one.kind == CONNACK), None)

    def _everybody_is_taken_for_somebody_else(self) -> None:
        """Nobody throws off a client, or empties the session of one that is away."""
        world = self._world
        victims = {IDENTITIES[name]: name for name in world.actors}
        victims[world.actors["hub"].login.client_id] = "hub"
        away = world.actors["till"]
        for is_away in (False, True):
            if is_away:
                away.clean, away.qos = False, 1
                away.open()
                away.leave()
                payload = b"for who is away"
                topic = f"{ROOT}/to/S1/till"
                world.steward.attempt([publishing(topic, payload)])
            for who, client_id, user, word in self._strangers:
                if client_id not in (["S1.till"] if is_away else victims):
                    continue
                login = Login(client_id, user, _password(word))
                for clean in (True, False):
                    self._intrude(login.packet(clean=clean), [])
                victim = world.actors[victims[client_id]]
                if not is_away:
                    lost = world.settle()
                    self.tally.check(
                        "takeover", f"{who} throws {victim.name} off", may=False,
                        did=victim in lost,
                    )  # fmt: skip
                    if victim in lost:
                        victim.open()
            if is_away:
                code = away.open()
                world.settle()
                heard = payload in {one.payload for one in away.take()}
                for what, did in (
                    ("is let in", code == 0),
                    ("finds its session", away.session_present),
                    ("finds its message", heard),
                ):
                    self.tally.check("takeover", f"who was away {what}", may=True, did=did)
                away.leave()
                away.clean, away.qos = True, 0
                away.open()
        for name, actor in world.actors.items():
            second = world.actor(IDENTITIES[name])
            second.filters = actor.filters
            did = second.open() == 0 and actor.is_ended()
            self.tally.check("takeover", f"{name} takes its own place", may=True, did=did)
            second.close()
            actor.open()
        self._settle()

    # -- queues --

    def _everybody_comes_back_to_a_queue(self) -> None:
        """Be away with a session; what waits is what may be heard and nothing else."""
        world = self._world
        queue = {name: actor for name, actor in world.actors.items() if name != "hub"}
        for actor in queue.values():
            actor.clean, actor.qos = False, 1
            actor.open()
            names = [one for one in self._filters if one not in actor.filters]
            actor.attempt([subscribing(one, 1) for one in names])
        for actor in queue.values():
            actor.leave()
            actor.take()
        said: dict[bytes, str] = {}
        makes = []
        for topic, row in self._tree.items():
            if "p" in row["hub"]:
                payload = b"while away: " + topic.encode()
                said[payload] = topic
                makes.append(publishing(topic, payload))
        world.steward.attempt(makes)
        # What waits for the auditor and the hub is theirs.
        world.settle()
        for actor in (world.auditor, world.actors["hub"]):
            actor.take()
        for name, actor in queue.items():
            code = actor.open(subscribe=False)
            self.tally.check("queued read", f"{name} comes back", may=True, did=code == 0)
            self.tally.check(
                "queued read", f"{name} has its session", may=True, did=actor.session_present
            )
        lost = world.settle()
        self.tally.unproven += [f"{actor.name} did not hear its sentinel" for actor in lost]
        for name, actor in queue.items():
            heard = {one.payload for one in actor.take()}
            for payload, topic in said.items():
                self.tally.check(
                    "queued read",
                    f"{name} finds what waited on {topic}",
                    may="s" in self._tree[topic][name],
                    did=payload in heard,
                )
            strays = heard - said.keys()
            self.tally.check("queued read", f"{name} finds {strays}", may=False, did=bool(strays))
            actor.clean, actor.qos = True, 0
            actor.leave()
            actor.open()

    # -- changes --

    def _access_changes(self) -> None:
        """Change the roster under clients that are connected or away."""
        Changes(self.tally, self._engine, self._world).run()


def _thin(rights: dict[str, dict[str, str]], every: int) -> dict[str, dict[str, str]]:
    """Keep all that is somebody's, and one in so many of the rest."""
    nobodys = [topic for topic, row in rights.items() if set("".join(row.values())) <= set(".?")]
    dropped = set(nobodys) - set(nobodys[::every])
    return {topic: row for topic, row in rights.items() if topic not in dropped}


def _password(word: str | None) -> bytes | None:
    if word is None:
        return None
    if word.startswith("hash:"):
        return token_hash(token(word[5:])).encode()
    return token(word).encode() if word else b""


def _matches(topic_filter: str, topic: str) -> bool:
    """Whether one of the few filters that somebody has matches one of the seeds."""
    wanted, there = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(there) and all(
        level in ("+", word) for level, word in zip(wanted, there, strict=True)
    )
