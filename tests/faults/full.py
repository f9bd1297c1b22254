"""Full disks: homes on small file systems of their own, filled up while work goes on.

Needs root, for mounting; without it there is no such file system, and the suite says so. All of it
runs in a mount namespace of its own, which ends with its last process, whatever happens.

`python -m tests.faults.full SEED SHARE` is the inside of that.
"""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from buskit.database import DatabaseError
from buswire.errors import BusError
from storeagent.errors import OutboxFull
from tests.agent.processes import tool
from tests.faults.chains import STORES, Tally, run_chains
from tests.faults.damage import settle
from tests.faults.rows import Row
from tests.helpers.waiting import wait_until
from tests.processes.chain import Chain, Till

_CHAINS = 2
_ROUNDS = 18
"""In each of which all tills of a chain are full; and as often its head office."""
_TASTE = 0.02
"""So little of it is done in a chain of one store."""
_SIZE_BYTES = 12 * 1024 * 1024
_PAGE_BYTES = 4096
_SPARE_PAGES = (0, 0, 1, 2, 3, 5, 8, 13, 40)
_LEAST_BYTES = 64 * 1024
"""What must stay free in all stores but the first, where nothing is refused but by the disk."""
_BALLAST = "ballast"
_ROOT = Path(__file__).parents[2]


def full(seed: int, share: float) -> Row:
    """Fill disks of tills and of head office up, a hundred times."""
    if os.geteuid():
        return Row("full", note="not done: mounting needs root", wrong=["mounting needs root"])
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-m", "tests.faults.full", str(seed), str(share)],
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return Row("full", wrong=[f"ended with {done.returncode}: {done.stderr[-4000:]}"])
    return Row(**json.loads(lines[-1]))


def inside(seed: int, share: float) -> Row:
    """The suite, where mounts are nobody else's."""
    row = Row("full")
    refusals: Counter[str] = Counter()
    count = max(1, round(_CHAINS * min(1.0, share * 10)))
    rounds = max(1, round(_ROUNDS * share * _CHAINS / count))
    parts = [partial(fill_up, rounds=rounds, refusals=refusals) for _ in range(count)]
    stores = STORES if share > _TASTE else STORES[:1]
    tallies = run_chains(row, seed, parts, stores=stores, around=small_disks)
    times: Counter[str] = sum((tally.times for tally in tallies), Counter())
    row.note = (
        f"{', '.join(f'{n} {what}' for what, n in times.most_common())}; refused: "
        f"{', '.join(f'{n} {what}' for what, n in refusals.most_common())}"
    )
    return row


@contextlib.contextmanager
def small_disks(chain: Chain) -> Iterator[None]:
    """Give each home of a chain a small disk of its own, its daemon's log on it as well."""
    homes = [chain.folder / name for name in ("hq", *(f"{store}.till-1" for store in chain.stores))]
    try:
        for home in homes:
            home.mkdir()
            options = f"size={_SIZE_BYTES},mode=700"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", home], check=True)
            if home.name != "hq":
                Path(f"{home}.log").symlink_to(home / "daemon.log")
        yield
    finally:
        for home in homes:
            subprocess.run(["umount", "--lazy", home], check=False, capture_output=True)


def fill_up(
    chain: Chain, draw: random.Random, tally: Tally, *, rounds: int, refusals: Counter[str]
) -> None:
    """Fill all disks of a chain up again and again, and see that it recovers by itself."""
    for till in chain.tills.values():
        with (till.home / "agent.toml").open("a") as file:
            least = 0 if till.store == STORES[0] else _LEAST_BYTES
            file.write(f"\n[limits]\nleast_free_bytes = {least}\n")
        till.stop()
        till.start()
    chain.wait_online()
    for _ in range(rounds):
        full_tills(chain, draw, tally, refusals)
        full_head_office(chain, draw, tally, refusals)


def full_tills(chain: Chain, draw: random.Random, tally: Tally, refusals: Counter[str]) -> None:
    """Full disks in all stores: what is accepted is kept, the rest refused, all by itself."""
    with contextlib.ExitStack() as stack:
        for till in chain.tills.values():
            stack.enter_context(filled(till.home, draw.choice(_SPARE_PAGES)))
            tally.times["till"] += 1
        for _ in range(draw.randint(1, 4)):
            chain.issue(*draw.choice(((), draw.sample(chain.stores, 1))))
        for till in chain.tills.values():
            refused = 0
            for _ in range(60):
                refused += not _try(chain.alert, till, tally, refusals)
                if refused > 1:
                    break
            for item in _inbox(till, tally, refusals)[:2]:
                if item["open"]:
                    _try(partial(_read, chain, item), till, tally, refusals)
            if draw.random() < 0.3:
                command(chain, till, draw, tally)
            if draw.random() < 0.3:
                till.kill()
                till.start()
                refusals["started anew while it was full"] += 1
    recovered(chain, list(chain.tills.values()), tally, refusals)


def full_head_office(
    chain: Chain, draw: random.Random, tally: Tally, refusals: Counter[str]
) -> None:
    """Head office's disk is full: stores keep what they have, nothing is issued by halves."""
    with filled(chain.home, draw.choice(_SPARE_PAGES)):
        tally.times["head office"] += 1
        for till in chain.tills.values():
            for _ in range(draw.randint(1, 3)):
                chain.alert(till)
        refused = 0
        for _ in range(40):
            refused += not _try(lambda _: chain.issue(), None, tally, refusals)
            if refused > 1:
                break
        if refused and draw.random() < 0.3:
            done = chain.hq_process("publish", "no room", "--all", "--kind", "task", "--json")
            if done.returncode == 0:
                chain.note_directive(json.loads(done.stdout)["id"], (), "any")
            elif done.returncode != 1 or "error:" not in done.stderr or "Trace" in done.stderr:
                tally.wrong.append(f"hq publish: {done.returncode} {done.stderr[-1500:]}")
    recovered(chain, [chain.till(chain.stores[0])], tally, refusals)


@contextlib.contextmanager
def filled(home: Path, spare_pages: int) -> Iterator[None]:
    """Leave a home only so much room for the length of a block."""
    ballast = home / _BALLAST
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(_PAGE_BYTES))
        size_bytes = os.fstat(file.fileno()).st_size - spare_pages * _PAGE_BYTES
        os.ftruncate(file.fileno(), max(0, size_bytes))
    try:
        yield
    finally:
        ballast.unlink()


def recovered(chain: Chain, tills: list[Till], tally: Tally, refusals: Counter[str]) -> None:
    """There is room again: everything goes on by itself, and nothing is missing."""
    began_at = time.monotonic()
    for till in tills:
        number = chain.alert(till)
        wait_until(
            partial(_heard, chain, till, number, refusals),
            seconds=45,
            what=f"{till.name} to be heard again",
        )
        tally.recoveries_seconds.append(time.monotonic() - began_at)
    settle(chain)
    for daemon in (chain.hub, *chain.tills.values()):
        if daemon.returncode is not None:
            tally.wrong.append(f"{daemon.name} ended with {daemon.returncode}")


def _heard(chain: Chain, till: Till, number: str, refusals: Counter[str]) -> bool:
    # Do what a service manager does with a daemon that could not begin on a full disk.
    if till.returncode == 1:
        refusals["ended as it could not begin"] += 1
        till.start()
    return chain.has_arrived(till.store, number)


def command(chain: Chain, till: Till, draw: random.Random, tally: Tally) -> None:
    """A command on a full disk does it, or says in words why not."""
    what = f"said by a command, {draw.getrandbits(64):x}"
    alert = ("alert", "incident", "--what", what)
    words = draw.choice((("status",), ("inbox",), ("status", "--json"), alert, alert))
    done = tool(*words, home=till.home)
    if (
        "Traceback" in done.stderr
        or done.returncode not in {0, 1}
        or (done.returncode and not re.search("error: .*\nhint: ", done.stderr))
    ):
        tally.wrong.append(f"{till.name}: {words}: {done.returncode} {done.stderr[-1500:]}")
    elif words is alert and not done.returncode:
        chain.journal.said[till.store, "alert", what] += 1
    elif words[-1] == "--json" and not done.returncode and till.store != STORES[0]:
        found = os.statvfs(till.home)
        says = any("nearly full" in one for one in json.loads(done.stdout)["notices"])
        if found.f_bavail * found.f_frsize < _LEAST_BYTES // 2 and not says:
            tally.wrong.append(f"{till.name}: status does not say that the disk is full")


def _read(chain: Chain, item: dict[str, Any], till: Till) -> None:
    chain.say(till, item, "read")


def _inbox(till: Till, tally: Tally, refusals: Counter[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    _try(lambda _: found.extend(till.inbox()), till, tally, refusals)
    return found


def _try(
    act: Callable[[Any], Any], till: Till | None, tally: Tally, refusals: Counter[str]
) -> bool:
    """Do something that may be refused for want of room, before it is accepted."""
    try:
        act(till)
    except (DatabaseError, OutboxFull) as error:
        refusals[type(error).__name__] += 1
        tally.refused += 1
        if not error.hint:
            tally.wrong.append(f"{error} says no way out")
        return False
    except BusError as error:
        tally.wrong.append(f"{type(error).__name__}: {error}")
        return False
    return True


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    print(json.dumps(asdict(inside(int(sys.argv[1]), float(sys.argv[2])))))
