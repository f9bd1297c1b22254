"""Brokers to run tests against: ours inside this process, and plain amqtt as a process of its own.

Plain amqtt is there to show that a test of a mended defect would fail without the mending.
"""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from broker.server import Addresses, EmbeddedBroker, Status
from tests.broker_engine.raw import Client
from tests.helpers.waiting import TIME_SCALE

T = TypeVar("T")


class Ours:
    """An embedded broker on a free port, in a thread with an event loop of its own."""

    def __init__(self, **options: Any) -> None:
        """Start it; the options are `EmbeddedBroker`'s."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.server = self._run(self._make(options))
            self.addresses: Addresses = self._run(self.server.start())
        except BaseException:
            self._end_thread()
            raise
        self.port = self.addresses.port

    @staticmethod
    async def _make(options: dict[str, Any]) -> EmbeddedBroker:
        return EmbeddedBroker(**({"port": 0} | options))

    def _run(self, coroutine: Any) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(20 * TIME_SCALE)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the broker's loop."""

        async def calling() -> T:
            return function()

        result: T = self._run(calling())
        return result

    def status(self) -> Status:
        """Ask the broker for its counts."""
        return self.call(self.server.status)

    def stop(self) -> None:
        """Stop it and see that nothing of it goes on."""
        try:
            self._run(self.server.stop())
            left = self.call(lambda: len(asyncio.all_tasks(self._loop)))
            assert left == 1, "tasks run on after stop"
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


Start = Callable[..., Ours]
"""Starts an embedded broker with options; it is stopped when the test is over."""


_PLAIN = """
import asyncio, logging
from amqtt.broker import Broker

async def main():
    authentication = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    engine = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}},
        "plugins": {authentication: {"allow_anonymous": %(anonymous)s}},
    })
    await engine.start()
    print(engine._servers["default"].instance.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

logging.disable(logging.CRITICAL)
asyncio.run(main())
"""


class Plain:
    """amqtt's own broker on a free port."""

    def __init__(self) -> None:
        """Start it.

        Anonymous access would have it forget every session, so that it is off, and clients must
        give a user name.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PLAIN % {"anonymous": False}],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parent,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """Kill it: it does not stop on its own while a client is stuck."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def connected(port: int, client_id: str = "", **options: Any) -> Iterator[Client]:
    """Yield a client that said CONNECT and was accepted."""
    with Client(port) as client:
        code, _ = client.connect(client_id, **options)
        assert code == 0
        yield client
