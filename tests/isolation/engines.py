"""Brokers that can be put under the suite, by name.

An engine is started with an access file and takes new ones later; when `apply` returns, the new one
is in force. The environment variable STOREBUS_ISOLATION_ENGINE chooses; to put another engine under
the suite, write a class with the three methods of `Engine` and name it in `ENGINES`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from broker.limits import MIB, Limits, Rate
from buskit.files import write_atomically
from buswire.access import AccessFile, JoinAccess, encode_access, token_hash
from tests.broker_engine.engines import Ours
from tests.broker_engine.raw import Client, ClosedError
from tests.helpers.waiting import wait_until

VARIABLE = "STOREBUS_ISOLATION_ENGINE"


class Engine(Protocol):
    """A broker under test, on a port of the loopback address."""

    port: int

    def start(self, access: AccessFile) -> None:
        """Listen on `port`, this access file in force."""
        ...

    def apply(self, access: AccessFile) -> None:
        """Bring another access file into force; connections stay as far as it lets them."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Embedded:
    """The broker of this project, following an access file."""

    # Every client of the suite comes from one address, at any speed.
    _FAST = Rate(packets_per_second=1e6, bytes_per_second=256 * MIB)
    LIMITS = Limits(
        strangers_per_second=1e6,
        strangers_burst=1_000_000,
        connects_per_second=1e6,
        connects_burst=1_000_000,
        device_rate=_FAST,
        quiet_rate=_FAST,
        publish_rate=_FAST,
    )

    def start(self, access: AccessFile) -> None:
        """Start it in a thread."""
        self._directory = tempfile.TemporaryDirectory(prefix="storebus-isolation-")
        self._path = Path(self._directory.name) / "access.json"
        self._version = 0
        self._write(access)
        self._server = Ours(access_file=self._path, limits=self.LIMITS)
        self.port = self._server.port

    def apply(self, access: AccessFile) -> None:
        """Write the file; wait until somebody is let in who is in this version only."""
        self._write(access)
        wait_until(self._is_in_force, what="the new access file in force", poll_seconds=0.05)

    def stop(self) -> None:
        """Stop it."""
        self._server.stop()
        self._directory.cleanup()

    def _write(self, access: AccessFile) -> None:
        self._version += 1
        probe = JoinAccess(tokens=[token_hash(self._probe)])
        joins = {**access.joins, self._probe: probe}
        version = msgspec.structs.replace(access, version=self._version, joins=joins)
        write_atomically(self._path, encode_access(version))

    @property
    def _probe(self) -> str:
        return f"join/version-{self._version}"

    def _is_in_force(self) -> bool:
        with Client(self.port) as client:
            name = self._probe
            try:
                return client.connect(name, username=name, password=name.encode()) == (0, False)
            except ClosedError:
                return False


_AMQTT = """
import asyncio, logging
from amqtt.broker import Broker

async def main():
    authentication = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    engine = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}},
        "plugins": {authentication: {"allow_anonymous": False}},
    })
    await engine.start()
    print(engine._servers["default"].instance.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

logging.disable(logging.CRITICAL)
asyncio.run(main())
"""


class PlainAmqtt:
    """amqtt's own broker as it comes: it wants a user name and asks nothing else.

    It is here to be caught: a suite that finds nothing wrong with it finds nothing at all.
    """

    def start(self, access: AccessFile) -> None:
        """Start it as a process of its own; it knows no access file."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AMQTT],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parent,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def apply(self, access: AccessFile) -> None:
        """Do nothing, as it does."""

    def stop(self) -> None:
        """Kill it: it does not stop on its own while a client is stuck."""
        self._process.kill()
        self._process.communicate()


ENGINES: dict[str, Callable[[], Engine]] = {"embedded": Embedded, "amqtt": PlainAmqtt}


def chosen() -> str:
    """The name of the engine to test."""
    name = os.environ.get(VARIABLE, "embedded")
    if name not in ENGINES:
        raise ValueError(f"{VARIABLE} is {name!r}; there are {', '.join(ENGINES)}")
    return name
