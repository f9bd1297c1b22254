"""What a program cannot process is put aside, and the rest goes on; the suite would notice else."""

from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import pytest

from hqconsole.desk import Desk
from hqconsole.ledger.arrivals import Arrivals
from storeagent.core import AgentCore
from storeagent.effects import Effects
from tests.faults.poison import POISON, hooks, live
from tests.faults.rows import Row

SHORT = replace(POISON, trouble_seconds=15.0)


def test_the_rest_goes_on_and_nothing_is_lost() -> None:
    """A taste of the worlds; real daemons are in the long suite."""
    row = Row("poison")
    world = live(11, row, SHORT)
    assert row.failures == []
    assert world.counts["poison"] > 15
    assert world.counts["put aside by HQ"]
    assert world.counts["put aside by devices"]


def test_bad_hooks_do_not_stop_the_next() -> None:
    """They crash, hang, refuse, shout and fork, each tried as often as is set."""
    row = Row("hooks")
    hooks(5, row)
    assert row.failures == []
    assert row.times == 2


def _wrong() -> str:
    row = Row("sabotaged")
    live(11, row, SHORT)
    return "\n".join(row.failures)


@pytest.mark.parametrize("daemon", [Desk, AgentCore])
def test_a_daemon_that_dies_of_it_is_noticed(daemon: type) -> None:
    """Without trying one by one, the whole batch fails, and always will."""
    with mock.patch.object(daemon, "handle", daemon._handle):  # type: ignore[attr-defined]
        assert "died" in _wrong()


def test_a_device_that_drops_what_it_fails_on_is_noticed() -> None:
    """Then retrying brings nothing back."""

    def forget(effects: Effects, do: Callable[[], None], give_up: Callable[[str], None]) -> None:
        del give_up
        try:
            with effects._inbox.undone_alone():
                do()
        except Exception:
            effects._inbox.forget_early()

    with (
        mock.patch.object(Effects, "_alone", forget),
        mock.patch("storeagent.memory.Memory.doubt_set"),
    ):
        assert _wrong()


def test_an_hq_that_does_not_keep_what_it_fails_on_is_noticed() -> None:
    """The record must be there, marked, whatever its effect does."""

    def forget(arrivals: Arrivals, error: Exception, *_: object) -> None:
        del error
        arrivals._connection.execute("DELETE FROM arrival WHERE no = (SELECT max(no) FROM arrival)")

    with mock.patch.object(Arrivals, "_give_up", forget):
        assert "lost" in _wrong()
