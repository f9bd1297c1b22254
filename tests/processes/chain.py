"""A small chain made of real processes: a broker, HQ's hub, and an agent in each store.

Owns starting, killing and restarting them, what their databases say at a moment, and a journal of
what they accepted. The journal is kept from what commands and calls returned, never from the
databases, so that it can be held against these.
"""

import contextlib
import json
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from buskit.doorbell import ring
from buswire.states import Needs
from hqconsole.audience import Selector, select
from hqconsole.commands.main import main as hq_main
from hqconsole.home import new_id
from hqconsole.ledger import directives, organisation
from hqconsole.ledger.deliveries import STATE_OF
from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.opening import open_ledger
from storeagent import Agent
from tests.agent.processes import BIN, BrokerProcess, environment, tool
from tests.helpers.waiting import TIME_SCALE, wait_until

QUICK_LINK = "\n[link]\nreconnect_most_seconds = 0.3\n"
QUICK_HQ = (
    QUICK_LINK
    + """
[timing]
heads_seconds = 0.5
nudge_seconds = 1
nudge_spacing_seconds = 0.2
sure_seconds = 2
"""
)
QUICK_DEVICE = (
    QUICK_LINK
    + """
[timing]
connect_jitter_seconds = 0.05
gap_jitter_seconds = 0.05
heads_jitter_seconds = 0.1
retry_first_seconds = 0.5
retry_most_seconds = 2
spacing_seconds = 0.05
beat_seconds = 5
unsure_first_seconds = 0.1
unsure_most_seconds = 1
ack_seconds = 1
"""
)
ROLE = "manager"
LOOKS_SECONDS = 1.5 * TIME_SCALE
"""The broker looks at its access file every half second."""
STATE_NAMES = [state.value for state in STATE_OF]


class Daemon:
    """One long-running program of ours, with what it said kept in a file."""

    def __init__(self, name: str, words: Sequence[str | Path], home: Path, log: Path) -> None:
        self.name = name
        self.home = home
        self._words = words
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.environment: dict[str, str] = {}
        """What else stands in its environment from its next start on."""

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """What it ended with; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def start(self) -> None:
        """Start it; returns at once."""
        assert self._process is None or self._process.poll() is not None
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [BIN / self._words[0], *self._words[1:]],
                env=environment(self.home, **self.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.starts += 1

    def freeze(self) -> None:
        """Stop it where it stands, so that a look at its database is a look at its last moment."""
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} has died: {self.said()[-2000:]}"
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it as a power cut would; also a frozen one."""
        assert self._process is not None
        self._process.kill()
        assert self._process.wait() == -signal.SIGKILL, f"{self.name}: {self.said()[-2000:]}"

    def terminate(self) -> None:
        """Ask it to end in good order; returns at once."""
        assert self._process is not None
        self._process.terminate()

    def stop(self) -> None:
        """End it in good order."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.terminate()
            self._process.wait(20 * TIME_SCALE)
        assert self._process.returncode == 0, f"{self.name}: {self.said()[-2000:]}"

    def thaw(self) -> None:
        """Let a frozen one go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Make sure that it is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def wait(self, seconds: float) -> int:
        """Wait for it to end by itself."""
        assert self._process is not None
        return self._process.wait(seconds * TIME_SCALE)

    def said(self) -> str:
        """All that it has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Bus(BrokerProcess):
    """The broker, which lets in whom HQ's access file names; it can be frozen before it dies."""

    name = "broker"

    def __init__(self, folder: Path, *words: str | Path) -> None:
        self._words = words
        self._ready = folder / "broker.json"
        self.log = folder / "broker.log"
        self.port = steady_port()
        self.start()

    def start(self) -> None:
        """Start it, and wait until clients can connect."""
        self._ready.unlink(missing_ok=True)
        command = [BIN / "storebus-broker", "--port", str(self.port), "--ready-file", self._ready]
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [*command, *self._words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                env=environment(self._ready.parent),
            )
        wait_until(
            lambda: self._ready.exists() or self._process.poll() is not None,
            seconds=40,
            what="the broker",
        )
        assert self._ready.exists(), f"broker: {self.said()[-2000:]}"

    def said(self) -> str:
        """All that it has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._process.pid

    def freeze(self) -> None:
        """Stop it where it stands."""
        assert self._process.poll() is None, "the broker has died"
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._process.send_signal(signal.SIGCONT)


class Till(Daemon):
    """The agent of one store."""

    def __init__(self, folder: Path, store: str, device: str, *, link: str = "") -> None:
        home = folder / f"{store}.{device}"
        super().__init__(f"{store}.{device}", ["storeagent", "run"], home, folder / f"{home}.log")
        self.store = store
        self.device = device
        self.link = link

    def join(self, bundle: Path) -> None:
        """Become the device that the bundle is for; anew if it is one already."""
        joined = tool("join", str(bundle), home=self.home)
        assert joined.returncode == 0, joined.stderr
        settings = self.home / "agent.toml"
        if "reconnect_most_seconds" not in settings.read_text():
            with settings.open("a") as file:
                file.write(QUICK_DEVICE.replace("[link]\n", f"[link]\n{self.link}"))

    def wipe(self) -> None:
        """Lose the disk; the program must not run."""
        shutil.rmtree(self.home)

    def program(self) -> Agent:
        """A program of the store's, beside the daemon or without it."""
        return Agent(self.home)

    def unacknowledged(self) -> int:
        """How many entries wait for HQ, read from the database as it is on the disk."""
        return sum(
            row[0]
            for log in ("act", "bulk")
            for row in rows(
                self.home / "agent.db",
                f"SELECT ifnull((SELECT max(position) FROM {log}), 0) - from_position"
                f" FROM acked WHERE log = '{log}'",
            )
        )

    def inbox(self) -> list[dict[str, Any]]:
        """All work that was ever here."""
        with self.program() as program:
            return program.inbox(everything=True)

    def arrivals(self) -> tuple[int, int]:
        """How many deliveries there are, and how often one arrived: more often means twice."""
        return rows(
            self.home / "agent.db", "SELECT count(*), ifnull(max(arrival), 0) FROM delivery"
        )[0]


@dataclass
class Journal:
    """What was accepted, as those were told who asked for it."""

    directives: dict[str, dict[tuple[str, str], str | None]] = field(default_factory=dict)
    """Per id: the mailboxes it is for, with the last that was said about it there."""
    said: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(store, kind, what distinguishes it) of alerts, replies and statements: each once."""
    reports: dict[str, int] = field(default_factory=dict)
    """Rows of each report, by its key."""
    withdrawn: set[str] = field(default_factory=set)
    """The directives of which staff say nothing more: a word too late would be no one's fault."""

    @property
    def accepted(self) -> int:
        """How many ids there are."""
        return len(self.directives) + self.said.total() + len(self.reports)


@dataclass(frozen=True)
class Account:
    """The journal held against the databases."""

    lost: list[str]
    twice: list[str]


class Chain:
    """The whole of it. A context manager: at its end nothing is left running, nothing crashed."""

    def __init__(
        self,
        folder: Path,
        stores: Sequence[str],
        *,
        tls: Literal["", "tls", "mutual"] = "",
        link: str = "",
        settings: str = "",
    ) -> None:
        """Name what it is made of; nothing runs yet.

        Args:
            folder: Where all of it lives.
            stores: Each has one device.
            tls: How its links are protected.
            link: More lines for the table [link] of everybody's settings.
            settings: What else HQ's settings say, its table [timing] first.
        """
        self.folder = folder
        self._tls = tls
        self._link = link
        self._settings = settings
        self.home = folder / "hq"
        self.environment: dict[str, str] = {}
        """What else stands in the environment of HQ's commands."""
        self.verifies = True
        """Whether `hq verify` must find nothing wrong at the end."""
        self.journal = Journal()
        self.stores = tuple(stores)
        self.bus: Bus | None = None  # type: ignore[assignment]
        self.hub = self.make_hub("hub", self.home)
        self.tills: dict[str, Till] = {}
        self.numbers = 0
        """Rises with whatever needs a name of its own."""

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self._end()
            self._print_logs()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
        daemons = [self.hub, *self.tills.values()]
        self._print_logs()
        if error is None and self.verifies:
            self.hq("verify")
        for daemon in daemons if error is None else []:
            assert "Traceback" not in daemon.said(), f"{daemon.name}: {daemon.said()[-4000:]}"

    def _print_logs(self) -> None:
        """Say what the daemons said; pytest shows it with a test that fails."""
        for daemon in (self.hub, *self.tills.values()):
            print(f"--- {daemon.name}\n{daemon.said()[-1500:]}")

    def _set_up(self) -> None:
        self.hq_here("init")
        words: list[str | Path] = ["--access", self.home / "access.json"]
        if self._tls:
            self.hq_here("tls", "init", *(["--mutual"] if self._tls == "mutual" else []))
            files = self.home / "tls"
            words += ["--tls-cert", files / "broker.pem", "--tls-key", files / "broker.key"]
        if self._tls == "mutual":
            words += ["--tls-client-ca", files / "ca.pem"]
        self.bus = Bus(self.folder, *words)
        self.hq_here("init", "--broker", self.broker_url)
        with (self.home / "hq.toml").open("a") as file:
            file.write(QUICK_HQ.replace("[link]\n", f"[link]\n{self._link}") + self._settings)
        self.import_roster()
        self.hub.start()
        bundles = self.folder / "bundles"
        self.hq_here("device", "add", "--all", "till-1", "--roles", ROLE, "--into", str(bundles))
        self.tills = {
            till.name: till
            for till in (Till(self.folder, s, "till-1", link=self._link) for s in self.stores)
        }
        # A joining that is refused because the broker has not heard of it waits before it tries on.
        self.wait_access(lambda access: len(access.get("joins", ())) == len(self.tills))
        with ThreadPoolExecutor() as pool:
            joins = [
                pool.submit(till.join, bundles / f"{till.name}.bundle")
                for till in self.tills.values()
            ]
            for one in joins:
                one.result()
        for till in self.tills.values():
            till.start()
        self.wait_online()

    def import_roster(self, **regions: str) -> None:
        """Make the roster that of these stores, each in its region or in the one given."""
        lines = [
            f"{store},Store {store},{regions.get(store, self.region(store))},UTC,{ROLE};clerk"
            for store in self.stores
        ]
        roster = self.folder / "stores.csv"
        roster.write_text("\n".join(["store_id,name,region,timezone,roles", *lines]) + "\n")
        self.hq_here("roster", "import", str(roster))

    def hq_here(self, *words: str) -> None:
        """Run `hq` in this process, which is quicker than one of its own."""
        assert hq_main.run([*words, "--home", str(self.home)]) == 0

    @property
    def broker_url(self) -> str:
        """Where the broker is."""
        return f"{'mqtts' if self._tls else 'mqtt'}://127.0.0.1:{self.bus.port}"

    def bundle(self, name: str, *words: str) -> Path:
        """A new join bundle for a device, `STORE.DEVICE`; one that is in keeps its key until then.

        Args:
            name: The device.
            words: For `hq device add`, where HQ does not know it.
        """
        self.numbers += 1
        path = self.folder / f"{name}.{self.numbers}.bundle"
        verb = ("add", *name.split("."), *words) if words else ("rotate", name)
        self.hq("device", *verb, "--output", str(path))
        return path

    def add_till(self, store: str, device: str, role: str = ROLE) -> Till:
        """Let one more device in; it is not started."""
        till = Till(self.folder, store, device, link=self._link)
        till.join(self.bundle(till.name, "--roles", role))
        self.tills[till.name] = till
        return till

    def till(self, store: str) -> Till:
        """The first device of a store."""
        return self.tills[f"{store}.till-1"]

    def region(self, store: str) -> str:
        """Stores are in the east and the west by turns."""
        return ("east", "west")[self.stores.index(store) % 2]

    def make_hub(self, name: str, home: Path) -> Daemon:
        """A hub of any home, not started."""
        return Daemon(name, ["hq", "hub", "--home", home], home, self.folder / f"{name}.log")

    def end(self) -> None:
        """Make sure that nothing of it runs; from any thread."""
        self._end()

    def _end(self) -> None:
        for daemon in (*self.tills.values(), self.hub):
            daemon.end()
        if self.bus is not None:
            with contextlib.suppress(ProcessLookupError):
                self.bus.kill()

    # --- HQ --------------------------------------------------------------------------------------

    def hq(self, *words: str, code: int = 0, home: Path | None = None) -> str:
        """Run `hq` to its end; what it wrote, or what it complained of if it was to fail."""
        found = self.hq_process(*words, home=home)
        assert found.returncode == code, (found.returncode, found.stdout, found.stderr)
        return found.stdout if code == 0 else found.stderr

    def hq_process(self, *words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `hq` to its end."""
        return subprocess.run(
            [BIN / "hq", *words, "--home", home or self.home],
            check=False,
            capture_output=True,
            text=True,
            env=environment(self.home, **self.environment),
            timeout=30 * TIME_SCALE,
        )

    def hq_json(self, *words: str) -> Any:
        """What a reader shows for programs."""
        return json.loads(self.hq(*words, "--json"))

    def publish(self, *stores: str, role: str = "any", title: str = "", body: str = "") -> str:
        """Issue a directive with the command, to these stores or to all; the id it printed."""
        self.numbers += 1
        places = [word for store in stores for word in ("--store", store)] or ["--all"]
        if role != "any":
            places += ["--role", role]
        title = title or f"work {self.numbers}"
        issued = self.hq_json("publish", title, "--body", body, *places, "--kind", "task")
        self.note_directive(issued["id"], stores, role)
        return str(issued["id"])

    def issue(self, *stores: str, role: str = "any", lasts_seconds: float | None = None) -> str:
        """The same through the ledger's functions, which is quicker than a process.

        One that lasts for a while only is to expire unanswered.
        """
        self.numbers += 1
        roles = () if role == "any" else (role,)
        expires_at = None if lasts_seconds is None else time.time() + lasts_seconds
        with open_ledger(self.home) as ledger, ledger.write() as connection:
            there = organisation.organisation(connection)
            selector = Selector(stores=stores, roles=roles, everyone=not stores)
            issued = directives.issue(
                connection,
                directives.Draft(
                    title=f"work {self.numbers}", needs=Needs.DONE, expires_at=expires_at
                ),
                select(selector, there),
                there,
                at=time.time(),
                new_id=new_id,
            )
        ring(self.home)
        self.note_directive(issued.id, stores, role)
        if expires_at is not None:
            self.journal.withdrawn.add(issued.id)
            for mailbox in self.journal.directives[issued.id]:
                self.journal.directives[issued.id][mailbox] = "expired"
        return issued.id

    def note_directive(self, directive: str, stores: Sequence[str], role: str) -> None:
        """Note in the journal that a directive was accepted, for these stores or for all."""
        self.journal.directives[directive] = {
            (store, role): None for store in stores or self.stores
        }

    def cancel(self, directive: str) -> None:
        """Withdraw a directive."""
        self.hq("cancel", directive)
        self.note_cancel(directive)

    def note_cancel(self, directive: str) -> None:
        """Note in the journal that a directive is withdrawn."""
        self.journal.withdrawn.add(directive)
        for mailbox, said in self.journal.directives[directive].items():
            if said != "done":
                self.journal.directives[directive][mailbox] = "cancelled"

    # --- stores ----------------------------------------------------------------------------------

    def alert(self, till: Till) -> str:
        """Raise an alert in a store; its number, by which it is found again."""
        self.numbers += 1
        number = f"number {self.numbers}"
        with till.program() as program:
            recorded = program.alert("incident", what=number)
        assert recorded.new
        self.journal.said[till.store, "alert", number] += 1
        return number

    def report(self, till: Till, figures: int) -> str:
        """Send a report with so many rows; its key."""
        self.numbers += 1
        table = [{"sku": f"{self.numbers}.{row}", "sold": row} for row in range(figures)]
        with till.program() as program:
            recorded = program.report("daily-sales", table)
        assert recorded.new
        self.journal.reports[recorded.id] = figures
        return recorded.id

    def reply(self, till: Till, item: dict[str, Any]) -> None:
        """Answer in a directive's thread."""
        self.numbers += 1
        text = f"answer {self.numbers}"
        with till.program() as program:
            program.reply(item["number"], text)
        self.journal.said[till.store, "reply", text] += 1

    def say(self, till: Till, item: dict[str, Any], state: str) -> None:
        """Say that work is read or done."""
        directive, role = item["directive"], item["role"]
        with till.program() as program:
            said = (program.read if state == "read" else program.done)(item["number"])
        if said.outcome.value == "said":
            self.journal.said[till.store, state, f"{directive}/{role}"] += 1
            self.journal.directives[directive][till.store, role] = state

    # --- what the databases say ------------------------------------------------------------------

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the ledger, beside whoever works on it."""
        return rows(self.home / "ledger.db", query, *values)

    def undelivered(self, store: str | None = None) -> int:
        """Deliveries of which HQ does not know that they are there."""
        return int(
            self.rows(
                "SELECT count(*) FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
                " JOIN store ON store.no = store_no"
                " WHERE state = 0 AND open = 1 AND (?1 IS NULL OR store.id = ?1)",
                store,
            )[0][0]
        )

    def states(self, directive: str) -> dict[tuple[str, str], str]:
        """Where each mailbox of a directive is; empty when HQ does not know it."""
        return {
            (store, role): STATE_NAMES[state]
            for store, role, state in self.rows(
                "SELECT store.id, role, delivery.state FROM delivery"
                " JOIN directive ON directive.no = directive_no"
                " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
                " WHERE directive.id = ?",
                directive,
            )
        }

    def _states_of_all(self) -> dict[str, dict[tuple[str, str], str]]:
        """The same of every directive in one look."""
        found: dict[str, dict[tuple[str, str], str]] = {}
        for directive, store, role, state in self.rows(
            "SELECT directive.id, store.id, role, delivery.state FROM delivery"
            " JOIN directive ON directive.no = directive_no"
            " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
        ):
            found.setdefault(directive, {})[store, role] = STATE_NAMES[state]
        return found

    def arrived(self) -> Counter[tuple[str, str, str]]:
        """What HQ has of stores, as the journal names it."""
        found: Counter[tuple[str, str, str]] = Counter()
        for store, kind, data in self.rows(
            f"SELECT store.id, kind, {DATA} FROM arrival JOIN device ON device.no = device_no"
            " JOIN store ON store.no = store_no WHERE kind IN ('alert', 'reply', 'receipt')"
        ):
            said = json.loads(data)
            match kind:
                case "alert":
                    found[store, kind, str(said["fields"].get("what"))] += 1
                case "reply":
                    found[store, kind, said["text"]] += 1
                case "receipt" if said["state"] != "delivered":
                    found[store, said["state"], f"{said['directive']}/{said['role']}"] += 1
        return found

    def incidents(self, kind: str) -> list[dict[str, Any]]:
        """What `hq incidents` shows of a kind."""
        return list(self.hq_json("incidents", "--kind", kind))

    def has_arrived(self, store: str, number: str) -> bool:
        """Whether an alert is in the ledger."""
        return bool(
            self.rows(
                "SELECT 1 FROM arrival JOIN device ON device.no = device_no"
                " JOIN store ON store.no = store_no"
                f" WHERE kind = 'alert' AND store.id = ? AND instr({DATA}, ?)",
                store,
                json.dumps(number).encode(),
            )
        )

    # --- waiting ---------------------------------------------------------------------------------

    def wait_access(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the access file says so; the broker takes it within half a second more."""
        path = self.home / "access.json"
        wait_until(
            lambda: path.exists() and condition(json.loads(path.read_bytes())),
            seconds=20,
            what="the access file",
        )

    def wait_access_taken(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the access file says so, and the broker has had time for some looks at it."""
        path = self.home / "access.json"
        self.wait_access(condition)
        wait_until(
            lambda: time.time() - path.stat().st_mtime > LOOKS_SECONDS,
            seconds=20,
            what="the broker to have looked at the access file",
        )

    def wait_online(self) -> None:
        """Wait until every device is there."""
        daemons = (self.hub, *self.tills.values())
        wait_until(
            lambda: (
                any(daemon.returncode is not None for daemon in daemons)
                or self._online() == len(self.tills)
            ),
            seconds=20,
            what="all devices to be there",
        )
        assert self._online() == len(self.tills), "a daemon has died"

    def _online(self) -> int:
        return int(self.rows("SELECT count(*) FROM device WHERE online = 1")[0][0])

    def wait_arrived(self, store: str, number: str, *, seconds: float = 20) -> None:
        """Wait until an alert is in the ledger."""
        wait_until(
            lambda: self.has_arrived(store, number),
            seconds=seconds,
            what=f"the alert {number!r} of {store}",
        )

    def wait_state(self, directive: str, state: str, *, seconds: float = 20) -> None:
        """Wait until every mailbox of a directive is in a state."""
        wait_until(
            lambda: set(self.states(directive).values()) == {state},
            seconds=seconds,
            what=f"directive {directive[:8]} to be {state} everywhere",
        )

    def wait_settled(self, *, seconds: float = 40) -> None:
        """Wait until nothing is on its way and HQ has what was accepted; `account` judges it."""
        wait_until(
            lambda: (
                not self.undelivered()
                and not any(till.unacknowledged() for till in self.tills.values())
                and not self.account().lost
            ),
            seconds=seconds,
            what="all to arrive",
            poll_seconds=0.1,
        )

    # --- the judgement ---------------------------------------------------------------------------

    def account(self) -> Account:
        """Hold the journal against the databases."""
        lost: list[str] = []
        twice: list[str] = []
        arrived = self.arrived()
        for one in self.journal.said.keys() | arrived.keys():
            difference = arrived[one] - self.journal.said[one]
            (twice if difference > 0 else lost).extend([str(one)] * abs(difference))
        reports = {
            key: (count, complete_at is not None)
            for key, count, complete_at in self.rows("SELECT key, rows, complete_at FROM report")
        }
        for key, count in self.journal.reports.items():
            there, complete = reports.get(key, (0, False))
            if there < count or not complete:
                lost.append(f"report {key}")
            elif there > count:
                twice.append(f"report {key}")
        everywhere = self._states_of_all()
        for directive, mailboxes in self.journal.directives.items():
            states = everywhere.get(directive, {})
            if states.keys() != mailboxes.keys():
                lost.append(f"directive {directive}")
            for mailbox, said in mailboxes.items():
                if states.get(mailbox) != (said or "delivered"):
                    lost.append(f"directive {directive} at {mailbox}: {states.get(mailbox)}")
        if len(self.rows("SELECT id FROM directive")) > len(self.journal.directives):
            twice.append("directives that nobody issued")
        for till in self.tills.values():
            here = Counter((item["directive"], item["role"]) for item in till.inbox())
            wanted = Counter(
                (directive, role)
                for directive, mailboxes in self.journal.directives.items()
                for store, role in mailboxes
                if store == till.store
            )
            lost.extend(f"{work} at {till.name}" for work in wanted - here)
            twice.extend(f"{work} at {till.name}" for work in here - wanted)
            deliveries, arrivals = till.arrivals()
            twice.extend([f"an arrival at {till.name}"] * (arrivals - deliveries))
        return Account(lost, twice)


def steady_port() -> int:
    """A free port that stays ours while nobody listens on it.

    The system gives ports above these to clients: to ours too, which try to connect to a broker
    that is down, and would keep it from coming back.
    """
    for port in random.sample(range(15_000, 32_000), 1000):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                attempt.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no port is free")


def rows(path: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a database and let go of it, so that its owner dies and comes back without our help.

    Its owner may have been stopped just while it puts its write-ahead log in order: then SQLite
    gives up, whatever the timeout, and the answer is there when the owner goes on.
    """
    deadline = time.monotonic() + 90 * TIME_SCALE
    while True:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_PROTOCOL or time.monotonic() > deadline:
                raise


@contextlib.contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Run a daemon for the length of a block."""
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.end()
