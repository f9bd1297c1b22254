"""Who may connect, and what a client may do: the questions the broker asks, as pure code.

Owns the two seams of security: an `Authenticator` is asked once per CONNECT, before any session is
looked up or touched; an `AccessPolicy` is asked at publish, subscribe, delivery, will and retain.
It must know nothing of sockets, sessions or amqtt. Both run on the event loop: they must answer
from memory, without waiting. If one raises, the answer is no.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol


class Action(Enum):
    """What a client wants to do with a topic name or, for SUBSCRIBE alone, a topic filter."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    RECEIVE = "receive"
    WILL = "will"
    RETAIN = "retain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a client said and showed of itself when it connected.

    Attributes:
        client_id: As sent; empty when the client left the choice to the broker.
        username: None when it sent none.
        password: Never logged, hence not in the representation.
        peer_address: The other end's address, for the log.
        peer_certificate: As `ssl.SSLObject.getpeercert()` gives it; None without one.
    """

    client_id: str
    username: str | None
    password: bytes | None = field(repr=False)
    peer_address: str
    peer_certificate: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, once authenticated; what every later question is about."""

    name: str


class Authenticator(Protocol):
    """Decides who may connect."""

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return who this is, or None to refuse (CONNACK 5)."""
        ...


class AccessPolicy(Protocol):
    """Decides what an identity may do.

    Attributes:
        checks_delivery: False promises that every RECEIVE is allowed, so that it is not asked once
            for each subscriber of each message.
    """

    checks_delivery: bool

    def allows(self, identity: Identity, action: Action, topic: str) -> bool:
        """Say whether the identity may do this with a topic name, or a filter for SUBSCRIBE."""
        ...


class AnyoneMayConnect:
    """Lets everybody in; the identity is the user name, or the client id where there is none."""

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Believe what the client says."""
        return Identity(credentials.username or credentials.client_id)


class AllowEverything:
    """Allows everything but publishing under `$SYS`, which belongs to brokers."""

    checks_delivery = False

    def allows(self, identity: Identity, action: Action, topic: str) -> bool:
        """Say yes, with one exception."""
        del identity
        return action in _READING or not topic.startswith("$SYS/")


_READING = frozenset({Action.SUBSCRIBE, Action.RECEIVE})
