"""Sessions over connections: CONNECT, takeover, keeping, expiry, wills, keep-alive."""

import time

import pytest

from broker.limits import Limits
from tests.broker_engine import raw
from tests.broker_engine.engines import Ours, Start, connected
from tests.broker_engine.raw import Client
from tests.helpers.waiting import wait_until


def test_mqtt_5_and_3_1_are_told_no(engine: Ours) -> None:
    """A CONNECT of another version of MQTT gets CONNACK 1 and is closed [3.1.2-2]."""
    five = raw.packet(0x10, raw.text("MQTT") + b"\x05\x02\0\0\0" + raw.text("five"))
    for data in (five, raw.connect_packet("old", protocol=b"MQIsdp", level=3)):
        with Client(engine.port) as client:
            client.send(data)
            assert [p.body for p in client.expect_closed()] == [b"\0\x01"]


BAD_CONNECTS = {
    "reserved flag": raw.connect_packet("x", flags=0x03),
    "will QoS 3": raw.connect_packet("x", will=("a", b"", 3, False)),
    "will QoS without will": raw.connect_packet("x", flags=0x0A),
    "will retain without will": raw.connect_packet("x", flags=0x22),
    "password without user name": raw.connect_packet("x", password=b"secret"),
    "another protocol": raw.connect_packet("x", protocol=b"HTTP"),
    "will topic with wildcard": raw.connect_packet("x", will=("a/+", b"", 0, False)),
    "empty will topic": raw.connect_packet("x", will=("", b"", 0, False)),
    "client id that is not UTF-8": raw.packet(0x10, raw.text("MQTT") + b"\x04\x02\0\0\0\x01\xff"),
    "cut short": raw.packet(0x10, raw.text("MQTT") + b"\x04\x02\0"),
    "bytes behind the end": raw.packet(0x10, raw.connect_packet("x")[2:] + b"\0"),
    "not a CONNECT": b"\xc0\x00",
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303"),
    "announced too large": b"\x10\xff\xff\x7f" + b"\0\x04MQTT",
}


@pytest.mark.parametrize("data", BAD_CONNECTS.values(), ids=BAD_CONNECTS)
def test_bad_connects_are_closed_without_a_word(engine: Ours, data: bytes) -> None:
    """What is no valid CONNECT gets no CONNACK [3.1.4-1]."""
    with Client(engine.port) as client:
        client.send(data)
        assert client.expect_closed() == []


def test_second_connect_closes(engine: Ours) -> None:
    """A second CONNECT on a connection breaks the protocol [3.1.0-2]."""
    with connected(engine.port, "x") as client:
        client.send(raw.connect_packet("x"))
        client.expect_closed()


def test_client_id_may_be_left_to_the_broker(engine: Ours) -> None:
    """Without a client id a clean session gets one of its own, a session to keep is refused."""
    with connected(engine.port) as one, connected(engine.port) as other:
        assert one.is_served()
        assert other.is_served()
    with Client(engine.port) as client:
        assert client.connect("", clean=False) == (2, False)
        client.expect_closed()


def test_client_id_too_long(engine: Ours) -> None:
    """A client id beyond the limit is refused with CONNACK 2."""
    with Client(engine.port) as client:
        assert client.connect("x" * 257) == (2, False)


def test_session_is_kept(engine: Ours) -> None:
    """Subscriptions and messages of QoS 1 and 2 wait for a client that is away, in order."""
    with connected(engine.port, "away", clean=False) as client:
        client.subscribe(("a", 2))
    with connected(engine.port) as publisher:
        for number in range(300):
            publisher.publish("a", b"%d" % number, number % 3)
    with Client(engine.port) as client:
        assert client.connect("away", clean=False) == (0, True)
        got = client.messages(200)
        assert [int(m.payload) for m in got] == [n for n in range(300) if n % 3]
        assert client.messages_so_far() == []
    with Client(engine.port) as client:
        assert client.connect("away", clean=True) == (0, False)
    with Client(engine.port) as client:
        assert client.connect("away", clean=False) == (0, False)
        client.publish("a", b"x")
        assert client.messages_so_far() == []


def test_clean_session_leaves_nothing(engine: Ours) -> None:
    """When a clean session's connection is over, nothing of it is left."""
    with connected(engine.port, "x") as client:
        client.subscribe("a", "b/#")
    wait_until(lambda: engine.status().connections == 0, what="the connection to be gone")
    status = engine.status()
    assert (status.sessions, status.subscriptions) == (0, 0)


def test_in_flight_comes_first_after_a_cut(start: Start) -> None:
    """After a cut the unacknowledged come again in order, marked DUP, then the queued."""
    engine = start(limits=Limits(inflight_messages=2))
    with connected(engine.port, "sub", clean=False) as client, connected(engine.port) as publisher:
        client.subscribe(("a", 1))
        for number in range(5):
            publisher.publish("a", b"%d" % number, 1)
        client.messages_so_far()
        client.cut()
    with connected(engine.port, "sub", clean=False) as client:
        got = client.messages(5)
    assert [m.payload for m in got] == [b"0", b"1", b"2", b"3", b"4"]
    assert [m.dup for m in got] == [True, True, False, False, False]


def test_takeover_keeps_the_session(engine: Ours) -> None:
    """A session to be kept goes on over a takeover, also with messages in flight."""
    with connected(engine.port, "sub", clean=False) as old, connected(engine.port) as publisher:
        old.subscribe(("a", 1))
        publisher.publish("a", b"1", 1)
        old.message(acknowledge=False)
        with Client(engine.port) as new:
            assert new.connect("sub", clean=False) == (0, True)
            old.expect_closed()
            publisher.publish("a", b"2", 1)
            got = new.messages(2)
    assert [(m.payload, m.dup) for m in got] == [(b"1", True), (b"2", False)]


def test_takeover_storm(engine: Ours) -> None:
    """A hundred takeovers in a row leave one session, one connection, and it hears."""
    clients = []
    for _ in range(100):
        clients.append(Client(engine.port))
        clients[-1].connect("same", clean=False)
    clients[-1].subscribe("a")
    clients[-1].publish("a", b"x")
    assert len(clients[-1].messages_so_far()) == 1
    wait_until(lambda: engine.status().connections == 1, what="the old ones to be gone")
    assert engine.status().sessions == 1
    for client in clients:
        client.close()


def test_another_user_does_not_get_the_session(engine: Ours) -> None:
    """Whoever comes with a client id as another user finds a new session, not the old queue."""
    with connected(engine.port, "x", clean=False, username="ann") as client:
        client.subscribe(("a", 1))
    with connected(engine.port) as publisher:
        publisher.publish("a", b"for ann", 1)
    with Client(engine.port) as client:
        assert client.connect("x", clean=False, username="bob") == (0, False)
        assert client.messages_so_far() == []


def test_kept_sessions_are_limited(start: Start) -> None:
    """One session too many to keep is refused with CONNACK 3; clean ones still get in."""
    engine = start(limits=Limits(kept_sessions=2))
    for name in ("a", "b", "a"):
        with connected(engine.port, name, clean=False):
            pass
    with Client(engine.port) as client:
        assert client.connect("c", clean=False) == (3, False)
    with connected(engine.port, "c"):
        pass
    with connected(engine.port, "a"):  # clean: ends the session that was kept
        pass
    with connected(engine.port, "c", clean=False):
        pass


def test_queue_of_an_absent_client_is_bounded(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for a client that is away stays within its bytes; the oldest are kept."""
    engine = start(limits=Limits(outgoing_bytes=100_000, packet_bytes=50_000, retained_bytes=0))
    with connected(engine.port, "away", clean=False) as client:
        client.subscribe(("a", 1))
    with connected(engine.port) as publisher:
        for number in range(30):
            publisher.publish("a", b"%06d" % number + b"x" * 9_994, 1)
    assert engine.status().waiting_bytes <= 100_000
    with connected(engine.port, "away", clean=False) as client:
        got = [int(m.payload[:6]) for m in client.messages(9)]
        assert got == list(range(9))
        assert client.messages_so_far() == []
    assert "newer messages are dropped" in caplog.text
    assert "21 messages for client 'away' were dropped" in caplog.text


def test_sessions_expire(start: Start) -> None:
    """A session whose client is away for too long is forgotten; a present one never is."""
    engine = start(limits=Limits(kept_session_seconds=100))
    with connected(engine.port, "gone", clean=False) as client:
        client.subscribe("a")
    with connected(engine.port, "here", clean=False):
        wait_until(lambda: engine.status().connections == 1, what="the first to be gone")
        router = engine.server._engine.router
        now = engine.call(engine._loop.time)
        assert engine.call(lambda: router.expire(now + 99)) == 0
        assert engine.call(lambda: router.expire(now + 101)) == 1
        assert list(router.sessions) == ["here"]
        assert engine.status().subscriptions == 0


class TestWills:
    """The will is published when a connection ends without DISCONNECT, once."""

    WILL = ("will/x", b"gone", 1, False)

    def test_not_after_disconnect(self, engine: Ours) -> None:
        """DISCONNECT deletes the will [3.1.2-10]."""
        with connected(engine.port) as watcher:
            watcher.subscribe("will/#")
            with connected(engine.port, "x", will=self.WILL) as client:
                client.disconnect()
            wait_until(lambda: engine.status().connections == 1, what="x to be gone")
            assert watcher.messages_so_far() == []

    @pytest.mark.parametrize("ending", ["close", "cut", "garbage"])
    def test_after_any_other_end(self, engine: Ours, ending: str) -> None:
        """A closed socket, a reset and a broken protocol all publish it [3.1.2-8]."""
        with connected(engine.port) as watcher:
            watcher.subscribe(("will/#", 2))
            with connected(engine.port, "x", will=self.WILL) as client:
                if ending == "garbage":
                    client.send(b"\0\0")
                    client.expect_closed()
                else:
                    getattr(client, ending)()
            got = watcher.message()
            assert (got.payload, got.qos, got.retain) == (b"gone", 1, False)
            assert watcher.messages_so_far() == []

    def test_retained(self, engine: Ours) -> None:
        """A retained will is there for who subscribes later, until an empty one clears it."""
        with connected(engine.port, "x", will=("will/x", b"gone", 1, True)):
            pass
        wait_until(lambda: engine.status().retained == 1, what="the will")
        with connected(engine.port) as watcher:
            watcher.subscribe(("will/#", 1))
            got = watcher.message()
            assert (got.payload, got.qos, got.retain) == (b"gone", 1, True)
        with connected(engine.port, "x", will=("will/x", b"", 1, True)):
            pass
        wait_until(lambda: engine.status().retained == 0, what="the empty will")

    def test_belongs_to_the_connection(self, engine: Ours) -> None:
        """A kept session that comes back without a will has none."""
        with connected(engine.port) as watcher:
            watcher.subscribe("will/#")
            with connected(engine.port, "x", clean=False, will=self.WILL) as client:
                client.disconnect()
            with connected(engine.port, "x", clean=False):
                pass
            wait_until(lambda: engine.status().connections == 1, what="x to be gone")
            assert watcher.messages_so_far() == []


def test_keepalive_is_one_and_a_half(engine: Ours) -> None:
    """A silent client is closed after 1.5 keep-alives, one that pings in time is not."""
    with connected(engine.port, keepalive=1) as silent, connected(engine.port, keepalive=1) as ping:
        began = time.monotonic()
        while True:
            assert ping.messages_so_far() == []
            try:
                silent.read(0.2)
            except raw.ClosedError:
                break
            except TimeoutError:
                assert time.monotonic() - began < 10
        assert time.monotonic() - began > 1.3
        assert ping.is_served()


def test_no_keepalive_means_never(engine: Ours) -> None:
    """Keep-alive 0 asks for no check, and none is set up [3.1.2.10]."""
    with connected(engine.port, keepalive=0) as client:
        (connection,) = engine.server._engine._connections
        assert connection._timer.cancelled()
        assert client.is_served()


class TestRetained:
    """The last message of a topic, for who subscribes later."""

    def test_last_one_counts(self, engine: Ours) -> None:
        """Only the last retained message of each topic is sent, marked RETAIN."""
        with connected(engine.port) as client:
            for payload in (b"1", b"2"):
                client.publish("a/b", payload, 1, retain=True)
                client.publish("a/c", payload, 1, retain=True)
            client.publish("a/c", b"3", 1)
            client.subscribe(("a/+", 0))
            got = client.messages_so_far()
        assert {(m.topic, m.payload, m.retain) for m in got} == {
            ("a/b", b"2", True),
            ("a/c", b"2", True),
        }

    def test_forwarded_without_the_flag(self, engine: Ours) -> None:
        """To those who subscribed before it is a message like any other [3.3.1-9]."""
        with connected(engine.port) as client:
            client.subscribe("a")
            client.publish("a", b"x", retain=True)
            assert [m.retain for m in client.messages_so_far()] == [False]

    def test_empty_clears(self, engine: Ours) -> None:
        """An empty payload is delivered, clears the topic and is not retained [3.3.1-10, -11]."""
        with connected(engine.port) as client:
            client.publish("a", b"x", 1, retain=True)
            client.subscribe("a")
            client.messages_so_far()
            client.publish("a", b"", retain=True)
            assert [m.payload for m in client.messages_so_far()] == [b""]
            client.subscribe("a")
            assert client.messages_so_far() == []
        assert engine.status().retained == 0

    def test_again_for_each_subscribe(self, engine: Ours) -> None:
        """Subscribing again sends them again; coming back to a kept session does not [3.8.4-3]."""
        with connected(engine.port, "x", clean=False) as client:
            client.publish("a", b"x", 1, retain=True)
            for _ in range(2):
                client.subscribe("a")
                assert len(client.messages_so_far()) == 1
        with connected(engine.port, "x", clean=False) as client:
            assert client.messages_so_far() == []

    def test_bounded(self, start: Start, caplog: pytest.LogCaptureFixture) -> None:
        """What does not fit is delivered, not retained, and said in the log."""
        engine = start(limits=Limits(retained_messages=3))
        with connected(engine.port) as client:
            client.subscribe("a/#")
            for number in range(5):
                client.publish(f"a/{number}", b"x", retain=True)
            assert len(client.messages_so_far()) == 5
        assert engine.status().retained == 3
        assert "no room to retain" in caplog.text
