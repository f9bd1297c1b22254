"""What amqtt gets wrong and ours must not: each test is seen to fail against plain amqtt.

Labels in brackets are the rows of docs/decisions/0001-embedded-broker.md.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from broker.access import Credentials, Identity
from broker.limits import Limits
from tests.broker_engine import raw
from tests.broker_engine.engines import Ours, Plain, connected
from tests.broker_engine.raw import PUBCOMP, PUBREL, Client


class UserNameNeeded:
    """Refuses clients without a user name, as plain amqtt does with anonymous access off."""

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Look for a user name."""
        return Identity(credentials.username) if credentials.username else None


@dataclass
class Target:
    """A running broker, and how long to wait for what it should do."""

    port: int
    seconds: float
    topic: str

    def client(self) -> Client:
        """Open a socket."""
        return Client(self.port)

    def connected(self, name: str, **options: object):  # noqa: ANN201  # as `connected` below
        """Connect a client whose id is this test's own."""
        return connected(self.port, f"{self.topic}-{name}", username="someone", **options)


@pytest.fixture(scope="module")
def ours() -> Iterator[Ours]:
    """Run ours, once for this module."""
    engine = Ours(authenticator=UserNameNeeded(), limits=Limits(connect_seconds=0.5))
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def plain() -> Iterator[Plain]:
    """Run plain amqtt, once for this module; every test has client ids and topics of its own."""
    engine = Plain()
    yield engine
    engine.stop()


@pytest.fixture(
    params=[
        "ours",
        pytest.param(
            "plain", marks=pytest.mark.xfail(strict=True, reason="the defect of plain amqtt")
        ),
    ]
)
def target(request: pytest.FixtureRequest) -> Target:
    """Give the broker under test; what takes long on plain amqtt is what will never come."""
    engine = request.getfixturevalue(request.param)
    topic = request.node.originalname.removeprefix("test_")
    return Target(engine.port, 5.0 if request.param == "ours" else 0.6, topic)


def test_burst_then_disconnect(target: Target) -> None:
    """500 messages of QoS 1 in one burst, then DISCONNECT: all are delivered [L1]."""
    with target.connected("sub") as subscriber, target.connected("pub") as publisher:
        subscriber.subscribe((target.topic, 1))
        publisher.send(
            *(
                raw.publish_packet(target.topic, b"%d" % number, 1, packet_id=number)
                for number in range(1, 501)
            ),
            b"\xe0\x00",
        )
        got = [int(message.payload) for message in subscriber.messages(500, target.seconds)]
    assert got == list(range(1, 501))


def test_unacknowledged_is_sent_again(target: Target) -> None:
    """A message of QoS 1 not acknowledged before a cut comes again, marked DUP [L2]."""
    with target.connected("sub", clean=False) as subscriber:
        subscriber.subscribe((target.topic, 1))
        with target.connected("pub") as publisher:
            publisher.publish(target.topic, b"kept", 1)
            first = subscriber.message(acknowledge=False)
    with target.client() as subscriber:
        _, present = subscriber.connect(f"{target.topic}-sub", clean=False, username="someone")
        assert present
        again = subscriber.message(target.seconds)
    assert (again.payload, again.dup, again.packet_id) == (b"kept", True, first.packet_id)


def test_release_is_sent_again(target: Target) -> None:
    """A QoS 2 delivery cut after PUBREC goes on with PUBREL and not with the message [L2]."""
    with target.connected("sub", clean=False) as subscriber:
        subscriber.subscribe((target.topic, 2))
        with target.connected("pub") as publisher:
            publisher.publish(target.topic, b"once", 2)
            first = subscriber.message(acknowledge=False)
            subscriber.send(raw.packet(0x50, struct.pack("!H", first.packet_id)))
            subscriber.expect(PUBREL)
    with target.client() as subscriber:
        subscriber.connect(f"{target.topic}-sub", clean=False, username="someone")
        assert subscriber.expect(PUBREL, target.seconds).packet_id == first.packet_id


@pytest.mark.parametrize("clean", [True, False])
def test_takeover_hears(target: Target, clean: bool) -> None:
    """A second connection of a client id gets the messages, the first one is closed [L3]."""
    name = f"sub-{clean}"
    with target.connected(name, clean=clean) as old, target.connected(name, clean=clean) as new:
        old.expect_closed(target.seconds)
        new.subscribe((target.topic, 1), seconds=target.seconds)
        with target.connected("pub") as publisher:
            publisher.publish(target.topic, b"for the new one", 1)
        assert new.message(target.seconds).payload == b"for the new one"


def test_silent_client_is_noticed(target: Target) -> None:
    """After one and a half keep-alives of silence the will is published [L4]."""
    with target.connected("watcher") as watcher:
        watcher.subscribe(target.topic)
        with target.connected("silent", keepalive=1, will=(target.topic, b"gone", 0, False)):
            assert watcher.message(target.seconds + 1.5).payload == b"gone"


def test_clean_then_kept_session(target: Target) -> None:
    """A session to be kept does not continue one that ended with its connection [L6]."""
    with target.connected("sub", clean=True) as client:
        client.subscribe((target.topic, 1))
        client.disconnect()
    with target.client() as client:
        _, present = client.connect(f"{target.topic}-sub", clean=False, username="someone")
    assert not present


def test_dollar_topic_does_not_deafen(target: Target) -> None:
    """Whoever publishes to a topic with '$' is still heard afterwards [L10]."""
    with target.connected("sub") as subscriber, target.connected("pub") as publisher:
        subscriber.subscribe(target.topic)
        publisher.publish("$something/else", b"", 1)
        publisher.publish(target.topic, b"still here", 1)
        assert subscriber.message(target.seconds).payload == b"still here"


def test_empty_topic_closes(target: Target) -> None:
    """A PUBLISH to the empty topic ends the connection [L10]."""
    with target.connected("pub") as publisher:
        publisher.send(raw.publish_packet("", b"x"))
        publisher.expect_closed(target.seconds)


def test_lost_pubcomp(target: Target) -> None:
    """A PUBREL sent again, because PUBCOMP was lost, is answered again [L11]."""
    with target.connected("pub") as publisher:
        publisher.publish(target.topic, b"x", 2)
        publisher.send(raw.packet(0x62, b"\0\x01"))
        assert publisher.expect(PUBCOMP, target.seconds).packet_id == 1


def test_stranger_cannot_wipe_a_session(target: Target) -> None:
    """Who is refused with someone's client id leaves that session and its queue alone [A1]."""
    with target.connected("owner", clean=False) as owner:
        owner.subscribe((target.topic, 1))
        owner.disconnect()
    with target.connected("pub") as publisher:
        publisher.publish(target.topic, b"waiting", 1)
        with target.client() as stranger:
            code, present = stranger.connect(f"{target.topic}-owner", clean=True)
            assert (code, present) == (5, False)
    with target.client() as owner:
        owner.connect(f"{target.topic}-owner", clean=False, username="someone")
        assert owner.message(target.seconds).payload == b"waiting"


def test_stranger_cannot_kick(target: Target) -> None:
    """Who is refused with someone's client id does not end that client's connection [A1]."""
    with target.connected("owner", clean=False) as owner:
        with target.client() as stranger:
            assert stranger.connect(f"{target.topic}-owner", clean=False) == (5, False)
        assert owner.messages_so_far() == []


def test_no_retained_of_others(target: Target) -> None:
    """A client that subscribes to nothing gets nothing, whatever others subscribe to [A5]."""
    with target.connected("other") as other, target.connected("pub") as publisher:
        other.subscribe(target.topic)
        publisher.publish(target.topic, b"secret", 1, retain=True)
        try:
            with target.connected("curious") as curious:
                assert curious.messages(1, 0.5) == []
        finally:
            # Otherwise plain amqtt would send it to every later test.
            publisher.publish(target.topic, b"", 1, retain=True)


def test_wildcard_in_publish_closes(target: Target) -> None:
    """A PUBLISH to a filter ends the connection, and its payload is not taken for packets [A8]."""
    with target.connected("sub") as subscriber, target.connected("pub") as publisher:
        subscriber.subscribe(target.topic)
        publisher.send(raw.publish_packet("a/+", raw.publish_packet(target.topic, b"smuggled")))
        assert subscriber.messages(1, 0.5) == []
        publisher.expect_closed(target.seconds)


def test_idle_socket_is_closed(target: Target) -> None:
    """A socket on which no CONNECT comes is closed at the deadline [A10]."""
    with target.client() as idle:
        idle.expect_closed(target.seconds)


def test_half_a_connect_is_closed(target: Target) -> None:
    """The deadline is for the whole CONNECT, not for its first byte [A10]."""
    with target.client() as idle:
        idle.send(raw.connect_packet("half", username="someone")[:9])
        idle.expect_closed(target.seconds)


def test_oversize_packet_is_refused_at_once(target: Target) -> None:
    """A packet announced with 256 MB ends the connection before it is sent [M3]."""
    with target.connected("big") as client:
        client.send(b"\x30\xff\xff\xff\x7f\x00\x01")
        client.expect_closed(target.seconds)


@pytest.mark.parametrize(("published", "granted", "expected"), [(0, 1, 0), (0, 2, 0), (1, 2, 1)])
def test_qos_is_not_raised(target: Target, published: int, granted: int, expected: int) -> None:
    """A message is delivered at the lower of its own and the granted QoS."""
    with target.connected("sub") as subscriber, target.connected("pub") as publisher:
        subscriber.subscribe((target.topic, granted))
        publisher.publish(target.topic, b"x", published)
        assert subscriber.message(target.seconds).qos == expected


def test_queued_messages_are_not_retained_ones(target: Target) -> None:
    """What waited for a client that was away does not carry RETAIN when it comes."""
    with target.connected("sub", clean=False) as subscriber:
        subscriber.subscribe((target.topic, 1))
        subscriber.disconnect()
    with target.connected("pub") as publisher:
        publisher.publish(target.topic, b"x", 1)
    with target.client() as subscriber:
        subscriber.connect(f"{target.topic}-sub", clean=False, username="someone")
        got = subscriber.message(target.seconds)
    assert (got.payload, got.retain) == (b"x", False)


def test_subscribing_again_changes_the_qos(target: Target) -> None:
    """A second SUBSCRIBE with the same filter replaces the first [3.8.4-3]."""
    with target.connected("sub") as subscriber, target.connected("pub") as publisher:
        subscriber.subscribe((target.topic, 2))
        subscriber.subscribe((target.topic, 0))
        publisher.publish(target.topic, b"x", 2)
        assert subscriber.message(target.seconds).qos == 0


def test_takeover_publishes_the_old_will(target: Target) -> None:
    """The will published at a takeover is the one of the connection that ends."""
    with target.connected("watcher") as watcher:
        watcher.subscribe(target.topic)
        with (
            target.connected("twice", clean=False, will=(target.topic, b"old", 0, False)),
            target.connected("twice", clean=False, will=(target.topic, b"new", 0, False)) as new,
        ):
            assert watcher.message(target.seconds).payload == b"old"
            new.disconnect()


MALFORMED = {
    "subscribe to nothing": raw.packet(0x82, b"\0\x01"),
    "subscribe at QoS 3": raw.subscribe_packet(("a", 3)),
    "subscribe with packet id 0": raw.subscribe_packet(("a", 0), packet_id=0),
    "subscribe with wrong flags": b"\x80" + raw.subscribe_packet(("a", 0))[1:],
    "unsubscribe from nothing": raw.packet(0xA2, b"\0\x01"),
    "publish at QoS 3": b"\x36" + raw.publish_packet("a", b"x", 2)[1:],
    "publish with a topic that is not UTF-8": raw.publish_packet(b"a\xff", b"x"),
    "publish with packet id 0": raw.publish_packet("a", b"x", 1, packet_id=0),
    "first packet of a server": b"\xd0\x00",
    "length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "pubrel with wrong flags": b"\x60\x02\x00\x01",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_packets_close(target: Target, data: bytes) -> None:
    """What is no MQTT 3.1.1 ends the connection, and that connection alone [4.8.0-1]."""
    with target.connected("good") as good, target.connected("bad") as bad:
        bad.send(data)
        bad.expect_closed(target.seconds)
        assert good.is_served()


@pytest.mark.parametrize(("qos", "first"), [(1, 0x50), (1, 0x70), (2, 0x40), (2, 0x70)])
def test_acknowledgement_kinds_do_not_mix(target: Target, qos: int, first: int) -> None:
    """PUBREC or PUBCOMP at QoS 1, PUBACK or an early PUBCOMP at QoS 2 end the connection."""
    with target.connected("sub") as subscriber, target.connected("pub") as publisher:
        subscriber.subscribe((target.topic, qos))
        publisher.publish(target.topic, b"x", qos)
        got = subscriber.message(acknowledge=False)
        subscriber.send(raw.packet(first, struct.pack("!H", got.packet_id)))
        subscriber.expect_closed(target.seconds)
