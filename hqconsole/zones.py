"""Time zones as store lists write them, checked against what this machine knows.

Owns the way from a cell to an IANA name, and the advice when there is none. The zones themselves
are those of `zoneinfo`: the system's, or of the package tzdata.
"""

import re
import zoneinfo
from functools import cache

from buswire.names import shown
from hqconsole.errors import HqError
from hqconsole.suggestions import close_names

# As some systems write it: "GMT+1:00 Europe/Andorra", "(UTC+01:00) Europe/Paris".
_OFFSET_BEFORE_ZONE = re.compile(r"\A\(?(?:GMT|UTC)?[+-]?[\d:.]*\)?\s+(?=[A-Za-z_]+/)")
_OFFSET_ALONE = re.compile(r"\(?(?:GMT|UTC)?\s*[+-]\s*\d[\d:.]*\)?.*", re.IGNORECASE)


class ZoneError(HqError):
    """What was written is no time zone that this machine knows."""

    exit_code = 2


def time_zone(text: str) -> str:
    """Return the IANA name of a time zone; letter case and `GMT+1:00 ` before it do not matter.

    Raises:
        ZoneError: There is no such zone on this machine; the message offers close names.
    """
    known = _zones_by_key()
    if not known:
        raise ZoneError(
            "this machine has no time zone database", hint="install it: pip install tzdata"
        )
    wanted = _OFFSET_BEFORE_ZONE.sub("", text.strip(), count=1)
    name = known.get(_zone_key(wanted))
    if name is None:
        raise ZoneError(f"{shown(text)} is no time zone", hint=_zone_hint(wanted))
    return name


@cache
def _zones_by_key() -> dict[str, str]:
    """Every zone that a store could be in, by its name without letter case."""
    names = zoneinfo.available_timezones() - {"Factory", "localtime", "posixrules"}
    return {_zone_key(name): name for name in names}


def _zone_key(name: str) -> str:
    return "_".join(name.casefold().split())


def _zone_hint(wanted: str) -> str:
    if wanted.endswith(("Standard Time", "Daylight Time")):
        return "that is what Windows calls it; write the IANA name, for example Europe/Berlin"
    if _OFFSET_ALONE.fullmatch(wanted):
        # Never propose Etc/GMT+1 here: its sign is the other way round.
        return "an offset knows no summer time; write the IANA name, for example Europe/Berlin"
    names = [name for name in _zones_by_key().values() if not name.startswith("Etc/")]
    city = _zone_key(wanted.rpartition("/")[2])
    close = sorted(name for name in names if _zone_key(name.rpartition("/")[2]) == city)
    if len(wanted) > 3:  # some systems cut long names off
        close = close or sorted(n for n in names if _zone_key(n).startswith(_zone_key(wanted)))
    close = close[:3] or close_names(wanted, names)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return "write the IANA name, for example Europe/Paris or America/Chicago"
