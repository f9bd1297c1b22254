"""Several devices of one store: what one said, all show, whatever got lost, doubled or reordered.

Head office is a few lines here: it judges receipts by the machine of the contract and tells the
store's channel of each move, as the ledger does. Everything travels late and in any order that
logs allow: a channel is read in its order, but each device reads each of them when it likes, a
device's own words come in their order, and any of it may come several times.
"""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from buswire.messages import Record, StateChange
from buswire.states import (
    CLOSED_BY_HQ,
    STORE_RANK,
    Needs,
    State,
    Verdict,
    higher,
    is_open,
    judge_receipt,
)
from buswire.topics import Channel
from tests.agent.words import ALL_ANY, STORE_ANY, Bench, Words, ids

WORK = ids("d", 1), "any"
_SAY = {
    "read": State.READ,
    "start": State.IN_PROGRESS,
    "done": State.DONE,
    "cannot": State.CANNOT,
}


@dataclass
class _Chain:
    """Head office and the devices of one store."""

    needs: Needs
    devices: list[Bench]
    now: float = 1_000.0
    state: State = State.PENDING
    closed_at: float | None = None
    words: Words = field(default_factory=Words)
    logs: dict[Channel, list[Record]] = field(
        default_factory=lambda: {ALL_ANY: [], STORE_ANY: []}  # everything HQ ever wrote
    )

    def __post_init__(self) -> None:
        self.read = [dict.fromkeys(self.logs, 0) for _ in self.devices]
        self.heard = [0 for _ in self.devices]
        self.logs[ALL_ANY].append(self.words.issue(needs=self.needs))

    def say(self, device: int, word: str) -> None:
        """Somebody says something at one device, if the work is there."""
        bench = self.devices[device]
        bench.now_at = self.now
        if bench.inbox.delivery(*WORK) is None:
            return
        more = {"reason": "no room"} if word == "cannot" else {}
        getattr(bench.statements, word)(*WORK, **more)

    def take(self, device: int, channel: Channel, *, again: int = 0) -> None:
        """One device reads the next record of a channel, or some of before once more."""
        bench, log = self.devices[device], self.logs[channel]
        bench.now_at = self.now
        at = self.read[device][channel]
        for record in log[max(0, at - again) : at + 1]:
            bench.take(channel, record)
        self.read[device][channel] = min(at + 1, len(log))

    def hear(self, device: int) -> None:
        """HQ hears the next words of one device, judges them, and tells the store."""
        said = self.devices[device].sent()
        for kind, data in said[self.heard[device] : self.heard[device] + 2]:
            self.heard[device] += 1
            if kind == "receipt":
                self._judge(State(str(data["state"])), self._said_at(device))

    def _said_at(self, device: int) -> float:
        position = self.heard[device]
        entries = self.devices[device].outbox.entries(
            "act", after=position - 1, most=1, most_bytes=1
        )
        return entries[0].record.at

    def _judge(self, said: State, said_at: float) -> None:
        verdict = judge_receipt(
            self.state, said, said_at=said_at, closed_at=self.closed_at, needs=self.needs
        )
        if verdict in {Verdict.MOVES, Verdict.MOVES_LATE}:
            self.state = said
            if said is not State.DELIVERED:
                self.logs[STORE_ANY].append(self.words.change(said))

    def close(self, state: State) -> None:
        """HQ expires or withdraws it."""
        if not is_open(self.state, self.needs):
            return
        self.state, self.closed_at = state, self.now
        if state is State.CANCELLED:
            self.logs[ALL_ANY].append(self.words.cancel())
        else:
            self.logs[ALL_ANY].append(self.words.change(state))

    def settle(self) -> None:
        """Everything arrives everywhere."""
        for _ in range(100):
            before = [dict(read) for read in self.read], list(self.heard)
            for device in range(len(self.devices)):
                for channel in self.logs:
                    if self.read[device][channel] < len(self.logs[channel]):
                        self.take(device, channel)
                self.hear(device)
            if before == (self.read, self.heard):
                return
        raise AssertionError("they never come to rest")


_DEVICE = st.integers(0, 2)
_EVENT = st.one_of(
    st.tuples(st.just("say"), _DEVICE, st.sampled_from(sorted(_SAY))),
    st.tuples(st.just("take"), _DEVICE, st.sampled_from([ALL_ANY, STORE_ANY]), st.integers(0, 3)),
    st.tuples(st.just("hear"), _DEVICE),
    st.tuples(st.just("close"), st.sampled_from([State.EXPIRED, State.CANCELLED])),
)


@settings(max_examples=30, deadline=None, print_blob=True)
@given(needs=st.sampled_from([Needs.READ, Needs.DONE]), events=st.lists(_EVENT, max_size=40))
def test_devices_of_a_store_agree_with_head_office(needs: Needs, events: list[tuple]) -> None:  # type: ignore[type-arg]
    """When all has arrived each shows what HQ has; and nothing a device said went backwards."""
    chain = _Chain(needs, [Bench(seed=number) for number in range(3)])
    try:
        said = [State.PENDING] * 3
        for event in events:
            chain.now += 1.0
            match event:
                case ("say", device, word):
                    chain.say(device, word)
                case ("take", device, channel, again):
                    chain.take(device, channel, again=again)
                case ("hear", device):
                    chain.hear(device)
                case ("close", state):
                    chain.close(state)
            for number, bench in enumerate(chain.devices):
                row = bench.inbox.delivery(*WORK)
                if row is not None:
                    assert STORE_RANK[row.said] >= STORE_RANK[said[number]]
                    said[number] = row.said
        chain.settle()
        for bench in chain.devices:
            _agrees(bench, chain)
    finally:
        for bench in chain.devices:
            bench.database.close()


def _agrees(bench: Bench, chain: _Chain) -> None:
    row = bench.inbox.delivery(*WORK)
    assert row is not None
    assert row.open == is_open(chain.state, chain.needs)
    if chain.state in CLOSED_BY_HQ:
        # What was finished here too late for HQ stays so in this device's list.
        assert row.state is chain.state or row.state is row.said
    elif row.state in CLOSED_BY_HQ:
        # HQ counts what was reached before it closed the rest; for staff it is over.
        assert chain.closed_at is not None
        assert STORE_RANK[chain.state] <= STORE_RANK[State.IN_PROGRESS]
    else:
        # Who said too late that they cannot, or can after all, sees their own word.
        assert row.state is higher(chain.state, row.said)
    proofs = [data for kind, data in bench.sent() if kind == "withdrawn"]
    assert len(proofs) == (bench.inbox.cancel(WORK[0]) is not None)


def test_the_others_hear_why() -> None:
    """A store that cannot has one reason on all its devices; who can after all has none."""
    bench, words = Bench(), Words()
    try:
        bench.take(ALL_ANY, words.issue())
        change = StateChange(
            directive=WORK[0],
            state=State.CANNOT,
            changed_by="Ana, till-2",
            reason="no room",
            code="no-space",
        )
        bench.take(STORE_ANY, words.record("state", change))
        row = bench.inbox.delivery(*WORK)
        assert row is not None
        assert (row.changed_by, row.reason, row.code) == ("Ana, till-2", "no room", "no-space")
        bench.take(STORE_ANY, words.change(State.DONE))
        row = bench.inbox.delivery(*WORK)
        assert row is not None
        assert (row.state, row.reason, row.code) == (State.DONE, "", "")
    finally:
        bench.database.close()
