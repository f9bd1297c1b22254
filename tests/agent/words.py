"""What HQ says, for tests: records and messages with little typing."""

import random
from collections.abc import Sequence

import msgspec

from buskit.database import Database
from buswire.cursors import Cursor
from buswire.device import Learn, Reset, Take
from buswire.messages import (
    Answer,
    Cancel,
    Directive,
    Record,
    SnapshotItem,
    StateChange,
    StoreFacts,
    Work,
    encode_data,
)
from buswire.states import Needs, State
from buswire.topics import Channel
from storeagent.database import open_agent_database
from storeagent.delivery import Delivery
from storeagent.effects import Effects
from storeagent.inbox import Inbox
from storeagent.limits import Limits
from storeagent.memory import Memory
from storeagent.outbox import Outbox
from storeagent.statements import Statements

STORE_ANY = Channel("store/S017", "any")
STORE_MANAGER = Channel("store/S017", "manager")
ALL_ANY = Channel("all", "any")
ALL_MANAGER = Channel("all", "manager")
CHANNELS = (STORE_ANY, STORE_MANAGER, ALL_ANY, ALL_MANAGER)

FACTS = StoreFacts(name="Seventeen", region="east", timezone="Europe/Paris")


def ids(prefix: str, number: int = 0) -> str:
    """A readable 128-bit id: the prefix in hex digits, and a number."""
    return prefix + f"{number:0{32 - len(prefix)}x}"


def directive(number: int = 1, **changes: object) -> Directive:
    """A directive; two with the same number are the same."""
    values: dict[str, object] = {
        "id": ids("d", number),
        "title": f"Directive {number}",
        "body": "Do it.",
        "needs": Needs.DONE,
    }
    return Directive(**(values | changes))  # type: ignore[arg-type]


class Words:
    """Makes records with ids of their own."""

    def __init__(self) -> None:
        self._count = 0

    def record(self, kind: str, data: msgspec.Struct | bytes) -> Record:
        """Any record."""
        self._count += 1
        raw = data if isinstance(data, bytes) else encode_data(data)
        return Record(id=ids("e", self._count), kind=kind, at=0.0, data=msgspec.Raw(raw))

    def issue(self, number: int = 1, **changes: object) -> Record:
        """A directive's record; each call is a new word of HQ."""
        return self.record("directive", directive(number, **changes))

    def cancel(self, number: int = 1, reason: str = "a mistake") -> Record:
        """A withdrawal."""
        return self.record("cancel", Cancel(directive=ids("d", number), reason=reason))

    def change(self, state: State, number: int = 1, by: str = "till-2") -> Record:
        """A change of state."""
        return self.record(
            "state", StateChange(directive=ids("d", number), state=state, changed_by=by)
        )


class Bench:
    """One device's tables with the rules, and a clock and ids that repeat."""

    def __init__(
        self,
        path: str = ":memory:",
        *,
        seed: int = 1,
        limits: Limits | None = None,
        database: Database | None = None,
    ) -> None:
        self.database = database or open_agent_database(path, create=True)
        self.random = random.Random(seed)
        self.now_at = 1_000.0
        self.inbox = Inbox(self.database)
        self.outbox = Outbox(self.database, limits)
        self.memory = Memory(self.database)
        self.effects = Effects(
            self.inbox,
            self.outbox,
            self.memory,
            new_id=self.new_id,
            wall_clock=lambda: self.now_at,
        )
        self.statements = Statements(
            self.database, wall_clock=lambda: self.now_at, new_id=self.new_id, limits=limits
        )
        self.words = Words()
        self._seq = dict.fromkeys(CHANNELS, 0)
        with self.database.write():
            self.memory.keep_set(Cursor(1, ids("a")), dict.fromkeys(CHANNELS, Cursor(0, "")))

    def new_id(self) -> str:
        """A random id that depends on the seed only."""
        return f"{self.random.getrandbits(128):032x}"

    def take(self, channel: Channel, *records: Record) -> None:
        """Let records of a channel take effect."""
        self._seq[channel] += len(records)
        with self.database.write():
            self.effects.take(Take(channel, records, Cursor(self._seq[channel], records[-1].id)))

    def reset(self, *items: tuple[str, State, Directive]) -> None:
        """Let a snapshot with these items (role, state, directive) take effect."""
        made = [
            SnapshotItem(role=role, state=state, data=msgspec.Raw(encode_data(what)))
            for role, state, what in items
        ]
        with self.database.write():
            self.effects.reset(
                Reset(
                    Cursor(2, ids("b")),
                    {channel: Cursor(9, ids("c")) for channel in CHANNELS},
                    made,
                    FACTS,
                )
            )

    def learn(
        self,
        *answers: Answer,
        want: Sequence[str] = (),
    ) -> None:
        """Let HQ's answers take effect."""
        with self.database.write():
            self.effects.learn(Learn(answers, want, FACTS, {}))

    def answer(self, verdict: str, number: int = 1, role: str = "any", **more: object) -> None:
        """Let HQ answer about one delivery."""
        work = Work(ids("d", number), role)
        self.learn(Answer(work=work, verdict=verdict, **more))  # type: ignore[arg-type]

    def row(self, number: int = 1, role: str = "any") -> Delivery:
        """The delivery, which must be there."""
        delivery = self.inbox.delivery(ids("d", number), role)
        assert delivery is not None
        return delivery

    def state(self, number: int = 1, role: str = "any") -> State:
        """What the delivery shows."""
        return self.row(number, role).state

    def sent(self, log: str = "act") -> list[tuple[str, dict[str, object]]]:
        """All that was ever put into a log: kind and data."""
        return [
            (entry.record.kind, msgspec.json.decode(entry.record.data))
            for entry in self.outbox.entries(
                log,
                after=0,
                most=100_000,
                most_bytes=10**9,  # type: ignore[arg-type]
            )
        ]

    def receipts(self, number: int = 1) -> list[str]:
        """The states that receipts about a directive say, in order."""
        return [
            str(data["state"])
            for kind, data in self.sent()
            if kind == "receipt" and data["directive"] == ids("d", number)
        ]

    def originals(self) -> list[tuple[str, str]]:
        """Kind and role of the originals that were sent up."""
        return [
            (str(data["kind"]), str(data["role"]))
            for kind, data in self.sent()
            if kind == "original"
        ]

    def acknowledge(self, log: str = "act") -> None:
        """Let HQ have everything."""
        from buswire.uplink import Settled

        head = self.outbox.head(log)  # type: ignore[arg-type]
        entry = self.outbox.entries(log, after=head - 1, most=1, most_bytes=1)[0]  # type: ignore[arg-type]
        with self.database.write():
            self.outbox.settle(Settled(log, Cursor(head, entry.record.id), head))  # type: ignore[arg-type]
