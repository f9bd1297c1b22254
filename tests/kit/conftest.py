"""A real broker for the folder, and links that are always stopped."""

import json
import queue
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from buskit.link import Link, LinkEvent, LinkLoop, LinkSettings
from tests.helpers.waiting import TIME_SCALE, wait_until

E = TypeVar("E")


@dataclass
class Running:
    """A broker process."""

    process: subprocess.Popen[bytes]
    port: int
    websocket_port: int

    @property
    def mqtt(self) -> str:
        """Its address."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        """Its address for WebSocket."""
        return f"ws://127.0.0.1:{self.websocket_port}/mqtt"


def start_broker(folder: Path, port: int = 0) -> Running:
    """Start `storebus-broker`, on a free port or a given one; the caller ends the process."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    command = Path(sys.executable).with_name("storebus-broker")
    process = subprocess.Popen(
        [command, "--port", str(port), "--websocket-port", "0", "--ready-file", ready],
        stdout=subprocess.DEVNULL,
    )
    wait_until(
        lambda: ready.exists() or process.poll() is not None, seconds=20, what="the broker to start"
    )
    said = json.loads(ready.read_text())
    return Running(process, said["port"], said["websocket_port"])


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One broker for all tests of this folder."""
    found = start_broker(tmp_path_factory.mktemp("engine"))
    yield found
    found.process.terminate()
    assert found.process.wait(20) == 0


class Listener:
    """A link together with what it delivered."""

    def __init__(self, link: Link, events: "queue.SimpleQueue[LinkEvent]") -> None:
        """Keep both."""
        self.link = link
        self.events = events

    def next(self, kind: type[E], seconds: float = 20) -> E:
        """Return the next event of a kind; others before it are dropped."""
        while True:
            event = self.events.get(timeout=seconds * TIME_SCALE)
            if isinstance(event, kind):
                return event

    def quiet(self) -> bool:
        """Whether nothing is there now."""
        return self.events.empty()


MakeLink = Callable[..., Listener]


@pytest.fixture
def make_link() -> Iterator[MakeLink]:
    """Make started links; all are stopped in the end."""
    made: list[Link] = []

    def make(*addresses: str, loop: LinkLoop | None = None, **settings: Any) -> Listener:
        events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
        values = {"client_id": f"c{random.getrandbits(64):x}", "backoff_first_seconds": 0.05}
        link = Link(
            LinkSettings(addresses, **{**values, **settings}),
            deliver=events.put,
            random=random.Random(len(made)),
            loop=loop,
        )
        made.append(link)
        link.start()
        return Listener(link, events)

    yield make
    for link in made:
        link.stop()
