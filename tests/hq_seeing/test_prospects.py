"""What comes next, from the first time zone to the last."""

from datetime import UTC, datetime

from buswire.messages import Reminder
from hqconsole.lifecycle import DirectiveState
from hqconsole.prospects import Outlook, upcoming
from hqconsole.reminders import Escalation
from hqconsole.rollout import Gate
from hqconsole.store_times import StoreTimes, wall

NOW = datetime(2026, 3, 27, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0


def test_a_local_due_time_comes_zone_by_zone() -> None:
    """In Lisbon the clock changes before it; what is past in one zone is told for the others."""
    one = Outlook(
        DirectiveState.ISSUED,
        due="2026-03-29T18:00",
        expires_at=NOW + 90 * HOUR,
        zones={"Asia/Tokyo", "Europe/Lisbon", "Nowhere/Such"},
        reminders=[Reminder(from_due_seconds=-2 * HOUR)],
        escalations=[Escalation(late_seconds=24 * HOUR)],
    )
    tokyo = datetime(2026, 3, 29, 9, tzinfo=UTC).timestamp()
    lisbon = datetime(2026, 3, 29, 17, tzinfo=UTC).timestamp()
    found = {coming.what: (coming.at, coming.until_at) for coming in upcoming(one, NOW)}
    assert found == {
        "reminder": (tokyo - 2 * HOUR, lisbon - 2 * HOUR),
        "due": (tokyo, lisbon),
        "escalation": (tokyo + 24 * HOUR, lisbon + 24 * HOUR),
        "expiry": (NOW + 90 * HOUR, NOW + 90 * HOUR),
    }
    later = {coming.what: coming.at for coming in upcoming(one, tokyo + 1)}
    assert later["due"] == lisbon
    assert StoreTimes(one.due).span(one.zones) == (tokyo, lisbon)
    assert wall(lisbon, "Europe/Lisbon") == "2026-03-29T18:00"


def test_a_wave_comes_at_its_time_or_when_the_gate_opens() -> None:
    """And nothing comes of what is over, or of what has nobody left."""
    wave = {"wave": 2, "label": "rest", "planned": 9, "sent_at": None, "began_at": None}
    waves = [{**wave, "wave": 1, "sent_at": NOW}, {**wave, "not_before_at": None}]
    one = Outlook(
        DirectiveState.ROLLING, zones={"UTC"}, waves=waves, gate=Gate(80, 5), expires_at=NOW + 1
    )
    gated, expiry = upcoming(one, NOW)
    assert gated.at is None
    assert "80 % of the wave before are done and at most 5 % cannot" in gated.words
    assert expiry.what == "expiry"
    at_time = one._replace(waves=[waves[0], {**wave, "not_before_at": NOW + 60}])
    assert upcoming(at_time, NOW)[1].at == NOW + 60
    assert upcoming(one._replace(state=DirectiveState.PAUSED), NOW) == [expiry]
    assert upcoming(one._replace(state=DirectiveState.CANCELLED), NOW) == []
    assert upcoming(one._replace(zones=()), NOW) == []
