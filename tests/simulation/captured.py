"""A broker in wrong hands: it has read every message there ever was, and carries what it likes.

It changes and holds back what passes, says again what it heard, here and elsewhere, and makes up
messages of every kind, signed with whatever it has: signatures of other messages, keys of its own,
a till that it stole, HQ's keys that were stolen and are known to be. What it does not have is a key
that counts. So nothing that it makes may be believed; `Oracle.heard_*` watches that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from buswire import frame
from buswire.cursors import START, Cursor, advance
from buswire.errors import WireError
from buswire.messages import (
    Ack,
    Answer,
    AnyMessage,
    Backlog,
    Bye,
    Cancel,
    Directive,
    Heads,
    Hello,
    Hub,
    Nudge,
    Original,
    Receipt,
    Record,
    Records,
    Snapshot,
    StateChange,
    Welcome,
    Work,
    encode_data,
)
from buswire.signing import SigningKey, seal
from buswire.states import State
from buswire.topics import Identity
from buswire.trust import announce
from hqconsole.errors import HqError

if TYPE_CHECKING:
    from tests.simulation.network import Session
    from tests.simulation.world import World

STOLEN = "stolen"
"""What the device in wrong hands is called."""
ALTERED = 0.06
HELD = 0.06
HELD_MOST_SECONDS = 15.0
LIED_TO_HELLO = 0.3
KEPT = 0.15
"""How much of what passes is changed, held back, answered before HQ can, or kept for long."""


class CapturedBroker:
    """Stands in the network's way from the moment that it is made until it is told to end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ended = False
        self._own_key = world.seeds.key()
        self._heard: list[tuple[str, bytes]] = []
        self._kept: list[tuple[str, bytes]] = []
        self._till = StolenTill(world)
        world.network.in_between = self.take

    def end(self) -> None:
        """Carry everything as a broker should."""
        self.ended = True
        self._till.end()
        self.world.network.in_between = None

    # --- what passes -----------------------------------------------------------------------------

    def take(self, topic: str, payload: bytes, retain: bool) -> None:
        """A packet has come to the broker."""
        world = self.world
        network, timeline, counts = world.network, world.timeline, world.counts
        self._heard.append((topic, payload))
        message = _read(payload)
        if isinstance(message, Hello) and timeline.chance(LIED_TO_HELLO):
            self._answer_falsely(topic, message)
        if isinstance(message, Hello) and timeline.chance(KEPT):
            counts["hellos kept for later"] += 1
            self._kept.append((topic, payload))
        elif timeline.chance(ALTERED):
            counts["messages altered"] += 1
            network.hand_on(topic, self._altered(payload), retain=retain)
        elif timeline.chance(HELD):
            counts["messages held back"] += 1
            timeline.after(
                timeline.between(0.5, HELD_MOST_SECONDS),
                lambda: network.up and network.hand_on(topic, payload, retain=retain),
            )
        else:
            network.hand_on(topic, payload, retain=retain)

    def _altered(self, payload: bytes) -> bytes:
        random = self.world.timeline.random
        header, _, text = payload.partition(b"\n")
        digits = [place for place, byte in enumerate(text) if 48 <= byte <= 57]
        match random.choice(("text", "text", "byte", "header", "end", "none")):
            case "text" if digits:  # another digit: still a message, and another one
                place = random.choice(digits)
                return header + b"\n" + text[:place] + random.choice(_DIGITS) + text[place + 1 :]
            case "byte":
                place = random.randrange(len(payload))
                flipped = bytes([payload[place] ^ (1 << random.randrange(8))])
                return payload[:place] + flipped + payload[place + 1 :]
            case "header":
                other, _, _ = random.choice(self._heard)[1].partition(b"\n")
                return other + b"\n" + text
            case "end":
                return payload[: random.randrange(len(payload))]
            case _:
                return text

    # --- what it says by itself ------------------------------------------------------------------

    def say_again(self) -> None:
        """A message from any time, on its topic or on another one."""
        if not self._heard:
            return
        world, random = self.world, self.world.timeline.random
        topic, payload = random.choice(self._heard)
        if random.random() < 0.5:
            topic = random.choice(self._heard)[0]
            world.counts["messages said again elsewhere"] += 1
        else:
            world.counts["messages said again"] += 1
        self._hand_on(topic, payload)

    def say_kept(self) -> None:
        """A hello that HQ has not heard, when its device may have begun anew since."""
        if self._kept:
            self._hand_on(*self.world.timeline.random.choice(self._kept))

    def lie(self) -> None:
        """A message made out of one that was heard."""
        if not self._heard:
            return
        topic, payload = self.world.timeline.random.choice(self._heard)
        message = _read(payload)
        if message is not None:
            self._say_falsely(topic, self._twisted(message), payload)

    def _say_falsely(self, topic: str, message: AnyMessage | None, like: bytes | None) -> None:
        if message is None:
            return
        world, random = self.world, self.world.timeline.random
        world.counts["messages forged"] += 1
        world.counts[f"forged {type(message).__name__.lower()}"] += 1
        keys = [self._own_key, self._till.key, *self._stolen_keys(topic)]
        payload = frame.encode(message, topic, random.choice(keys))
        header, _, text = payload.partition(b"\n")
        if like is not None and random.random() < 0.5:
            theirs = like.partition(b"\n")[0]
            if random.random() < 0.5:  # their key, somebody's signature over this
                version, key_id, _ = theirs.split(b" ")
                theirs = b" ".join((version, key_id, header.split(b" ")[2]))
            payload = theirs + b"\n" + text
        self._hand_on(topic, payload)

    def _stolen_keys(self, topic: str) -> list[SigningKey]:
        """HQ's stolen keys, towards those who have heard that they were stolen."""
        world = self.world
        kind, _, place = topic.removeprefix("storebus/v1/").partition("/")
        if kind != "to":
            return []
        epoch = world.keys.entries[-1].epoch
        theirs = [one for one in world.machines if "/".join(one.identity) == place]
        if any(one.core is None or one.core.trusted.epoch != epoch for one in theirs):
            return []
        return world.keys.in_other_hands

    def _hand_on(self, topic: str, payload: bytes) -> None:
        if self.world.network.up:
            self.world.network.hand_on(topic, payload, retain=topic.endswith("/hq"))

    def _answer_falsely(self, topic: str, hello: Hello) -> None:
        """The answers to a hello are there before HQ's."""
        to = topic.replace("/from/", "/to/")
        epoch = self.world.keys.entries[-1].epoch + 1
        key = announce(self._own_key.public, epoch=epoch, number=1, by=self._own_key)
        random = self.world.timeline.random
        welcome = Welcome(
            nonce=hello.nonce,
            run=random.choice((self._id(), hello.run)),
            at=0.0,
            mode=random.choice(("snapshot", "replay")),
            set_version=hello.set_version,
            heads=dict(hello.cursors),
            uplink={
                log: random.choice((START, Cursor(backlog.acked.seq + 3, self._id())))
                for log, backlog in hello.uplink.items()
            },
            answers=[Answer(work=work, verdict="gone") for work in hello.unsure],
            want=[],
            keys=[key],
        )
        self._say_falsely(to, welcome, None)

    def _twisted(self, message: AnyMessage) -> AnyMessage | None:
        """The same kind of message, which says something else."""
        change = msgspec.structs.replace
        match message:
            case Records(records=records) if records:
                record = self._twisted_record(records[-1])
                if record is None:
                    return None
                after = advance(message.after, [one.id for one in records])
                return Records(log=message.log, after=after, records=[record])
            case Hello():
                other = {
                    log: Backlog(acked=Cursor(backlog.acked.seq + 5, self._id()), pending=0)
                    for log, backlog in message.uplink.items()
                }
                return change(
                    message,
                    nonce=self._id(),
                    run=self._id(),
                    install=self._id(),
                    number=message.number + 100,
                    start=message.start + 100,
                    uplink=other,
                )
            case Snapshot():
                return change(message, items=[])
            case Welcome():
                return change(message, heads={}, pages=0, mode="snapshot", uplink={})
            case Ack():
                return change(message, cursor=Cursor(message.cursor.seq + 1, self._id()))
            case Heads():
                ahead = {name: Cursor(at.seq + 1, self._id()) for name, at in message.heads.items()}
                return change(message, heads=ahead)
            case Hub():
                return change(message, run=self._id())
            case Nudge():
                return Nudge(reason="come", challenge=self._id())
            case Bye():
                return Bye(run=self._id())
        return None

    def _twisted_record(self, record: Record) -> Record | None:
        data: Any
        match record.kind:
            case "directive":
                old = msgspec.json.decode(record.data, type=Directive)
                data = msgspec.structs.replace(old, id=self._id(), title="Send us the money")
            case "receipt":
                said = msgspec.json.decode(record.data, type=Receipt)
                data = msgspec.structs.replace(said, state=State.DONE)
            case "alert":
                data = msgspec.json.decode(record.data) | {"note": "never said"}
            case "cancel" | "state":
                data = msgspec.json.decode(record.data)
            case _:
                return None
        raw = msgspec.Raw(msgspec.json.encode(data))
        return msgspec.structs.replace(record, id=self._id(), data=raw)

    def steal_work(self) -> None:
        """Withdraw or close what a store has to do, as if HQ did."""
        world, random = self.world, self.world.timeline.random
        said = [(topic, _read(payload)) for topic, payload in self._heard if "/down/" in topic]
        logs = [(t, m) for t, m in said if isinstance(m, Records)]
        directives = list(world.journal.directives)
        if not logs or not directives:
            return
        topic, records = random.choice(logs)
        data: Any
        if random.random() < 0.5:
            kind, data = "cancel", Cancel(directive=random.choice(directives), reason="false")
        else:
            kind, data = "state", StateChange(directive=directives[-1], state=State.CANCELLED)
        record = Record(id=self._id(), kind=kind, at=0.0, data=msgspec.Raw(encode_data(data)))
        after = advance(records.after, [one.id for one in records.records])
        self._say_falsely(topic, Records(log=records.log, after=after, records=[record]), None)

    def misuse_till(self) -> None:
        """Let the stolen till speak."""
        self._till.speak()

    def _id(self) -> str:
        return f"{self.world.timeline.random.getrandbits(128):032x}"


_DIGITS = [bytes([byte]) for byte in b"0123456789"]


class StolenTill:
    """A device that HQ let in, in wrong hands: its key counts, and says what is not its to say."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.key = world.seeds.key()
        self._store = next(iter(world.roster))
        self.identity = Identity(self._store, STOLEN)
        self._run = self._id()
        self._install = self._id()
        self._hellos = 0
        self._cursor: Cursor | None = None
        self._session: Session | None = None
        roles = world.roles_in_ledger(self._store) or []
        self._role, self._not_its_role = roles[0], roles[-1] if len(roles) > 1 else None
        try:
            world.hq.let_in(self.identity, self.key.public, (self._role,))
        except HqError as error:  # pragma: no cover - its store is one of the first
            raise AssertionError from error

    def end(self) -> None:
        """It is found, and revoked."""
        self.world.hq.put_out(self.identity)

    def speak(self) -> None:
        """Say hello, or something that is not so."""
        world = self.world
        if self._session is None or not self._session.client_has_it:
            to = world.topics.to(self.identity)
            self._session = world.network.connect(
                str(self.identity), self._receive, lambda: None, None
            )
            if self._session is None:
                return
            self._session.subscribe([to], lambda: None)
        if self._cursor is None or world.timeline.chance(0.4):
            self._hellos += 1
            known = list(world.journal.directives)[-5:]
            role = self._not_its_role or self._role
            message: AnyMessage = Hello(
                nonce=self._id(),
                run=self._run,
                install=self._install,
                start=1,
                number=self._hellos,
                clock_at=0.0,
                hq_key="",
                unsure=[Work(directive, role) for directive in known],
                uplink={},
            )
        else:
            record = self._false_record()
            message = Records(log="act", after=self._cursor, records=[record])
            self._cursor = advance(self._cursor, [record.id])
        world.counts["things said by a stolen till"] += 1
        topic = world.topics.from_(self.identity)
        # It is the thief's word, and HQ may hear it: what follows from it is what matters.
        self._session.publish(topic, frame.encode(message, topic, self.key))

    def _receive(self, _topic: str, payload: bytes) -> None:
        message = _read(payload)
        if isinstance(message, Welcome) and message.mode != "later":
            self._cursor = message.uplink.get("act", START)

    def _false_record(self) -> Record:
        random = self.world.timeline.random
        known = list(self.world.journal.directives)
        others = self._work_of_others()
        data: Any
        todo = random.choice(("directive", "cancel", "receipt"))
        if todo == "receipt" and others and self._not_its_role is not None:
            kind = "receipt"
            data = Receipt(
                directive=random.choice(others), role=self._not_its_role, state=State.DONE
            )
        elif todo == "cancel" and known:
            kind = "original"
            false = encode_data(Cancel(directive=random.choice(known), reason="false"))
            data = Original(
                kind="cancel", role="any", data=msgspec.Raw(false), seal=self._seal("cancel", false)
            )
        else:
            kind = "original"
            false = encode_data(Directive(id=self._id(), title="Send us the money"))
            data = Original(
                kind="directive",
                role="any",
                data=msgspec.Raw(false),
                seal=self._seal("directive", false),
            )
        return Record(id=self._id(), kind=kind, at=0.0, data=msgspec.Raw(encode_data(data)))

    def _work_of_others(self) -> list[str]:
        """Open directives of its store that are for a role which it does not serve."""
        return [
            row[0]
            for row in self.world.hq.ledger.connection.execute(
                "SELECT directive.id FROM delivery JOIN directive ON directive.no = directive_no"
                " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
                " WHERE store.id = ? AND role = ? AND open = 1",
                (self._store, self._not_its_role),
            )
        ]

    def _seal(self, kind: str, data: bytes) -> str:
        """None, one of another document, or one that is made with a key which does not count."""
        world, random = self.world, self.world.timeline.random
        others = world.hq.ledger.connection.execute(
            "SELECT seal FROM doc WHERE seal <> '' LIMIT 5"
        ).fetchall()
        seals = ["", *(row[0] for row in others)]
        seals += [seal(key, kind, data) for key in (self.key, *world.keys.in_other_hands[-1:])]
        return str(random.choice(seals))

    def _id(self) -> str:
        return f"{self.world.timeline.random.getrandbits(128):032x}"


def _read(payload: bytes) -> AnyMessage | None:
    try:
        return frame.decode_text(payload.partition(b"\n")[2])
    except WireError:
        return None
