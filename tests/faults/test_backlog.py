"""A taste of the backlog, and that its judge notices what it must."""

import contextlib
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import backlog as suite
from tests.faults.filling import Accepted, Account, take_account
from tests.faults.seeds import seed_of_this_run

_SHARE = 0.008


def test_a_backlog_drains_past_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """8,000 entries, each there once; of a ledger that lacks some the account says so."""
    sabotaged: list[Account] = []

    def take(ledger: Path) -> Account:
        found = take_account(ledger)
        # A copy: the true one is verified afterwards.
        copy = ledger.with_name("sabotaged.db")
        with (
            contextlib.closing(sqlite3.connect(ledger)) as true,
            contextlib.closing(sqlite3.connect(copy)) as other,
        ):
            true.backup(other)
            for statement in (
                "DELETE FROM arrival WHERE no = (SELECT min(no) FROM arrival)",
                "DELETE FROM report WHERE key = 'entry 7'",
                "UPDATE report SET rows = 2 WHERE key = 'entry 8'",
            ):
                assert other.execute(statement).rowcount == 1
            other.commit()
        sabotaged.append(take_account(copy))
        copy.unlink()
        return found

    monkeypatch.setattr(suite, "take_account", take)
    row = suite.backlog(seed_of_this_run(), _SHARE)
    assert row.failures == []
    assert row.accepted >= 8_000
    assert row.recovery_seconds, "nothing was killed"
    journal = Accepted(1_600, 6_400)
    (account,) = sabotaged
    lost = account.lost(journal)
    assert "report entry 7" in lost
    assert len(lost) == 2, "and the first alert"
    assert "report entry 8" in account.twice(journal)


def test_the_judge_counts_what_nobody_said_and_what_came_too_early() -> None:
    """An entry of nobody's is one too many; figures before alerts are in the wrong order."""
    journal = Accepted(1, 1)
    account = Account(Counter({"entry 0": 1, "entry 1": 1}), Counter({"entry 0": 1}), 1_001)
    assert account.lost(journal) == []
    assert account.twice(journal) == ["something that nobody said"]
    assert account.order(most=1_000)
    assert not account.order(most=1_001)
