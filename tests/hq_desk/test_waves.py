"""Waves: what goes out when, whatever stores answer, operators do, and however often a hub dies."""

import itertools
import os
import random
from collections.abc import Iterator
from contextlib import suppress

import pytest

from buswire.states import State
from hqconsole.desk import Linked, Unlinked
from hqconsole.ledger.waves import progress
from hqconsole.lifecycle import LIVE, DirectiveState, LifecycleError
from hqconsole.rollout import Gate, Verdict, judge
from tests.hq_desk.rollouts import Rollouts

SEEDS = int(os.environ.get("STOREBUS_TEST_ROLLOUTS", "14"))
ZONES = ("America/New_York", "Europe/Lisbon", "Asia/Tokyo", "Australia/Lord_Howe", "UTC")
BEFORE_SUMMER_TIME_AT = 1_806_105_600.0
"""2027-03-27 00:00 UTC: Lisbon goes to summer time within two days, Lord Howe leaves it soon."""
HOUR = 3600.0
OPEN = {State.PENDING, State.DELIVERED, State.READ, State.IN_PROGRESS}


@pytest.fixture
def hq() -> Iterator[Rollouts]:
    """Head office with six stores."""
    hq = Rollouts([f"S{number}" for number in range(1, 7)])
    yield hq
    hq.ledger.close()


# --- the property ------------------------------------------------------------------------------


class Story:
    """One random rollout from its draft to its end, held against what was asked after each step."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.names = [f"S{number}" for number in range(1, dice.randint(3, 13))]
        zones = {name: dice.choice(ZONES) for name in self.names}
        begin_at = BEFORE_SUMMER_TIME_AT + dice.random() * 48 * HOUR
        self.hq = hq = Rollouts(self.names, zones=zones, at=begin_at)
        self.zones = zones
        self.rate = dice.choice([None, None, 0.5, 4.0, 40.0, 900.0])
        self.gate: Gate | None = None
        wish: dict[str, object] = {"rate_per_hour": self.rate}
        form = dice.choice(["plain", "waves", "waves", "local"])
        if form == "waves":
            self.gate = Gate(
                dice.choice([0, 50, 90, 100]),
                dice.choice([0, 20, 100]),
                dice.choice([None, 2 * HOUR, 30 * HOUR]),
            )
            wish["gate"] = self.gate
            wish["percents"] = dice.choice([[], [50], [10, 50]])
            if dice.random() < 0.5 or not wish["percents"]:
                wish["pilot"] = dice.sample(self.names, 1)
        if form == "local":
            wish |= {"starts": "2027-03-29 01:30", "local": True}
        elif dice.random() < 0.4:
            wish["starts"] = "in 5 hours"
        if dice.random() < 0.2:
            wish["expires"] = "in 6 days"
        self.no = hq.write(**wish)
        self.first_at = {store: self._first_at(store) for store in self.names}
        self.state = hq.state(self.no)
        self.taken: set[str] = set()
        self.begun: set[int] = set()
        self.times: list[float] = []
        hq.start(self.no)
        hq.tick()
        self.look("it begins", past_gate=True)

    def _first_at(self, store: str) -> float:
        ((not_before,),) = self.hq.rows(
            "SELECT not_before FROM wave WHERE directive_no = ? AND no = ?",
            self.no,
            self.hq.wave_of(self.no)[store],
        )
        return not_before or 0.0

    def step(self) -> None:
        """Something happens."""
        dice, hq, no = self.dice, self.hq, self.no
        paused = hq.state(no) is DirectiveState.PAUSED
        what = dice.choices(
            ["time", "answer", "pause", "resume", "stop", "cancel", "remove", "roster", "hub"],
            [12, 14, 1, 4 if paused else 0, 0.15, 0.1, 0.4, 1, 5],
        )[0]
        past_gate = False
        with suppress(LifecycleError):
            match what:
                case "time":
                    hq.let_pass(dice.choice([1, 9, 40, 700, HOUR, HOUR, 5 * HOUR, 12 * HOUR]))
                case "answer":
                    self.answer(dice.choice(["read", "in_progress", "cannot", "done", "done"]))
                case "pause":
                    hq.pause(no)
                case "resume":
                    past_gate = True
                    hq.resume(no)
                case "stop":
                    hq.stop(no)
                case "cancel":
                    hq.cancel(no)
                case "remove":
                    hq.remove(no, dice.choice(self.names))
                case "roster":
                    hq.people(
                        *dice.sample(self.names, dice.randint(1, len(self.names))),
                        region=dice.choice(["east", "west"]),
                        zones=self.zones,
                    )
                case "hub":
                    hq.restart()
                    if dice.random() < 0.2:
                        hq.tick(Unlinked())
                        hq.let_pass(dice.choice([10, HOUR]))
                        hq.tick(Linked())
        hq.tick()
        self.look(what, past_gate=past_gate)

    def answer(self, state: str) -> None:
        """A store that has it says something, perhaps for the second time."""
        have = sorted(self.taken)
        if have:
            self.hq.answer(self.no, self.dice.choice(have), State(state))

    def look(self, what: str, *, past_gate: bool = False) -> None:
        """Hold what is there against what was asked."""
        hq, no, at = self.hq, self.no, self.hq.at
        hq.check(no)
        sent = hq.sent(no)
        removed = {store for store in sent if sent[store] is State.REMOVED}
        new = sent.keys() - self.taken - removed
        carried = set().union(*hq.new_records(no))
        assert new & hq.there().stores.keys() <= carried <= sent.keys() - removed, what
        again = carried & self.taken
        assert all(sent[store] in OPEN for store in again), "what was closed is shown again"
        assert all(self.first_at[store] <= at for store in new), "before its time"
        if self.state not in {DirectiveState.SCHEDULED, DirectiveState.ROLLING} and not past_gate:
            assert not new, f"it was {self.state}"
        self.check_gates(past_gate=past_gate)
        self.check_rate(len(new))
        self.taken |= sent.keys()
        self.state = hq.state(no)
        is_open = any(one in OPEN for one in sent.values())
        if self.state not in LIVE:
            assert not is_open, self.state
        if self.state is DirectiveState.ISSUED:
            assert is_open, "nothing is open and it is not completed"
        if self.state is DirectiveState.COMPLETED:
            assert "stop" in hq.actions(no) or not hq.planned(no), "somebody was forgotten"

    def check_gates(self, *, past_gate: bool) -> None:
        """A wave that has begun just now was let through by the one before."""
        begun = self.hq.rows(
            "SELECT no FROM wave WHERE directive_no = ? AND began_at IS NOT NULL", self.no
        )
        for (wave,) in begun:
            if wave not in self.begun and wave > 1 and self.gate is not None and not past_gate:
                shown = progress(self.hq.ledger.connection, self.no, wave - 1)
                assert judge(self.gate, shown, self.hq.at).verdict is Verdict.OPEN, shown
        self.begun |= {wave for (wave,) in begun}

    def check_rate(self, count: int) -> None:
        """No stretch of time has more of it than the rate allows, and a minute's worth at once."""
        self.times += [self.hq.at] * count
        if self.rate is not None:
            at_once = max(1.0, self.rate / 60)
            for (i, begin), (j, end) in itertools.combinations(enumerate(self.times), 2):
                assert j - i + 1 <= at_once + self.rate * (end - begin) / HOUR + 1e-6, "too fast"

    def finish(self) -> None:
        """Everybody is there, says done, and time goes on: then it comes to its end."""
        hq, no = self.hq, self.no
        hq.people(*self.names, zones=self.zones)
        hq.tick()
        self.look("all are there")
        for _ in range(120):
            state = hq.state(no)
            if state not in LIVE | {DirectiveState.SCHEDULED}:
                return
            if state is DirectiveState.PAUSED:
                hq.resume(no)
                hq.tick()
                self.look("resumed", past_gate=True)
            for store in sorted(self.taken):
                if hq.sent(no)[store] in OPEN:
                    hq.answer(no, store, State.DONE)
                    hq.tick()
                    self.look("done")
            hq.later(HOUR)
            self.look("an hour")
        raise AssertionError(f"it does not come to its end: {hq.actions(no)}")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_rollout_does_what_was_asked_whatever_happens(seed: int) -> None:
    """No mailbox twice or never, none before its gate or time, no faster than said, and it ends."""
    print("seed", seed)
    story = Story(seed)
    for _ in range(45):
        story.step()
    story.finish()
    story.hq.ledger.close()
