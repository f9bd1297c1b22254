"""A taste of the bad network, of duplicates and of old copies, and that loss and doubles show."""

import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from storeagent import Agent
from storeagent.scripts import Recorded
from tests.faults import copies, network
from tests.faults.chains import judge
from tests.faults.copies import Copies
from tests.faults.duplicates import Flood
from tests.faults.network import Tally
from tests.faults.rows import Row
from tests.faults.seeds import seed_of_this_run
from tests.helpers.waiting import wait_until
from tests.net import mqtt, namespaces
from tests.net.proxy import Lane, Proxy
from tests.net.reach import ReachedChain
from tests.net.replayer import Replayer
from tests.processes.chain import Chain

STORES = ("S001", "S002")


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that says everything back; its port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(one,), daemon=True).start()

        def answer(one: socket.socket) -> None:
            with one:
                while data := _received(one):
                    one.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def _received(one: socket.socket) -> bytes:
    try:
        return one.recv(4096)
    except OSError:
        return b""


def _connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def test_the_proxy_does_what_it_says(echo: int) -> None:
    """Stalls hold everything back and lose nothing, ends are felt as what they are."""
    with Proxy(echo) as proxy:
        with _connect(proxy) as one:
            proxy.change(up=Lane(open=False))
            one.sendall(b"held")
            one.settimeout(0.2)
            with pytest.raises(TimeoutError):
                one.recv(9)
            proxy.change(up=Lane(piece_bytes=1), down=Lane(delay_seconds=0.05, jitter_seconds=0.05))
            one.settimeout(10)
            assert b"".join(one.recv(1) for _ in range(4)) == b"held"
            proxy.clear()
            assert proxy.cut() == 1
            assert one.recv(9) == b""
        with _connect(proxy) as one:
            wait_until(lambda: proxy.open_connections == 1, what="the connection")
            proxy.cut(by_reset=True)
            with pytest.raises(ConnectionResetError):
                one.recv(9)
        proxy.change(break_after_bytes=3)
        with _connect(proxy) as one:
            one.sendall(b"broken")
            assert len(one.recv(9)) < 6
        proxy.change(door="slam")
        with _connect(proxy) as one:
            assert _received(one) == b""
        proxy.change(door="refuse")
        with pytest.raises(ConnectionRefusedError):
            _connect(proxy)
        proxy.change(up=Lane(bytes_per_second=50_000))
        with _connect(proxy) as one:
            began_at = time.monotonic()
            one.sendall(20_000 * b".")
            left = 20_000
            while left:
                left -= len(one.recv(left))
            assert time.monotonic() - began_at > 0.1


def test_packets_are_cut_wherever_the_stream_is() -> None:
    """Whole packets come out, in order, whatever pieces went in."""
    packets = [mqtt.publish("a/b", length * b"x") for length in (0, 1, 120, 300, 20_000)]
    stream = b"\xc0\x00" + b"".join(packets)
    draw = Random(1)
    cutter, found = mqtt.Cutter(), []
    while stream:
        size = draw.randint(1, 400)
        found += cutter.cut(stream[:size])
        stream = stream[size:]
    assert found == [b"\xc0\x00", *packets]
    assert [one and len(one.payload) for one in map(mqtt.published, found)] == [
        None,
        *(0, 1, 120, 300, 20_000),
    ]


def test_partitions_and_duplicates_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some partitions; thousands of records again; a broken agent.

    The agent that forgets an alert which it accepted, and says another one twice, is found out.
    """
    draw = Random(seed_of_this_run())
    row, tally = Row("network"), Tally()
    with ReachedChain(tmp_path, STORES, new_proxy=Replayer) as chain:
        flood = Flood(chain, draw, row, size=0.05)
        flood.prepare()
        network.partition(chain, draw, row, tally, times=4, held_every=0)
        for until in (4_000, 8_000):
            flood.strike(until)
            flood.look(until)
        judge(chain, row, seconds=network.PATIENCE_SECONDS)
        flood.judge()
        assert row.failures == []
        assert row.times >= 4
        assert row.accepted > 10
        assert row.recovery_seconds is not None
        assert flood.again >= 8_000

        monkeypatch.setattr(Agent, "alert", _broken(Agent.alert))
        for _ in range(2):
            network.work(chain, draw)
        judge(chain, row, seconds=1.0)
        assert len([one for one in row.lost if "alert" in one]) == 1
        assert len([one for one in row.twice if "alert" in one]) == 1


def _broken(real: Callable[..., Recorded]) -> Callable[..., Recorded]:
    """A product that forgets the second alert, and says the third one twice."""
    calls = itertools.count(1)

    def alert(self: Agent, kind: str, **fields: str) -> Recorded:
        call = next(calls)
        if call == 2:
            return Recorded("0" * 32, new=True)
        if call == 3:
            real(self, kind, **fields)
        return real(self, kind, **fields)

    return alert


def test_an_old_copy_heals_and_what_is_reopened_is_noticed(tmp_path: Path) -> None:
    """A device's image put back; then a hook that runs again, and work that opens again."""
    row = Row("old copies")
    with Chain(tmp_path, STORES) as chain:
        story = Copies(chain, Random(seed_of_this_run()), row)
        story.round(story.device_image)
        assert row.failures == []
        assert row.times == 1
        till = chain.till("S001")
        todo = chain.issue()
        chain.wait_state(todo, "delivered")
        chain.say(till, next(one for one in till.inbox() if one["directive"] == todo), "done")
        closed = next(one for one in till.inbox() if one["directive"] == todo)
        story.remember_closed()
        with (chain.folder / "hooked").open("a") as hooked:
            hooked.write(copies.name_of(till, closed) + "\n")
        story.judge("sabotage")
        assert ["hook ran again" in one for one in row.twice] == [True]


def test_packets_vanish_without_a_word() -> None:
    """In a namespace nobody is told of what is dropped, and it comes when it passes again."""
    if reason := namespaces.why_not():
        pytest.skip(reason)
    serve = "import socket; s = socket.create_server(('', 7777)); c = s.accept()[0]; c.recv(9)"
    say = "import socket, sys; c = socket.create_connection((sys.argv[1], 7777)); c.send(b'x')"
    with namespaces.Namespaces(["shop"]) as wires:
        wires.drop("shop", up=True)
        ends = [
            subprocess.Popen([*wires.inside(where), sys.executable, "-c", script, *words])
            for where, script, words in (
                (wires.middle, serve, ()),
                (wires.name_of("shop"), say, (wires.middle_address("shop"),)),
            )
        ]
        try:
            wait_until(wires.dropped, what="a packet to vanish")
            assert [one.poll() for one in ends] == [None, None]
            wires.pass_all("shop")
            assert [one.wait(20) for one in ends] == [0, 0]
        finally:
            for one in ends:
                one.kill()
                one.wait()
