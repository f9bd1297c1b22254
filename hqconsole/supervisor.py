"""`hq up`: the embedded broker and the hub as two child processes, kept alive.

Owns their starting, restarting and stopping, and nothing of what they do. The broker is started as
a program, never imported: the one who runs another broker need not have this one.

Invariants:
- One supervisor per home; it refuses to start beside a hub that runs already.
- The hub is started only once the broker takes connections, and stopped before the broker, so that
  it can say farewell.
- A broker that took a free port keeps it over restarts: the stores know that address.
- The broker goes by the access file of this home from its first client on, and speaks TLS where the
  settings say `mqtts://`.
- No child outlives a supervisor that was stopped by a signal.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from buskit.daemon import ended_by_signals
from buskit.locks import FileLock
from buskit.terminal import narrate
from hqconsole import hub_identity, tls
from hqconsole.access_file import FILE_NAME as ACCESS_NAME
from hqconsole.errors import HqError
from hqconsole.home import (
    BROKER_READY_NAME,
    BROKERS_VARIABLE,
    SUPERVISOR_LOCK_NAME,
    HqSettings,
    hub_state,
    read_hq_settings,
)
from hqconsole.ledger.opening import open_ledger

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_POLL_SECONDS = 0.1
_READY_SECONDS = 20.0
_STOP_SECONDS = 10.0
_BACKOFF_FIRST_SECONDS = 0.5
_BACKOFF_MOST_SECONDS = 30.0
_STABLE_SECONDS = 30.0


class SupervisorError(HqError):
    """Broker and hub cannot be run together here."""


class BrokerStartError(SupervisorError):
    """The broker does not come up."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the embedded broker is to listen, and whether in TLS; a port of 0 takes a free one."""

    host: str
    port: int
    websocket_port: int | None = None
    tls: bool = False


_PORTS = {"mqtt": 1883, "ws": 80, "mqtts": 8883, "wss": 443}
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened at


def listening(settings: HqSettings) -> Listening:
    """Where the settings say that the broker of this machine listens.

    Raises:
        SupervisorError: They name none, or several that one broker cannot serve.
    """
    host: str | None = None
    ports: dict[str, int] = {}
    in_tls: bool | None = None
    for url in settings.brokers:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise SupervisorError(
                f"{url!r} is no address to listen at", hint="hq init --broker mqtt://127.0.0.1:1883"
            )
        encrypted = parts.scheme in {"mqtts", "wss"}
        kind = "ws" if parts.scheme in {"ws", "wss"} else "mqtt"
        if kind in ports or host not in {None, parts.hostname} or in_tls not in {None, encrypted}:
            raise SupervisorError(
                "the settings name several brokers, and hq up runs one",
                hint="hq init --broker mqtt://127.0.0.1:1883, or run hq hub beside those brokers",
            )
        host, in_tls = parts.hostname, encrypted
        ports[kind] = _PORTS[parts.scheme] if parts.port is None else parts.port
    if host is None or "mqtt" not in ports:
        raise SupervisorError(
            "the settings name no mqtt:// or mqtts:// address to listen at",
            hint="hq init --broker mqtt://127.0.0.1:1883",
        )
    return Listening(host, ports["mqtt"], ports.get("ws"), bool(in_tls))


def supervise(home: Path, *, plain_text_on_network: bool = False) -> None:
    """Run broker and hub until SIGTERM or SIGINT; needs the main thread.

    Raises:
        SupervisorError: Another one runs for this home, or a hub does.
        BrokerStartError: The broker did not come up the first time.
        HomeError: There are no settings.
    """
    settings = read_hq_settings(home)
    where = listening(settings)
    _check_tls(home, where)
    with _only_one(home):
        with open_ledger(home) as ledger:
            hub_identity.prepare(home, ledger, root=settings.root, at=time.time())
        supervisor = Supervisor(home, where, plain_text_on_network=plain_text_on_network)
        with ended_by_signals(supervisor.on_signal):
            supervisor.run()


def _check_tls(home: Path, where: Listening) -> None:
    """Refuse what could not be what the operator wants.

    Raises:
        SupervisorError: TLS is to be spoken and there is no certificate, or the other way round.
    """
    files = tls.tls_files(home)
    has_certificate = files.broker.exists()
    if where.tls and not has_certificate:
        raise SupervisorError(
            f"there is no certificate for the broker, {files.broker}",
            hint=f"hq tls init --host {where.host}",
        )
    if has_certificate and not where.tls and where.host not in _LOOPBACK:
        raise SupervisorError(
            f"the broker has a certificate, and the settings name {where.host} without TLS",
            hint=f"hq init --broker mqtts://{where.host}:8883",
        )


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    lock = FileLock(home / SUPERVISOR_LOCK_NAME)
    if not lock.try_acquire():
        raise SupervisorError(
            f"hq up is running for {home} already (process {lock.holder()})",
            hint="stop that one first",
        )
    try:
        if (hub := hub_state(home)).running:
            raise SupervisorError(
                f"a hub is running for {home} already (process {hub.pid})",
                hint="stop that one first; hq up brings its own",
            )
        yield
    finally:
        lock.close()


class _Child:
    """One program that is to run all the time."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at = 0.0
        self._say = say
        self._started_at = 0.0
        self._pause_seconds = _BACKOFF_FIRST_SECONDS

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # In a group of its own: Ctrl-C is for the supervisor, which stops them in order.
        self.process = subprocess.Popen(  # noqa: S603 - our own programs
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=os.name != "nt",
        )
        self._started_at = time.monotonic()

    def mourn(self) -> None:
        """It died: say so, and decide when it is started again."""
        assert self.process is not None
        code = self.process.returncode
        now = time.monotonic()
        if now - self._started_at > _STABLE_SECONDS:
            self._pause_seconds = _BACKOFF_FIRST_SECONDS
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._say(f"the {self.name} has died ({how}); again in {self._pause_seconds:g} s")
        self.start_at = now + self._pause_seconds
        self._pause_seconds = min(self._pause_seconds * 2, _BACKOFF_MOST_SECONDS)
        self.process = None

    def stop(self) -> None:
        """Ask it to end, and make it end; idempotent."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(OSError):
                process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._say(f"the {self.name} does not stop; it is killed")
            process.kill()
            process.wait()


class Supervisor:
    """Broker and hub, made to run once."""

    def __init__(
        self,
        home: Path,
        where: Listening,
        *,
        plain_text_on_network: bool,
        say: Callable[[str], None] = narrate,
    ) -> None:
        """Prepare; nothing is started before `run`."""
        self._home = home
        self._where = where
        self._plain_text = plain_text_on_network
        self._say = say
        self._ready_file = home / BROKER_READY_NAME
        self._broker = _Child("broker", say)
        self._hub = _Child("hub", say)
        self._urls: tuple[str, ...] = ()
        self._stopping = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Stop soon; safe inside a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until a signal comes.

        Raises:
            BrokerStartError: The broker did not come up the first time.
        """
        try:
            self._start_broker()
            if not self._await_broker() and not self._stopping:
                raise BrokerStartError(
                    f"the broker cannot listen at {self._where.host} port {self._where.port}",
                    hint="see what it says above; another address: hq init --broker URL",
                )
            while not self._stopping:
                self._look_after_broker()
                self._look_after_hub()
                time.sleep(_POLL_SECONDS)
        finally:
            self._hub.stop()
            self._broker.stop()
            self._say("stopped")

    def _look_after_broker(self) -> None:
        if self._broker.runs:
            return
        if self._broker.process is not None:
            self._broker.mourn()
        elif time.monotonic() >= self._broker.start_at:
            self._start_broker()
            self._await_broker()

    def _look_after_hub(self) -> None:
        if self._hub.runs:
            return
        if self._hub.process is not None:
            self._hub.mourn()
        elif time.monotonic() >= self._hub.start_at:
            command = (sys.executable, "-m", "hqconsole.commands.main", "hub")
            self._hub.start(
                (*command, "--home", str(self._home)),
                {**os.environ, BROKERS_VARIABLE: " ".join(self._urls)},
            )

    def _start_broker(self) -> None:
        self._ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "broker.main", "--host", self._where.host]
        command += ["--port", str(self._where.port), "--ready-file", str(self._ready_file)]
        if self._where.websocket_port is not None:
            command += ["--websocket-port", str(self._where.websocket_port)]
        command += ["--access", str(self._home / ACCESS_NAME)]
        if self._where.tls:
            files = tls.tls_files(self._home)
            command += ["--tls-cert", str(files.broker), "--tls-key", str(files.broker_key)]
            if tls.is_mutual(self._home):
                command += ["--tls-client-ca", str(files.ca)]
        if self._plain_text:
            command.append("--plain-text-on-network")
        self._broker.start(command, os.environ)

    def _await_broker(self) -> bool:
        """Wait until the broker takes connections; False if it died, or we are to stop."""
        deadline = time.monotonic() + _READY_SECONDS
        while self._broker.runs and not self._stopping:
            if self._read_ready_file():
                return True
            if time.monotonic() > deadline:
                self._broker.stop()
                break
            time.sleep(0.02)
        return False

    def _read_ready_file(self) -> bool:
        try:
            ready = json.loads(self._ready_file.read_bytes())
        except FileNotFoundError:
            return False
        port, websocket_port = ready["port"], ready["websocket_port"]
        self._where = replace(self._where, port=port, websocket_port=websocket_port)
        host = self._where.host  # as the settings spell it: the certificate names it so
        self._urls = _urls(self._where, _EVERYWHERE.get(host, host))
        self._say(f"the broker listens at {' and '.join(_urls(self._where, host))}")
        return True


def _urls(where: Listening, host: str) -> tuple[str, ...]:
    spelt = f"[{host}]" if ":" in host else host
    end = "s" if where.tls else ""
    urls = [f"mqtt{end}://{spelt}:{where.port}"]
    if where.websocket_port is not None:
        urls.append(f"ws{end}://{spelt}:{where.websocket_port}/mqtt")
    return tuple(urls)
