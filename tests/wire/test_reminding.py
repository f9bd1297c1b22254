"""Reminders: which step counts when, against a model that walks through time minute by minute."""

from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buswire.messages import Reminder
from buswire.moments import instant
from buswire.reminding import (
    SPACING_SECONDS,
    Schedule,
    Step,
    Told,
    begun,
    judge,
    latest,
    next_at,
    step_at,
    without_false_clock,
)

PARIS = ZoneInfo("Europe/Paris")
HOUR = 3600.0
ZONES = [
    "UTC",
    "Europe/Paris",
    "America/St_Johns",  # half an hour, and changed at a minute past midnight in the past
    "Australia/Lord_Howe",  # changed by half an hour
    "Asia/Kolkata",
    "Pacific/Apia",
    "America/New_York",
]
DUES = [
    "2026-11-27T18:00",
    "2026-03-29T02:30",  # skipped in Paris
    "2026-10-25T02:30",  # twice in Paris
    "2026-03-08T02:30",  # skipped in New York
    "2026-04-05T01:45",  # twice on Lord Howe
    "2026-12-31T23:59",
    "2011-12-29T20:00",  # Apia had no 30th
]


def _at(text: str, zone: tzinfo = PARIS) -> float:
    return instant(text, zone)


def _clock(at: float, zone: tzinfo = PARIS) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%dT%H:%M")


def _rule(first: float, every: float | None = None, **more: object) -> Reminder:
    return Reminder(from_due_seconds=first, every_seconds=every, **more)  # type: ignore[arg-type]


# --- by example ----------------------------------------------------------------------------------


def test_steps_are_counted_from_due() -> None:
    """Two hours before, and every four hours after, as HQ wrote it."""
    rules = [_rule(-2 * HOUR), _rule(4 * HOUR, 4 * HOUR, times=3)]
    due_at = _at("2026-11-27T18:00")
    assert latest(rules, due_at, PARIS, due_at - 2 * HOUR - 1) is None
    assert latest(rules, due_at, PARIS, due_at) == Step(due_at - 2 * HOUR, 0, 0)
    assert latest(rules, due_at, PARIS, due_at + 9 * HOUR) == Step(due_at + 8 * HOUR, 1, 1)
    assert next_at(rules, due_at, PARIS, due_at + 8 * HOUR) == due_at + 12 * HOUR
    assert next_at(rules, due_at, PARIS, due_at + 12 * HOUR) is None


def test_without_a_due_moment_nobody_is_reminded() -> None:
    """A step is counted from something."""
    assert latest([_rule(0.0)], None, PARIS, 1e9) is None
    assert next_at([_rule(0.0)], None, PARIS, 0.0) is None


@pytest.mark.parametrize(
    ("window", "at", "comes"),
    [
        ((480, 1200), "2026-11-27T07:59", "2026-11-27T08:00"),
        ((480, 1200), "2026-11-27T08:00", "2026-11-27T08:00"),
        ((480, 1200), "2026-11-27T20:00", "2026-11-27T20:00"),
        ((480, 1200), "2026-11-27T20:01", "2026-11-28T08:00"),
        ((1200, 240), "2026-11-27T03:00", "2026-11-27T03:00"),  # over midnight
        ((1200, 240), "2026-11-27T12:00", "2026-11-27T20:00"),
        ((0, 1440), "2026-11-27T23:59", "2026-11-27T23:59"),
        ((1440, 60), "2026-11-27T23:00", "2026-11-28T00:00"),
        ((600, 600), "2026-11-27T10:01", "2026-11-28T10:00"),
        ((150, 300), "2026-03-29T01:59", "2026-03-29T03:00"),  # 02:30 is skipped: 3 is inside
        ((150, 170), "2026-03-29T01:59", "2026-03-30T02:30"),  # the whole window is skipped
        ((480, 1200), "2026-10-24T21:00", "2026-10-25T08:00"),  # the night is an hour longer
    ],
)
def test_a_step_outside_its_window_waits_until_it_begins(
    window: tuple[int, int], at: str, comes: str
) -> None:
    """By the store's own clock, whatever was done to it in the night."""
    rule = _rule(0.0, window=window)
    assert _clock(step_at(rule, 0, _at(at), PARIS)) == comes


def test_of_a_night_of_steps_one_is_left() -> None:
    """Hourly in the night waits until morning, and is one reminder then."""
    rules = [_rule(0.0, HOUR, window=(480, 1200))]
    due_at = _at("2026-11-27T20:30")
    schedule = Schedule(rules, due_at, PARIS)
    verdict = judge(schedule, begun(schedule, due_at - 1), _at("2026-11-28T08:00"))
    assert verdict.remind == Step(_at("2026-11-28T08:00"), 0, 11)
    assert verdict.look_at == _at("2026-11-28T08:30")


def test_what_was_missed_is_not_made_up_for() -> None:
    """After a night without power: the latest step once, and nothing again at once after it."""
    due_at = _at("2026-11-27T18:00")
    schedule = Schedule([_rule(-HOUR), _rule(0.0, HOUR)], due_at, PARIS)
    first = judge(schedule, Told((0, 0)), due_at + 9.5 * HOUR)
    assert first.remind == Step(due_at + 9 * HOUR, 1, 9)
    again = judge(schedule, first.told, due_at + 9.5 * HOUR + 600)
    assert again.remind is None
    assert again.look_at == due_at + 10 * HOUR


def test_what_comes_late_is_news_and_no_reminder() -> None:
    """Work that arrives after its steps is not reminded of for them."""
    due_at = _at("2026-11-27T18:00")
    schedule = Schedule([_rule(0.0, HOUR, times=3)], due_at, PARIS)
    told = begun(schedule, due_at + 90 * 60)
    assert judge(schedule, told, due_at + 90 * 60).remind is None
    assert judge(schedule, told, due_at + 2 * HOUR).remind == Step(due_at + 2 * HOUR, 0, 2)


def test_two_rules_do_not_remind_within_five_minutes() -> None:
    """The second waits for its spacing and is said then; the same moment is one reminder."""
    schedule = Schedule([_rule(0.0), _rule(0.0), _rule(60.0)], 1e9, PARIS)
    first = judge(schedule, Told((0, 0, 0)), 1e9)
    assert first.remind == Step(1e9, 1, 0)
    put_off = judge(schedule, first.told, 1e9 + 60)
    assert (put_off.remind, put_off.look_at) == (None, 1e9 + SPACING_SECONDS)
    assert judge(schedule, put_off.told, 1e9 + SPACING_SECONDS).remind == Step(1e9 + 60, 2, 0)


def test_forced_is_said_once_also_without_a_due_moment() -> None:
    """It is a step of its own kind; that it was said stays said."""
    schedule = Schedule((), None, PARIS, forced_at=1e9)
    before = judge(schedule, Told(), 1e9 - 1)
    assert (before.insist, before.look_at) == (False, 1e9)
    at = judge(schedule, before.told, 1e9)
    assert (at.insist, at.remind, at.look_at) == (True, None, None)
    assert not judge(schedule, at.told, 1e9 + 1).insist


def test_what_a_false_clock_took_for_the_past_is_the_future_again() -> None:
    """A clock was a year ahead for a while; with the true time later steps come as they should."""
    schedule = Schedule([_rule(0.0, HOUR)], 1e9, PARIS, forced_at=1e9 + 2 * HOUR)
    wrong = judge(schedule, Told((0,)), 1e9 + 3e7).told
    assert wrong.steps == (100,)
    mended = without_false_clock(schedule, wrong, 1e9 + 60)
    assert mended == Told((1,), insisted=False)
    assert judge(schedule, mended, 1e9 + 60).remind is None
    assert judge(schedule, mended, 1e9 + HOUR).remind == Step(1e9 + HOUR, 0, 1)
    assert without_false_clock(schedule, mended, 1e9 + 60) == mended


def test_numbers_without_sense_do_no_harm() -> None:
    """Beyond the calendar, before it, and as often as a float can say."""
    rules = [
        _rule(1e308, 1e308, window=(0, 1)),
        _rule(-1e308, 1e308, window=(0, 1)),
        _rule(-1e308, 300.0, times=1000, window=(5, 4)),
        _rule(3e11, window=(480, 1200)),
    ]
    for zone in map(ZoneInfo, ZONES):
        schedule = Schedule(rules, 1e9, zone)
        verdict = judge(schedule, begun(schedule, 1e9), 1e9)
        assert verdict.remind is None


# --- by property ---------------------------------------------------------------------------------

RULE = st.builds(
    Reminder,
    from_due_seconds=st.integers(-200, 200).map(lambda minutes: minutes * 60.0 * 7),
    every_seconds=st.none() | st.integers(5, 1500).map(lambda minutes: minutes * 60.0),
    times=st.integers(1, 12),
    window=st.none() | st.tuples(st.integers(0, 1440), st.integers(0, 1440)),
)
SCHEDULE = st.builds(
    lambda rules, due, zone, forced: Schedule(
        rules,
        _at(due, ZoneInfo(zone)),
        ZoneInfo(zone),
        None if forced is None else _at(due, ZoneInfo(zone)) + forced * 60.0,
    ),
    st.lists(RULE, min_size=1, max_size=3),
    st.sampled_from(DUES),
    st.sampled_from(ZONES),
    st.none() | st.integers(-1000, 1000),
)


def _inside(window: tuple[int, int], at: float, zone: tzinfo) -> bool:
    local = datetime.fromtimestamp(at, zone)
    begin, end, clock = window[0] % 1440 * 60, window[1] * 60, local.hour * 3600 + local.minute * 60
    return begin <= clock <= end if begin <= end else clock >= begin or clock <= end


@settings(max_examples=40, deadline=None, print_blob=True)
@given(rule=RULE, due=st.sampled_from(DUES), zone=st.sampled_from(ZONES))
def test_a_step_comes_in_the_first_minute_that_its_window_allows(
    rule: Reminder, due: str, zone: str
) -> None:
    """Found as somebody would who looks at the store's clock each minute."""
    there = ZoneInfo(zone)
    for step in (0, 3):
        at = _at(due, there) + rule.from_due_seconds + step * (rule.every_seconds or 0.0)
        found = step_at(rule, step, _at(due, there), there)
        if rule.window is not None:
            while not _inside(rule.window, at, there):
                at += 60.0
        assert found == at


@settings(max_examples=60, deadline=None, print_blob=True)
@given(schedule=SCHEDULE, now=st.integers(-3000, 3000))
def test_latest_and_next_are_what_all_steps_written_down_give(schedule: Schedule, now: int) -> None:
    """Each step listed, the last behind now and the first before it."""
    due_at, zone = schedule.due_at, schedule.zone
    assert due_at is not None
    at = due_at + now * 60.0
    steps = [
        Step(step_at(rule, step, due_at, zone), place, step)
        for place, rule in enumerate(schedule.rules)
        for step in range(1 if rule.every_seconds is None else rule.times)
    ]
    come = [one for one in steps if one.at <= at]
    assert latest(schedule.rules, due_at, zone, at) == max(come, default=None)
    coming = [one.at for one in steps if one.at > at]
    assert next_at(schedule.rules, due_at, zone, at) == min(coming, default=None)


@settings(max_examples=60, deadline=None, print_blob=True)
@given(
    schedule=SCHEDULE,
    looks=st.lists(st.integers(-3000, 3000), min_size=2, max_size=40),
)
def test_whenever_one_looks_each_step_is_said_once_and_never_too_often(
    schedule: Schedule, looks: list[int]
) -> None:
    """With gaps, and a clock that is set to and fro, as the kept numbers decide by themselves."""
    assert schedule.due_at is not None
    told = begun(schedule, schedule.due_at + looks[0] * 60.0)
    said: set[tuple[int, int]] = set()
    insisted = 0
    for look in looks[1:]:
        at = schedule.due_at + look * 60.0
        verdict = judge(schedule, told, at)
        insisted += verdict.insist
        if verdict.remind is not None:
            key = verdict.remind.rule, verdict.remind.step
            assert key not in said
            assert verdict.remind.at <= at
            assert abs(at - told.at) >= SPACING_SECONDS
            said.add(key)
        told = verdict.told
    assert insisted <= 1


@settings(max_examples=40, deadline=None, print_blob=True)
@given(schedule=SCHEDULE, begin=st.integers(-3000, 3000))
def test_who_looks_when_told_to_misses_nothing(schedule: Schedule, begin: int) -> None:
    """From look to look: in the end all steps have come, each look later than the one before."""
    assert schedule.due_at is not None
    at = schedule.due_at + begin * 60.0
    told = begun(schedule, at)
    for _ in range(200):
        verdict = judge(schedule, told, at)
        told = verdict.told
        if verdict.look_at is None:
            break
        assert verdict.look_at > at
        at = verdict.look_at
    assert told.steps == begun(schedule, at + 1e9).steps
    assert told.insisted == (schedule.forced_at is not None)
