"""The network is cut, stalled, slow, or there in one direction only: real processes, real sockets.

Between each device and the broker, and between the hub and the broker, stands a proxy of ours
(`tests.net.proxy`). What happens in namespaces, with packets that vanish, is in `namespaces`.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hqconsole.hub_link import hub_link
from tests.faults.chains import judge
from tests.faults.rows import Row
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.net.proxy import Lane
from tests.net.reach import HUB, KEEPALIVE_SECONDS, ReachedChain
from tests.processes.chain import Chain

STORES = ("S001", "S002", "S003", "S004")
PARTITIONS = 260
PARTITIONS_IN_TLS = 60
PATIENCE_SECONDS = 40.0
"""So long after a partition what is said must have arrived, or it counts as lost."""
RECOVERY_MOST_SECONDS = 8.0
DEVICE_NOTICES_SECONDS = 2 * KEEPALIVE_SECONDS + KEEPALIVE_SECONDS / 3
"""Twice the keepalive, and the pauses between two looks at the clock."""
HQ_NOTICES_SECONDS = 1.5 * KEEPALIVE_SECONDS
"""The broker's bound; the will brings it to HQ."""
SLACK_SECONDS = 3.0 * TIME_SCALE
"""What a busy machine may add, and the second in which a daemon writes its status."""
BITS_64K = 8_000.0

_STALLED = Lane(open=False)
_LASTING: dict[str, Callable[[Random], dict[str, Any]]] = {
    "stall": lambda _: {"up": _STALLED, "down": _STALLED},
    "half-open up": lambda _: {"up": _STALLED},
    "half-open down": lambda _: {"down": _STALLED},
    "refuse": lambda _: {"door": "refuse"},
    "slam": lambda _: {"door": "slam"},
    "silent": lambda _: {"door": "silent"},
    "breaks": lambda draw: {
        "break_after_bytes": draw.choice((draw.randint(1, 300), draw.randint(300, 60_000))),
        "break_by": draw.choice(("cut", "reset")),
    },
}
_PASSING: dict[str, Callable[[Random], dict[str, Any]]] = {
    "delay": lambda draw: dict.fromkeys(
        ("up", "down"), Lane(delay_seconds=0.2 * draw.random(), jitter_seconds=0.3)
    ),
    "slow": lambda _: dict.fromkeys(("up", "down"), Lane(bytes_per_second=BITS_64K)),
    "dribble": lambda draw: dict.fromkeys(("up", "down"), Lane(piece_bytes=draw.randint(1, 9))),
}
KINDS = (*_LASTING, *_PASSING, "cut", "reset")
_CUTTING = {"refuse", "slam", "silent", "breaks"}
"""What is felt by new connections only, so the present ones are ended first."""
_SILENT = {"stall", "half-open up", "half-open down"}


@dataclass
class Tally:
    """What was done to the network, and what was seen of it."""

    kinds: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    looks: int = 0
    noticed: dict[str, float] = field(default_factory=dict)
    """The longest until a half-open connection was noticed, by whom."""

    def has_noticed(self, who: str, seconds: float) -> None:
        """Remember how long it took."""
        self.noticed[who] = max(self.noticed.get(who, 0.0), seconds)


def network(seed: int, share: float) -> Row:
    """Partitions by proxy: in plain text and in TLS."""
    row = Row("network")
    draw = Random(seed)
    tally = Tally()
    for tls, stores, most in (("", STORES, PARTITIONS), ("mutual", STORES[:2], PARTITIONS_IN_TLS)):
        with (
            tempfile.TemporaryDirectory() as folder,
            ReachedChain(Path(folder), stores, tls=tls) as chain,  # type: ignore[arg-type]
        ):
            partition(chain, draw, row, tally, times=max(6, round(most * share)))
            judge(chain, row, seconds=PATIENCE_SECONDS)
    row.note = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.kinds.items()))
    row.note += (
        f"; {tally.waiting} of them with something on its way; {tally.looks} looks at hq who"
    )
    if tally.noticed:
        row.note += "; half-open noticed within " + ", ".join(
            f"{seconds:.1f} s by {who}" for who, seconds in sorted(tally.noticed.items())
        )
        row.note += f" (keepalive {KEEPALIVE_SECONDS} s)"
    return row


def partition(
    chain: ReachedChain, draw: Random, row: Row, tally: Tally, *, times: int, held_every: int = 12
) -> None:
    """So many partitions, with work before, in and after them."""
    rounds = _rounds(draw, chain)
    begun = row.times
    while row.times < begun + times:
        number, victims = next(rounds)
        work(chain, draw)
        kinds = {name: draw.choice(KINDS) for name in victims}
        held = bool(held_every) and number % held_every == 0
        if held:  # until both sides have noticed
            kinds = dict.fromkeys(victims, draw.choice(sorted(_SILENT)))
        time.sleep(draw.choice((0.0, 0.0, 0.05)) * draw.random())
        tally.waiting += len(victims) if _under_way(chain) else 0
        for name, kind in kinds.items():
            begin(chain, name, kind, draw)
        work(chain, draw)
        if held:
            _see_it_noticed(chain, victims, row, tally)
        elif number % 8 == 1 and HUB not in victims:
            _look(chain, {name for name, kind in kinds.items() if kind in _LASTING}, row, tally)
        else:
            time.sleep(draw.choice((0.05, 0.2, 0.5, 1.0)) * draw.random())
        for name in victims:
            chain.proxies[name].clear()
        row.recovered(recovery(chain, victims, row))
        row.times += len(victims)
        tally.kinds.update(kinds.values())


def _rounds(draw: Random, chain: ReachedChain) -> Iterator[tuple[int, list[str]]]:
    number = 0
    everybody = list(chain.proxies)
    while True:
        yield number, draw.sample(everybody, draw.choice((1, 2, 2, 3)))
        number += 1


def begin(chain: ReachedChain, name: str, kind: str, draw: Random) -> None:
    """Bring it about on somebody's way to the broker."""
    proxy = chain.proxies[name]
    if kind in ("cut", "reset"):
        for _ in range(draw.choice((1, 1, 3))):
            proxy.cut(by_reset=kind == "reset")
        return
    proxy.change(**(_LASTING.get(kind) or _PASSING[kind])(draw))
    if kind in _CUTTING:
        proxy.cut(by_reset=draw.random() < 0.5)


def work(chain: Chain, draw: Random) -> None:
    """Let HQ and the stores say things."""
    if draw.random() < 0.5:
        chain.issue(*draw.choice(((), draw.sample(chain.stores, 1))))
    for till in chain.tills.values():
        chain.alert(till)
        if draw.random() < 0.1:
            chain.report(till, draw.choice((3, 1500)))
        todo = [item for item in till.inbox() if item["open"]]
        for item in draw.sample(todo, min(len(todo), 1)):
            chain.say(till, item, draw.choice(("read", "done", "done")))


def _under_way(chain: Chain) -> bool:
    return bool(chain.undelivered() or any(one.unacknowledged() for one in chain.tills.values()))


def recovery(
    chain: Chain, victims: list[str], row: Row, *, most_seconds: float = RECOVERY_MOST_SECONDS
) -> float:
    """How long until what is said now arrives, from every device that was cut off."""
    began_at = time.monotonic()
    tills = [chain.tills[name] for name in victims if name != HUB]
    if HUB in victims:
        tills = list(chain.tills.values())
    said = [(till, chain.alert(till)) for till in tills]
    try:
        for till, number in said:
            chain.wait_arrived(till.store, number, seconds=PATIENCE_SECONDS)
    except AssertionError as error:
        row.wrong.append(f"{error} after {victims}")
    seconds = time.monotonic() - began_at
    if seconds > most_seconds * TIME_SCALE:
        row.wrong.append(f"{seconds:.1f} s until the first thing arrived after {victims}")
    return seconds


def _look(chain: ReachedChain, silent: set[str], row: Row, tally: Tally) -> None:
    """While some are cut off: HQ names exactly those as not having what is issued now."""
    directive = chain.issue()
    away = {chain.tills[name].store for name in silent}
    there = set(chain.stores) - away

    def pending() -> set[str]:
        return {s for (s, _), state in chain.states(directive).items() if state == "pending"}

    try:
        wait_until(lambda: not pending() & there, seconds=15, what="those who are not cut off")
    except AssertionError as error:
        row.wrong.append(f"{error}: {pending() & there}, cut off are {away}")
        return
    named = {one["store"] for one in chain.hq_json("who", directive, "--state", "pending")}
    has_it = {
        till.store
        for till in chain.tills.values()
        if any(item["directive"] == directive for item in till.inbox())
    }
    if named - away:
        row.wrong.append(f"hq who names {named - away} as without, and they have it")
    if missing := set(chain.stores) - named - has_it:
        row.wrong.append(f"hq who says that {missing} have what they have not")
    tally.looks += 1


def _see_it_noticed(chain: ReachedChain, victims: list[str], row: Row, tally: Tally) -> None:
    """A silent connection is noticed by both its ends, in the time that the keepalive bounds."""
    began_at = time.monotonic()
    ends: dict[tuple[str, str], Callable[[], bool]] = {}
    for name in victims:
        if name == HUB:
            ends["the hub, and hq status", name] = lambda: not _is_connected(chain)
            continue
        till = chain.tills[name]
        ends["the device", name] = lambda till=till: not chain.told_of(till).get("connected", True)
        if HUB not in victims:
            ends["HQ", name] = lambda till=till: not chain.online(till.store)
    bounds = {"HQ": HQ_NOTICES_SECONDS, "the device": DEVICE_NOTICES_SECONDS}
    while ends:
        seconds = time.monotonic() - began_at
        for (who, name), has_noticed in list(ends.items()):
            bound = bounds.get(who, DEVICE_NOTICES_SECONDS) + SLACK_SECONDS
            if has_noticed():
                tally.has_noticed(who, seconds)
                del ends[who, name]
            elif seconds > bound:
                row.wrong.append(f"{who} has not noticed in {bound:.1f} s that {name} is cut off")
                del ends[who, name]
        time.sleep(0.02)


def _is_connected(chain: ReachedChain) -> bool:
    """Whether the hub says that it reaches the broker, where commands look for that."""
    link = hub_link(chain.home)
    return link is None or link.connected
