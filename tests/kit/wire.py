"""A wire between a client and a broker that can be cut, silenced and spoken into."""

import contextlib
import selectors
import socket
import threading
import time
from types import TracebackType
from typing import Self


class Wire:
    """Forwards TCP connections from a port of its own to another, until told otherwise.

    Attributes:
        port: Where it listens.
        accepted: How many connections there were.
        silent: Whether what arrives is dropped.
        closing: Whether new connections are closed at once.
        stalled: Whether nothing is read any more.
        bend: Whether a bit of all that passes is turned over.
        allowance: After so many bytes in either direction a new connection is cut; None for never.
    """

    def __init__(self, target_port: int) -> None:
        """Begin to forward."""
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        self.silent = False
        self.closing = False
        self.stalled = False
        self.bend = False
        self.allowance: int | None = None
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._left: dict[socket.socket, int] = {}
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def mqtt(self) -> str:
        """The address of this end."""
        return f"mqtt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections as a router does that lost its power: without a goodbye."""
        with self._guard:
            for one in self._pairs:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(20)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._ended.is_set():
                if self.stalled:
                    time.sleep(0.01)
                for key, _ in () if self.stalled else selector.select(0.05):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._pairs:
                        self._forward(selector, key.fileobj)
            for one in list(self._pairs):
                one.close()
            self._listener.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        near, _ = self._listener.accept()
        self.accepted += 1
        if self.closing:
            near.close()
            return
        far = socket.create_connection(self._target)
        with self._guard:
            self._pairs |= {near: far, far: near}
        if self.allowance is not None:
            self._left |= {near: self.allowance, far: self.allowance}
        selector.register(near, selectors.EVENT_READ)
        selector.register(far, selectors.EVENT_READ)

    def _forward(self, selector: selectors.BaseSelector, one: socket.socket) -> None:
        other = self._pairs[one]
        try:
            data = one.recv(min(65536, self._left.get(one, 65536)) or 1)
            if one in self._left:
                data = data[: self._left[one]]
                self._left[one] -= len(data)
            if self.bend and data:
                data = data[:-1] + bytes([data[-1] ^ 1])
            if data and not self.silent:
                other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for end in (one, other):
                selector.unregister(end)
                with self._guard:
                    del self._pairs[end]
                self._left.pop(end, None)
                end.close()
