"""A scripted head office for the core's tests: channel logs, welcomes, acks; nothing clever."""

from collections.abc import Sequence

import msgspec

from buswire import frame
from buswire.cursors import START, Cursor, advance
from buswire.device import Timing
from buswire.headoffice import Replay, judge
from buswire.messages import (
    Ack,
    Answer,
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
from buswire.states import State
from buswire.topics import Channel, Identity, Topics
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


class HeadOffice:
    """Answers one device, as far as the contract demands."""

    def __init__(self, identity: Identity = ME, topics: Topics = TOPICS) -> None:
        self.identity = identity
        self.topics = topics
        self.words = Words()
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
        self.silent = False
        self.keeps_deliveries = False
        """Whether a snapshot names what was issued and is not finished, as a real one does."""

    # --- speaking --------------------------------------------------------------------------------

    def issue(self, channel: Channel, number: int = 1, **changes: object) -> Heard:
        """Append a directive to a channel and give the message that publishes it."""
        if self.keeps_deliveries:
            raw = msgspec.Raw(encode_data(directive(number, **changes)))
            self.items.append(SnapshotItem(role=channel.role, state=State.PENDING, data=raw))
        return self.append(channel, self.words.issue(number, **changes))

    def append(self, channel: Channel, *records: Record) -> Heard:
        """Append records to a channel and give the message that publishes them."""
        after = self.head(channel)
        self.logs[channel].extend(records)
        message = Records(log=str(channel), after=after, records=list(records))
        return Heard(self.topics.down(channel), frame.encode(message))

    def up(self) -> Heard:
        """The retained message of a hub that is there."""
        return Heard(self.topics.hq, frame.encode(Hub(run=self.run, up=True)))

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
                assert one.topic == self.topics.from_(self.identity)
                answers += self.take(one.payload)
        return answers

    def take(self, payload: bytes) -> list[Heard]:
        """Take one payload, and give the answers."""
        message = frame.decode(payload)
        match message:
            case Hello():
                self.hellos.append(message)
                return [] if self.silent else self._to(*self._answer(message))
            case Records():
                return [] if self.silent else self._to(*self._take(message))
            case Bye():
                self.byes.append(message)
        return []

    def _answer(self, hello: Hello) -> list[object]:
        heads = {channel: self.head(channel) for channel in self.logs}
        verdict = judge(
            hello, set_version=self.set_version, heads=heads, logs=self, most_records=1_000
        )
        replay = isinstance(verdict, Replay)
        welcome = Welcome(
            nonce=hello.nonce,
            run=self.run,
            at=1_700_000_000.0,
            mode="replay" if replay else "snapshot",
            set_version=self.set_version,
            heads={str(channel): head for channel, head in heads.items()},
            pages=0 if replay else 1,
            uplink=dict(self.uplink),
            answers=[a for a in self.answers if a.work in hello.unsure],
            want=list(self.want),
            lost=dict(self.lost),
            store=self.facts,
        )
        self.want = []
        if not isinstance(verdict, Replay):
            return [welcome, Snapshot(nonce=hello.nonce, page=1, pages=1, items=self.items)]
        messages: list[object] = [welcome]
        for channel, cursor in verdict.after.items():
            tail = self.logs[channel][cursor.seq :]
            if tail:
                messages.append(Records(log=str(channel), after=cursor, records=tail))
        return messages

    def _take(self, message: Records) -> list[object]:
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

    def _to(self, *messages: object) -> list[Heard]:
        topic = self.topics.to(self.identity)
        return [Heard(topic, frame.encode(message)) for message in messages]  # type: ignore[arg-type]

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


__all__ = ["ME", "QUICK", "TOPICS", "Event", "HeadOffice", "Linked", "Rang", "Unlinked"]
