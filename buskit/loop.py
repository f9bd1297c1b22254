"""One thread, one selector, any number of connections.

Owns the thread, waking it from others, timers, and finding addresses by name. Must not know what
the connections are for.

Invariants:
- Handlers run on the loop's thread, one after another; they must not wait for anything.
- Only `call` and `stop` may be used from other threads.
- A handler that raises ends nothing but itself; the error goes to `threading.excepthook`.
- Asking for an address by name can take long, so each name is asked for on a thread of its own,
  once at a time, and shared by all who want it.
"""

import contextlib
import heapq
import itertools
import selectors
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

_NAME_KEPT_SECONDS = 5.0

Endpoint = tuple[int, Any]
"""Address family and socket address."""


class Timer:
    """Something that will happen; `cancel` before it does, if it should not."""

    __slots__ = ("handler",)

    def __init__(self, handler: Callable[[], None]) -> None:
        """Keep what is to be called."""
        self.handler: Callable[[], None] | None = handler

    def cancel(self) -> None:
        """Let it not happen; idempotent."""
        self.handler = None


class LinkLoop:
    """The loop. Its thread starts with the first `call`; whoever made it owes a `stop`."""

    def __init__(
        self, name: str = "links", *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Make a loop; `name` is its thread's name."""
        self.monotonic = monotonic
        self._name = name
        self._selector = selectors.DefaultSelector()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._woken = False
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._serial = itertools.count()
        self._names: dict[tuple[str, int], tuple[float, list[Endpoint]]] = {}
        self._asking: dict[tuple[str, int], list[Callable[[list[Endpoint] | OSError], None]]] = {}
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._selector.register(self._wake_receiver, selectors.EVENT_READ, self._on_wake)

    @property
    def in_loop(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return self._thread is threading.current_thread()

    def call(self, handler: Callable[[], None]) -> None:
        """Run `handler` on the loop's thread soon, in the order of the calls; from any thread.

        Raises:
            RuntimeError: The loop was stopped.
        """
        with self._guard:
            if self._stopping:
                raise RuntimeError("the loop was stopped")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._calls.append(handler)
            wake = not self._woken and not self.in_loop
            self._woken = self._woken or wake
        if wake:
            self._wake()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """End the thread after what is to be called already; idempotent, from any thread."""
        with self._guard:
            self._stopping = True
            thread = self._thread
        self._wake()
        if thread is None:
            self._close()
        elif not self.in_loop:
            thread.join(timeout_seconds)

    def call_later(self, seconds: float, handler: Callable[[], None]) -> Timer:
        """Run `handler` after a while, unless it is cancelled."""
        timer = Timer(handler)
        heapq.heappush(self._timers, (self.monotonic() + seconds, next(self._serial), timer))
        return timer

    def watch(self, descriptor: int, events: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with the events whenever the descriptor has some; or change which."""
        try:
            self._selector.modify(descriptor, events, handler)
        except KeyError:
            self._selector.register(descriptor, events, handler)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching; idempotent. Call it before the descriptor is closed."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)

    def find(
        self, host: str, port: int, handler: Callable[[list[Endpoint] | OSError], None]
    ) -> None:
        """Find the socket addresses of a host, and call `handler` with them or with the error."""
        with contextlib.suppress(OSError):
            handler_input = _lookup(host, port, socket.AI_NUMERICHOST)
            self.call(lambda: handler(handler_input))
            return
        key = host, port
        kept = self._names.get(key)
        if kept is not None and self.monotonic() - kept[0] < _NAME_KEPT_SECONDS:
            self.call(lambda: handler(kept[1]))
            return
        waiting = self._asking.setdefault(key, [])
        waiting.append(handler)
        if len(waiting) == 1:
            name = f"find {host}"
            threading.Thread(target=self._ask, args=key, name=name, daemon=True).start()

    def _ask(self, host: str, port: int) -> None:
        found: list[Endpoint] | OSError
        try:
            found = _lookup(host, port, 0)
        except OSError as error:
            found = error
        with contextlib.suppress(RuntimeError):  # stopped meanwhile
            self.call(lambda: self._answer(host, port, found))

    def _answer(self, host: str, port: int, found: list[Endpoint] | OSError) -> None:
        if not isinstance(found, OSError):
            self._names[host, port] = self.monotonic(), found
        for handler in self._asking.pop((host, port), []):
            self._guarded(handler, found)

    def _run(self) -> None:
        try:
            while not self._stopping or self._calls:
                for key, events in self._selector.select(self._patience()):
                    # An earlier handler of this round may have let go of it.
                    if self._selector.get_map().get(key.fd) is key:
                        self._guarded(key.data, events)
                self._run_timers()
                for _ in range(len(self._calls)):
                    self._guarded(self._calls.popleft())
        finally:
            self._close()

    def _patience(self) -> float | None:
        if self._calls or self._stopping:
            return 0
        while self._timers and self._timers[0][2].handler is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.monotonic()) if self._timers else None

    def _run_timers(self) -> None:
        now = self.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            handler, timer.handler = timer.handler, None
            if handler is not None:
                self._guarded(handler)

    def _guarded(self, handler: Callable[..., None], *args: Any) -> None:
        try:
            handler(*args)
        except Exception:
            # A handler guards itself; this is for our own mistakes, which must not stay unseen.
            kind, error, traceback = sys.exc_info()
            if kind is not None:
                threading.excepthook(
                    threading.ExceptHookArgs((kind, error, traceback, self._thread))
                )

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full means that it is awake already
            self._wake_sender.send(b"x")

    def _on_wake(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(4096)
        with self._guard:
            self._woken = False

    def _close(self) -> None:
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()


def _lookup(host: str, port: int, flags: int) -> list[Endpoint]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError:
        raise OSError(f"no host can have the name {host!r}") from None
    return [(family, address) for family, _, _, _, address in found]
