"""The broker dies with all that it knows, again and again, while directives and statements flow.

What it knows is in its memory: sessions, retained messages, what is in flight. It keeps nothing on
the disk, which is looked at, and reads one file, the access file, that may be older or late.
"""

import contextlib
import os
import random
import stat
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.agent.processes import BIN, environment
from tests.faults.chains import Part, Tally, heard_again, on_its_way, run_chains
from tests.faults.rows import Row
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes import load
from tests.processes.chain import Chain

_TIMES = 104
_PER_CHAIN = 26
_FIRST_OWN = 3
"""The first descriptor that a process has not been started with."""


def amnesia(seed: int, share: float) -> Row:
    """Kill the broker, wipe what it has, start it again on the same address."""
    row = Row("broker amnesia")
    least = max(3, round(_TIMES * share))
    chains = -(-least // _PER_CHAIN)
    parts: list[Part] = [partial(lose_memory, least=-(-least // chains)) for _ in range(chains)]
    tallies = run_chains(row, seed, parts)
    times: Counter[str] = sum((tally.times for tally in tallies), Counter())
    under_load = sum(tally.under_load for tally in tallies)
    row.note = ", ".join(f"{n} {what}" for what, n in times.most_common())
    row.note += f"; {under_load} with records on their way"
    if under_load * 2 < row.times:
        row.wrong.append(f"only {under_load} of {row.times} times under load")
    return row


def lose_memory(chain: Chain, draw: random.Random, tally: Tally, *, least: int) -> None:
    """Let one broker forget everything, so often."""
    older = (chain.home / "access.json").read_bytes()
    while tally.times.total() < least:
        load.work(chain, draw)
        time.sleep(draw.choice((0.0, 0.0, 0.02, 0.1)) * draw.random())
        chain.bus.freeze()
        tally.waiting.append(on_its_way(chain))
        tally.wrong += [f"the broker keeps a file: {path}" for path in written_by(chain.bus.pid)]
        chain.bus.kill()
        if draw.random() < 0.3:  # said while there is no broker
            load.work(chain, draw)
        kind = draw.random()
        if kind < 0.15:
            _older_access_file(chain, tally, older)
        elif kind < 0.3:
            _late_access_file(chain, tally)
        else:
            tally.times["broker"] += 1
            began_at = time.monotonic()
            chain.bus.start()
            till = draw.choice(list(chain.tills.values()))
            heard_again(chain, till, began_at, tally)
        if draw.random() < 0.2:
            older = (chain.home / "access.json").read_bytes()


def _older_access_file(chain: Chain, tally: Tally, older: bytes) -> None:
    """The broker starts with a copy from before a device joined: it comes in all the same."""
    tally.times["broker with an older access file"] += 1
    path = chain.home / "access.json"
    replace(path, older)
    began_at = time.monotonic()
    chain.bus.start()
    wait_until(lambda: path.read_bytes() != older or _is_present(chain, older), seconds=20)
    for till in chain.tills.values():
        heard_again(chain, till, began_at, tally)


def _is_present(chain: Chain, older: bytes) -> bool:
    """Whether the copy was no older after all."""
    version = chain.rows("SELECT value FROM meta WHERE key = 'access_version'")[0][0]
    return b'"version":%d' % int(version) in older.replace(b" ", b"")


def _late_access_file(chain: Chain, tally: Tally) -> None:
    """Without the file the broker does not start and says why; the hub brings the file back."""
    tally.times["broker without an access file"] += 1
    path = chain.home / "access.json"
    chain.hub.freeze()  # or it would be there again within a second
    try:
        path.unlink(missing_ok=True)
        done = subprocess.run(
            [BIN / "storebus-broker", "--port", str(chain.bus.port), "--access", path],
            env=environment(chain.folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30 * TIME_SCALE,
            check=False,
        )
        if done.returncode != 1 or "access" not in done.stderr or "Traceback" in done.stderr:
            tally.wrong.append(f"without an access file: {done.returncode}, {done.stderr[-500:]}")
    finally:
        chain.hub.thaw()
    wait_until(path.exists, seconds=20, what="the hub to write the access file again")
    began_at = time.monotonic()
    chain.bus.start()
    heard_again(chain, chain.till("S001"), began_at, tally)


def replace(path: Path, content: bytes) -> None:
    """Put another file in the place of this one, as copying back a backup does."""
    beside = path.with_name(f"{path.name}.copy")
    beside.write_bytes(content)
    os.replace(beside, path)  # noqa: PTH105 - Path.replace is what this function is called


def written_by(pid: int) -> list[str]:
    """The plain files that a process has open for writing, but for what it says."""
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        if int(one.name) < _FIRST_OWN:
            continue
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            flags = Path(f"/proc/{pid}/fdinfo/{one.name}").read_text().partition("flags:")[2]
            writes = int(flags.split()[0], 8) & os.O_ACCMODE != os.O_RDONLY
            if writes and stat.S_ISREG(one.stat().st_mode):
                found.append(str(one.readlink()))
    return found
