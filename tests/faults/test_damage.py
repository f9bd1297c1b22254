"""A taste of damage, and that the suite notices what it is there for."""

from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from storeagent import outbox
from storeagent.database import open_agent_database
from storeagent.scripts import Scripts
from tests.faults.chains import Tally
from tests.faults.damage import (
    Course,
    Findings,
    damage,
    device_view,
    judge_till,
    read_spoilt,
    reported_lost,
)
from tests.faults.rows import Row
from tests.faults.seeds import seed_of_this_run
from tests.processes.chain import Journal


def test_what_is_damaged_comes_back_or_is_reported() -> None:
    """One spoilt till, one spoilt ledger, and some copies read."""
    row = damage(seed_of_this_run(), 0.01)
    print(row)
    assert row.failures == []
    assert row.times >= 50
    assert "refused when read" in row.note


def make_sample(folder: Path) -> Path:
    """A device's database with some alerts."""
    with open_agent_database(folder / "agent.db", create=True) as database:
        scripts = Scripts(database, wall_clock=lambda: 1e9)
        for number in range(40):
            scripts.alert("incident", {"what": f"number {number}"}, note="x" * 200)
    return folder / "agent.db"


def read(sample: Path) -> Row:
    """Spoil it and read it."""
    row = Row("sample")
    draws = (Random(seed_of_this_run()), 60)
    read_spoilt(sample, device_view, row, Findings(), draws=draws)
    return row


def test_what_is_read_and_was_not_written_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a product that looks at no sums, flipped bytes go out as if they were good."""
    sample = make_sample(tmp_path)
    assert read(sample).failures == []
    monkeypatch.setattr(outbox, "require_sum", lambda *_: None)
    assert any("not what was written" in one for one in read(sample).failures)


def test_a_loss_that_nobody_was_told_of_is_noticed() -> None:
    """Two alerts are missing: with one reported it is a loss, with two it is none."""
    said = ("S001", "alert", "number 1"), ("S001", "alert", "number 2")
    till = SimpleNamespace(store="S001", name="S001.till-1", inbox=list)

    def judge(told: str) -> Tally:
        chain = SimpleNamespace(
            journal=Journal(said=Counter(said)), arrived=Counter, rows=lambda *_: []
        )
        course = Course(Random(1), Tally(), Findings())
        judge_till(chain, till, course, [{"kind": "device trouble", "detail": told}], 0)  # type: ignore[arg-type]
        return course.tally

    assert judge("4 were saved and 1 may be lost").lost
    assert not judge("4 were saved and 2 may be lost").lost
    assert reported_lost([{"kind": "x", "detail": "and 1 may be lost, or more: its"}]) > 1e9
