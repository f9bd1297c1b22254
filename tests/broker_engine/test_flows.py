"""What a message goes through, from PUBLISH to the last acknowledgement."""

import struct

import paho.mqtt.client as paho
import pytest

from broker.limits import Limits
from tests.broker_engine import raw
from tests.broker_engine.engines import Ours, Start, connected
from tests.broker_engine.raw import PUBACK, PUBREC, Client
from tests.helpers.waiting import wait_until


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_each_qos_to_each_qos(engine: Ours, published: int, granted: int) -> None:
    """Every pair of QoS delivers once, at the lower of both, and nothing is left over."""
    with connected(engine.port) as subscriber, connected(engine.port) as publisher:
        assert subscriber.subscribe(("a/b", granted)) == [granted]
        publisher.publish("a/b", b"hello", published)
        got = subscriber.message()
        assert (got.topic, got.payload, got.qos) == ("a/b", b"hello", min(published, granted))
        assert (got.retain, got.dup) == (False, False)
        assert subscriber.messages_so_far() == []
        assert engine.status().waiting_messages == 0


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_order_per_publisher(engine: Ours, qos: int) -> None:
    """A publisher's messages arrive in its order, beyond the in-flight window too."""
    with connected(engine.port) as subscriber, connected(engine.port) as publisher:
        subscriber.subscribe(("a/#", qos))
        publisher.send(
            *(raw.publish_packet(f"a/{n % 3}", b"%d" % n, qos, packet_id=n) for n in range(1, 401))
        )
        got = [int(message.payload) for message in subscriber.messages(400)]
    assert got == list(range(1, 401))


def test_puback_comes_after_routing(engine: Ours) -> None:
    """When PUBACK is there the message is on its way to every subscriber already."""
    with connected(engine.port) as publisher:
        for number in range(20):
            with connected(engine.port) as subscriber:
                subscriber.subscribe("a")
                publisher.publish("a", b"%d" % number, 1)
                assert [m.payload for m in subscriber.messages_so_far()] == [b"%d" % number]


def test_qos2_sent_again_takes_effect_once(engine: Ours) -> None:
    """A QoS 2 PUBLISH repeated before PUBREL, on another connection even, is delivered once."""
    with connected(engine.port) as subscriber:
        subscriber.subscribe(("a", 2))
        with connected(engine.port, "pub", clean=False) as publisher:
            publisher.send(raw.publish_packet("a", b"x", 2, packet_id=7))
            publisher.expect(PUBREC)
            publisher.send(raw.publish_packet("a", b"x", 2, packet_id=7, dup=True))
            publisher.expect(PUBREC)
        with connected(engine.port, "pub", clean=False) as publisher:
            publisher.send(raw.publish_packet("a", b"x", 2, packet_id=7, dup=True))
            publisher.expect(PUBREC)
            publisher.send(raw.packet(0x62, b"\0\x07"))
            publisher.expect(raw.PUBCOMP)
            # The identifier is free again: this one is a new message.
            publisher.send(raw.publish_packet("a", b"y", 2, packet_id=7))
            publisher.expect(PUBREC)
        assert [m.payload for m in subscriber.messages(2)] == [b"x", b"y"]
        assert subscriber.messages_so_far() == []


def test_publisher_hears_itself(engine: Ours) -> None:
    """A client that subscribes to what it publishes gets it."""
    with connected(engine.port) as client:
        client.subscribe("a")
        client.publish("a", b"echo")
        assert [m.payload for m in client.messages_so_far()] == [b"echo"]


def test_publisher_reads_pubrec_before_its_own_copy(engine: Ours) -> None:
    """Who publishes at QoS 2 to itself is answered first, in order, and then gets its copies."""
    with connected(engine.port) as client:
        client.subscribe(("a", 2))
        client.send(*(raw.publish_packet("a", b"%d" % n, 2, packet_id=n) for n in (7, 8)))
        said = [client.read() for _ in range(4)]
        assert [got.packet_id for got in said if got.kind == PUBREC] == [7, 8]
        assert [got.kind for got in said] == [PUBREC, raw.PUBLISH] * 2


def test_overlapping_subscriptions_give_one_copy(engine: Ours) -> None:
    """Several matching filters of a client give one copy, at the highest QoS [3.3.5-1]."""
    with connected(engine.port) as client, connected(engine.port) as publisher:
        client.subscribe(("a/b", 0), ("a/+", 2), ("#", 1))
        publisher.publish("a/b", b"x", 2)
        assert client.message().qos == 2
        assert client.messages_so_far() == []


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("#", "a/b", True),
        ("#", "/", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "ab", False),
        ("+", "a", True),
        ("+", "/a", False),
        ("+/+", "/a", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("a/+/c", "a/b/c", True),
        ("A", "a", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", False),  # nobody may publish there
        ("#", "$other/x", False),
        ("+/x", "$other/x", False),
        ("$other/+", "$other/x", True),
        ("$other/x", "$other/x", True),
        ("中/+", "中/文", True),
    ],
)
def test_wildcards(engine: Ours, topic_filter: str, topic: str, matches: bool) -> None:
    """Filters match as section 4.7 of the standard says, live and for retained messages alike."""
    with connected(engine.port) as client:
        client.subscribe(topic_filter)
        client.publish(topic, b"live")
        assert len(client.messages_so_far()) == matches
        client.publish(topic, b"kept", retain=True)
        client.messages_so_far()
    with connected(engine.port) as client:
        client.subscribe(topic_filter)
        assert [m.payload for m in client.messages_so_far()] == [b"kept"] * matches


@pytest.mark.parametrize("topic_filter", ["a#", "#/a", "a/#/b", "a+", "+a/b", "", "a\0b", "##"])
def test_invalid_filters_close(engine: Ours, topic_filter: str) -> None:
    """A filter that is none breaks the protocol [4.7.1-2, 4.7.1-3, 4.7.3-1]."""
    with connected(engine.port) as client:
        client.send(raw.subscribe_packet((topic_filter, 0)))
        client.expect_closed()


@pytest.mark.parametrize("filters", [[""], ["", "b"], ["b", ""], ["a/#/b"], ["a+"]])
def test_unsubscribing_from_what_is_no_filter_closes(engine: Ours, filters: list[str]) -> None:
    """An UNSUBSCRIBE that names an impossible filter is answered by closing [4.7.1, 4.7.3-1]."""
    with connected(engine.port) as client:
        client.subscribe("b")
        body = struct.pack("!H", 9) + b"".join(map(raw.text, filters))
        client.send(raw.packet(0xA2, body))
        assert client.expect_closed() == []


def test_unsubscribe(engine: Ours) -> None:
    """After UNSUBACK nothing more comes, and nothing of the filter is left in the broker."""
    with connected(engine.port) as client:
        for number in range(50):
            client.subscribe(f"a/{number}/+", f"a/{number}")
            client.unsubscribe(f"a/{number}/+", f"a/{number}", "never/there")
        client.publish("a/1", b"x")
        client.publish("a/1/2", b"x")
        assert client.messages_so_far() == []
        assert engine.status().subscriptions == 0
        tree = engine.server._engine.router.subscriptions
        assert not tree._exact
        assert not tree._root.children


def test_large_message(engine: Ours) -> None:
    """A message of almost the packet limit arrives whole."""
    payload = bytes(range(256)) * 4095
    with connected(engine.port) as client:
        client.subscribe(("a", 1))
        client.send(raw.publish_packet("a", payload, 1))
        assert {client.read().kind, client.read().kind} == {PUBACK, raw.PUBLISH}
        client.send(raw.publish_packet("a", payload, 0))
        assert client.message().payload == payload


def test_byte_by_byte(engine: Ours) -> None:
    """Packets may come in any pieces."""
    with Client(engine.port) as client:
        data = (
            raw.connect_packet("slow")
            + raw.subscribe_packet(("a", 0))
            + raw.publish_packet("a", b"x" * 200)
        )
        for byte in data:
            client.send(bytes([byte]))
        client.expect(raw.CONNACK)
        client.expect(raw.SUBACK)
        assert client.message().payload == b"x" * 200


def test_all_at_once(engine: Ours) -> None:
    """A client may send everything in one piece, without waiting for CONNACK."""
    with connected(engine.port) as subscriber:
        subscriber.subscribe("a")
        with Client(engine.port) as client:
            client.send(raw.connect_packet("hasty"), raw.publish_packet("a", b"x"), b"\xe0\x00")
            client.expect_closed()
        assert subscriber.message().payload == b"x"


def test_what_was_received_survives_a_crash_of_the_publisher(engine: Ours) -> None:
    """A burst is routed to its end although its sender breaks the connection meanwhile."""
    with connected(engine.port) as subscriber, connected(engine.port) as publisher:
        # Many deliveries a message, so that the burst takes the broker several turns.
        subscriber.subscribe(("a", 0))
        crowd = [Client(engine.port) for _ in range(50)]
        for number, client in enumerate(crowd):
            client.connect(f"crowd-{number}")
            client.subscribe("a")
        publisher.send(*(raw.publish_packet("a", b"%d" % n) for n in range(200)))
        publisher.close()
        got = [int(message.payload) for message in subscriber.messages(200)]
        for client in crowd:
            client.close()
    assert got == list(range(200))


def test_subscribers_come_and_go_during_a_storm(engine: Ours) -> None:
    """Subscribing and unsubscribing during a fan-out costs the others no message."""
    with connected(engine.port) as steady, connected(engine.port) as publisher:
        steady.subscribe(("a/b", 0))
        with connected(engine.port) as restless:
            for number in range(100):
                publisher.send(raw.publish_packet("a/b", b"%d" % number))
                restless.send(
                    raw.subscribe_packet((f"a/+/{number}", 0), ("a/+", 0), packet_id=1 + number)
                )
                if number % 3 == 0:
                    body = struct.pack("!H", 1 + number) + raw.text("a/+")
                    restless.send(raw.packet(0xA2, body))
        got = [int(message.payload) for message in steady.messages(100)]
    assert got == list(range(100))


def test_window_and_queue(start: Start) -> None:
    """No more than the window is sent unacknowledged; each acknowledgement lets one follow."""
    engine = start(limits=Limits(inflight_messages=3))
    with connected(engine.port) as subscriber, connected(engine.port) as publisher:
        subscriber.subscribe(("a", 1))
        for number in range(10):
            publisher.publish("a", b"%d" % number, 1)
        first = subscriber.messages_so_far()
        assert [m.payload for m in first] == [b"0", b"1", b"2"]
        subscriber.acknowledge(first[:2])
        assert [m.payload for m in subscriber.messages_so_far()] == [b"3", b"4"]
        assert engine.status().waiting_messages == 8


def test_paho_there_and_back(engine: Ours) -> None:
    """The client library of storebus exchanges messages of every QoS."""
    received: list[tuple[bytes, int]] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="paho")
    client.on_message = lambda _client, _data, message: received.append(
        (message.payload, message.qos)
    )
    subscribed: list[int] = []
    client.on_subscribe = lambda *_: subscribed.append(1)
    client.connect("127.0.0.1", engine.port)
    client.loop_start()
    try:
        client.subscribe("a/#", 2)
        wait_until(lambda: subscribed, what="SUBACK")
        for qos in (0, 1, 2):
            client.publish("a/b", b"%d" % qos, qos).wait_for_publish(5)
        wait_until(lambda: len(received) == 3, what="three messages")
    finally:
        client.disconnect()
        client.loop_stop()
    assert sorted(received) == [(b"0", 0), (b"1", 1), (b"2", 2)]
