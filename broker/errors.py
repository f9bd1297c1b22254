"""What can go wrong in the embedded broker, and why a connection was closed.

Owns the package's error classes and the one table of reasons for closing a connection.
"""

from enum import Enum

from buswire.errors import BusError


class EmbeddedBrokerError(BusError):
    """Base of every deliberate error of the embedded broker."""


class ListenError(EmbeddedBrokerError):
    """The broker cannot listen where it was told to."""


class LimitsError(EmbeddedBrokerError):
    """A set of limits that contradicts itself."""


class AccessFileError(EmbeddedBrokerError):
    """The access file is not there or cannot be right."""


class CloseReason(Enum):
    """Why a connection ended, in words for the log."""

    DISCONNECT = "the client said DISCONNECT"
    END_OF_STREAM = "the client closed the connection without DISCONNECT"
    CONNECTION_LOST = "the connection broke"
    CONNECT_LATE = "no CONNECT in time"
    CONNECT_REFUSED = "CONNECT was refused"
    KEEPALIVE = "nothing was heard for one and a half times the keep-alive"
    PROTOCOL = "the client broke the protocol"
    TAKEN_OVER = "another connection came with the same client id"
    PACKET_TOO_LARGE = "a packet is over the size limit"
    TOO_SLOW = "the client reads or acknowledges too slowly, its outgoing queue is full"
    TOO_MUCH = "the client sends more than is allowed"
    MEMORY = "too much waits for all clients together, and most of it for this one"
    CROWDED_OUT = "it did not authenticate, and its place is needed"
    REVOKED = "the access file does not let it in any more"
    SHUTDOWN = "the broker is stopping"
    DEFECT = "a defect of the broker"

    @property
    def is_normal(self) -> bool:
        """Tell what is daily life from what an operator should see in the log."""
        return self in _NORMAL


_NORMAL = frozenset(
    {
        CloseReason.DISCONNECT,
        CloseReason.END_OF_STREAM,
        CloseReason.CONNECTION_LOST,
        CloseReason.TAKEN_OVER,
        CloseReason.SHUTDOWN,
    }
)


class ConnectionClosedError(EmbeddedBrokerError):
    """The connection must be closed, for this reason.

    Attributes:
        reason: The entry of the table of reasons.
    """

    def __init__(self, reason: CloseReason, detail: str) -> None:
        """Take the reason and what exactly was seen."""
        super().__init__(detail)
        self.reason = reason


class ProtocolError(ConnectionClosedError):
    """The client sent what MQTT 3.1.1 forbids; section 4.8 has the connection closed for that."""

    def __init__(self, detail: str) -> None:
        """Name the rule that was broken."""
        super().__init__(CloseReason.PROTOCOL, detail)
