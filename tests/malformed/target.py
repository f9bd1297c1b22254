"""A broker in a process of its own, with what can be seen of it from outside."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Target:
    """The process; a context manager that kills it."""

    def __init__(self, **limits: Any) -> None:
        """Start it, with limits that differ from those of `serve`."""
        self._folder = tempfile.TemporaryDirectory(prefix="storebus-malformed-")
        self._log = Path(self._folder.name) / "log"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.malformed.serve", str(self._log), json.dumps(limits)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        ports = self._process.stdout.readline().split()
        self.port, self.websocket_port = int(ports[0]), int(ports[1])

    def __enter__(self) -> Self:
        """Nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
        self._folder.cleanup()

    @property
    def is_up(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def resident_bytes(self) -> int:
        """Measure its memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def descriptors(self) -> int:
        """Count its open files and sockets."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def log(self) -> str:
        """Read what it logged."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
