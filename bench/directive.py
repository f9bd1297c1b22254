"""One directive to 1,000 light stores, until head office has every receipt on its disk.

Broker, hub and fleet are processes of their own. The wire QoS is one setting, so both are measured,
in turns, each with a chain of its own. The parts overlap; each lasts until the last of its kind:

- publish: from the beginning of the transaction until the broker begins to pass the directive on,
- fan-out: until it has passed it on to the last store,
- receipts: until the last receipt is at the broker,
- ledger: until the last receipt is committed.
"""

import json
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.chain import Chain, chain, roster
from bench.figures import Figure, Setting, median
from bench.load import Client
from bench.processes import PATIENCE_SECONDS, cpu_seconds, new_id, running, wait_for
from buskit.doorbell import ring
from buswire.states import Needs
from hqconsole.audience import Selector
from hqconsole.audience import select as select_audience
from hqconsole.ledger import directives, organisation

_STORES = 1_000
_DIRECTIVES = "storebus/v1/down/all/any"
_SAID = "storebus/v1/from/+/+"
_PARTS = ("publish", "fan-out", "receipts", "ledger")


class _Listener:
    """Notes when the broker passes on directives and receipts.

    A broker serves subscribers in the order in which they subscribed. So of two connections, one
    from before the stores and one from after them, the first hears when a fan-out begins, and the
    last when it has ended.
    """

    def __init__(self, chain: Chain) -> None:
        self._port = chain.port
        self._tokens = {
            name: chain.tool(name, _DIRECTIVES, _SAID)
            for name in ("first-listener", "last-listener")
        }
        self._first = self._connect("first-listener")
        self._first.subscribe(_DIRECTIVES, qos=0)
        self.began_at = self.ended_at = self.receipt_at = 0.0
        self._stopping = False

    def start(self) -> None:
        """Subscribe behind the stores, and begin to listen."""
        self._last = self._connect("last-listener")
        self._last.subscribe(_DIRECTIVES, _SAID, qos=0)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _connect(self, name: str) -> Client:
        """Connect as a tool; the broker hears of it within a second."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return Client(self._port, f"tool/{name}", self._tokens[name])
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _listen(self) -> None:
        both = {self._first.socket: self._first, self._last.socket: self._last}
        while not self._stopping:
            for socket in select.select(both, [], [], 0.1)[0]:
                topics = both[socket].receive()
                now = time.time()
                if _DIRECTIVES in topics and socket is self._first.socket:
                    self.began_at = now
                elif _DIRECTIVES in topics:
                    self.ended_at = now
                if any(topic != _DIRECTIVES for topic in topics):
                    self.receipt_at = now

    def close(self) -> None:
        """Stop listening."""
        self._stopping = True
        self._thread.join()
        self._first.socket.close()
        self._last.socket.close()


class _Work:
    """One chain at work: broker, hub, fleet, and the ledger seen from outside."""

    def __init__(self, folder: Path, qos: int, stack: ExitStack) -> None:
        folder.mkdir()
        stores = roster(_STORES, roles=("manager",))
        there = stack.enter_context(chain(folder, stores, settings=f"\n[link]\nqos = {qos}\n"))
        self.home, self.ledger = there.home, there.ledger
        self.broker_pid, self.hub_pid = there.broker_pid, there.hub_pid
        keys = there.fleet("till-1")
        self.listener = _Listener(there)
        self._totals = folder / "fleet.jsonl"
        arguments = ["--keys", str(keys), "--broker", there.broker]
        arguments += ["--connects-per-second", "1000", "--every", "0.5", "--qos", str(qos)]
        began = time.time()
        fleet = stack.enter_context(
            running(["-m", "storeagent.main", "fleet", *arguments], output=self._totals)
        )
        self.fleet_pid = fleet.pid
        self._wait_for_fleet(lambda totals: totals["welcomed"] == _STORES, "all to be welcomed")
        self.hello_seconds = time.time() - began
        self.listener.start()
        stack.callback(self.listener.close)

    def one_directive(self) -> dict[str, float]:
        """Issue a directive. Returns the seconds of each part, of all, and the CPU seconds."""
        pids = {"broker": self.broker_pid, "hub": self.hub_pid, "fleet": self.fleet_pid}
        cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        taken = self._latest()["taken"] + _STORES
        began = time.time()
        with self.ledger.write() as connection:
            there = organisation.organisation(connection)
            issued = directives.issue(
                connection,
                directives.Draft(title="Pull lot 2231", body="Now.", needs=Needs.READ),
                select_audience(Selector(everyone=True), there),
                there,
                at=began,
                new_id=new_id,
            )
        ring(self.home)
        arrived = "SELECT count(*) FROM delivery WHERE directive_no = ? AND state >= 1"
        counted = self.ledger.connection.execute
        wait_for(lambda: counted(arrived, (issued.no,)).fetchone()[0] == _STORES, "all receipts")
        ended = time.time()
        last = self._wait_for_fleet(
            lambda totals: totals["taken"] >= taken and not totals["unacknowledged"], "all acks"
        )
        if last["twice"] or last["taken"] != taken:
            raise RuntimeError(f"the fleet has {last}, {taken} deliveries were expected")
        heard = self.listener
        moments = [began, heard.began_at, heard.ended_at, min(heard.receipt_at, ended), ended]
        parts = {name: moments[i + 1] - moments[i] for i, name in enumerate(_PARTS)}
        used = {f"{name}_cpu": cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
        return parts | used | {"total": ended - began}

    def _lines(self) -> list[dict[str, Any]]:
        lines = self._totals.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def _latest(self) -> dict[str, Any]:
        return self._lines()[-1]

    def _wait_for_fleet(
        self, condition: Callable[[dict[str, Any]], bool], what: str
    ) -> dict[str, Any]:
        wait_for(lambda: (lines := self._lines()) and condition(lines[-1]), what, poll_seconds=0.1)
        return self._latest()


def run(setting: Setting) -> Sequence[Figure]:
    """Issue directives in two chains, one at QoS 0 and one at QoS 1, in turns."""
    measured: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    hellos: dict[int, float] = {}
    with ExitStack() as stack:
        chains: dict[int, _Work] = {}
        for qos in measured:
            setting.say(f"{_STORES:,} stores say hello at QoS {qos}")
            chains[qos] = _Work(setting.folder / f"qos{qos}", qos, stack)
            hellos[qos] = chains[qos].hello_seconds
        for one in chains.values():
            one.one_directive()
        for _ in range(setting.pick(7, 2)):
            for qos, one in chains.items():
                measured[qos].append(one.one_directive())
    figures: list[Figure] = []
    for qos, runs in measured.items():
        middle = {name: round(median([one[name] for one in runs]), 3) for name in runs[0]}
        figures.append(
            Figure(
                f"directive.hello.qos{qos}",
                f"QoS {qos}: from the fleet's start until {_STORES:,} stores are welcomed",
                hellos[qos],
                "s",
            )
        )
        figures.append(
            Figure(
                f"directive.qos{qos}",
                f"QoS {qos}: issued until {_STORES:,} receipts are durable",
                middle["total"],
                "s",
                detail=middle,
            )
        )
        figures += [
            Figure(f"directive.{name}.qos{qos}", f"QoS {qos}: {name}", middle[name], "s")
            for name in _PARTS
        ]
    return figures
