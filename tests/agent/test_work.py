"""The order of the list on the till, from items made by hand."""

import random
from datetime import UTC

from buswire.states import Needs, State
from storeagent.delivery import Delivery, Item
from storeagent.work import in_order

_NOW_AT = 1_700_000_000.0


def _item(
    number: int, issued_at: float, *, due: str | None = None, priority: str = "normal"
) -> Item:
    delivery = Delivery("d" * 32, "any", Needs.DONE, State.DELIVERED, number=number)
    return Item(delivery, f"issued at {issued_at:g}", "task", priority, due, issued_at, "")


def test_of_equals_what_was_issued_first_comes_first() -> None:
    """However it arrived: after an absence by channels, and with numbers that begin again."""
    items = [_item(997, 1.0), _item(3, 2.0), _item(998, 3.0), _item(1, 4.0)]
    shuffled = random.Random(1).sample(items, len(items))
    assert in_order(shuffled, UTC, _NOW_AT) == items


def test_what_presses_more_goes_before_what_was_issued_first() -> None:
    """Overdue, then urgent, then the earlier due time."""
    items = [
        _item(4, 9.0, due="2020-01-01T00:00Z"),
        _item(3, 8.0, priority="urgent"),
        _item(2, 7.0, due="2099-01-01T00:00Z"),
        _item(1, 1.0),
    ]
    assert in_order(items[::-1], UTC, _NOW_AT) == items
