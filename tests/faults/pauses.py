"""SIGSTOP: every kind of process stands still for a while, and the others go on.

Here links are given up after a few seconds of silence, so that most pauses outlast a connection.
The pauses of a minute fall on processes at the default of half a minute between signs of life.
"""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buskit.database import DatabaseBusy
from tests.agent.processes import BIN, environment
from tests.faults.chains import Part, Tally, everybody, heard_again, kind_of, run_chains
from tests.faults.dying_commands import Half, whole
from tests.faults.rows import Row
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes import load
from tests.processes.chain import Bus, Chain, Daemon, Till

_CHAINS = 6
_PAUSES = 108
_LONG_SECONDS = 60.0
_STALLED_SECONDS = 5.0 * TIME_SCALE
"""Whoever does not stand still himself is served within so long."""
_BUSY_SECONDS = 30.0
"""How long commands and daemons wait for the lock of a database."""

_STANDS_STILL = """
import os, signal, sys
from pathlib import Path
from buskit import database

class Stops(database.Database):
    def _end_write(self, error):
        os.kill(os.getpid(), signal.SIGSTOP)
        super()._end_write(error)

database.Database = Stops
if sys.argv[1] == "hq":
    from hqconsole.commands.main import main
else:
    from storeagent.main import main
sys.exit(main.run(sys.argv[2:]))
"""
"""A command that stands still at the end of its transaction, with the lock in its hands."""


def pauses(seed: int, share: float) -> Row:
    """Pause every kind of process, for seconds and for a minute."""
    row = Row("pauses")
    least = max(3, round(_PAUSES * share))
    chains = max(1, round(_CHAINS * share))
    longest = 10.0 if share >= 0.5 else 1.0 + 6.0 * share
    some: list[Part] = [
        partial(short_pauses, least=-(-least // chains), longest_seconds=longest)
        for _ in range(chains)
    ]
    link = "keepalive_seconds = 2\n"
    tallies = run_chains(row, seed, some, at_once=_CHAINS, link=link)
    if share >= 0.5:
        tallies += run_chains(row, seed + 1000, LONG, at_once=len(LONG))
    times: Counter[str] = sum((tally.times for tally in tallies), Counter())
    refused = sum(tally.refused for tally in tallies)
    row.note = ", ".join(f"{n} {what}" for what, n in times.most_common())
    reconnects = sum(tally.reconnects for tally in tallies)
    row.note += f"; {reconnects} connections were given up meanwhile and made anew"
    if share >= 0.5 and not reconnects:
        row.wrong.append("no pause outlasted a connection")
    row.note += f"; {refused} commands refused by name of who held the lock"
    return row


def short_pauses(
    chain: Chain, draw: random.Random, tally: Tally, *, least: int, longest_seconds: float
) -> None:
    """One process after another stands still for a while, under load."""
    kinds = ("broker", "hub", "agent", "agent", "command")
    while tally.times.total() < least:
        load.work(chain, draw)
        kind = kinds[tally.times.total() % len(kinds)]
        seconds = draw.uniform(1.0, longest_seconds)
        if kind == "command":
            _pause_command(chain, draw, tally, seconds)
            continue
        victim = draw.choice([one for one in everybody(chain) if kind_of(one) == kind])
        time.sleep(draw.choice((0.0, 0.02, 0.1)) * draw.random())
        _pause(chain, tally, [victim], seconds)


def _pause(chain: Chain, tally: Tally, victims: Sequence[Daemon | Bus], seconds: float) -> None:
    """Let them stand still; the others are served meanwhile, and these when they go on."""
    for victim in victims:
        victim.freeze()
    until = time.monotonic() + seconds
    # What they hold may keep us waiting as well, but not them from going on.
    waker = threading.Timer(seconds, _thaw, [victims])
    waker.start()
    try:
        _others_are_served(chain, tally, victims)
        while time.monotonic() < until:
            for till in chain.tills.values():
                _try(tally, partial(chain.alert, till))
            _try(tally, chain.issue)
            time.sleep(min(max(0.0, until - time.monotonic()), max(1.0, seconds / 10)))
    finally:
        waker.join()
    for victim in victims:
        tally.times[f"{kind_of(victim)} for {'a minute' if seconds >= 60 else 'seconds'}"] += 1
    stricken = [victim for victim in victims if isinstance(victim, Till)]
    heard_again(chain, (stricken or [*chain.tills.values()])[0], until, tally)


def _thaw(victims: Sequence[Daemon | Bus]) -> None:
    for victim in victims:
        victim.thaw()


def _others_are_served(chain: Chain, tally: Tally, victims: Sequence[Daemon | Bus]) -> None:
    """A device that stands still is nobody else's trouble."""
    if not all(isinstance(victim, Till) for victim in victims):
        return  # without broker or hub nobody is served; what is said meanwhile waits
    others = [till for till in chain.tills.values() if till not in victims]
    if not others:
        return
    began_at = time.monotonic()
    directive = chain.issue()
    numbers = [(till, chain.alert(till)) for till in others]
    for till, number in numbers:
        chain.wait_arrived(till.store, number)
    wait_until(
        lambda: all(chain.states(directive)[till.store, "any"] == "delivered" for till in others),
        seconds=20,
        what="work for those who do not stand still",
    )
    took_seconds = time.monotonic() - began_at
    if took_seconds > _STALLED_SECONDS:
        tally.wrong.append(f"others waited {took_seconds:.1f} s for a device that stood still")


def _try(tally: Tally, accept: Callable[[], object]) -> None:
    """Say something; if its database is locked for too long, it must be refused by name."""
    try:
        accept()
    except DatabaseBusy as busy:
        tally.refused += 1
        if "process" not in str(busy) or not busy.hint:
            tally.wrong.append(f"refused without saying who has the lock: {busy}")


# --- a command that stands still ----------------------------------------------------------------


@dataclass
class Still:
    """A command that stands still inside its transaction."""

    process: "subprocess.Popen[str]"

    def go_on(self) -> str:
        """Let it end; what it wrote."""
        self.process.send_signal(signal.SIGCONT)
        wrote, said = self.process.communicate(timeout=60 * TIME_SCALE)
        if self.process.returncode != 0:
            raise Half(f"a command that stood still ended with {self.process.returncode}: {said}")
        return wrote


@contextmanager
def standing_still(home: Path, *words: str | Path) -> Iterator[Still]:
    """Run `hq` or `storeagent` up to the end of its transaction, and let it stand still there."""
    process = subprocess.Popen(
        [sys.executable, "-c", _STANDS_STILL, *words],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: _is_stopped(process), seconds=30, what="the command to stand still")
        yield Still(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _is_stopped(process: "subprocess.Popen[str]") -> bool:
    if process.poll() is not None:
        raise AssertionError(f"it has ended: {process.communicate()}")
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


def publish_words(chain: Chain, title: str) -> list[str | Path]:
    """The command that issues work for all."""
    return ["hq", "publish", title, "--all", "--kind", "task", "--json", "--home", chain.home]


def _pause_command(chain: Chain, draw: random.Random, tally: Tally, seconds: float) -> None:
    """It holds a lock for a while: whoever needs it waits, and is served then."""
    chain.numbers += 1
    title = f"work {chain.numbers}"
    till = draw.choice(list(chain.tills.values()))
    at_hq = draw.random() < 0.5
    words: list[str | Path] = publish_words(chain, title)
    if not at_hq:
        words = ["storeagent", "alert", "incident", "--what", title, "--id", title]
    began_at = time.monotonic()
    with standing_still(till.home, *words) as still:
        waits = _start_another(chain, till, at_hq=at_hq)
        time.sleep(max(0.0, began_at + seconds - time.monotonic()))
        wrote = still.go_on()
    began_at = time.monotonic()
    tally.times["command for seconds"] += 1
    if at_hq:
        chain.note_directive(json.loads(wrote)["id"], (), "any")
    else:
        chain.journal.said[till.store, "alert", title] += 1
    waits()
    heard_again(chain, till, began_at, tally)


def _start_another(chain: Chain, till: Till, *, at_hq: bool) -> Callable[[], None]:
    """Start one that needs the same lock; what is returned waits for it to have been served."""
    chain.numbers += 1
    title = f"work {chain.numbers}"
    words: list[str | Path] = publish_words(chain, title)
    if not at_hq:
        words = ["storeagent", "alert", "incident", "--what", title, "--id", title]
    process = subprocess.Popen(
        [BIN / words[0], *words[1:]],
        env=environment(till.home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def finish() -> None:
        wrote, said = process.communicate(timeout=(_BUSY_SECONDS + 30) * TIME_SCALE)
        if process.returncode != 0:
            raise Half(f"one that waited for the lock ended with {process.returncode}: {said}")
        if at_hq:
            chain.note_directive(json.loads(wrote)["id"], (), "any")
        else:
            chain.journal.said[till.store, "alert", title] += 1

    return finish


# --- a minute ------------------------------------------------------------------------------------


def _minute(chain: Chain, draw: random.Random, tally: Tally, *, who: str) -> None:
    load.work(chain, draw)
    victims = [one for one in everybody(chain) if kind_of(one) in who.split("+")]
    if who == "agent":
        victims = victims[:1]
    _pause(chain, tally, victims, _LONG_SECONDS)


def _minute_of_command(chain: Chain, draw: random.Random, tally: Tally, *, at_hq: bool) -> None:
    """A command has the lock for a minute: others are told who has it, and nothing hangs."""
    load.work(chain, draw)
    chain.wait_settled()
    till = chain.till("S001")
    chain.numbers += 1
    title = f"work {chain.numbers}"
    alert = ["storeagent", "alert", "incident", "--what", title, "--id", title]
    words = publish_words(chain, title) if at_hq else alert
    began_at = time.monotonic()
    with standing_still(till.home, *words) as still:
        said, took_seconds = _refused(chain, till, at_hq=at_hq)
        if f"process {still.process.pid}" not in said or "hint" not in said.lower():
            tally.wrong.append(f"who has the lock is not named: {said}")
        if not _BUSY_SECONDS <= took_seconds <= _BUSY_SECONDS + 15 * TIME_SCALE:
            tally.wrong.append(f"refused after {took_seconds:.0f} s")
        tally.refused += 1
        time.sleep(max(0.0, began_at + _LONG_SECONDS - time.monotonic()))
        wrote = still.go_on()
    went_on_at = time.monotonic()
    tally.times["command for a minute"] += 1
    if at_hq:
        chain.note_directive(json.loads(wrote)["id"], (), "any")
    else:
        chain.journal.said[till.store, "alert", title] += 1
    heard_again(chain, till, went_on_at, tally)
    whole(chain.home / "ledger.db")


def _refused(chain: Chain, till: Till, *, at_hq: bool) -> tuple[str, float]:
    """What a command says that does not get the lock, and how long that took."""
    words: Sequence[str | Path] = publish_words(chain, "refused")
    if not at_hq:
        words = ["storeagent", "alert", "incident", "--what", "refused", "--id", "refused"]
    began_at = time.monotonic()
    done = subprocess.run(
        [BIN / words[0], *words[1:]],
        env=environment(till.home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120 * TIME_SCALE,
        check=False,
    )
    if done.returncode != 1:
        raise Half(f"it was to be refused and ended with {done.returncode}: {done.stdout}")
    return done.stderr, time.monotonic() - began_at


LONG: list[Part] = [
    *(partial(_minute, who=who) for who in ("broker", "hub", "agent", "broker+hub+agent")),
    *(partial(_minute_of_command, at_hq=at_hq) for at_hq in (True, False)),
]
