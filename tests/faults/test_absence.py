"""A taste of a long absence, and that its judge notices what it must."""

import dataclasses

import pytest

from tests.faults import absence as suite
from tests.faults.absence import Month, judge
from tests.faults.seeds import seed_of_this_run

States = dict[str, dict[str, str]]


def test_a_store_comes_back_to_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past kills, in the right order, nothing twice; with another journal the judge objects."""
    objections: dict[str, tuple[list[str], list[str]]] = {}

    def judge_and_sabotage(month: Month, states: States) -> tuple[list[str], list[str]]:
        found = judge(month, states)
        lacking = dict(states)
        del lacking[month.issued[0].id]
        objections["one directive less"] = judge(month, lacking)
        is_open = next(n for n, one in enumerate(month.issued) if one.fate == "open")
        before = month.issued[is_open]
        month.issued[is_open] = dataclasses.replace(before, fate="cancelled", over_day=0.0)
        objections["withdrawn and open"] = judge(month, states)
        month.issued[is_open] = before
        return found

    monkeypatch.setattr(suite, "judge", judge_and_sabotage)
    row = suite.absence(seed_of_this_run(), 0.01)
    assert row.failures == []
    assert row.times >= 18
    assert row.recovery_seconds
    lost, twice = objections["one directive less"]
    assert lost
    assert twice
    lost, twice = objections["withdrawn and open"]
    assert lost
    assert twice
