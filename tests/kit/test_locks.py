"""File locks: one holder among processes, threads and instances, whatever becomes of the holder."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from buskit.locks import FileLock, LockBusy
from tests.helpers.waiting import wait_until

HOLDER = """
import sys
from buskit.locks import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""

COUNTER = """
import sys
from pathlib import Path
from buskit.locks import FileLock
lock, figure = FileLock(sys.argv[1]), Path(sys.argv[2])
for _ in range(200):
    lock.acquire(timeout_seconds=float(sys.argv[3]) or None)
    figure.write_text(str(int(figure.read_text()) + 1))
    lock.release()
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock until its standard input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    """Let it go, and read what it still has to say."""
    process.communicate(timeout=20)


def test_a_second_instance_of_the_same_process_is_kept_out(tmp_path: Path) -> None:
    """Two lock objects on one file exclude each other even inside one process."""
    first, second = FileLock(tmp_path / "x.lock"), FileLock(tmp_path / "x.lock")
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()


def test_threads_sharing_one_instance_exclude_each_other(tmp_path: Path) -> None:
    """One lock object shared by threads is a lock between them, not only between processes."""
    lock = FileLock(tmp_path / "x.lock")
    inside, worst, total = 0, 0, 0

    def work() -> None:
        nonlocal inside, worst, total
        for _ in range(300):
            with lock:
                inside += 1
                worst = max(worst, inside)
                total += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (worst, total) == (1, 1200)


def test_asking_twice_in_one_thread_is_a_programming_error(tmp_path: Path) -> None:
    """Taking a lock one already holds raises at once; it would wait for ever otherwise."""
    lock = FileLock(tmp_path / "x.lock")
    with lock:
        with pytest.raises(RuntimeError, match="already locked by this very thread"):
            lock.acquire()
        with pytest.raises(RuntimeError, match="already locked by this very thread"):
            lock.try_acquire()
        assert lock.locked
    assert not lock.locked
    with pytest.raises(RuntimeError, match="is not locked here"):
        lock.release()


def test_whoever_takes_it_again_is_the_one_who_is_named(tmp_path: Path) -> None:
    """A holder that another one has preceded by a moment is named by its own pid."""
    path = tmp_path / "x.lock"
    ours = FileLock(path)
    ours.acquire()
    ours.release()
    end(hold(path))
    ours.acquire()
    with pytest.raises(LockBusy) as caught:
        FileLock(path).acquire(timeout_seconds=0.05)
    assert caught.value.pid == os.getpid()
    ours.release()


def test_the_time_limit_names_the_process_that_holds_it(tmp_path: Path) -> None:
    """Who waits in vain learns the pid of the holder, and has not taken the lock by the way."""
    path = tmp_path / "x.lock"
    holder = hold(path)
    lock = FileLock(path)
    try:
        with pytest.raises(LockBusy, match=f"locked by process {holder.pid}") as caught:
            lock.acquire(timeout_seconds=0.1)
        assert caught.value.pid == holder.pid
        assert not lock.locked
    finally:
        end(holder)
    # The thread that stood in line for us gave back what it got after we left.
    wait_until(FileLock(path).try_acquire, what="the lock to be free again")


def test_a_lock_dies_with_its_holder_killed(tmp_path: Path) -> None:
    """SIGKILL of the holder frees the lock, for waiters with and without a time limit."""
    path = tmp_path / "x.lock"
    for timeout_seconds in (None, 60.0):
        holder = hold(path)
        lock = FileLock(path)
        got = threading.Event()

        def wait(
            lock: FileLock = lock,
            timeout_seconds: float | None = timeout_seconds,
            got: threading.Event = got,
        ) -> None:
            lock.acquire(timeout_seconds)
            got.set()
            lock.release()

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not got.wait(0.1)
        holder.kill()
        end(holder)
        assert got.wait(20)
        waiter.join()
        lock.close()


def test_processes_exclude_each_other_and_all_get_their_turn(tmp_path: Path) -> None:
    """Counting in a file by four processes loses no step, with blocking and timed waits mixed."""
    path, figure = tmp_path / "x.lock", tmp_path / "figure"
    figure.write_text("0")
    processes = [
        subprocess.Popen([sys.executable, "-c", COUNTER, str(path), str(figure), limit])
        for limit in ("0", "60", "0", "60")
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert figure.read_text() == "800"


def test_the_lock_file_is_private_stays_and_is_not_inherited(tmp_path: Path) -> None:
    """The file has mode 0600, outlives the lock, and a child started meanwhile keeps nothing."""
    path = tmp_path / "x.lock"
    lock = FileLock(path)
    with lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lock.close()
    lock.close()
    assert path.exists()
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600
    other = FileLock(path)
    assert other.try_acquire()
    other.close()
    child.communicate(b"\n", timeout=20)
