"""The embedded broker as the rest of storebus uses it: start, addresses, status, stop.

Owns how engine and sockets come and go together. Nothing of amqtt's shows through here.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from broker.access import AccessPolicy, AllowEverything, AnyoneMayConnect, Authenticator
from broker.engine import LISTENER, StorebusBroker
from broker.errors import ListenError
from broker.limits import Limits
from broker.listeners import Listeners, is_loopback
from broker.streams import StreamReader, StreamWriter

# `storebus-broker` promises to be gone within two seconds of SIGTERM.
_PATIENCE_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a broker listens.

    Attributes:
        host: As it was given.
        port: Of MQTT over TCP, the real one when 0 was asked for.
        websocket_port: Of MQTT over WebSocket, None when there is none.
    """

    host: str
    port: int
    websocket_port: int | None

    @property
    def urls(self) -> tuple[str, ...]:
        """Spell the addresses out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        urls = [f"mqtt://{host}:{self.port}"]
        if self.websocket_port is not None:
            urls.append(f"ws://{host}:{self.websocket_port}/mqtt")
        return tuple(urls)


@dataclass(frozen=True, slots=True)
class Status:
    """What is going on in a broker at a moment."""

    connections: int
    sessions: int
    subscriptions: int
    retained: int
    waiting_messages: int
    waiting_bytes: int


class EmbeddedBroker:
    """An MQTT 3.1.1 broker inside this process, on the running event loop.

    Use it as an async context manager, or call `start` and later `stop`. It is started once.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 1883,
        *,
        websocket_port: int | None = None,
        plain_text_on_network: bool = False,
        limits: Limits | None = None,
        policy: AccessPolicy | None = None,
        authenticator: Authenticator | None = None,
    ) -> None:
        """Describe the broker; nothing happens before `start`.

        Args:
            host: The address to listen on.
            port: For MQTT over TCP; 0 takes a free one.
            websocket_port: For MQTT over WebSocket; 0 takes a free one, None means no WebSocket.
            plain_text_on_network: Must be True for a host that is not loopback: whoever is on that
                network can then read and change everything.
            limits: The defaults suit some thousands of stores.
            policy: What clients may do; everything by default.
            authenticator: Who may connect; everybody by default.
        """
        self._host = host
        self._port = port
        self._websocket_port = websocket_port
        self._plain_text_on_network = plain_text_on_network
        self._limits = limits or Limits()
        self._policy = policy or AllowEverything()
        self._authenticator = authenticator or AnyoneMayConnect()
        self._engine: StorebusBroker | None = None
        self._listeners: Listeners | None = None
        self._addresses: Addresses | None = None

    async def start(self) -> Addresses:
        """Listen; clients can connect when it returns. You owe `stop`, also from another task.

        Raises:
            ListenError: When the address cannot be had, or is not loopback and plain text there
                was not asked for. Nothing is left open then.
        """
        if self._engine is not None:
            raise RuntimeError("a broker is started once")
        if not self._plain_text_on_network and not is_loopback(self._host):
            raise ListenError(
                f"{self._host or 'every address of this machine'} is not loopback, and MQTT "
                "without TLS lets anyone on that network read and change every message",
                hint="listen on 127.0.0.1, or say --plain-text-on-network if that network is "
                "yours alone",
            )
        engine = StorebusBroker(self._limits, self._policy, self._authenticator)

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            await engine.external_connected(reader, writer, LISTENER)

        self._engine = engine
        self._listeners = listeners = Listeners(serve, self._limits)
        await engine.start()
        try:
            port = await listeners.listen(self._host, self._port, websocket=False)
            websocket_port = self._websocket_port
            if websocket_port is not None:
                websocket_port = await listeners.listen(self._host, websocket_port, websocket=True)
        except BaseException:
            await self.stop()
            raise
        self._addresses = Addresses(self._host, port, websocket_port)
        return self._addresses

    @property
    def addresses(self) -> Addresses:
        """Where it listens.

        Raises:
            RuntimeError: Before `start` has returned.
        """
        if self._addresses is None:
            raise RuntimeError("the broker was not started")
        return self._addresses

    def status(self) -> Status:
        """Count what is going on; cheap enough for once a second.

        Raises:
            RuntimeError: Before `start`.
        """
        if self._engine is None or self._listeners is None:
            raise RuntimeError("the broker was not started")
        router = self._engine.router
        sessions = router.sessions.values()
        return Status(
            connections=self._listeners.connections,
            sessions=len(sessions),
            subscriptions=len(router.subscriptions),
            retained=len(router.retained),
            waiting_messages=sum(session.waiting_messages for session in sessions),
            waiting_bytes=sum(session.waiting_bytes for session in sessions),
        )

    async def stop(self) -> None:
        """Close everything within a second, however stuck a client is. Idempotent.

        Sessions and retained messages are in memory and end here; wills are not published.
        """
        engine, self._engine = self._engine, None
        listeners, self._listeners = self._listeners, None
        if engine is None or listeners is None:
            return
        listeners.stop_accepting()
        engine.end_connections()
        await listeners.close(patience_seconds=_PATIENCE_SECONDS)
        await engine.shutdown()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()
