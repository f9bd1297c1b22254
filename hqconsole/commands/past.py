"""Moments and spans that are past, as people write them for `--since` and `--until`."""

import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from hqconsole.home import read_hq_settings
from hqconsole.zones import time_zone

F = TypeVar("F", bound=Callable[..., Any])

_AGO = re.compile(r"(\d{1,6})\s*(?:(m|mins?|minutes?)|(h|hours?)|(d|days?)|(w|weeks?))(?:\s+ago)?")
_UNIT_SECONDS = (60, 3600, 86_400, 604_800)


def since_option(command: F) -> F:
    """Add `--since`, for `past_moment`."""
    return click.option(
        "--since", metavar="WHEN", help="From then on: 2026-11-20, '2026-11-20 08:00', 7d."
    )(command)


def until_option(command: F) -> F:
    """Add `--until`, for `past_moment` with `whole_day`."""
    return click.option(
        "--until", metavar="WHEN", help="Up to then; a date alone is to the end of that day."
    )(command)


def past_moment(text: str, home: Path, *, whole_day: bool = False) -> float:
    """Read a moment that is past: so long ago, or a date with or without a time, at head office.

    Args:
        text: As a person wrote it.
        home: Whose time zone counts.
        whole_day: A date alone is the end of that day, and not its beginning.

    Returns:
        Unix time.

    Raises:
        UsageError: It is none.
    """
    if match := _AGO.fullmatch(text.strip().lower()):
        (unit,) = [index for index, word in enumerate(match.groups()[1:]) if word]
        return time.time() - int(match[1]) * _UNIT_SECONDS[unit]
    try:
        moment = datetime.fromisoformat(" ".join(text.split()))
        if whole_day and len(text.strip()) <= len("2026-11-20"):
            moment += timedelta(days=1)
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"{text!r} is no moment; write 2026-11-20, '2026-11-20 08:00', 7d or 12h"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone(home))
    return moment.timestamp()


def zone(home: Path) -> ZoneInfo:
    """The time zone of head office."""
    return ZoneInfo(time_zone(read_hq_settings(home).timezone))
