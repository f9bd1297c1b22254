"""Rules of reminding and escalating as people write them: `every 4h after due, 08:00-20:00`.

Owns the reading of such rules and their writing in one form. Must not know directives, when
something is due, or who reminds (`buswire.reminding`). Pure; there is no clock here.

A rule of reminding is a time, and then what bounds it, apart by commas:

* the time: `2h before due`, `at due`, `30m after due` (once); `every 4h after due` (first 4 h
  after); `every 30m from 2h before due` (first 2 h before, and on beyond it);
* `6 times`: at most so often in all;
* `08:00-20:00`: only in these hours of the store's day. Also `20:00-04:00`, over midnight.

One line may hold several rules joined by `and`; what bounds the last bounds them all, unless they
say otherwise: `2h before due and every 4h after due, 08:00-20:00`.

A rule of escalating: `24h late: region manager`.

Invariants: `parse_rule(words(rule)) == rule`, `parse_escalation(escalation_words(rule)) == rule`.
"""

import re
import unicodedata
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from buswire.messages import Reminder
from buswire.names import shown
from hqconsole.errors import HqError

EXAMPLES: Final = '"2h before due", "every 4h after due, 6 times, 08:00-20:00"'
ESCALATION_EXAMPLE: Final = '"24h late: region manager"'
LEAST_SECONDS: Final = 300
"""Nobody is reminded more often."""
MOST_SECONDS: Final = 366 * 86_400
MOST_TIMES: Final = 1000

_LIKE_ASCII = {0x2013: "-", 0x2019: "'"}  # the dash and the apostrophe of word processors
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_STEP = r"\d{1,6}\s*(?:m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)(?![a-z])"
_SPAN = rf"{_STEP}(?:\s*{_STEP})*"
_STEPS = re.compile(r"(\d+)\s*([mhdw])")
_DUE = r"(?:\s+(?:it\s+is\s+)?due)?"
_ONCE = re.compile(rf"({_SPAN})\s+(before|after){_DUE}|(?:at|when)\s+due")
_EVERY = re.compile(
    rf"every\s+({_SPAN})(?:\s+after{_DUE}|\s+from\s+(?:({_SPAN})\s+(before|after)\s+)?due(?:\s+on)?)"
)
_TIMES = re.compile(r"(?:at\s+most\s+)?(\d{1,6})\s*(?:times?|x)")
_CLOCK = r"(\d{1,2})(?::(\d{2}))?"
_WINDOW = re.compile(rf"(?:(?:from|between)\s+)?{_CLOCK}\s*(?:-|to|and|until)\s*{_CLOCK}")
_AND = re.compile(r"\s+and\s+(?=every\b|\d+\s*[a-z]|at\s+due|when\s+due)")
_LATE = re.compile(rf"({_SPAN})\s+(?:late|after{_DUE}|overdue)\s*:\s*(.+)")
_REGION = re.compile(r"(?:the\s+)?(?:regional|region(?:'s)?)(?:\s+manager)?")


class RuleError(HqError):
    """What was written is no rule, or one that cannot be."""

    exit_code = 2


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to tell when work is late for so long."""

    late_seconds: Annotated[float, Meta(ge=0)]
    to: Literal["region"] = "region"
    """`region`: whoever manages the region."""


def parse_rule(text: str) -> Reminder:
    """Return the one rule of reminding that a person wrote.

    Raises:
        RuleError: It cannot be read, cannot be, or is several; the message says what and how.
    """
    rules = parse_rules(text)
    if len(rules) > 1:
        raise RuleError(f"{shown(text)} is {len(rules)} rules", hint="write them one by one")
    return rules[0]


def parse_rules(text: str) -> tuple[Reminder, ...]:
    """Return the rules of reminding in one line, joined by `and`.

    Raises:
        RuleError: One of them cannot be read, or cannot be.
    """
    parts = [_parsed(part, text) for part in _AND.split(_plain(text))]
    last = parts[-1]
    return tuple(_reminder(*part, last=last, text=text) for part in parts)


def parse_escalation(text: str) -> Escalation:
    """Return the rule of escalating that a person wrote.

    Raises:
        RuleError: It cannot be read.
    """
    hint = f"write for example {ESCALATION_EXAMPLE}"
    match = _LATE.fullmatch(_plain(text))
    if match is None:
        raise RuleError(f"{shown(text)} is no rule of escalating", hint=hint)
    if not _REGION.fullmatch(match[2]):
        raise RuleError(f"{shown(match[2])} is nobody to escalate to", hint=hint)
    return Escalation(late_seconds=_seconds(match[1], text), to="region")


def parse_span(text: str) -> float:
    """Return the seconds of a span of time such as `30d` or `1h 30m`.

    Raises:
        RuleError: It is none.
    """
    plain = _plain(text)
    if re.fullmatch(_SPAN, plain) is None:
        raise RuleError(f"{shown(text)} is no span of time", hint="write 30m, 24h or 7d")
    return _seconds(plain, text)


def words(rule: Reminder) -> str:
    """Return a rule in the one form in which it is shown, which `parse_rule` reads."""
    first, every = rule.from_due_seconds, rule.every_seconds
    start = "due"
    if first:
        start = f"{span_words(abs(first))} {'before' if first < 0 else 'after'} due"
    if every is None:
        parts = [start if first else "at due"]
    elif every == first:
        parts = [f"every {span_words(every)} after due"]
    else:
        parts = [f"every {span_words(every)} from {start}"]
    if every is not None and rule.times != _default_times():
        parts.append(f"{rule.times} times")
    if rule.window is not None:
        parts.append("-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in rule.window))
    return ", ".join(parts)


def escalation_words(rule: Escalation) -> str:
    """Return a rule in the one form in which it is shown, which `parse_escalation` reads."""
    return f"{span_words(rule.late_seconds)} late: region manager"


def span_words(seconds: float) -> str:
    """Return a span in whole units, such as `2h` or `1h 30m`; whole minutes are what there is."""
    days, left = divmod(round(seconds), 86_400)
    if not left and days != 1:  # 24 h is how people speak of one day
        return f"{days}d" if days else "0m"
    hours, left = divmod(round(seconds), 3600)
    both = [f"{hours}h"] if hours else []
    return " ".join([*both, f"{left // 60}m"] if left else both)


_Bounds = tuple[float, float | None, int | None, tuple[int, int] | None]


def _parsed(part: str, text: str) -> _Bounds:
    """The first time, the pause between times, how often, and in which hours."""
    timing, *bounds = (piece.strip() for piece in part.split(","))
    first, every = _timing(timing, text)
    times: int | None = None
    window: tuple[int, int] | None = None
    for bound in bounds:
        if (match := _TIMES.fullmatch(bound)) and times is None:
            times = int(match[1])
            if not 1 <= times <= MOST_TIMES:
                raise RuleError(f"{shown(text)}: {times} times", hint=f"1 to {MOST_TIMES}")
        elif (match := _WINDOW.fullmatch(bound)) and window is None:
            window = _hours(match, text)
        else:
            raise RuleError(
                f"{shown(text)}: {shown(bound)} bounds nothing that is known",
                hint="after the time come, each once, 6 times and 08:00-20:00",
            )
    if every is None and times not in {None, 1}:
        raise RuleError(
            f"{shown(text)} says how often, and not at what pause",
            hint="write for example every 4h after due, 6 times",
        )
    return first, every, times, window


def _reminder(
    first: float,
    every: float | None,
    times: int | None,
    window: tuple[int, int] | None,
    *,
    last: _Bounds,
    text: str,
) -> Reminder:
    if every is not None and every < LEAST_SECONDS:
        raise RuleError(
            f"{shown(text)} would remind every {span_words(every)}",
            hint=f"nobody is reminded more often than every {LEAST_SECONDS // 60} minutes",
        )
    times = None if every is None else times or last[2]
    return Reminder(
        from_due_seconds=first,
        every_seconds=every,
        times=_default_times() if times is None else times,
        window=window or last[3],
    )


def _timing(timing: str, text: str) -> tuple[float, float | None]:
    if match := _ONCE.fullmatch(timing):
        if match[1] is None:
            return 0.0, None
        return _signed(match[1], match[2], text), None
    if match := _EVERY.fullmatch(timing):
        every = _seconds(match[1], text)
        if " from " not in timing:
            return every, every
        return (0.0 if match[2] is None else _signed(match[2], match[3], text)), every
    raise RuleError(f"{shown(text)} is no rule of reminding", hint=f"write for example {EXAMPLES}")


def _signed(span: str, side: str, text: str) -> float:
    return _seconds(span, text) * (-1 if side == "before" else 1)


def _seconds(span: str, text: str) -> float:
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _STEPS.findall(span))
    if not 0 < seconds <= MOST_SECONDS:
        raise RuleError(f"{shown(text)}: {span} cannot be", hint="1 minute to 366 days")
    return float(seconds)


def _hours(match: re.Match[str], text: str) -> tuple[int, int]:
    begin, end = (
        int(hour) * 60 + int(minute or 0) for hour, minute in (match.group(1, 2), match.group(3, 4))
    )
    if max(begin, end) > 24 * 60 or int(match[2] or 0) > 59 or int(match[4] or 0) > 59:
        raise RuleError(f"{shown(text)} has no such hours", hint="00:00 to 24:00")
    if begin == end:
        raise RuleError(
            f"{shown(text)}: these hours are none", hint="leave them out for the whole day"
        )
    return begin, end


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).lower().translate(_LIKE_ASCII)
    return " ".join(folded.split())


def _default_times() -> int:
    return Reminder(from_due_seconds=0).times
