"""A backlog: a device that was offline with a million entries gets its link back.

Owns what befalls the drain (kills, urgent alerts, commands beside it) and what it must be like:
alerts before figures, memory and write-ahead logs flat, commands answering, and the bound at its
beginning. Waits are those of production, not the quick ones of other tests.
"""

import contextlib
import io
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hqconsole.ledger.evidence import DATA
from storeagent.errors import OutboxFull
from tests.agent.processes import tool
from tests.faults.filling import Accepted, fill, take_account
from tests.faults.rows import Row
from tests.faults.watching import Answers, Every, grew, resident_mib, size_mib
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes.chain import QUICK_DEVICE, QUICK_HQ, Chain, Till, rows

_STORE = "S001"
_URGENT_SECONDS = 10.0 * TIME_SCALE
"""An alert that is said while figures drain is there so soon, a kill in between included or not."""
_ANSWER_SECONDS = 15.0 * TIME_SCALE
_STILL_SECONDS = 120.0
"""A drain that has not moved for so long has stopped."""
_WAL_MIB = 64
"""Twice what a write-ahead log is cut back to."""
_MANY = 50_000
"""Of fewer entries only two of the kills are tried: there is no room for all."""
_KILLS = 3
"""So many of the four must fall before all is drained."""
_OVERTAKING = 1_000
"""Figures of two messages may be under way beside the last alerts."""


@dataclass
class Drain:
    """What is seen of a drain while it lasts."""

    chain: Chain
    till: Till
    journal: Accepted
    row: Row
    total: int
    hub_mib: list[float] = field(default_factory=list)
    agent_mib: list[float] = field(default_factory=list)
    wal_mib: dict[str, float] = field(default_factory=dict)
    urgent_seconds: list[float] = field(default_factory=list)
    behind_alerts_seconds: list[float] = field(default_factory=list)
    kills: int = 0
    """So many fell while there was something left to drain."""
    _urgent_after: dict[str, bool] = field(default_factory=dict)

    def taken(self) -> int:
        """Entries that HQ has taken."""
        return int(self.chain.rows("SELECT ifnull(sum(seq), 0) FROM uplink")[0][0])

    def look(self) -> None:
        """Sample what must not grow."""
        for name, home in (("agent.db", self.till.home), ("ledger.db", self.chain.home)):
            wal = size_mib(home / f"{name}-wal")
            self.wal_mib[name] = max(wal, self.wal_mib.get(name, 0.0))

    def look_at_memory(self) -> None:
        """Sample the memory of both daemons, which have worked for a while."""
        self.hub_mib.append(resident_mib(self.chain.hub.pid))
        self.agent_mib.append(resident_mib(self.till.pid))

    def say_urgent(self) -> None:
        """Raise an alert in the middle of it."""
        what = f"urgent {len(self.journal.urgent)}"
        figures = self.chain.rows("SELECT seq FROM uplink WHERE log = 'bulk' AND seq > 0")
        with self.till.program() as program:
            assert program.alert("incident", what=what).new
        self.journal.urgent[what] = time.monotonic()
        self._urgent_after[what] = bool(figures)

    def look_for_urgent(self) -> None:
        """Note which of those have arrived since."""
        if not self._urgent_after:
            return
        latest = self.chain.rows(
            f"SELECT {DATA} FROM arrival WHERE kind = 'alert' ORDER BY arrival.no DESC LIMIT 20"
        )
        for (data,) in latest:
            what = json.loads(data)["fields"]["what"]
            if what in self._urgent_after:
                took = time.monotonic() - self.journal.urgent[what]
                among_figures = self._urgent_after.pop(what)
                (self.urgent_seconds if among_figures else self.behind_alerts_seconds).append(took)


def backlog(seed: int, share: float) -> Row:
    """A million entries drain past kills of agent, hub and broker; each is there once."""
    draw = random.Random(seed)
    row = Row("backlog")
    total = max(2_000, round(1_000_000 * share))
    alerts = total // 5
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        Chain(Path(folder), (_STORE,)) as chain,
    ):
        till = chain.till(_STORE)
        journal = Accepted()
        drain = Drain(chain, till, journal, row, total)
        _begin_anew(chain, till, most=total - alerts, quick=total < _MANY)
        chain.wait_online()
        chain.bus.kill()
        fill(till.home, journal, "act", alerts)
        fill(till.home, journal, "bulk", total - alerts)
        row.wrong += _at_the_bound(till, journal)
        chain.bus.start()
        began = time.monotonic()
        _drain(drain, draw)
        seconds = time.monotonic() - began
        row.times = row.accepted = journal.total
        account = take_account(chain.home / "ledger.db")
        row.lost, row.twice = account.lost(journal), account.twice(journal)
        row.wrong += account.order(most=_OVERTAKING)
        row.wrong += _kept(till, most=_kept_rows(total))
        row.wrong += judge(drain)
        row.memory = drain.hub_mib
        chain.verifies = total <= 100_000  # by the million it takes longer than the drain
        ledger = size_mib(chain.home / "ledger.db")
    row.note = (
        f"{total / seconds:,.0f}/s with the kills; an alert among figures within"
        f" {max(drain.urgent_seconds, default=0):.1f} s, behind {alerts:,} alerts"
        f" {max(drain.behind_alerts_seconds, default=0):.1f} s; agent"
        f" {max(drain.agent_mib):.0f} MiB; WAL"
        f" {', '.join(f'{name} {mib:.0f}' for name, mib in sorted(drain.wal_mib.items()))} MiB;"
        f" ledger {ledger:.0f} MiB; {row.note}"
    )
    return row


def judge(drain: Drain) -> list[str]:
    """What the drain was not like as it must be, but for what was lost or came twice."""
    wrong = []
    if late := [took for took in drain.urgent_seconds if took > _URGENT_SECONDS]:
        wrong.append(f"an alert among figures took {max(late):.1f} s")
    if not drain.urgent_seconds:
        wrong.append("no alert was said among figures")
    if drain.kills < (_KILLS if drain.total >= _MANY else 1):
        wrong.append(f"only {drain.kills} kills fell into the drain")
    if grew(drain.agent_mib):
        wrong.append(f"the agent's memory grew: {drain.agent_mib}")
    wrong += [
        f"the write-ahead log of {name} had {mib:.0f} MiB"
        for name, mib in drain.wal_mib.items()
        if mib > _WAL_MIB
    ]
    return wrong


def _begin_anew(chain: Chain, till: Till, *, most: int, quick: bool) -> None:
    """Let the outbox have a bound and, but for a taste, both daemons the waits of production."""
    till.stop()
    agent = till.home / "agent.toml"
    limits = f"\n[limits]\nrows = {most}\nkept_rows = {_kept_rows(most)}\n"
    settings = agent.read_text() + limits
    if not quick:
        settings = settings.replace(QUICK_DEVICE, "")
        chain.hub.stop()
        hq = chain.home / "hq.toml"
        hq.write_text(hq.read_text().replace(QUICK_HQ, ""))
        chain.hub.start()
    agent.write_text(settings)
    till.start()


def _kept_rows(total: int) -> int:
    """How many acknowledged entries of a log are to be kept: far fewer than there will be."""
    return total // 20


def _at_the_bound(till: Till, journal: Accepted) -> list[str]:
    """The outbox has as many figures as it may: more are refused, an alert still has room."""
    wrong = []
    with contextlib.suppress(OutboxFull):
        fill(till.home, journal, "bulk", 1)
        wrong.append("the outbox took more than its bound")
    figures = till.home / "more.csv"
    figures.write_text("sku,sold\n0000001,1\n")
    refused = tool("report", "till-figures", str(figures), home=till.home)
    if refused.returncode != 1 or "the outbox is full" not in refused.stderr:
        wrong.append(f"at the bound: {refused.returncode} {refused.stdout} {refused.stderr}")
    if "storeagent status" not in refused.stderr:
        wrong.append(f"the refusal does not say what to do: {refused.stderr}")
    return wrong


def _kept(till: Till, *, most: int) -> list[str]:
    """What is kept of what HQ has acknowledged is bounded, too."""
    wrong = []
    for log in ("act", "bulk"):
        (count,) = rows(till.home / "agent.db", f"SELECT count(*) FROM {log}")[0]
        if count > most + 1:
            wrong.append(f"{count:,} entries of {log} are kept, {most:,} are the most")
    return wrong


# --- the drain -----------------------------------------------------------------------------------


def _drain(drain: Drain, draw: random.Random) -> None:
    """Let it run to its end, with all that befalls it."""
    chain, till = drain.chain, drain.till
    status = Answers(till.home, "storeagent", "status", "--json")
    console = Answers(chain.home, "hq", "status", "--home", str(chain.home))
    asking = (status, console)

    def ask() -> None:
        asking[len(status.seconds) > len(console.seconds)].ask()

    befalls = _befalls(drain, draw)
    pause = 2.0 if drain.total >= _MANY else 4.0
    moved_at, before = time.monotonic(), -1
    with Every(0.25, drain.look) as looking, Every(pause, ask) as questions:
        while (taken := drain.taken()) < drain.total + len(drain.journal.urgent):
            now = time.monotonic()
            if taken != before:
                moved_at, before = now, taken
            assert now - moved_at < _STILL_SECONDS * TIME_SCALE, f"it stopped at {taken:,}"
            while befalls and taken >= befalls[0][0] * drain.total:
                befalls.pop(0)[1]()
            drain.look_for_urgent()
            time.sleep(0.02)
    for _, befall in befalls:  # the last steps of a quick drain are big
        befall()
    wait_until(
        lambda: (
            drain.taken() == drain.total + len(drain.journal.urgent) and till.unacknowledged() == 0
        ),
        seconds=60,
        what="the last acknowledgements",
    )
    drain.look_for_urgent()
    drain.look_at_memory()
    drain.row.wrong += status.wrong + console.wrong + looking.errors + questions.errors
    for name, answers in (("storeagent status", status), ("hq status", console)):
        if max(answers.seconds, default=0.0) > _ANSWER_SECONDS:
            drain.row.wrong.append(f"{name}: {answers.shown}")
    drain.row.note = f"storeagent status {status.shown}, hq status {console.shown}"


def _befalls(drain: Drain, draw: random.Random) -> list[tuple[float, Callable[[], None]]]:
    """What befalls the drain, each when so much of it is over."""
    kills: Sequence[Callable[[], None]] = [
        lambda: _kill(drain, "agent"),
        lambda: _kill(drain, "hub"),
        lambda: _kill(drain, "agent", "hub"),
        lambda: _kill(drain, "broker"),
    ]
    found = [(0.02, drain.say_urgent)]
    count = len(kills) if drain.total >= _MANY else 2
    for number, kill in enumerate(draw.sample(kills, count)):
        at = 0.22 + 0.18 * number
        found += [
            (at + 0.06 * draw.random(), drain.say_urgent),
            (at + 0.08, drain.look_at_memory),
            (at + 0.08 + 0.04 * draw.random(), kill),
        ]
    return sorted([*found, (0.95, drain.say_urgent)], key=lambda one: one[0])


def _kill(drain: Drain, *names: str) -> None:
    """Kill these at the same moment, start them again, and see when the drain goes on."""
    chain = drain.chain
    victims = [{"agent": drain.till, "hub": chain.hub, "broker": chain.bus}[name] for name in names]
    for victim in victims:
        victim.freeze()
    for victim in victims:
        victim.kill()
    before = drain.taken()
    for victim in victims:
        victim.start()
    began = time.monotonic()
    if before >= drain.total:
        return  # it was over before
    drain.kills += 1
    wait_until(
        lambda: drain.taken() > before,
        seconds=60,
        what=f"the drain to go on after a kill of {' and '.join(names)}",
    )
    drain.row.recovered(time.monotonic() - began)
