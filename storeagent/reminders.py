"""The device reminds of open work by itself: when, once, and what it keeps of it.

Owns when the rows are looked at and what is written there; the steps are `buswire.reminding`'s, the
rows `inbox`'s, and who hears of it is the hook's and the list's. Needs no link. Runs inside a
transaction that somebody else opens and commits. Must not know how HQ's words came.

Invariants:
- What was said is in the same transaction as that it was said: no restart repeats a step.
- A device that was off says of each piece of work the latest step once, and nothing of the rest.
- Work that arrives, or opens again, is news by itself: steps before it are passed over. That it is
  forced by then is said.
- Where this program fails on one piece of work, that one has no reminders any more, HQ hears of it,
  and the others go on.
"""

from collections.abc import Callable

from buskit.defects import is_defect, told
from buswire import reminding
from buswire.errors import WireError
from buswire.moments import instant
from buswire.reminding import Schedule, Told
from storeagent.delivery import Delivery, Terms
from storeagent.errors import OutboxFull
from storeagent.inbox import Inbox
from storeagent.memory import Memory
from storeagent.work import zone_of

REMINDER = "reminder"
FORCED = "forced"
"""The two kinds of events, as the hook is told them; `arrival` is the third."""

_PLANNED_FOR = "reminders_zone"
_UNPLANNED = "?"  # as the migration has it
_AT_FIRST = "UTC"  # before HQ has said anything of the store
_AT_ONCE = 200


class Reminders:
    """The reminders of one open database."""

    def __init__(
        self, inbox: Inbox, memory: Memory, *, unusable: Callable[[Delivery, str], None]
    ) -> None:
        """Work on these tables.

        Args:
            inbox: The deliveries.
            memory: What HQ said of the store.
            unusable: Takes work whose reminders made this program fail, and how.
        """
        self._inbox = inbox
        self._memory = memory
        self._unusable = unusable

    # --- as work comes ---------------------------------------------------------------------------

    def begin(self, delivery: Delivery, terms: Terms, at: float) -> None:
        """Open work is news now; the caller owes a `save`.

        Args:
            delivery: The work.
            terms: Of its directive.
            at: Unix time in the store.
        """
        delivery.reminder = delivery.reminded_by = ""
        delivery.reminded_at = 0.0
        delivery.steps, delivery.insisted = (), False
        if terms.by_the_clock:
            delivery.steps = reminding.begun(self._schedule(terms), at).steps
            delivery.remind_at = at

    def go_on(self, delivery: Delivery, terms: Terms, at: float) -> None:
        """Work may be open again that was not: what was said of it stays said; as `begin`."""
        if terms.by_the_clock and delivery.open and delivery.remind_at is None:
            delivery.remind_at = at

    def by_hand(self, delivery: Delivery, *, text: str, by: str, at: float) -> None:
        """HQ itself reminds; saves it. What is not open here any more is dropped.

        Within the spacing of another reminder the words are kept, and nobody is called again.
        """
        if not delivery.open:
            return
        delivery.reminder, delivery.reminded_by = text, by
        if abs(at - delivery.reminded_at) >= reminding.SPACING_SECONDS:
            delivery.reminded_at = at
            self._inbox.add_event(REMINDER, delivery, at)
        self._inbox.save(delivery)

    # --- as time goes by -------------------------------------------------------------------------

    def is_planned(self) -> bool:
        """Whether the rows are planned for the zone that the store is in."""
        return self._memory.text(_PLANNED_FOR, _AT_FIRST) == self._memory.facts().timezone

    def plan_all(self, at: float) -> None:
        """Let all open work be looked at: the store's zone is another one, or the program is."""
        upgraded = self._memory.text(_PLANNED_FOR) == _UNPLANNED
        self._memory.keep(_PLANNED_FOR, self._memory.facts().timezone)
        for delivery in self._inbox.open_deliveries():
            terms = self._inbox.terms(delivery.directive)
            if terms.by_the_clock:
                if upgraded:
                    self.begin(delivery, terms, at)
                delivery.remind_at = at
                self._inbox.save(delivery)

    def was_ahead(self, at: float) -> bool:
        """Whether a clock that was ahead of the true time has reminded of open work."""
        return bool(self._inbox.reminded_after(at + reminding.SPACING_SECONDS))

    def plan_what_was_ahead(self, at: float) -> None:
        """Let that work be looked at by the true time."""
        for delivery in self._inbox.reminded_after(at + reminding.SPACING_SECONDS):
            delivery.remind_at = at
            self._inbox.save(delivery)

    def look(self, at: float, *, true_time: bool) -> bool:
        """Say what is to be said by now.

        Args:
            at: Unix time in the store.
            true_time: Whether that is known from HQ.

        Returns:
            Whether there is anything new for the hook.
        """
        new = False
        for delivery in self._inbox.to_remind(at, _AT_ONCE):
            try:
                with self._inbox.undone_alone():
                    new |= self._look_at(delivery, at, true_time=true_time)
            except Exception as error:
                if isinstance(error, OutboxFull) or not is_defect(error):
                    raise
                delivery.remind_at = None
                self._inbox.save(delivery)
                self._unusable(delivery, told(error))
        return new

    def _look_at(self, delivery: Delivery, at: float, *, true_time: bool) -> bool:
        schedule = self._schedule(self._inbox.terms(delivery.directive))
        said = Told(delivery.steps, delivery.insisted, delivery.reminded_at)
        if true_time:
            said = reminding.without_false_clock(schedule, said, at)
        verdict = reminding.judge(schedule, said, at)
        delivery.steps, delivery.insisted, delivery.reminded_at = verdict.told
        delivery.remind_at = verdict.look_at
        if verdict.remind is not None:
            self._inbox.add_event(REMINDER, delivery, at)
        if verdict.insist:
            self._inbox.add_event(FORCED, delivery, at)
        self._inbox.save(delivery)
        return verdict.insist or verdict.remind is not None

    def _schedule(self, terms: Terms) -> Schedule:
        zone = zone_of(self._memory.facts().timezone)

        def moment(text: str | None) -> float | None:
            try:
                return None if text is None else instant(text, zone)
            except WireError:
                return None  # a form of a later version

        return Schedule(terms.remind, moment(terms.due), zone, moment(terms.forced_from))
