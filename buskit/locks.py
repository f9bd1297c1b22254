"""Advisory file locks: one holder on this machine, whatever process or thread it is in.

Owns the difference between POSIX (`flock`) and Windows (`msvcrt.locking`), which no other module
needs to know. Must not know what is locked.

Invariants:
- The lock belongs to the open file, so it ends with the process however that ends, SIGKILL too.
- The lock file is never deleted. Deleting it would let two processes hold "the" lock on two files.
- What the file says (the pid of the last holder) is for messages only; nothing is decided by it.
- Descriptors are not inherited by programs that are started, so a child never keeps a lock alive.
"""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from buskit.errors import KitError

# On Windows a locked byte cannot be read by others, so the pid and the lock are kept apart.
_LOCKED_BYTE = 1 << 30
_PID_BYTES = 20

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _wait_lock(descriptor: int) -> None:
        # Windows has no wait without an end of its own here: LK_LOCK gives up after ten seconds.
        while not _try_lock(descriptor):
            time.sleep(0.005)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def _read_note(descriptor: int) -> bytes:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.read(descriptor, _PID_BYTES)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _read_note(descriptor: int) -> bytes:
        return os.pread(descriptor, _PID_BYTES, 0)


class LockBusy(KitError):  # noqa: N818 - it names the state it was found in
    """Someone else holds the lock.

    Attributes:
        pid: The process that holds it, or None when that is not known.
    """

    def __init__(self, message: str, *, pid: int | None = None, hint: str | None = None) -> None:
        """Say who holds the lock."""
        super().__init__(message, hint=hint)
        self.pid = pid


class FileLock:
    """An exclusive lock on a file of its own, between processes, threads and instances alike.

    Not re-entrant: a thread that holds it and asks again gets a RuntimeError instead of a deadlock.
    Taking a free lock costs a few microseconds, because the descriptor stays open in between; call
    `close` when the lock is not needed any more. As a context manager it waits without limit.
    """

    def __init__(self, path: str | Path) -> None:
        """Name the lock file; it is made, readable by its owner only, when first needed.

        Args:
            path: The lock file. Its folder must exist.
        """
        self.path = Path(path)
        self._turn = threading.Lock()
        self._descriptor: int | None = None
        self._owner: int | None = None

    @property
    def locked(self) -> bool:
        """Whether this instance holds the lock now."""
        return self._owner is not None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; never waits.

        Returns:
            Whether the lock is ours now. If so, the caller owes a `release`.
        """
        self._refuse_reentry()
        if not self._turn.acquire(blocking=False):
            return False
        taken = False
        try:
            taken = _try_lock(self._open())
        finally:
            self._settle(taken=taken)
        return taken

    def acquire(self, timeout_seconds: float | None = None) -> None:
        """Take the lock, waiting for it; the caller owes a `release`.

        Args:
            timeout_seconds: How long to wait at most; None waits without limit.

        Raises:
            LockBusy: The time is over and someone else still holds it.
            OSError: The lock file cannot be opened.
        """
        self._refuse_reentry()
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        if not self._turn.acquire(
            timeout=-1 if timeout_seconds is None else max(timeout_seconds, 0)
        ):
            raise LockBusy(f"{self.path} is locked by another thread", pid=os.getpid())
        taken = False
        try:
            descriptor = self._open()
            taken = _try_lock(descriptor)
            if not taken and deadline is None:
                _wait_lock(descriptor)
                taken = True
            elif not taken and deadline is not None:
                taken = self._wait_until(deadline)
        finally:
            self._settle(taken=taken)
        if not taken:
            pid = self.holder()
            by = "another process" if pid is None else f"process {pid}"
            raise LockBusy(f"{self.path} is locked by {by}", pid=pid)

    def release(self) -> None:
        """Give the lock back.

        Raises:
            RuntimeError: It was not held.
        """
        if self._owner is None or self._descriptor is None:
            raise RuntimeError(f"{self.path} is not locked here")
        self._owner = None
        try:
            _unlock(self._descriptor)
        finally:
            self._turn.release()

    def holder(self) -> int | None:
        """Return the pid of the last process that took the lock; None when that is not known."""
        try:
            with self.path.open("rb") as file:
                return int(file.read(_PID_BYTES))
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Give back the lock, if held, and the descriptor; idempotent, and it can be used again."""
        if self._owner is not None:
            self.release()
        with self._turn:
            self._forget_descriptor()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __del__(self) -> None:
        # Closing gives the lock back as well: whoever drops a lock object cannot mean to keep it.
        with contextlib.suppress(Exception):
            self._forget_descriptor()

    def _refuse_reentry(self) -> None:
        if self._owner == threading.get_ident():
            raise RuntimeError(f"{self.path} is already locked by this very thread")

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = _open_lock_file(self.path)
        return self._descriptor

    def _forget_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _settle(self, *, taken: bool) -> None:
        """After an attempt: note the owner, or let the next thread of this process try."""
        if not taken:
            self._turn.release()
            return
        self._owner = threading.get_ident()
        with contextlib.suppress(OSError):  # a full disk may refuse it
            self._note_pid()

    def _note_pid(self) -> None:
        line = b"%-*d" % (_PID_BYTES - 1, os.getpid()) + b"\n"
        descriptor = self._open()
        # Each time, or who stands still holding it would pass for whoever had it a moment before.
        # Mostly it is ours already; not writing it again keeps the disk asleep.
        if _read_note(descriptor) != line:
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, line)

    def _wait_until(self, deadline: float) -> bool:
        """Wait for the lock until `deadline`; on success our descriptor is the one that has it.

        Asking again and again would lose for ever against a process that releases the lock for
        microseconds only, between two commits. So a thread of its own stands in the kernel's queue
        on a descriptor of its own; when we give up waiting, it gives the lock back at once.
        """
        descriptor = _open_lock_file(self.path)
        agreed = threading.Lock()
        done = threading.Event()
        outcome: dict[str, bool] = {}

        def stand_in_line() -> None:
            try:
                _wait_lock(descriptor)
            except OSError:
                with agreed:
                    outcome.setdefault("taken", False)
            with agreed:
                wanted = outcome.setdefault("taken", True)
            if not wanted:
                os.close(descriptor)
            done.set()

        threading.Thread(target=stand_in_line, name=f"wait {self.path.name}", daemon=True).start()
        taken = False
        try:
            done.wait(max(0.0, deadline - time.monotonic()))
            with agreed:
                taken = outcome.setdefault("taken", False)
        finally:
            if taken:
                self._forget_descriptor()
                self._descriptor = descriptor
            else:
                with agreed:
                    if outcome.setdefault("taken", False):  # granted while we were interrupted
                        os.close(descriptor)
        return taken


def _open_lock_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
