"""Whether the faults of a scenario really occurred, over some seeds of it."""

import math
from collections import Counter
from collections.abc import Iterator

from tests.simulation.scenarios import Scenario


def too_seldom(scenario: Scenario, counts: Counter[str], seeds: int) -> Iterator[str]:
    """What occurred less often than it must, each in words.

    Of what is expected less than ten times, nothing is said: how often that is, is luck.
    """
    for what, per_hundred in scenario.at_least.items():
        wanted = per_hundred * seeds / 100
        least = wanted - 3 * math.sqrt(wanted)
        if wanted >= 10 and counts[what] < least:
            yield f"{what}: {counts[what]} in {seeds} seeds, at least {least:.0f} were to be"
