"""What a daemon needs of its process: to be the only one of its home, and to end when told.

Must not know what the daemon does.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from buskit.errors import KitError
from buskit.locks import FileLock, LockBusy

Handler = Callable[[int, FrameType | None], None]


class DaemonError(KitError):
    """A daemon cannot be the one of its home."""


@contextlib.contextmanager
def ended_by_signals(handler: Handler) -> Iterator[None]:
    """Call `handler` at SIGTERM and SIGINT for the length of a block; needs the main thread."""
    previous = {
        number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextlib.contextmanager
def only_one(path: Path, running: Callable[[str], Exception]) -> Iterator[None]:
    """Hold the lock of a daemon for the length of a block.

    A command that asks whether the daemon runs holds it for a moment: that is waited for.

    Args:
        path: The lock's file.
        running: Makes the error where another process holds it; is given " (process <pid>)", or
            "" where that is not known.

    Raises:
        Exception: What `running` made.
        DaemonError: The lock cannot be opened.
    """
    lock = FileLock(path)
    try:
        lock.acquire(1.0)
    except LockBusy as busy:
        raise running("" if busy.pid is None else f" (process {busy.pid})") from busy
    except OSError as error:
        raise DaemonError(
            f"{lock.path} cannot be opened: {error.strerror or error}",
            hint="look at the rights of that folder",
        ) from error
    try:
        yield
    finally:
        lock.release()
        lock.close()
