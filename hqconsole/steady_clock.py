"""HQ's time of day for the hub: the machine's clock, unless that was set by much.

A machine's clock can be set by hand, by a dead battery, by a time server gone wrong: a year ahead,
and every directive would expire at once, for good, at every store. So the hub goes on by the
monotonic clock when the time of day jumps, and does not follow before somebody else says so: the
devices, whose clocks it knows from before the jump, or an operator. A clock that comes back is
followed at once. Must not know the ledger or messages; time and testimony come in as arguments.

Invariants:
- What it tells never jumps by more than the tolerance, save where a jump was confirmed.
- It is exact to the tolerance as long as the process lives, whatever is done to the clock.
- Of each device one word counts for each jump: its first.
"""

from collections.abc import Callable, Hashable

TOLERANCE_SECONDS = 300.0
"""A jump by less is followed: time servers and suspended machines do that."""
OFF_SECONDS = 86_400.0
"""A hub that starts so long after its last word, by the clock, asks whether it is so late."""
_WRITTEN_AT = 1_577_836_800.0
"""2020: no clock that shows less is right."""
_WITNESSES = 3
_WITNESS_SECONDS = 60.0
"""So long after the jump fewer witnesses will do."""


class SteadyClock:
    """Tells HQ's time of day.

    Attributes:
        doubted_since: Monotonic time since when the machine's clock is not followed, or None.
    """

    def __init__(self, wall_clock: Callable[[], float], *, last_at: float | None) -> None:
        """Begin.

        Args:
            wall_clock: Unix time as this machine believes it.
            last_at: What this clock told last, in a process before this one; None if never.
        """
        self._wall_clock = wall_clock
        self._now: float | None = None
        self._last_at = last_at
        self._told_at = wall_clock()
        self.doubted_since: float | None = None
        self._difference_seconds = 0.0
        self._votes: dict[Hashable, bool | None] = {}
        if last_at is not None:
            ahead = self._told_at - last_at
            if not -TOLERANCE_SECONDS <= ahead <= OFF_SECONDS:
                self._told_at = last_at

    def at(self, now: float) -> float:
        """Unix time.

        Args:
            now: Monotonic seconds.
        """
        wall_at = self._wall_clock()
        elapsed = 0.0 if self._now is None else max(0.0, now - self._now)
        steady_at = self._told_at + elapsed
        difference = wall_at - steady_at
        if abs(difference) <= TOLERANCE_SECONDS:
            steady_at = wall_at
            self.doubted_since = None
        elif (
            self.doubted_since is None
            or abs(difference - self._difference_seconds) > TOLERANCE_SECONDS
        ):
            self.doubted_since = now
            self._votes.clear()
            self._difference_seconds = difference
        self._now, self._told_at = now, steady_at
        return steady_at

    @property
    def told_at(self) -> float:
        """What was told last."""
        return self._told_at

    @property
    def ahead_seconds(self) -> float:
        """By how much the machine's clock is ahead of what is told; 0 where it is followed."""
        return 0.0 if self.doubted_since is None else self._difference_seconds

    def witness(self, who: Hashable, clock_at: float, offset_seconds: float, now: float) -> None:
        """Hear a device's clock.

        It speaks for the machine's clock where it shows the same time, or showed the same
        difference from it before; and for what is told where that is what fits.

        Args:
            who: Which device.
            clock_at: What time it is by its clock.
            offset_seconds: How far HQ's time was ahead of that clock when it was last measured.
            now: Monotonic seconds.
        """
        if self.doubted_since is None or who in self._votes:
            return
        wall_at = self._told_at + self._difference_seconds
        at = clock_at + offset_seconds
        # Two machines whose batteries are dead agree as well: on 1970.
        same = wall_at > _WRITTEN_AT and _near(clock_at, wall_at)
        if same or _near(at, wall_at):
            self._votes[who] = True
        else:
            self._votes[who] = False if _near(at, self._told_at) else None
        follow = sum(vote is True for vote in self._votes.values())
        stay = sum(vote is False for vote in self._votes.values())
        enough = follow >= _WITNESSES or now >= self.doubted_since + _WITNESS_SECONDS
        if follow > stay and enough:
            self.follow()

    def follow(self) -> None:
        """The machine's clock is right: go by it from here on."""
        self._told_at = self._wall_clock()
        self.doubted_since = None
        self._votes.clear()


def _near(one_at: float, other_at: float) -> bool:
    return abs(one_at - other_at) <= TOLERANCE_SECONDS
