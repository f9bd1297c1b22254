"""Many commands write beside the daemons: one at a time, and nothing is lost.

What guards it is the file lock of `buskit.database`, and what it guards against is SQLite's
WAL-reset bug: in versions 3.7.0 to 3.51.2 (3.44.6 and 3.50.7 have the fix as well), a checkpoint
that begins while another connection resets the write-ahead log may leave out a part of it, and with
it committed transactions. Whether it is guarded is seen from beneath, in sqlite3 itself
(`observer`): no write, checkpoint or close of one process overlaps one of another.
"""

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.agent.processes import BIN, environment
from tests.faults.chains import Tally, run_chains
from tests.faults.dying_commands import whole
from tests.faults.rows import Row
from tests.helpers.waiting import TIME_SCALE
from tests.processes.chain import Chain, Daemon

_SECONDS = 45.0
_OBSERVER = Path(__file__).with_name("observer")
_ROOT = Path(__file__).parents[2]
_ALERTS_EACH = 400
_DIRECTIVES_EACH = 25
_NAMES_EACH = 400
_FIXED = (3, 51, 3)
_FIXED_TOO = {(3, 44): 6, (3, 50): 7}
"""The first fixed version of older lines, by the line."""


class Section(NamedTuple):
    """A process had a database to itself, from and to by the monotonic clock."""

    began: float
    ended: float
    what: str
    file: str
    pid: int


def writers(seed: int, share: float) -> Row:
    """Dozens of processes write into a device's file and into the ledger, beside the daemons."""
    row = Row("write lock")
    sections: list[Section] = []
    part = partial(_hammer, share=share, sections=sections)
    run_chains(row, seed, [part], stores=("S001", "S002"))
    row.wrong += overlaps(sections)
    kinds = Counter(f"{one.what} of {one.file}" for one in sections)
    processes = len({one.pid for one in sections})
    version = sqlite3.sqlite_version
    has = "has" if has_reset_bug(sqlite3.sqlite_version_info) else "does not have"
    row.times = len(sections)
    row.note = (
        f"{', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))} by {processes}"
        f" processes, none at the same time; SQLite {version} {has} the WAL-reset bug"
        " (3.7.0 to 3.51.2) that the lock guards against"
    )
    return row


def has_reset_bug(version: Sequence[int]) -> bool:
    """Whether this SQLite can lose a part of its log when two connections checkpoint."""
    major, minor, patch = version[:3]
    if (major, minor) in _FIXED_TOO:
        return patch < _FIXED_TOO[major, minor]
    return (3, 7, 0) <= (major, minor, patch) < _FIXED


def overlaps(sections: Iterable[Section]) -> list[str]:
    """Where two processes had one database at the same time."""
    found = []
    last: dict[str, Section] = {}
    for one in sorted(sections):
        before = last.get(one.file)
        if before is not None and one.began < before.ended:
            found.append(
                f"{one.file}: {one.what} of process {one.pid} began"
                f" {before.ended - one.began:.6f} s before the end of a {before.what}"
                f" of process {before.pid}"
            )
        if before is None or one.ended > before.ended:
            last[one.file] = one
    return found


def observed(folder: Path) -> dict[str, str]:
    """What stands in the environment of a process that is observed, noting into this folder."""
    folder.mkdir(exist_ok=True)
    others = [word for word in os.environ.get("PYTHONPATH", "").split(os.pathsep) if word]
    return {
        "PYTHONPATH": os.pathsep.join([str(_OBSERVER), *others, str(_ROOT)]),
        "OBSERVED_WRITES": str(folder),
    }


def sections_in(folder: Path) -> list[Section]:
    """What was noted."""
    found = []
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            began, ended, what, file = line.split()
            found.append(Section(float(began), float(ended), what, file, int(path.name)))
    return found


class Hammer:
    """One process that writes on and on."""

    def __init__(self, words: Sequence[str | Path | float], more: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.hammer", *map(str, words)],
            cwd=_ROOT,
            env=environment(Path(str(words[1])), **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def accepted(self) -> list[str]:
        """Wait for its end, and what it was told was accepted."""
        try:
            wrote, said = self._process.communicate(timeout=120 * TIME_SCALE)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.communicate()
        assert self._process.returncode == 0, said
        return wrote.splitlines()


def _hammer(
    chain: Chain, draw: random.Random, tally: Tally, *, share: float, sections: list[Section]
) -> None:
    del draw  # the machine mixes them
    more = observed(chain.folder / "observed")
    till = chain.till("S001")
    for daemon in (chain.hub, till):
        _start_again(daemon, more)
    chain.wait_arrived("S001", chain.alert(till), seconds=45)
    seconds = max(2.0, _SECONDS * share)
    each = 12 if share >= 0.5 else 3
    last = [seconds]
    at_till = [
        Hammer(["alerts", till.home, f"hammer-{number}-{how}", _ALERTS_EACH, *last], more)
        for number in range(each)
        for how in ("kept", "anew")[: 1 + number % 2]
    ]
    at_hq = [
        Hammer(["directives", chain.home, f"hammer-{number}", _DIRECTIVES_EACH, *last], more)
        for number in range(max(1, each // 3))
    ]
    names = [
        Hammer(["names", chain.home, f"name-{number}", _NAMES_EACH, *last], more)
        for number in range(each)
    ]
    _run_commands(chain, time.monotonic() + seconds, more)
    for hammer in at_till:
        for what in hammer.accepted():
            chain.journal.said["S001", "alert", what] += 1
    for hammer in at_hq:
        for directive in hammer.accepted():
            chain.note_directive(directive, (), "any")
    accepted = {name for hammer in names for name in hammer.accepted()}
    kept = {key for (key,) in chain.rows("SELECT key FROM meta WHERE key LIKE 'name-%'")}
    tally.lost += sorted(accepted - kept)
    chain.wait_settled(seconds=90)
    for daemon in (chain.hub, till):
        daemon.stop()  # what it closes belongs to it as well
    whole(chain.home / "ledger.db")
    whole(till.home / "agent.db")
    sections += sections_in(chain.folder / "observed")
    for daemon in (chain.hub, till):
        _start_again(daemon, {})
    chain.wait_arrived("S001", chain.alert(till), seconds=45)


def _start_again(daemon: Daemon, more: Mapping[str, str]) -> None:
    if daemon.returncode is None:
        daemon.stop()
    daemon.environment = dict(more)
    daemon.start()


def _run_commands(chain: Chain, until: float, more: Mapping[str, str]) -> None:
    """Real commands of both sides, two at a time, as long as the others write."""
    till = chain.till("S001")
    while time.monotonic() < until:
        chain.numbers += 1
        number = f"number {chain.numbers}"
        name = f"Name {chain.numbers}"
        lines = [f"{store},{name},{chain.region(store)}" for store in chain.stores]
        file = chain.folder / "names.csv"
        file.write_text("\n".join(["store_id,name,region", *lines]) + "\n")
        alert = ["storeagent", "alert", "incident", "--what", number]
        list_ = ["hq", "roster", "import", file, "--home", chain.home]
        list_ += ["--default-roles", "manager;clerk"]
        processes = [
            subprocess.Popen(
                [BIN / words[0], *words[1:]],
                env=environment(till.home, **more),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for words in (alert, list_)
        ]
        for process in processes:
            _, said = process.communicate(timeout=120 * TIME_SCALE)
            assert process.returncode == 0, said
        chain.journal.said["S001", "alert", number] += 1
        chain.publish()
