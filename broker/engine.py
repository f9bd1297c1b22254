"""amqtt's Broker with its heart replaced: the only place where amqtt's classes are subclassed.

amqtt gives the life cycle, the external listener through which connections enter, and the stream
adapters. Everything between a connection's first byte and its last is ours, because measured
against real clients amqtt loses acknowledged messages, lets strangers at sessions before it has
authenticated them, and matches every message against every filter in the broker;
docs/decisions/0001-embedded-broker.md has the reasons and figures.

amqtt is pinned exactly: tests/broker_engine/test_seams.py names every overridden method and its
signature, so that an upgrade that moves one fails there and not in a shop.
"""

import asyncio
import logging
from functools import partial
from typing import Any

from amqtt.broker import Broker
from amqtt.session import Session as AmqttSession

from broker.access import AccessPolicy, Admission, Authenticator
from broker.connection import Connection, Flusher, Surroundings
from broker.errors import CloseReason
from broker.limits import Limits
from broker.metering import Regulars, Waiting
from broker.notices import Notices
from broker.packets import Message
from broker.routing import Router
from broker.session import Session
from broker.topics import is_topic_name

log = logging.getLogger(__name__)

LISTENER = "default"
"""The one listener that amqtt knows of; which socket a connection came from is not its business."""

_EXPIRY_SECONDS = 5.0

# So many sessions are looked at, after a change of access, before the clients have their turn.
_SESSIONS_A_TURN = 200

# No plugin at all: amqtt's own are its defects' home. Left out, the key would mean its defaults,
# which are anonymous access and packet logs.
_CONFIG = {"listeners": {LISTENER: {"type": "external"}}, "plugins": {}}


class StorebusBroker(Broker):
    """An MQTT 3.1.1 broker; must be made inside the running event loop.

    Attributes:
        router: The broker's state: sessions, subscriptions, retained messages.
    """

    def __init__(self, limits: Limits, policy: AccessPolicy, authenticator: Authenticator) -> None:
        """Take the rules; nothing listens yet."""
        super().__init__(_CONFIG)
        loop = asyncio.get_running_loop()
        waiting = Waiting(limits.waiting_bytes)
        waiting.on_limit(self._relieve)
        self.router = Router(limits, policy, waiting, loop.time)
        self._connections: set[Connection] = set()
        self._surroundings = Surroundings(
            router=self.router,
            authenticator=authenticator,
            limits=limits,
            flusher=Flusher(loop),
            loop=loop,
            waiting=waiting,
            regulars=Regulars(limits),
            notices=Notices(log),
        )

    async def _client_connected(self, listener_name: str, reader: Any, writer: Any) -> None:
        """Serve a connection to its end; amqtt's `external_connected` leads here."""
        del listener_name
        connection = Connection(reader, writer, self._surroundings)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def change_access(
        self, policy: AccessPolicy, admission: Admission, changed: frozenset[str] | None
    ) -> None:
        """Judge by these rules from now on, and have those who are here already follow them.

        Who is not admitted any more is thrown out and its session forgotten; subscriptions that
        are not allowed any more are ended. It leaves the others their turn: with thousands to look
        at it takes many turns of the event loop, revocations first.

        Args:
            policy: What clients may do.
            admission: Who may connect, and who may stay.
            changed: Whom to look at; None means everybody.
        """
        self._surroundings.authenticator = admission
        loop = asyncio.get_running_loop()
        sessions = self.router.change_policy(policy)
        if changed is not None:
            sessions = [session for session in sessions if session.identity.name in changed]
        for number, session in enumerate(sessions):
            if not admission.still_admits(session.identity):
                self.router.revoke(session, now=loop.time())
            if number % _SESSIONS_A_TURN == _SESSIONS_A_TURN - 1:
                await asyncio.sleep(0)
        for number, session in enumerate(sessions):
            self.router.recheck(session)
            if number % _SESSIONS_A_TURN == _SESSIONS_A_TURN - 1:
                await asyncio.sleep(0)

    def _relieve(self) -> int:
        """Measure what waits for all clients; above the limit, cut off who holds most.

        It may be called in the middle of a fan-out, so sessions are forgotten a turn later.
        """
        surroundings = self._surroundings
        waiting, loop = surroundings.waiting, surroundings.loop
        surroundings.flusher.flush()  # what only waited for the end of this turn is not waiting
        sockets_bytes = 0
        holders: list[tuple[int, Connection | None, Session | None]] = []
        for connection in self._connections:
            socket_bytes = connection.socket_bytes()
            sockets_bytes += socket_bytes
            session = connection.session
            queued_bytes = session.waiting_bytes if session is not None else 0
            if socket_bytes or queued_bytes:
                holders.append((socket_bytes + queued_bytes, connection, session))
        holders += [
            (session.waiting_bytes, None, session)
            for session in self.router.sessions.values()
            if session.outlet is None and session.waiting_bytes
        ]
        if sockets_bytes + waiting.queued_bytes <= waiting.limit_bytes:
            return sockets_bytes + waiting.queued_bytes
        holders.sort(key=lambda holder: holder[0], reverse=True)
        for held_bytes, connection_or_none, session in holders:
            if sockets_bytes + waiting.queued_bytes <= waiting.limit_bytes * 7 // 8:
                break
            if connection_or_none is not None:
                sockets_bytes -= connection_or_none.socket_bytes()
                connection_or_none.end(CloseReason.MEMORY, f"{held_bytes} bytes")
            if session is not None:
                session.clear()
                loop.call_soon(partial(self.router.crowd_out, session, now=loop.time()))
        return sockets_bytes + waiting.queued_bytes

    def end_connections(self) -> None:
        """Cut every connection; the tasks that serve them end soon after."""
        for connection in tuple(self._connections):
            connection.end(CloseReason.SHUTDOWN)

    async def shutdown(self) -> None:
        """Stop; every connection must have been ended."""
        await super().shutdown()
        self.router.sessions.clear()

    async def _session_monitor(self) -> None:
        """Expire sessions, in the task that amqtt runs for that."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_EXPIRY_SECONDS)
            self.router.expire(loop.time())

    # amqtt's own doors to routing, so that nothing published through them misses the subscribers.

    async def _broadcast_message(
        self,
        session: AmqttSession | None,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        """Publish on the broker's own behalf."""
        del session
        self.router.publish(_message(topic, data, force_qos, retain=False))

    async def retain_message(
        self,
        source_session: AmqttSession | None,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Retain a message on the broker's own behalf; no data clears the topic."""
        del source_session
        self.router.retain(_message(topic_name, data, qos, retain=True))


def _message(
    topic: str | None, data: bytes | bytearray | None, qos: int | None, *, retain: bool
) -> Message:
    if topic is None or not is_topic_name(topic, max_levels=len(topic) + 1):
        raise ValueError(f"{topic!r} is no topic name")
    return Message(topic, bytes(data or b""), qos or 0, retain=retain)
