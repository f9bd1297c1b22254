"""When work is due or expires: what a person wrote, as a moment that every store can place.

Owns the reading of words such as `Friday 18:00` and the arithmetic of time zones. Knows nothing of
directives or stores, and has no clock: now is an argument.

There are two kinds of moment, and the difference matters to a chain in several time zones:

* **Local**: a wall time, `2026-11-27T18:00`, meant in *each store's own* time zone. Weekdays, dates
  and times of day give this kind.
* **Absolute**: one instant for everyone, `2026-11-27T17:00:00Z`. Durations (`in 2 hours`) and times
  with an offset or Z give this kind. A day in a duration is 24 hours.

Rules of reading: a day without a time is the end of that day, 23:59. A time without a day is the
next time that the clock at HQ shows it. A weekday is the next such day at HQ, today included as
long as the time is still ahead there. `today` may be past at HQ: it can still be ahead in a store
further west. What is past in every time zone on Earth is refused as a slip.

Rules of placing (PEP 495, fold=0): a wall time that the clock skips in spring moves forward by what
was skipped (02:30 is 03:30); one that it shows twice in autumn is the first of the two.

Invariant: `Moment.from_text(str(moment)) == moment`.
"""

import functools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

from buswire.names import shown
from hqconsole.errors import HqError

EXAMPLES = (
    '"Friday 18:00", "tomorrow 9:00", "18:00", "2026-12-01 18:00", "in 2 hours", "+90m" '
    'or, one instant for all time zones, "2026-12-01T18:00Z"'
)

END_OF_DAY = timedelta(hours=23, minutes=59)

_LAST_ON_EARTH = timezone(timedelta(hours=-12))  # where a wall time comes last

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAY_NUMBERS = {
    **{name: number for number, name in enumerate(_WEEKDAYS)},
    **{name[:3]: number for number, name in enumerate(_WEEKDAYS)},
    "tues": 1,
    "thur": 3,
    "thurs": 3,
}
_UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s*(am|pm))?|(\d{1,2})\s*(am|pm)")
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_STAMP = re.compile(
    r"(\d{4}-\d{1,2}-\d{1,2})(?:t|\s+)(\d{1,2}:\d{2}(?::\d{2})?)\s*"
    r"(z|utc|gmt|[+-]\d{2}(?::?\d{2})?)?"
)
_STEP = r"\d{1,6}\s*(?:m|min|mins|minutes?|h|hrs?|hours?|d|days?|w|weeks?)(?![a-z])"
_DURATION = re.compile(rf"(?:in\s+|\+\s*){_STEP}(?:(?:\s*,\s*|\s+and\s+|\s*){_STEP})*")
_STEPS = re.compile(r"(\d+)\s*([mhdw])")
_OTHER_DATE = re.compile(r"\d{1,4}([./-])\d{1,2}(?:\1\d{2,4})?")


class MomentError(HqError):
    """What was written is not a moment, or one that cannot be meant."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, either on every store's own clock or the same instant for all.

    Exactly one of the two is set. `str` gives it as JSON keeps it: `2026-11-27T18:00` or
    `2026-11-27T17:00:00Z`.

    Attributes:
        wall: The local kind: a time without zone, in whole seconds.
        unix_seconds: The absolute kind: whole Unix seconds.
    """

    wall: datetime | None = None
    unix_seconds: int | None = None

    def __post_init__(self) -> None:
        if (self.wall is None) == (self.unix_seconds is None):
            raise ValueError("a moment is either local or absolute")
        if self.wall is not None and (self.wall.tzinfo is not None or self.wall.microsecond):
            raise ValueError("a wall time has no zone and whole seconds")

    @property
    def is_local(self) -> bool:
        """Whether each store reads this on its own clock."""
        return self.wall is not None

    def at(self, timezone_name: str) -> float:
        """Return the moment in Unix seconds for a store in this IANA time zone.

        Raises:
            MomentError: There is no such time zone on this machine.
        """
        if self.unix_seconds is not None:
            return float(self.unix_seconds)
        assert self.wall is not None  # the constructor saw to it
        return self.wall.replace(tzinfo=_zone(timezone_name), fold=0).timestamp()

    def __str__(self) -> str:
        if self.unix_seconds is not None:
            return f"{_from_unix(self.unix_seconds):%Y-%m-%dT%H:%M:%SZ}"
        assert self.wall is not None  # the constructor saw to it
        return self.wall.isoformat(timespec="seconds" if self.wall.second else "minutes")

    @classmethod
    def from_text(cls, text: str) -> "Moment":
        """Read what `str` wrote, past or not.

        Raises:
            MomentError: It was not written by `str`.
        """
        match = _STAMP.fullmatch(text.lower())
        if match is None:
            raise MomentError(f"{shown(text)} is not a moment as it is kept")
        return _stamp(match)


@functools.lru_cache(maxsize=4096)
def due_at(text: str, timezone_name: str) -> float | None:
    """When a moment as it is kept comes for a store in this time zone, in Unix seconds.

    None where the text or the zone is not known here: an adopted directive may have any.
    """
    try:
        return Moment.from_text(text).at(timezone_name)
    except MomentError:
        return None


def parse_moment(text: str, *, now: datetime) -> Moment:
    """Return the moment that a person wrote, in the forms of this module's docstring.

    Args:
        text: For example `Friday 18:00`; letter case, `at`, `on`, `by` and commas do not matter.
        now: The present time in HQ's time zone; must be aware.

    Raises:
        MomentError: It cannot be read, or it is past everywhere; the message has examples.
    """
    if now.tzinfo is None:
        raise ValueError("now must have a time zone")
    words = unicodedata.normalize("NFKC", text).strip().lower()
    moment = _duration(words, now) or _calendar(words, text, now)
    if moment.unix_seconds is not None:
        is_past = moment.unix_seconds < now.timestamp()
    else:
        assert moment.wall is not None  # the constructor saw to it
        is_past = moment.wall < now.astimezone(_LAST_ON_EARTH).replace(tzinfo=None)
    if is_past:
        raise MomentError(
            f"{shown(text)} is {moment}, which is past everywhere",
            hint=f"write a time to come: {EXAMPLES}",
        )
    return moment


def _duration(words: str, now: datetime) -> Moment | None:
    if not _DURATION.fullmatch(words):
        return None
    seconds = sum(
        int(number) * _UNIT_SECONDS[unit] for number, unit in _STEPS.findall(words.lstrip("in+ "))
    )
    unix_seconds = int(now.timestamp()) + seconds
    _from_unix(unix_seconds)  # refuses what no calendar shows
    return Moment(unix_seconds=unix_seconds)


def _calendar(words: str, text: str, now: datetime) -> Moment:
    stamp = _STAMP.fullmatch(words)
    if stamp is not None:
        return _stamp(stamp)
    words = " ".join(re.sub(r"\b(?:on|at|by)\b|,", " ", words).split())
    given, rest = _take_clock(words)
    clock = END_OF_DAY if given is None else given
    today = now.replace(tzinfo=None)
    if not rest and given is not None:
        return Moment(wall=_next(today.date(), clock, after=today, step_days=1))
    if rest in _WEEKDAY_NUMBERS:
        ahead = (_WEEKDAY_NUMBERS[rest] - today.weekday()) % 7
        day = today.date() + timedelta(days=ahead)
        return Moment(wall=_next(day, clock, after=today, step_days=7))
    if rest in {"today", "tomorrow"}:
        day = today.date() + timedelta(days=rest == "tomorrow")
        return Moment(wall=_combine(day, clock))
    if match := _DATE.fullmatch(rest):
        return Moment(wall=_combine(_date(match), clock))
    raise MomentError(f"{shown(text)} is no time that could be read", hint=_advice(rest))


def _advice(rest: str) -> str:
    if _OTHER_DATE.fullmatch(rest):
        return f"dates are year-month-day, whole: {EXAMPLES}"
    if rest.startswith("next "):
        return f"a weekday alone is the next such day; for one after that give the date: {EXAMPLES}"
    return f"write for example {EXAMPLES}"


def _take_clock(words: str) -> tuple[timedelta | None, str]:
    """Split a time of day off, wherever it stands, as the time since midnight."""
    for match in _CLOCK.finditer(words):
        before, after = words[: match.start()], words[match.end() :]
        if (before and not before.endswith(" ")) or (after and not after.startswith(" ")):
            continue
        hour = int(match[1] or match[5])
        half = match[4] or match[6]
        if half and not 1 <= hour <= 12:
            raise _no_clock(match[0])
        if half:
            hour = hour % 12 + (12 if half == "pm" else 0)
        return _since_midnight(hour, int(match[2] or 0), int(match[3] or 0), match[0]), (
            f"{before.strip()} {after.strip()}".strip()
        )
    return None, words


def _since_midnight(hour: int, minute: int, second: int, text: str) -> timedelta:
    # 24:00 is the end of a day, as ISO 8601 has it.
    if (hour > 23 and (hour, minute, second) != (24, 0, 0)) or minute > 59 or second > 59:
        raise _no_clock(text)
    return timedelta(hours=hour, minutes=minute, seconds=second)


def _no_clock(text: str) -> MomentError:
    return MomentError(f"{text} is no time of day", hint="times of day go from 00:00 to 24:00")


def _date(match: re.Match[str]) -> date:
    try:
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        raise MomentError(
            f"{match[0]} is no date", hint="dates are year-month-day, for example 2026-12-01"
        ) from None


def _stamp(match: re.Match[str]) -> Moment:
    day = _DATE.fullmatch(match[1])
    assert day is not None  # it is part of the pattern
    hour, minute, second = (int(part) for part in (match[2] + ":00").split(":")[:3])
    wall = _combine(_date(day), _since_midnight(hour, minute, second, match[2]))
    if match[3] is None:
        return Moment(wall=wall)
    offset = timedelta()
    if match[3][0] in "+-":
        digits = match[3][1:].replace(":", "").ljust(4, "0")
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        if offset >= timedelta(hours=24) or int(digits[2:]) > 59:
            raise MomentError(f"{match[3]} is no offset from UTC", hint=f"write {EXAMPLES}")
        offset = -offset if match[3][0] == "-" else offset
    unix_seconds = int(wall.replace(tzinfo=UTC).timestamp() - offset.total_seconds())
    _from_unix(unix_seconds)
    return Moment(unix_seconds=unix_seconds)


def _combine(day: date, clock: timedelta) -> datetime:
    return _in_calendar(lambda: datetime.combine(day, time()) + clock)


def _next(day: date, clock: timedelta, *, after: datetime, step_days: int) -> datetime:
    moment = _combine(day, clock)
    if moment > after:
        return moment
    return _in_calendar(lambda: moment + timedelta(days=step_days))


def _from_unix(unix_seconds: int) -> datetime:
    return _in_calendar(lambda: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_seconds))


def _in_calendar(compute: Callable[[], datetime]) -> datetime:
    try:
        return compute()
    except OverflowError:
        raise MomentError(
            "that is beyond the year 9999", hint=f"write a nearer time: {EXAMPLES}"
        ) from None


@functools.lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    # `ZoneInfo` itself keeps eight, and a chain can be in a hundred.
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise MomentError(
            f"there is no time zone {shown(name)} on this machine",
            hint="give an IANA name such as Europe/Paris; if that one fails too, install tzdata",
        ) from None
