"""What will happen to a directive by itself, and when: waves, reminders, due, expiry. Pure.

Owns what is told of the time to come. Must not know the ledger, nor make anything happen: the hub
and the stores' devices do. What comes at another moment in each time zone is told from its first
moment to its last.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from buswire import reminding
from buswire.messages import Reminder
from hqconsole.lifecycle import LIVE, DirectiveState
from hqconsole.reminders import Escalation, escalation_words, words
from hqconsole.rollout import Gate
from hqconsole.store_times import StoreTimes


class Coming(NamedTuple):
    """Something to come.

    Attributes:
        at: When, or when first; None where it depends on what the stores do.
        until_at: When last; the same as `at` where it is one moment.
        what: `wave`, `reminder`, `due`, `forced`, `escalation` or `expiry`.
        words: In a few words.
    """

    at: float | None
    until_at: float | None
    what: str
    words: str


class Outlook(NamedTuple):
    """What the future of a directive follows from.

    Attributes:
        state: Where it stands.
        due: The moment as it is kept, or None.
        forced_from: Likewise.
        expires_at: When head office closes it, or None.
        zones: The time zones of those that are open or are yet to get it.
        waves: As `ledger.breakdowns.waves` has them.
        gate: What a wave must show, or None.
        reminders: The rules that travel with it.
        escalations: The rules by which lateness is told.
    """

    state: DirectiveState
    due: str | None = None
    forced_from: str | None = None
    expires_at: float | None = None
    zones: Collection[str] = ()
    waves: Sequence[Mapping[str, Any]] = ()
    gate: Gate | None = None
    reminders: Sequence[Reminder] = ()
    escalations: Sequence[Escalation] = ()


_GOING = LIVE | {DirectiveState.SCHEDULED}


def upcoming(outlook: Outlook, now_at: float) -> list[Coming]:
    """What is to come, the next first; nothing where no zone waits or nothing is under way."""
    if outlook.state not in _GOING or not outlook.zones:
        return []
    found = [*_wave(outlook)]
    due = StoreTimes(outlook.due)
    found += _spread((due.at(zone) for zone in outlook.zones), now_at, "due", "due")
    forced = StoreTimes(outlook.forced_from)
    forced_at = (forced.at(zone) for zone in outlook.zones)
    found += _spread(forced_at, now_at, "forced", "devices insist on it")
    found += _reminders(outlook, due, now_at)
    for rule in outlook.escalations:
        late = (
            at + rule.late_seconds for zone in outlook.zones if (at := due.at(zone)) is not None
        )
        found += _spread(late, now_at, "escalation", escalation_words(rule))
    if outlook.expires_at is not None:
        found += _spread([outlook.expires_at], now_at, "expiry", "expires")
    return sorted(found, key=lambda one: (one.at is not None, one.at or 0.0))


def _spread(moments: Iterable[float | None], now_at: float, what: str, text: str) -> list[Coming]:
    ahead = [at for at in moments if at is not None and at > now_at]
    return [Coming(min(ahead), max(ahead), what, text)] if ahead else []


def _wave(outlook: Outlook) -> list[Coming]:
    following = next((one for one in outlook.waves if one["sent_at"] is None), None)
    if following is None or outlook.state not in {DirectiveState.SCHEDULED, DirectiveState.ROLLING}:
        return []
    count = f"{following['planned']:,} mailbox{'' if following['planned'] == 1 else 'es'}"
    text = "it goes out"
    if len(outlook.waves) > 1:
        text = f"wave {following['wave']} of {len(outlook.waves)}, {following['label']}, goes out"
    if following["began_at"] is not None:
        return [Coming(None, None, "wave", f"{text}, a part at a time: {count} left")]
    if following["not_before_at"] is not None:
        at = following["not_before_at"]
        return [Coming(at, at, "wave", f"{text}: {count}")]
    gate = outlook.gate
    if gate is None:
        return [Coming(None, None, "wave", f"{text}: {count}")]
    asked = f"{gate.done_percent:g} % of the wave before are done"
    asked += f" and at most {gate.cannot_percent:g} % cannot"
    return [Coming(None, None, "wave", f"{text} when {asked}: {count}")]


def _reminders(outlook: Outlook, due: StoreTimes, now_at: float) -> list[Coming]:
    found = []
    for rule in outlook.reminders:
        moments = [
            reminding.next_at([rule], at, ZoneInfo(zone), now_at)
            for zone in outlook.zones
            if (at := due.at(zone)) is not None  # then there is such a zone
        ]
        text = f"the stores' devices remind: {words(rule)}"
        found += _spread(moments, now_at, "reminder", text)
    return found
