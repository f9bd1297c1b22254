"""Work as programs see it, and in which order people do: what presses most comes first.

Owns the order of the list, and the fields of a piece of work. Must not know commands or tables; in
which words people see it is `wording`'s.
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
    return _moment(item.due, zone)


def forced_at(item: Item, zone: tzinfo) -> float | None:
    """From when on it is insisted on, in Unix seconds; None when it never is, or as `due_at`."""
    return _moment(item.forced_from, zone)


def in_order(items: list[Item], zone: tzinfo, now_at: float) -> list[Item]:
    """Sort a list for people: what presses most comes first.

    That is what is forced by now, then what is overdue, urgent, reminded of, of higher priority,
    unread, and due next; of equals, what was issued first. Not by arrival: after an absence work
    comes channel by channel, and its numbers begin again.
    """

    def key(item: Item) -> tuple[bool, bool, bool, bool, bool, int, bool, float, float, int]:
        at = due_at(item, zone)
        delivery = item.delivery
        return (
            not delivery.todo,
            not _is_past(item, forced_at(item, zone), now_at),
            not _is_past(item, at, now_at),
            item.priority != "urgent",
            not is_reminded(item),
            _PRIORITIES.get(item.priority, 2),
            delivery.state is not State.DELIVERED,
            _NEVER if at is None else at,
            item.issued_at,
            delivery.number,
        )

    return sorted(items, key=key)


def is_reminded(item: Item) -> bool:
    """Whether it was reminded of, and nobody has said anything about it since."""
    delivery = item.delivery
    return delivery.open and delivery.reminded_at > delivery.changed_at


def _is_past(item: Item, at: float | None, now_at: float) -> bool:
    """Whether HQ still waits for it, and that moment has come."""
    return item.delivery.open and at is not None and at <= now_at


def _moment(text: str | None, zone: tzinfo) -> float | None:
    if text is None:
        return None
    try:
        return instant(text, zone)
    except WireError:
        return None


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
        "overdue": _is_past(item, at, now_at),
        "forced_from": item.forced_from,
        "forced_at": forced_at(item, zone),
        "forced": _is_past(item, forced_at(item, zone), now_at),
        "reminded": is_reminded(item),
        "reminded_at": delivery.reminded_at or None,
        "reminder": delivery.reminder,
        "issued_at": item.issued_at,
        "issued_by": item.issued_by,
        "received_at": delivery.received_at,
        "changed_at": delivery.changed_at,
        "changed_by": delivery.changed_by,
        "reason": delivery.reason,
        "code": delivery.code,
        "reasons": [
            {"code": one.code, "text": one.text, "texts": dict(one.texts)} for one in item.reasons
        ],
        "supersedes": item.supersedes or None,
        "superseded_by": item.superseded_by or None,
        "undoes": item.undoes or None,
    }
    if data is not None:
        found["body"] = json.loads(data).get("body", "")
    return found
