"""SIGKILL: at random moments under load, all at once, commands half-way, and at every commit."""

import random
import subprocess
import time
from collections import Counter
from functools import partial

from tests.faults import dying_commands as dying
from tests.faults.boundaries import boundary_parts
from tests.faults.chains import (
    Tally,
    everybody,
    heard_again,
    kind_of,
    on_its_way,
    run_chains,
)
from tests.faults.dying_commands import Dying
from tests.faults.rows import Row
from tests.processes import load
from tests.processes.chain import Bus, Chain, Daemon, Till

_PER_CHAIN = 100
_RANDOM_KILLS = 800
_MANY = 100
_COMMAND_SECONDS = 0.5
"""A command takes about so long: it is killed somewhere in it."""


def kills(seed: int, share: float) -> Row:
    """Kill by the thousand; every process of ours, daemons and commands alike."""
    row = Row("kills")
    count = max(12, round(_RANDOM_KILLS * share))
    chains = -(-count // _PER_CHAIN)
    random_parts = [partial(random_kills, least=-(-count // chains)) for _ in range(chains)]
    at_commits = boundary_parts(seed, share)
    # The longest first, so that none of them is left alone at the end.
    tallies = run_chains(row, seed, [*at_commits, *random_parts])
    times: Counter[str] = sum((tally.times for tally in tallies), Counter())
    boundaries: Counter[str] = sum((tally.boundaries for tally in tallies), Counter())
    blows = sum(len(tally.waiting) for tally in tallies)
    under_load = sum(tally.under_load for tally in tallies)
    row.note = (
        f"{', '.join(f'{n} {what}' for what, n in times.most_common())};"
        f" {under_load} of {blows} random blows with records on their way;"
        f" {boundaries.total()} points of death at commits, checkpoints, closes and files"
        f" ({', '.join(f'{n} {what}' for what, n in boundaries.most_common())})"
    )
    if blows >= _MANY and under_load * 2 < blows:  # of a few it is a matter of luck
        row.wrong.append(f"only {under_load} of {blows} blows fell under load")
    return row


def random_kills(chain: Chain, draw: random.Random, tally: Tally, *, least: int) -> None:
    """Kill this and that, while work goes down and answers come up, until it is enough."""
    while tally.times.total() < least:
        load.work(chain, draw)
        # The blow falls somewhere in the life of what was just said: on its way, or long there.
        time.sleep(draw.choice((0.0, 0.0, 0.02, 0.1, 0.4)) * draw.random())
        kind = draw.random()
        if kind < 0.25:
            strike_command(chain, draw, tally)
        elif kind < 0.35:
            strike(chain, draw, tally, everybody(chain))
        else:
            strike(chain, draw, tally, _some(chain, draw))


def _some(chain: Chain, draw: random.Random) -> list[Daemon | Bus]:
    """One to three processes."""
    weights = [2.0, 2.0, *[1.0] * len(chain.tills)]
    return list(dict.fromkeys(draw.choices(everybody(chain), weights, k=draw.choice((1, 1, 2, 3)))))


def strike(chain: Chain, draw: random.Random, tally: Tally, victims: list[Daemon | Bus]) -> None:
    """Kill processes at the same moment, and start them again in any order."""
    for victim in victims:
        victim.freeze()
    tally.waiting += [on_its_way(chain)] * len(victims)
    for victim in victims:
        victim.kill()
        tally.times[kind_of(victim)] += 1
    if draw.random() < 0.3:  # said while nothing runs to send it
        chain.alert(draw.choice(list(chain.tills.values())))
    began_at = time.monotonic()
    for victim in draw.sample(victims, len(victims)):
        victim.start()
    if draw.random() < 0.5:  # otherwise the next blow meets a chain that is still starting
        stricken = [victim for victim in victims if isinstance(victim, Till)]
        heard_again(chain, draw.choice(stricken or list(chain.tills.values())), began_at, tally)


def strike_command(chain: Chain, draw: random.Random, tally: Tally) -> None:
    """Kill a command half-way; the hub and the agents work beside it."""

    def kill(process: subprocess.Popen[str]) -> None:
        try:
            process.wait(draw.uniform(0.0, _COMMAND_SECONDS))
        except subprocess.TimeoutExpired:
            process.kill()

    command = _some_command(chain, draw)
    if command.run(kill):
        tally.times[f"hq/storeagent {command.name}"] += 1


def _some_command(chain: Chain, draw: random.Random) -> Dying:
    till = draw.choice(list(chain.tills.values()))
    makers = [
        dying.publish,
        dying.roster_import,
        dying.device_add,
        dying.key_rotate,
        dying.backup,
        dying.join,
        dying.alert,
        dying.report,
    ]
    untouched = [
        directive
        for directive, mailboxes in chain.journal.directives.items()
        if directive not in chain.journal.withdrawn and not any(mailboxes.values())
    ]
    if untouched and draw.random() < 0.15:
        return dying.cancel(chain, draw.choice(untouched))
    todo = [
        item
        for item in till.inbox()
        if item["open"] and item["directive"] not in chain.journal.withdrawn
    ]
    if todo and draw.random() < 0.15:
        item = draw.choice(todo)
        return dying.done(chain, till, item["directive"], item["role"])
    maker = draw.choice(makers)
    return maker(chain, till) if maker in {dying.alert, dying.report} else maker(chain)
