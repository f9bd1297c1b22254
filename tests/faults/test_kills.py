"""A taste of the kills, and that the suite notices what it is there for."""

import sys
from pathlib import Path
from random import Random

import pytest

from storeagent import Agent
from storeagent.scripts import Recorded
from tests.faults import chains
from tests.faults import dying_commands as dying
from tests.faults.boundaries import Switch
from tests.faults.chains import Tally, run_chains
from tests.faults.dying_commands import Dying, Half
from tests.faults.kills import kills
from tests.faults.rows import Row
from tests.faults.seeds import seed_of_this_run
from tests.helpers.waiting import wait_until
from tests.processes import load
from tests.processes.chain import Chain


def test_nothing_is_lost_or_done_twice_whatever_is_killed() -> None:
    """Processes killed at random under load, and at every commit of some steps of the story."""
    row = kills(seed_of_this_run(), 0.01)
    print(row)
    assert row.failures == []
    assert row.times >= 10
    assert row.recovery_seconds is not None


def test_what_is_lost_or_comes_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a product that forgets the fifth alert it accepted, and says the seventh twice."""
    real = Agent.alert
    calls = []

    def broken(self: Agent, kind: str, **fields: str) -> Recorded:
        calls.append(fields)
        if len(calls) == 5:
            return Recorded("0" * 32, new=True)
        if len(calls) == 7:
            real(self, kind, **fields)
        return real(self, kind, **fields)

    def part(chain: Chain, draw: Random, tally: Tally) -> None:
        for _ in range(3):
            load.work(chain, draw)
        chain.hub.kill()
        tally.times["hub"] += 1
        chain.hub.start()
        wait_until(lambda: len(chain.account().lost) == 1, seconds=60, what="all others")

    monkeypatch.setattr(Agent, "alert", broken)
    monkeypatch.setattr(chains, "SETTLES_SECONDS", 0.5)
    row = Row("sabotage")
    run_chains(row, seed_of_this_run(), [part])
    assert len(row.lost) == 1
    assert "alert" in row.lost[0]
    assert len(row.twice) == 1
    assert "alert" in row.twice[0]


def test_a_command_that_leaves_a_half_is_noticed() -> None:
    """One that wrote the directive and died before it wrote the line of the audit."""

    def sabotage(chain: Chain, *_: object) -> None:
        whole = dying.publish(chain)
        title = str(whole.words[2])
        script = (
            "import os, sys; from pathlib import Path; from hqconsole.ledger import directives;"
            "from hqconsole.commands import publish as command; from hqconsole.commands.main"
            " import main; command.write_audit = lambda *_, **__: None;"
            "command.ring = lambda _: os.kill(os.getpid(), 9); main.run(sys.argv[1:])"
        )
        words = [sys.executable, "-c", script, *whole.words[1:]]
        with pytest.raises(Half, match=f"1 directives '{title}', 0 lines of the audit"):
            Dying("publish", words, whole.home, whole.accepted, whole.died, whole.again).run()
        chain.note_directive(chain.rows("SELECT id FROM directive")[0][0], (), "any")

    row = Row("sabotage")
    run_chains(row, 1, [sabotage], stores=("S001",))
    assert row.failures == []


def test_a_switch_counts_what_was_passed(tmp_path: Path) -> None:
    """What a process noted is read back, and the switch is gone."""
    switch = Switch(tmp_path / "switch")
    switch.arm(3)
    with (tmp_path / "switch").open("a") as file:
        file.write("before commit\nafter commit\n")
    assert switch.disarm() == ["before commit", "after commit"]
    assert not (tmp_path / "switch").exists()
