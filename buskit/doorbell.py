"""How a command tells the running daemon that there is something new for it in the database.

A datagram on the loopback interface, to a port that the daemon wrote into its home: it costs
nothing while nobody rings, arrives at once, and works the same on Windows.

Invariants:
- A ring says only "look"; what there is to do stands in the database. So a lost, repeated or
  forged ring does no harm, and neither does the file of a daemon that has died.
- Ringing never raises, never blocks, and needs no daemon.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from buskit.files import write_atomically

if TYPE_CHECKING:
    from buskit.loop import LinkLoop

_FILE_NAME = "doorbell"
_LOOPBACK = "127.0.0.1"
_RING = b"storebus: look\n"
_LOOK_SECONDS = 0.5
_MOST_RINGS_AT_ONCE = 1000  # someone who rings without end must not keep the daemon at the door


def ring(home: Path) -> None:
    """Wake the daemon of this home, if one is running. Never raises, never blocks.

    Call it after the transaction has committed, or the daemon may look too early.
    """
    with contextlib.suppress(OSError, ValueError, OverflowError):
        port = int((home / _FILE_NAME).read_bytes()[:8])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.setblocking(False)
            bell.sendto(_RING, (_LOOPBACK, port))


class Bell:
    """Rings again and again on behalf of one program, each time for the price of one datagram.

    It looks for the daemon at most twice a second, so a daemon that starts in between finds what
    was written meanwhile by itself, as it does whenever it starts. Used by one thread at a time.
    """

    def __init__(self, home: Path) -> None:
        """Belong to the daemon of this home, whether one is running or not."""
        self._path = str(home / _FILE_NAME)
        self._socket: socket.socket | None = None
        self._line = b""
        self._look_at = 0.0

    def ring(self) -> None:
        """Wake the daemon; as `ring`."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._look()
        if self._socket is not None:
            try:
                self._socket.send(_RING)
            except OSError:  # nobody listens there any more
                self._look_at = 0.0

    def close(self) -> None:
        """Let go of the socket; idempotent, and the next ring looks for the daemon again."""
        self._drop()
        self._look_at = 0.0

    def _look(self) -> None:
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123 - twice as quick as a Path
                line = file.read(8)
            if line == self._line:
                return
            self._drop()
            bell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError:
            self._drop()
            return
        try:
            bell.setblocking(False)
            bell.connect((_LOOPBACK, int(line)))
        except (OSError, ValueError, OverflowError):
            bell.close()
        else:
            self._socket, self._line = bell, line

    def _drop(self) -> None:
        bell, self._socket = self._socket, None
        self._line = b""
        if bell is not None:
            bell.close()


class Doorbell:
    """The daemon's end. Whoever opened it owes a `close`; one daemon per home is its own care."""

    def __init__(self, home: Path, bell: socket.socket) -> None:
        """Take over a bound socket; use `open` instead."""
        self._path = home / _FILE_NAME
        self._bell = bell
        self._line = b"%d\n" % bell.getsockname()[1]

    @classmethod
    def open(cls, home: Path) -> Self:
        """Listen for rings, and say in the home where.

        Raises:
            OSError: No port is to be had, or the home cannot be written.
        """
        bell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            bell.bind((_LOOPBACK, 0))
            bell.setblocking(False)
            doorbell = cls(home, bell)
            write_atomically(doorbell._path, doorbell._line, durable=False)
        except BaseException:
            bell.close()
            raise
        return doorbell

    def listen(self, loop: "LinkLoop", rang: Callable[[], None]) -> None:
        """Have rings told on a link's loop, until that is stopped.

        Args:
            loop: Where to listen; stop it before this is closed.
            rang: Called on the loop's thread; must not wait for anything.
        """
        from selectors import EVENT_READ  # noqa: PLC0415 - who only rings does without

        def look(_events: int) -> None:
            if self.wait(0):
                rang()

        loop.call(lambda: loop.watch(self._bell.fileno(), EVENT_READ, look))

    def fileno(self) -> int:
        """Return the descriptor, for a selector; when it is readable call `wait(0)`."""
        return self._bell.fileno()

    def wait(self, timeout_seconds: float | None) -> bool:
        """Wait for a ring.

        Args:
            timeout_seconds: How long at most; None waits without limit, 0 only looks.

        Returns:
            Whether it rang since the last call. Many rings are one.
        """
        if self._drain():
            return True
        if timeout_seconds is None or timeout_seconds > 0:
            deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._until_readable(left)
                if self._drain():
                    return True
                if left == 0:
                    return False
        return False

    def close(self) -> None:
        """Stop listening and take the file away, unless it is a later daemon's; idempotent."""
        with contextlib.suppress(OSError):
            if self._bell.fileno() != -1 and self._path.read_bytes() == self._line:
                self._path.unlink()
        self._bell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _until_readable(self, timeout_seconds: float | None) -> None:
        if hasattr(select, "poll"):  # select() fails on descriptors above 1,024
            poll = select.poll()
            poll.register(self._bell, select.POLLIN)
            poll.poll(None if timeout_seconds is None else timeout_seconds * 1000)
        else:
            select.select([self._bell], [], [], timeout_seconds)

    def _drain(self) -> bool:
        rang = False
        for _ in range(_MOST_RINGS_AT_ONCE):
            try:
                self._bell.recv(64)
            except BlockingIOError:
                break
            except OSError:  # Windows reports a datagram that is too long, or a peer gone, this way
                pass
            rang = True
        return rang
