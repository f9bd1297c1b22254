"""When open work is reminded of: the steps of a directive's rules, and which of them counts now.

Owns the arithmetic of `Reminder` rules over a due moment, for devices, which remind, and for head
office, which escalates and explains. Pure: the time, the zone and what was already said come in as
arguments. Must not know who is told, or how.

The rules, as topics.md has them:

- A step is so many seconds from the due moment; without one there are no steps. Seconds, not
  readings of a clock: two hours before due are two hours also when the clock is changed between.
- A step outside its rule's window comes at the first moment at which the store's clock is inside
  it, whatever is done to that clock in spring and autumn. A window may go over midnight.
- Steps that were missed are not made up for: of all that have come only the latest counts, once.
- Nobody is reminded of one piece of work twice within `SPACING_SECONDS`, whichever rules ask.
- Without a rule, `forced_from` is a step of its own kind: from then on the directive insists.

Invariants:
- The steps of a rule never come in another order than their numbers.
- A step that has come has come for good: `Told` only grows, so a clock that is set back repeats
  nothing, and a restart repeats nothing that was saved.
"""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from math import floor
from typing import Final, NamedTuple

from buswire.messages import Reminder

SPACING_SECONDS: Final = 300.0
"""One piece of work is not reminded of more often."""

_DAY_SECONDS = 86_400.0


class Step(NamedTuple):
    """One moment at which a rule reminds."""

    at: float
    """Unix time in seconds."""
    rule: int
    """The rule's place in the directive's list, from 0."""
    step: int
    """Which of the rule's steps, from 0."""


class Schedule(NamedTuple):
    """All that happens to one directive by the clock, in one store's zone."""

    rules: Sequence[Reminder]
    due_at: float | None
    zone: tzinfo
    forced_at: float | None = None


class Told(NamedTuple):
    """What has been said of one piece of work, or need not be said any more."""

    steps: tuple[int, ...] = ()
    """Of each rule, how many steps have come."""
    insisted: bool = False
    """Whether it was said that it is forced."""
    at: float = 0.0
    """When somebody was told of either last, in Unix seconds; 0 if never."""


class Verdict(NamedTuple):
    """What is to be said now, and what is to be kept of that."""

    remind: Step | None
    insist: bool
    told: Told
    look_at: float | None
    """When to judge again; None when nothing is to come."""


def latest(
    rules: Sequence[Reminder], due_at: float | None, zone: tzinfo, now: float
) -> Step | None:
    """The latest step that has come; of several at one moment, that of the last rule.

    Args:
        rules: The directive's.
        due_at: When it is due in this store (`moments.instant`); None if never.
        zone: The store's.
        now: Unix time in seconds.
    """
    if due_at is None:
        return None
    steps = (
        Step(step_at(rule, count - 1, due_at, zone), place, count - 1)
        for place, rule in enumerate(rules)
        if (count := _come(rule, due_at, zone, now))
    )
    return max(steps, default=None)


def next_at(
    rules: Sequence[Reminder], due_at: float | None, zone: tzinfo, now: float
) -> float | None:
    """When the next step comes, later than `now`; None when none does. Arguments as `latest`."""
    if due_at is None:
        return None
    coming = (
        step_at(rule, count, due_at, zone)
        for rule in rules
        if (count := _come(rule, due_at, zone, now)) < _times(rule)
    )
    return min((at for at in coming if at < float("inf")), default=None)


def step_at(rule: Reminder, step: int, due_at: float, zone: tzinfo) -> float:
    """When one step of a rule comes, in Unix seconds.

    Args:
        rule: One of a directive's.
        step: Which, from 0; whether the rule has so many is not looked at.
        due_at: When the directive is due in this store.
        zone: The store's.
    """
    at = due_at + rule.from_due_seconds + step * (rule.every_seconds or 0.0)
    return at if rule.window is None else _inside_at(rule.window, at, zone)


def begun(schedule: Schedule, now: float) -> Told:
    """What counts as said of work that arrives now: its arrival is the news, no step before it."""
    return Told(_counts(schedule, now))


def without_false_clock(schedule: Schedule, told: Told, now: float) -> Told:
    """What counts as said where that was noted by a clock that was ahead of the true time.

    Call it only with a `now` that is known to be true: what a false clock took for the past is the
    future again, and nothing that has truly come is repeated.
    """
    if told.at <= now + SPACING_SECONDS:
        return told
    forced = schedule.forced_at is not None and schedule.forced_at <= now
    return begun(schedule, now)._replace(insisted=told.insisted and forced)


def judge(schedule: Schedule, told: Told, now: float) -> Verdict:
    """Decide what is to be said now of one piece of open work.

    Args:
        schedule: Of its directive.
        told: What was said of it so far.
        now: Unix time in seconds.
    """
    here = _counts(schedule, now)
    before = (*told.steps, *(0 for _ in here))
    fresh = any(count > known for count, known in zip(here, before, strict=False))
    remind: Step | None = None
    steps, put_off_until = told.steps, None
    if fresh and abs(now - told.at) < SPACING_SECONDS:
        put_off_until = told.at + SPACING_SECONDS
    elif fresh:
        remind = latest(schedule.rules, schedule.due_at, schedule.zone, now)
        steps = tuple(max(pair) for pair in zip(here, before, strict=False))
    forced_at = schedule.forced_at
    insist = not told.insisted and forced_at is not None and forced_at <= now
    coming = [
        next_at(schedule.rules, schedule.due_at, schedule.zone, now),
        put_off_until,
        None if insist or told.insisted else forced_at,
    ]
    return Verdict(
        remind,
        insist,
        Told(steps, told.insisted or insist, now if insist or remind is not None else told.at),
        min((at for at in coming if at is not None), default=None),
    )


# --- inside --------------------------------------------------------------------------------------


def _times(rule: Reminder) -> int:
    return 1 if rule.every_seconds is None else rule.times


def _counts(schedule: Schedule, now: float) -> tuple[int, ...]:
    due_at = schedule.due_at
    if due_at is None:
        return ()
    return tuple(_come(rule, due_at, schedule.zone, now) for rule in schedule.rules)


def _come(rule: Reminder, due_at: float, zone: tzinfo, now: float) -> int:
    """How many steps of a rule have come."""
    first = due_at + rule.from_due_seconds
    if not first <= now:
        return 0
    high = _times(rule)
    if rule.every_seconds is not None:
        high = int(min(high, (now - first) // rule.every_seconds + 1))
    if rule.window is None:
        return high
    low = 0  # so many have come for certain, and at most `high`
    while low < high:
        middle = (low + high + 1) // 2
        if step_at(rule, middle - 1, due_at, zone) <= now:
            low = middle
        else:
            high = middle - 1
    return low


def _inside_at(window: tuple[int, int], at: float, zone: tzinfo) -> float:
    """The first moment, not before `at`, at which the zone's clock is inside the window.

    A moment beyond the calendar stays as it is: it never comes, or has been for ever.
    """
    try:
        for _ in range(10):  # a day that lacks its window, and the change of the clock around it
            if _inside(window, local := datetime.fromtimestamp(at, zone)):
                return at
            wait = (window[0] % 1440 * 60 - _day_seconds(local)) % _DAY_SECONDS
            changed_at = _next_change(at, at + wait, zone)
            at = at + wait if changed_at is None else changed_at
    except (ValueError, OverflowError, OSError):
        pass
    return at


def _inside(window: tuple[int, int], local: datetime) -> bool:
    begin, end, clock = window[0] % 1440 * 60, window[1] * 60, _day_seconds(local)
    return begin <= clock <= end if begin <= end else clock >= begin or clock <= end


def _day_seconds(local: datetime) -> float:
    return local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6


def _next_change(at: float, until: float, zone: tzinfo) -> float | None:
    """When the clock is changed after `at` and not after `until`, if it is; to the second."""
    before, after = floor(at), floor(until) + 1
    offset = datetime.fromtimestamp(before, zone).utcoffset()
    if datetime.fromtimestamp(after, zone).utcoffset() == offset:
        return None
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return float(after) if after <= until else None
