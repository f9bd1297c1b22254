"""Damaged databases: files spoilt between two runs, under chains of real processes; and read.

Two parts. Chains live through it: tills and the hub are killed, their files spoilt, commands run
beside, the daemons start again, and the journal is held against the databases. And copies of their
files are spoilt by the hundred and read as the daemons read them: what is read is what was written,
or nothing is.
"""

import contextlib
import json
import random
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from buskit.database import DatabaseError
from buswire.cursors import START
from buswire.errors import BusError
from buswire.messages import LOGS, Log
from buswire.topics import Channel
from buswire.uplink import Entry
from hqconsole.ledger import channels, deliveries
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.soundness import require_sound
from storeagent.database import open_agent_database
from storeagent.inbox import Inbox
from storeagent.memory import Memory
from storeagent.outbox import Outbox
from tests.agent.processes import tool
from tests.faults import spoiling
from tests.faults.chains import SETTLES_SECONDS, STORES, Tally, run_chains
from tests.faults.rows import Row
from tests.helpers.waiting import wait_until
from tests.processes.chain import Account, Chain, Till

_ROUNDS = 16
"""Of damage to all tills of a chain, when all of it runs."""
_CHAINS = 4
_LEDGERS = 6
"""How often the ledger of each chain is spoilt."""
_TASTE = 0.02
"""So little of it is done in a chain of one store."""
_READ = 800
"""How many copies of each database are spoilt and read."""

_LOST = re.compile(r"(\d+) may be lost(, or more)?")
_GONE = re.compile(r"the latest (\d+) entries are gone")

_HQ_COMMANDS = (("status",), ("directives",), ("incidents",), ("alerts",), ("verify",))

View = Callable[[Path], Any]


@dataclass
class Findings:
    """What became of the damages, over all chains."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reported: int = 0
    """Entries that were lost and of which HQ was told."""
    unheard: int = 0
    """Entries that vanished with a log of which neither daemon nor HQ had seen them."""


@dataclass
class Course:
    """What goes on in one chain."""

    draw: random.Random
    tally: Tally
    findings: Findings
    reports: dict[str, str] = field(default_factory=dict)
    """Which store sent which report."""


def damage(seed: int, share: float) -> Row:
    """Spoil databases of tills and of head office by the hundred."""
    row = Row("damage")
    findings = Findings()
    samples = Path(tempfile.mkdtemp(prefix="storebus-samples-"))
    try:
        chains_count = max(1, round(_CHAINS * min(1.0, share * 10)))
        rounds = max(1, round(_ROUNDS * share * _CHAINS / chains_count))
        ledgers = max(1, round(_LEDGERS * share * _CHAINS / chains_count))
        parts = [
            partial(live, rounds=rounds, ledgers=ledgers, findings=findings, samples=samples)
            for _ in range(chains_count)
        ]
        run_chains(row, seed, parts, stores=STORES if share > _TASTE else STORES[:1])
        lived = row.times
        draw = random.Random(seed)
        for name, view in (("agent.db", device_view), ("ledger.db", ledger_view)):
            if (samples / name).exists():
                count = max(25, round(_READ * share))
                read_spoilt(samples / name, view, row, findings, draws=(draw, count))
            else:
                row.wrong.append(f"no {name} to read")
    finally:
        shutil.rmtree(samples, ignore_errors=True)
    outcomes = ", ".join(f"{n} {what}" for what, n in findings.outcomes.most_common())
    row.note = (
        f"{lived} lived through, {row.times - lived} read; {outcomes};"
        f" {findings.reported} entries reported as lost,"
        f" {findings.unheard} vanished with a log that nobody had seen"
    )
    return row


# --- lived through -------------------------------------------------------------------------------


def live(
    chain: Chain,
    draw: random.Random,
    tally: Tally,
    *,
    rounds: int,
    ledgers: int,
    findings: Findings,
    samples: Path,
) -> None:
    """Spoil the files of one chain again and again, and see that it recovers."""
    real = chain.account
    chain.account = lambda: without_history(real())  # type: ignore[method-assign]
    course = Course(draw, tally, findings)
    for number in range(max(rounds, ledgers)):
        if number < rounds:
            spoil_tills(chain, course)
        if number < ledgers:
            spoil_ledger(chain, course)
    for till in chain.tills.values():
        till.stop()
    if not (samples / "agent.db").exists():
        shutil.copy(till.home / "agent.db", samples / "agent.db")
        chain.hq("backup", str(samples / "ledger.db"))
    for till in chain.tills.values():
        till.start()


def without_history(account: Account) -> Account:
    """Without what a device that was damaged need not have: finished work, and its old numbers.

    Open work that is missing at a till is looked for apart, in `judge_till`.
    """
    lost = [one for one in account.lost if not re.search(r" at \S+\.till-1$", one)]
    twice = [one for one in account.twice if not one.startswith("an arrival at")]
    return Account(lost, twice)


def work(chain: Chain, course: Course) -> None:
    """What a chain does all day."""
    draw = course.draw
    for _ in range(draw.randint(1, 2)):
        some = draw.sample(chain.stores, max(1, len(chain.stores) // 2))
        chain.issue(*draw.choice(((), (), some)), role=draw.choice(("any", "manager")))
    for till in chain.tills.values():
        if draw.random() < 0.2:
            course.reports[chain.report(till, draw.choice((3, 2000)))] = till.store
        todo = [item for item in till.inbox() if item["open"]]
        for item in draw.sample(todo, min(len(todo), 2)):
            chain.say(till, item, draw.choice(("read", "done")))
            if draw.random() < 0.3:
                chain.reply(till, item)
        for _ in range(draw.randint(1, 3)):
            chain.alert(till)


def spoil_tills(chain: Chain, course: Course) -> None:
    """Kill all tills, spoil what they have, and let them come back."""
    draw, tally = course.draw, course.tally
    work(chain, course)
    if draw.random() < 0.5:
        settle(chain)
    unseen: dict[str, int] = {}
    told_before = {till.name: len(told_of(chain, till)) for till in chain.tills.values()}
    for till in chain.tills.values():
        unseen[till.name] = spoil_till(chain, till, draw, tally)
        if draw.random() < 0.2:
            words = draw.choice((("inbox",), ("status",), ("inbox", "--all"), ("status", "--json")))
            done = tool(*words, home=till.home)
            if "Traceback" in done.stderr or done.returncode not in {0, 1}:
                tally.wrong.append(f"{till.name}: {words}: {done.stderr[-1500:]}")
        _try(chain.alert, till, tally)
    began_at = time.monotonic()
    for till in chain.tills.values():
        till.start()
    for till in chain.tills.values():
        hear_from(chain, till, tally)
        tally.recoveries_seconds.append(time.monotonic() - began_at)
    settle(chain)
    for till in chain.tills.values():
        told = told_of(chain, till)[told_before[till.name] :]
        judge_till(chain, till, course, told, unseen[till.name])


def spoil_till(chain: Chain, till: Till, draw: random.Random, tally: Tally) -> int:
    """Spoil what a till has, and leave it dead; how many of its entries nobody had seen."""
    path = till.home / "agent.db"
    if draw.random() < 0.15:
        name = draw.choice(("byte", "bytes", "zeroed"))
        spoiling.IN_FILE[name](path, draw)
        tally.times[f"running, {name}"] += 1
        _try(chain.alert, till, tally)
        _try(lambda till: till.inbox(), till, tally)
        till.kill()
        return 0
    till.kill()
    in_log = draw.random() < 0.3
    kinds = spoiling.IN_LOG if in_log else {**spoiling.IN_FILE, "gone": spoiling.take_away}
    name = draw.choice(list(kinds))
    with _as_after_a_power_cut(till):
        for _ in range(draw.randint(0, 4)):
            _try(chain.alert, till, tally)
    unseen = _heads(till) - _heads_seen(till) if in_log else 0
    if kinds[name](path, draw):
        tally.times[name] += 1
    return unseen


def hear_from(chain: Chain, till: Till, tally: Tally) -> None:
    """Wait until an alert of the till is accepted and at HQ."""
    numbers: list[str] = []
    wait_until(
        lambda: _try(lambda till: numbers.append(chain.alert(till)), till, tally),
        seconds=40,
        what=f"an alert to be accepted at {till.name}",
        poll_seconds=0.1,
    )
    chain.wait_arrived(till.store, numbers[0], seconds=45)


def _try(act: Callable[[Till], Any], till: Till, tally: Tally) -> bool:
    """Do something at a till that may be refused, but only in our words."""
    try:
        act(till)
    except BusError as error:
        tally.refused += 1
        if isinstance(error, DatabaseError) and not error.hint:
            tally.wrong.append(f"{till.name}: {error} says no way out")
        return False
    return True


@contextlib.contextmanager
def _as_after_a_power_cut(till: Till) -> Iterator[None]:
    """What is done in the block is in the write-ahead log, and nobody has closed the database."""
    path = till.home / "agent.db"
    held = sqlite3.connect(path)
    held.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    yield
    with tempfile.TemporaryDirectory() as folder:
        files = _copy(path, Path(folder))
        held.close()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        for one in files:
            shutil.copy(one, till.home / one.name)


def _copy(path: Path, folder: Path) -> list[Path]:
    there = [one for one in (path, spoiling.wal_of(path)) if one.exists()]
    for one in there:
        shutil.copy(one, folder / one.name)
    return [folder / one.name for one in there]


def _heads(till: Till) -> int:
    """How far the logs of a till go, looked at in a copy."""
    with tempfile.TemporaryDirectory() as folder:
        _copy(till.home / "agent.db", Path(folder))
        with open_agent_database(Path(folder) / "agent.db") as database:
            return sum(Outbox(database).heads().values())


def _heads_seen(till: Till) -> int:
    """How far the daemon had seen them, by what it last said of itself."""
    return sum(json.loads((till.home / "daemon.json").read_bytes())["heads"].values())


def settle(chain: Chain) -> None:
    """Wait until nothing is on its way."""
    wait_until(
        lambda: (
            not chain.undelivered()
            and not any(till.unacknowledged() for till in chain.tills.values())
        ),
        seconds=SETTLES_SECONDS,
        what="all to arrive",
        poll_seconds=0.1,
    )


def told_of(chain: Chain, till: Till) -> list[dict[str, Any]]:
    """What HQ was told of this till's losses."""
    return [
        json.loads(detail) | {"kind": kind}
        for kind, detail in chain.rows(
            "SELECT kind, detail FROM incident JOIN device ON device.no = device_no"
            " JOIN store ON store.no = store_no WHERE store.id = ?"
            " AND kind IN ('device trouble', 'entries may be lost') ORDER BY incident.no",
            till.store,
        )
    ]


def reported_lost(told: list[dict[str, Any]]) -> float:
    """So many entries may be lost by these incidents."""
    lost = 0.0
    for one in told:
        if one["kind"] == "entries may be lost":
            lost += one["entries"]
            continue
        if found := _LOST.search(one["detail"]):
            lost += float("inf") if found[2] else int(found[1])
        if found := _GONE.search(one["detail"]):
            lost += int(found[1])
    return lost


def judge_till(
    chain: Chain, till: Till, course: Course, told: list[dict[str, Any]], unseen: int
) -> None:
    """What is missing of a till was reported, and the journal goes on without it."""
    findings, tally = course.findings, course.tally
    journal = chain.journal
    arrived = chain.arrived()
    missing = [
        one for one, count in journal.said.items() if one[0] == till.store and arrived[one] < count
    ]
    complete = {key for (key,) in chain.rows("SELECT key FROM report WHERE complete_at NOTNULL")}
    mine = [key for key in journal.reports if course.reports.get(key) == till.store]
    parts = [key for key in mine if key not in complete]
    lost, reported = len(missing) + len(parts), reported_lost(told)
    if lost > reported + unseen:
        tally.lost.append(
            f"{till.name}: {lost} entries, {reported} reported, {unseen} never seen: {missing[:5]}"
        )
    findings.outcomes["set aside" if any("what" in one for one in told) else "harmless"] += 1
    findings.reported += int(min(lost, reported))
    findings.unheard += lost - int(min(lost, reported))
    for one in missing:
        journal.said[one] = arrived[one]
    for key in parts:
        del journal.reports[key]
    there = {(item["directive"], item["role"]) for item in till.inbox()}
    for directive, mailboxes in journal.directives.items():
        states = chain.states(directive)
        for mailbox, said in mailboxes.items():
            if mailbox[0] != till.store:
                continue
            state = states.get(mailbox)
            if (till.store, said, f"{directive}/{mailbox[1]}") in missing:
                mailboxes[mailbox] = None if state == "delivered" else state
            if state in {"delivered", "read"} and (directive, mailbox[1]) not in there:
                tally.lost.append(f"{directive} for {mailbox} is open and not at {till.name}")


# --- the ledger ----------------------------------------------------------------------------------


def spoil_ledger(chain: Chain, course: Course) -> None:
    """Spoil the ledger between two runs of the hub, and put it back where that is found."""
    draw, tally, findings = course.draw, course.tally, course.findings
    with open_ledger(chain.home) as ledger:
        ledger.checkpoint()  # what goes with a log is what was said since, and no joining
    backup = chain.folder / "backup.db"
    chain.hq("backup", str(backup))
    work(chain, course)
    settle(chain)
    chain.hub.kill()
    kinds = {**spoiling.IN_FILE, **spoiling.IN_LOG, "gone": spoiling.take_away}
    name = draw.choice(list(kinds))
    if kinds[name](chain.home / "ledger.db", draw):
        tally.times[f"ledger, {name}"] += 1
    for words in draw.sample(_HQ_COMMANDS, 2):
        done = chain.hq_process(*words)
        # What `hq verify` finds is its answer, and no error.
        told = "error:" in done.stderr or (words == ("verify",) and done.stdout.strip())
        if "Traceback" in done.stderr or (done.returncode and not told):
            tally.wrong.append(f"hq {words} with a ledger, {name}: {done.stderr[-1500:]}")
    began_at = time.monotonic()
    said_before = len(chain.hub.said())
    chain.hub.start()
    wait_until(
        lambda: (
            chain.hub.returncode is not None or "connected to" in chain.hub.said()[said_before:]
        ),
        seconds=30,
        what="the hub to begin or to refuse",
    )
    if chain.hub.returncode is None:
        with contextlib.suppress(AssertionError):
            chain.wait_online()
    if chain.hub.returncode is not None:
        findings.outcomes["refused by the hub"] += 1
        if "hq restore" not in chain.hub.said()[said_before:]:
            tally.wrong.append(f"ledger, {name}: {chain.hub.said()[said_before:][-1000:]}")
    elif chain.hq_process("verify").returncode:
        findings.outcomes["found by hq verify"] += 1
        chain.hub.stop()
    else:
        findings.outcomes["ledger unharmed"] += 1
        wait_whole(chain)
        return
    chain.hq("restore", str(backup), "--yes")
    chain.hub.start()
    wait_whole(chain)
    tally.recoveries_seconds.append(time.monotonic() - began_at)


def wait_whole(chain: Chain) -> None:
    """Wait until HQ has everything again."""
    chain.wait_online()
    chain.wait_settled(seconds=SETTLES_SECONDS)


# --- read ----------------------------------------------------------------------------------------


def device_view(path: Path) -> Any:
    """All of a device's database that is sent or shown, read as its daemon reads it."""
    with open_agent_database(path) as database:
        database.check(but_sums_of=LOGS)
        outbox, inbox, memory = Outbox(database), Inbox(database), Memory(database)
        items = inbox.items(everything=True)
        return [
            [_all_entries(outbox, log) for log in LOGS],
            outbox.acked(),
            [outbox.backlog(log) for log in LOGS],
            (memory.set_version(), memory.cursors(), memory.facts(), memory.trust()),
            [memory.text(key) for key in ("install", "starts", "numbers", "arrivals")],
            items,
            [inbox.directive_data(item.delivery.directive) for item in items],
            [inbox.directive_seal(item.delivery.directive) for item in items],
            [inbox.cancel(directive) for directive in inbox.cancels()],
            inbox.unsure(100),
        ]


def _all_entries(outbox: Outbox, log: Log) -> list[Entry]:
    found: list[Entry] = []
    first = outbox._connection.execute(f"SELECT ifnull(min(position), 1) - 1 FROM {log}")
    after = first.fetchone()[0]
    while more := outbox.entries(log, after=after, most=500, most_bytes=1 << 20):
        found += more
        after = more[-1].position
    return found


def ledger_view(path: Path) -> Any:
    """All of the ledger that is sent, read as the hub reads it."""
    with open_ledger(path.parent) as ledger:
        require_sound(ledger)
        connection = ledger.connection
        names = [Channel.parse(name) for (name,) in connection.execute("SELECT name FROM channel")]
        mailboxes = dict(connection.execute("SELECT no, role FROM mailbox").fetchall())
        return [
            channels.heads(connection, names),
            channels.heads_by_region(connection),
            channels.replay(connection, dict.fromkeys(names, START), most_bytes=1 << 26),
            channels.unpublished(connection, 0, most=1 << 20),
            deliveries.open_work(connection, mailboxes),
        ]


def read_spoilt(
    sample: Path, view: View, row: Row, findings: Findings, *, draws: tuple[random.Random, int]
) -> None:
    """Spoil copies of a database and read them: what is read must be what was written."""
    draw, count = draws
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / sample.name
        shutil.copy(sample, copy)
        whole = view(copy)
        content = sample.read_bytes()
        for number in range(count):
            for one in copy.parent.iterdir():
                one.unlink()
            copy.write_bytes(content)
            name = draw.choice(list(spoiling.IN_FILE))
            spoiling.IN_FILE[name](copy, draw)
            row.times += 1
            try:
                same = view(copy) == whole
            except DatabaseError:
                findings.outcomes[f"{sample.name} refused when read"] += 1
            except Exception as error:  # whatever it is, people would see it
                row.wrong.append(f"{sample.name} {number}, {name}: {type(error).__name__}: {error}")
            else:
                findings.outcomes[f"{sample.name} read as it was"] += same
                if not same:
                    row.wrong.append(
                        f"{sample.name} {number}, {name}: read, and not what was written"
                    )
