"""Due times: what head office writes, a store reads as the same moment."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buswire.errors import WireError
from buswire.moments import instant
from hqconsole.moments import Moment

ZONES = ["UTC", "Europe/Paris", "Asia/Shanghai", "America/St_Johns", "Australia/Lord_Howe"]


@given(
    wall=st.datetimes().map(lambda moment: moment.replace(microsecond=0)),
    zone=st.sampled_from(ZONES),
)
def test_local_moments_agree_with_head_office(wall: object, zone: str) -> None:
    """Every wall time, those that a clock skips or shows twice included."""
    moment = Moment(wall=wall)  # type: ignore[arg-type]
    try:
        expected = moment.at(zone)
    except (OverflowError, ValueError):
        return
    assert instant(str(moment), ZoneInfo(zone)) == expected


@given(seconds=st.integers(0, 4_000_000_000), zone=st.sampled_from(ZONES))
def test_absolute_moments_agree_with_head_office(seconds: int, zone: str) -> None:
    """An instant is the same in every zone."""
    moment = Moment(unix_seconds=seconds)
    assert instant(str(moment), ZoneInfo(zone)) == moment.at(zone)


@pytest.mark.parametrize(
    "text", ["", "Friday", "2026-11-27", "2026-13-27T18:00", "2026-11-27T18:00+01:00", "x" * 99]
)
def test_anything_else_is_refused(text: str) -> None:
    """One form travels."""
    with pytest.raises(WireError, match="not a moment"):
        instant(text, ZoneInfo("UTC"))
