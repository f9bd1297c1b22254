"""Every limit of the embedded broker, in one place.

What is over a limit is disconnected or refused, and logged with the reason; the others do not
feel it. No limit lives anywhere else in the package.
"""

from dataclasses import dataclass

from broker.access import Kind
from broker.errors import LimitsError

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How much a client may send: so much a second for ever, and more for a moment.

    Attributes:
        packets_per_second: Packets of any kind, but for acknowledgements that are awaited.
        bytes_per_second: Of those packets.
        burst_seconds: What a client that was silent may send at once, in seconds of the above.
    """

    packets_per_second: float
    bytes_per_second: float
    burst_seconds: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one broker; the defaults suit some thousands of stores on one machine.

    Raises:
        LimitsError: When two limits contradict each other.
    """

    connections: int = 20_000
    """Sockets open at a time, also those without CONNECT; what comes above is closed at once."""

    strangers: int = 8_000
    """Of these, sockets that are not authenticated yet; for one above the oldest one is closed."""

    strangers_per_address: int = 4_000
    """The same from one address (one /64 of IPv6); in TLS one counts twice.

    A chain may sit behind one address and come back all at once.
    """

    stranger_grace_seconds: float = 2.0
    """No stranger is closed for another before that; the newcomer is, if it has to be someone."""

    strangers_per_second: float = 300.0
    """Connections from one address that come to nothing; what comes above is closed at once.

    In TLS one counts twice. One that authenticates does not count.
    """

    strangers_burst: int = 1_000
    """So many of them may come in a moment."""

    connect_seconds: float = 10.0
    """From accepting a socket over TLS to its complete CONNECT; when it is over it is closed."""

    connects_per_second: float = 5.0
    """CONNECTs of one identity, for ever; what comes above is refused with CONNACK 3.

    The connection that it would take over stays. Not where there is no access file.
    """

    connects_burst: int = 60
    """So many of them may come in a moment."""

    connect_packet_bytes: int = 128 * 1024
    """Largest CONNECT, and largest WebSocket frame before it: all that a stranger can make us hold.

    It has room for a will, a user name and a password at their longest but not for all three.
    """

    connect_frames: int = 256
    """WebSocket frames before CONNECT is complete: an empty one costs as much as a full one."""

    handshake_bytes: int = 16 * 1024
    """Largest HTTP request that asks for a WebSocket."""

    packet_bytes: int = 1 * MIB
    """Largest packet after CONNECT, header included. storebus's own messages end at 256 KiB."""

    client_id_bytes: int = 256
    """Longest client id. MQTT 3.1.1 asks for 23; ours are `<store>.<device>`."""

    topic_levels: int = 201
    """Levels of a topic name or filter: every level costs a node in the trees.

    So many pass through mosquitto as well, which counts 200 slashes.
    """

    filters_per_client: int = 1_000
    """Subscriptions of one session; one above gets 0x80 in its SUBACK.

    Also what one SUBSCRIBE or UNSUBSCRIBE may name; who names more is disconnected.
    """

    filters_bytes_per_client: int = 1 * MIB
    """The same in bytes, roughly."""

    unreleased_messages: int = 5_000
    """QoS 2 messages of one client that it has not released yet; who has more is disconnected."""

    inflight_messages: int = 100
    """QoS 1 and 2 messages sent to one client and not yet acknowledged by it."""

    outgoing_bytes: int = 16 * MIB
    """What may wait for one client: once for the socket, once for the in-flight window.

    A connected client above it is disconnected. For a session that is away the newest message is
    not queued, which is logged.
    """

    crowded_hub_seconds: float = 10.0
    """While half of `outgoing_bytes` waits for a hub, devices are not read from: else a few of them
    could have it disconnected. After so long without its taking anything it is, all the same.
    """

    waiting_bytes: int = 256 * MIB
    """What may wait for all clients together, and what half-sent packets hold.

    Above it the client with the most is disconnected first, or its session forgotten if it is away.
    """

    publish_rate: Rate = Rate(packets_per_second=50_000, bytes_per_second=256 * MIB)
    """How much a hub may send, and anybody where there is no access file.

    A client above its rate is not read from until it is below again, so that TCP holds it back.
    """

    device_rate: Rate = Rate(packets_per_second=500, bytes_per_second=16 * MIB)
    """The same for a device: draining its outbox it sends 100 messages of 96 KiB in a second."""

    quiet_rate: Rate = Rate(packets_per_second=50, bytes_per_second=MIB // 4)
    """The same for a tool, which publishes nothing, and for the holder of a join bundle."""

    over_rate_seconds: float = 30.0
    """Who is held back all this time without a pause is disconnected."""

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

    def rate_of(self, kind: Kind) -> Rate:
        """Tell how much a client of this kind may send."""
        if kind is Kind.DEVICE:
            return self.device_rate
        if kind in (Kind.TOOL, Kind.JOIN):
            return self.quiet_rate
        return self.publish_rate

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
        if self.outgoing_bytes > self.waiting_bytes:
            raise LimitsError(
                f"outgoing_bytes ({self.outgoing_bytes}), for one client, is above waiting_bytes "
                f"({self.waiting_bytes}), for all together",
                hint="raise waiting_bytes or lower outgoing_bytes",
            )
        for rate in (self.publish_rate, self.device_rate, self.quiet_rate):
            if min(rate.packets_per_second, rate.bytes_per_second, rate.burst_seconds) <= 0:
                raise LimitsError(f"{rate} would let nobody say anything")
        if min(self.strangers, self.strangers_per_address, self.strangers_burst - 1) < 1:
            raise LimitsError("without a place for strangers nobody can connect")
        if self.connects_per_second <= 0 or self.connects_burst < 1:
            raise LimitsError("without CONNECTs of an identity nobody can connect")
        if not 1 <= self.inflight_messages <= 60_000:
            raise LimitsError(
                f"inflight_messages is {self.inflight_messages}, it must be 1 to 60000: "
                "MQTT has 65535 packet identifiers",
            )


TRIAL_LIMITS = Limits(strangers_per_second=3_000.0, strangers_burst=20_000)
"""For a broker that is open to all on loopback: its only strangers are programs on this machine,
and somebody who tries how it takes garbage wants to see each answer, not a closed door."""
