"""Brokers to run tests against: ours inside this process, and plain amqtt as a process of its own.

Plain amqtt is there to show that a test of a mended defect would fail without the mending.
"""

import asyncio
import contextlib
import gc
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from broker.server import Addresses, EmbeddedBroker, Status
from tests.broker_engine.plain_amqtt import Calls, Counted, resident_bytes
from tests.broker_engine.raw import Client
from tests.helpers.waiting import TIME_SCALE

T = TypeVar("T")


class Ours:
    """An embedded broker on a free port, in a thread with an event loop of its own."""

    def __init__(self, **options: Any) -> None:
        """Start it; the options are `EmbeddedBroker`'s."""
        self._loop = asyncio.new_event_loop()
        self._calls = Calls()
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

    def ask(self, question: str = "look") -> dict[str, Any]:
        """Look inside, as `Plain.ask` does."""
        inner = self.server._engine
        if question == "publish":
            self._run(inner.internal_message_broadcast("shown", Counted(b"x"), 0))
        elif question == "stop":
            self._run(self.server.stop())
            return {}

        if question == "cpu":
            return {"cpu_seconds": self.call(time.thread_time)}
        if question in ("count", "counted"):
            return dict(self.call(lambda: self._calls.answer(question)))

        def look() -> dict[str, Any]:
            gc.collect()
            router = inner.router
            tree = router.subscriptions
            return {
                "sessions": len(router.sessions),
                "inflight": sum(s.waiting_messages for s in router.sessions.values()),
                "filters": len(tree._exact) + len(tree._root.children),
                "tasks": len(asyncio.all_tasks()) - len(inner._connections),
                "resident_bytes": resident_bytes(),
                "objects": len(gc.get_objects()),
                "shown": Counted.shown,
            }

        return self.call(look)

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


NAMES_NEEDED = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}}
"""amqtt's plugins for a broker that lets in whoever gives a user name.

Anonymous access would have it forget every session.
"""


class Plain:
    """amqtt's own broker on a free port."""

    def __init__(
        self, plugins: dict[str, Any] | None = None, listener: dict[str, Any] | None = None
    ) -> None:
        """Start it, with amqtt's settings."""
        settings = {"plugins": NAMES_NEEDED if plugins is None else plugins}
        settings["listener"] = listener or {}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("plain_amqtt.py"), json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parent,
        )
        assert self._process.stdout is not None
        ports = self._process.stdout.readline().split()
        if not ports:
            self._process.communicate()
            raise RuntimeError("plain amqtt did not start")
        self.port, door = map(int, ports)
        self._door = socket.create_connection(("127.0.0.1", door))
        self._answers = self._door.makefile("rb")

    def ask(self, question: str = "look", seconds: float = 10.0) -> dict[str, Any]:
        """Look inside; `publish` and `stop` do that before, `cpu` looks at the CPU time alone.

        From `count` to `counted` it counts the calls of functions.

        Raises:
            TimeoutError: It does not come to an end in time.
        """
        self._door.settimeout(seconds * TIME_SCALE)
        self._door.sendall(json.dumps(question).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._answers.readline())
        return answer

    def stop(self) -> None:
        """Kill it: it does not stop on its own while a client is stuck."""
        self._answers.close()
        self._door.close()
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def connected(port: int, client_id: str = "", **options: Any) -> Iterator[Client]:
    """Yield a client that said CONNECT and was accepted."""
    with Client(port) as client:
        code, _ = client.connect(client_id, **options)
        assert code == 0
        yield client
