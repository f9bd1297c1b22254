"""A herd: thousands of light devices whose broker, or hub, is killed and started again.

Owns the herd's processes, what they tell of themselves ten times a second, and what follows from
it: how the reconnects are spread, and when everybody is back and welcomed.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hqconsole.commands.main import main as hq_main
from tests.agent.processes import BIN, environment
from tests.faults.rows import Row
from tests.faults.watching import Answers, Every, percentile, resident_mib
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes.chain import QUICK_LINK, Bus, Daemon, rows

_TELL_SECONDS = 0.1
_REST_SECONDS = 10.0
_MANY = 500
"""Of fewer it is not worth asking how they are spread, and waiting for long pauses."""
_PEAK_SHARE = 0.6
_ANSWER_SECONDS = 15.0 * TIME_SCALE
_BACK_SECONDS = 90.0


@dataclass
class Curve:
    """How many were connected, and how many welcomed, at each moment that was told of."""

    at: list[float] = field(default_factory=list)
    connected: list[int] = field(default_factory=list)
    welcomed: list[int] = field(default_factory=list)


class Flock:
    """One process of the herd."""

    def __init__(self, folder: Path, name: str, lines: Sequence[str], words: Sequence[str]) -> None:
        self.count = len(lines) - 1
        keys = folder / f"{name}.keys"
        keys.touch(mode=0o600)
        keys.write_text("\n".join(lines) + "\n")
        command = ["storeagent", "fleet", "--keys", keys, *words]
        self.daemon = Daemon(name, command, folder / name, folder / f"{name}.log")
        self._read = 0
        self.told: list[dict[str, Any]] = []

    def look(self) -> dict[str, Any]:
        """The latest totals; those that were told since the last look are in `told`."""
        with self.daemon.log.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        self.told += [json.loads(line) for line in whole.splitlines() if line.startswith(b"{")]
        return self.told[-1] if self.told else {}


class Herd:
    """Broker, hub and all devices. A context manager: at its end nothing is left running."""

    def __init__(self, folder: Path, devices: int, flocks: int, *, seed: int) -> None:
        self.folder = folder
        self.home = folder / "hq"
        self.devices = devices
        self._flocks = flocks
        self._seed = seed
        self._stack = contextlib.ExitStack()
        self.flocks: list[Flock] = []
        self.hub = Daemon("hub", ["hq", "hub", "--home", self.home], self.home, folder / "hub.log")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _set_up(self, stack: contextlib.ExitStack) -> None:
        self._hq("init")
        self.bus = Bus(self.folder, "--access", self.home / "access.json")
        stack.callback(self._end_broker)
        stack.callback(self.hub.end)
        url = f"mqtt://127.0.0.1:{self.bus.port}"
        self._hq("init", "--broker", url)
        if self.devices < _MANY:
            with (self.home / "hq.toml").open("a") as file:
                file.write(QUICK_LINK)
        roster = self.folder / "stores.csv"
        lines = [f"S{n:05},Store {n},r{n % 10},UTC,manager" for n in range(self.devices)]
        roster.write_text("\n".join(["store_id,name,region,timezone,roles", *lines]) + "\n")
        self._hq("roster", "import", str(roster))
        keys = self.folder / "all.keys"
        self._hq("device", "add", "--all", "till", "--fleet", str(keys))
        self.hub.start()
        trust, *devices = keys.read_text().splitlines()
        for number in range(self._flocks):
            mine = [trust, *devices[number :: self._flocks]]
            words = ["--broker", url, "--every", str(_TELL_SECONDS), "--seed", str(self._seed)]
            flock = Flock(self.folder, f"flock{number}", mine, words)
            stack.callback(flock.daemon.end)
            self.flocks.append(flock)
            flock.daemon.start()
        self.wait_back("the herd to come for the first time")

    def _end_broker(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.bus.kill()

    def _hq(self, *words: str) -> None:
        assert hq_main.run([*words, "--home", str(self.home)]) == 0

    # --- how it is -------------------------------------------------------------------------------

    def total(self, name: str) -> int:
        """The sum over all flocks of what they told last."""
        return sum(int(flock.look().get(name, 0)) for flock in self.flocks)

    def wait_back(self, what: str) -> None:
        """Wait until every device is welcomed."""
        wait_until(
            lambda: self.total("welcomed") == self.devices,
            seconds=_BACK_SECONDS,
            what=what,
            poll_seconds=0.1,
        )

    def wait_over(self, published: Sequence[str], *, what: str) -> None:
        """Wait until every device is welcomed and HQ knows that each has all that was published."""
        self.wait_back(what)
        wait_until(
            lambda: (
                self.undelivered() == 0 and self.total("taken") == len(published) * self.devices
            ),
            seconds=_BACK_SECONDS,
            what=f"the work that was published during {what}",
            poll_seconds=0.1,
        )

    def forget(self) -> None:
        """Begin a new curve."""
        for flock in self.flocks:
            flock.look()
            flock.told = flock.told[-1:]

    def curve(self) -> Curve:
        """How it went since `forget`, in steps of a tenth of a second."""
        found = Curve()
        told = [flock.told for flock in self.flocks]
        first = min(one[0]["at"] for one in told)
        last = max(one[-1]["at"] for one in told)
        places = [0] * len(told)
        for step in range(int((last - first) / _TELL_SECONDS) + 2):
            at = first + step * _TELL_SECONDS
            for number, one in enumerate(told):
                while places[number] + 1 < len(one) and one[places[number] + 1]["at"] <= at:
                    places[number] += 1
            now = [one[place] for one, place in zip(told, places, strict=True)]
            found.at.append(at)
            found.connected.append(sum(one["connected"] for one in now))
            found.welcomed.append(sum(one["welcomed"] for one in now))
        return found

    def undelivered(self) -> int:
        """Deliveries of which HQ does not know that they are there."""
        return int(
            rows(self.home / "ledger.db", "SELECT count(*) FROM delivery WHERE state = 0")[0][0]
        )

    def states(self) -> dict[str, list[int]]:
        """By directive: the states of its deliveries, as the ledger has them."""
        found: dict[str, list[int]] = {}
        for directive, state in rows(
            self.home / "ledger.db",
            "SELECT id, delivery.state FROM directive JOIN delivery ON directive_no = directive.no",
        ):
            found.setdefault(directive, []).append(state)
        return found

    def crashed(self) -> list[Daemon]:
        """Who has said what nobody should say, or is gone."""
        daemons = [self.hub, *(flock.daemon for flock in self.flocks)]
        return [one for one in daemons if one.returncode is not None or "Traceback" in one.said()]

    def publish(self, number: int) -> str:
        """Issue work to everybody, with the command; its id."""
        words = ["publish", f"work {number}", "--all", "--kind", "task", "--json"]
        done = subprocess.run(
            [BIN / "hq", *words, "--home", self.home],
            check=True,
            capture_output=True,
            text=True,
            env=environment(self.home),
            timeout=120,
        )
        return str(json.loads(done.stdout)["id"])


# --- the judgement -------------------------------------------------------------------------------


def lost_and_twice(
    published: Sequence[str],
    states: Mapping[str, Sequence[int]],
    devices: int,
    totals: Mapping[str, int],
) -> tuple[list[str], list[str]]:
    """Hold what was published against what HQ knows to be there, and what the devices have.

    Args:
        published: Ids of directives, each for every device's store.
        states: By directive: the states of its deliveries in the ledger, as numbers.
        devices: How many there are.
        totals: What the devices tell, summed up.
    """
    lost, twice = [], []
    for directive in published:
        there = sum(1 for state in states.get(directive, ()) if state > 0)
        if there != devices:
            lost.append(f"directive {directive[:8]} is at {there} of {devices}")
    taken = len(published) * devices
    if totals["taken"] < taken:
        lost.append(f"the devices have {totals['taken']} of {taken} deliveries")
    if totals["twice"] or totals["taken"] > taken:
        twice.append(f"{totals['twice']} deliveries arrived again, {totals['taken']} are there")
    if len(states) > len(published):
        twice.append(f"{len(states)} directives, {len(published)} were published")
    return lost, twice


def busiest_second(curve: Curve) -> int:
    """How many connected in the busiest second."""
    steps = round(1 / _TELL_SECONDS)
    later = [*curve.connected[steps:], *[curve.connected[-1]] * steps]
    return max(after - now for now, after in zip(curve.connected, later, strict=True))


def time_until(curve: Curve, values: Sequence[int], enough: float, *, since_at: float) -> float:
    """Seconds from a moment until a value is reached."""
    for at, value in zip(curve.at, values, strict=True):
        if at >= since_at and value >= enough:
            return at - since_at
    return curve.at[-1] - since_at


# --- the fault -----------------------------------------------------------------------------------


def herd(seed: int, share: float) -> Row:
    """Broker and hub killed under 2,000 devices: all come back spread out, and HQ can be used."""
    draw = random.Random(seed)
    row = Row("herd")
    devices = max(60, min(2_000, round(2_000 * share)))
    strikes = [_broker, _broker, _broker, _stall, _broker] * 2 + [_hub] * 3
    strikes = strikes[: max(1, round(10 * share))] + (strikes[10:] if share >= 1 else [_hub])
    peaks: list[int] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Herd(Path(folder), devices, min(4, 1 + devices // 500), seed=seed) as there,
    ):
        answers = Answers(there.home, "hq", "status", "--home", str(there.home))
        published = [there.publish(0)]
        there.wait_over(published, what="the herd's first day")
        at_rest = _at_rest(there) if share >= 0.5 else ""
        with Every(1.0 if devices >= _MANY else 4.0, answers.ask) as asking:
            for number, strike in enumerate(strikes, 1):
                hub = there.hub.pid
                there.forget()
                over_at = strike(there, draw, share)
                # In the middle of the herd, when it hears nothing or only some of it.
                time.sleep(3 * share * draw.random())
                published.append(there.publish(number))
                there.wait_over(published, what=f"the herd after {strike.__name__[1:]} {number}")
                curve = there.curve()
                row.times += 1
                row.recovered(time_until(curve, curve.welcomed, devices, since_at=over_at))
                if strike is not _hub:
                    peaks.append(busiest_second(curve))
                if there.hub.pid == hub:
                    row.memory.append(resident_mib(hub))
        totals = {name: there.total(name) for name in ("taken", "twice", "aside")}
        row.accepted = len(published) * devices
        row.lost, row.twice = lost_and_twice(published, there.states(), devices, totals)
        row.wrong += answers.wrong[:5] + asking.errors[:5]
        if totals["aside"]:
            row.wrong.append(f"{totals['aside']} things that a device could not use")
        row.wrong += judge_spread(peaks, devices) if devices >= _MANY else []
        if max(answers.seconds) > _ANSWER_SECONDS:
            row.wrong.append(f"hq status: {answers.shown}")
        row.wrong += [f"{one.name}: {one.said()[-2000:]}" for one in there.crashed()]
    row.note = (
        f"{devices:,} devices; busiest second {max(peaks, default=0):,} connects"
        f" (median {percentile(peaks, 0.5):,.0f}); hq status {answers.shown}{at_rest}"
    )
    return row


def judge_spread(peaks: Sequence[int], devices: int) -> list[str]:
    """What is wrong where most of the herd comes in one second."""
    return [
        f"{peak:,} of {devices:,} devices came back within one second"
        for peak in peaks
        if peak > _PEAK_SHARE * devices
    ]


def _broker(there: Herd, draw: random.Random, share: float) -> float:
    """Kill the broker and start it again, at once or after a while; when it was there again."""
    there.bus.kill()
    time.sleep(draw.choice((0.0, 1.0, 5.0, 12.0)) * min(1.0, share) * draw.random())
    there.bus.start()
    return time.time()


def _stall(there: Herd, draw: random.Random, share: float) -> float:
    """The same, and meanwhile something on its port takes connections and never says a word."""
    there.bus.kill()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind(("127.0.0.1", there.bus.port))
        deaf.listen(4_096)
        time.sleep(1 + 12 * min(1.0, share) * draw.random())
    there.bus.start()  # everybody was thrown out a moment ago, all at the same time
    return time.time()


def _hub(there: Herd, draw: random.Random, share: float) -> float:
    """Kill the hub and start it again."""
    there.hub.kill()
    time.sleep(5 * min(1.0, share) * draw.random())
    there.hub.start()
    return time.time()


def _at_rest(there: Herd) -> str:
    """What everybody being there costs, in words."""
    before = _cpu_seconds(there.hub.pid), _cpu_seconds(there.bus.pid)
    time.sleep(_REST_SECONDS)
    after = _cpu_seconds(there.hub.pid), _cpu_seconds(there.bus.pid)
    hub, broker = ((b - a) / _REST_SECONDS for a, b in zip(before, after, strict=True))
    return f"; at rest hub {hub:.1%}, broker {broker:.1%} of a core"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
