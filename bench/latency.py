"""How soon a running daemon sends what another process has written into its outbox.

The clock starts when the API call returns, that is when the entry is durable; it stops when the
broker has delivered the record to a subscriber.
"""

import queue
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench.chain import chain, roster
from bench.figures import Aim, Figure, Setting, median
from bench.processes import PATIENCE_SECONDS, agent, wait_for
from buskit.link import Connected, Link, LinkEvent, LinkSettings, Received, Subscribed
from storeagent.api import Agent

_MOST_MS = 50


def run(setting: Setting) -> Sequence[Figure]:
    """Raise alerts, one after the other, and listen for each."""
    stores = roster(1)
    heard: queue.SimpleQueue[tuple[float, LinkEvent]] = queue.SimpleQueue()
    with ExitStack() as stack:
        there = stack.enter_context(chain(setting.folder, stores))
        store = stores[0].store_id
        token = there.tool("listener", "storebus/v1/from/+/+")
        home = there.join(store, "till-1")
        stack.enter_context(agent(home))
        count = there.ledger.connection.execute
        online = "SELECT count(*) FROM device WHERE online = 1"
        wait_for(lambda: count(online).fetchone()[0], "the agent's hello")
        name = "tool/listener"
        link = Link(
            LinkSettings(addresses=(there.broker,), client_id=name, username=name, password=token),
            deliver=lambda event: heard.put((time.perf_counter(), event)),
            random=random.Random(1),
        )
        link.start()
        stack.callback(link.stop)
        _next(heard, Connected)
        link.subscribe([(f"storebus/v1/from/{store}/till-1", 0)])
        _next(heard, Subscribed)
        waits: list[float] = []
        with Agent(home) as api:
            for number in range(setting.pick(60, 15)):
                fields = {"sku": str(number), "on_hand": 3, "reorder_point": 12}
                recorded = api.alert("replenishment", **fields)
                said = time.perf_counter()
                waits.append((_next(heard, Received, recorded.id.encode()) - said) * 1000)
                time.sleep(0.02 + 0.03 * (number % 3))  # the daemon is asleep again
    waits.sort()
    return [
        Figure(
            "latency",
            "from a durable alert until a subscriber has it, median",
            median(waits),
            "ms",
            aim=Aim("figure", "at most", _MOST_MS, "ms"),
        ),
        Figure(
            "latency.worst",
            f"the slowest of {len(waits)}",
            waits[-1],
            "ms",
            aim=Aim("figure", "at most", _MOST_MS, "ms"),
        ),
    ]


def _next(
    heard: "queue.SimpleQueue[tuple[float, LinkEvent]]", kind: type, content: bytes = b""
) -> float:
    """Wait for an event of this kind, a message with this in it. Returns when it happened."""
    while True:
        at, event = heard.get(timeout=PATIENCE_SECONDS)
        if isinstance(event, kind) and content in getattr(event, "payload", b""):
            return at
