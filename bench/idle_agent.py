"""What an agent costs a till that has nothing to do: the daemon, connected and welcomed.

Beats, keep-alive, HQ's heads and the daemon's own look around go on as in a shop.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench.chain import chain, roster
from bench.figures import Aim, Figure, Setting
from bench.processes import agent, cpu_seconds, resident_mb, wait_for


def run(setting: Setting) -> Sequence[Figure]:
    """Start broker, hub and one agent, let them settle, and look at the agent for a while."""
    stores = roster(1)
    with ExitStack() as stack:
        there = stack.enter_context(chain(setting.folder, stores))
        pid = stack.enter_context(agent(there.join(stores[0].store_id, "till-1")))
        count = there.ledger.connection.execute
        online = "SELECT count(*) FROM device WHERE online = 1"
        wait_for(lambda: count(online).fetchone()[0], "the agent's hello")
        time.sleep(2.0)
        seconds = setting.pick(30, 5)
        before, began = cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        share = 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)
        resident = resident_mb(pid)
    return [
        Figure(
            "idle-agent.memory",
            "resident memory of an idle agent",
            resident,
            "MB",
            aim=Aim("figure", "at most", 45, "MB"),
        ),
        Figure(
            "idle-agent.cpu",
            f"CPU time of an idle agent over {seconds} s",
            share,
            "%",
            aim=Aim("figure", "at most", 1, "%"),
        ),
    ]
