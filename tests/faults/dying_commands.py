"""Commands that are killed half-way: how each is run, and what must hold after it died.

A command that was killed has not said that it accepted anything, so what it was to do may be done
or not; but never by half, and the next command works. Where a command has a key of the caller's
own (an alert's `--id`), saying it again makes it exactly once.
"""

import json
import sqlite3
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from buswire.joining import decode_bundle
from hqconsole.ledger import schema
from storeagent import database
from tests.agent.processes import BIN, environment
from tests.helpers.waiting import TIME_SCALE
from tests.processes.chain import ROLE, Chain, Till, rows

Killer = Callable[["subprocess.Popen[str]"], None]
"""Given a running command, ends it or does not."""


class Half(AssertionError):  # noqa: N818 - it names what was found
    """Something was left half done, or the next command does not work."""


@dataclass
class Dying:
    """One command, made ready to be run and to die.

    Attributes:
        name: Which.
        words: The program and what it is told.
        home: The device's home, for its environment.
        accepted: Takes what it wrote once it has ended well, and notes it in the journal.
        died: Looks at what it left; raises `Half`.
        again: What is run next and must end well; the same command if None.
    """

    name: str
    words: Sequence[str | Path]
    home: Path
    accepted: Callable[[str], None] = lambda _: None
    died: Callable[[], None] = lambda: None
    again: Sequence[str | Path] | None = None

    def run(self, kill: Killer | None = None, more: Mapping[str, str] | None = None) -> bool:
        """Run it; if it dies, look, and run the next one. Whether it died.

        Raises:
            Half: It left something half done, or failed, or the next one did.
        """
        code, wrote, said = self._run(self.words, kill, more or {})
        if code == 0:
            self.accepted(wrote)
            return False
        if code != -9:
            raise Half(f"{self.name} ended with {code}: {said[-1000:]}")
        self.died()
        code, wrote, said = self._run(self.again or self.words, None, {})
        if code != 0:
            raise Half(f"after {self.name} had died, the next one ended with {code}: {said}")
        if self.again is None:
            self.accepted(wrote)
        return True

    def _run(
        self, words: Sequence[str | Path], kill: Killer | None, more: Mapping[str, str]
    ) -> tuple[int, str, str]:
        process = subprocess.Popen(
            [BIN / words[0], *words[1:]],
            env=environment(self.home, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            if kill is not None:
                kill(process)
            wrote, said = process.communicate(timeout=60 * TIME_SCALE)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        return process.returncode, wrote, said


def whole(path: Path) -> None:
    """See that a database file is whole; its owner may be at work on it."""
    if rows(path, "PRAGMA integrity_check") != [("ok",)]:
        raise Half(f"{path.name} is damaged")


# --- HQ's commands -------------------------------------------------------------------------------


def _hq(chain: Chain, *words: str | Path) -> list[str | Path]:
    return ["hq", *words, "--home", chain.home]


def publish(chain: Chain) -> Dying:
    """Work for all stores: there with all its deliveries and its line in the audit, or not."""
    chain.numbers += 1
    title = f"work {chain.numbers}"

    def died() -> None:
        whole(chain.home / "ledger.db")
        found = chain.rows("SELECT id FROM directive WHERE title = ?", title)
        audited = chain.rows("SELECT detail FROM audit WHERE instr(detail, ?)", f'"{title}"')
        if len(found) > 1 or len(found) != len(audited):
            raise Half(f"{len(found)} directives {title!r}, {len(audited)} lines of the audit")
        for (directive,) in found:
            if set(chain.states(directive)) != {(store, "any") for store in chain.stores}:
                raise Half(f"{title!r} has {chain.states(directive)}")
            chain.note_directive(directive, (), "any")

    return Dying(
        "publish",
        _hq(chain, "publish", title, "--all", "--kind", "task", "--json"),
        chain.home,
        lambda wrote: chain.note_directive(json.loads(wrote)["id"], (), "any"),
        died,
        _hq(chain, "status"),
    )


def cancel(chain: Chain, directive: str) -> Dying:
    """A withdrawal of what nobody has answered yet: everywhere, or nowhere."""
    chain.journal.withdrawn.add(directive)

    def died() -> None:
        whole(chain.home / "ledger.db")
        states = set(chain.states(directive).values())
        if "cancelled" in states:
            if len(states) > 1:
                raise Half(f"withdrawn from some only: {states}")
            chain.note_cancel(directive)
            dying.again = _hq(chain, "status")

    dying = Dying(
        "cancel",
        _hq(chain, "cancel", directive),
        chain.home,
        lambda _: chain.note_cancel(directive),
        died,
    )
    return dying


def roster_import(chain: Chain) -> Dying:
    """Other names for all stores: all of them or none."""
    chain.numbers += 1
    name = f"Name {chain.numbers}"
    lines = [f"{store},{name},{chain.region(store)},UTC,{ROLE};clerk" for store in chain.stores]
    file = chain.folder / f"stores.{chain.numbers}.csv"
    file.write_text("\n".join(["store_id,name,region,timezone,roles", *lines]) + "\n")

    def look(*, done: bool) -> None:
        whole(chain.home / "ledger.db")
        named = chain.rows("SELECT count(*) FROM store WHERE name = ?", name)[0][0]
        if named != len(chain.stores) and (done or named):
            raise Half(f"{named} of {len(chain.stores)} stores are as in the list")

    return Dying(
        "roster import",
        _hq(chain, "roster", "import", file),
        chain.home,
        lambda _: look(done=True),
        lambda: look(done=False),
    )


def device_add(chain: Chain) -> Dying:
    """A bundle for a new device in every store; all of them are there after the next try."""
    chain.numbers += 1
    device = f"x{chain.numbers}"
    folder = chain.folder / f"bundles.{chain.numbers}"

    def look(*, done: bool) -> None:
        whole(chain.home / "ledger.db")
        found = [path for path in folder.glob("*") if not path.name.endswith(".unfinished")]
        bundles = {decode_bundle(path.read_bytes()).store for path in found}
        if done and bundles != set(chain.stores):
            raise Half(f"bundles for {bundles} only")

    return Dying(
        "device add",
        _hq(chain, "device", "add", "--all", device, "--roles", "clerk", "--into", folder),
        chain.home,
        lambda _: look(done=True),
        lambda: look(done=False),
    )


def key_rotate(chain: Chain) -> Dying:
    """One more key, or none; what signs is there."""
    before = _keys(chain)

    def look() -> None:
        if not before <= _keys(chain) <= before + 1:
            raise Half(f"{before} keys became {_keys(chain)}")

    return Dying(
        "key rotate",
        _hq(chain, "key", "rotate", "--overlap", "0s"),
        chain.home,
        died=look,
    )


def key_recover(chain: Chain) -> Dying:
    """A new beginning for HQ's keys, by the recovery key."""
    dying = key_rotate(chain)
    dying.name = "key recover"
    recovery = chain.home / "keys" / "recovery.key"
    dying.words = _hq(chain, "key", "recover", "--recovery-key", recovery)
    return dying


def _keys(chain: Chain) -> int:
    return len(json.loads((chain.home / "keys" / "chain.json").read_bytes())["keys"])


def backup(chain: Chain) -> Dying:
    """A copy that is whole, or none."""
    chain.numbers += 1
    copy = chain.folder / f"copy.{chain.numbers}.db"

    def died() -> None:
        whole(chain.home / "ledger.db")
        if copy.exists():
            whole(copy)

    return Dying("backup", _hq(chain, "backup", copy), chain.home, lambda _: whole(copy), died)


def restore(chain: Chain, copy: Path) -> Dying:
    """A ledger under its name at every moment, that of before or the copy; the hub is stopped."""

    def died() -> None:
        whole(chain.home / "ledger.db")
        if chain.rows("SELECT count(*) FROM store")[0][0] != len(chain.stores):
            raise Half("the ledger has lost its stores")

    return Dying(
        "restore", _hq(chain, "restore", copy, "--yes"), chain.home, lambda _: died(), died
    )


def init(chain: Chain) -> Dying:
    """Another head office from nothing."""
    chain.numbers += 1
    home = chain.folder / f"office.{chain.numbers}"

    def look(_: str = "") -> None:
        whole(home / "ledger.db")
        done = subprocess.run(
            [BIN / "hq", "key", "list", "--json", "--home", home],
            check=False,
            capture_output=True,
            env=environment(home),
        )
        if done.returncode or len(json.loads(done.stdout)["keys"]) != 1:
            raise Half(f"hq key list: {done.stderr.decode()[-500:]}")

    return Dying("init", ["hq", "init", "--home", home], home, look)


def tls_init(chain: Chain) -> Dying:
    """A CA and a certificate, in a home of their own."""
    chain.numbers += 1
    home = chain.folder / f"tls.{chain.numbers}"
    made = subprocess.run(
        [BIN / "hq", "init", "--home", home],
        check=False,
        capture_output=True,
        env=environment(home),
    )
    assert made.returncode == 0, made.stderr
    return Dying("tls init", ["hq", "tls", "init", "--home", home], home)


def old_ledger(chain: Chain) -> Dying:
    """A reader that brings a ledger of an earlier version up to date first."""
    chain.numbers += 1
    home = chain.folder / f"old.{chain.numbers}"
    made = subprocess.run(
        [BIN / "hq", "init", "--home", home],
        check=False,
        capture_output=True,
        env=environment(home),
    )
    assert made.returncode == 0, made.stderr
    _as_of_version_one(home / "ledger.db", schema.MIGRATIONS[0].step, schema.APPLICATION_ID)
    return Dying(
        "migration of the ledger",
        ["hq", "incidents", "--home", home],
        home,
        lambda _: _version_is(home / "ledger.db", len(schema.MIGRATIONS)),
        lambda: whole(home / "ledger.db"),
    )


# --- a device's commands -------------------------------------------------------------------------


def old_device(chain: Chain) -> Dying:
    """The same for a device's file."""
    chain.numbers += 1
    home = chain.folder / f"old.{chain.numbers}"
    made = subprocess.run(
        [BIN / "storeagent", "init", "--store", "S001", "--device", "old", "--home", home],
        check=False,
        capture_output=True,
        env=environment(home),
    )
    assert made.returncode == 0, made.stderr
    _as_of_version_one(home / "agent.db", database.MIGRATIONS[0].step, database.APPLICATION_ID)
    return Dying(
        "migration of a device",
        ["storeagent", "inbox", "--home", home],
        home,
        lambda _: _version_is(home / "agent.db", len(database.MIGRATIONS)),
        lambda: whole(home / "agent.db"),
    )


def _as_of_version_one(path: Path, step: object, application_id: int) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(str(step))
        connection.execute(f"PRAGMA application_id = {application_id}")
        connection.execute("PRAGMA user_version = 1")


def _version_is(path: Path, version: int) -> None:
    if rows(path, "PRAGMA user_version") != [(version,)]:
        raise Half(f"{path.name} is of version {rows(path, 'PRAGMA user_version')}")


def join(chain: Chain) -> Dying:
    """A device becomes one; said again with the same bundle it goes on."""
    store = chain.stores[chain.numbers % len(chain.stores)]
    chain.numbers += 1
    name = f"{store}.j{chain.numbers}"
    bundle = chain.bundle(name, "--roles", "clerk")
    home = chain.folder / name

    def accepted(_: str) -> None:
        if not (home / "device.key").exists() or list(home.glob("join*")):
            raise Half(f"{name}: {sorted(path.name for path in home.iterdir())}")
        whole(home / "agent.db")

    return Dying("join", ["storeagent", "join", bundle], home, accepted)


def alert(chain: Chain, till: Till) -> Dying:
    """An alert with a key of its own: once, however often it is said."""
    chain.numbers += 1
    number = f"number {chain.numbers}"

    def accepted(_: str) -> None:
        chain.journal.said[till.store, "alert", number] += 1

    words = ["storeagent", "alert", "incident", "--what", number, "--id", number]
    return Dying("alert", words, till.home, accepted, lambda: whole(till.home / "agent.db"))


def report(chain: Chain, till: Till) -> Dying:
    """A report that takes several parts: all of it, once."""
    chain.numbers += 1
    key, figures = f"report {chain.numbers}", 3000
    file = till.home.with_name(f"figures.{chain.numbers}.csv")
    file.write_text("sku,sold\n" + "".join(f"{key}.{row},{row}\n" for row in range(figures)))

    def accepted(_: str) -> None:
        file.unlink()
        chain.journal.reports[key] = figures

    words = ["storeagent", "report", "daily-sales", file, "--id", key]
    return Dying("report", words, till.home, accepted, lambda: whole(till.home / "agent.db"))


def done(chain: Chain, till: Till, directive: str, role: str) -> Dying:
    """Work is done: said once, however often it is said."""

    def accepted(_: str) -> None:
        chain.journal.said[till.store, "done", f"{directive}/{role}"] += 1
        chain.journal.directives[directive][till.store, role] = "done"

    return Dying(
        "done",
        ["storeagent", "done", directive],
        till.home,
        accepted,
        lambda: whole(till.home / "agent.db"),
    )
