"""A chain of real processes in which hub and devices are in namespaces of their own.

Owns where each process runs. The commands run outside, where the daemons' doorbells cannot be
heard: what they write is found by the look around that daemons take once a second.
"""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.agent.processes import BIN, environment
from tests.helpers.waiting import wait_until
from tests.net.namespaces import Namespaces
from tests.net.reach import KEEPALIVE_SECONDS
from tests.processes.chain import Bus, Chain, Daemon

HUB = "hub"


class _DistantBus(Bus):
    """The broker in a namespace, where all of that namespace's wires reach it."""

    def __init__(self, folder: Path, inside: Sequence[str], *words: str | Path) -> None:
        self._inside = inside
        super().__init__(folder, *words)

    def start(self) -> None:
        """Start it, and wait until clients can connect."""
        self._ready.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *self._inside,
                *(BIN / "storebus-broker", "--port", str(self.port), "--ready-file", self._ready),
                *("--host", "0.0.0.0", "--plain-text-on-network"),
                *self._words,
            ],
            stdout=subprocess.DEVNULL,
            env=environment(self._ready.parent),
        )
        wait_until(self._ready.exists, seconds=20, what="the broker")
        self.port = json.loads(self._ready.read_text())["port"]


class DistantChain(Chain):
    """A `Chain` whose processes moved into namespaces once all had joined.

    Attributes:
        namespaces: One for each device, by its name, and one for the `hub`.
    """

    def __init__(self, folder: Path, stores: Sequence[str]) -> None:
        super().__init__(folder, stores)
        self.namespaces: Namespaces

    def _set_up(self) -> None:
        super()._set_up()
        for till in self.tills.values():
            till.stop()
        wait_until(lambda: not self._online(), what="all to be gone")
        self.hub.stop()
        self.bus.kill()
        self.namespaces = Namespaces([HUB, *self.tills])
        inside = self.namespaces.inside(self.namespaces.middle)
        self.bus = _DistantBus(self.folder, inside, "--access", self.home / "access.json")
        self._move(HUB, self.hub, self.home / "hq.toml")
        for name, till in self.tills.items():
            self._move(name, till, till.home / "agent.toml")
        for daemon in (self.hub, *self.tills.values()):
            daemon.start()
        self.wait_online()

    def _move(self, place: str, daemon: Daemon, settings: Path) -> None:
        inside = self.namespaces.inside(self.namespaces.name_of(place))
        program, *words = daemon._words
        daemon._words = [*inside, BIN / program, *words]
        address = f"{self.namespaces.middle_address(place)}:{self.bus.port}"
        text, found = re.subn(r"127\.0\.0\.1:\d+", address, settings.read_text())
        assert found == 1, text
        text = text.replace("[link]\n", f"[link]\nkeepalive_seconds = {KEEPALIVE_SECONDS}\n")
        settings.write_text(text)

    def _end(self) -> None:
        super()._end()
        if hasattr(self, "namespaces"):
            self.namespaces.close()
