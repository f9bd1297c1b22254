"""Nothing is lost, nothing happens twice, and everything agrees again, whatever goes wrong.

`make faults` runs many seeds of each scenario, this a few.

Environment: `STOREBUS_SIM_SECONDS` is how much processor time all scenarios take together (15),
`STOREBUS_SIM_FIRST` the first seed of each scenario, or `random` to look where nobody has looked,
`STOREBUS_SIM_SEED` runs that seed alone.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.occurrences import too_seldom
from tests.simulation.replay import replay
from tests.simulation.scenarios import SCENARIOS, Scenario
from tests.simulation.world import World

SECONDS = float(os.environ.get("STOREBUS_SIM_SECONDS", "15"))
SEED = os.environ.get("STOREBUS_SIM_SEED")
FIRST = os.environ.get("STOREBUS_SIM_FIRST", "1000000")
ROOT = Path(__file__).parents[2]

_SEEDS_LEAST = 3
_SHARES = {"everything": 3.0, "calm": 0.5}
_ALL_SHARES = sum(_SHARES.get(name, 1.0) for name in SCENARIOS)


def _run(scenario: Scenario, seed: int) -> World:
    world = World(scenario, seed)
    try:
        world.run()
    except BaseException as error:
        error.add_note(
            f"seed {seed} of {scenario.name!r}; once more, alone: STOREBUS_SIM_SEED={seed}"
            f' .venv/bin/python -m pytest "{Path(__file__).relative_to(ROOT)}"'
            f' -k "{scenario.name} and holds"'
        )
        raise
    return world


@pytest.mark.timeout(120 + 8 * SECONDS)
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_all_holds(scenario: Scenario) -> None:
    """Every seed of the scenario is judged without fault, and its faults really occurred."""
    if SEED is not None:
        print(dict(_run(scenario, int(SEED)).counts))
        return
    first = random.SystemRandom().randrange(10**6, 10**9) if FIRST == "random" else int(FIRST)
    seconds = SECONDS * _SHARES.get(scenario.name, 1.0) / _ALL_SHARES
    counts: Counter[str] = Counter()
    seeds = 0
    begin = time.process_time()
    while time.process_time() < begin + seconds or seeds < _SEEDS_LEAST:
        counts.update(_run(scenario, first + seeds).counts)
        seeds += 1
    print(f"{scenario.name}: {seeds} seeds from {first}: {dict(counts)}")
    assert list(too_seldom(scenario, counts, seeds)) == [], f"from {first}"


def test_a_seed_is_enough_to_replay() -> None:
    """The same seed says the same things in another process, however Python hashes there."""
    _, here, _ = replay("everything", 7)
    command = [sys.executable, "-m", "tests.simulation.replay", "everything", "7"]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    there = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert there.stdout.splitlines()[-1] == here, there.stderr
