"""The link: it connects, says what happens, keeps nothing back, and always comes back."""

import contextlib
import inspect
import queue
import random
import socket
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho

from buskit import link as link_module
from buskit.dialer import Dialer
from buskit.link import (
    Connected,
    Disconnected,
    Link,
    LinkEvent,
    LinkLoop,
    LinkSettings,
    Publication,
    Published,
    Received,
    Subscribed,
)
from tests.helpers.waiting import wait_until
from tests.kit.conftest import Listener, MakeLink, Running, start_broker
from tests.kit.wire import Wire

CONNACK = b"\x20\x02\x00\x00"


def dead_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class BlackHole:
    """Accepts nothing and refuses nothing: its queue is full, so a connection never comes about."""

    def __init__(self) -> None:
        """Listen with the shortest queue, and fill it."""
        self._server = socket.socket()
        self._server.bind(("127.0.0.1", 0))
        self._server.listen(0)
        self.port = self._server.getsockname()[1]
        self._fill = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))
            self._fill.append(one)

    def close(self) -> None:
        """Let go."""
        for one in [*self._fill, self._server]:
            one.close()


def subscribed(listener: Listener, *filters: str, qos: int = 1) -> Subscribed:
    """Wait for the connection and subscribe."""
    listener.next(Connected)
    assert listener.link.subscribe([(name, qos) for name in filters])
    return listener.next(Subscribed)


@pytest.mark.parametrize("transport", ["mqtt", "ws"])
@pytest.mark.parametrize("qos", [0, 1])
def test_messages_arrive_in_order_and_each_is_published(
    running: Running, make_link: MakeLink, transport: str, qos: int
) -> None:
    """Over TCP and WebSocket, small and long messages arrive in order and all tokens come back."""
    one = make_link(getattr(running, transport))
    topic = f"order/{transport}/{qos}"
    assert subscribed(one, topic, qos=qos) == Subscribed((topic,), ())
    bodies = [str(n).encode() * (1 + n % 7) for n in range(500)] + [b"x" * 250_000, b""]
    tokens = [one.link.publish(Publication(topic, body, qos)) for body in bodies]
    assert None not in tokens
    seen: list[LinkEvent] = []
    while len(seen) < 2 * len(bodies):
        seen.append(one.events.get(timeout=30))
    assert [e.payload for e in seen if isinstance(e, Received)] == bodies
    assert sorted(e.token for e in seen if isinstance(e, Published)) == tokens
    assert one.link.unsent_bytes == 0


def test_what_is_retained_is_marked_and_unsubscribing_ends_it(
    running: Running, make_link: MakeLink
) -> None:
    """A kept value comes marked as such, a fresh one does not, and after unsubscribe none comes."""
    one, two = make_link(running.mqtt), make_link(running.ws)
    one.next(Connected)
    one.link.publish(Publication("kept/a", b"old", 1, retain=True))
    one.next(Published)
    subscribed(two, "kept/#", "mark")
    assert two.next(Received) == Received("kept/a", b"old", retained=True)
    one.link.publish(Publication("kept/a", b"new", 1))
    assert two.next(Received) == Received("kept/a", b"new", retained=False)
    assert two.link.unsubscribe(["kept/#"])
    two.link.publish(Publication("mark", b"before", 1))
    assert two.next(Received).payload == b"before"
    one.link.publish(Publication("kept/a", b"", 1, retain=True))
    one.link.publish(Publication("mark", b"after", 1))
    assert two.next(Received).payload == b"after"


def test_nothing_is_queued_while_offline(running: Running, make_link: MakeLink) -> None:
    """Without a connection publish and subscribe say no, and nothing of it is sent later."""
    witness = make_link(running.mqtt)
    subscribed(witness, "offline/#")
    with Wire(running.port) as wire:
        wire.closing = True
        one = make_link(wire.mqtt, backoff_most_seconds=0.1)
        wait_until(lambda: wire.accepted >= 2, what="two attempts")
        assert one.link.publish(Publication("offline/lost", b"x", 1)) is None
        assert not one.link.subscribe([("offline/#", 1)])
        assert not one.link.unsubscribe(["offline/#"])
        assert not one.link.connected
        wire.closing = False
        one.next(Connected)
        one.link.publish(Publication("offline/kept", b"y", 1))
        assert witness.next(Received).topic == "offline/kept"


def test_a_cut_is_told_and_mended(running: Running, make_link: MakeLink) -> None:
    """Cut again and again, with messages on their way: told each time, and back by itself.

    What was not published before the cut is not sent again by the new connection.
    """
    witness = make_link(running.mqtt)
    subscribed(witness, "cut/#", qos=0)
    with Wire(running.port) as wire:
        one = make_link(wire.mqtt, backoff_most_seconds=0.1)
        for turn in range(5):
            assert one.next(Connected).address == wire.mqtt
            wire.silent = True
            assert one.link.publish(Publication("cut/lost", b"%d" % turn, 1)) is not None
            assert one.link.unsent_bytes > 0
            wire.cut()
            assert "closed the connection" in one.next(Disconnected).reason
            assert one.link.unsent_bytes == 0
            wire.silent = False
        one.next(Connected)
        assert one.link.failure is None
        one.link.publish(Publication("cut/kept", b"", 1))
        assert witness.next(Received).topic == "cut/kept"


def test_a_broker_killed_and_started_again_is_found_again(
    tmp_path: Path, make_link: MakeLink
) -> None:
    """SIGKILL of the broker is a disconnect; on its return the link is back by itself."""
    first = start_broker(tmp_path)
    one = make_link(first.mqtt, backoff_most_seconds=0.2)
    try:
        one.next(Connected)
    finally:
        first.process.kill()
        first.process.wait()
    one.next(Disconnected)
    wait_until(
        lambda: "Connection refused" in str(one.link.failure), what="an attempt to be refused"
    )
    assert one.link.failure is not None
    assert one.link.failure.exit_code == 3
    second = start_broker(tmp_path, port=first.port)
    try:
        one.next(Connected)
        one.link.stop()
    finally:
        second.process.terminate()
        assert second.process.wait(20) == 0


def test_a_silent_broker_counts_as_lost(make_link: MakeLink) -> None:
    """When nothing comes back, not even an answer to a ping, the connection is given up."""
    server = socket.create_server(("127.0.0.1", 0))
    connections = []

    def serve() -> None:
        for _ in range(2):
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(CONNACK)
            connections.append(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        one = make_link(f"mqtt://127.0.0.1:{server.getsockname()[1]}", keepalive_seconds=1)
        one.next(Connected)
        assert "does not answer any more" in one.next(Disconnected).reason
        one.next(Connected)
    finally:
        thread.join(20)
        for connection in connections:
            connection.close()
        server.close()


def test_dead_addresses_are_passed_over(running: Running, make_link: MakeLink) -> None:
    """Refusing, silent, unknown and non-MQTT addresses cost time, but the good one is found."""
    hole = BlackHole()
    mute = socket.create_server(("127.0.0.1", 0))
    try:
        one = make_link(
            f"mqtt://127.0.0.1:{dead_port()}",
            f"mqtt://127.0.0.1:{hole.port}",
            f"mqtt://127.0.0.1:{mute.getsockname()[1]}",
            f"ws://127.0.0.1:{mute.getsockname()[1]}/mqtt",
            f"mqtt://127.0.0.1:{running.websocket_port}",
            "mqtt://no-such-host.invalid:1883",
            running.mqtt,
            connect_timeout_seconds=0.3,
        )
        assert one.next(Connected, 30).address == running.mqtt
    finally:
        hole.close()
        mute.close()


def test_when_no_address_works_each_reason_is_told(make_link: MakeLink) -> None:
    """The failure names every address with what is wrong there, for `status` to show."""
    port = dead_port()
    mute = socket.create_server(("127.0.0.1", 0))
    silent = mute.getsockname()[1]
    try:
        one = make_link(
            f"mqtt://127.0.0.1:{port}",
            f"mqtt://127.0.0.1:{silent}",
            f"ws://127.0.0.1:{silent}/x",
            connect_timeout_seconds=0.2,
        )
        wait_until(lambda: one.link.failure, what="the first round to fail")
        assert set(str(one.link.failure).split("; ")) == {
            f"mqtt://127.0.0.1:{port}: Connection refused",
            f"mqtt://127.0.0.1:{silent}: the broker does not answer CONNECT",
            f"ws://127.0.0.1:{silent}/x: no answer in time",
        }
        assert one.quiet()
    finally:
        mute.close()


@pytest.mark.parametrize(
    ("scheme", "answer", "reason"),
    [
        ("mqtt", b"\x20\x02\x00\x05", "refuses us: Not authorized"),
        ("mqtt", b"\x20\x02\x00\x01", "protocol error"),
        ("mqtt", b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
        ("mqtt", b"\x30\x03\x00\x01a", "message before it agreed"),
        ("mqtt", b"\x20\x02\x00", "closed the connection"),
        ("mqtt", b"\x30\xff\xff\xff\x7f", "over the limit"),
        ("ws", b"HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        ("ws", b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\n", "not as a WebSocket server"),
        ("ws", b"\xff" * 20_000, "does not end"),
    ],
)
def test_a_peer_that_answers_wrongly_is_a_failure_and_no_crash(
    make_link: MakeLink, scheme: str, answer: bytes, reason: str
) -> None:
    """Refusals, garbage, huge lengths, half answers: a reason in words, and the next attempt."""
    server = socket.create_server(("127.0.0.1", 0))
    attempts = 0
    ended = threading.Event()

    def serve() -> None:
        nonlocal attempts
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                attempts += 1
                connection.recv(4096)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        one = make_link(
            f"{scheme}://127.0.0.1:{server.getsockname()[1]}", backoff_most_seconds=0.05
        )
        wait_until(lambda: attempts >= 3, what="further attempts")
        assert reason in str(one.link.failure)
        assert one.quiet()
        one.link.stop()
    finally:
        ended.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(20)


def test_an_error_in_deliver_costs_the_connection_and_not_the_loop(running: Running) -> None:
    """Who cannot take an event is told that the connection ended, and gets a new one."""
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    broken = threading.Event()

    def deliver(event: LinkEvent) -> None:
        if isinstance(event, Received) and not broken.is_set():
            broken.set()
            raise MemoryError("no room for this")
        events.put(event)

    settings = LinkSettings((running.mqtt,), "clumsy", backoff_first_seconds=0.05)
    link = Link(settings, deliver=deliver, random=random.Random(1))
    one = Listener(link, events)
    link.start()
    try:
        for body in (b"first", b"second"):
            subscribed(one, "clumsy")
            assert link.publish(Publication("clumsy", body, 1)) is not None
            if body == b"first":
                assert one.next(Disconnected) == Disconnected("no room for this")
        assert one.next(Received).payload == b"second"
    finally:
        link.stop()


def test_a_deliver_that_always_raises_does_not_stop_other_links(
    running: Running, make_link: MakeLink
) -> None:
    """On a shared loop a hopeless link harms only itself, and can still be stopped."""
    loop = LinkLoop()

    def never(event: LinkEvent) -> None:
        raise RuntimeError("always")

    settings = LinkSettings((running.mqtt,), "hopeless", backoff_first_seconds=0.01)
    hopeless = Link(settings, deliver=never, random=random.Random(1), loop=loop)
    hopeless.start()
    one = make_link(running.mqtt, loop=loop)
    subscribed(one, "fine")
    for _ in range(20):
        one.link.publish(Publication("fine", b"", 1))
        one.next(Received)
    hopeless.stop()
    one.link.stop()
    loop.stop()


def test_the_goodbye_arrives_before_the_end(running: Running, make_link: MakeLink) -> None:
    """All that was published before, and the goodbye after it, arrive; then the link is silent."""
    witness = make_link(running.mqtt)
    subscribed(witness, "bye/#")
    will = Publication("bye/will", b"", 1)
    for qos in (0, 1):
        one = make_link(running.ws if qos else running.mqtt, will=will)
        one.next(Connected)
        for n in range(300):
            assert one.link.publish(Publication("bye/work", b"%d" % n * 500, qos)) is not None
        one.link.stop(Publication("bye/last", b"", qos))
        assert one.next(Disconnected) == Disconnected("left in good order")
        assert one.quiet()
        for n in range(300):
            assert witness.next(Received).payload == b"%d" % n * 500
        assert witness.next(Received).topic == "bye/last"
        one.link.stop()
        assert one.link.publish(Publication("bye/late", b"")) is None
    assert witness.quiet()


def test_the_will_is_published_when_the_wire_breaks(running: Running, make_link: MakeLink) -> None:
    """A connection that ends without goodbye has its will published."""
    witness = make_link(running.mqtt)
    subscribed(witness, "will/#")
    with Wire(running.port) as wire:
        one = make_link(wire.mqtt, will=Publication("will/one", b"gone", 1))
        one.next(Connected)
        wire.cut()
        assert witness.next(Received) == Received("will/one", b"gone", retained=False)


def test_a_will_can_be_renewed(running: Running, make_link: MakeLink) -> None:
    """The link comes back with the new will; the old one is never published."""
    witness = make_link(running.mqtt)
    subscribed(witness, "renewed/#")
    with Wire(running.port) as wire:
        one = make_link(wire.mqtt, will=Publication("renewed/will", b"old", 1))
        one.next(Connected)
        one.link.renew(Publication("renewed/will", b"new", 1))
        one.next(Disconnected)
        one.next(Connected)
        wire.cut()
        assert witness.next(Received).payload == b"new"
    one.link.stop()
    one.link.renew(Publication("renewed/will", b"late", 1))
    assert witness.quiet()


def test_stopping_is_quick_whatever_the_link_is_doing(
    running: Running, make_link: MakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting to a hole, pausing, never started, or towards a silent broker: it ends."""
    monkeypatch.setattr(link_module, "_GOODBYE_SECONDS", 0.2)
    hole = BlackHole()
    with Wire(running.port) as wire:
        connecting = make_link(f"mqtt://127.0.0.1:{hole.port}", connect_timeout_seconds=600)
        pausing = make_link(f"mqtt://127.0.0.1:{dead_port()}", backoff_first_seconds=600)
        wait_until(lambda: pausing.link.failure, what="the pause")
        silent = make_link(wire.mqtt)
        silent.next(Connected)
        wire.silent = True
        fresh = Link(LinkSettings((wire.mqtt,), "fresh"), deliver=print, random=random.Random(1))
        before = threading.active_count()
        began = time.monotonic()
        for link in (connecting.link, pausing.link, fresh, silent.link):
            link.stop(Publication("never", b"", 1))
        assert time.monotonic() - began < 60
        wait_until(lambda: threading.active_count() <= before - 3, what="the threads to end")
    hole.close()


def test_one_loop_drives_many_links(running: Running, make_link: MakeLink) -> None:
    """A hundred links share a thread; half have a dead address first, and all get their message."""
    loop = LinkLoop()
    hole = BlackHole()
    before = threading.active_count()
    links = [
        make_link(
            *((f"mqtt://127.0.0.1:{hole.port}",) if n % 2 else ()),
            running.mqtt,
            loop=loop,
            client_id=f"many{n}",
            connect_timeout_seconds=0.5,
        )
        for n in range(100)
    ]
    for n, one in enumerate(links):
        subscribed(one, f"many/{n}", "many/all")
    assert threading.active_count() <= before + 1
    links[0].link.publish(Publication("many/all", b"all", 1))
    for n, one in enumerate(links):
        assert one.next(Received).payload == b"all"
        one.link.publish(Publication(f"many/{(n + 1) % 100}", b"%d" % n, 0))
    assert [int(one.next(Received).payload) for one in links] == [99, *range(99)]
    for one in links:
        one.link.stop()
    loop.stop()
    hole.close()


def test_what_is_on_its_way_is_bounded(running: Running, make_link: MakeLink) -> None:
    """Towards a reader that does not read, publish says no instead of filling the memory."""
    server = socket.create_server(("127.0.0.1", 0))
    connections = []

    def serve() -> None:
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(CONNACK)
        connections.append(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    one = make_link(f"mqtt://127.0.0.1:{server.getsockname()[1]}", queue_limit_bytes=3_000_000)
    one.next(Connected)
    thread.join()
    message = Publication("full", b"x" * 100_000)
    wait_until(
        lambda: one.link.publish(message) is None and one.link.unsent_bytes > 2_900_000,
        poll_seconds=0.001,
        what="the link to be full",
    )
    assert one.link.unsent_bytes <= 3_000_000
    drained = threading.Event()

    def read() -> None:
        while connections[0].recv(1_000_000):
            if one.link.unsent_bytes == 0:
                drained.set()
        connections[0].close()

    reader = threading.Thread(target=read)
    reader.start()
    assert drained.wait(20)
    one.link.stop()
    reader.join(20)
    server.close()


def test_many_threads_may_publish(running: Running, make_link: MakeLink) -> None:
    """Threads that publish at the same time get different tokens, and nothing is lost or mixed."""
    one = make_link(running.mqtt)
    subscribed(one, "threads")
    tokens: list[int | None] = []

    def work(name: int) -> None:
        tokens.extend(
            one.link.publish(Publication("threads", b"%d %d" % (name, n), name % 2))
            for n in range(200)
        )

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bodies = [one.next(Received).payload.split() for _ in range(800)]
    assert len(set(tokens)) == 800
    for name in range(4):
        assert [int(n) for who, n in bodies if int(who) == name] == list(range(200))


def test_pauses_have_full_jitter_and_start_small_again(running: Running) -> None:
    """Pauses spread from nothing to a doubling limit; a stable connection resets them."""

    class Instant(LinkLoop):
        """A loop that only notes the pauses."""

        def __init__(self) -> None:
            super().__init__()
            self.pauses: list[float] = []

        def call_later(self, seconds: float, handler: Any) -> Any:
            self.pauses.append(seconds)
            return super().call_later(3600, handler)

    def pauses(times: int, seed: int) -> list[float]:
        loop = Instant()
        settings = LinkSettings(
            ("mqtt://127.0.0.1:1",), "p", backoff_first_seconds=1, backoff_most_seconds=8
        )
        dialer = Dialer(settings, loop, random.Random(seed), lambda *_: None)
        for _ in range(times):
            dialer.lost("test", lived_seconds=0)
        dialer.lost("test", lived_seconds=settings.stable_seconds)
        loop.stop()
        return loop.pauses

    runs = [pauses(6, seed) for seed in range(300)]
    for turn, limit in enumerate([1, 2, 4, 8, 8, 8, 1]):
        column = [run[turn] for run in runs]
        assert 0 <= min(column) < limit * 0.05
        assert limit * 0.95 < max(column) <= limit
        assert abs(statistics.mean(column) - limit / 2) < limit * 0.08


def test_addresses_are_tried_in_random_order(running: Running, make_link: MakeLink) -> None:
    """Links with the same two good addresses spread over both."""
    with Wire(running.port) as left, Wire(running.port) as right:
        found = {make_link(left.mqtt, right.mqtt).next(Connected).address for _ in range(12)}
        assert found == {left.mqtt, right.mqtt}


def test_the_seam_to_paho_is_where_we_think_it_is() -> None:
    """Paho still asks `_create_socket` for its socket, in `reconnect`, and nowhere else."""
    assert list(inspect.signature(paho.Client._create_socket).parameters) == ["self"]
    assert "self._sock = self._create_socket()" in inspect.getsource(paho.Client.reconnect)
    assert inspect.getsource(paho).count("_create_socket()") == 1
