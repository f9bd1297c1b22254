"""Packets vanish, in one direction or both, and addresses change: real TCP between namespaces.

Nobody is told of anything: what neither keepalive nor TCP's own patience notices is not noticed.
Needs root (`tests.net.namespaces.why_not`); where it cannot be, the row's note says so.
"""

import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.faults.chains import judge
from tests.faults.network import (
    HQ_NOTICES_SECONDS,
    PATIENCE_SECONDS,
    SLACK_SECONDS,
    recovery,
    work,
)
from tests.faults.rows import Row
from tests.helpers.waiting import TIME_SCALE
from tests.net.distant import HUB, DistantChain
from tests.net.namespaces import why_not
from tests.net.reach import is_online

STORES = ("S001", "S002", "S003")
PARTITIONS = 45
RECOVERY_MOST_SECONDS = 16.0
"""A connection attempt that was under way is repeated by TCP after 1, 3 and 7 seconds, and given up
for a new one after 10; then the daemon's look around, since no doorbell is heard here."""
_KINDS = ("both", "both", "up", "down", "loss", "address", "unplugged")
_LONG_EVERY = 6
_LONG_SECONDS = 7.0
"""Longer than the keepalive of both sides lasts."""


def namespaces(seed: int, share: float) -> Row:
    """Silent partitions between hub, devices and broker."""
    row = Row("namespaces")
    if reason := why_not():
        row.note = f"skipped: {reason}"
        return row
    draw = Random(seed)
    kinds: Counter[str] = Counter()
    vanished = 0
    most = max(4, round(PARTITIONS * share))
    with tempfile.TemporaryDirectory() as folder, DistantChain(Path(folder), STORES) as chain:
        chain.namespaces.give_up_sooner(f"{STORES[0]}.till-1", repetitions=2)
        number = 0
        while row.times < most:
            vanished += _partition(chain, draw, row, kinds, long=number % _LONG_EVERY == 1)
            number += 1
        judge(chain, row, seconds=PATIENCE_SECONDS)
    row.note = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    row.note += f"; {vanished} packets vanished"
    if not vanished:
        row.wrong.append("no packet has vanished")
    return row


def _partition(
    chain: DistantChain, draw: Random, row: Row, kinds: Counter[str], *, long: bool
) -> int:
    """One to two at the same time, with work before and in it; how many packets vanished."""
    wires = chain.namespaces
    places = draw.sample([HUB, *chain.tills], draw.choice((1, 1, 2)))
    chosen = {place: draw.choice(_KINDS) for place in places}
    if long:
        chosen = dict.fromkeys(places, draw.choice(("both", "up", "down")))
    work(chain, draw)
    for place, kind in chosen.items():
        if kind == "address":
            wires.change_address(place)
        elif kind == "unplugged":
            wires.unplug(place)
        elif kind == "loss":
            wires.drop(place, up=True, down=True, percent=draw.randint(10, 40))
        else:
            wires.drop(place, up=kind != "down", down=kind != "up")
    work(chain, draw)
    if long:
        _wait_until_gone(chain, places, row)
    else:
        time.sleep(draw.uniform(0.1, 2.5))
    vanished = wires.dropped()
    for place, kind in chosen.items():
        if kind == "unplugged":
            wires.plug(place)
        else:
            wires.pass_all(place)
    row.recovered(recovery(chain, places, row, most_seconds=RECOVERY_MOST_SECONDS))
    row.times += len(places)
    kinds.update(f"{kind}, long" if long else kind for kind in chosen.values())
    return vanished


def _wait_until_gone(chain: DistantChain, places: list[str], row: Row) -> None:
    """HQ says of who is cut off for long that it is not there, in the time that it promises."""
    began_at = time.monotonic()
    stores = {chain.tills[place].store for place in places if place != HUB}
    bound = HQ_NOTICES_SECONDS + SLACK_SECONDS
    while (left := _LONG_SECONDS * TIME_SCALE - (time.monotonic() - began_at)) > 0:
        time.sleep(min(0.1, left))
        late = time.monotonic() - began_at > bound
        if HUB not in places and late and any(is_online(chain, store) for store in stores):
            row.wrong.append(f"HQ takes {stores} for there after {bound:.1f} s of silence")
            break
