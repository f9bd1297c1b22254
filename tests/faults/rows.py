"""What came of one suite: a row of the table, and what a suite is."""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

_GROWTH_BYTES = 24 * 1024 * 1024
"""What a process's memory may differ by between first and last sample: pools, not a leak."""


class Findings(Protocol):
    """Where the judge of a chain writes what it found; `Row` says what each is."""

    accepted: int
    lost: list[str]
    twice: list[str]
    wrong: list[str]


@dataclass
class Row:
    """What came of one suite.

    Attributes:
        what: Which.
        times: How often the fault struck, or how many cases there were.
        accepted: How many ids the journal has: what a command or call said it had taken.
        lost: What was accepted and is at the end neither in effect nor refused nor reported.
        twice: What took effect more than once.
        wrong: What else was not as it must be.
        recovery_seconds: The worst time from the end of a fault to the first thing that works
            again; None where a suite has none.
        seconds: How long it took.
        memory: Samples in MiB of the process that must not grow; empty without one.
        note: Anything else worth a column.
    """

    what: str
    times: int = 0
    accepted: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    recovery_seconds: float | None = None
    seconds: float = 0.0
    memory: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def failures(self) -> list[str]:
        """Everything that must not be, each with what kind of wrong it is."""
        return [
            f"{kind}: {one}"
            for kind, found in (("lost", self.lost), ("twice", self.twice), ("wrong", self.wrong))
            for one in found
        ]

    def recovered(self, seconds: float) -> None:
        """Note how long a recovery took."""
        self.recovery_seconds = max(self.recovery_seconds or 0.0, seconds)

    def look_at_memory(self) -> None:
        """See whether memory rose from the first sample to the last by more than pools explain."""
        if self.memory and (self.memory[-1] - self.memory[0]) * 1024 * 1024 > _GROWTH_BYTES:
            self.wrong.append(f"memory went from {self.memory[0]:.1f} to {self.memory[-1]:.1f} MiB")


@dataclass(frozen=True)
class Suite:
    """A fault, and how to bring it about.

    Attributes:
        where: `module:function` below `tests.faults`, imported when it runs; the function takes a
            seed and how much of the whole to do (1.0 is all, 0.01 a taste), and gives a `Row`.
        least: So often the fault strikes at the least, when all of it runs.
        alone: Whether it measures times that another suite beside it would spoil.
        demanded: Whether it runs only when it is named.
    """

    where: str
    least: int
    alone: bool = False
    demanded: bool = False

    def run(self, seed: int, share: float) -> Row:
        """Run it; too few cases are wrong as well."""
        module, _, name = self.where.partition(":")
        function: Callable[[int, float], Row] = getattr(
            importlib.import_module(f"tests.faults.{module}"), name
        )
        began = time.monotonic()
        row = function(seed, share)
        row.seconds = time.monotonic() - began
        row.look_at_memory()
        if row.times < int(self.least * share):
            row.wrong.append(f"{row.times:,} times; it must be {int(self.least * share):,}")
        return row
