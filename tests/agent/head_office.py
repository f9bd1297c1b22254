"""A scripted head office for the core's tests: channel logs, welcomes, acks; signs, not clever."""

from collections.abc import Sequence

import msgspec

from buswire import frame
from buswire.cursors import START, Cursor, advance
from buswire.device import Timing
from buswire.headoffice import Replay, judge
from buswire.messages import (
    Ack,
    Answer,
    AnyMessage,
    Bye,
    Directive,
    Hello,
    Hub,
    Log,
    Receipt,
    Record,
    Records,
    Snapshot,
    SnapshotItem,
    StoreFacts,
    Welcome,
    encode_data,
)
from buswire.signing import PublicKey, SigningKey, seal
from buswire.states import State
from buswire.topics import Channel, Identity, Topics
from buswire.trust import KeyEntry, Trust, Trusted, announce, chain_after
from storeagent.core import Event, Heard, Linked, Outgoing, Publish, Rang, Unlinked
from tests.agent.words import CHANNELS, FACTS, Words, directive, ids

ME = Identity("S017", "till-1")
TOPICS = Topics()
QUICK = Timing(
    connect_jitter_seconds=0.0,
    gap_jitter_seconds=0.0,
    heads_jitter_seconds=0.0,
    spacing_seconds=0.0,
    retry_first_seconds=1.0,
    retry_most_seconds=4.0,
    unsure_first_seconds=0.5,
)


RECOVERY = SigningKey(b"recovery".ljust(32, b"."))
DEVICE_KEY = SigningKey(b"a till".ljust(32, b"."))
TOKEN = "t" * 43


def hq_key(number: int) -> SigningKey:
    """The key with which HQ signs, one after the other from 1."""
    return SigningKey(f"hq {number}".encode().ljust(32, b"."))


class HeadOffice:
    """Answers one device, as far as the contract demands."""

    def __init__(self, identity: Identity = ME, topics: Topics = TOPICS) -> None:
        self.identity = identity
        self.topics = topics
        self.words = Words()
        self.keys = [hq_key(1)]
        self.entries: list[KeyEntry] = [
            announce(self.keys[0].public, epoch=1, number=0, by=RECOVERY)
        ]
        self.device_key: PublicKey = DEVICE_KEY.public
        self.run = ids("9", 1)
        self.set_version = Cursor(1, ids("a", 1))
        self.logs: dict[Channel, list[Record]] = {channel: [] for channel in CHANNELS}
        self.items: list[SnapshotItem] = []
        self.uplink: dict[Log, Cursor] = {"act": START, "bulk": START}
        self.taken: dict[str, Record] = {}
        self.twice = 0
        self.hellos: list[Hello] = []
        self.byes: list[Bye] = []
        self.answers: list[Answer] = []
        self.want: list[str] = []
        self.lost: dict[Log, int] = {}
        self.facts: StoreFacts = FACTS
        self.now_at = 1_700_000_000.0
        """What time it tells."""
        self.silent = False
        self.keeps_deliveries = False
        """Whether a snapshot names what was issued and is not finished, as a real one does."""

    # --- keys ------------------------------------------------------------------------------------

    @property
    def key(self) -> SigningKey:
        """What it signs with."""
        return self.keys[-1]

    @property
    def trust(self) -> Trusted:
        """What a device that joins now pins."""
        return Trust(Trusted(recovery=RECOVERY.public.text)).follow(self.entries).trust.kept

    def rotate(self) -> None:
        """Announce another key by the present one, and sign with it from now on."""
        last, key = self.entries[-1], hq_key(len(self.keys) + 1)
        self.entries.append(
            announce(key.public, epoch=last.epoch, number=last.number + 1, by=self.key)
        )
        self.keys.append(key)

    def recover(self) -> None:
        """Announce another key by the recovery key: all before it are worthless."""
        key = hq_key(len(self.keys) + 1)
        epoch = self.entries[-1].epoch + 1
        self.entries.append(announce(key.public, epoch=epoch, number=0, by=RECOVERY))
        self.keys.append(key)

    def lay(self, topic: str, message: AnyMessage, key: SigningKey | None = None) -> Heard:
        """A message of HQ's as it arrives."""
        return Heard(topic, frame.encode(message, topic, key or self.key))

    def sealed(self, record: Record) -> Record:
        """The record with HQ's seal on its document."""
        text = seal(self.key, record.kind, bytes(record.data))
        return msgspec.structs.replace(record, seal=text)

    # --- speaking --------------------------------------------------------------------------------

    def issue(self, channel: Channel, number: int = 1, **changes: object) -> Heard:
        """Append a directive to a channel and give the message that publishes it."""
        if self.keeps_deliveries:
            raw = msgspec.Raw(encode_data(directive(number, **changes)))
            self.items.append(SnapshotItem(role=channel.role, state=State.PENDING, data=raw))
        return self.append(channel, self.sealed(self.words.issue(number, **changes)))

    def append(self, channel: Channel, *records: Record) -> Heard:
        """Append records to a channel and give the message that publishes them."""
        after = self.head(channel)
        self.logs[channel].extend(records)
        message = Records(log=str(channel), after=after, records=list(records))
        return self.lay(self.topics.down(channel), message)

    def up(self) -> Heard:
        """The retained message of a hub that is there."""
        return self.lay(self.topics.hq, Hub(run=self.run, up=True))

    def head(self, channel: Channel) -> Cursor:
        """Where a channel's log ends."""
        log = self.logs[channel]
        return advance(START, [record.id for record in log])

    def id_at(self, channel: Channel, seq: int) -> str | None:
        """The id at a number, for `judge`."""
        log = self.logs[channel]
        return log[seq - 1].id if 0 < seq <= len(log) else None

    # --- listening -------------------------------------------------------------------------------

    def hear(self, outgoing: Sequence[Outgoing]) -> list[Heard]:
        """Take what a device sends, and give the answers."""
        answers: list[Heard] = []
        for one in outgoing:
            if isinstance(one, Publish):
                answers += self.take(one.topic, one.payload)
        return answers

    def read(self, topic: str, payload: bytes) -> AnyMessage:
        """What the device says; it must be on its own topic and signed with its own key."""
        assert topic == self.topics.from_(self.identity)
        return frame.read(payload, topic, {self.device_key.id: self.device_key}.get)

    def take(self, topic: str, payload: bytes) -> list[Heard]:
        """Take one payload, and give the answers."""
        message = self.read(topic, payload)
        match message:
            case Hello():
                self.hellos.append(message)
                return [] if self.silent else self._to(*self._answer(message))
            case Records():
                return [] if self.silent else self._to(*self._take(message))
            case Bye():
                self.byes.append(message)
        return []

    def _answer(self, hello: Hello) -> list[AnyMessage]:
        heads = {channel: self.head(channel) for channel in self.logs}
        verdict = judge(
            hello, set_version=self.set_version, heads=heads, logs=self, most_records=1_000
        )
        replay = isinstance(verdict, Replay)
        welcome = Welcome(
            nonce=hello.nonce,
            run=self.run,
            at=self.now_at,
            mode="replay" if replay else "snapshot",
            set_version=self.set_version,
            heads={str(channel): head for channel, head in heads.items()},
            pages=0 if replay else 1,
            uplink=dict(self.uplink),
            answers=[a for a in self.answers if a.work in hello.unsure],
            want=list(self.want),
            lost=dict(self.lost),
            store=self.facts,
            keys=chain_after(self.entries, hello.hq_key),
        )
        self.want = []
        if not isinstance(verdict, Replay):
            return [welcome, Snapshot(nonce=hello.nonce, page=1, pages=1, items=self.items)]
        messages: list[AnyMessage] = [welcome]
        for channel, cursor in verdict.after.items():
            tail = self.logs[channel][cursor.seq :]
            if tail:
                messages.append(Records(log=str(channel), after=cursor, records=tail))
        return messages

    def _take(self, message: Records) -> list[AnyMessage]:
        log: Log = "act" if message.log == "act" else "bulk"
        mine = self.uplink[log]
        skip = mine.seq - message.after.seq
        known = message.after.id if skip == 0 else ""
        if 0 < skip <= len(message.records):
            known = message.records[skip - 1].id
        if skip < 0 or skip > len(message.records) or known != mine.id:
            return []
        for record in message.records[skip:]:
            if record.id in self.taken:
                self.twice += 1
            self.taken[record.id] = record
            if self.keeps_deliveries and record.kind == "receipt":
                self._count(msgspec.json.decode(record.data, type=Receipt))
        self.uplink[log] = advance(message.after, [record.id for record in message.records])
        return [Ack(run=self.run, log=log, cursor=self.uplink[log])]

    def _count(self, receipt: Receipt) -> None:
        for place, item in enumerate(self.items):
            named = msgspec.json.decode(item.data, type=Directive).id, item.role
            if named == (receipt.directive, receipt.role):
                if receipt.state in {State.DONE, State.CANNOT}:
                    del self.items[place]
                else:
                    self.items[place] = msgspec.structs.replace(item, state=receipt.state)
                return

    def _to(self, *messages: AnyMessage) -> list[Heard]:
        topic = self.topics.to(self.identity)
        return [self.lay(topic, message) for message in messages]

    # --- looking ---------------------------------------------------------------------------------

    def said(self, kind: str) -> list[dict[str, object]]:
        """The data of all records of a kind that arrived, in order."""
        return [
            msgspec.json.decode(record.data)
            for record in self.taken.values()
            if record.kind == kind
        ]

    def open_item(self, number: int, state: State = State.PENDING, role: str = "any") -> None:
        """Put a delivery into the next snapshot."""
        raw = msgspec.Raw(encode_data(directive(number)))
        self.items.append(SnapshotItem(role=role, state=state, data=raw))


__all__ = [
    "DEVICE_KEY",
    "ME",
    "QUICK",
    "RECOVERY",
    "TOKEN",
    "TOPICS",
    "Event",
    "HeadOffice",
    "Linked",
    "Rang",
    "Unlinked",
]
