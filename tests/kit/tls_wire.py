"""A server that speaks TLS in front of a plain broker, and servers that only pretend to."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.helpers.waiting import TIME_SCALE


def server_context(
    certificate: Path, key: Path, *, client_ca: Path | None = None, newest: bool = True
) -> ssl.SSLContext:
    """Return how a server shows itself, and whom it lets in if a CA for clients is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if not newest:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class TlsWire:
    """Takes off the encryption and forwards to a plain port.

    Attributes:
        port: Where it listens.
        seen: What it learned of each client that came through: the TLS version and the certificate.
    """

    def __init__(self, target_port: int, context: ssl.SSLContext) -> None:
        """Begin to forward."""
        self._target_port = target_port
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen: list[tuple[str | None, dict[str, Any] | None]] = []
        self._loop = asyncio.new_event_loop()
        # A client that goes away in the middle is what many of the tests are about.
        self._loop.set_exception_handler(lambda _loop, _context: None)
        self._ended = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(20 * TIME_SCALE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(20 * TIME_SCALE)

    def _run(self, started: threading.Event) -> None:
        try:
            self._loop.run_until_complete(self._serve(started))
        finally:
            self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(
            self._forward, sock=self._listener, ssl=self._context, ssl_shutdown_timeout=1
        )
        started.set()
        await self._ended.wait()
        # First no more of them: asyncio loses a socket that it accepts while a server closes.
        self._loop.remove_reader(self._listener)
        for _ in range(1000):
            await asyncio.sleep(0.001)
            # Also those that are still shaking hands, of which nothing public knows.
            transports = list(self._loop._transports.values())  # type: ignore[attr-defined]
            alive = [transport for transport in transports if not transport.is_closing()]
            if not alive and not asyncio.all_tasks() - {asyncio.current_task()}:
                break
            for transport in alive:
                transport.abort()
        server.close()
        await asyncio.sleep(0)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        self.seen.append((tls.version(), tls.getpeercert()))
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            with contextlib.suppress(OSError):
                sink.close()
                await sink.wait_closed()

        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        finally:
            writer.transport.abort()
            far_writer.transport.abort()


class Pretender:
    """Accepts connections and does with each what it is told, in a thread, until it is closed."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        """Begin to listen."""
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.accepted = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join(20 * TIME_SCALE)
        for one in self._open:
            one.close()

    def _run(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(one)
            with contextlib.suppress(OSError):
                self._behave(one)
