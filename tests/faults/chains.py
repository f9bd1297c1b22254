"""Small chains of real processes side by side: what is done to them, and how they took it."""

import contextlib
import io
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.rows import Findings, Row
from tests.processes import load
from tests.processes.chain import Bus, Chain, Daemon, Till

STORES = ("S001", "S002", "S003")
AT_ONCE = 4
"""So many chains live side by side: most of the time each waits for something."""

SETTLES_SECONDS = 60.0
"""What has not arrived by then, with everything running, never will."""


@dataclass
class Tally:
    """What was done to one chain, and how it took it."""

    times: Counter[str] = field(default_factory=Counter)
    """How often, by what it was done to."""
    boundaries: Counter[str] = field(default_factory=Counter)
    """At how many commits and the like something died, by the side and the kind."""
    waiting: list[int] = field(default_factory=list)
    """What was on its way at the moment of each blow."""
    recoveries_seconds: list[float] = field(default_factory=list)
    refused: int = 0
    """How often something was not accepted, and said so."""
    reconnects: int = 0
    """How many connections were given up."""
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    accepted: int = 0

    @property
    def under_load(self) -> int:
        """How many blows fell while records were on their way."""
        return sum(1 for waiting in self.waiting if waiting)


Part = Callable[[Chain, random.Random, Tally], None]
Around = Callable[[Chain], contextlib.AbstractContextManager[object]]


def run_chains(
    row: Row,
    seed: int,
    parts: Sequence[Part],
    *,
    stores: Sequence[str] = STORES,
    at_once: int = AT_ONCE,
    link: str = "",
    around: Around = contextlib.nullcontext,
) -> list[Tally]:
    """Do each part to a chain of its own, and add to the row what came of it.

    Whatever a part leaves, its chain is let finish all its work before the journal is held against
    the databases.

    Args:
        row: Where it is added.
        seed: Each chain draws from a number of its own that follows from it.
        parts: What is done, each to one chain.
        stores: Of each chain.
        at_once: So many chains live at the same time.
        link: More lines for the table [link] of everybody's settings.
        around: Prepares the folder of a chain before anything of it begins, and clears up.
    """
    folder = Path(tempfile.mkdtemp(prefix="storebus-faults-"))
    chains = [Chain(folder / str(number), stores, link=link) for number in range(len(parts))]
    silence = io.StringIO()
    try:
        with (
            _ends_in_good_order(),
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
            ThreadPoolExecutor(at_once) as pool,
        ):
            runs = [
                pool.submit(_run_one, chain, seed + number, part, around)
                for number, (chain, part) in enumerate(zip(chains, parts, strict=True))
            ]
            try:
                tallies = [run.result() for run in runs]
            except BaseException:
                _end_all(chains, runs)
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for number, tally in enumerate(tallies):
        row.times += tally.times.total()
        row.accepted += tally.accepted
        row.lost += [f"chain {number}: {one}" for one in tally.lost]
        row.twice += [f"chain {number}: {one}" for one in tally.twice]
        row.wrong += [f"chain {number}: {one}" for one in tally.wrong]
        for seconds in tally.recoveries_seconds:
            row.recovered(seconds)
    return tallies


@contextlib.contextmanager
def _ends_in_good_order() -> Iterator[None]:
    """Let SIGTERM end the suite as an error does: none of its processes may outlive it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_all(chains: Sequence[Chain], runs: Sequence[Future[Tally]]) -> None:
    """End every process again and again, until nobody is left who starts new ones."""
    for run in runs:
        run.cancel()
    while wait(runs, timeout=0.2).not_done:
        for chain in chains:
            chain.end()


def _run_one(chain: Chain, seed: int, part: Part, around: Around) -> Tally:
    tally = Tally()
    chain.folder.mkdir()
    try:
        with around(chain), chain:
            part(chain, random.Random(seed), tally)
            judge(chain, tally)
    except Exception as error:  # whatever a suite meets is a finding of the suite
        tally.wrong.append(what_went_wrong(chain, error))
        tally.accepted = chain.journal.accepted
    tally.reconnects = sum(
        daemon.said().count("the connection is gone")
        for daemon in (chain.hub, *chain.tills.values())
    )
    return tally


def judge(chain: Chain, found: Findings, *, seconds: float | None = None) -> None:
    """Let a chain finish all its work, and hold the journal against the databases.

    Args:
        chain: With everything running.
        found: Is added to.
        seconds: What has not arrived by then never will; `SETTLES_SECONDS` if not said.
    """
    settles = SETTLES_SECONDS if seconds is None else seconds
    try:
        chain.wait_settled(seconds=settles)
        chain.wait_online()
        load.finish(chain)
        chain.wait_settled(seconds=settles)
    except AssertionError as error:
        found.wrong.append(str(error))
    account = chain.account()
    found.accepted += chain.journal.accepted
    found.lost += account.lost
    found.twice += account.twice
    found.wrong += [
        f"put aside: {reason} of {source}"
        for source, reason in chain.rows("SELECT source, reason FROM quarantine")
    ]


def what_went_wrong(chain: Chain, error: Exception) -> str:
    """An error with the steps of the suite that led to it, and the last words of everybody."""
    where = traceback.extract_tb(error.__traceback__)
    steps = " > ".join(f"{one.name}:{one.lineno}" for one in where if "/tests/" in one.filename)
    logs = "".join(
        f"\n    {daemon.name}: {' | '.join(daemon.said().splitlines()[-6:])}"
        for daemon in everybody(chain)
        if daemon is not None
    )
    return f"{type(error).__name__}: {error} ({steps}){logs}"


def everybody(chain: Chain) -> list[Daemon | Bus]:
    """All processes of a chain."""
    return [chain.bus, chain.hub, *chain.tills.values()]


def on_its_way(chain: Chain) -> int:
    """How many entries wait for HQ and deliveries for a store."""
    return chain.undelivered() + sum(till.unacknowledged() for till in chain.tills.values())


def kind_of(victim: Daemon | Bus) -> str:
    """What a process is called in counts."""
    return "agent" if isinstance(victim, Till) else victim.name


def heard_again(chain: Chain, till: Till, began_at: float, tally: Tally) -> None:
    """Say something, and note how long after `began_at` (monotonic) it is at HQ."""
    chain.wait_arrived(till.store, chain.alert(till), seconds=45)
    tally.recoveries_seconds.append(time.monotonic() - began_at)
