"""What a benchmark says: figures, the aims they are held against, and how both are shown.

Owns the words of the table. Must not know how anything is measured.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure, or its ratio, should be at least or at most."""

    of: Literal["figure", "ratio"]
    relation: Literal["at least", "at most"]
    bound: float
    unit: str = ""

    def met_by(self, figure: float, ratio: float | None) -> bool | None:
        """Whether it is met; None when there is nothing to compare."""
        value = figure if self.of == "figure" else ratio
        if value is None:
            return None
        return value >= self.bound if self.relation == "at least" else value <= self.bound

    def __str__(self) -> str:
        """The aim as the table has it, such as `≥ 0.8`."""
        sign = ">=" if self.relation == "at least" else "<="
        return f"{sign} {self.bound:g} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    """The benchmark and what of it, such as `broker.qos0`."""
    what: str
    value: float
    unit: str
    ratio: float | None = None
    """Against the other side of the same run."""
    aim: Aim | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    """For programs: what the value was made of."""

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without one."""
        return None if self.aim is None else self.aim.met_by(self.value, self.ratio)

    def row(self) -> dict[str, Any]:
        """The figure as JSON has it, and the table."""
        return {
            "name": self.name,
            "what": self.what,
            "figure": round(self.value, 4),
            "unit": self.unit,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "aim": None if self.aim is None else str(self.aim),
            "met": self.met,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Setting:
    """What every benchmark is given."""

    folder: Path
    """An empty folder of its own, on a real disk."""
    quick: bool
    """A rough figure in a few seconds will do."""
    say: Callable[[str], None]
    """Tells the person what is going on."""

    def pick(self, full: int, quick: int) -> int:
        """The size of the work: full, or for a quick look."""
        return quick if self.quick else full


def words(value: float) -> str:
    """A number as people read it: three figures that count, thousands apart."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def median(values: Sequence[float]) -> float:
    """The median: what a noisy neighbour disturbs least."""
    return float(statistics.median(values))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How ours compares with theirs: the median over turns, each against its own neighbour."""
    return median([one / other for one, other in zip(ours, theirs, strict=True)])
