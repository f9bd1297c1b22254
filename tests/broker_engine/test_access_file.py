"""The access file over real connections: who gets in, and what a change does to who is there."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import broker.access_file
from broker.errors import AccessFileError
from broker.limits import Limits
from buswire.access import DeviceAccess, HubAccess, ToolAccess, token_hash
from tests.broker_engine import raw
from tests.broker_engine.accesses import ROOT, access, connect, device, hashes, member, write
from tests.broker_engine.engines import Ours, Start
from tests.broker_engine.raw import PUBREL, Client
from tests.helpers.waiting import TIME_SCALE, wait_until


class Chain:
    """A broker with an access file that can be changed."""

    def __init__(self, start: Start, path: Path, **options: object) -> None:
        """Start it with the small chain."""
        self.path = path
        self.version = 1
        write(path, access())
        self.engine: Ours = start(access_file=path, **options)
        self.port = self.engine.port

    def change(self, **parts: object) -> None:
        """Put a new file in place and wait until it is in force, sessions included."""
        self.version += 1
        write(self.path, access(self.version, **parts))
        self.wait()

    def wait(self) -> None:
        """Wait until the file's version is in force."""
        wait_until(
            lambda: self.engine.status().access_version == self.version,
            what=f"version {self.version}",
        )

    def revoke(self, name: str) -> None:
        """Take a device out of the file."""
        self.change(devices={k: v for k, v in access().devices.items() if k != name})


@pytest.fixture
def chain(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Run a broker that looks at its file every 20 ms."""
    monkeypatch.setattr(broker.access_file, "POLL_SECONDS", 0.02)
    return Chain(start, tmp_path / "access.json")


def test_who_gets_in(chain: Chain) -> None:
    """Everybody in the file by name, client id and token; nobody else, and never anonymous."""
    for name in ("S1.till", "hub/main", "tool/board", "join/b1"):
        member(chain.port, name).close()
    refused = [
        {"name": "S1.till", "password": b"wrong"},
        {"name": "S1.till", "client_id": "S1.back"},
        {"name": "S1.till", "client_id": ""},
        {"name": "S9.till"},
        {"name": "S1.till", "username": None, "password": None},
        {"name": "S1.till", "password": None},
    ]
    for case in refused:
        with Client(chain.port) as client:
            assert connect(client, **case) == 5, case
            client.expect_closed()


def test_device_and_hub_talk(chain: Chain) -> None:
    """What the contract is for works: hello up, welcome down, directive to the channel."""
    with member(chain.port, "hub/main") as hub, member(chain.port, "S1.till") as till:
        assert hub.subscribe(f"{ROOT}/from/+/+", f"{ROOT}/join/+", f"{ROOT}/hq") == [0, 0, 0]
        hub.unsubscribe(f"{ROOT}/hq")
        wanted = [f"{ROOT}/hq", f"{ROOT}/to/S1/till", f"{ROOT}/down/region/east/manager"]
        assert till.subscribe(*((topic, 1) for topic in wanted)) == [1, 1, 1]
        till.publish(f"{ROOT}/from/S1/till", b"hello", 1)
        assert hub.message().payload == b"hello"
        for topic in wanted:
            hub.publish(topic, b"x", 1, retain=topic == wanted[0])
        assert [m.topic for m in till.messages(3)] == wanted


def test_refused_subscriptions_and_publications(chain: Chain) -> None:
    """0x80 for each filter that is not its own; what it publishes elsewhere reaches nobody."""
    with member(chain.port, "hub/main") as hub, member(chain.port, "S1.till") as till:
        hub.subscribe(f"{ROOT}/from/+/+")
        filters = [f"{ROOT}/to/S1/back", f"{ROOT}/down/all/+", "#", f"{ROOT}/heads/west"]
        assert till.subscribe(*filters) == [0x80] * 4
        for topic in (f"{ROOT}/from/S1/back", f"{ROOT}/to/S1/till", f"{ROOT}/hq", "x"):
            till.publish(topic, b"forged", 1)
        till.publish(f"{ROOT}/from/S1/till", b"kept?", 1, retain=True)
        till.publish(f"{ROOT}/from/S1/till", b"mine", 1)
        assert [m.payload for m in hub.messages_so_far()] == [b"mine"]
        assert chain.engine.status().retained == 0


def test_a_will_elsewhere_refuses_the_connection(chain: Chain) -> None:
    """A device's will is on its own `from`, not retained; otherwise it is not let in."""
    for topic, retain, code in (
        (f"{ROOT}/from/S1/back", False, 5),
        (f"{ROOT}/from/S1/till", True, 5),
        (f"{ROOT}/from/S1/till", False, 0),
    ):
        with Client(chain.port) as client:
            assert connect(client, "S1.till", will=(topic, b"bye", 0, retain)) == code


def test_revoked_is_thrown_out(start: Start, tmp_path: Path) -> None:
    """At the real pace of looking it is out within 2 s, and stays out; others do not feel it."""
    chain = Chain(start, tmp_path / "access.json")
    with member(chain.port, "S1.till") as till, member(chain.port, "S1.back") as back:
        till.subscribe(f"{ROOT}/hq")
        began = time.monotonic()
        chain.version += 1
        devices = {k: v for k, v in access().devices.items() if k != "S1.till"}
        write(chain.path, access(2, devices=devices))
        till.expect_closed()
        took = time.monotonic() - began
        assert took < 2 * TIME_SCALE
        assert back.is_served()
        with Client(chain.port) as again:
            assert connect(again, "S1.till") == 5


def test_revocation_is_logged(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    """With the reason."""
    with member(chain.port, "S1.till") as till:
        chain.revoke("S1.till")
        till.expect_closed()
    assert "client 'S1.till'" in caplog.text
    assert "the access file does not let it in any more" in caplog.text


def test_a_revoked_clients_will_is_not_published(chain: Chain) -> None:
    """Who is thrown out has no last word, and its kept session is forgotten with all in it."""
    will = (f"{ROOT}/from/S1/till", b"bye", 1, False)
    with (
        member(chain.port, "hub/main") as hub,
        member(chain.port, "S1.till", clean=False, will=will) as till,
    ):
        hub.subscribe((f"{ROOT}/from/+/+", 1))
        till.subscribe((f"{ROOT}/to/S1/till", 1))
        chain.revoke("S1.till")
        till.expect_closed()
        assert hub.messages_so_far() == []
        chain.change()
        with Client(chain.port) as again:
            again.send(
                raw.connect_packet(
                    "S1.till", clean=False, username="S1.till", password=b"token of S1.till"
                )
            )
            assert again.expect(raw.CONNACK).body == b"\0\0"  # no session present


def test_an_absent_clients_session_is_forgotten(chain: Chain) -> None:
    """Revoked while away: neither its queue nor its subscriptions are left."""
    with member(chain.port, "S1.till", clean=False) as till:
        till.subscribe((f"{ROOT}/to/S1/till", 1))
    with member(chain.port, "hub/main") as hub:
        hub.publish(f"{ROOT}/to/S1/till", b"x", 1)
        assert chain.engine.status().waiting_messages == 1
        chain.revoke("S1.till")
        wait_until(lambda: chain.engine.status().sessions == 1, what="the session to be forgotten")
        assert chain.engine.status().subscriptions == 0
        assert chain.engine.status().waiting_messages == 0


def test_rotated_token(chain: Chain) -> None:
    """While both tokens are listed either works; when the old one goes, who used it is out."""
    old, new = hashes("S1.till")[0], token_hash("new")
    both = DeviceAccess(tokens=[old, new], region="east", roles=["clerk"])
    chain.change(devices={"S1.till": both})
    with member(chain.port, "S1.till", clean=False) as by_old:
        by_old.subscribe((f"{ROOT}/to/S1/till", 1))
    with Client(chain.port) as by_new:
        by_new.send(raw.connect_packet("S1.till", clean=False, username="S1.till", password=b"new"))
        assert by_new.expect(raw.CONNACK).body == b"\1\0"  # the session goes on
        only_new = DeviceAccess(tokens=[new], region="east", roles=["clerk"])
        chain.change(devices={"S1.till": only_new})
        assert by_new.is_served()
        with Client(chain.port) as again:
            assert connect(again, "S1.till") == 5
        chain.change(devices={"S1.till": device("S1.till")})
        by_new.expect_closed()


def test_another_region(chain: Chain) -> None:
    """A store that moves: its connected devices lose the old region, and may have the new."""
    east, west = f"{ROOT}/down/region/east/any", f"{ROOT}/down/region/west/any"
    own = f"{ROOT}/to/S1/till"
    with member(chain.port, "hub/main") as hub, member(chain.port, "S1.till") as till:
        assert till.subscribe(east, west, own) == [0, 0x80, 0]
        chain.change(devices={**access().devices, "S1.till": device("S1.till", "west")})
        hub.publish(east, b"not for you", 1)
        hub.publish(own, b"for you", 1)
        assert [m.payload for m in till.messages_so_far()] == [b"for you"]
        assert till.subscribe(east, west) == [0x80, 0]
        hub.publish(west, b"now yours", 1)
        assert till.message().payload == b"now yours"
        # Back again: it has to subscribe again, the old subscription is gone for good.
        chain.change()
        hub.publish(east, b"silence", 1)
        hub.publish(west, b"silence", 1)
        hub.publish(own, b"sentinel", 1)
        assert [m.payload for m in till.messages_so_far()] == [b"sentinel"]


def test_a_role_taken_away(chain: Chain) -> None:
    """Taking a role away ends its channels on sessions that are connected or away."""
    manager, clerk = f"{ROOT}/down/store/S1/manager", f"{ROOT}/down/store/S1/clerk"
    with member(chain.port, "S1.till", clean=False) as till:
        assert till.subscribe((manager, 1), (clerk, 1)) == [1, 1]
    with member(chain.port, "hub/main") as hub:
        hub.publish(manager, b"queued before", 1)
        hub.publish(clerk, b"first", 1)
        chain.change(devices={"S1.till": device("S1.till", "east", ("clerk",))})
        hub.publish(manager, b"after", 1)
        hub.publish(clerk, b"second", 1)
        with member(chain.port, "S1.till", clean=False) as till:
            assert [m.payload for m in till.messages(2)] == [b"first", b"second"]
            hub.publish(clerk, b"sentinel", 1)
            assert till.message().payload == b"sentinel"
        assert chain.engine.status().waiting_bytes == 0


@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_in_flight_is_asked_about_again(chain: Chain, qos: int) -> None:
    """What was sent before and not acknowledged is not sent again once it may not be received."""
    manager, own = f"{ROOT}/down/store/S1/manager", f"{ROOT}/to/S1/till"
    with member(chain.port, "S1.till", clean=False) as till, member(chain.port, "hub/main") as hub:
        till.subscribe((manager, qos), (own, qos))
        hub.publish(manager, b"secret", qos)
        number = till.message(acknowledge=False).packet_id
        till.cut()
        chain.change(devices={"S1.till": device("S1.till", "east", ("clerk",))})
        with member(chain.port, "S1.till", clean=False) as again:
            if qos == 2:
                # It may have the message: the exchange is brought to its end without it.
                assert again.expect(PUBREL).packet_id == number
                again.send(raw.packet(0x70, number.to_bytes(2, "big")))
            hub.publish(own, b"sentinel", qos)
            assert again.message().payload == b"sentinel"
        assert chain.engine.status().waiting_bytes == 0


def test_tool_loses_a_rule(chain: Chain) -> None:
    """A wildcard subscription that is not covered any more is ended."""
    with member(chain.port, "tool/board") as board, member(chain.port, "S1.till") as till:
        assert board.subscribe(f"{ROOT}/from/+/+", f"{ROOT}/from/S1/till") == [0, 0]
        narrow = ToolAccess(tokens=hashes("tool/board"), reads=[f"{ROOT}/from/S1/+"])
        chain.change(tools={"tool/board": narrow})
        till.publish(f"{ROOT}/from/S1/till", b"once", 1)
        assert [m.payload for m in board.messages_so_far()] == [b"once"]
        assert chain.engine.status().subscriptions == 1


def test_a_hub_is_removed(chain: Chain) -> None:
    """Its connection ends; `hq` keeps what it was, for its will is not its to publish any more."""
    will = (f"{ROOT}/hq", b"down", 1, True)
    with member(chain.port, "hub/main", will=will) as hub, member(chain.port, "S1.till") as till:
        till.subscribe(f"{ROOT}/hq")
        chain.change(hubs={"hub/other": HubAccess(tokens=hashes("hub/other"))})
        hub.expect_closed()
        assert till.messages_so_far() == []


def test_two_runs_of_a_hub(chain: Chain) -> None:
    """They do not throw each other off: each has its own client id."""
    with (
        member(chain.port, "hub/main", client_id="hub/main/a") as one,
        member(chain.port, "hub/main", client_id="hub/main/b") as other,
    ):
        one.subscribe(f"{ROOT}/hq")
        other.publish(f"{ROOT}/hq", b"b is here", 1, retain=True)
        assert one.message().payload == b"b is here"


BROKEN = {
    "empty": b"",
    "cut short": b'{"format":1,"version":2,',
    "not JSON": b"\xff\xfe",
    "another format": b'{"format":9,"version":2,"root":"r"}',
    "a name that is none": b'{"format":1,"version":2,"root":"r","devices":{"#":{"tokens":[]}}}',
    "nested deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_changes_nothing(
    chain: Chain, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The old rules stay in force, it is said once, and the next good file is taken."""
    with member(chain.port, "S1.till") as till:
        write(chain.path, content)
        wait_until(lambda: "is not taken" in caplog.text, what="the complaint")
        for _ in range(3):
            write(chain.path, content)
            time.sleep(0.05)  # it has to be quiet for some looks, which nothing tells of
        assert caplog.text.count("is not taken, version 1 stays in force") == 1
        assert till.is_served()
        member(chain.port, "S1.back").close()
        chain.revoke("S1.till")
        till.expect_closed()


def test_a_file_that_vanishes(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    """Without the file the last rules stay in force; when it is back they follow it again."""
    with member(chain.port, "S1.till") as till:
        chain.path.unlink()
        wait_until(lambda: "cannot be read" in caplog.text, what="the complaint")
        assert till.is_served()
        chain.revoke("S1.till")
        till.expect_closed()
    assert caplog.text.count("cannot be read") == 1


def test_an_older_version_is_taken_too(chain: Chain) -> None:
    """HQ's ledger may have come back from an older copy: whatever file is there counts."""
    chain.change()
    chain.change()
    chain.version = 0
    chain.revoke("S1.till")
    assert chain.engine.status().access_version == 1
    with Client(chain.port) as client:
        assert connect(client, "S1.till") == 5


def test_another_root(chain: Chain) -> None:
    """Then everything of the old root is gone, for everybody."""
    with member(chain.port, "S1.till") as till, member(chain.port, "hub/main") as hub:
        till.subscribe(f"{ROOT}/hq")
        file = access(2)
        write(chain.path, type(file)(version=2, root="other", hubs=file.hubs, devices=file.devices))
        chain.version = 2
        chain.wait()
        hub.publish(f"{ROOT}/hq", b"x", 1)
        hub.publish("other/hq", b"y", 1)
        assert till.messages_so_far() == []
        assert till.subscribe("other/hq") == [0]
        wait_until(lambda: chain.engine.status().subscriptions == 1, what="the old one to be gone")


@pytest.mark.parametrize("content", [None, b"{}"], ids=["missing", "invalid"])
def test_start_needs_a_good_file(tmp_path: Path, content: bytes | None) -> None:
    """Without one there is nothing to go by: the broker does not start, and says what writes it."""
    path = tmp_path / "access.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AccessFileError) as caught:
        Ours(access_file=path)
    assert str(path) in str(caught.value)
    assert caught.value.hint is not None
    assert "hub" in caught.value.hint


def test_rules_come_from_one_place(tmp_path: Path) -> None:
    """An access file and a policy of one's own exclude each other."""
    with pytest.raises(ValueError, match="its own policy"):
        Ours(access_file=tmp_path, policy=object())


@contextlib.contextmanager
def _longest_turn(engine: Ours) -> Iterator[list[float]]:
    """Measure, while the body runs, the longest turn of the broker's loop."""
    longest = [0.0]
    stop = threading.Event()

    async def watching() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest[0] = max(longest[0], time.perf_counter() - began - 0.001)

    future = asyncio.run_coroutine_threadsafe(watching(), engine._loop)
    yield longest
    stop.set()
    future.result(10)


def test_a_large_chain_is_taken_while_others_are_served(start: Start, tmp_path: Path) -> None:
    """25,000 devices: a change of one takes effect, and turns of the loop stay short meanwhile.

    The figure is for the report; the bound only catches what would be a standstill.
    """
    path = tmp_path / "access.json"
    devices = {
        f"S{store:05}.till-{n}": device(f"S{store:05}", f"r{store % 40}", ("clerk", "manager"))
        for store in range(12_500)
        for n in range(2)
    }
    devices |= access().devices
    write(path, access(1, devices=devices))
    engine = start(access_file=path, limits=Limits())
    with member(engine.port, "S1.till") as till, member(engine.port, "S1.back") as back:
        with _longest_turn(engine) as longest:
            del devices["S1.till"]
            write(path, access(2, devices=devices))
            till.expect_closed()
            wait_until(lambda: engine.status().access_version == 2, what="version 2")
        assert back.is_served()
    print(f"longest turn {longest[0] * 1000:.0f} ms")
    assert longest[0] < 2 * TIME_SCALE
