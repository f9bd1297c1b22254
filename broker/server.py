"""The embedded broker as the rest of storebus uses it: start, addresses, status, stop.

Owns how engine and sockets come and go together. Nothing of amqtt's shows through here.
"""

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.access import AccessPolicy, AllowEverything, AnyoneMayConnect, Authenticator
from broker.access_file import AccessFileKeeper, Rules
from broker.engine import LISTENER, StorebusBroker
from broker.errors import ListenError
from broker.limits import Limits
from broker.listeners import Listeners, is_loopback
from broker.streams import StreamReader, StreamWriter
from broker.tls import TlsFiles, server_context

log = logging.getLogger(__name__)

PORT = 1883
TLS_PORT = 8883

# `storebus-broker` promises to be gone within two seconds of SIGTERM.
_PATIENCE_SECONDS = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsListener:
    """A second place to listen, in TLS, beside a plain one.

    Attributes:
        host: The address; None takes the plain one's.
        port: For MQTT over TLS; 0 takes a free one.
        websocket_port: For MQTT over WebSocket over TLS; None means no WebSocket.
    """

    host: str | None = None
    port: int = TLS_PORT
    websocket_port: int | None = None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a broker listens.

    Attributes:
        host: As it was given.
        port: Of MQTT over TCP, the real one when 0 was asked for.
        websocket_port: Of MQTT over WebSocket, None when there is none.
        tls: Whether these are in TLS.
        second: Where it listens in TLS besides, with real ports; None for most.
    """

    host: str
    port: int
    websocket_port: int | None
    tls: bool = False
    second: TlsListener | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Spell the addresses out."""
        urls = _urls(self.host, self.port, self.websocket_port, tls=self.tls)
        if self.second is not None:
            second = self.second
            urls += _urls(second.host or self.host, second.port, second.websocket_port, tls=True)
        return urls


def _urls(host: str, port: int, websocket_port: int | None, *, tls: bool) -> tuple[str, ...]:
    spelt = f"[{host}]" if ":" in host else host
    end = "s" if tls else ""
    urls: tuple[str, ...] = (f"mqtt{end}://{spelt}:{port}",)
    if websocket_port is not None:
        urls += (f"ws{end}://{spelt}:{websocket_port}/mqtt",)
    return urls


@dataclass(frozen=True, slots=True)
class Status:
    """What is going on in a broker at a moment.

    Attributes:
        connections: Open sockets.
        strangers: Those of them that are not authenticated.
        refused: Sockets closed at once, or to make room, since the start.
        sessions: Of clients that are connected, and those that are kept.
        subscriptions: Pairs of session and filter.
        retained: Topics with a retained message.
        waiting_messages: Of QoS 1 and 2, in flight or queued.
        waiting_bytes: The same.
        access_version: Of the access file in force; None without one.
    """

    connections: int
    strangers: int
    refused: int
    sessions: int
    subscriptions: int
    retained: int
    waiting_messages: int
    waiting_bytes: int
    access_version: int | None


class EmbeddedBroker:
    """An MQTT 3.1.1 broker inside this process, on the running event loop.

    Use it as an async context manager, or call `start` and later `stop`. It is started once.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        websocket_port: int | None = None,
        plain_text_on_network: bool = False,
        open_to_network: bool = False,
        access_file: Path | None = None,
        tls: TlsFiles | None = None,
        tls_listener: TlsListener | None = None,
        limits: Limits | None = None,
        policy: AccessPolicy | None = None,
        authenticator: Authenticator | None = None,
    ) -> None:
        """Describe the broker; nothing happens before `start`.

        Args:
            host: The address to listen on.
            port: For MQTT over TCP; 0 takes a free one, None takes 1883, or 8883 in TLS.
            websocket_port: For MQTT over WebSocket; 0 takes a free one, None means no WebSocket.
            plain_text_on_network: Must be True for a host that is not loopback and not in TLS:
                whoever is on that network can then read and change everything.
            open_to_network: Must be True for a host that is not loopback when there is neither
                access file nor authenticator. `plain_text_on_network` includes it.
            access_file: Who may connect and what they may do; followed while the broker runs.
                Not together with `policy` or `authenticator`.
            tls: The certificate; all listening is in TLS then, unless there is a `tls_listener`.
            tls_listener: With it, host and port are in plain text and this place is in TLS.
            limits: The defaults suit some thousands of stores.
            policy: What clients may do; everything by default.
            authenticator: Who may connect; everybody by default.

        Raises:
            ValueError: For arguments that exclude each other.
        """
        if access_file is not None and (policy is not None or authenticator is not None):
            raise ValueError("an access file comes with its own policy and authenticator")
        if tls_listener is not None and tls is None:
            raise ValueError("a TLS listener needs a certificate")
        self._host = host
        self._is_tls = tls is not None and tls_listener is None
        self._port = port if port is not None else TLS_PORT if self._is_tls else PORT
        self._websocket_port = websocket_port
        self._plain_text_on_network = plain_text_on_network
        self._open_to_network = open_to_network or plain_text_on_network
        self._access_file = access_file
        self._tls = tls
        self._tls_listener = tls_listener
        self._limits = limits or Limits()
        self._has_rules = access_file is not None or authenticator is not None
        self._policy = policy or AllowEverything()
        self._authenticator = authenticator or AnyoneMayConnect()
        self._engine: StorebusBroker | None = None
        self._listeners: Listeners | None = None
        self._keeper: AccessFileKeeper | None = None
        self._following: asyncio.Task[None] | None = None
        self._addresses: Addresses | None = None

    async def start(self) -> Addresses:
        """Listen; clients can connect when it returns. You owe `stop`, also from another task.

        Raises:
            ListenError: When the address cannot be had, the certificate cannot be used, or clients
                on the network would meet less protection than was asked for. Nothing is left open.
            AccessFileError: When the access file is not there or cannot be right.
        """
        if self._engine is not None:
            raise RuntimeError("a broker is started once")
        self._check_hosts()
        context = server_context(self._tls) if self._tls is not None else None
        policy, authenticator = self._policy, self._authenticator
        if self._access_file is not None:
            self._keeper = AccessFileKeeper(self._access_file)
            policy, authenticator = self._keeper.rules.policy, self._keeper.rules.authenticator
        engine = StorebusBroker(self._limits, policy, authenticator)

        async def serve(reader: StreamReader, writer: StreamWriter) -> None:
            await engine.external_connected(reader, writer, LISTENER)

        async def change(rules: Rules, changed: frozenset[str] | None) -> None:
            await engine.change_access(rules.policy, rules.authenticator, changed)

        self._engine = engine
        self._listeners = listeners = Listeners(serve, self._limits)
        await engine.start()
        try:
            self._addresses = await self._listen(listeners, context)
        except BaseException:
            await self.stop()
            raise
        if self._keeper is not None:
            self._following = asyncio.create_task(self._keeper.follow(change))
        return self._addresses

    def _check_hosts(self) -> None:
        second = self._tls_listener
        hosts = [(self._host, self._is_tls)]
        if second is not None:
            hosts.append((second.host if second.host is not None else self._host, True))
        for host, is_tls in hosts:
            if is_loopback(host):
                continue
            shown = host or "every address of this machine"
            if not is_tls and not self._plain_text_on_network:
                raise ListenError(
                    f"{shown} is not loopback, and MQTT without TLS lets anyone on that network "
                    "read and change every message",
                    hint="use TLS (--tls-cert and --tls-key; 'hq tls init' makes them), listen on "
                    "127.0.0.1, or say --plain-text-on-network if that network is yours alone",
                )
            if not self._has_rules:
                if not self._open_to_network:
                    raise ListenError(
                        f"{shown} is not loopback, and without an access file anyone who reaches "
                        "it may read and publish everything",
                        hint="say who may do what with --access FILE ('hq hub' writes it), or "
                        "--open-to-network if you want it open",
                    )
                log.warning(
                    "%s: anyone who reaches it may read and publish everything; --access FILE "
                    "would say who may do what",
                    shown,
                )

    async def _listen(self, listeners: Listeners, context: ssl.SSLContext | None) -> Addresses:
        main = context if self._is_tls else None
        port = await listeners.listen(
            self._host, self._port, websocket=False, tls=main, option="--port"
        )
        websocket_port = self._websocket_port
        if websocket_port is not None:
            websocket_port = await listeners.listen(
                self._host, websocket_port, websocket=True, tls=main, option="--websocket-port"
            )
        second = self._tls_listener
        if second is not None:
            host = second.host if second.host is not None else self._host
            tls_port = await listeners.listen(
                host, second.port, websocket=False, tls=context, option="--tls-port"
            )
            tls_websocket_port = second.websocket_port
            if tls_websocket_port is not None:
                tls_websocket_port = await listeners.listen(
                    host,
                    tls_websocket_port,
                    websocket=True,
                    tls=context,
                    option="--tls-websocket-port",
                )
            second = TlsListener(host=host, port=tls_port, websocket_port=tls_websocket_port)
        return Addresses(self._host, port, websocket_port, self._is_tls, second)

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
            strangers=self._listeners.strangers,
            refused=self._listeners.refused,
            sessions=len(sessions),
            subscriptions=len(router.subscriptions),
            retained=len(router.retained),
            waiting_messages=sum(session.waiting_messages for session in sessions),
            waiting_bytes=sum(session.waiting_bytes for session in sessions),
            access_version=self._keeper.rules.access.version if self._keeper else None,
        )

    async def stop(self) -> None:
        """Close everything within a second, however stuck a client is. Idempotent.

        Sessions and retained messages are in memory and end here; wills are not published.
        """
        engine, self._engine = self._engine, None
        listeners, self._listeners = self._listeners, None
        if engine is None or listeners is None:
            return
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
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
