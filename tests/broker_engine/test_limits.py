"""What is over a limit is disconnected or refused with a reason; the others do not feel it."""

import asyncio
import resource
import time
from pathlib import Path

import pytest

from broker.errors import LimitsError
from broker.limits import MIB, Limits
from tests.broker_engine import raw
from tests.broker_engine.engines import Ours, Start, connected
from tests.broker_engine.raw import Client, ClosedError
from tests.helpers.waiting import wait_until


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize("qos", [0, 1])
def test_slow_reader_is_bounded(start: Start, caplog: pytest.LogCaptureFixture, qos: int) -> None:
    """A subscriber that never reads is cut off at its limit; another gets all that it missed."""
    engine = start(limits=Limits(outgoing_bytes=2 * MIB, packet_bytes=MIB, retained_bytes=MIB))
    payload = bytes(64 * 1024)
    count = 600  # 38 MiB
    with (
        Client(engine.port, receive_buffer_bytes=8192) as stuck,
        connected(engine.port, "healthy") as healthy,
        connected(engine.port, "pub") as publisher,
    ):
        stuck.connect("stuck")
        stuck.subscribe(("a", qos))
        healthy.subscribe(("a", qos))
        before = _resident_bytes()
        for number in range(count):
            publisher.publish("a", b"%06d" % number + payload, 1)
            got = healthy.message()
            assert int(got.payload[:6]) == number
        grown = _resident_bytes() - before
        assert grown < 16 * MIB
        assert publisher.is_served()
        # The stuck one finds what fitted into the socket, and the end.
        stuck.expect_closed(20)
    assert "client 'stuck'" in caplog.text
    assert "reads or acknowledges too slowly" in caplog.text


def test_who_never_acknowledges_is_cut_off(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A subscriber that reads but never acknowledges is cut off when its queue is full."""
    engine = start(limits=Limits(outgoing_bytes=100_000, packet_bytes=50_000, retained_bytes=0))
    with connected(engine.port, "mute") as mute, connected(engine.port) as publisher:
        mute.subscribe(("a", 1))
        for _ in range(11):
            publisher.publish("a", bytes(10_000), 1)
        mute.expect_closed()
    assert "bytes are not acknowledged" in caplog.text


def test_many_filters_times_many_retained(start: Start) -> None:
    """One SUBSCRIBE cannot make the broker hold the retained messages once for each filter."""
    engine = start(limits=Limits(outgoing_bytes=2 * MIB, packet_bytes=MIB, retained_bytes=MIB))
    with connected(engine.port) as publisher, connected(engine.port) as greedy:
        for number in range(10):
            publisher.publish(f"a/{number}", bytes(90_000), 1, retain=True)
        filters = [("a/" + "+/" * n + "#", 0) for n in range(2)] + [("#", 0), ("+/#", 0)]
        greedy.send(raw.subscribe_packet(*filters))
        greedy.expect_closed()
        assert publisher.is_served()
        with connected(engine.port) as modest:
            modest.subscribe("#")
            assert len(modest.messages_so_far()) == 10


@pytest.mark.parametrize("size", [1000, 1001])
def test_packet_size(start: Start, size: int, caplog: pytest.LogCaptureFixture) -> None:
    """A packet of exactly the limit passes, one byte more ends the connection before its body."""
    engine = start(limits=Limits(packet_bytes=1000))
    data = raw.publish_packet("a", bytes(size - 6))
    assert len(data) == size
    with connected(engine.port) as client:
        client.subscribe("a")
        if size == 1000:
            client.send(data)
            assert len(client.message().payload) == 994
        else:
            client.send(data[:5])
            client.expect_closed()
            assert "1001 bytes are announced, 1000 allowed" in caplog.text


def test_connections_are_limited(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """One connection too many is closed at once; when one leaves, another gets in."""
    engine = start(limits=Limits(connections=3))
    clients = [Client(engine.port) for _ in range(3)]
    for number, client in enumerate(clients):
        client.connect(f"c{number}")
    with Client(engine.port) as refused:
        refused.expect_closed()
    assert "which is the limit" in caplog.text
    clients.pop().cut()
    wait_until(lambda: engine.status().connections == 2, what="one to be gone")
    with connected(engine.port) as late:
        assert late.is_served()
    assert all(client.is_served() for client in clients)
    for client in clients:
        client.close()


def test_connections_that_break_early_free_their_place(start: Start) -> None:
    """Resets before, during and after CONNECT leave no trace [A10]."""
    engine = start(limits=Limits(connections=5))
    for number in range(60):
        client = Client(engine.port)
        if number % 3 == 1:
            client.send(raw.connect_packet("x")[:7])
        elif number % 3 == 2:
            client.send(raw.connect_packet("x", level=3))
        client.cut()

    def all_places_are_free() -> bool:
        clients = [Client(engine.port) for _ in range(5)]
        try:
            return all(client.connect()[0] == 0 for client in clients)
        except (ClosedError, OSError):  # the broker has not seen all of the resets yet
            return False
        finally:
            for client in clients:
                client.close()

    wait_until(all_places_are_free, what="five places")


def test_idle_sockets_do_not_keep_others_out(start: Start) -> None:
    """Sockets without CONNECT are closed at the deadline and counted out [A10]."""
    engine = start(limits=Limits(connect_seconds=0.2))
    idle = [Client(engine.port) for _ in range(20)]
    with connected(engine.port) as client:
        for one in idle:
            assert one.expect_closed() == []
            one.close()
        wait_until(lambda: engine.status().connections == 1, what="the idle ones to be gone")
        assert client.is_served()


def test_filters_are_limited(start: Start) -> None:
    """A filter too many gets 0x80, one that is there already can be changed."""
    engine = start(limits=Limits(filters_per_client=2))
    with connected(engine.port) as client:
        assert client.subscribe("a", "b") == [0, 0]
        assert client.subscribe("c", ("a", 1)) == [0x80, 1]


def test_filters_are_limited_in_bytes(start: Start) -> None:
    """Few very long filters are too many as well; what ends makes room."""
    engine = start(limits=Limits(filters_bytes_per_client=1000))
    with connected(engine.port) as client:
        assert client.subscribe("a" * 600, "b" * 600) == [0, 0x80]
        client.unsubscribe("a" * 600)
        assert client.subscribe("b" * 600) == [0]


@pytest.mark.parametrize("first", [0x82, 0xA2])
def test_filters_of_one_packet_are_limited(start: Start, first: int) -> None:
    """A packet of a quarter of a million filters is not worked through: it ends the connection."""
    engine = start(limits=Limits(filters_per_client=100))
    one = raw.text("a") + (b"\0" if first == 0x82 else b"")
    for count, fine in ((100, True), (101, False), (200_000, False)):
        with connected(engine.port) as client:
            client.send(raw.packet(first, b"\0\1" + one * count))
            if fine:
                assert len(client.read().body) == (102 if first == 0x82 else 2)
            else:
                client.expect_closed()


@pytest.mark.parametrize("levels", [4, 5])
def test_topic_levels(start: Start, levels: int) -> None:
    """Topics and filters may have so many levels and no more."""
    engine = start(limits=Limits(topic_levels=4))
    topic = "/".join("a" * levels)
    for data in (raw.publish_packet(topic, b"x"), raw.subscribe_packet((topic, 0))):
        with connected(engine.port) as client:
            client.send(data)
            assert client.is_served() == (levels == 4)


def test_as_many_topic_levels_as_elsewhere(engine: Ours) -> None:
    """By default 200 slashes are allowed in a topic, as with mosquitto, and not one more."""
    with connected(engine.port) as client:
        assert client.subscribe("/" * 200) == [0]
        client.publish("/" * 200, b"x")
        assert client.message().topic == "/" * 200
        client.send(raw.publish_packet("/" * 201, b"x"))
        assert client.expect_closed() == []


def test_three_hundred_at_once(engine: Ours) -> None:
    """300 clients that connect at the same moment are all let in, and served."""

    async def one(number: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
        topic = f"to/{number}"
        writer.write(
            raw.connect_packet(f"c{number}")
            + raw.subscribe_packet((topic, 0))
            + raw.publish_packet(topic, b"%04d" % number)
        )
        expected = 4 + 5 + 2 + 2 + len(topic) + 4
        data = await reader.readexactly(expected)
        writer.close()
        await writer.wait_closed()
        return data[-4:]

    async def all_of_them() -> list[bytes]:
        return await asyncio.gather(*(one(number) for number in range(300)))

    assert asyncio.run(all_of_them()) == [b"%04d" % n for n in range(300)]


def test_a_flood_leaves_the_others_their_turn(engine: Ours) -> None:
    """While one client floods a crowd of subscribers, another is still answered soon."""
    crowd = [Client(engine.port) for _ in range(100)]
    with connected(engine.port) as flooder, connected(engine.port) as other:
        for number, client in enumerate(crowd):
            client.connect(f"c{number}")
            client.subscribe("a")
        # 3,000 messages to 100 clients: some seconds of work for the broker.
        flooder.send(*([raw.publish_packet("a", b"")] * 3000))
        began = time.monotonic()
        assert other.is_served()
        answered = time.monotonic() - began
        flooder.send(b"\xc0\x00")
        flooder.expect(raw.PINGRESP, 30)
        assert answered < (time.monotonic() - began) / 2
        for client in crowd:
            client.close()


@pytest.mark.parametrize(
    "values",
    [
        {"retained_bytes": 2, "outgoing_bytes": 1},
        {"packet_bytes": 20 * MIB},
        {"inflight_messages": 0},
        {"inflight_messages": 65_535},
    ],
)
def test_contradictions_are_refused(values: dict[str, int]) -> None:
    """Limits that cannot all hold are an error when they are made, not in the night."""
    with pytest.raises(LimitsError):
        Limits(**values)
