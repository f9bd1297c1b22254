"""A store that is away for a month of directives, and comes back.

Owns the month: what is issued on each day and becomes of it, on a clock that goes from day to day
for all processes. The journal is what was issued, withdrawn and left to expire; the order in which
staff must see what is open follows from it alone.
"""

import contextlib
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buskit.doorbell import ring
from buswire.states import Needs
from hqconsole.audience import Selector, select
from hqconsole.home import new_id
from hqconsole.ledger import directives, organisation, withdrawing
from hqconsole.ledger.opening import open_ledger
from tests.agent.processes import environment
from tests.faults import clock
from tests.faults.rows import Row
from tests.faults.watching import grew, resident_mib
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes.chain import ROLE, Chain, Daemon, Till

AWAY, PRESENT, LATELY = "S001", "S003", "S002"
"""Away for all of the month; there all the time; away since a day or two. S002 is in the west."""
_DAY_SECONDS = 86_400.0
_NIGHT_DAYS = 0.9
"""Of a longer jump between two of its runs the hub would want to know that it is true."""
_NIGHTS = 35
"""More than a month: than what a device keeps of what is over."""
_MANY = 0.3
"""Of a smaller share there are fewer nights, which no retention of a month notices."""
_CONNECTED = "connected to"
_PRIORITIES = ("urgent", "high", "normal", "normal", "normal", "low")


@dataclass
class Issued:
    """One directive, as the journal has it."""

    id: str
    number: int
    stores: frozenset[str]
    role: str
    priority: str
    due_at: float | None
    fate: str
    """open, cancelled or expired."""
    over_day: float
    """On which day it is withdrawn or expires."""
    carried_out: bool = False


class Month:
    """The chain, the clock and the journal of one run."""

    def __init__(self, chain: Chain, folder: Path, draw: random.Random, *, nights: int) -> None:
        self.chain = chain
        self.days = nights * _NIGHT_DAYS
        self.draw = draw
        self.began_at = time.time()
        self.day = 0.0
        self.file = folder / "clock"
        clock.set_clock(self.file, 0.0)
        self.issued: list[Issued] = []
        self.tills = {store: chain.till(store) for store in chain.stores}

    def put_under_the_clock(self) -> None:
        """Begin all daemons anew under the clock that this month goes by."""
        for daemon, program in (
            (self.chain.hub, "hq"),
            *((till, "storeagent") for till in self.tills.values()),
        ):
            daemon.stop()
            _under_the_clock(daemon, self.file, program)
            before = daemon.said().count(_CONNECTED)
            daemon.start()
            wait_until(
                lambda daemon=daemon, before=before: daemon.said().count(_CONNECTED) > before,
                seconds=20,
                what=f"{daemon.name} to connect",
            )

    @property
    def ahead_seconds(self) -> float:
        """By how much the clock is ahead of the true one."""
        return self.day * _DAY_SECONDS

    def go_on(self, days: float) -> None:
        """Let a night pass, and what is due happen: by hand what people do, else by the hub.

        Head office's machine is off meanwhile: to a clock that jumps the hub would not listen.
        """
        self.chain.hub.stop()
        self.day += days
        clock.set_clock(self.file, self.ahead_seconds)
        self.chain.hub.start()
        for one in self.issued:
            if one.fate == "cancelled" and not one.carried_out and one.over_day <= self.day:
                one.carried_out = True
                self._cancel(one)
        ring(self.chain.home)
        wait_until(
            lambda: (
                not self.chain.rows(
                    "SELECT 1 FROM directive WHERE state = 'issued' AND expires_at <= ? LIMIT 1",
                    time.time() + self.ahead_seconds,
                )
            ),
            seconds=30,
            what="what is due to expire",
        )

    def issue(self, count: int) -> None:
        """Issue so much work to everybody, to regions, to single stores, to roles."""
        with open_ledger(self.chain.home) as ledger:
            with ledger.read() as connection:
                there = organisation.organisation(connection)
            for _ in range(count):
                with ledger.write() as connection:
                    self._issue_one(connection, there)
        ring(self.chain.home)

    def _issue_one(self, connection: Any, there: Any) -> None:
        draw = self.draw
        stores, selector = draw.choice(
            (
                (self.chain.stores, {"everyone": True}),
                ((AWAY, PRESENT), {"regions": ("east",)}),
                ((LATELY,), {"stores": (LATELY,)}),
                ((AWAY,), {"stores": (AWAY,)}),
            )
        )
        role = draw.choice(("any", "any", ROLE))
        fate = draw.choice(("open", "cancelled", "cancelled", "expired", "expired"))
        over_day = self.day + 0.5 + 4 * draw.random()
        if over_day >= self.days - 0.5:
            fate = "open"  # it would come back just while that happens
        at = time.time() + self.ahead_seconds
        due_at = None
        if draw.random() < 0.4:
            due_at = float(int(at + draw.uniform(1, 60) * _DAY_SECONDS) // 60 * 60)
        priority = draw.choice(_PRIORITIES)
        found = directives.issue(
            connection,
            directives.Draft(
                title=f"work {len(self.issued)}",
                body="x" * draw.randrange(1_000),
                needs=Needs.DONE,
                priority=priority,
                due=None if due_at is None else f"{datetime.fromtimestamp(due_at, UTC):%FT%RZ}",
                expires_at=self.began_at + over_day * _DAY_SECONDS if fate == "expired" else None,
            ),
            select(Selector(roles=() if role == "any" else (role,), **selector), there),
            there,
            at=at,
            new_id=new_id,
        )
        self.issued.append(
            Issued(
                found.id,
                len(self.issued),
                frozenset(stores),
                role,
                priority,
                due_at,
                fate,
                over_day,
            )
        )

    def _cancel(self, one: Issued) -> None:
        with open_ledger(self.chain.home) as ledger, ledger.write() as connection:
            withdrawing.cancel(
                connection,
                directives.find(connection, one.id),
                reason="not any more",
                by="",
                organisation=organisation.organisation(connection),
                at=time.time() + self.ahead_seconds,
                new_id=new_id,
            )

    # --- what must be ----------------------------------------------------------------------------

    def open_in(self, store: str) -> list[str]:
        """What staff of a store must see as open, in the order in which they must see it."""
        now_at = time.time() + self.ahead_seconds

        def key(one: Issued) -> tuple[bool, int, float, int]:
            overdue = one.due_at is not None and one.due_at < now_at
            rank = ("urgent", "high", "normal", "low").index(one.priority)
            return not overdue, rank, one.due_at or float("inf"), one.number

        here = [
            one
            for one in self.issued
            if store in one.stores and (one.fate == "open" or one.over_day > self.day)
        ]
        return [one.id for one in sorted(here, key=key)]

    def seen_in(self, store: str) -> list[str]:
        """What staff see as open, by the command itself."""
        home = self.tills[store].home
        done = subprocess.run(
            [*_command(self.file, "storeagent"), "inbox", "--json"],
            check=True,
            capture_output=True,
            text=True,
            env=environment(home),
            timeout=60,
        )
        return [item["directive"] for item in json.loads(done.stdout) if item["open"]]

    def wait_up_to_date(self, store: str, *, seconds: float = 60) -> None:
        """Wait until a store has all that is open, and HQ has its receipts."""
        wanted = set(self.open_in(store))

        def is_so() -> bool:
            till = self.tills[store]
            here = {item["directive"] for item in till.inbox() if item["open"]}
            return (
                here == wanted and not self.chain.undelivered(store) and till.unacknowledged() == 0
            )

        wait_until(is_so, seconds=seconds, what=f"{store} to be up to date", poll_seconds=0.1)


def _command(file: Path, program: str) -> list[str | Path]:
    return [sys.executable, Path(clock.__file__), file, program]


def _under_the_clock(daemon: Daemon, file: Path, program: str) -> None:
    words = daemon._words[1:]
    daemon._words = [*_command(file, program), *words]


def absence(seed: int, share: float) -> Row:
    """A month of directives while a store is away; it comes back past kills, to what is open."""
    draw = random.Random(seed)
    row = Row("absence")
    nights = _NIGHTS if share >= _MANY else max(2, round(_NIGHTS * share))
    a_day = max(15, round(1_800 * share / nights) + 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        Chain(Path(folder), (AWAY, LATELY, PRESENT)) as chain,
    ):
        month = Month(chain, Path(folder), draw, nights=nights)
        month.put_under_the_clock()
        month.tills[AWAY].stop()
        for night in range(nights):
            if night == nights - 1:
                month.tills[LATELY].stop()
            month.issue(a_day)
            month.go_on(_NIGHT_DAYS)
            month.wait_up_to_date(PRESENT)
            row.memory.append(resident_mib(chain.hub.pid))
        began = time.monotonic()
        agent_mib = _come_back(month, draw)
        row.recovered(time.monotonic() - began)
        row.times = len(month.issued)
        row.accepted = sum(len(one.stores) for one in month.issued)
        row.lost, row.twice = judge(month, states_of(chain))
        row.wrong += _order(month)
        if grew(agent_mib):
            row.wrong.append(f"the memory of the agent that came back grew: {agent_mib}")
        row.wrong += _do_it_all(month)
        row.wrong += [str(one) for one in chain.hq_json("incidents")]
        row.note = (
            f"{len(month.open_in(AWAY))} open of {sum(AWAY in one.stores for one in month.issued)}"
            f" for the store that came back after {month.days:.0f} days; its agent"
            f" {max(agent_mib):.0f} MiB"
        )
    return row


def _come_back(month: Month, draw: random.Random) -> list[float]:
    """Start both that were away; kill what catches up, and the hub. The memory of the one."""
    back = month.tills[AWAY]
    month.tills[LATELY].start()
    back.start()
    victims = (back, month.chain.hub, back)
    for victim in victims[: None if month.days > 5 else 2]:
        time.sleep(draw.random() * TIME_SCALE)  # somewhere in its start, its hello, its answer
        victim.kill()
        victim.start()
    samples = []
    month.wait_up_to_date(AWAY)
    samples.append(resident_mib(back.pid))
    month.wait_up_to_date(LATELY)
    samples.append(resident_mib(back.pid))
    return samples


def states_of(chain: Chain) -> dict[str, dict[str, str]]:
    """By directive and store: where the delivery is, as HQ has it."""
    return {
        one: {store: state for (store, _), state in chain.states(one).items()}
        for (one,) in chain.rows("SELECT id FROM directive")
    }


def judge(month: Month, states: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """Hold the journal against what HQ says and what the stores have."""
    lost, twice = [], []
    final = {"open": "delivered", "cancelled": "cancelled", "expired": "expired"}
    for one in month.issued:
        for store in sorted(one.stores):
            state = states.get(one.id, {}).get(store)
            if state != final[one.fate]:
                lost.append(f"{one.fate} work {one.number} is {state} for {store}")
    if len(states) != len(month.issued):
        twice.append(f"{len(states)} directives, {len(month.issued)} were issued")
    for store, till in month.tills.items():
        items = till.inbox()
        here = Counter(item["directive"] for item in items if item["open"])
        wanted = Counter(month.open_in(store))
        lost += [f"{one[:8]} is not open at {store}" for one in wanted - here]
        twice += [f"{one[:8]} is open at {store}" for one in here - wanted]
        deliveries, arrivals = till.arrivals()
        if store != PRESENT and arrivals > deliveries:
            twice.append(f"{arrivals} arrivals of {deliveries} deliveries at {store}")
    return lost, twice


def _order(month: Month) -> list[str]:
    """What staff see in another order than they must."""
    wrong = []
    for store in (AWAY, LATELY):
        seen, wanted = month.seen_in(store), month.open_in(store)
        if seen != wanted:
            at = next(
                (n for n, pair in enumerate(zip(seen, wanted, strict=False)) if pair[0] != pair[1]),
                0,
            )
            wrong.append(f"{store} sees {seen[at : at + 3]} at {at}, not {wanted[at : at + 3]}")
    return wrong


def _do_it_all(month: Month) -> list[str]:
    """Staff do all that is open in the store that came back; nothing is open there then."""
    till: Till = month.tills[AWAY]
    with till.program() as program:
        for item in program.inbox():
            if item["open"]:
                program.done(item["number"])
    chain = month.chain
    wait_until(lambda: till.unacknowledged() == 0, seconds=60, what="what was done to arrive")
    states: Sequence[tuple[int]] = chain.rows(
        "SELECT count(*) FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
        " JOIN store ON store.no = store_no WHERE store.id = ? AND open = 1",
        AWAY,
    )
    return [f"{states[0][0]} are still open at HQ"] if states[0][0] else []
