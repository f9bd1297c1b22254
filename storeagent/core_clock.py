"""What a core does by the clock besides its protocol: the reminders of open work.

Owns when it is looked at, and by what time. Must not know rules, rows or messages.

Invariant: at most `_LOOK_SECONDS` pass between two looks while something is to come, so that a
clock that was set, and a machine that slept, are noticed.
"""

from collections.abc import Callable

from buswire.messages import Welcome
from storeagent.core_batch import Batch
from storeagent.inbox import Inbox
from storeagent.memory import Memory
from storeagent.reminders import Reminders
from storeagent.store_clock import StoreClock

_LOOK_SECONDS = 60.0
_AHEAD = "ahead_seconds"
_WORTH_SAVING_SECONDS = 30.0
_FAR_OFF_SECONDS = 60.0


class CoreClock:
    """The time in the store, and what comes with it."""

    def __init__(self, inbox: Inbox, memory: Memory, wall_clock: Callable[[], float]) -> None:
        """Begin as the last process ended; `bind` is owed.

        Args:
            inbox: The deliveries.
            memory: What was measured of HQ's clock.
            wall_clock: Unix time as this device believes it.
        """
        self._inbox = inbox
        self._memory = memory
        self._wall_clock = wall_clock
        self._clock = StoreClock(float(memory.text(_AHEAD, "0")))
        self._saved_seconds = self._clock.ahead_seconds
        self._now = 0.0
        self._look_at: float | None = 0.0
        self._zone_changed = True
        self._doubted = False

    def bind(self, reminders: Reminders) -> None:
        """Say what is to be done when the time has come."""
        self._reminders = reminders

    def time(self) -> float:
        """Unix time in the store, at the beginning of the present batch."""
        return self._clock.at(self._wall_clock(), self._now)

    def begin(self, now: float) -> None:
        """A batch begins, at this monotonic time."""
        self._now = now

    def heard(self, welcome: Welcome) -> None:
        """HQ told its time; before anything else of that message takes effect."""
        far_off = abs(welcome.at - self.time()) > _FAR_OFF_SECONDS
        self._doubted |= far_off or not self._clock.is_true
        self._clock.heard(welcome.at, self._wall_clock(), self._now)

    def plan_anew(self) -> None:
        """The store's facts are others, or what is in the database is: look whether it fits."""
        self._zone_changed = True
        self._doubted = self._clock.is_true

    def work(self, batch: Batch) -> bool:
        """Do what has come; whether there is anything new for the hook."""
        new = False
        if self._zone_changed:
            if not self._reminders.is_planned():
                batch.begin()
                self._reminders.plan_all(self.time())
            self._zone_changed = False
        at = self.time()
        if self._doubted:
            if self._reminders.was_ahead(at):
                batch.begin()
                self._reminders.plan_what_was_ahead(at)
            self._doubted = False
        due_at = self._inbox.next_remind_at()
        if due_at is not None and due_at <= at:
            batch.begin()
            new = self._reminders.look(at, true_time=self._clock.is_true)
            due_at = self._inbox.next_remind_at()
        wait_seconds = None if due_at is None else min(max(due_at - at, 0.0), _LOOK_SECONDS)
        self._look_at = None if wait_seconds is None else self._now + wait_seconds
        return new

    def save_along(self) -> None:
        """Save what was measured, in a batch that saves something anyway."""
        ahead = self._clock.ahead_seconds
        if abs(ahead - self._saved_seconds) > _WORTH_SAVING_SECONDS:
            self._memory.keep(_AHEAD, ahead)
            self._saved_seconds = ahead

    def next_at(self) -> float | None:
        """When there is something to do, in monotonic seconds; None when nothing is to come."""
        return self._look_at
