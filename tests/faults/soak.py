"""An hour of everything at once, with two hundred agents: what does not show in minutes.

Eight stores have a whole agent each, the others a light one; everybody reaches the broker through
a proxy. In the first half all is killed, stopped and cut off; in the second half nothing is killed,
so that what broker, hub and agents gather can be seen.
"""

import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.faults import kills, network
from tests.faults.chains import Tally, everybody, heard_again, judge, what_went_wrong
from tests.faults.rows import Row
from tests.faults.watching import Every, resident_mib, size_mib
from tests.helpers.waiting import wait_until
from tests.net.reach import ReachedChain
from tests.processes import load
from tests.processes.chain import Bus, Daemon

_SECONDS = 3_600.0
_WHOLE = 8
_LIGHT = 192
_LOOK_SECONDS = 5.0
_FAULT_EVERY_SECONDS = 6.0
_MORE_DESCRIPTORS = 10
_WAL_MOST_MIB = 64.0
"""Twice what the log is cut back to after a checkpoint: readers may hold one up for a while."""

Samples = Mapping[str, Sequence[float]]


class SoakChain(ReachedChain):
    """A chain of whole agents, and a fleet of light ones in stores of their own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, [f"S{n:03}" for n in range(1, _WHOLE + 1)])
        self.fleet: Daemon | None = None

    def _set_up(self) -> None:
        super()._set_up()
        whole = self.stores
        self.stores = (*whole, *(f"S{n:03}" for n in range(_WHOLE + 1, _WHOLE + _LIGHT + 1)))
        self.import_roster()
        keys = self.folder / "fleet.keys"
        self.hq_here("device", "add", "--all", "light", "--fleet", str(keys))
        # The light ones are for the stores that have no whole one.
        trust, *devices = keys.read_text().splitlines()
        mine = [line for line in devices if json.loads(line)["store"] not in whole]
        assert len(mine) == _LIGHT
        keys.write_text("\n".join([trust, *mine]) + "\n")
        proxy = self.proxies["fleet"] = self._new_proxy(self.bus.port)
        words = ["storeagent", "fleet", "--keys", keys, "--every", "1"]
        words += ["--broker", f"mqtt://127.0.0.1:{proxy.port}"]
        self.fleet = Daemon("fleet", words, self.folder / "fleet", self.folder / "fleet.log")
        self.fleet.start()
        wait_until(
            lambda: self.rows("SELECT count(*) FROM device WHERE online = 1")[0][0] >= _LIGHT,
            seconds=60,
            what="the light agents to be there",
        )

    def _online(self) -> int:
        return int(
            self.rows("SELECT count(*) FROM device WHERE online = 1 AND name <> 'light'")[0][0]
        )

    def _end(self) -> None:
        if self.fleet is not None:
            self.fleet.end()
        super()._end()


class Watch:
    """Samples of memory, descriptors and logs, by what they are of."""

    def __init__(self, chain: SoakChain) -> None:
        self._chain = chain
        self.memory_mib: dict[str, list[float]] = defaultdict(list)
        self.descriptors: dict[str, list[float]] = defaultdict(list)
        self.wal_mib: dict[str, list[float]] = defaultdict(list)

    def look(self) -> None:
        """Take one sample of each."""
        chain = self._chain
        assert chain.fleet is not None
        first = next(iter(chain.tills.values()))
        for name, pid in (
            ("broker", chain.bus.pid),
            ("hub", chain.hub.pid),
            ("agent", first.pid),
            ("fleet", chain.fleet.pid),
        ):
            try:
                memory, files = resident_mib(pid), len(list(Path(f"/proc/{pid}/fd").iterdir()))
            except OSError:
                continue  # it was killed a moment ago
            self.memory_mib[name].append(memory)
            self.descriptors[name].append(files)
        self.wal_mib["ledger"].append(size_mib(chain.home / "ledger.db-wal"))
        for till in chain.tills.values():
            self.wal_mib[till.name].append(size_mib(till.home / "agent.db-wal"))

    def forget(self) -> None:
        """Begin anew."""
        for samples in (self.memory_mib, self.descriptors):
            samples.clear()


def soak(seed: int, share: float) -> Row:
    """Everything at once, for an hour."""
    row = Row("soak")
    draw = random.Random(seed)
    tally = Tally()
    kinds: Counter[str] = Counter()
    seconds = _SECONDS * share
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        SoakChain(Path(folder)) as chain,
    ):
        watch = Watch(chain)
        began_at = time.monotonic()
        with Every(_LOOK_SECONDS, watch.look) as looking:
            for strikes, until in (
                (_DEADLY + _HARMLESS, seconds / 2),
                (_HARMLESS, seconds),
            ):
                watch.forget()
                while (at := time.monotonic() - began_at) < until:
                    load.work(chain, draw)
                    strike = draw.choice(strikes)
                    try:
                        strike(chain, draw, tally, kinds)
                    except AssertionError as error:  # too late is wrong, and maybe not lost
                        tally.wrong.append(what_went_wrong(chain, error))
                    kinds["in all"] += 1
                    left = at + _FAULT_EVERY_SECONDS - (time.monotonic() - began_at)
                    time.sleep(max(0.0, left) * draw.random())
        for proxy in chain.proxies.values():
            proxy.clear()
        judge(chain, tally)
        row.wrong += looking.errors[:5]
        row.memory = list(watch.memory_mib["hub"])
        # Light agents keep what they have heard in memory, so theirs grows with the work.
        memory_mib = {name: one for name, one in watch.memory_mib.items() if name != "fleet"}
        row.wrong += judge_samples(memory_mib, watch.descriptors, watch.wal_mib)
        if chain.fleet is not None and chain.fleet.returncode is not None:
            row.wrong.append(f"the fleet has died: {chain.fleet.said()[-2000:]}")
    row.times = kinds.pop("in all", 0)
    row.accepted = tally.accepted
    row.lost, row.twice = tally.lost, tally.twice
    row.wrong += tally.wrong
    for recovery_seconds in tally.recoveries_seconds:
        row.recovered(recovery_seconds)
    row.note = "; ".join(
        (
            ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
            f"{_WHOLE + _LIGHT} agents",
            "descriptors " + _shown(watch.descriptors),
            f"WAL at most {max(map(max, watch.wal_mib.values())):.1f} MiB",
            "MiB " + _shown(watch.memory_mib),
        )
    )
    return row


def judge_samples(memory_mib: Samples, descriptors: Samples, wal_mib: Samples) -> list[str]:
    """What has grown: the last third of the samples against the first."""
    wrong = []
    for name, samples in memory_mib.items():
        first, last = _ends(samples)
        grown = Row(name, memory=[first, last])
        grown.look_at_memory()
        wrong += [f"{name}: {one}" for one in grown.wrong]
    for name, samples in descriptors.items():
        first, last = _ends(samples)
        if last > first + _MORE_DESCRIPTORS:
            wrong.append(f"{name}: {first:.0f} descriptors at first, {last:.0f} at last")
    for name, samples in wal_mib.items():
        if max(samples) > _WAL_MOST_MIB:
            wrong.append(f"{name}: a write-ahead log of {max(samples):.0f} MiB")
    return wrong


def _ends(samples: Sequence[float]) -> tuple[float, float]:
    """The most of the first third, and of the last."""
    third = max(1, len(samples) // 3)
    return max(samples[:third]), max(samples[-third:])


def _shown(samples: Samples) -> str:
    ends = {name: _ends(one) for name, one in samples.items()}
    return ", ".join(f"{name} {first:.0f} > {last:.0f}" for name, (first, last) in ends.items())


# --- what is done --------------------------------------------------------------------------------

_Strike = Callable[[SoakChain, random.Random, Tally, Counter[str]], None]


def _kill(chain: SoakChain, draw: random.Random, tally: Tally, kinds: Counter[str]) -> None:
    some = draw.sample(everybody(chain), draw.choice((1, 1, 2)))
    kills.strike(chain, draw, tally, some)
    kinds["kills"] += len(some)


def _kill_all(chain: SoakChain, draw: random.Random, tally: Tally, kinds: Counter[str]) -> None:
    kills.strike(chain, draw, tally, everybody(chain))
    kinds["kills of all at once"] += 1


def _kill_command(chain: SoakChain, draw: random.Random, tally: Tally, kinds: Counter[str]) -> None:
    kills.strike_command(chain, draw, tally)
    kinds["commands killed"] += 1


def _pause(chain: SoakChain, draw: random.Random, tally: Tally, kinds: Counter[str]) -> None:
    victim: Daemon | Bus = draw.choice(everybody(chain))
    victim.freeze()
    time.sleep(draw.uniform(0.5, 4.0))
    victim.thaw()
    kinds["pauses"] += 1


def _partition(chain: SoakChain, draw: random.Random, tally: Tally, kinds: Counter[str]) -> None:
    """Cut some off in some way, and give them back after a while."""
    names = draw.sample(sorted(chain.proxies), draw.choice((1, 2, 3)))
    for name in names:
        network.begin(chain, name, draw.choice(network.KINDS), draw)
    load.work(chain, draw)
    time.sleep(draw.uniform(0.2, 6.0))
    for name in names:
        chain.proxies[name].clear()
    kinds["partitions"] += len(names)
    began_at = time.monotonic()
    heard_again(chain, draw.choice(list(chain.tills.values())), began_at, tally)


_DEADLY: tuple[_Strike, ...] = (_kill, _kill, _kill_all, _kill_command)
_HARMLESS: tuple[_Strike, ...] = (_partition, _partition, _pause)
