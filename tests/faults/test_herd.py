"""A taste of the herd, and that its judges notice what they must."""

from tests.faults.herd import Curve, busiest_second, herd, judge_spread, lost_and_twice, time_until
from tests.faults.seeds import seed_of_this_run


def test_a_small_herd_comes_back() -> None:
    """60 devices after a kill of the broker and one of the hub: all back, all have the work."""
    row = herd(seed_of_this_run(), 0.03)
    assert row.failures == []
    assert row.times == 2
    assert row.accepted == 3 * 60
    assert row.recovery_seconds


def test_what_is_missing_or_came_twice_shows() -> None:
    """In the ledger and in what the devices tell."""
    totals = {"taken": 4, "twice": 0}
    assert lost_and_twice(["a", "b"], {"a": [1, 1], "b": [1, 1]}, 2, totals) == ([], [])
    lost, twice = lost_and_twice(["a", "b"], {"a": [1, 1], "b": [1, 0]}, 2, totals)
    assert (len(lost), twice) == (1, [])
    lost, twice = lost_and_twice(["a"], {"a": [1, 1]}, 2, {"taken": 1, "twice": 0})
    assert (len(lost), twice) == (1, [])
    lost, twice = lost_and_twice(["a"], {"a": [1, 1]}, 2, {"taken": 2, "twice": 1})
    assert (lost, len(twice)) == ([], 1)
    lost, twice = lost_and_twice(["a"], {"a": [1, 1], "c": [1, 1]}, 2, {"taken": 2, "twice": 0})
    assert (lost, len(twice)) == ([], 1)


def test_a_herd_that_comes_all_at_once_shows() -> None:
    """Without jitter all would be there within one second; the curve says when all were."""
    steps = [round(0.1 * step, 1) for step in range(101)]
    at_once = Curve(steps, [0] * 50 + [1_000] * 51, [0] * 101)
    spread = Curve(steps, [10 * step for step in range(101)], [0] * 101)
    assert judge_spread([busiest_second(at_once)], 1_000)
    assert not judge_spread([busiest_second(spread)], 1_000)
    assert time_until(at_once, at_once.connected, 1_000, since_at=1.0) == 4.0
