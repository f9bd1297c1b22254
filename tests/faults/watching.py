"""What is looked at from outside while a fault lasts: memory, files, and how long commands take."""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.agent.processes import BIN, environment
from tests.faults.rows import Row

MIB = 1024 * 1024


def resident_mib(pid: int) -> float:
    """How much memory a process has resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0  # it is just ending


def size_mib(path: Path) -> float:
    """How long a file is; 0 without one."""
    return path.stat().st_size / MIB if path.exists() else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def grew(samples_mib: Sequence[float]) -> bool:
    """Whether memory rose from the first sample to the last by more than pools explain."""
    row = Row("memory", memory=list(samples_mib))
    row.look_at_memory()
    return bool(row.wrong)


class Every:
    """Does something every so often in a thread of its own, for the length of a block.

    What it raises is kept in `errors`: a watch that died has seen nothing.
    """

    def __init__(self, seconds: float, act: Callable[[], None]) -> None:
        self._seconds = seconds
        self._act = act
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        due_at = time.monotonic()
        while not self._over.is_set():
            try:
                self._act()
            except Exception as error:
                self.errors.append(repr(error)[:500])
            due_at = max(due_at + self._seconds, time.monotonic())
            self._over.wait(due_at - time.monotonic())


class Answers:
    """How long a command takes to answer, each time as a process of its own.

    Attributes:
        seconds: Of each time.
        wrong: What it said where it failed.
    """

    def __init__(self, home: Path, *words: str) -> None:
        self._home = home
        self._words = words
        self.seconds: list[float] = []
        self.wrong: list[str] = []

    def ask(self) -> None:
        """Run it once."""
        name, *words = self._words
        began = time.monotonic()
        done = subprocess.run(
            [BIN / name, *words],
            check=False,
            capture_output=True,
            text=True,
            env=environment(self._home),
            timeout=120,
        )
        self.seconds.append(time.monotonic() - began)
        if done.returncode:
            self.wrong.append(
                f"{' '.join(self._words[:2])}: {done.returncode} {done.stderr[-300:]}"
            )

    @property
    def shown(self) -> str:
        """The figures in words."""
        worst = max(self.seconds, default=0.0)
        return f"p95 {percentile(self.seconds, 0.95):.2f} s, worst {worst:.2f} s"
