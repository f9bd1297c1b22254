"""Too much of anything: from one client, from strangers, and of what waits for all together."""

import base64
import contextlib
import resource
import threading
import time
from pathlib import Path

import pytest

from broker.access import Credentials, Identity, Kind
from broker.limits import MIB, Limits, Rate
from tests.broker_engine import raw
from tests.broker_engine.engines import Ours, Start, connected
from tests.broker_engine.raw import PINGRESP, Client, ClosedError
from tests.helpers.waiting import wait_until

SLOW = Rate(packets_per_second=1000, bytes_per_second=1e9, burst_seconds=0.2)


class ByName:
    """Lets everybody in; who is called `device` is one."""

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Believe."""
        name = credentials.client_id
        return Identity(name, Kind.DEVICE if name.startswith("device") else Kind.HUB)


def test_who_sends_too_much_has_to_wait(start: Start) -> None:
    """Nothing is lost and nobody is cut off: it only takes as long as the rate allows."""
    engine = start(limits=Limits(device_rate=SLOW), authenticator=ByName())
    with connected(engine.port, "hub") as hub, connected(engine.port, "device") as device:
        hub.subscribe("a")
        began = time.monotonic()
        device.send(*(raw.publish_packet("a", b"%d" % n) for n in range(1500)))
        got = [int(m.payload) for m in hub.messages(1500)]
        # The burst is 200; of the rest a turn's worth of 500 may come before it is counted, the
        # other 800 come at 1,000 a second. Faster is the failure.
        assert time.monotonic() - began > 0.75
        assert got == list(range(1500))
        assert device.is_served()


def test_rates_differ_by_kind(start: Start) -> None:
    """What holds a device back lets a hub pass, and a held-back device holds nobody else back."""
    engine = start(limits=Limits(device_rate=SLOW), authenticator=ByName())
    with connected(engine.port, "hub") as hub, connected(engine.port, "device") as device:
        device.send(*(raw.publish_packet("x", b"") for _ in range(9000)))  # 9 s worth
        hub.subscribe("a")
        hub.send(*(raw.publish_packet("a", b"%d" % n) for n in range(3000)))
        assert len(hub.messages(3000)) == 3000
        device.send(b"\xc0\x00")
        with pytest.raises(TimeoutError):
            device.read(0.1)


def test_who_never_stops_is_disconnected(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """After `over_rate_seconds` without a calm moment, with the reason; others are served."""
    limits = Limits(device_rate=SLOW, over_rate_seconds=0.3)
    engine = start(limits=limits, authenticator=ByName())
    with connected(engine.port, "hub") as hub, connected(engine.port, "device-1") as device:
        with contextlib.suppress(OSError):
            for _ in range(40):
                device.send(*([raw.publish_packet("x", b"")] * 500))
        device.expect_closed()
        assert hub.is_served()
    assert "client 'device-1'" in caplog.text
    assert "sends more than is allowed: it was over its rate for" in caplog.text


def test_bytes_have_a_rate_too(start: Start) -> None:
    """Few large packets are held back as many small ones are."""
    rate = Rate(packets_per_second=1e6, bytes_per_second=1_000_000, burst_seconds=0.1)
    engine = start(limits=Limits(device_rate=rate), authenticator=ByName())
    with connected(engine.port, "hub") as hub, connected(engine.port, "device") as device:
        hub.subscribe("a")
        began = time.monotonic()
        for _ in range(6):
            device.publish("a", bytes(100_000), 1)
        assert time.monotonic() - began > 0.35
        assert len(hub.messages(6)) == 6


def test_a_draining_device_passes(start: Start) -> None:
    """100 messages of 96 KiB at once from a device are within the default rate."""
    engine = start(authenticator=ByName(), limits=Limits(over_rate_seconds=0.0))
    with connected(engine.port, "hub") as hub, connected(engine.port, "device") as device:
        hub.subscribe(("a", 0))
        for n in range(100):
            device.send(raw.publish_packet("a", bytes(96 * 1024), 1, packet_id=n + 1))
            hub.message()
        for _ in range(100):
            device.expect(raw.PUBACK)
        assert device.is_served()


def test_awaited_acknowledgements_are_free(start: Start) -> None:
    """A device may receive and acknowledge far more than it may send."""
    engine = start(limits=Limits(device_rate=SLOW), authenticator=ByName())
    with connected(engine.port, "device") as device, connected(engine.port, "hub") as hub:
        device.subscribe(("a", 1))
        began = time.monotonic()
        for n in range(4000):
            hub.send(raw.publish_packet("a", b"", 1, packet_id=n + 1))
        got = device.messages(4000, 20)
        assert len(got) == 4000
        meter = next(
            c._meter for c in engine.server._engine._connections if c._session.client_id == "device"
        )
        assert meter.over_seconds(began + 1000) == 0


def test_acknowledgements_of_nothing_are_not(start: Start) -> None:
    """PUBACKs that nobody waits for count as packets."""
    engine = start(limits=Limits(device_rate=SLOW, over_rate_seconds=0.2), authenticator=ByName())
    with connected(engine.port, "device") as device:
        with contextlib.suppress(OSError):
            for _ in range(50):
                device.send(b"\x40\x02\x00\x01" * 500)
        device.expect_closed()


def test_keepalive_of_who_is_held_back(start: Start) -> None:
    """Who is not listened to is not taken for silent."""
    rate = Rate(packets_per_second=10, bytes_per_second=1e9, burst_seconds=0.1)
    engine = start(limits=Limits(device_rate=rate), authenticator=ByName())
    with connected(engine.port, "device", keepalive=1) as device:
        device.send(b"\xc0\x00" * 30)  # held back for 3 s, twice the 1.5 s of its keep-alive
        for _ in range(30):
            device.expect(PINGRESP)


def test_a_flood_of_pings_leaves_the_others_their_turn(engine: Ours) -> None:
    """100,000 PINGREQs in one burst are not handled in one turn."""
    with connected(engine.port) as flooder, connected(engine.port) as other:
        flooder.send(b"\xc0\x00" * 100_000)
        assert other.is_served()
        got = 0
        flooder.socket.settimeout(10)
        while got < 200_000:
            got += len(flooder.socket.recv(65536))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize("qos", [0, 1])
def test_all_together_are_bounded(start: Start, caplog: pytest.LogCaptureFixture, qos: int) -> None:
    """60 clients that do not read, each within its own limit: the largest go, the broker stays."""
    limits = Limits(outgoing_bytes=4 * MIB, waiting_bytes=8 * MIB, retained_bytes=MIB)
    engine = start(limits=limits)
    stuck = [Client(engine.port, receive_buffer_bytes=4096) for _ in range(60)]
    with connected(engine.port, "reads") as reads, connected(engine.port, "pub") as publisher:
        for number, client in enumerate(stuck):
            client.connect(f"stuck{number}")
            client.subscribe(("a", qos))
        reads.subscribe(("a", qos))
        before = _resident_bytes()
        for _ in range(100):  # 6 MiB each, 370 MiB in all
            publisher.publish("a", bytes(64 * 1024), 1)
            reads.message()
        # Earlier tests decide how much the allocator takes besides; what is to be seen is 370 MiB.
        assert _resident_bytes() - before < 96 * MIB
        assert reads.is_served()
        assert publisher.is_served()
    assert "too much waits for all clients together" in caplog.text
    for client in stuck:
        client.close()


def test_one_fan_out_does_not_cut_off_healthy_clients(start: Start) -> None:
    """What all take at once is above the limit in sum for a moment; nobody is slow, nobody goes."""
    limits = Limits(outgoing_bytes=2 * MIB, waiting_bytes=2 * MIB, retained_bytes=0)
    engine = start(limits=limits)
    readers = [Client(engine.port) for _ in range(60)]
    with connected(engine.port, "pub") as publisher:
        for number, client in enumerate(readers):
            client.connect(f"r{number}")
            client.subscribe(("a", 1))
        publisher.publish("a", bytes(64 * 1024), 1)  # 4 MiB in one turn
        for client in readers:
            assert len(client.message(20).payload) == 64 * 1024
            client.close()


def test_the_largest_goes_first(start: Start) -> None:
    """Who lets little wait stays when who lets much wait has to go."""
    limits = Limits(outgoing_bytes=4 * MIB, waiting_bytes=4 * MIB, retained_bytes=0)
    engine = start(limits=limits)
    with (
        connected(engine.port, "much") as much,
        connected(engine.port, "little") as little,
        connected(engine.port, "away", clean=False) as away,
        connected(engine.port, "pub") as publisher,
    ):
        much.subscribe(("much", 1))
        little.subscribe(("little", 1))
        away.subscribe(("away", 1))
        away.close()
        publisher.publish("little", bytes(200_000), 1)
        publisher.publish("away", bytes(MIB - 100), 1)
        while engine.status().connections == 4:  # `away` is being noticed
            pass
        for _ in range(5):
            publisher.publish("much", bytes(700_000), 1)
        much.expect_closed()
        assert little.is_served()
        assert engine.status().connections == 2
    with Client(engine.port) as again:
        assert again.connect("away", clean=False) == (0, True)
        assert len(again.message().payload) == MIB - 100


def test_an_absent_client_that_holds_most_is_forgotten(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Its whole session: a queue with a hole in it would be a lie."""
    limits = Limits(outgoing_bytes=4 * MIB, waiting_bytes=4 * MIB, retained_bytes=0)
    engine = start(limits=limits)
    for name in ("a", "b"):
        with connected(engine.port, name, clean=False) as client:
            client.subscribe((name, 1))
    with connected(engine.port, "pub") as publisher:
        for name, count in (("a", 3), ("b", 6)):
            for _ in range(count):
                publisher.publish(name, bytes(500_000), 1)
    with Client(engine.port) as client:
        assert client.connect("b", clean=False) == (0, False)
    with Client(engine.port) as client:
        assert client.connect("a", clean=False) == (0, True)
        assert len(client.messages(3)) == 3
    assert "the session of client 'b' is forgotten" in caplog.text


def test_half_sent_packets_count(start: Start) -> None:
    """Packets that are announced and never finished are held within the same bound."""
    limits = Limits(outgoing_bytes=4 * MIB, waiting_bytes=4 * MIB, retained_bytes=0)
    engine = start(limits=limits)
    clients = [Client(engine.port) for _ in range(8)]
    with connected(engine.port) as other:
        for number, client in enumerate(clients):
            client.connect(f"half{number}")
            client.send(raw.publish_packet("a", bytes(900_000))[:-1])
        wait_until(lambda: engine.status().connections <= 5, what="some to be cut off")
        assert other.is_served()
    for client in clients:
        client.close()


def test_unreleased_messages_are_limited(start: Start) -> None:
    """Who begins QoS 2 deliveries and ends none is disconnected; who ends them is not."""
    engine = start(limits=Limits(unreleased_messages=10))
    with connected(engine.port) as client:
        for _ in range(40):
            client.publish("a", b"x", 2)
        client.send(*(raw.publish_packet("a", b"x", 2, packet_id=n) for n in range(100, 111)))
        client.expect_closed()


class TestStrangers:
    """Who is not authenticated gets little, and not for long."""

    def test_crowded_out(self, start: Start, caplog: pytest.LogCaptureFixture) -> None:
        """Sockets that say nothing cannot keep a client out: the oldest goes, it comes in."""
        engine = start(limits=Limits(strangers=10, stranger_grace_seconds=0))
        idle = [Client(engine.port) for _ in range(10)]
        wait_until(lambda: engine.status().strangers == 10, what="all of them")
        with connected(engine.port) as client:
            assert client.is_served()
            idle[0].expect_closed()
            assert engine.status().connections == 10
        assert "its place is needed" in caplog.text
        for one in idle:
            one.close()

    def test_a_flood_is_refused_at_the_door(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        """1,000 bad CONNECTs from one address do not touch who is here or comes from elsewhere."""
        limits = Limits(strangers_per_second=1, strangers_burst=50)
        engine = start(limits=limits)
        with connected(engine.port) as here:
            for _ in range(1000):
                with contextlib.suppress(OSError), Client(engine.port) as bad:
                    bad.send(b"\0\0")
            assert here.is_served()
            assert engine.status().refused > 200
            with Client(engine.port, source="127.0.0.2") as elsewhere:
                assert elsewhere.connect("elsewhere")[0] == 0
        warnings = [r for r in caplog.records if r.levelname == "WARNING"]
        assert len(warnings) < 60
        assert "too many connections from its address come to nothing" in caplog.text

    def test_wrong_passwords_count(self, start: Start) -> None:
        """Guessing tokens is slow: each refused CONNECT is a connection that came to nothing."""

        class Nobody:
            def authenticate(self, credentials: Credentials) -> Identity | None:
                return None

        engine = start(
            authenticator=Nobody(), limits=Limits(strangers_per_second=1, strangers_burst=20)
        )
        answered = 0
        for _ in range(60):
            with contextlib.suppress(OSError, ClosedError), Client(engine.port) as guess:
                assert guess.connect("x", username="x", password=b"y") == (5, False)
                answered += 1
        assert 20 <= answered <= 25

    def test_a_returning_chain_is_let_in(self, start: Start) -> None:
        """Hundreds of good clients from one address, beyond every figure for bad ones."""
        engine = start(limits=Limits(strangers_per_second=1, strangers_burst=20))
        for n in range(300):
            with connected(engine.port, f"c{n}") as client:
                client.disconnect()

    @pytest.mark.parametrize("what", ["header lines", "one line", "frame", "fragments"])
    def test_a_websocket_holds_no_more(self, start: Start, what: str) -> None:
        """Neither by a long handshake nor by large frames before CONNECT."""
        engine = start(websocket_port=0)
        with Client(engine.addresses.websocket_port) as web:
            sent = _upgrade() if what in ("frame", "fragments") else b"GET /mqtt HTTP/1.1\r\n"
            web.send(sent)
            piece, size = {
                "header lines": (b"X-A: " + b"x" * 1000 + b"\r\n", 1007),
                "one line": (b"x" * 1000, 1000),
                "frame": (bytes(1000), 1000),
                "fragments": (b"\x00\xfe\x03\xe8\0\0\0\0" + bytes(1000), 1008),
            }[what]
            if what == "frame":
                web.send(b"\x82\xff" + (900_000).to_bytes(8, "big") + bytes(4))
            elif what == "fragments":
                web.send(b"\x02\xfe\x03\xe8\0\0\0\0" + b"\x10\xff\xff\x03" + bytes(996))
            total = 0
            with contextlib.suppress(OSError):
                while total < 12 * MIB:
                    web.send(piece * 10)
                    total += 10 * size
            assert total < 12 * MIB  # the system's own buffers take some
        wait_until(lambda: engine.status().connections == 0, what="it to be gone")

    def test_large_frames_after_connect(self, start: Start) -> None:
        """Once it is known a client may send frames up to the packet limit."""
        engine = start(websocket_port=0)
        with Client(engine.addresses.websocket_port) as web:
            web.send(_upgrade())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += web.socket.recv(4096)
            web.send(_frame(raw.connect_packet("w")))
            assert web.socket.recv(100)[-4:] == b"\x20\x02\0\0"
            web.send(_frame(raw.publish_packet("a", bytes(900_000), 1)))
            assert web.socket.recv(100)[-4:] == b"\x40\x02\0\1"

    def test_empty_frames_before_connect(self, start: Start) -> None:
        """Frames with nothing in them are work for nothing: some hundreds, and the door closes."""
        engine = start(websocket_port=0, limits=Limits(connect_frames=100))
        with Client(engine.addresses.websocket_port) as web:
            web.send(_upgrade(), _frame(b"") * 600)  # less than the limit in bytes
            with contextlib.suppress(OSError):
                while web.socket.recv(4096):
                    pass
        wait_until(lambda: engine.status().connections == 0, what="it to be gone")

    def test_a_connect_in_many_frames(self, start: Start) -> None:
        """A packet may be spread over frames as thin as they get."""
        engine = start(websocket_port=0)
        with _web(engine, "w", connect=False) as web:
            web.send(*(_frame(bytes([byte])) for byte in raw.connect_packet("w")))
            assert web.socket.recv(100)[-4:] == b"\x20\x02\0\0"


class TestComingAgain:
    """Each CONNECT of a client that is known can throw a connection out and bring a will."""

    def test_one_too_many_touches_nothing(self, start: Start) -> None:
        """Who connects too often is asked to come later, and who is connected by then stays."""
        limits = Limits(
            connects_per_second=0.1, connects_burst=3, strangers_per_second=1, strangers_burst=2
        )
        engine = start(limits=limits, authenticator=ByName())
        with connected(engine.port, "hub") as hub:
            hub.subscribe("last words")
            for _ in range(2):
                with connected(engine.port, "device", will=("last words", b"w", 0, False)):
                    pass
            with connected(engine.port, "device", will=("last words", b"w", 0, False)) as last:
                for _ in range(20):  # refused, but not as a stranger who would be shut out
                    with Client(engine.port) as again:
                        will = ("last words", b"x", 0, False)
                        assert again.connect("device", will=will) == (3, False)
                assert last.is_served()
                with connected(engine.port, "device 2") as other:
                    assert other.is_served()
            assert [m.payload for m in hub.messages(3)] == [b"w"] * 3

    def test_a_new_connection_has_no_new_burst(self, start: Start) -> None:
        """What was sent by the last connection counts: sending is as slow as without it."""
        engine = start(limits=Limits(device_rate=SLOW), authenticator=ByName())
        began = time.monotonic()
        with connected(engine.port, "hub") as hub:
            hub.subscribe("a")
            for _ in range(8):
                with connected(engine.port, "device") as device:
                    device.send(*(raw.publish_packet("a", b"") for _ in range(200)))
                    assert len(hub.messages(200)) == 200
        # The burst is 200; of the rest the last 200 need not have been waited for.
        assert time.monotonic() - began > 1.0

    def test_anybody_is_not_bound(self, start: Start) -> None:
        """Where there is no access file a name is nobody's."""
        engine = start(limits=Limits(connects_per_second=0.1, connects_burst=1))
        for _ in range(10):
            with connected(engine.port, "c") as client:
                assert client.is_served()

    def test_many_filters_count(self, start: Start) -> None:
        """SUBSCRIBE with a thousand filters is not one packet's work."""
        engine = start(limits=Limits(device_rate=SLOW), authenticator=ByName())
        with connected(engine.port, "device") as device:
            many = raw.subscribe_packet(*((f"a/{n}", 0) for n in range(1000)))
            began = time.monotonic()
            device.send(many * 10)
            for _ in range(10):
                device.expect(raw.SUBACK, 20)
            assert time.monotonic() - began > 0.6


class TestFramesBelowMqtt:
    """WebSocket has packets of its own, which MQTT never sees."""

    def test_pings_that_are_not_read(self, start: Start) -> None:
        """Who sends pings and reads no answer is cut off as who reads nothing else."""
        limits = Limits(outgoing_bytes=MIB, packet_bytes=MIB, retained_bytes=0)
        engine = start(websocket_port=0, limits=limits)
        with _web(engine, "w") as web:
            ping = b"\x89\xfd" + bytes(4) + bytes(125)
            with contextlib.suppress(OSError):
                for _ in range(40):  # 40 MiB; the system's own buffers take some
                    web.send(ping * 8000)
            wait_until(lambda: engine.status().connections == 0, what="it to be gone")

    @pytest.mark.parametrize("frame", [b"\x82\x80", b"\x89\x80", b"\x8a\x80"])
    def test_they_count_against_the_rate(self, start: Start, frame: bytes) -> None:
        """Empty frames, pings and pongs are work like packets: who sends many has to wait."""
        limits = Limits(device_rate=SLOW, over_rate_seconds=0.5)
        engine = start(websocket_port=0, limits=limits, authenticator=ByName())
        with _web(engine, "device") as web, connected(engine.port, "hub") as hub:
            with contextlib.suppress(OSError):
                for _ in range(100):
                    web.send((frame + bytes(4)) * 8000)
            wait_until(lambda: engine.status().connections == 1, what="it to be cut off")
            assert hub.is_served()

    def test_a_frame_for_each_packet_is_free(self, start: Start) -> None:
        """Who is not above its rate in packets is not for their frames, and nothing is lost."""
        rate = Rate(packets_per_second=1, bytes_per_second=1e9, burst_seconds=1100)
        limits = Limits(device_rate=rate, over_rate_seconds=0.1)
        engine = start(websocket_port=0, limits=limits, authenticator=ByName())
        with _web(engine, "device") as web, connected(engine.port, "hub") as hub:
            hub.subscribe("a")
            web.send(*(_frame(raw.publish_packet("a", b"%d" % n)) for n in range(1000)))
            assert [int(m.payload) for m in hub.messages(1000)] == list(range(1000))
            web.send(_frame(b"\xc0\0"))
            assert web.socket.recv(100) == b"\x82\x02\xd0\0"

    def test_who_is_held_back_loses_nothing(self, start: Start) -> None:
        """What came with too much of nothing is handled when the time has come."""
        engine = start(websocket_port=0, limits=Limits(device_rate=SLOW), authenticator=ByName())
        with _web(engine, "device") as web, connected(engine.port, "hub") as hub:
            hub.subscribe("a")
            for n in range(3):
                web.send(_frame(raw.publish_packet("a", b"%d" % n)), _frame(b"") * 300)
            web.close()
            assert [m.payload for m in hub.messages(3)] == [b"0", b"1", b"2"]

    def test_half_sent_frames_count(self, start: Start) -> None:
        """Frames that are announced and never finished are held within the bound of all."""
        limits = Limits(outgoing_bytes=4 * MIB, waiting_bytes=4 * MIB, retained_bytes=0)
        engine = start(websocket_port=0, limits=limits)
        clients = [_web(engine, f"half{n}") for n in range(8)]
        for client in clients:
            client.send(_frame(raw.publish_packet("a", bytes(900_000)))[:-1])
        wait_until(lambda: engine.status().connections <= 5, what="some to be cut off")
        for client in clients:
            client.close()


class TestTheHub:
    """All devices speak to the hub, and few of them are enough to say more than it can take."""

    LIMITS = Limits(
        outgoing_bytes=2 * MIB, packet_bytes=MIB, retained_bytes=0, crowded_hub_seconds=0.5
    )

    @pytest.mark.parametrize("qos", [0, 1])
    def test_devices_wait_for_it(self, start: Start, qos: int) -> None:
        """Sixteen times what may wait for it comes, it reads slowly, and has it all in the end."""
        engine = start(limits=self.LIMITS, authenticator=ByName())
        hub = Client(engine.port, receive_buffer_bytes=4096)
        hub.connect("hub")
        hub.subscribe(("a", qos))
        devices = [Client(engine.port) for _ in range(4)]
        senders = []
        for number, client in enumerate(devices):
            client.connect(f"device{number}")
            data = raw.publish_packet("a", bytes(256 * 1024), qos) * 32
            senders.append(threading.Thread(target=client.send, args=(data,)))
            senders[-1].start()
        assert len(hub.messages(4 * 32, 30)) == 4 * 32
        for sender in senders:
            sender.join()
        for client in (hub, *devices):
            assert client.is_served()
            client.close()
        assert engine.server._engine._surroundings.wait_for_hub == 0

    def test_one_that_takes_nothing_is_cut_off(self, start: Start) -> None:
        """Devices do not wait for ever."""
        engine = start(limits=self.LIMITS, authenticator=ByName())
        with connected(engine.port, "hub") as hub, connected(engine.port, "device") as device:
            hub.subscribe(("a", 1))
            for _ in range(20):
                device.publish("a", bytes(256 * 1024), 1)
            wait_until(lambda: engine.status().connections == 1, what="the hub to be gone")
            assert device.is_served()


def _web(engine: Ours, client_id: str, *, connect: bool = True) -> Client:
    web = Client(engine.addresses.websocket_port or 0)
    web.send(_upgrade())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += web.socket.recv(1)
    if connect:
        web.send(_frame(raw.connect_packet(client_id)))
        assert web.socket.recv(100)[-4:] == b"\x20\x02\0\0"
    return web


def _upgrade() -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    return (
        "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    ).encode()


def _frame(data: bytes) -> bytes:
    if len(data) < 126:
        return bytes([0x82, 0x80 | len(data)]) + bytes(4) + data
    return b"\x82\xff" + len(data).to_bytes(8, "big") + bytes(4) + data
