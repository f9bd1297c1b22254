"""`hq up`: broker and hub as real processes, killed, brought back, and stopped in order."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buskit.locks import FileLock
from hqconsole.home import HUB_LOCK_NAME, HqSettings, hub_state
from hqconsole.supervisor import Listening, SupervisorError, listening
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.hq_console.conftest import Run

UP = [sys.executable, "-m", "hqconsole.commands.main", "up"]


@pytest.fixture
def up(run: Run, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`hq up` on a free port, running."""
    assert run("init", "--broker", "mqtt://127.0.0.1:0")[0] == 0
    with subprocess.Popen(UP, stderr=subprocess.PIPE, env=os.environ.copy()) as process:
        try:
            wait_until(lambda: hub_state(home).running, seconds=20, what="the hub")
            yield process
        finally:
            process.terminate()
            process.wait(20 * TIME_SCALE)


def broker_of(home: Path) -> dict[str, int]:
    """What the broker says of itself; empty while there is none."""
    try:
        found: dict[str, int] = json.loads((home / "broker.json").read_bytes())
    except FileNotFoundError:
        return {}
    return found


def test_whatever_is_killed_comes_back_and_sigterm_ends_it_all(
    home: Path, up: "subprocess.Popen[bytes]"
) -> None:
    """The broker on the same port; at the end nothing is left, and the exit is clean."""
    first = broker_of(home)
    hub = hub_state(home).pid
    assert hub is not None
    os.kill(first["pid"], signal.SIGKILL)
    os.kill(hub, signal.SIGKILL)
    second = wait_until(
        lambda: (found := broker_of(home)).get("pid") not in {None, first["pid"]} and found,
        seconds=20,
        what="a new broker",
    )
    assert second["port"] == first["port"]
    wait_until(
        lambda: (state := hub_state(home)).running and state.pid != hub,
        seconds=20,
        what="a new hub",
    )
    up.terminate()
    assert up.stderr is not None
    said = up.stderr.read().decode()
    assert up.wait(20 * TIME_SCALE) == 0
    assert "the broker has died (signal 9)" in said
    assert "the hub has died (signal 9)" in said
    assert f"listens at mqtt://127.0.0.1:{first['port']}" in said
    assert not hub_state(home).running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first["port"]), timeout=5)


def test_a_second_one_is_refused(run: Run, home: Path, up: "subprocess.Popen[bytes]") -> None:
    """And the first one goes on."""
    code, _, errors = run("up")
    assert code == 1
    assert f"process {up.pid}" in errors
    code, _, errors = run("hub")
    assert code == 1
    assert "running" in errors
    assert up.poll() is None


def test_it_does_not_start_beside_a_hub(run: Run, home: Path) -> None:
    """One ledger has one hub."""
    lock = FileLock(home / HUB_LOCK_NAME)
    with lock:
        code, _, errors = run("up")
    lock.close()
    assert code == 1
    assert "a hub is running" in errors


def test_a_port_that_is_taken_is_said_at_once(run: Run, home: Path) -> None:
    """Exit code 3: no broker; and no process is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run("init", "--broker", f"mqtt://127.0.0.1:{port}")
        done = subprocess.run(UP, capture_output=True, timeout=60, check=False)
    assert done.returncode == 3
    assert str(port) in done.stderr.decode()
    assert not hub_state(home).running


@pytest.mark.parametrize(
    ("brokers", "where"),
    [
        (("mqtt://127.0.0.1",), Listening("127.0.0.1", 1883)),
        (("mqtt://[::1]:0",), Listening("::1", 0)),
        (("ws://h:81/x", "mqtt://h:2"), Listening("h", 2, 81)),
    ],
)
def test_the_settings_say_where_the_broker_listens(
    brokers: tuple[str, ...], where: Listening
) -> None:
    """One host, a port for MQTT, and one for WebSocket if named."""
    assert listening(HqSettings(brokers=brokers)) == where


@pytest.mark.parametrize(
    "brokers",
    [
        ("mqtt://a", "mqtt://b"),
        ("mqtt://a", "ws://b"),
        ("ws://a",),
        ("mqtt://a", "wss://a"),
        ("nonsense",),
    ],
)
def test_settings_that_one_broker_cannot_serve_are_refused(brokers: tuple[str, ...]) -> None:
    """With the hint how to do it."""
    with pytest.raises(SupervisorError) as refused:
        listening(HqSettings(brokers=brokers))
    assert refused.value.hint
