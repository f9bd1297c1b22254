"""Records that the other side cannot process, though they are properly signed.

In worlds of the simulation both sides get them among good ones: kinds, fields, numbers, texts and
nesting that nobody expects, and records on which a defect that was planted makes the program fail,
on either side. While the defects last all good records must arrive; then both programs are
"upgraded", what was put aside is tried again, and all must have had its effect once.

Two more parts: a chain of real processes with the same defects, and hooks that crash, hang, shout
and fork.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from buswire.messages import Directive, encode_data
from buswire.states import Needs, State
from buswire.topics import Channel
from hqconsole.ledger import channels
from hqconsole.ledger.arrivals import Arrivals
from hqconsole.ledger.organisation import PresentOrganisation
from hqconsole.notary import Notary
from storeagent.database import database_path, open_agent_database
from storeagent.delivery import Delivery
from storeagent.effects import Effects
from storeagent.hooks import Hooks
from storeagent.inbox import Inbox
from storeagent.memory import ASK_ANEW, Memory
from storeagent.settings import HookSettings
from tests.agent.processes import tool
from tests.faults.rows import Row
from tests.faults.worlds import live_through
from tests.helpers.waiting import wait_until
from tests.processes.chain import Chain
from tests.simulation.machine import Machine
from tests.simulation.oracle import Oracle
from tests.simulation.people import Operators
from tests.simulation.scenarios import Scenario
from tests.simulation.world import World

MARK = "POISON"
"""A defect strikes at what has this in it."""
_MOST_HELD_SECONDS = 60.0

POISON = Scenario(
    "poison",
    loss=0.02,
    duplication=0.02,
    delay_most_seconds=0.4,
    rates={"device_killed": 0.05, "hub_killed": 0.05, "cut": 0.05},
    issue_seconds=1.5,
    say_seconds=0.5,
)

_LONG = "x" * 60_000
_ABSURD: Sequence[tuple[str, Any]] = (
    ("tomorrow", {"anything": 1}),
    ("x" * 40, {}),
    ("alert", {}),
    ("alert", []),
    ("alert", None),
    ("alert", {"alert": "a" * 41}),
    ("alert", {"alert": 7, "fields": {}}),
    ("alert", {"alert": "incident", "fields": {"what": {"deep": [1, [2]]}}}),
    ("alert", {"alert": "incident", "fields": {"what": 10**40}}),
    ("alert", {"alert": "incident", "fields": {"what": 1e308}, "note": _LONG}),
    ("alert", {"alert": "incident", "fields": {"what": "\0\u202e\ufffe"}}),
    ("receipt", {"directive": "0" * 32, "role": "any", "state": "flying"}),
    ("receipt", {"directive": "0" * 32, "role": "any", "state": "pending"}),
    ("receipt", {"directive": "0" * 32, "role": "any", "state": "expired"}),
    ("receipt", {"directive": "0" * 31, "role": "any", "state": "done"}),
    ("receipt", {"directive": "0" * 32, "role": "emperor", "state": "done"}),
    ("receipt", {"directive": "../../etc", "role": "\0", "state": "done"}),
    ("reply", {"directive": "0" * 32, "role": "any", "text": ""}),
    ("reply", {"directive": ["0"], "role": {}, "text": 1}),
    ("report", {"report": "r", "name": "n", "part": 0, "parts": 1, "columns": [], "rows": []}),
    ("report", {"report": "r", "name": "n", "part": 2**63, "parts": 1, "columns": [], "rows": []}),
    ("report", {"report": "r", "name": "n", "part": 9, "parts": 2, "columns": [], "rows": [[1]]}),
    ("original", {"kind": "directive", "role": "any", "data": {}}),
    ("original", {"kind": "cancel", "role": "any", "data": [[]], "seal": "x"}),
    ("original", {"kind": "planet", "role": "any", "data": 1}),
    ("trouble", {"what": 3}),
)
_ABSURD_TEXTS: Sequence[tuple[str, bytes]] = (
    ("alert", b'{"alert":"incident","fields":{"what":1e999}}'),
    ("alert", b'{"alert":"incident","alert":"twice"}'),
    ("alert", b"[" * 900 + b"]" * 900),
    ("reply", b'{"text":' + b"9" * 5000 + b"}"),
    ("alert", b'{"alert":"incident","fields":{"what":"\\ud800"}}'),
    ("alert", b'{"alert":"incident","fields":{"what":"caf\xe9"}}'),
    ("alert", b'{"alert":"incident","fields":{"what":NaN}}'),
    ("tomorrow", b'"a\nb"'),
)
_ABSURD_DOWN: Sequence[tuple[str, Any]] = (
    ("decree", {"directive": "0" * 32}),
    ("directive", {}),
    ("directive", {"id": "0" * 32}),
    ("directive", {"id": "0" * 32, "title": ""}),
    ("directive", {"id": "0" * 32, "title": "t", "needs": "love"}),
    ("directive", {"id": "0" * 32, "title": "t", "expires_at": "never"}),
    ("directive", {"id": "0" * 32, "title": "t", "audience": {"mailboxes": -1, "digest": ""}}),
    ("directive", {"id": 0, "title": _LONG[:300]}),
    ("directive", {"id": "0" * 32, "title": "\ud800"}),
    ("state", {"directive": "0" * 32, "state": "done", "changed_at": float("nan")}),
    ("directive", [{}] * 100),
    ("cancel", {}),
    ("cancel", {"directive": "all"}),
    ("state", {"directive": "0" * 32, "state": "flying"}),
    ("state", {"directive": "f" * 32, "state": "pending", "changed_at": 1e308}),
    ("state", 10**30),
)


def _fail(random: Random) -> None:
    """Fail as programs fail."""
    what = random.randrange(6)
    if what == 0:
        raise KeyError("no such column")
    if what == 1:
        raise RecursionError("too deep")
    if what == 2:
        raise ArithmeticError(what // 0)
    if what == 3:
        "\ud800".encode()
    if what == 4:
        sqlite3.connect(":memory:").execute("SELECT ?", (2**70,))
    if what == 5:
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE t (a UNIQUE)")
        connection.executemany("INSERT INTO t VALUES (?)", [(1,), (1,)])
    raise ValueError("of this value")


# --- the simulation's part -----------------------------------------------------------------------


class PoisonOracle(Oracle):
    """Defects are planted here."""

    world: PoisonWorld

    def _defects(self) -> Iterator[str]:
        yield from ()

    def disagreements(self) -> list[str]:
        """That things were put aside is meant to be; and while defects last nothing agrees."""
        if self.world.defective:
            return ["there are defects"]
        told = ("put aside from", "told HQ of")
        return [one for one in super().disagreements() if not any(said in one for said in told)]

    def judge(self, *, rest_seconds: float) -> None:
        """Also what was held up."""
        self.faults += self.world.unjust
        super().judge(rest_seconds=rest_seconds)


class PoisonOperators(Operators):
    """Some of what they issue makes devices fail, some is no directive at all."""

    world: PoisonWorld

    def act(self) -> None:
        """One thing in three is poison."""
        world = self.world
        if world.timeline.chance(0.7):
            super().act()
        if world.timeline.chance(0.7):
            world.say_down()


class PoisonWorld(World):
    """A world with poison on its wires."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        super().__init__(scenario, seed)
        self.network.watchers.clear()
        self.oracle = PoisonOracle(self)
        self.operators = PoisonOperators(self)
        self.unjust: list[str] = []
        self.defective = True
        self.poisoned: set[str] = set()
        """Ids of poison records that devices accepted."""
        self.failing: set[str] = set()
        """Those of them, and the directives, that are good, and on which a defect strikes."""
        self._struck = Random(seed)

    # --- what is said ----------------------------------------------------------------------------

    def say_up(self) -> None:
        """A device says something that nobody can use, or that HQ fails on."""
        random = self.timeline.random
        machines = [one for one in self.machines if not one.gone and one.core is not None]
        if machines:
            machine = random.choice(machines)
            choice = random.random()
            if choice < 0.4:
                data = {"alert": "incident", "fields": {"what": f"{MARK} {random.random()}"}}
                self._accept(machine, "alert", json.dumps(data).encode(), failing=True)
            elif choice < 0.9:
                kind, said = random.choice(_ABSURD)
                self._accept(machine, kind, json.dumps(said).encode())
            else:
                self._accept(machine, *random.choice(_ABSURD_TEXTS))
        if self.timeline.now < self.scenario.trouble_seconds:
            self.timeline.after(self.timeline.between(0.1, 1.2), self.say_up)

    def _accept(self, machine: Machine, kind: str, data: bytes, *, failing: bool = False) -> None:
        record_id = self.timeline.new_id()
        said_at = self.timeline.random.choice((machine.wall_clock(), 1e300, -1e300, 0.0))
        disk = machine.disk

        def say() -> None:
            with disk.database.write():
                machine.statements.outbox.add(
                    self.timeline.random.choice(("act", "bulk")),
                    record_id,
                    kind,
                    data,
                    said_at=said_at,
                )

        disk.quietly(say)
        self.counts["poison"] += 1
        self.poisoned.add(record_id)
        if failing:
            self.failing.add(record_id)
        self.journal.entry(machine, record_id, kind)
        machine.ring()

    def say_down(self) -> None:
        """HQ says something that no device can use, or that devices fail on."""
        self.counts["poison"] += 1
        random = self.timeline.random
        if random.random() < 0.4:
            self.operators.issue(self.operators._selector())
            return
        kind, said = random.choice(_ABSURD_DOWN)
        place = random.choice(("all", "region/east", "store/S001"))
        channel = Channel(place, random.choice(("any", "manager")))

        def do() -> None:
            with self.hq.ledger.write() as connection:
                doc_no = channels.add_doc(connection, kind, json.dumps(said).encode())
                channels.append(
                    connection,
                    (channel,),
                    doc_no,
                    at=self.timeline.wall_clock(),
                    new_id=self.timeline.new_id,
                )

        self.hq.command(do)

    # --- its life --------------------------------------------------------------------------------

    def run(self) -> None:
        """Live with the defects, then without them."""
        take, insert = Arrivals._take_effect, Effects._insert

        def take_or_fail(arrivals: Arrivals, *said: Any, **more: Any) -> None:
            take(arrivals, *said, **more)
            if self.defective and MARK.encode() in bytes(said[3]):
                _fail(self._struck)

        def insert_or_fail(
            effects: Effects, directive: Directive, data: bytes, *said: Any
        ) -> Delivery:
            inserted = insert(effects, directive, data, *said)
            if self.defective and int(directive.id[:2], 16) % 3 == 0:
                self.failing.add(directive.id)
                _fail(self._struck)
            return inserted

        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(Arrivals, "_take_effect", take_or_fail))
            stack.enter_context(mock.patch.object(Effects, "_insert", insert_or_fail))
            self.timeline.after(6.0, self.say_up)
            self.timeline.at(
                self.scenario.trouble_seconds + 5.0 + _MOST_HELD_SECONDS, self._upgrade
            )
            super().run()

    def _upgrade(self) -> None:
        """Nothing fails any more: first see that the good went on, then try again the rest."""
        self.unjust += self._held_up()
        self.defective = False
        keyring = self.keys

        def retry() -> None:
            with self.hq.ledger.write() as connection:
                Arrivals(
                    connection,
                    organisation=PresentOrganisation(connection),
                    new_id=self.timeline.new_id,
                    at=self.timeline.wall_clock(),
                    check_seal=Notary(keyring, self.topics).check_seal,
                    carefully=True,
                ).take_again()

        self.hq.command(retry)
        for machine in self.machines:
            with machine.disk.database.write():
                Memory(machine.disk.database).keep(ASK_ANEW, 1)
            machine.ring()

    def _held_up(self) -> Iterator[str]:
        """What is good and did not get through, while there are defects."""
        arrived = {
            id_.hex(): outcome
            for id_, outcome in self.hq.ledger.connection.execute("SELECT id, outcome FROM arrival")
        }
        for _, record_id in self.journal.entries:
            if record_id not in arrived:
                yield f"record {record_id[:6]} is held up by poison, or lost"
        for record_id in self.failing & arrived.keys():
            if arrived[record_id] != "failed":
                yield f"HQ failed on {record_id[:6]} and takes it for {arrived[record_id]}"
            self.counts["put aside by HQ"] += 1
        for (directive,) in self.hq.ledger.connection.execute("SELECT id FROM directive"):
            if directive in self.failing:
                self.counts["put aside by devices"] += 1


def poison(seed: int, share: float) -> Row:
    """Worlds with poison, then real processes and hooks."""
    row = Row("poison")
    worlds = max(2, round(30 * share))
    aside = 0
    for number in range(worlds):
        world = live(seed + number, row)
        row.times += world.counts["poison"]
        row.accepted += len(world.journal.entries) + len(world.journal.directives)
        aside += world.counts["put aside by HQ"] + world.counts["put aside by devices"]
    hooks(round(40 * share), row)
    real(round(30 * share), row)
    row.note = f"{worlds} worlds; defects struck {aside:,} records there"
    return row


def live(seed: int, row: Row, scenario: Scenario = POISON) -> PoisonWorld:
    """One world under one seed; what does not hold goes into the row."""
    world = PoisonWorld(scenario, seed)
    try:
        live_through(world, row)
    except Exception as error:
        row.wrong.append(f"world {seed}: a daemon died of {error!r}")
    return world


# --- hooks ---------------------------------------------------------------------------------------

_HOOK = """
import json, os, sys, time
told = json.load(sys.stdin)
what = told["title"].split()[0]
if what == "crash": os.abort()
if what == "hang": time.sleep(60)
if what == "refuse": sys.exit(7)
if what == "shout":
    sys.stderr.write("x" * 4_000_000); sys.stdout.write("y" * 4_000_000); sys.exit(1)
if what == "fork":
    if os.fork() == 0: time.sleep(2)
    sys.exit(3)
with open(sys.argv[1], "a") as file: file.write(told["title"] + chr(10))
"""
_BAD = ("crash", "hang", "refuse", "shout", "fork")


def hooks(times: int, row: Row) -> None:
    """Every second arrival makes the hook misbehave; the others must have theirs once."""
    if not times:
        return
    with tempfile.TemporaryDirectory(prefix="hooks-") as name:
        home = Path(name)
        script, good = home / "hook.py", home / "good"
        script.write_text(_HOOK)
        command = (sys.executable, "-I", str(script), str(good))
        titles = [f"{_BAD[n // 2 % len(_BAD)]} {n}" if n % 2 else f"good {n}" for n in range(times)]
        titles.append("good \0\U0001f600 the last")
        with open_agent_database(database_path(home), create=True) as database:
            inbox = Inbox(database)
            with database.write():
                for number, title in enumerate(titles):
                    document = Directive(id=f"{number:032x}", title=title, needs=Needs.DONE)
                    inbox.save_directive(document, encode_data(document), "")
                    inbox.insert(Delivery(document.id, "any", Needs.DONE, State.DELIVERED))
        settings = HookSettings(command, timeout_seconds=0.5, attempts=2, pause_seconds=0.01)
        hook = Hooks(home, settings)
        hook.start()
        try:
            wait_until(
                lambda: good.exists() and titles[-1] in good.read_text(),
                seconds=20 + times,
                what="the last hook",
            )
        except AssertionError as error:
            row.wrong.append(f"hooks: {error}")
        finally:
            hook.stop()
        said = good.read_text().splitlines() if good.exists() else []
        with open_agent_database(database_path(home)) as database:
            failed = len(Inbox(database).hook_failures())
    wanted = [title for title in titles if title.startswith("good")]
    row.lost += [f"hook for {title!r}" for title in wanted if title not in said]
    row.twice += [f"hook for {title!r}" for title in set(said) if said.count(title) > 1]
    if failed != len(titles) - len(wanted):
        row.wrong.append(f"{failed} hooks are set aside of {len(titles) - len(wanted)} bad ones")
    row.times += len(titles) - len(wanted)
    row.accepted += len(titles)


# --- real processes ------------------------------------------------------------------------------

_PLANTED = f"""
import sys

def _plant(module):
    if module == "hqconsole.ledger.arrivals":
        from hqconsole.ledger.arrivals import Arrivals
        take = Arrivals._take_effect
        def take_or_fail(arrivals, *said, **more):
            take(arrivals, *said, **more)
            if b"{MARK}" in bytes(said[3]):
                raise KeyError("planted")
        Arrivals._take_effect = take_or_fail
    else:
        from storeagent.effects import Effects
        insert = Effects._insert
        def insert_or_fail(effects, directive, *said):
            inserted = insert(effects, directive, *said)
            if "{MARK}" in directive.title:
                raise KeyError("planted")
            return inserted
        Effects._insert = insert_or_fail

_plant("hqconsole.ledger.arrivals")
_plant("storeagent.effects")
"""


def real(times: int, row: Row) -> None:
    """A hub and two agents with defects in their programs; then they are started without."""
    if not times:
        return
    with tempfile.TemporaryDirectory(prefix="poison-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "planted").mkdir()
        (folder / "planted" / "sitecustomize.py").write_text(_PLANTED)
        planted = mock.patch.dict(os.environ, {"PYTHONPATH": str(folder / "planted")})
        planted.start()
        stack.callback(lambda: planted.stop() if planted.in_place else None)  # type: ignore[attr-defined]
        planted.in_place = True  # type: ignore[attr-defined]
        chain = stack.enter_context(Chain(folder, ("S1", "S2")))
        tills = list(chain.tills.values())
        bad: list[tuple[str, str]] = []
        began = time.monotonic()
        for number in range(times):
            till = tills[number % 2]
            text = f"{MARK} {number}"
            with till.program() as program:
                program.alert("incident", what=text)
            bad.append((till.store, text))
            chain.publish(till.store, title=f"{MARK} at {number}")
            chain.alert(till)
            good = chain.issue(till.store)
            chain.wait_state(good, "delivered")
        row.times += 2 * times
        wait_until(
            lambda: not any(till.unacknowledged() for till in tills),
            seconds=40,
            what="all to be acknowledged",
        )
        row.recovered(time.monotonic() - began)
        for daemon in (chain.hub, *tills):
            if daemon.returncode is not None or daemon.starts != 1:
                row.wrong.append(f"{daemon.name} has died: {daemon.said()[-500:]}")
        if not chain.hq_json("quarantine"):
            row.wrong.append("hq quarantine shows nothing")
        for till in tills[:times]:
            status = json.loads(tool("status", "--json", home=till.home).stdout)
            if not status["aside"]:
                row.wrong.append(f"storeagent status of {till.name} shows nothing aside")
        planted.stop()
        planted.in_place = False  # type: ignore[attr-defined]
        for daemon in (chain.hub, *tills):
            daemon.stop()
            daemon.start()
        chain.hq("quarantine", "--retry")
        for till in tills:
            tool("retry", home=till.home)
        for store, text in bad:
            chain.journal.said[store, "alert", text] += 1
        chain.wait_settled()
        account = chain.account()
        row.accepted += 4 * times
        row.lost += account.lost
        row.twice += account.twice
