"""The benchmarks by name. Each is a module with a function `run`, imported when it is wanted."""

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.figures import Figure, Setting


class Benchmark(NamedTuple):
    """One benchmark."""

    name: str
    module: str
    what: str

    def load(self) -> Callable[[Setting], Sequence[Figure]]:
        """Import its function."""
        run: Callable[[Setting], Sequence[Figure]] = importlib.import_module(self.module).run
        return run


BENCHMARKS = (
    Benchmark(
        "outbox",
        "bench.outbox",
        "durable entries through the Python API, against bare sqlite3 inserts of the same row",
    ),
    Benchmark(
        "alert-command",
        "bench.alert_command",
        "`storeagent alert` as a whole process, against `python -c pass`",
    ),
    Benchmark(
        "broker",
        "bench.broker_rate",
        "unicast at 1,000 connected stores, against 100 stores and against plain amqtt",
    ),
    Benchmark(
        "directive",
        "bench.directive",
        "one directive to 1,000 light stores until all receipts are in the ledger, in its parts",
    ),
    Benchmark("idle-agent", "bench.idle_agent", "memory and CPU of an agent with nothing to do"),
    Benchmark(
        "deliveries",
        "bench.deliveries",
        "125,000 deliveries issued in one command: time, and bytes in the ledger",
    ),
    Benchmark(
        "console",
        "bench.console",
        "what an operator waits for at 25,000 stores with a past, each command a process",
    ),
    Benchmark("hub", "bench.hub_desk", "hellos answered and records committed, without a network"),
    Benchmark(
        "latency", "bench.latency", "from the end of a command until a running daemon has sent it"
    ),
    Benchmark(
        "sums",
        "bench.row_sums",
        "rows written and read with the sums that tell damage, against the same without them",
    ),
    Benchmark(
        "security",
        "bench.security",
        "signing and verifying, the broker with an access file against without, who is let in",
    ),
)
