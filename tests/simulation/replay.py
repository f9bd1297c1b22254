"""One world again, by itself: `python -m tests.simulation.replay SCENARIO SEED`.

Prints what was counted, what did not hold, and a digest of all that was ever said, by which two
runs of one seed can be compared.
"""

import hashlib
import sys

from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World


def replay(scenario: str, seed: int) -> tuple[World, str, str]:
    """Run one seed: its world, the digest, and what did not hold."""
    world = World(SCENARIOS[scenario], seed)
    digest = hashlib.sha256()

    def watch(topic: str, payload: bytes) -> None:
        digest.update(f"{world.timeline.now} {topic} ".encode() + payload)

    world.network.watchers.append(watch)
    wrong = ""
    try:
        world.run()
    except AssertionError as error:
        wrong = str(error)
    return world, digest.hexdigest(), wrong


def main() -> int:
    """The command."""
    world, digest, wrong = replay(sys.argv[1], int(sys.argv[2]))
    for what, count in sorted(world.counts.items()):
        print(f"{count:6} {what}")
    print(wrong or "all holds")
    print(digest)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
