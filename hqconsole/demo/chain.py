"""The processes of the demo: broker, hub, agents, light devices. Loopback only, in one folder.

Owns starting, killing and stopping them, and running commands beside them. The other packages are
started as programs, never imported.
"""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from buswire.topics import Identity
from hqconsole.errors import HqError

_STOP_SECONDS = 8.0


class DemoError(HqError):
    """Something of the demo did not come up or did not end well."""


def wait_for(condition: Callable[[], Any], *, seconds: float, what: str) -> Any:
    """Return the first true value of a condition.

    Raises:
        DemoError: It did not come in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise DemoError(
                f"waited {seconds:g} s in vain for {what}",
                hint="the folder's *.log say more; run it again with --keep",
            )
        time.sleep(0.03)
    return value


@dataclass(frozen=True, slots=True)
class Device:
    """A real agent: its identity and its home."""

    identity: Identity
    home: Path


class Chain:
    """The running processes; use it as a context manager, so that none outlives it."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in this folder."""
        self.folder = folder
        self.hq_home = folder / "hq"
        self.broker_url = ""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for name in reversed(list(self._processes)):
            self._processes[name].terminate()
        for name in list(self._processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._processes[name].wait(_STOP_SECONDS)
                continue
            self._processes[name].kill()
            self._processes[name].wait()

    # --- processes -------------------------------------------------------------------------------

    def start_broker(self) -> None:
        """Start the broker, on the address that it had before if there was one.

        It lets in whom head office's access file names, and nobody else.
        """
        ready = self.folder / "broker.json"
        ready.unlink(missing_ok=True)
        port = self.broker_url.rpartition(":")[2] or "0"
        access = ("--access", str(self.hq_home / "access.json"))
        self._start("broker", "broker.main", "--port", port, "--ready-file", str(ready), *access)
        wait_for(
            lambda: ready.exists() or self._processes["broker"].poll() is not None,
            seconds=15,
            what="the broker",
        )
        if not ready.exists():
            raise DemoError("the broker did not start", hint=f"see {self.folder / 'broker.log'}")
        self.broker_url = f"mqtt://127.0.0.1:{json.loads(ready.read_text())['port']}"

    def start_hub(self) -> None:
        """Start the hub."""
        self._start("hub", "hqconsole.commands.main", "hub", "--home", str(self.hq_home))

    def start_agent(self, device: Device) -> None:
        """Start a real agent."""
        name = str(device.identity)
        self._start(name, "storeagent.main", "run", "--home", str(device.home))

    def let_in(self, devices: Sequence[Device], light: Sequence[Identity]) -> None:
        """Add all devices at head office: bundles for real ones, keys at once for light ones."""
        bundles = self._list("real", [device.identity for device in devices])
        self.hq("device", "add", "--list", bundles, "--into", str(self.folder / "bundles"))
        keys = str(self.folder / "light.keys")
        self.hq("device", "add", "--list", self._list("light", light), "--fleet", keys)

    def join(self, devices: Sequence[Device]) -> None:
        """Let real devices join, all at once, each with its bundle."""

        def one(device: Device) -> None:
            bundle = self.folder / "bundles" / f"{device.identity}.bundle"
            self.agent(device, "join", str(bundle), "--home", str(device.home))

        with ThreadPoolExecutor(len(devices)) as pool:
            list(pool.map(one, devices))

    def _list(self, name: str, identities: Sequence[Identity]) -> str:
        path = self.folder / f"{name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("store", "device"))
            rows.writerows(identities)
        return str(path)

    def start_light_devices(self) -> None:
        """Start many light devices in one process; they read and do their work by themselves."""
        self._start(
            "light",
            "storeagent.main",
            "fleet",
            "--keys",
            str(self.folder / "light.keys"),
            "--broker",
            self.broker_url,
            "--answer",
            "read,done",
            "--within",
            "1.5",
            "--connects-per-second",
            "400",
            "--every",
            "0.2",
        )

    def kill(self, name: str) -> None:
        """SIGKILL: no farewell, no flush."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.wait()

    def light_totals(self) -> Mapping[str, Any]:
        """The latest totals of the light devices."""
        lines = (self.folder / "light.out").read_text(encoding="utf-8").splitlines()
        for line in reversed(lines):
            with contextlib.suppress(json.JSONDecodeError):
                totals: Mapping[str, Any] = json.loads(line)
                return totals
        return {}

    def _start(self, name: str, module: str, *words: str) -> None:
        with (
            (self.folder / f"{name}.out").open("ab") as out,
            (self.folder / f"{name}.log").open("ab") as log,
        ):
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own programs
                [sys.executable, "-m", module, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=self._environment(None),
            )

    # --- commands --------------------------------------------------------------------------------

    def hq(self, *words: str) -> str:
        """Run an `hq` command of this chain; its standard output."""
        return self._run("hqconsole.commands.main", words, None)

    def agent(self, device: Device, *words: str) -> str:
        """Run a `storeagent` command of a device; its standard output."""
        return self._run("storeagent.main", words, device)

    def script(self, device: Device, module: str, *words: str) -> str:
        """Run a store's script on a device."""
        return self._run(module, words, device)

    def _run(self, module: str, words: Sequence[str], device: Device | None) -> str:
        done = subprocess.run(  # noqa: S603 - our own programs
            [sys.executable, "-m", module, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=self._environment(device),
            check=False,
        )
        if done.returncode:
            raise DemoError(f"{module} {' '.join(words[:2])} failed:\n{done.stderr.strip()}")
        return done.stdout

    def _environment(self, device: Device | None) -> dict[str, str]:
        environment = dict(os.environ) | {
            "STOREBUS_HQ_HOME": str(self.hq_home),
            "PYTHONIOENCODING": "utf-8",
        }
        if device is not None:
            environment["STOREBUS_AGENT_HOME"] = str(device.home)
        return environment
