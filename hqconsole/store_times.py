"""One moment, such as a due time, on the clock of each of many stores. Pure.

Owns the arithmetic for a chain at a time: a moment is placed once in each time zone and looked up
after that, because twenty-five thousand stores lie in a hundred zones. Must not know the ledger.

A zone that this machine does not know, or a moment that cannot be read (it came back from a store's
copy), has no place in time: None, and nothing is overdue by it.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from hqconsole.moments import Moment, MomentError


class StoreTimes:
    """A moment in each time zone."""

    def __init__(self, moment: str | None) -> None:
        """Take a moment as it is kept, or None for none."""
        self._moment = _read(moment)
        self._places: dict[str, float | None] = {}

    def at(self, timezone: str) -> float | None:
        """The moment for a store in this zone, in Unix seconds."""
        if self._moment is None:
            return None
        if timezone not in self._places:
            try:
                self._places[timezone] = self._moment.at(timezone)
            except (MomentError, OverflowError, ValueError, OSError):
                self._places[timezone] = None
        return self._places[timezone]

    def is_past(self, timezone: str, now_at: float) -> bool:
        """Whether it is past in that zone."""
        at = self.at(timezone)
        return at is not None and at <= now_at

    def span(self, timezones: Iterable[str]) -> tuple[float, float] | None:
        """When it comes first and last among these zones; None when it comes in none."""
        places = [at for zone in set(timezones) if (at := self.at(zone)) is not None]
        return (min(places), max(places)) if places else None


def _read(moment: str | None) -> Moment | None:
    if not moment:
        return None
    try:
        return Moment.from_text(moment)
    except MomentError:
        return None


def wall(at: float | None, timezone: str) -> str | None:
    """An instant as a clock in that zone shows it, `2026-11-27T18:00`; None where it cannot."""
    zone = _zone(timezone)
    if at is None or zone is None:
        return None
    return _wall(at, timezone)


@lru_cache(maxsize=4096)
def _wall(at: float, timezone: str) -> str | None:
    # Thousands of stores share a few hundred pairs of a due time and a zone.
    try:
        return datetime.fromtimestamp(at, _zone(timezone)).strftime("%Y-%m-%dT%H:%M")
    except (OverflowError, ValueError, OSError):
        return None


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
