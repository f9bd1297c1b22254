"""The processes that benchmarks run: started, waited for, looked at from outside, and ended.

Owns how each is started. Must not know what is measured. All of them end with their block, however
it ends.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent
PATIENCE_SECONDS = 120.0
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""With this each command would compile what it imports, as no installed one does."""

_PLAIN_AMQTT = """
import asyncio, logging
from amqtt.broker import Broker

async def main():
    engine = Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0", "max_connections": 20000}},
        "plugins": {
            "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
        },
    })
    await engine.start()
    print(engine._servers["default"].instance.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

logging.disable(logging.CRITICAL)
asyncio.run(main())
"""


def wait_for(condition: Callable[[], object], what: str, *, poll_seconds: float = 0.01) -> None:
    """Return when the condition is true.

    Raises:
        TimeoutError: It never came true.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {PATIENCE_SECONDS:g} s in vain for {what}")
        time.sleep(poll_seconds)


@contextlib.contextmanager
def running(
    arguments: Sequence[str], *, output: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Python process for as long as the block lasts; it is asked to end, then made to."""
    with contextlib.ExitStack() as stack:
        out = subprocess.DEVNULL if output is None else stack.enter_context(output.open("wb"))
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def embedded_broker(folder: Path, *words: str) -> Iterator[tuple[int, int]]:
    """Run the embedded broker; yields its port and its process id.

    Without `--access` it is open to everybody on this machine.
    """
    ready = folder / "broker.json"
    arguments = ["-m", "broker.main", "--port", "0", "--ready-file", str(ready), *words]
    with running(arguments) as process:
        wait_for(ready.exists, "the broker")
        yield int(json.loads(ready.read_text())["port"]), process.pid


@contextlib.contextmanager
def plain_amqtt(folder: Path) -> Iterator[tuple[int, int]]:
    """Run amqtt's own broker; yields its port and its process id."""
    output = folder / "amqtt.port"
    with running(["-c", _PLAIN_AMQTT], output=output) as process:
        try:
            wait_for(lambda: output.read_text().endswith("\n"), "plain amqtt")
            yield int(output.read_text()), process.pid
        finally:
            process.kill()  # it does not stop while a client is idle


@contextlib.contextmanager
def hub(home: Path) -> Iterator[int]:
    """Run the hub of a home; yields its process id."""
    with running(["-m", "hqconsole.commands.main", "hub", "--quiet", "--home", str(home)]) as one:
        yield one.pid


@contextlib.contextmanager
def agent(home: Path) -> Iterator[int]:
    """Run the daemon of a device's home; yields its process id."""
    with running(["-m", "storeagent.main", "run", "--quiet", "--home", str(home)]) as one:
        yield one.pid


def command(script: str, *arguments: str) -> float:
    """Run one of our scripts to its end. Returns how many seconds that took.

    Raises:
        RuntimeError: It failed.
    """
    began = time.perf_counter()
    output(script, *arguments)
    return time.perf_counter() - began


def output(script: str, *arguments: str) -> str:
    """Run one of our scripts to its end. Returns what it wrote.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(
        [str(SCRIPTS / script), *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != _NO_BYTECODE},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def cpu_seconds(pid: int) -> float:
    """How much CPU time a process has used so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def resident_mb(pid: int) -> float:
    """How much memory a process has resident, in MB of 10^6 bytes."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def new_id() -> str:
    """A random 128-bit id."""
    return os.urandom(16).hex()
