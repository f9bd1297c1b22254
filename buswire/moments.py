"""When work is due, as a directive says it: on each store's own clock, or one instant for all.

Owns the reading of the one form in which such a moment travels: a wall time like
`2026-11-27T18:00`, which every store reads on its own clock, or an instant like
`2026-11-27T17:00:00Z`. What people may write instead, and writing this form, is head office's.
"""

import re
from datetime import datetime, tzinfo

from buswire.errors import WireError
from buswire.names import shown

_FORM = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?Z?", re.ASCII)


def instant(text: str, zone: tzinfo) -> float:
    """Return the moment in Unix seconds, for a store in this time zone.

    A wall time that the clock skips in spring moves forward by what was skipped; one that it shows
    twice in autumn is the first of the two (PEP 495, fold=0).

    Raises:
        WireError: It is not a moment in this form.
    """
    match = _FORM.fullmatch(text)
    try:
        moment = datetime.fromisoformat(text) if match is not None else None
        if moment is not None:
            absolute = moment.tzinfo is not None
            return (moment if absolute else moment.replace(tzinfo=zone, fold=0)).timestamp()
    except (ValueError, OverflowError):
        pass  # no such day, or beyond the calendar
    raise WireError(f"{shown(text)} is not a moment as a directive has it")
