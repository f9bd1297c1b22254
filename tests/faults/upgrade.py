"""Databases of every version open with the present program, wherever that is interrupted.

The frozen ones in `tests/upgrade` were made by the programs of their time, with open directives,
unsent entries, cursors and things put aside. Each is opened, interrupted in the middle of every
statement of its migration by the death of the process, compared with what it had, and taken into
use: the device and head office speak, and all that was accepted before must have its effect once.
What a newer program has written is refused with a hint by whatever opens it, and stays as it is.
"""

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec

from buskit import database as kit
from buskit.database import Database, DatabaseNewer, Migration, open_database
from buswire.signing import SigningKey
from buswire.states import Needs
from buswire.topics import Identity, Topics
from buswire.trust import Trusted
from hqconsole import desk as hq
from hqconsole.commands.main import main as hq_main
from hqconsole.keyring import Announced, Keyring
from hqconsole.ledger import enrolment
from hqconsole.ledger import schema as ledger_schema
from hqconsole.ledger.opening import open_ledger
from storeagent import core as agent
from storeagent import database as agent_schema
from storeagent.database import open_agent_database
from storeagent.main import main as agent_main
from storeagent.statements import Outcome, Statements
from tests.faults.rows import Row
from tests.simulation import head_office, machine
from tests.simulation.keys import HqKeys, Seeds
from tests.simulation.timeline import Timeline

FROZEN = Path(__file__).parents[1] / "upgrade"
_TOPICS = Topics()
_ROUNDS = 200
_DIED = 9


class Kind(NamedTuple):
    """One of the two databases."""

    name: str
    file: str
    migrations: Sequence[Migration]
    application_id: int
    open: Callable[[Path], Database]
    """Given the folder that it is in."""


KINDS = (
    Kind(
        "ledger",
        "ledger.db",
        ledger_schema.MIGRATIONS,
        ledger_schema.APPLICATION_ID,
        open_ledger,
    ),
    Kind(
        "agent",
        agent_schema.FILE_NAME,
        agent_schema.MIGRATIONS,
        agent_schema.APPLICATION_ID,
        lambda home: open_agent_database(home / agent_schema.FILE_NAME),
    ),
)


def upgrade(seed: int, share: float) -> Row:
    """Every version of both databases; a smaller share interrupts less often. Draws nothing."""
    del seed
    row = Row("upgrade")
    every = max(1, round(1 / share))
    versions = 0
    with tempfile.TemporaryDirectory(prefix="upgrade-") as name:
        folder = Path(name)
        for kind in KINDS:
            for version in range(1, len(kind.migrations) + 1):
                versions += 1
                opens(kind, version, folder / f"{kind.name}{version}", row)
                interrupted(kind, version, folder / f"cut-{kind.name}{version}", every, row)
            newer(kind, folder / f"newer-{kind.name}", row)
        for version in range(1, min(len(kind.migrations) for kind in KINDS) + 1):
            taken_into_use(version, folder / f"use-{version}", row)
    row.note = f"{versions} versions of {len(KINDS)} databases"
    return row


def thaw(kind: Kind, version: int, folder: Path) -> Path:
    """Make the file as the program of that version left it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / kind.file
    for one in folder.glob(f"{kind.file}*"):
        one.unlink()
    connection = sqlite3.connect(path)
    connection.executescript((FROZEN / f"{kind.name}-v{version}.sql").read_text())
    connection.close()
    return path


def contents(path: Path) -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    """Columns and rows of every table."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        found = {}
        for table in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            rows = [row for row in cursor if (table, row[0]) != ("meta", "hub_id")]  # random
            found[table] = [one[0] for one in cursor.description], sorted(rows, key=repr)
        return found


def missing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is not there any more, column by column as it was, but for the sums over them all."""
    lost = []
    for table, found in before.items():
        there_columns, there = after.get(table, ([], []))
        columns, rows = _without_sums(*found)
        places = [there_columns.index(name) for name in columns if name in there_columns]
        if len(places) != len(columns):
            lost.append(f"{table} has lost columns")
            continue
        kept = sorted((tuple(row[place] for place in places) for row in there), key=repr)
        lost += [f"{table}: {row!r}"[:200] for row in rows if row not in kept]
        if table != "meta" and len(kept) != len(rows):
            lost.append(f"{table} has {len(kept)} rows and had {len(rows)}")
    return lost


def _without_sums(
    columns: list[str], rows: list[tuple[Any, ...]]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    places = [place for place, name in enumerate(columns) if name != "sum"]
    return [columns[one] for one in places], [tuple(row[one] for one in places) for row in rows]


def meant(before: dict[str, Any]) -> dict[str, Any]:
    """The same, by today's words: what has nothing open any more was `issued`, is `completed`."""
    if "delivery" not in before or "state" not in before["directive"][0]:
        return before
    columns, rows = before["directive"]
    delivery_columns, deliveries = before["delivery"]
    number, state = columns.index("no"), columns.index("state")
    directive_no, is_open = delivery_columns.index("directive_no"), delivery_columns.index("open")
    waited_for = {one[directive_no] for one in deliveries if one[is_open]}
    done = [
        (*row[:state], "completed", *row[state + 1 :])
        if row[state] == "issued" and row[number] not in waited_for
        else row
        for row in rows
    ]
    return before | {"directive": (columns, done)}


def opens(kind: Kind, version: int, folder: Path, row: Row) -> None:
    """Open it: all is there, nothing is damaged, and opening it again changes nothing."""
    path = thaw(kind, version, folder)
    before = contents(path)
    with kind.open(folder) as database:
        assert database.version == len(kind.migrations)
        database.check()
    after = contents(path)
    row.lost += [f"{kind.name} {version}: {one}" for one in missing(meant(before), after)]
    with kind.open(folder):
        pass
    if contents(path) != after:
        row.wrong.append(f"{kind.name} {version}: opened twice it is not the same")
    row.times += 1
    row.accepted += sum(len(rows) for _, rows in before.values())


def interrupted(kind: Kind, version: int, folder: Path, every: int, row: Row) -> None:
    """Die at each statement of the migration: what is there is the old, or the new."""
    path = thaw(kind, version, folder)
    with kind.open(folder):
        pass
    wanted = contents(path)
    statement = every
    while True:
        path = thaw(kind, version, folder)
        if not _dies_opening(kind, folder, statement):
            return
        row.times += 1
        statement += every
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
        if not version <= found <= len(kind.migrations):
            row.wrong.append(f"{kind.name} {version}: of version {found} at {statement}")
        with kind.open(folder) as database:
            database.check()
        if contents(path) != wanted:
            row.lost.append(f"{kind.name} {version}: interrupted at {statement} it is not the same")


def _dies_opening(kind: Kind, folder: Path, statement: int) -> bool:
    """Open it in a process that dies before this statement; False if there are not so many."""
    with warnings.catch_warnings():
        # Of other threads it says; the child only opens a database and dies.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        left = statement
        connect = kit.connect

        def counted(*where: Any, **more: Any) -> sqlite3.Connection:
            connection = connect(*where, **more)

            def count(_: str) -> None:
                nonlocal left
                left -= 1
                if not left:
                    os._exit(_DIED)

            connection.set_trace_callback(count)
            return connection

        try:
            with mock.patch.object(kit, "connect", counted), kind.open(folder):
                os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, _DIED}, f"{kind.name}: ended with {code}"
    return code == _DIED


def newer(kind: Kind, folder: Path, row: Row) -> None:
    """What a newer program wrote is refused by everything, with a hint, and stays as it is."""
    if kind.name == "ledger":
        _run(hq_main, "init", "--home", str(folder))
    else:
        folder.mkdir()
        (folder / "agent.toml").write_text('store = "S1"\ndevice = "till-1"\n')
    path = thaw(kind, len(kind.migrations), folder)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE of_the_future (no INTEGER)")
        connection.execute(f"PRAGMA user_version = {len(kind.migrations) + 1}")
        connection.commit()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    commands = {
        "ledger": (
            (hq_main, "status"),
            (hq_main, "hub"),
            (hq_main, "quarantine"),
            (hq_main, "publish", "t", "--all"),
            (hq_main, "backup", str(folder / "copy.db")),
            (hq_main, "verify"),
        ),
        "agent": (
            (agent_main, "inbox"),
            (agent_main, "status"),
            (agent_main, "retry"),
            (agent_main, "alert", "incident", "--what", "it"),
        ),
    }[kind.name]
    for main, *words in commands:
        code, said = _run(main, *words, "--home", str(folder))
        row.times += 1
        if not code or "version" not in said or "newer" not in said or "Traceback" in said:
            row.wrong.append(f"{kind.name}, a newer one: {words} gives {code}: {said[-300:]}")
    for older in range(1, len(kind.migrations)):
        path_of_now = thaw(kind, len(kind.migrations), folder / f"older{older}")
        stays = path_of_now.read_bytes()
        try:
            _open_as(kind, path_of_now, older).close()
        except DatabaseNewer as error:
            if not error.hint:
                row.wrong.append(f"{kind.name}: refused without a hint")
        else:
            row.wrong.append(f"{kind.name}: a program of version {older} opens one of now")
        if path_of_now.read_bytes() != stays:
            row.wrong.append(f"{kind.name}: a program of version {older} changes one of now")
        row.times += 1
        _upgraded_beside(kind, older, folder / f"beside{older}", row)
    if hashlib.sha256(path.read_bytes()).hexdigest() != before:
        row.wrong.append(f"{kind.name}: a newer one was changed")


def _upgraded_beside(kind: Kind, older: int, folder: Path, row: Row) -> None:
    """A daemon of before that still runs when the upgrade comes writes nothing any more."""
    path = thaw(kind, older, folder)
    with _open_as(kind, path, older) as running:
        with kind.open(folder):
            pass
        try:
            with running.write():
                row.wrong.append(f"{kind.name}: a program of version {older} writes on")
        except DatabaseNewer:
            pass
    row.times += 1


def _open_as(kind: Kind, path: Path, version: int) -> Database:
    """Open it as the program did that knew so many migrations."""
    return open_database(
        path,
        kind.migrations[:version],
        application_id=kind.application_id,
        what=kind.name,
        hint_create="none",
    )


def _run(main: Any, *words: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main.run(list(words))
    return code, said.getvalue()


# --- taken into use ------------------------------------------------------------------------------


class Pair:
    """A ledger and a device of one chain, both of before, under the present program."""

    def __init__(self, version: int, folder: Path) -> None:
        for kind in KINDS:
            thaw(kind, version, folder)
        self.story: dict[str, Any] = json.loads((FROZEN / f"story-v{version}.json").read_text())
        self.identity = Identity(*self.story["identity"])
        self.ledger = open_ledger(folder)
        self.device = open_agent_database(folder / agent_schema.FILE_NAME)
        self.timeline = Timeline(1)
        self.at: float = self.story["at"]
        self.now = 0.0
        key, trust = self._enrol()
        self.desk = hq.Desk(
            self.ledger,
            _TOPICS,
            keyring=self.keyring,
            draw=self.timeline.random.random,
            new_id=self.timeline.new_id,
            wall_clock=lambda: self.at + self.now,
            timing=head_office.TIMING,
        )
        self.core = agent.AgentCore(
            self.device,
            self.identity,
            _TOPICS,
            key=key,
            trust=trust,
            draw=self.timeline.random.random,
            new_id=self.timeline.new_id,
            wall_clock=lambda: self.at + self.now,
            timing=machine.TIMING,
        )
        self._to_hq: list[hq.Event] = [hq.Linked()]
        self._to_device: list[agent.Event] = [agent.Linked()]
        self._filters: set[str] = set()

    def _enrol(self) -> tuple[SigningKey, Trusted]:
        """The keys of before; where there were none yet, the device joins now."""
        if "key" in self.story:
            self.keyring = Keyring(
                SigningKey(bytes.fromhex(self.story["recovery"])).public.text,
                msgspec.convert(self.story["chain"], list[Announced]),
                [SigningKey(bytes.fromhex(seed)) for seed in self.story["hq"]],
            )
            key = SigningKey(bytes.fromhex(self.story["key"]))
            return key, msgspec.convert(self.story["trust"], Trusted)
        self.keyring = HqKeys(self.timeline, Seeds(1), under_way_seconds=1.0).keyring
        key = SigningKey(b"a till".ljust(32, b"."))
        with self.ledger.write() as connection:
            enrolment.activate(
                connection,
                self.identity,
                None,
                public=key.public,
                token_hash="0" * 64,
                at=self.at,
                new_id=self.timeline.new_id,
            )
        return key, self.keyring.trusted()

    def talk(self) -> None:
        """Let both speak for some virtual minutes."""
        for _ in range(_ROUNDS):
            self.now += 0.25
            to_hq, self._to_hq = self._to_hq, []
            for one in self.desk.handle(to_hq or [hq.Tick()], self.now):
                if one.topic in self._filters:
                    self._to_device.append(agent.Heard(one.topic, one.payload))
            to_device, self._to_device = self._to_device, []
            for out in self.core.handle(to_device or [agent.Rang()], self.now):
                if isinstance(out, agent.Subscribe):
                    self._filters = set(out.filters)
                else:
                    self._to_hq.append(hq.Heard(out.topic, out.payload))

    def close(self) -> None:
        """Both databases."""
        self.ledger.close()
        self.device.close()


def taken_into_use(version: int, folder: Path, row: Row) -> None:
    """Both sides speak: what was accepted before has its effect once."""
    pair = Pair(version, folder)
    try:
        unsent = sum(pair.core.outbox.pending(log) for log in ("act", "bulk"))
        if not unsent:
            row.wrong.append(f"version {version}: nothing waited for HQ")
        pair.talk()
        arrived = [id_.hex() for (id_,) in pair.ledger.connection.execute("SELECT id FROM arrival")]
        for one in pair.story["accepted"]:
            if one not in arrived:
                row.lost.append(f"version {version}: the entry {one[:6]}")
        row.twice += [f"version {version}: {id_}" for id_ in arrived if arrived.count(id_) > 1]
        here = {
            (directive, role): state
            for directive, role, state in pair.device.connection.execute(
                "SELECT directive, role, state FROM delivery"
            )
        }
        open_there = pair.ledger.connection.execute(
            "SELECT directive.id, role FROM delivery JOIN directive ON directive.no = directive_no"
            " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = mailbox.store_no"
            " JOIN device ON device.store_no = store.no AND device.name = ?"
            " WHERE store.id = ? AND open = 1 AND (role = 'any' OR EXISTS (SELECT 1 FROM"
            " json_each(coalesce(device.roles, store.roles)) WHERE value = role))",
            (pair.identity.device, pair.identity.store),
        ).fetchall()
        row.lost += [
            f"version {version}: work {work} is not here" for work in open_there if work not in here
        ]
        row.accepted += len(pair.story["accepted"]) + len(open_there)
        row.times += 1
        _goes_on(pair, version, row)
        for database, table in (
            (pair.ledger, "quarantine"),
            (pair.device, "aside"),
            (pair.device, "hook_failure"),
        ):
            (count,) = database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            if not count:
                row.lost.append(f"version {version}: {table} is empty")
    finally:
        pair.close()


def _goes_on(pair: Pair, version: int, row: Row) -> None:
    """Work of before the upgrade can be finished after it."""
    statements = Statements(
        pair.device, wall_clock=lambda: pair.at + pair.now, new_id=pair.timeline.new_id
    )
    items = [one for one in statements.inbox.items() if one.delivery.needs is Needs.DONE]
    items = [one for one in items if one.delivery.open]
    if not items:
        row.wrong.append(f"version {version}: no open work to go on with")
        return
    work = items[0].delivery
    if statements.done(work.directive, work.role).outcome is not Outcome.SAID:
        row.wrong.append(f"version {version}: work of before cannot be finished")
    pair.talk()
    (state,) = pair.ledger.connection.execute(
        "SELECT delivery.state FROM delivery JOIN directive ON directive.no = directive_no"
        " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = mailbox.store_no"
        " WHERE directive.id = ? AND store.id = ? AND role = ?",
        (work.directive, pair.identity.store, work.role),
    ).fetchone()
    if state != 5:  # done
        row.lost.append(f"version {version}: what was done after the upgrade")
