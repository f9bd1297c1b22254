"""`storebus-broker` as a real process: it says where it listens, stops on signals, never hangs."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broker_engine import raw
from tests.broker_engine.accesses import access, connect, member, write
from tests.broker_engine.certificates import Authority
from tests.broker_engine.engines import Ours, connected
from tests.broker_engine.raw import Client
from tests.helpers.waiting import TIME_SCALE, wait_until

Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start processes; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def running_it(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "broker.main", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield running_it
    for process in running:
        process.kill()
        process.communicate()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def _port(process: subprocess.Popen[str]) -> int:
    line = _first_line(process)
    assert line.startswith("listening mqtt://127.0.0.1:")
    return int(line.rsplit(":", 1)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_within_two_seconds(run: Run, number: signal.Signals) -> None:
    """With idle, half-said, stuck and busy clients it is gone in 2 s, exit code 0 [M9]."""
    process = run("--port", "0", "--websocket-port", "0")
    port = _port(process)
    web_port = int(_first_line(process).removesuffix("/mqtt").rsplit(":", 1)[1])
    idle = [Client(port), Client(web_port)]
    half = Client(port)
    half.send(raw.connect_packet("half")[:8])
    stuck = Client(port, receive_buffer_bytes=4096)
    stuck.connect("stuck")
    stuck.subscribe("a")
    with connected(port, keepalive=60) as busy:
        for _ in range(60):
            busy.publish("a", bytes(100_000), 1)
        began = time.monotonic()
        process.send_signal(number)
        output, errors = process.communicate(timeout=10 * TIME_SCALE)
        took = time.monotonic() - began
    assert process.returncode == 0
    assert took < 2 * TIME_SCALE
    assert output == ""
    assert errors == ""
    for client in (*idle, half, stuck):
        client.close()


def test_ready_file(run: Run, tmp_path: Path) -> None:
    """It appears whole once clients can connect, replaces an old one, and goes with the broker."""
    ready = tmp_path / "ready.json"
    ready.write_text("from an earlier run")
    process = run("--port", "0", "--websocket-port", "0", "--ready-file", str(ready))

    def written() -> dict[str, object]:
        text = ready.read_text() if ready.exists() else ""
        return json.loads(text) if text.startswith("{") else {}

    content = wait_until(written, what="the ready file")
    assert content["host"] == "127.0.0.1"
    assert content["pid"] == process.pid
    with connected(int(str(content["port"]))) as client:
        assert client.is_served()
    Client(int(str(content["websocket_port"]))).close()
    assert list(tmp_path.iterdir()) == [ready]
    process.terminate()
    assert process.wait(5 * TIME_SCALE) == 0
    assert list(tmp_path.iterdir()) == []


def test_port_in_use(run: Run, tmp_path: Path) -> None:
    """A port that is taken is named, with what to do, and exit code 1; no ready file appears."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ready = tmp_path / "ready.json"
        process = run("--port", str(port), "--ready-file", str(ready))
        output, errors = process.communicate(timeout=10 * TIME_SCALE)
    assert process.returncode == 1
    assert output == ""
    assert f"cannot listen on 127.0.0.1 port {port}: the port is in use" in errors
    assert "hint: another broker may be running" in errors
    assert "Traceback" not in errors
    assert not ready.exists()


def test_websocket_port_in_use(run: Run) -> None:
    """The second port's trouble ends the process as well, and names the right option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = run("--port", "0", "--websocket-port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=10 * TIME_SCALE)
    assert process.returncode == 1
    assert "--websocket-port 0" in errors


def test_port_is_free_again(run: Run) -> None:
    """After a kill with clients connected the same port can be listened on at once."""
    process = run("--port", "0")
    port = _port(process)
    with connected(port), connected(port):
        process.kill()
        process.wait()
        again = run("--port", str(port))
        assert _port(again) == port


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
def test_plain_text_on_a_network_must_be_wanted(run: Run, host: str) -> None:
    """An address that others can reach is refused, with the flag that says what it means."""
    process = run("--port", "0", "--host", host)
    _, errors = process.communicate(timeout=10 * TIME_SCALE)
    assert process.returncode == 1
    assert "not loopback" in errors
    assert "--plain-text-on-network" in errors


def test_plain_text_on_a_network(run: Run) -> None:
    """With the flag it listens there."""
    process = run("--port", "0", "--host", "0.0.0.0", "--plain-text-on-network")
    line = _first_line(process)
    assert line.startswith("listening mqtt://0.0.0.0:")
    with connected(int(line.rsplit(":", 1)[1])) as client:
        assert client.is_served()


def test_unknown_host(run: Run) -> None:
    """A host that is none gives a sentence and a hint, not a stack trace."""
    process = run("--port", "0", "--host", "no..host", "--plain-text-on-network")
    _, errors = process.communicate(timeout=20 * TIME_SCALE)
    assert process.returncode == 1
    assert "no such host" in errors
    assert "hint:" in errors
    assert "Traceback" not in errors


def test_help_is_quick_and_has_examples(run: Run) -> None:
    """--help shows how to use it, and does not import amqtt for that."""
    process = run("--help")
    output, _ = process.communicate(timeout=10 * TIME_SCALE)
    assert process.returncode == 0
    assert "Examples:" in output
    assert "--plain-text-on-network" in output
    code = "import sys, broker.main; print('amqtt' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def test_usage_errors_exit_with_2(run: Run) -> None:
    """A port that is none is a usage error."""
    process = run("--port", "65536")
    _, errors = process.communicate(timeout=10 * TIME_SCALE)
    assert process.returncode == 2
    assert "65535" in errors


def test_info_tells_of_clients(run: Run) -> None:
    """At log level info every client's coming and going is told, with the reason."""
    process = run("--port", "0", "--log-level", "info")
    with connected(_port(process), "S017.till-1") as client:
        client.disconnect()
    process.terminate()
    _, errors = process.communicate(timeout=10 * TIME_SCALE)
    assert "client 'S017.till-1' connected from 127.0.0.1:" in errors
    assert "the client said DISCONNECT" in errors
    assert "transitions" not in errors
    assert "state" not in errors


def test_access_and_tls(run: Run, tmp_path: Path) -> None:
    """One command line for a network: TLS there, plain text here, the access file for both."""
    authority = Authority(tmp_path / "ca")
    files = authority.server()
    ready, rules = tmp_path / "ready.json", tmp_path / "access.json"
    write(rules, access())
    process = run(
        *("--port", "0", "--tls-port", "0", "--tls-host", "0.0.0.0", "--access", str(rules)),
        *("--tls-cert", str(files.certificate), "--tls-key", str(files.key)),
        *("--ready-file", str(ready)),
    )
    plain = _port(process)
    assert _first_line(process).startswith("listening mqtts://0.0.0.0:")
    content = json.loads(wait_until(lambda: ready.exists() and ready.read_text(), what="ready"))
    assert (content["tls"], content["port"], content["tls_host"]) == (False, plain, "0.0.0.0")
    assert content["urls"][1] == f"mqtts://0.0.0.0:{content['tls_port']}"
    member(plain, "hub/main").close()
    with Client(content["tls_port"], tls=authority.client()) as till:
        assert connect(till, "S1.till") == 0
        write(rules, access(2, devices={}))
        till.expect_closed()
    process.terminate()
    _, errors = process.communicate(timeout=10 * TIME_SCALE)
    assert process.returncode == 0
    assert "the access file does not let it in any more" in errors


def test_tls_alone_takes_the_main_port(run: Run, tmp_path: Path) -> None:
    """Without --tls-port everything is in TLS, and the ready file says so."""
    files = Authority(tmp_path / "ca").server()
    ready = tmp_path / "ready.json"
    process = run(
        *("--port", "0", "--tls-cert", str(files.certificate), "--tls-key", str(files.key)),
        *("--ready-file", str(ready)),
    )
    assert _first_line(process).startswith("listening mqtts://127.0.0.1:")
    content = json.loads(wait_until(lambda: ready.exists() and ready.read_text(), what="ready"))
    assert content["tls"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--access", "nowhere.json"], 1, "hint: the hub writes it: 'hq init'"),
        (["--tls-cert", "x"], 2, "--tls-cert and --tls-key go together"),
        (["--tls-client-ca", "x"], 2, "'hq tls init' makes them"),
        (["--tls-host", "x"], 2, "--tls-port"),
        (["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"], 1, "'hq tls init' makes one"),
    ],
)
def test_what_is_missing_is_said(run: Run, arguments: list[str], code: int, text: str) -> None:
    """A file that is not there, an option without its other half: one sentence and a hint."""
    process = run("--port", "0", *arguments)
    _, errors = process.communicate(timeout=10 * TIME_SCALE)
    assert process.returncode == code
    assert text in errors
    assert "Traceback" not in errors


def test_key_that_others_can_read(run: Run, tmp_path: Path) -> None:
    """It is refused, with the command that mends it."""
    files = Authority(tmp_path / "ca").server()
    files.key.chmod(0o644)
    process = run("--port", "0", "--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    _, errors = process.communicate(timeout=10 * TIME_SCALE)
    assert process.returncode == 1
    assert f"hint: chmod 600 {files.key}" in errors


def test_stop_is_idempotent_and_start_is_once(engine: Ours) -> None:
    """Stopping twice does nothing more, starting twice is an error, addresses stay known."""
    with connected(engine.port) as client:
        engine._run(engine.server.stop())
        client.expect_closed()
    engine._run(engine.server.stop())
    assert engine.server.addresses.urls == (f"mqtt://127.0.0.1:{engine.port}",)
    with pytest.raises(RuntimeError, match="was not started"):
        engine.status()


def test_clients_hear_of_the_stop(engine: Ours) -> None:
    """When the broker stops, connections end at once, and what was routed before has arrived."""
    with connected(engine.port) as subscriber, connected(engine.port) as publisher:
        subscriber.subscribe("a")
        publisher.publish("a", b"last words", 1)
        engine._run(engine.server.stop())
        assert subscriber.message().payload == b"last words"
        subscriber.expect_closed()


def test_a_broker_for_trials_lets_people_in_behind_a_storm_of_garbage(run: Run) -> None:
    """More bad connections from this machine than a network address may make in a moment."""
    port = _port(run("--port", "0"))
    for _ in range(1_200):
        with socket.create_connection(("127.0.0.1", port), 10) as bad:
            bad.sendall(b"\xff\xff\xff\xff\xff")
    with connected(port, "somebody") as client:
        assert client.subscribe("a") == [0]
