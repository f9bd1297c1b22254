"""amqtt's own broker as a process: what it does by itself, and a door to look inside.

Run with its settings as JSON (`plugins`, and `listener` for TLS). Prints the port of MQTT and the
port of the door, where each line is asked for and answered as JSON.
"""

import asyncio
import gc
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin


class Counted(bytes):
    """Bytes that count how often they were turned into text."""

    shown = 0

    def __repr__(self) -> str:
        """Count."""
        Counted.shown += 1
        return super().__repr__()


class RaisesOnBad(BaseTopicPlugin):
    """A topic plugin with a defect that one topic brings out."""

    async def topic_filtering(
        self, *, session: Any = None, topic: Any = None, action: Any = None
    ) -> bool:
        """Fail, or allow."""
        if topic == "bad":
            raise RuntimeError(topic)
        return True


class Suspends(BaseTopicPlugin):
    """A topic plugin that has to wait for its answer, as one with a database does."""

    async def topic_filtering(
        self, *, session: Any = None, topic: Any = None, action: Any = None
    ) -> bool:
        """Wait, and allow."""
        if action is Action.RECEIVE:
            await asyncio.sleep(0.03)
        return True


class AsksForCertificate(BaseAuthPlugin):
    """Looks for a certificate where amqtt's own plugin for that looks (it needs extra packages)."""

    async def authenticate(self, *, session: Any) -> bool:
        """Let in who showed one."""
        return bool(session.ssl_object and session.ssl_object.getpeercert())


class HasNoOpinion(BaseTopicPlugin):
    """A topic plugin that answers None, which amqtt's manual says is ignored."""

    async def topic_filtering(
        self, *, session: Any = None, topic: Any = None, action: Any = None
    ) -> None:
        """Say nothing."""


class Calls:
    """Counts what a thread calls: a measure of work that a busy machine does not change."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._calls = 0

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        self._calls += event in ("call", "c_call")

    def answer(self, question: str) -> dict[str, int]:
        """Begin at `count`, end at `counted`, both on the thread in question."""
        if question == "count":
            self._calls = 0
            sys.setprofile(self._count)
        else:
            sys.setprofile(None)
        return {"calls": self._calls}


CALLS = Calls()


def resident_bytes() -> int:
    """Tell how much memory this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _look(engine: Broker, question: str) -> dict[str, object]:
    if question == "cpu":
        return {"cpu_seconds": time.process_time()}
    if question in ("count", "counted"):
        return dict(CALLS.answer(question))
    gc.collect()
    sessions = [session for session, _ in engine._sessions.values()]
    return {
        "sessions": len(sessions),
        "inflight": sum(len(session.inflight_out) for session in sessions),
        "filters": len(engine._subscriptions),
        "tasks": len(engine._tasks_queue),
        "resident_bytes": resident_bytes(),
        "objects": len(gc.get_objects()),
        "shown": Counted.shown,
    }


async def _main(settings: dict[str, Any]) -> None:
    listener = {"type": "tcp", "bind": "127.0.0.1:0", **settings.get("listener", {})}
    engine = Broker({"listeners": {"default": listener}, "plugins": settings["plugins"]})
    await engine.start()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            question = json.loads(line)
            if question == "stop":
                await engine.shutdown()
            elif question == "publish":
                await engine.internal_message_broadcast("shown", Counted(b"x"), 0)
            writer.write(json.dumps(_look(engine, question)).encode() + b"\n")
        writer.close()

    door = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = engine._servers["default"].instance.sockets[0].getsockname()[1]
    print(port, door.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.modules["plain_amqtt"] = sys.modules["__main__"]
    asyncio.run(_main(json.loads(sys.argv[1])))
    os._exit(0)
