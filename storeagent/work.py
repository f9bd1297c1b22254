"""Work as people and programs see it: overdue first, with its due time on the store's own clock.

Owns the order of the list and the words for a due time. Must not know commands or tables.
"""

import json
from datetime import datetime, tzinfo
from typing import Any

from buswire.errors import WireError
from buswire.moments import instant
from buswire.states import State
from storeagent.delivery import Item

_PRIORITIES = {"urgent": 0, "high": 1, "normal": 2, "low": 3}
_NEVER = float("inf")


def zone_of(timezone: str) -> tzinfo:
    """The time zone that HQ names; this machine's own where that is unknown here."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only who shows times needs it

    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        local = datetime.now().astimezone().tzinfo
        assert local is not None  # astimezone always gives one
        return local


def due_at(item: Item, zone: tzinfo) -> float | None:
    """When it is due, in Unix seconds; None when it is not, or the form is unknown here."""
    if item.due is None:
        return None
    try:
        return instant(item.due, zone)
    except WireError:
        return None


def due_words_of(due: str | None, at: float | None, zone: tzinfo, now_at: float) -> str:
    """The due time on the store's clock: today as a time, another day with its weekday.

    Args:
        due: As the directive has it; shown as it is where it cannot be placed.
        at: In Unix seconds, from `due_at`.
        zone: The store's time zone.
        now_at: The present time in Unix seconds.
    """
    if at is None:
        return due or ""
    try:
        when, now = datetime.fromtimestamp(at, zone), datetime.fromtimestamp(now_at, zone)
    except (OverflowError, ValueError, OSError):
        return due or ""
    if when.date() == now.date():
        return f"today {when:%H:%M}"
    if abs((when.date() - now.date()).days) < 7:
        return f"{when:%a %H:%M}"
    return f"{when:%Y-%m-%d %H:%M}"


def in_order(items: list[Item], zone: tzinfo, now_at: float) -> list[Item]:
    """Sort a list for people: overdue, then urgent, then unread, then by due time and issue.

    Not by arrival: after an absence work comes channel by channel, and its numbers begin again.
    """

    def key(item: Item) -> tuple[bool, bool, int, bool, float, float, int]:
        at = due_at(item, zone)
        delivery = item.delivery
        return (
            not delivery.todo,
            not (delivery.open and at is not None and at < now_at),
            _PRIORITIES.get(item.priority, 2),
            delivery.state is not State.DELIVERED,
            _NEVER if at is None else at,
            item.issued_at,
            delivery.number,
        )

    return sorted(items, key=key)


def as_dict(
    item: Item, zone: tzinfo, now_at: float, *, data: bytes | None = None
) -> dict[str, Any]:
    """One piece of work for JSON; with the directive's data, its body too."""
    delivery = item.delivery
    at = due_at(item, zone)
    found: dict[str, Any] = {
        "number": delivery.number,
        "directive": delivery.directive,
        "role": delivery.role,
        "title": item.title,
        "kind": item.kind,
        "priority": item.priority,
        "needs": delivery.needs.value,
        "state": delivery.state.value,
        "said": delivery.said.value,
        "open": delivery.open,
        "todo": delivery.todo,
        "unsure": delivery.unsure,
        "due": item.due,
        "due_at": at,
        "overdue": delivery.open and at is not None and at < now_at,
        "issued_at": item.issued_at,
        "issued_by": item.issued_by,
        "received_at": delivery.received_at,
        "changed_at": delivery.changed_at,
        "changed_by": delivery.changed_by,
        "reason": delivery.reason,
    }
    if data is not None:
        found["body"] = json.loads(data).get("body", "")
    return found
