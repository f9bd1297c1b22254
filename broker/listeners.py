"""The sockets that clients connect to: TCP and WebSocket, plain or in TLS.

Owns accepting, asking the gate, the TLS handshake, and the tasks that serve connections. Whom it
hands a stream to, and what that one does with it, it must not know. It accepts by itself and not by
`asyncio.Server`, which makes a task and a transport before anyone can say no, and takes as many
connections in one turn of the event loop as there are.

Invariants: who is refused costs an accept and a close; after so much accepting the clients have
their turn; after `close` no socket of ours is open and no task of ours runs, however stuck a client
is.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from broker.errors import CloseReason, ListenError
from broker.gate import Gate, Refusal
from broker.limits import Limits
from broker.notices import Notices
from broker.streams import (
    Peer,
    Socket,
    StreamReader,
    StreamWriter,
    WebSocketReader,
    WebSocketWriter,
)

log = logging.getLogger(__name__)

_BACKLOG = 1024

# What accepting costs, and how much of it is done before the clients have their turn.
_EFFORT_REFUSED = 1
_EFFORT_LET_IN = 8
_EFFORT_HANDSHAKE = 32
_EFFORT_A_TURN = 128

# A handshake that comes to nothing costs some times what a plain connection does.
_TLS_COST = 2

# asyncio has a buffer of 256 KiB for each TLS connection, all of it in memory from the start, which
# would be a gigabyte for 4,000 stores. A TLS record has 16 KiB.
_TLS_BUFFER_BYTES = 32 * 1024

# Without descriptors or memory nobody can be let in; someone will leave.
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SHORTAGE_SECONDS = 0.2

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


@dataclass(frozen=True, slots=True)
class _Door:
    websocket: bool
    tls: ssl.SSLContext | None


class _Visit:
    """A socket that was let in, from there to its end; the gate's `Visitor`."""

    __slots__ = ("accepted", "accepted_at", "has_begun", "peer", "task")

    def __init__(self, accepted: socket.socket, peer: Peer, accepted_at: float) -> None:
        self.accepted = accepted
        self.peer = peer
        self.accepted_at = accepted_at
        self.has_begun = False
        self.task: asyncio.Task[None] | None = None

    def crowded_out(self) -> None:
        if self.task is not None:
            self.task.cancel(CloseReason.CROWDED_OUT.value)


class Listeners:
    """All listening sockets of one broker."""

    def __init__(self, serve: Serve, limits: Limits) -> None:
        """Take what serves a connection."""
        self._serve = serve
        self._limits = limits
        self._gate = Gate(limits)
        self._notices = Notices(log)
        self._listening: list[socket.socket] = []
        self._accepting: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """Count the open sockets."""
        return len(self._tasks)

    @property
    def strangers(self) -> int:
        """Count those of them that are not authenticated."""
        return self._gate.strangers

    @property
    def refused(self) -> int:
        """Count those that were refused or crowded out since the start."""
        return self._gate.refused

    async def listen(
        self, host: str, port: int, *, websocket: bool, tls: ssl.SSLContext | None, option: str
    ) -> int:
        """Open one more port and return its number, which port 0 leaves to the system.

        Args:
            host: The address; empty for every one of this machine.
            port: 0 takes a free one.
            websocket: Whether MQTT is in WebSocket there.
            tls: What to encrypt with; None for plain text.
            option: What sets the port on the command line, for the hint of an error.

        Raises:
            ListenError: When the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            listening = _bind(dict.fromkeys((info[0], info[4]) for info in found))
        except (OSError, UnicodeError) as error:
            raise ListenError(
                f"cannot listen on {host} port {port}: {_cause(error)}",
                hint=_hint(error, option),
            ) from error
        if tls is not None and hasattr(SSLProtocol, "max_size"):
            SSLProtocol.max_size = _TLS_BUFFER_BYTES  # for this whole process
        self._listening += listening
        door = _Door(websocket, tls)
        for one in listening:
            self._start_accepting(one, door)
        bound: int = listening[0].getsockname()[1]
        return bound

    def _start_accepting(self, listening: socket.socket, door: _Door) -> None:
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(listening, self._accept_some, listening, door)
        except NotImplementedError:  # Windows' loop has no readers
            task = loop.create_task(self._accept(listening, door))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    def _accept_some(self, listening: socket.socket, door: _Door) -> None:
        """Take what has come, up to a turn's share; the event loop calls again for the rest."""
        effort = 0
        while effort < _EFFORT_A_TURN:
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                effort += _EFFORT_REFUSED  # usually the client was gone before we came
                if self._is_shortage(error):
                    loop = asyncio.get_running_loop()
                    loop.remove_reader(listening)
                    loop.call_later(_SHORTAGE_SECONDS, self._accept_again, listening, door)
                    return
            else:
                accepted.setblocking(False)
                effort += self._arrive(accepted, (address[0], address[1]), door)

    def _accept_again(self, listening: socket.socket, door: _Door) -> None:
        if listening in self._listening:
            self._start_accepting(listening, door)

    async def _accept(self, listening: socket.socket, door: _Door) -> None:
        """Do the same where the event loop has no readers, until cancelled."""
        loop = asyncio.get_running_loop()
        effort = 0
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                effort += _EFFORT_REFUSED
                if self._is_shortage(error):
                    await asyncio.sleep(_SHORTAGE_SECONDS)
            else:
                effort += self._arrive(accepted, (address[0], address[1]), door)
            if effort >= _EFFORT_A_TURN:
                effort = 0
                await asyncio.sleep(0)

    def _is_shortage(self, error: OSError) -> bool:
        if error.errno not in _SHORT_OF:
            return False
        now = asyncio.get_running_loop().time()
        self._notices.tell("shortage", now, "no connection can be accepted: %s", error.strerror)
        return True

    def _arrive(self, accepted: socket.socket, peer: Peer, door: _Door) -> int:
        loop = asyncio.get_running_loop()
        now = loop.time()
        visit = _Visit(accepted, peer, now)
        cost = 1 if door.tls is None else _TLS_COST
        refusal = self._gate.arrive(visit, peer[0], now, cost=cost)
        if refusal is not None:
            self._refuse(accepted, peer[0], refusal)
            return _EFFORT_REFUSED
        task = visit.task = loop.create_task(self._run(visit, door))
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._gate.leave(visit, loop.time())
            if not visit.has_begun:
                accepted.close()

        task.add_done_callback(done)
        return _EFFORT_LET_IN if door.tls is None else _EFFORT_HANDSHAKE

    def _refuse(self, accepted: socket.socket, address: str, refusal: Refusal) -> None:
        now = asyncio.get_running_loop().time()
        if refusal is Refusal.FULL:
            self._notices.tell(
                refusal.name,
                now,
                "%d connections are open, which is the limit: more are closed at once",
                self.connections,
            )
        else:
            self._notices.tell(
                refusal.name, now, "a connection from %s is closed: %s", address, refusal.value
            )
            # A polite end would leave each of the flood's sockets with us for a minute.
            with contextlib.suppress(OSError):
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        accepted.close()

    async def _run(self, visit: _Visit, door: _Door) -> None:
        visit.has_begun = True
        loop = asyncio.get_running_loop()

        def admitted() -> None:
            self._gate.know(visit)

        def make() -> Socket:
            return Socket(visit.peer, visit.accepted_at, admitted, tls=door.tls is not None)

        try:
            _, connected = await loop.connect_accepted_socket(make, visit.accepted)
        except OSError:
            return  # it is gone already
        try:
            if door.tls is not None and not await self._secure(connected, door.tls, visit):
                return
            if door.websocket:
                writer = WebSocketWriter(connected)
                await self._serve(WebSocketReader(connected, writer, self._limits), writer)
            else:
                await self._serve(StreamReader(connected), StreamWriter(connected))
        finally:
            connected.tcp.abort()

    async def _secure(self, connected: Socket, tls: ssl.SSLContext, visit: _Visit) -> bool:
        """Do the TLS handshake, within the time that CONNECT has as well."""
        try:
            secured = await asyncio.get_running_loop().start_tls(
                connected.tcp,
                connected,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._limits.connect_seconds,
                ssl_shutdown_timeout=self._limits.linger_seconds,
            )
        except OSError as error:  # ssl's errors and time-outs are OSErrors too
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            self._notices.tell(
                "handshake",
                asyncio.get_running_loop().time(),
                "no TLS with %s: %s",
                visit.peer[0],
                reason or type(error).__name__,
            )
            return False
        if secured is None or connected.is_lost:
            return False
        connected.secured(secured)
        return True

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections stay. Idempotent."""
        for task in self._accepting:
            task.cancel()
        for one in self._listening:
            with contextlib.suppress(NotImplementedError):  # Windows' loop has no readers
                asyncio.get_running_loop().remove_reader(one)
            one.close()
        self._listening.clear()

    async def close(self, *, patience_seconds: float) -> None:
        """Stop accepting and wait for the connections, then cut those that are left. Idempotent."""
        self.stop_accepting()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        tasks = set(self._tasks)
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=patience_seconds)
            for task in stuck:
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)


_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


def _bind(wanted: Iterable[tuple[int, Any]]) -> list[socket.socket]:
    """Listen on all of these; with port 0 the first one's port is taken for the others too."""
    listening: list[socket.socket] = []
    port = 0
    missing: OSError | None = None
    try:
        for family, address in wanted:
            try:
                one = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # the system does without IPv6
                missing = error
                continue
            listening.append(one)
            one.setblocking(False)
            if os.name == "posix":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind((address[0], address[1] or port, *address[2:]))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = error  # `localhost` has an IPv6 address where there is no IPv6
                listening.pop().close()
                continue
            port = one.getsockname()[1]
            one.listen(_BACKLOG)
        if not listening:
            raise missing or OSError(errno.EADDRNOTAVAIL, "no such address")
    except OSError:
        for one in listening:
            one.close()
        raise
    return listening


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
