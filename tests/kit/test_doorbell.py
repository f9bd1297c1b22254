"""The doorbell: a ring reaches the daemon at once, and nothing bad comes of ringing."""

import selectors
import socket
import threading
import time
from pathlib import Path

from buskit.doorbell import Doorbell, ring


def test_a_ring_ends_the_wait(tmp_path: Path) -> None:
    """A daemon that waits long wakes up when it rings, and many rings are one."""
    with Doorbell.open(tmp_path) as doorbell:
        rang: list[bool] = []
        waiter = threading.Thread(target=lambda: rang.append(doorbell.wait(60)))
        waiter.start()
        ring(tmp_path)
        waiter.join(20)
        assert rang == [True]
        for _ in range(10):
            ring(tmp_path)
        assert doorbell.wait(1)
        assert not doorbell.wait(0)
        assert not doorbell.wait(0.01)


def test_a_ring_before_the_wait_is_not_lost(tmp_path: Path) -> None:
    """It rang while the daemon was busy: the next wait returns at once."""
    with Doorbell.open(tmp_path) as doorbell:
        ring(tmp_path)
        assert doorbell.wait(60)


def test_it_fits_into_a_selector(tmp_path: Path) -> None:
    """A loop of its own sees the bell as readable and empties it with wait(0)."""
    with Doorbell.open(tmp_path) as doorbell, selectors.DefaultSelector() as selector:
        selector.register(doorbell, selectors.EVENT_READ)
        assert selector.select(0) == []
        ring(tmp_path)
        assert selector.select(20)
        assert doorbell.wait(0)
        assert selector.select(0) == []


def test_ringing_where_nobody_lives_does_nothing(tmp_path: Path) -> None:
    """No home, no daemon, a dead daemon's file, garbage in the file: no exception, no wait."""
    ring(tmp_path / "nowhere")
    ring(tmp_path)
    doorbell = Doorbell.open(tmp_path)
    left_over = (tmp_path / "doorbell").read_bytes()
    doorbell.close()
    doorbell.close()
    assert not (tmp_path / "doorbell").exists()
    for content in (left_over, b"", b"door", b"-1\n", b"0\n", b"99999999", b"\xff" * 4096):
        (tmp_path / "doorbell").write_bytes(content)
        ring(tmp_path)


def test_a_later_daemon_takes_over(tmp_path: Path) -> None:
    """After a crash the next daemon's file replaces the old one; the old one's end leaves it."""
    crashed = Doorbell.open(tmp_path)
    with Doorbell.open(tmp_path) as doorbell:
        crashed.close()
        ring(tmp_path)
        assert doorbell.wait(20)


def test_a_flood_does_not_keep_the_daemon_at_the_door(tmp_path: Path) -> None:
    """Someone who rings without end, with junk of any size, cannot make `wait` last for ever."""
    with Doorbell.open(tmp_path) as doorbell:
        port = int((tmp_path / "doorbell").read_text())
        stop = threading.Event()

        def flood() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
                while not stop.is_set():
                    bell.sendto(b"x" * 9000, ("127.0.0.1", port))

        ringer = threading.Thread(target=flood)
        ringer.start()
        try:
            deadline = time.monotonic() + 20
            assert all(doorbell.wait(20) for _ in range(5))
            assert time.monotonic() < deadline
        finally:
            stop.set()
            ringer.join()
