"""An allowance per device that fills again with time: a token bucket for each.

Knows nothing of what is allowed. Time comes in; memory is bounded by the number of devices.
"""

from collections.abc import Hashable


class Allowance:
    """So much a minute for each key; what was saved up is at most one minute's."""

    def __init__(self, per_minute: float) -> None:
        """Begin with every key having a full minute's."""
        self._per_minute = per_minute
        self._left: dict[Hashable, tuple[float, float]] = {}

    def left(self, key: Hashable, now: float) -> float:
        """How much is left at this time; negative for who overdrew."""
        left, at = self._left.get(key, (self._per_minute, now))
        return min(self._per_minute, left + (now - at) * self._per_minute / 60.0)

    def spend(self, key: Hashable, amount: float, now: float) -> None:
        """Take this much, even where it is not there: the next one waits for it."""
        self._left[key] = (self.left(key, now) - amount, now)

    def wait_seconds(self, key: Hashable, amount: float, now: float) -> float:
        """How long until this much is there; 0 if it is."""
        missing = min(amount, self._per_minute) - self.left(key, now)
        return max(0.0, missing * 60.0 / self._per_minute)
