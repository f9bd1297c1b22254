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

from broker.errors import ListenError
from broker.limits import Limits
from broker.streams import Socket, StreamReader, StreamWriter, WebSocketReader, WebSocketWriter

log = logging.getLogger(__name__)

_BACKLOG = 1024

Serve = Callable[[StreamReader, StreamWriter], Awaitable[None]]
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
            server = await asyncio.get_running_loop().create_server(
                lambda: Socket(accept), host, port, backlog=_BACKLOG
            )
        except (OSError, UnicodeError) as error:
            raise ListenError(
                f"cannot listen on {host} port {port}: {_cause(error)}",
                hint=_hint(error, option),
            ) from error
        bound: int = server.sockets[0].getsockname()[1]
        self._servers.append(server)
        return bound

    def _accept_tcp(self, connected: Socket) -> None:
        self._accept(StreamReader(connected), StreamWriter(connected))

    def _accept_websocket(self, connected: Socket) -> None:
        writer = WebSocketWriter(connected)
        reader = WebSocketReader(connected, writer, max_frame_bytes=self._limits.packet_bytes)
        self._accept(reader, writer)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
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

    async def _run(self, reader: StreamReader, writer: StreamWriter) -> None:
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
    return "no such host"  # a name that cannot even be asked for


def _hint(error: Exception, option: str) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"another broker may be running; stop it, or choose another port: {option} 0 takes "
            "a free one"
        )
    if number == errno.EACCES:
        return f"ports below 1024 need a privilege; choose a higher one with {option}"
    if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror | UnicodeError):
        return "use an address of this machine: --host 127.0.0.1"
    return None
