"""Whole chains simulated under everything that can go wrong between their ends, by the thousand."""

from collections import Counter

from tests.faults.rows import Row
from tests.simulation.occurrences import too_seldom
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World

_WORLDS_EACH = 60


def simulation(seed: int, share: float) -> Row:
    """Every scenario of `tests.simulation`, many seeds of each."""
    row = Row("simulated chains")
    worlds: Counter[str] = Counter()
    for name, scenario in SCENARIOS.items():
        counts: Counter[str] = Counter()
        for number in range(max(1, round(_WORLDS_EACH * share))):
            world = World(scenario, seed + number)
            try:
                world.run()
            except Exception as error:
                row.wrong.append(f"seed {seed + number} of {name!r}: {error!r}"[:500])
            counts.update(world.counts)
            worlds[name] += 1
        row.wrong += [f"{name}: {what}" for what in too_seldom(scenario, counts, worlds[name])]
    row.times = worlds.total()
    row.note = (
        f"{len(worlds)} scenarios; a seed again: STOREBUS_SIM_SEED=... pytest tests/simulation"
    )
    return row
