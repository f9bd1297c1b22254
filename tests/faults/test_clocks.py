"""Clocks may jump: nothing is lost, twice, or over before its time; and the suite would notice."""

from collections.abc import Sequence
from unittest import mock

import pytest

from hqconsole.steady_clock import SteadyClock
from storeagent.core import AgentCore, Event, Outgoing
from tests.faults import clock_shim
from tests.faults.clocks import clocks, live, real
from tests.faults.rows import Row


def test_nothing_is_lost_or_over_because_a_clock_was_set() -> None:
    """A taste of the worlds."""
    row = clocks(7, 0.008)
    assert row.failures == []
    assert row.times > 30
    assert row.accepted > 50


@pytest.mark.skipif(clock_shim.compiler() is None, reason="clocks are shifted by a C library")
def test_real_processes_do_not_mind() -> None:
    """A hub and two agents whose system clocks are set while they work."""
    row = Row("clocks")
    real(7, 1, row)
    assert row.failures == []
    assert row.times == 1


def _is_noticed(words: str) -> bool:
    """Whether one of some worlds says so."""
    row = Row("sabotaged")
    for seed in range(1, 31):
        live(seed, row)
        if any(words in failure for failure in row.failures):
            return True
    return False


def test_a_hub_that_follows_its_clock_is_noticed() -> None:
    """Then directives expire years too early."""

    def follow(clock: SteadyClock, now: float) -> float:
        del now
        clock._told_at = clock._wall_clock()
        return clock._told_at

    with mock.patch.object(SteadyClock, "at", follow):
        assert _is_noticed("before its time")


def test_a_device_that_lets_go_by_its_own_clock_is_noticed() -> None:
    """Then a till that wakes up in 2100 throws its history away."""
    real_handle = AgentCore.handle

    def by_own_clock(core: AgentCore, events: Sequence[Event], now: float) -> list[Outgoing]:
        outgoing = real_handle(core, events, now)
        if core._wall_clock() > 4e9:
            with core.database.write():
                for log in ("act", "bulk"):
                    core.outbox.prune(log, before=10**9)
        return outgoing

    with mock.patch.object(AgentCore, "handle", by_own_clock):
        assert _is_noticed("entries of act")
