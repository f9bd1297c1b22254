"""Broker, hub and agents killed with SIGKILL at random, while work goes down and answers come up.

What is random follows from a seed, which is printed; `STOREBUS_TEST_SEED` sets it. Where exactly a
process is hit is up to the machine, so a seed brings back the order of things and not the moment.
"""

import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes.chain import Bus, Chain, Daemon, Till

STORES = ("S001", "S002", "S003", "S004")
KILLS = 64
COMMAND_EVERY = 6
"""Each so many directives are issued by the command itself, the rest by what it calls."""


@dataclass
class Tally:
    """What was done to the chain, and how it took it."""

    kills: list[str] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    """Per kill: what was unacknowledged or undelivered at that moment."""
    recoveries_seconds: list[float] = field(default_factory=list)


def test_nothing_is_lost_or_done_twice_whatever_is_killed(tmp_path: Path) -> None:
    """64 SIGKILLs, half of them at least with records on their way: all arrives, all once."""
    seed = int(os.environ.get("STOREBUS_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"STOREBUS_TEST_SEED={seed}")
    draw = random.Random(seed)
    tally = Tally()
    with Chain(tmp_path, STORES) as chain:
        while len(tally.kills) < KILLS:
            _work(chain, draw)
            # The blow falls somewhere in the life of what was just said: on its way, or long there.
            time.sleep(draw.choice((0.0, 0.0, 0.02, 0.1, 0.4)) * draw.random())
            _strike(chain, draw, tally)
            began_at = time.monotonic()
            if draw.random() < 0.5:  # otherwise the next blow meets a chain that is still starting
                till = draw.choice(list(chain.tills.values()))
                chain.wait_arrived(till.store, chain.alert(till), seconds=30)
                tally.recoveries_seconds.append(time.monotonic() - began_at)
        began_at = time.monotonic()
        chain.wait_settled(seconds=60)
        settled_seconds = time.monotonic() - began_at
        chain.wait_online()
        _finish_everything(chain)
        chain.wait_settled(seconds=60)
        account = chain.account()
        accepted = sum(chain.journal.said.values()) + len(chain.journal.reports)
        quarantine = chain.rows("SELECT source, reason FROM quarantine")
    under_load = sum(1 for waiting in tally.waiting if waiting)
    recoveries = sorted(tally.recoveries_seconds)
    print(
        f"{len(tally.kills)} kills"
        f" ({', '.join(f'{tally.kills.count(k)} {k}' for k in sorted(set(tally.kills)))}),"
        f" {under_load} under load, {max(tally.waiting)} entries waiting at most;"
        f" {len(chain.journal.directives)} directives, {accepted} statements;"
        f" lost {len(account.lost)}, twice {len(account.twice)};"
        " what is said after a restart arrives within"
        f" {recoveries[len(recoveries) // 2]:.2f} s (median), {recoveries[-1]:.2f} s (longest);"
        f" all is there {settled_seconds:.2f} s after the last kill"
    )
    assert account.lost == []
    assert account.twice == []
    assert quarantine == []
    assert len(tally.kills) >= 60
    assert under_load * 2 >= len(tally.kills)
    assert {"agent", "broker", "hub"} <= set(tally.kills)


def test_agents_and_hub_come_back_by_themselves(tmp_path: Path) -> None:
    """Only the broker is started again: the others find it, and nobody touched them."""
    with Chain(tmp_path, STORES[:2]) as chain:
        starts = [daemon.starts for daemon in (chain.hub, *chain.tills.values())]
        for _ in range(3):
            chain.bus.kill()
            numbers = [(till, chain.alert(till)) for till in chain.tills.values()]
            directive = chain.issue()
            chain.bus.start()
            for till, number in numbers:
                chain.wait_arrived(till.store, number)
            chain.wait_state(directive, "delivered")
        chain.hub.kill()
        numbers = [(till, chain.alert(till)) for till in chain.tills.values()]
        directive = chain.publish()
        chain.hub.start()
        for till, number in numbers:
            chain.wait_arrived(till.store, number)
        chain.wait_state(directive, "delivered")
        chain.wait_settled()
        assert chain.account().twice == []
        assert [one.starts for one in (chain.hub, *chain.tills.values())] == [
            starts[0] + 1,
            *starts[1:],
        ]


def _work(chain: Chain, draw: random.Random) -> None:
    """Let HQ and the stores say things."""
    for _ in range(draw.randint(1, 2)):
        issue = chain.issue if len(chain.journal.directives) % COMMAND_EVERY else chain.publish
        stores = draw.choice(((), (), draw.sample(STORES, 2)))
        issue(*stores, role=draw.choice(("any", "manager")))
    tills = draw.sample(list(chain.tills.values()), len(chain.tills))
    for till in tills[: draw.randint(1, 3)]:
        if draw.random() < 0.2:
            chain.report(till, draw.choice((3, 2000)))
        todo = [item for item in till.inbox() if item["open"]]
        for item in draw.sample(todo, min(len(todo), 2)):
            chain.say(till, item, draw.choice(("read", "done")))
            if draw.random() < 0.3:
                chain.reply(till, item)
    for till in tills:
        chain.alert(till)


def _strike(chain: Chain, draw: random.Random, tally: Tally) -> None:
    """Kill one to three processes at the same moment, and start them again in any order."""
    everybody: list[Daemon | Bus] = [chain.bus, chain.hub, *chain.tills.values()]
    weights = [2.0, 2.0, *[1.0] * len(chain.tills)]
    victims: list[Daemon | Bus] = []
    for _ in range(draw.choice((1, 1, 2, 3))):
        victim = draw.choices(everybody, weights)[0]
        if victim not in victims:
            victims.append(victim)
    for victim in victims:
        victim.freeze()
    for victim in victims:
        if isinstance(victim, Till):
            waiting = victim.unacknowledged() + chain.undelivered(victim.store)
        else:
            waiting = chain.undelivered()
            waiting += sum(till.unacknowledged() for till in chain.tills.values())
        tally.waiting.append(waiting)
        tally.kills.append("agent" if isinstance(victim, Till) else victim.name)
    for victim in victims:
        victim.kill()
    if draw.random() < 0.3:  # said while nothing runs to send it
        till = draw.choice(list(chain.tills.values()))
        chain.alert(till)
    for victim in draw.sample(victims, len(victims)):
        victim.start()


def _finish_everything(chain: Chain) -> None:
    """Do all the work there is, so that the end is one that every mailbox has reached."""
    for till in chain.tills.values():
        for item in till.inbox():
            if item["open"]:
                chain.say(till, item, "done")
