"""Virtual time: what happens when, in an order that depends on the seed only."""

import heapq
import random
from collections.abc import Callable

WALL_CLOCK_START = 1_800_000_000.0
"""Unix time at virtual second 0."""


class Timeline:
    """A queue of things to do, and the one source of chance of a world."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._ids = random.Random(~seed)
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def at(self, when: float, do: Callable[[], object]) -> None:
        """Do this then; things of the same moment in the order in which they were planned."""
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self._count, do))

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Do this so much later."""
        self.at(self.now + seconds, do)

    def run_until(self, when: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= when:
            self.now, _, do = heapq.heappop(self._queue)
            do()
        self.now = when

    def new_id(self) -> str:
        """A 128-bit id in hex."""
        return f"{self._ids.getrandbits(128):032x}"

    def wall_clock(self) -> float:
        """True Unix time, which is HQ's."""
        return WALL_CLOCK_START + self.now

    def chance(self, probability: float) -> bool:
        """Whether something happens this time."""
        return probability > 0 and self.random.random() < probability

    def between(self, least: float, most: float) -> float:
        """A random number in this range."""
        return least + (most - least) * self.random.random()
