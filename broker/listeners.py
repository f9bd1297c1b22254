"""The sockets that clients connect to, TCP and WebSocket.

Owns accepting, the limit on connections, and the tasks that serve them. Whom it hands a stream to,
and what that one does with it, it must not know.

Invariant: after `close` no socket of ours is open and no task of ours runs, however stuck a client
is; nothing waits for `asyncio.Server.wait_closed`, which since Python 3.12 waits for the clients.
"""

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from broker.errors import ListenError
from broker.limits import Limits
from broker.streams import SocketReader, SocketWriter, WebSocketReader, WebSocketWriter

log = logging.getLogger(__name__)

_BACKLOG = 1024

Serve = Callable[[Any, Any], Awaitable[None]]
"""Serves a reader and a writer until the connection is closed."""


def is_loopback(host: str) -> bool:
    """Say whether only this machine can connect to the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Listeners:
    """All listening sockets of one broker."""

    def __init__(self, serve: Serve, limits: Limits) -> None:
        """Take what serves a connection."""
        self._serve = serve
        self._limits = limits
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_full = False

    @property
    def connections(self) -> int:
        """Count the open sockets."""
        return len(self._tasks)

    async def listen(self, host: str, port: int, *, websocket: bool) -> int:
        """Open one more port and return its number, which port 0 leaves to the system.

        Raises:
            ListenError: When the address cannot be had.
        """
        accept = self._accept_websocket if websocket else self._accept_tcp
        option = "--websocket-port" if websocket else "--port"
        try:
            server = await asyncio.start_server(accept, host, port, backlog=_BACKLOG)
        except (OSError, OverflowError) as error:
            raise ListenError(
                f"cannot listen on {host} port {port}: {_cause(error)}",
                hint=_hint(error, option),
            ) from error
        bound: int = server.sockets[0].getsockname()[1]
        self._servers.append(server)
        return bound

    def _accept_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accept(*self._adapt(reader, writer))

    def _accept_websocket(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket_reader, socket_writer = self._adapt(reader, writer)
        web_reader = WebSocketReader(
            socket_reader, socket_writer, max_frame_bytes=self._limits.packet_bytes
        )
        self._accept(web_reader, WebSocketWriter(socket_writer, web_reader))

    def _adapt(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[SocketReader, SocketWriter]:
        # Small packets must not wait for each other (Nagle). asyncio sets this too; stay sure.
        connected = writer.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return (
            SocketReader(reader, max_read_bytes=self._limits.packet_bytes),
            SocketWriter(writer),
        )

    def _accept(
        self, reader: SocketReader | WebSocketReader, writer: SocketWriter | WebSocketWriter
    ) -> None:
        if len(self._tasks) >= self._limits.connections:
            if not self._is_full:
                self._is_full = True
                log.warning(
                    "%d connections are open, which is the limit: more are closed at once",
                    len(self._tasks),
                )
            writer.abort()
            return
        self._is_full = False
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(
        self, reader: SocketReader | WebSocketReader, writer: SocketWriter | WebSocketWriter
    ) -> None:
        try:
            await self._serve(reader, writer)
        finally:
            writer.abort()

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections stay. Idempotent."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def close(self, *, patience_seconds: float) -> None:
        """Stop accepting and wait for the connections, then cut those that are left. Idempotent."""
        self.stop_accepting()
        tasks = set(self._tasks)
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=patience_seconds)
            for task in stuck:
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)


def _cause(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            return "the port is in use"
        if isinstance(error, socket.gaierror):
            return "no such host"
        # asyncio wraps the system's message into one with the whole address; this is plainer.
        return errno.errorcode.get(error.errno or 0, "") + " " + (error.strerror or str(error))
    return str(error)


def _hint(error: Exception, option: str) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"another broker may be running; stop it, or choose another port: {option} 0 takes "
            "a free one"
        )
    if number == errno.EACCES:
        return f"ports below 1024 need a privilege; choose a higher one with {option}"
    if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "use an address of this machine: --host 127.0.0.1"
    return None
