"""What was asked and what came of it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What was asked, and what was wrong.

    Attributes:
        checks: By category.
        leaks: Somebody could do, or heard, what is not theirs.
        denials: Somebody could not do, or did not hear, what is.
        unproven: A silence without its sentinel.
    """

    checks: Counter[str] = field(default_factory=Counter)
    leaks: dict[str, list[str]] = field(default_factory=dict)
    denials: dict[str, list[str]] = field(default_factory=dict)
    unproven: list[str] = field(default_factory=list)

    def check(self, category: str, what: str, *, may: bool, did: bool) -> None:
        """Count one check: that what may be done could be done, and nothing else."""
        self.checks[category] += 1
        if did and not may:
            self.leaks.setdefault(category, []).append(what)
        elif may and not did:
            self.denials.setdefault(category, []).append(what)

    def print(self) -> None:
        """Print a line for each category."""
        for category, count in self.checks.items():
            leaks, denials = (len(found.get(category, ())) for found in (self.leaks, self.denials))
            print(f"{category:24}{count:7} checks {leaks:6} leaks {denials:6} wrongly denied")
        print(f"{'in all':24}{self.checks.total():7} checks")
