"""Real processes for the acceptance tests: a broker, agents, and a scripted head office."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from buskit.link import (
    Connected,
    Link,
    LinkEvent,
    LinkSettings,
    Publication,
    Received,
    Subscribed,
)
from buswire.topics import Channel
from storeagent.core import Heard
from storeagent.keys import DeviceKey, seed_text, write_key
from storeagent.main import main
from tests.agent.enrolment import Enrolment
from tests.agent.head_office import DEVICE_KEY, ME, TOKEN, TOPICS, HeadOffice
from tests.helpers.waiting import TIME_SCALE, wait_until

BIN = Path(sys.executable).parent
QUICK_TOML = """
[timing]
connect_jitter_seconds = 0.05
gap_jitter_seconds = 0.05
heads_jitter_seconds = 0.05
retry_first_seconds = 0.5
retry_most_seconds = 2
spacing_seconds = 0.05
unsure_first_seconds = 0.2
ack_seconds = 2
"""


def tool(*words: str, home: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `storeagent` to its end."""
    return subprocess.run(
        [BIN / "storeagent", *words],
        check=False,
        capture_output=True,
        text=True,
        env=environment(home),
        timeout=30 * TIME_SCALE,
        **more,
    )


def environment(home: Path, **more: str) -> dict[str, str]:
    """A clean environment with this home."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("STOREBUS_")}
    # Compiling all modules again for each process would take most of the tests' time.
    plain.pop("PYTHONDONTWRITEBYTECODE", None)
    plain.setdefault("PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir()) / "storebus-pycache"))
    return {**plain, "STOREBUS_AGENT_HOME": str(home), **more}


def set_up(home: Path, port: int, *more: str, quick: bool = True) -> None:
    """Make the home of a device that has joined."""
    code = main.run(
        [
            "init",
            *("--store", "S017", "--device", "till-1", "--role", "manager"),
            *("--broker", f"mqtt://127.0.0.1:{port}", "--home", str(home)),
            *more,
        ]
    )
    assert code == 0
    write_key(
        home,
        DeviceKey(
            store=ME.store,
            device=ME.device,
            root=TOPICS.root,
            seed=seed_text(DEVICE_KEY.seed),
            token=TOKEN,
            trust=HeadOffice().trust,
        ),
    )
    if quick:
        with (home / "agent.toml").open("a") as file:
            file.write(QUICK_TOML)


class AgentProcess:
    """A running daemon."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [BIN / "storeagent", "run"],
            env=environment(home),
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """End it in good order, and give what it said."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=20 * TIME_SCALE)
        assert self.process.returncode == 0, said
        return said


@contextlib.contextmanager
def running_agent(home: Path) -> Iterator[AgentProcess]:
    """Run a daemon for the length of a block."""
    agent = AgentProcess(home)
    try:
        yield agent
    finally:
        if agent.process.poll() is None:
            agent.kill()
        elif agent.process.stderr is not None and not agent.process.stderr.closed:
            agent.process.communicate()


class BrokerProcess:
    """The embedded broker as a process, on a port that stays when it is started again."""

    def __init__(self, folder: Path) -> None:
        self._ready = folder / "broker.json"
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until clients can connect."""
        self._ready.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                BIN / "storebus-broker",
                *("--port", str(self.port), "--ready-file", str(self._ready)),
            ],
            stdout=subprocess.DEVNULL,
            env=environment(self._ready.parent),
        )
        wait_until(self._ready.exists, seconds=20, what="the broker")
        self.port = json.loads(self._ready.read_text())["port"]

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20 * TIME_SCALE)


class LiveHeadOffice:
    """The scripted head office behind a real link."""

    def __init__(self, port: int) -> None:
        self.script = HeadOffice()
        self.script.keeps_deliveries = True
        self.enrolment = Enrolment(self.script)
        self.guard = threading.Lock()
        self.ready = threading.Event()
        self._link = Link(
            LinkSettings(
                addresses=(f"mqtt://127.0.0.1:{port}",),
                client_id="hub",
                backoff_first_seconds=0.05,
                backoff_most_seconds=0.3,
            ),
            deliver=self._deliver,
            random=random.Random(1),
        )
        self._link.start()

    def stop(self) -> None:
        """Leave."""
        self._link.stop()

    def issue(self, channel: Channel, number: int, **changes: object) -> None:
        """Issue a directive and publish it, if there is a connection."""
        with self.guard:
            heard = self.script.issue(channel, number, **changes)
            self._send(heard)

    def say(self, heard: Heard) -> None:
        """Publish any message."""
        self._send(heard)

    def said(self, kind: str) -> list[dict[str, Any]]:
        """The data of all records of a kind that arrived."""
        with self.guard:
            return self.script.said(kind)

    @property
    def byes(self) -> int:
        """How many farewells arrived."""
        with self.guard:
            return len(self.script.byes)

    def _deliver(self, event: LinkEvent) -> None:
        match event:
            case Connected():
                topics = self.script.topics
                self._link.subscribe([(topics.every_from, 1), (topics.every_join, 1)])
            case Subscribed():
                self.ready.set()
                with self.guard:
                    self._send(self.script.up(), retain=True)
            case Received(topic, payload):
                with self.guard:
                    if self.script.topics.parse(topic).kind == "join":
                        answers = self.enrolment.take(topic, payload)
                    else:
                        answers = self.script.take(topic, payload)
                for answer in answers:
                    self._send(answer)

    def _send(self, heard: Heard, *, retain: bool = False) -> None:
        self._link.publish(Publication(heard.topic, heard.payload, 1, retain))


def status(home: Path) -> Mapping[str, Any]:
    """What `storeagent status --json` says."""
    found = tool("status", "--json", home=home)
    assert found.returncode == 0, found.stderr
    read: Mapping[str, Any] = json.loads(found.stdout)
    return read
