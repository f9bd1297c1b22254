"""What time it is in the store: the machine's clock, mended by HQ's as far as that was heard.

Owns how much a till's clock is believed: it wakes up in 1970, is off by an hour for years, is put
right or wrong while the agent runs, and stands while the machine sleeps. Pure; both clocks come in
as arguments. Must not know what the time is for. What a device *says* keeps the machine's own
clock, whose error HQ measures.

The rules, with the time that has passed by the monotonic clock since HQ last told its own:

- The machine's clock, with the difference measured then, counts as long as both agree.
- Where they do not and the bare clock fits what has passed, somebody has put it right.
- Where it is ahead, the machine may have slept, or its clock was set: it is believed.
- Where it is behind, it was set back; nothing sleeps backwards. What has passed counts.
- Before HQ is heard in this process, the difference of the process before it counts, if it is less
  than a day: a larger one is no steady error.
"""

_AGREE_SECONDS = 60.0
_STEADY_SECONDS = 86_400.0
_NOISE_SECONDS = 3.0  # a message's way is no error of the clock


class StoreClock:
    """Tells the time in the store."""

    def __init__(self, ahead_seconds: float = 0.0) -> None:
        """Begin.

        Args:
            ahead_seconds: By how much HQ's clock was ahead of the machine's, in a process before.
        """
        steady = abs(ahead_seconds) < _STEADY_SECONDS
        self._ahead_seconds = ahead_seconds if steady else 0.0
        self._heard: tuple[float, float] | None = None

    @property
    def ahead_seconds(self) -> float:
        """By how much HQ's clock is ahead of the machine's."""
        return self._ahead_seconds

    @property
    def is_true(self) -> bool:
        """Whether HQ told its time in this process."""
        return self._heard is not None

    def heard(self, hq_at: float, wall_at: float, now: float) -> None:
        """HQ told its time.

        Args:
            hq_at: As it said.
            wall_at: Unix time as this machine believes it.
            now: Monotonic seconds.
        """
        ahead = hq_at - wall_at
        self._ahead_seconds = ahead if abs(ahead) > _NOISE_SECONDS else 0.0
        self._heard = (wall_at + self._ahead_seconds, now)

    def at(self, wall_at: float, now: float) -> float:
        """Unix time in the store, from the machine's two clocks."""
        mended_at = wall_at + self._ahead_seconds
        if self._heard is None:
            return mended_at
        passed_at = self._heard[0] + now - self._heard[1]
        if abs(mended_at - passed_at) <= _AGREE_SECONDS:
            return mended_at
        if abs(wall_at - passed_at) <= 2 * _AGREE_SECONDS:
            return wall_at
        return max(mended_at, passed_at)
