"""What a simulated world is judged by, as lines of a row."""

from tests.faults.rows import Row
from tests.simulation.world import World


def live_through(world: World, row: Row) -> None:
    """Let a world run to its end; what does not hold goes into the row."""
    try:
        world.run()
    except AssertionError as error:
        for line in str(error).split("\n  "):
            if line.strip():
                kind = row.lost if "lost" in line or "vanished" in line else row.wrong
                kind = row.twice if "times" in line or "twice" in line else kind
                kind.append(f"world {world.seed}: {line.strip()}")
