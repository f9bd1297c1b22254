"""What an agent costs a till that has nothing to do: the daemon, connected and welcomed.

Beats, keep-alive, HQ's heads and the daemon's own look around go on as in a shop.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench.chain import head_office, roster
from bench.figures import Aim, Figure, Setting
from bench.processes import agent, command, cpu_seconds, embedded_broker, hub, resident_mb, wait_for


def run(setting: Setting) -> Sequence[Figure]:
    """Start broker, hub and one agent, let them settle, and look at the agent for a while."""
    home = setting.folder / "agent"
    with ExitStack() as stack:
        port, _ = stack.enter_context(embedded_broker(setting.folder))
        stores = roster(1)
        ledger = head_office(setting.folder / "hq", stores, port=port)
        stack.callback(ledger.close)
        stack.enter_context(hub(setting.folder / "hq"))
        broker = f"mqtt://127.0.0.1:{port}"
        store = stores[0].store_id
        command(
            *("storeagent", "init", "--home", str(home), "--broker", broker),
            *("--store", store, "--device", "till-1"),
        )
        pid = stack.enter_context(agent(home))
        online = "SELECT count(*) FROM device WHERE online = 1"
        wait_for(lambda: ledger.connection.execute(online).fetchone()[0], "the agent's hello")
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
