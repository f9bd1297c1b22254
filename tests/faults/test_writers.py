"""A taste of many writers, and that the suite sees when two of them meet."""

import sqlite3
from pathlib import Path

from storeagent.main import main
from tests.faults.seeds import seed_of_this_run
from tests.faults.writers import (
    Hammer,
    Section,
    has_reset_bug,
    observed,
    overlaps,
    sections_in,
    writers,
)


def test_one_writes_at_a_time_however_many_there_are() -> None:
    """Beside the daemons, in a device's file and in the ledger: all commits, and all arrive."""
    row = writers(seed_of_this_run(), 0.03)
    print(row)
    assert row.failures == []
    assert row.times >= 100
    assert sqlite3.sqlite_version in row.note
    assert "WAL-reset" in row.note


def _hammered(tmp_path: Path, **more: str) -> list[Section]:
    home = tmp_path / "till"
    words = ["init", "--store", "S001", "--device", "till-1", "--home", str(home)]
    assert main.run(words) == 0
    environment = observed(tmp_path / "observed") | more
    hammers = [
        Hammer(["alerts", home, f"hammer-{number}-anew", 40, 3.0], environment)
        for number in range(4)
    ]
    for hammer in hammers:
        assert hammer.accepted()
    return sections_in(tmp_path / "observed")


def test_with_the_lock_they_never_meet(tmp_path: Path) -> None:
    """Writes, checkpoints and closes of four processes stand in a row."""
    sections = _hammered(tmp_path)
    assert {one.what for one in sections} >= {"write", "checkpoint", "close"}
    assert len({one.pid for one in sections}) == 4
    assert overlaps(sections) == []


def test_without_the_lock_they_meet_and_are_seen(tmp_path: Path) -> None:
    """It is the lock that keeps them apart, and the observer that would tell."""
    assert overlaps(_hammered(tmp_path, UNLOCKED_WRITES="1"))


def test_which_versions_have_the_bug() -> None:
    """From the first with a write-ahead log to the last before the fix; two older lines have it."""
    for version in ((3, 7, 0), (3, 40, 1), (3, 44, 5), (3, 50, 6), (3, 51, 2)):
        assert has_reset_bug(version), version
    for version in ((3, 6, 23), (3, 44, 6), (3, 50, 7), (3, 51, 3), (3, 53, 0)):
        assert not has_reset_bug(version), version
