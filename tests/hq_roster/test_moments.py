"""What people write for --due and --expires, and when that is in a store."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hqconsole.moments import Moment, MomentError, parse_moment

PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=PARIS)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Friday 18:00", "2026-11-27T18:00"),
        ("fri 18:00", "2026-11-27T18:00"),
        ("by Friday, at 18:00", "2026-11-27T18:00"),
        ("18:00 on Friday", "2026-11-27T18:00"),
        ("  FRIDAY   6pm ", "2026-11-27T18:00"),
        ("Friday 6:30 pm", "2026-11-27T18:30"),
        ("Friday 12am", "2026-11-27T00:00"),
        ("Friday 12pm", "2026-11-27T12:00"),
        ("Friday", "2026-11-27T23:59"),
        ("Friday 24:00", "2026-11-28T00:00"),
        ("Wednesday 18:00", "2026-11-25T18:00"),
        ("Wednesday 12:00", "2026-12-02T12:00"),
        ("Wednesday 9:00", "2026-12-02T09:00"),
        ("Wednesday", "2026-11-25T23:59"),
        ("Tuesday", "2026-12-01T23:59"),
        ("thurs 8:15", "2026-11-26T08:15"),
        ("tomorrow 9:00", "2026-11-26T09:00"),
        ("tomorrow", "2026-11-26T23:59"),
        ("today 18:00", "2026-11-25T18:00"),
        ("today 9:00", "2026-11-25T09:00"),
        ("today", "2026-11-25T23:59"),
        ("18:00", "2026-11-25T18:00"),
        ("9:00", "2026-11-26T09:00"),
        ("9am", "2026-11-26T09:00"),
        ("18：00", "2026-11-25T18:00"),  # noqa: RUF001 - an input method's full-width colon
        ("2026-12-01 18:00", "2026-12-01T18:00"),
        ("2026-12-01T18:00", "2026-12-01T18:00"),
        ("2026-12-01 18:00:30", "2026-12-01T18:00:30"),
        ("2026-12-01", "2026-12-01T23:59"),
        ("2026-12-1", "2026-12-01T23:59"),
        ("2028-02-29", "2028-02-29T23:59"),
    ],
)
def test_days_and_times_of_day_are_meant_on_each_stores_own_clock(text: str, expected: str) -> None:
    """Words of the calendar give a wall time without a zone."""
    moment = parse_moment(text, now=NOW)
    assert str(moment) == expected
    assert moment.is_local


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in 2 hours", "2026-11-25T13:00:00Z"),
        ("in 1 hour", "2026-11-25T12:00:00Z"),
        ("in 3 days", "2026-11-28T11:00:00Z"),
        ("in 90 minutes", "2026-11-25T12:30:00Z"),
        ("in 1 hour and 30 minutes", "2026-11-25T12:30:00Z"),
        ("in 2 weeks", "2026-12-09T11:00:00Z"),
        ("+90m", "2026-11-25T12:30:00Z"),
        ("+1h30m", "2026-11-25T12:30:00Z"),
        ("+ 2 h", "2026-11-25T13:00:00Z"),
        ("+2d", "2026-11-27T11:00:00Z"),
        ("2026-12-01T18:00Z", "2026-12-01T18:00:00Z"),
        ("2026-12-01 18:00 UTC", "2026-12-01T18:00:00Z"),
        ("2026-12-01T18:00+01:00", "2026-12-01T17:00:00Z"),
        ("2026-12-01T18:00:00-0330", "2026-12-01T21:30:00Z"),
        ("2026-12-01T18:00+08", "2026-12-01T10:00:00Z"),
    ],
)
def test_durations_and_offsets_are_one_instant_for_all(text: str, expected: str) -> None:
    """Every store, whatever its zone, gets the same Unix second."""
    moment = parse_moment(text, now=NOW)
    assert str(moment) == expected
    assert not moment.is_local
    assert moment.at("Asia/Tokyo") == moment.at("America/New_York")
    assert moment.at("UTC") == datetime.fromisoformat(expected).timestamp()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "write for example"),
        ("soon", "write for example"),
        ("Fryday 18:00", "write for example"),
        ("next Friday 18:00", "give the date"),
        ("01/12/2026", "year-month-day"),
        ("1.12.2026 18:00", "year-month-day"),
        ("12-01 18:00", "year-month-day"),
        ("Friday 25:00", "00:00 to 24:00"),
        ("Friday 24:30", "00:00 to 24:00"),
        ("18:60", "00:00 to 24:00"),
        ("13pm", "00:00 to 24:00"),
        ("0am", "00:00 to 24:00"),
        ("2026-02-30", "2026-12-01"),
        ("2026-13-01 18:00", "2026-12-01"),
        ("2026-12-01T18:00+25:00", "2026-12-01"),
        ("2026-12-01T18:00+01:75", "2026-12-01"),
        ("in -2 hours", "write for example"),
        ("in two hours", "write for example"),
        ("+90", "write for example"),
        ("2020-12-01 18:00", "a time to come"),
        ("2026-11-25T10:59Z", "a time to come"),
        ("2026-11-23", "a time to come"),
        ("in 999999 weeks", "a nearer time"),
        ("9999-12-31 24:00", "a nearer time"),
        ("Friday \x1b[31m18:00", "write for example"),
        ("18:00 19:00", "write for example"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_examples(text: str, told: str) -> None:
    """A slip gives a clear error, printable, with something to type instead."""
    with pytest.raises(MomentError) as caught:
        parse_moment(text, now=NOW)
    assert caught.value.hint is not None
    assert told in caught.value.hint
    assert str(caught.value).isprintable()
    assert caught.value.exit_code == 2


def test_today_may_be_past_at_hq_and_ahead_further_west() -> None:
    """At noon in Paris, 9:00 today is still to come in Los Angeles, so it is not refused."""
    moment = parse_moment("today 9:00", now=NOW)
    assert moment.at("Europe/Paris") < NOW.timestamp() < moment.at("America/Los_Angeles")


@pytest.mark.parametrize(
    ("zone", "utc"),
    [
        ("Asia/Tokyo", "2026-11-27T09:00Z"),
        ("Europe/Paris", "2026-11-27T17:00Z"),
        ("America/New_York", "2026-11-27T23:00Z"),
        ("Asia/Kathmandu", "2026-11-27T12:15Z"),
        ("Pacific/Kiritimati", "2026-11-27T04:00Z"),
    ],
)
def test_a_local_moment_comes_when_the_stores_clock_shows_it(zone: str, utc: str) -> None:
    """Friday 18:00 is 18:00 in every store, hours apart."""
    moment = parse_moment("Friday 18:00", now=NOW)
    assert moment.at(zone) == datetime.fromisoformat(utc).timestamp()


def test_a_wall_time_that_spring_skips_moves_forward() -> None:
    """02:30 on the night of the change is 03:30; a skipped day is the day after."""
    paris = Moment.from_text("2027-03-28T02:30").at("Europe/Paris")
    assert datetime.fromtimestamp(paris, PARIS).replace(tzinfo=None) == datetime(2027, 3, 28, 3, 30)  # noqa: DTZ001 - wall times are compared
    apia = Moment.from_text("2011-12-30T12:00").at("Pacific/Apia")
    assert datetime.fromtimestamp(apia, ZoneInfo("Pacific/Apia")).isoformat() == (
        "2011-12-31T12:00:00+14:00"
    )


def test_a_wall_time_that_autumn_shows_twice_is_the_first() -> None:
    """02:30 on the night of the change is the one in summer time."""
    assert Moment.from_text("2026-10-25T02:30").at("Europe/Paris") == (
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    )


def test_a_weekday_keeps_its_hour_across_a_change_of_the_clocks() -> None:
    """Written before the change and due after it, 18:00 stays 18:00."""
    moment = parse_moment("Monday 18:00", now=datetime(2026, 10, 23, 9, 0, tzinfo=PARIS))
    at = datetime.fromtimestamp(moment.at("Europe/Paris"), PARIS)
    assert at.isoformat() == "2026-10-26T18:00:00+01:00"


def test_an_unknown_time_zone_is_a_clear_error() -> None:
    """Whatever stands in the roster, placing a moment never ends in a stack trace."""
    moment = Moment.from_text("2026-11-27T18:00")
    for zone in ("Europe/Atlantis", "", "America", "../../etc/passwd", "/etc/passwd", "a\0b"):
        with pytest.raises(MomentError, match="no time zone") as caught:
            moment.at(zone)
        assert caught.value.hint


def test_now_must_say_where_it_is() -> None:
    """A naive clock is the caller's mistake, found at once."""
    with pytest.raises(ValueError, match="time zone"):
        parse_moment("18:00", now=datetime(2026, 11, 25))  # noqa: DTZ001 - the mistake itself


def test_what_was_not_written_by_str_is_not_read_back() -> None:
    """A damaged kept moment is said to be one."""
    for text in ("", "tomorrow", "2026-11-27", "2026-11-27T18:00Zx"):
        with pytest.raises(MomentError, match="as it is kept"):
            Moment.from_text(text)
    for kwargs in ({}, {"wall": datetime(2026, 1, 1), "unix_seconds": 1}):  # noqa: DTZ001 - wall time
        with pytest.raises(ValueError, match="either"):
            Moment(**kwargs)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.datetimes(min_value=datetime(1000, 1, 1)).map(  # noqa: DTZ001 - wall times are meant
            lambda wall: Moment(wall=wall.replace(microsecond=0))
        ),
        st.integers(-30_000_000_000, 250_000_000_000).map(
            lambda seconds: Moment(unix_seconds=seconds)
        ),
    )
)
def test_moments_survive_being_kept(moment: Moment) -> None:
    """Through JSON and back, a moment is the same moment."""
    assert Moment.from_text(json.loads(json.dumps(str(moment)))) == moment


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789:-+ tTzZapminhourdysfke/.٣", max_size=24), st.integers(0, 10**9))
def test_any_text_is_a_moment_to_come_or_a_clear_refusal(text: str, seconds: int) -> None:
    """Nothing but MomentError comes out, at any time of any year."""
    now = NOW + timedelta(seconds=seconds)
    refusal = None
    try:
        moment = parse_moment(text, now=now)
    except MomentError as error:
        refusal = error
    if refusal is not None:
        assert refusal.hint
        return
    assert moment.at("Etc/GMT+12") > now.timestamp() - 1
    assert Moment.from_text(str(moment)) == moment
