"""A TCP proxy that does to connections what networks do; it runs on a thread of its own.

Owns its listening socket and every connection through it. Knows nothing of what passes, unless it
is given a `tap`. What happens to connections is said by `weather`, which may change at any time,
and by `cut` and `reset`. Both directions are named as a device sees them: up to the broker, down
from it.

Invariants:
- Bytes of one direction never overtake one another, whatever the delays.
- A stalled direction reads nothing: the sender's system goes on believing for as long as its
  buffers and its keepalive let it, and what it wrote passes when the stall ends, as after TCP's own
  repetitions.
- After `close` no socket and no thread of it is left.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self

_CHUNK_BYTES = 64 * 1024
_PIECES_UNDER_WAY = 64
_NARROW_BUFFER_BYTES = 8 * 1024
_LOOK_SECONDS = 0.01
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER without lingering: closing sends RST."""


@dataclass
class Lane:
    """One direction.

    Attributes:
        open: Whether anything passes; closed it is a stall.
        delay_seconds: How long everything takes.
        jitter_seconds: Up to so much more, at random.
        bytes_per_second: What passes at the most; 0 is as much as there is.
        piece_bytes: It comes out in pieces no longer than this; 0 is as it comes.
    """

    open: bool = True
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float = 0.0
    piece_bytes: int = 0


@dataclass
class Weather:
    """What the network does at present.

    Attributes:
        up: Towards the broker.
        down: From the broker.
        door: What becomes of who connects: let through, accepted and closed at once, accepted and
            left in silence, or refused.
        break_after_bytes: New connections break after so many bytes of both directions; such as in
            the middle of a handshake. 0 is never.
        break_by: How they break then.
    """

    up: Lane = field(default_factory=Lane)
    down: Lane = field(default_factory=Lane)
    door: Literal["open", "slam", "silent", "refuse"] = "open"
    break_after_bytes: int = 0
    break_by: Literal["cut", "reset"] = "cut"


class Tap(Protocol):
    """Sees what passes and may put in its own: one for each connection."""

    def attach(self, connection: "Connection") -> None:
        """The connection it is for; before anything passes."""

    def up(self, data: bytes) -> bytes:
        """What goes on towards the broker in place of this."""

    def down(self, data: bytes) -> bytes:
        """What goes on to the client in place of this."""


class Connection:
    """Two sockets and what is between them. Lives on the proxy's thread."""

    def __init__(self, proxy: "Proxy", near: socket.socket, tap: Tap | None) -> None:
        self._proxy = proxy
        self._near = near
        self._far: socket.socket | None = None
        self._tap = tap
        self._passed_bytes = 0
        self.task: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._way_up: asyncio.Queue[bytes] = asyncio.Queue(_PIECES_UNDER_WAY)
        self._way_down: asyncio.Queue[bytes] = asyncio.Queue(_PIECES_UNDER_WAY)
        self.ended = False

    async def run(self) -> None:
        """Carry bytes until an end closes or something breaks."""
        loop = asyncio.get_running_loop()
        weather = self._proxy.weather
        try:
            if weather.door == "slam":
                return
            await _while(lambda: weather.door == "silent")
            self._far = self._proxy.new_socket()
            await loop.sock_connect(self._far, self._proxy.target)
            self._far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tap is not None:
                self._tap.attach(self)
            near, far = self._near, self._far
            up, down = (lambda: weather.up), (lambda: weather.down)
            tap = self._tap
            self._tasks = [
                asyncio.ensure_future(one)
                for one in (
                    self._read(near, self._way_up, up, None if tap is None else tap.up),
                    self._write(far, self._way_up, up),
                    self._read(far, self._way_down, down, None if tap is None else tap.down),
                    self._write(near, self._way_down, down),
                )
            ]
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            self.close()

    def close(self, *, by_reset: bool = False) -> None:
        """End it, by FIN or by RST to both sides; idempotent."""
        if self.ended:
            return
        self.ended = True
        for task in self._tasks:
            task.cancel()
        loop = asyncio.get_running_loop()
        for one in (self._near, self._far):
            if one is not None and one.fileno() >= 0:
                loop.remove_reader(one.fileno())
                loop.remove_writer(one.fileno())
                with contextlib.suppress(OSError):
                    if by_reset:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                    else:
                        one.shutdown(socket.SHUT_RDWR)
                one.close()

    async def put_up(self, data: bytes) -> None:
        """Send this towards the broker, between what passes."""
        await self._way_up.put(data)

    async def put_down(self, data: bytes) -> None:
        """Send this to the client, between what passes."""
        await self._way_down.put(data)

    async def _read(
        self,
        source: socket.socket,
        way: "asyncio.Queue[bytes]",
        lane: Callable[[], Lane],
        tap: Callable[[bytes], bytes] | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        most = _NARROW_BUFFER_BYTES if self._proxy.narrow else _CHUNK_BYTES
        while True:
            await _while(lambda: not lane().open)
            if lane().bytes_per_second:  # a router keeps little
                await _while(lambda: way.qsize() > 1)
            data = await loop.sock_recv(source, lane().piece_bytes or most)
            await _while(lambda: not lane().open)
            if not data:
                await _while(lambda: not way.empty())  # what came before the end goes before it
                return
            if tap is not None:
                data = tap(data)
                if not data:
                    continue
            at = self._proxy.drawn_delay(lane())
            await way.put(data if not at else _Late(data, loop.time() + at))

    async def _write(
        self, sink: socket.socket, way: "asyncio.Queue[bytes]", lane: Callable[[], Lane]
    ) -> None:
        loop = asyncio.get_running_loop()
        free_at = 0.0
        while True:
            data = await way.get()
            if isinstance(data, _Late):
                await asyncio.sleep(max(0.0, data.at - loop.time()))
            await _while(lambda: not lane().open)
            while data:
                weather = self._proxy.weather
                rate = lane().bytes_per_second
                piece = lane().piece_bytes or (max(1, int(rate / 10)) if rate else len(data))
                left = weather.break_after_bytes - self._passed_bytes
                if weather.break_after_bytes:
                    piece = min(piece, max(1, left))
                await loop.sock_sendall(sink, bytes(data[:piece]))
                passed, data = min(piece, len(data)), data[piece:]
                self._passed_bytes += passed
                self._proxy.passed_bytes += passed
                if weather.break_after_bytes and self._passed_bytes >= weather.break_after_bytes:
                    self._proxy.broken += 1
                    self.close(by_reset=weather.break_by == "reset")
                    return
                if rate:
                    free_at = max(free_at, loop.time() - 0.1) + passed / rate
                    await asyncio.sleep(free_at - loop.time())
                elif lane().piece_bytes:
                    await asyncio.sleep(0)


class _Late(bytes):
    """Bytes that arrive no sooner than at a time."""

    at: float

    def __new__(cls, data: bytes, at: float) -> Self:
        made = super().__new__(cls, data)
        made.at = at
        return made


class Proxy:
    """Stands before one address. A context manager; `close` it otherwise."""

    def __init__(
        self,
        target_port: int,
        *,
        seed: int = 0,
        narrow: bool = False,
        new_tap: Callable[[], Tap] | None = None,
    ) -> None:
        """Listen on a port of its own, from now on.

        Args:
            target_port: Whom it leads to, on loopback.
            seed: Of the jitter.
            narrow: Whether the system's buffers are small, so that who sends feels a slow link.
            new_tap: Makes what looks at a connection.
        """
        self.target = ("127.0.0.1", target_port)
        self.weather = Weather()
        self.narrow = narrow
        self.connections = 0
        self.broken = 0
        self.passed_bytes = 0
        self._new_tap = new_tap
        self._random = random.Random(seed)
        self._open: set[Connection] = set()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._accepting: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        self.call(self._open_door())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- what any thread may call ----------------------------------------------------------------

    def change(self, **weather: Any) -> None:
        """Make the weather this from now on; what is not said is fine."""

        async def change() -> None:
            new = Weather(**weather)
            old, self.weather.door = self.weather.door, new.door
            self.weather.up, self.weather.down = new.up, new.down
            self.weather.break_after_bytes = new.break_after_bytes
            self.weather.break_by = new.break_by
            if new.door == "refuse" and old != "refuse":
                await self._close_door()
            elif old == "refuse" and new.door != "refuse":
                self._listener = self._listen(self.port)
                await self._open_door()

        self.call(change())

    def clear(self) -> None:
        """Fine weather."""
        self.change()

    def cut(self, *, by_reset: bool = False) -> int:
        """End all connections, by FIN or by RST to both sides; how many there were."""

        async def cut() -> int:
            found = list(self._open)
            for connection in found:
                connection.close(by_reset=by_reset)
            return len(found)

        return self.call(cut())

    @property
    def open_connections(self) -> int:
        """How many there are now."""

        async def count() -> int:
            return sum(not one.ended for one in self._open)

        return self.call(count())

    def call(self, step: Awaitable[Any], seconds: float = 30.0) -> Any:
        """Do something on the proxy's thread, and wait for it."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(_run(step), self._loop)
        return future.result(seconds)

    def close(self) -> None:
        """End everything; idempotent."""
        if self._loop.is_closed():
            return

        async def end() -> None:
            await self._close_door()
            self.weather.door = "slam"
            for connection in list(self._open):
                connection.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for one in others:
                one.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # --- the proxy's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _listen(self, port: int) -> socket.socket:
        listener = self.new_socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(100)
        return listener

    def new_socket(self) -> socket.socket:
        """A socket that does not block, with buffers as they are to be."""
        made = socket.socket()
        made.setblocking(False)
        if self.narrow:
            for which in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                made.setsockopt(socket.SOL_SOCKET, which, _NARROW_BUFFER_BYTES)
        return made

    async def _open_door(self) -> None:
        self._accepting = asyncio.ensure_future(self._accept(self._listener))

    async def _close_door(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
            self._accepting = None
        self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                near, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            near.setblocking(False)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            connection = Connection(self, near, None if self._new_tap is None else self._new_tap())
            self._open.add(connection)
            task = connection.task = asyncio.ensure_future(connection.run())
            task.add_done_callback(lambda _, one=connection: self._open.discard(one))  # type: ignore[misc]

    def drawn_delay(self, lane: Lane) -> float:
        """How long the next piece takes."""
        if not lane.delay_seconds and not lane.jitter_seconds:
            return 0.0
        return lane.delay_seconds + self._random.uniform(0.0, lane.jitter_seconds)


async def _while(condition: Callable[[], bool]) -> None:
    """Wait for the weather to change, which other threads do."""
    while condition():  # noqa: ASYNC110 - no event tells of everything that is waited for here
        await asyncio.sleep(_LOOK_SECONDS)


async def _run(step: Awaitable[Any]) -> Any:
    return await step
