"""A daemon's process: the only one of its home, ended by signals."""

import signal
from pathlib import Path

import pytest

from buskit.daemon import DaemonError, ended_by_signals, only_one
from buskit.locks import FileLock


def test_signals_are_the_daemons_for_the_length_of_a_block() -> None:
    """SIGTERM and SIGINT call it; afterwards they do what they did, however the block ended."""
    heard: list[int] = []
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def block() -> None:
        with ended_by_signals(lambda number, _: heard.append(number)):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            raise ValueError("over")

    with pytest.raises(ValueError, match="over"):
        block()
    assert heard == [signal.SIGTERM, signal.SIGINT]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_daemon_is_refused_in_its_own_words(tmp_path: Path) -> None:
    """As long as the first one is there, with the process that it is."""
    path = tmp_path / "a.lock"
    with only_one(path, RuntimeError):
        assert not FileLock(path).try_acquire()
        with pytest.raises(RuntimeError, match=r"^ \(process \d+\)$"), only_one(path, RuntimeError):
            raise AssertionError
    with only_one(path, RuntimeError):
        pass


def test_a_lock_that_cannot_be_opened_has_a_hint(tmp_path: Path) -> None:
    """No stack trace for a folder that is not there, and none of the block's errors is taken."""
    with (
        pytest.raises(DaemonError, match="cannot be opened") as caught,
        only_one(tmp_path / "gone" / "a.lock", RuntimeError),
    ):
        raise AssertionError
    assert caught.value.hint
    with pytest.raises(OSError, match="of the block"), only_one(tmp_path / "a.lock", RuntimeError):
        raise OSError("of the block")
