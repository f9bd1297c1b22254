"""The rest of what amqtt gets wrong, row by row; each test is seen to fail against plain amqtt.

As `test_mended_defects`, with brokers that are set up for what a row is about: plugins and TLS on
amqtt's side, what does that job here on ours. CPU time and counts are compared, not the clock.
"""

import contextlib
import inspect
import re
import ssl
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from amqtt.contexts import BrokerConfig

from broker.access import Action, AllowEverything, Identity
from broker.limits import MIB, Limits
from broker.listeners import is_loopback
from broker.server import EmbeddedBroker
from buswire.access import ToolAccess
from tests.broker_engine import raw, test_mended_defects
from tests.broker_engine.accesses import access, hashes, token, write
from tests.broker_engine.certificates import Authority, Pair
from tests.broker_engine.engines import NAMES_NEEDED, Ours, Plain
from tests.broker_engine.raw import PUBACK, Client, ClosedError
from tests.broker_engine.test_mended_defects import UserNameNeeded
from tests.helpers.waiting import wait_until

ROWS = {f"{kind}{n}" for kind, last in (("L", 12), ("A", 11), ("M", 9)) for n in range(1, last + 1)}

DEFECT = pytest.mark.xfail(
    strict=True,
    # Not anything that goes wrong: what the test says must be what fails.
    raises=(AssertionError, TimeoutError, ClosedError),
    reason="the defect of plain amqtt",
)


class RefusesBad(AllowEverything):
    """A policy with a defect that one topic brings out."""

    def allows(self, identity: Identity, action: Action, topic: str) -> bool:
        """Fail, or allow."""
        if topic == "bad":
            raise RuntimeError(topic)
        return super().allows(identity, action, topic)


@dataclass
class Target:
    """The broker under test: how to make one, and how long to wait for what it should do."""

    name: str
    make: Callable[[str], Any]
    seconds: float
    topic: str
    folder: Path

    @property
    def is_ours(self) -> bool:
        """Tell the two apart, where they are asked differently."""
        return self.name == "ours"

    @contextlib.contextmanager
    def client(self, setting: str, name: str, **options: Any) -> Iterator[Client]:
        """Connect a client whose id is this test's own; it must be let in."""
        with Client(self.make(setting).port) as client:
            options = {"username": "someone"} | options
            code, _ = client.connect(f"{self.topic}-{name}", **options)
            assert code == 0
            yield client


class Brokers:
    """The brokers of this module by name and setting, started when first asked for."""

    def __init__(self, folder: Path) -> None:
        """Start none."""
        self._folder = folder
        self._running: dict[tuple[str, str], Any] = {}
        self.authority = Authority(folder)

    def get(self, name: str, setting: str) -> Any:
        """Start it, or find it."""
        key = (name, setting)
        if key not in self._running:
            make = self._ours if name == "ours" else self._plain
            self._running[key] = make(setting)
        return self._running[key]

    def stop(self) -> None:
        """Stop all."""
        for engine in self._running.values():
            engine.stop()

    def _ours(self, setting: str) -> Ours:
        path = self._folder / f"{setting}.json"
        limits = Limits(packet_bytes=12 * MIB, filters_per_client=10_000)
        options: dict[str, Any] = {"authenticator": UserNameNeeded(), "limits": limits}
        if setting == "small":
            options["limits"] = Limits(outgoing_bytes=2 * MIB, retained_bytes=MIB)
        elif setting == "as it comes":
            options = {}
        elif setting == "raises":
            options["policy"] = RefusesBad()
        elif setting == "rules":
            tool = ToolAccess(tokens=hashes("tool/someone"), reads=["a/+"])
            write(path, access(tools={"tool/someone": tool}))
            options = {"access_file": path}
        elif setting == "tokens":
            write(path, access())
            options = {"access_file": path}
        elif setting == "certificates":
            write(path, access(mutual_tls=True))
            tls = self.authority.server(client_ca=self.authority.file)
            options = {"access_file": path, "tls": tls}
        return Ours(**options)

    def _plain(self, setting: str) -> Plain:
        plugins: dict[str, Any] = NAMES_NEEDED
        listener: dict[str, Any] = {}
        if setting == "as it comes":
            plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}}
        elif setting == "raises":
            plugins = NAMES_NEEDED | {"plain_amqtt.RaisesOnBad": {}}
        elif setting == "suspends":
            plugins = NAMES_NEEDED | {"plain_amqtt.Suspends": {}}
        elif setting == "no opinion":
            plugins = NAMES_NEEDED | {"plain_amqtt.HasNoOpinion": {}}
        elif setting == "rules":
            plugin = "amqtt.plugins.topic_checking.TopicAccessControlListPlugin"
            plugins = NAMES_NEEDED | {plugin: {"acl": {"tool/someone": ["a/+"]}}}
        elif setting == "tokens":
            from argon2 import PasswordHasher

            file = self._folder / "passwords"
            file.write_text(f"S1.till:{PasswordHasher().hash(token('S1.till'))}\n")
            plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(file)}}
        elif setting == "certificates":
            pair = self.authority.issue("broker")
            plugins = {"plain_amqtt.AsksForCertificate": {}}
            listener = {
                "ssl": True,
                "cafile": str(self.authority.file),
                "certfile": str(pair.certificate),
                "keyfile": str(pair.key),
            }
        return Plain(plugins, listener)


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Keep the brokers of this module."""
    all_of_them = Brokers(tmp_path_factory.mktemp("rows"))
    yield all_of_them
    all_of_them.stop()


@pytest.fixture(params=["ours", pytest.param("plain", marks=DEFECT)])
def target(request: pytest.FixtureRequest, brokers: Brokers, tmp_path: Path) -> Target:
    """Give the broker under test; what takes long on plain amqtt is what will never come."""
    name = request.param
    topic = request.node.originalname.removeprefix("test_")
    seconds = 5.0 if name == "ours" else 0.6
    return Target(name, lambda setting: brokers.get(name, setting), seconds, topic, tmp_path)


def test_every_row_has_a_test() -> None:
    """Every row of losses, security and cost is named by a test that runs against both brokers."""
    named: set[str] = set()
    for module in (test_mended_defects, sys.modules[__name__]):
        for function in vars(module).values():
            if inspect.isfunction(function) and {"target", "shutdown"} & set(
                inspect.signature(function).parameters
            ):
                for label in re.findall(r"\[([LAM]\d[^\]]*)\]", inspect.getdoc(function) or ""):
                    named.update(label.split(", "))
    assert ROWS - named == set()


# -- losses --


def test_named_clients_are_not_anonymous(target: Target) -> None:
    """As it comes, a broker keeps what a client that gave its name wants kept [L5]."""
    with target.client("as it comes", "away", clean=False) as client:
        client.subscribe((target.topic, 1))
        client.disconnect()
    with target.client("as it comes", "pub") as publisher:
        publisher.publish(target.topic, b"waiting", 1)
    with Client(target.make("as it comes").port) as client:
        client.connect(f"{target.topic}-away", clean=False, username="someone")
        assert client.message(target.seconds).payload == b"waiting"


def test_window(target: Target) -> None:
    """A long queue is sent in portions that are acknowledged, not all at once [L7]."""
    with target.client("names", "away", clean=False) as client:
        client.subscribe((target.topic, 1))
        client.disconnect()
    with target.client("names", "pub") as publisher:
        for number in range(300):
            publisher.publish(target.topic, b"%d" % number, 1)
    with Client(target.make("names").port) as client:
        client.connect(f"{target.topic}-away", clean=False, username="someone")
        first = client.messages(300, 0.4, acknowledge=False)
        assert len(first) == Limits().inflight_messages
        client.acknowledge(first)
        got = first + client.messages(200)
        assert [int(m.payload) for m in got] == list(range(300))


def test_subscribing_during_a_fan_out(target: Target) -> None:
    """Who subscribes while a message is being handed out takes it from nobody [L8]."""
    topic = target.topic
    filters = [f"{topic}/x/y", f"{topic}/x/+", f"{topic}/x/#", f"{topic}/+/y", f"{topic}/+/+",
               f"{topic}/+/#", f"{topic}/#", f"{topic}/x/y/#"]  # fmt: skip
    with contextlib.ExitStack() as stack:
        crowd = []
        for number, one in enumerate(filters):
            crowd.append(stack.enter_context(target.client("suspends", f"sub{number}")))
            crowd[-1].subscribe(one)
        publisher = stack.enter_context(target.client("suspends", "pub"))
        newcomer = stack.enter_context(target.client("suspends", "new"))
        publisher.send(raw.publish_packet(f"{topic}/x/y", b"for all"))
        for number in range(10):
            newcomer.subscribe(f"{topic}/new/{number}")
        got = crowd[-1].messages(1, target.seconds)
        for client in crowd[:-1]:
            got += client.messages(1, target.seconds / 5)
    assert len(got) == len(filters)


def test_a_rule_that_fails_costs_one_message(target: Target) -> None:
    """After a topic that access control stumbles over the publisher is heard as before [L9]."""
    with target.client("raises", "sub") as subscriber, target.client("raises", "pub") as publisher:
        subscriber.subscribe(target.topic)
        publisher.send(raw.publish_packet("bad", b"x"), raw.publish_packet(target.topic, b"good"))
        assert subscriber.message(target.seconds).payload == b"good"


def test_early_acknowledgement(target: Target) -> None:
    """A PUBACK that arrives before the last byte was written is taken [L12]."""
    engine = target.make("names")
    with Client(engine.port, receive_buffer_bytes=4096) as subscriber:
        subscriber.connect(f"{target.topic}-sub", username="someone")
        subscriber.subscribe((target.topic, 1))
        before = engine.ask()["inflight"]
        with target.client("names", "pub") as publisher:
            size = 8 * MIB
            publisher.send(raw.publish_packet(target.topic, bytes(size), 1))
            publisher.expect(PUBACK, 10)
            head = subscriber.socket.recv(5 + 2 + len(target.topic) + 2, 0x100)  # MSG_WAITALL
            subscriber.send(raw.packet(0x40, head[-2:]))
            while size > 0:
                size -= len(subscriber.socket.recv(1_000_000))
            wait_until(
                lambda: engine.ask()["inflight"] == before,
                seconds=target.seconds,
                what="the acknowledgement",
            )


# -- security --


def test_failed_logins_leave_nothing(target: Target) -> None:
    """Who is refused leaves no session behind [A2]."""
    engine = target.make("names")
    before = engine.ask()["sessions"]
    for number in range(20):
        with Client(engine.port) as stranger:
            assert stranger.connect(f"{target.topic}{number}")[0] == 5
    wait_until(
        lambda: engine.ask()["sessions"] <= before, seconds=target.seconds, what="no session"
    )


def _device(authority: Authority) -> Pair:
    return authority.issue("S1.till")


def _knock(target: Target, brokers: Brokers, pair: Pair | None, **options: Any) -> int | None:
    """Connect as S1.till in TLS; return the code of CONNACK, None when TLS comes to nothing."""
    port = target.make("certificates").port
    try:
        with Client(port, tls=brokers.authority.client(pair)) as client:
            return client.connect(
                "S1.till", username="S1.till", password=token("S1.till").encode(), **options
            )[0]
    except (ssl.SSLError, ConnectionError, ClosedError):
        return None


def test_certificate_of_an_earlier_connection(target: Target, brokers: Brokers) -> None:
    """A session that is continued does not stand for the certificate it began with [A3]."""
    assert _knock(target, brokers, _device(brokers.authority), clean=False) == 0
    assert _knock(target, brokers, None, clean=False) in (5, None)


def test_certificate_can_be_demanded(target: Target) -> None:
    """A listener can be had that lets nobody in without a certificate [A4].

    With amqtt's plugin for names, as without any for certificates, TLS alone should do it.
    """
    authority = Authority(target.folder, "demanding")
    pair = authority.issue("broker")
    if target.is_ours:
        path = target.folder / "access.json"
        write(path, access(mutual_tls=True))
        engine: Any = Ours(access_file=path, tls=authority.server(client_ca=authority.file))
    else:
        engine = Plain(
            listener={
                "ssl": True,
                "cafile": str(authority.file),
                "certfile": str(pair.certificate),
                "keyfile": str(pair.key),
            }
        )
    try:
        with Client(engine.port, tls=authority.client()) as client:
            code, _ = client.connect(
                "S1.till", username="S1.till", password=token("S1.till").encode()
            )
            assert code == 5
    finally:
        engine.stop()


@contextlib.contextmanager
def _tool(target: Target) -> Iterator[Client]:
    name = "tool/someone"
    with Client(target.make("rules").port) as client:
        code, _ = client.connect(name, username=name, password=token(name).encode())
        assert code == 0
        yield client


def test_one_level_is_not_all_levels(target: Target) -> None:
    """Who may hear `a/+` may not subscribe to `a/#` [A6]."""
    with _tool(target) as tool:
        assert tool.subscribe("a/+", "a/b", "a/#") == [0, 0, 0x80]


def test_access_control_does_as_it_says(target: Target) -> None:
    """The manual's word on who is not spoken about holds [A7].

    amqtt's: a plugin that answers None is ignored, so what nobody forbids passes. Ours: what the
    policy does not clearly allow is denied, and without a policy everything passes.
    """
    if target.is_ours:
        for answer in (None, 0, ""):

            class Vague(AllowEverything):
                def allows(self, identity: Identity, action: Action, topic: str) -> Any:
                    return answer  # noqa: B023  # called within this turn

            engine = Ours(policy=Vague())
            try:
                with Client(engine.port) as client:
                    client.connect("x")
                    assert client.subscribe("a") == [0x80]
            finally:
                engine.stop()
    with (
        target.client("no opinion", "sub") as subscriber,
        target.client("no opinion", "pub") as publisher,
    ):
        assert subscriber.subscribe(target.topic) == [0]
        publisher.publish(target.topic, b"x", 1)
        assert subscriber.message(target.seconds).payload == b"x"


def test_authentication_is_cheap(target: Target) -> None:
    """Letting a client in costs so little that a chain can come back at once [A9]."""
    engine = target.make("tokens")
    spent = []
    for _ in range(5):
        before = engine.ask("cpu")["cpu_seconds"]
        with Client(engine.port) as client:
            code, _ = client.connect(
                "S1.till", username="S1.till", password=token("S1.till").encode()
            )
            assert code == 0
        spent.append(engine.ask("cpu")["cpu_seconds"] - before)
    assert min(spent) < 0.01  # the best: the rest has the machine's other work in it


def test_left_to_its_defaults(target: Target) -> None:
    """A broker that is told nothing can be reached from this machine alone [A11]."""
    if target.is_ours:
        host = EmbeddedBroker()._host
    else:
        host = str(BrokerConfig().listeners["default"].bind).rpartition(":")[0]
    assert is_loopback(host)


# -- memory and cost --

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # amqtt's settings


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_a_slow_reader_costs_no_memory(target: Target) -> None:
    """38 MiB for a client that does not read do not stay in memory [M1]."""
    engine = target.make("small")
    with Client(engine.port, receive_buffer_bytes=8192) as stuck:
        stuck.connect(f"{target.topic}-stuck", username="someone")
        stuck.subscribe(target.topic)
        with target.client("small", "pub") as publisher:
            before = engine.ask()["resident_bytes"]
            for _ in range(600):
                publisher.publish(target.topic, bytes(64 * 1024), 1)
            assert engine.ask()["resident_bytes"] - before < 16 * MIB


def test_a_stuck_subscriber_pins_nothing(target: Target) -> None:
    """What a healthy client was sent is done with, however stuck another one is [M2]."""
    engine = target.make("names")
    with Client(engine.port, receive_buffer_bytes=4096) as stuck:
        stuck.connect(f"{target.topic}-stuck", username="someone")
        stuck.subscribe((f"{target.topic}/stuck", 1))
        with target.client("names", "sub") as healthy, target.client("names", "pub") as publisher:
            healthy.subscribe(f"{target.topic}/healthy")
            publisher.publish(f"{target.topic}/stuck", bytes(8 * MIB), 1)
            before = engine.ask()["tasks"]
            for _ in range(200):
                publisher.publish(f"{target.topic}/healthy", b"x")
                healthy.message()
            assert engine.ask()["tasks"] <= before + 20


def test_unsubscribing_leaves_nothing(target: Target) -> None:
    """A filter that nobody has any more is gone [M4]."""
    engine = target.make("names")
    with target.client("names", "sub") as client:
        before = engine.ask()["filters"]
        for number in range(200):
            client.subscribe(f"{target.topic}/{number}")
            client.unsubscribe(f"{target.topic}/{number}")
        assert engine.ask()["filters"] == before


def _calls_of_publishing(engine: Any, publisher: Client, topic: str) -> int:
    engine.ask("count")
    for _ in range(50):
        publisher.publish(topic, b"x", 1)
    calls: int = engine.ask("counted")["calls"]
    return calls


def test_other_peoples_filters_cost_nothing(target: Target) -> None:
    """Routing a message costs the same whatever the others subscribe to [M5]."""
    engine = target.make("names")
    with target.client("names", "sub") as crowd, target.client("names", "pub") as publisher:
        few = _calls_of_publishing(engine, publisher, target.topic)
        for part in range(3):
            crowd.subscribe(*(f"{target.topic}/{part}/{n}" for n in range(1000)), seconds=30)
        many = _calls_of_publishing(engine, publisher, target.topic)
        crowd.disconnect()
    assert many < 2 * few


def _calls_of_connecting(target: Target, engine: Any, name: str) -> int:
    engine.ask("count")
    with target.client("small", name) as client:
        client.messages_so_far()
    calls: int = engine.ask("counted")["calls"]
    return calls


def test_connecting_does_not_look_at_everything(target: Target) -> None:
    """A CONNECT costs the same whatever is subscribed to and retained [M6]."""
    engine = target.make("small")
    few = _calls_of_connecting(target, engine, "first")
    with target.client("small", "pub") as publisher, target.client("small", "sub") as crowd:
        for number in range(200):
            publisher.publish(f"{target.topic}/r/{number}", b"x", 1, retain=True)
        crowd.subscribe(*(f"{target.topic}/s/{n}" for n in range(500)), seconds=30)
        many = _calls_of_connecting(target, engine, "second")
    assert many < 2 * few


def test_payloads_are_not_turned_into_text(target: Target) -> None:
    """No log line that nobody reads is made of a message [M7]."""
    engine = target.make("names")
    before = engine.ask()["shown"]
    with target.client("names", "sub") as subscriber:
        subscriber.subscribe("shown")
        engine.ask("publish")
        assert subscriber.message().payload == b"x"
    assert engine.ask()["shown"] == before


def test_sessions_are_small(target: Target) -> None:
    """A session is a handful of objects, not a machine of hundreds [M8]."""
    engine = target.make("names")
    with target.client("names", "first", clean=False):
        pass
    before = engine.ask()
    for number in range(50):
        with target.client("names", str(number), clean=False) as client:
            client.disconnect()
    after = engine.ask()
    sessions = after["sessions"] - before["sessions"]  # plain amqtt may drop an old one meanwhile
    assert sessions > 40
    assert (after["objects"] - before["objects"]) / sessions < 40


@pytest.mark.parametrize(
    "shutdown",
    [
        "ours",
        pytest.param(
            "plain",
            marks=[
                DEFECT,
                pytest.mark.skipif(
                    sys.version_info < (3, 12), reason="plain amqtt hangs since Python 3.12"
                ),
            ],
        ),
    ],
)
def test_stopping_with_an_idle_socket(shutdown: str) -> None:
    """A socket on which nothing was said does not keep the broker from stopping [M9]."""
    engine: Any = Ours() if shutdown == "ours" else Plain()
    try:
        with Client(engine.port):
            if shutdown == "ours":
                engine.ask("stop")
            else:
                engine.ask("stop", 2.0)
    finally:
        engine.stop()


# -- conformance --


def test_retained_is_not_sent_again_on_coming_back(target: Target) -> None:
    """Continuing a session is no SUBSCRIBE: what was retained is not sent again [3.8.4-3]."""
    with target.client("names", "pub") as publisher:
        publisher.publish(target.topic, b"kept", 1, retain=True)
    with target.client("names", "sub", clean=False) as client:
        client.subscribe(target.topic)
        assert client.message(target.seconds).payload == b"kept"
        client.disconnect()
    with target.client("names", "sub", clean=False) as client:
        assert client.messages(1, 0.5) == []


def test_a_will_is_retained_as_this_connection_asked(target: Target) -> None:
    """A session that is continued leaves its will as the last CONNECT says."""
    with target.client(
        "raises", "x", clean=False, will=(target.topic, b"gone", 1, False)
    ) as client:
        client.disconnect()
    with (
        target.client("raises", "watcher") as watcher,
        target.client("raises", "x", clean=False, will=(target.topic, b"gone", 1, True)) as client,
    ):
        watcher.subscribe(target.topic)
        client.cut()
        watcher.message(5.0)
    with target.client("raises", "later") as later:
        later.subscribe(target.topic)
        assert later.message(target.seconds).retain
