"""Every limit of the embedded broker, in one place.

What is over a limit is disconnected or refused, and logged with the reason; the others do not
feel it. No limit lives anywhere else in the package.
"""

from dataclasses import dataclass

from broker.errors import LimitsError

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one broker; the defaults suit some thousands of stores on one machine.

    Raises:
        LimitsError: When two limits contradict each other.
    """

    connections: int = 20_000
    """Sockets open at a time, also those without CONNECT; what comes above is closed at once."""

    connect_seconds: float = 10.0
    """From accepting a socket to its complete CONNECT; the socket is closed when it is over."""

    connect_packet_bytes: int = 128 * 1024
    """Largest CONNECT: all that a stranger can make the broker hold."""

    packet_bytes: int = 1 * MIB
    """Largest packet after CONNECT, header included. storebus's own messages end at 256 KiB."""

    client_id_bytes: int = 256
    """Longest client id. MQTT 3.1.1 asks for 23; ours are `<store>.<device>`."""

    topic_levels: int = 128
    """Levels of a topic name or filter: every level costs a node in the trees."""

    filters_per_client: int = 1_000
    """Subscriptions of one session; one above gets 0x80 in its SUBACK."""

    inflight_messages: int = 100
    """QoS 1 and 2 messages sent to one client and not yet acknowledged by it."""

    outgoing_bytes: int = 16 * MIB
    """What may wait for one client: once for the socket, once for the in-flight window.

    A connected client above it is disconnected. For a session that is away the newest message is
    not queued, which is logged.
    """

    kept_sessions: int = 10_000
    """Sessions with clean_session=False, present or away; one above is refused with CONNACK 3."""

    kept_session_seconds: float = 24 * 3600.0
    """How long the session of a client that is away is kept."""

    retained_messages: int = 10_000
    """Retained messages of all topics together; what comes above is delivered but not retained."""

    retained_bytes: int = 8 * MIB
    """The same in bytes, the trees' nodes included."""

    linger_seconds: float = 1.0
    """How long a closing connection may take to hand its last bytes over before it is cut."""

    def __post_init__(self) -> None:
        """Refuse what could not work: each rule is an invariant that other modules rely on."""
        if self.retained_bytes > self.outgoing_bytes:
            # One SUBSCRIBE to '#' hands every retained message to one client at once.
            raise LimitsError(
                f"retained_bytes ({self.retained_bytes}) is above outgoing_bytes "
                f"({self.outgoing_bytes}): a client that subscribes to '#' would be disconnected",
                hint="raise outgoing_bytes or lower retained_bytes",
            )
        if self.packet_bytes > self.outgoing_bytes:
            raise LimitsError(
                f"packet_bytes ({self.packet_bytes}) is above outgoing_bytes "
                f"({self.outgoing_bytes}): the largest packet could reach nobody",
                hint="raise outgoing_bytes or lower packet_bytes",
            )
        if not 1 <= self.inflight_messages <= 60_000:
            raise LimitsError(
                f"inflight_messages is {self.inflight_messages}, it must be 1 to 60000: "
                "MQTT has 65535 packet identifiers",
            )
