"""The seams of security are asked at the right moment, and their word holds."""

from dataclasses import dataclass, field

import pytest

from broker.access import (
    Action,
    AllowEverything,
    AnyoneMayConnect,
    Credentials,
    Identity,
)
from tests.broker_engine.engines import Start, connected
from tests.broker_engine.raw import Client
from tests.helpers.waiting import wait_until


@dataclass
class Notes:
    """A policy that notes what it is asked, and refuses what is listed."""

    refused: set[tuple[Action, str]] = field(default_factory=set)
    asked: list[tuple[str, Action, str]] = field(default_factory=list)
    checks_delivery: bool = True

    def allows(self, identity: Identity, action: Action, topic: str) -> bool:
        """Note and answer."""
        self.asked.append((identity.name, action, topic))
        return (action, topic) not in self.refused


class Raises:
    """A policy and authenticator with a defect."""

    checks_delivery = True

    def allows(self, identity: Identity, action: Action, topic: str) -> bool:
        """Fail."""
        raise RuntimeError(topic)

    def authenticate(self, credentials: Credentials) -> Identity | None:
        """Fail."""
        raise RuntimeError(credentials.client_id)


def test_each_action_is_asked_about(start: Start) -> None:
    """Publish, retain, subscribe, receive and will are asked about with the identity."""
    policy = Notes()
    engine = start(policy=policy)
    with connected(engine.port, "c", username="ann", will=("w", b"", 0, True)) as client:
        client.subscribe("a/+")
        client.publish("a/b", b"x", retain=True)
        client.messages_so_far()
        # Before the client is gone, which has the will asked about again.
        assert policy.asked == [
            ("ann", Action.WILL, "w"),
            ("ann", Action.RETAIN, "w"),
            ("ann", Action.SUBSCRIBE, "a/+"),
            ("ann", Action.PUBLISH, "a/b"),
            ("ann", Action.RETAIN, "a/b"),
            ("ann", Action.RECEIVE, "a/b"),
        ]


def test_refused_publish_reaches_nobody(start: Start) -> None:
    """It is acknowledged, delivered to none and not retained; the connection goes on."""
    engine = start(policy=Notes({(Action.PUBLISH, "a"), (Action.RETAIN, "b")}))
    with connected(engine.port) as client:
        client.subscribe("#")
        for qos in (0, 1, 2):
            client.publish("a", b"x", qos, retain=True)
            client.publish("b", b"x", qos, retain=True)
        client.publish("c", b"fine")
        assert [m.topic for m in client.messages_so_far()] == ["c"]
        assert engine.status().retained == 0


def test_refused_subscription(start: Start) -> None:
    """SUBACK says 0x80 for that filter alone, and nothing comes by it."""
    engine = start(policy=Notes({(Action.SUBSCRIBE, "a")}))
    with connected(engine.port) as client:
        client.publish("a", b"kept", 1, retain=True)
        assert client.subscribe(("a", 1), ("b", 1)) == [0x80, 1]
        client.publish("a", b"x")
        assert client.messages_so_far() == []


def test_delivery_is_checked_too(start: Start) -> None:
    """A wildcard that was granted does not bring what may not be received, live or retained."""
    engine = start(policy=Notes({(Action.RECEIVE, "a/secret")}))
    with connected(engine.port) as client:
        client.publish("a/secret", b"kept", 1, retain=True)
        client.subscribe("a/#")
        client.publish("a/secret", b"x")
        client.publish("a/fine", b"x")
        assert [m.topic for m in client.messages_so_far()] == ["a/fine"]


@pytest.mark.parametrize("action", [Action.WILL, Action.RETAIN])
def test_refused_will_refuses_the_connection(start: Start, action: Action) -> None:
    """Who may not leave that will is told so at once, with CONNACK 5."""
    engine = start(policy=Notes({(action, "w")}))
    with Client(engine.port) as client:
        assert client.connect("x", will=("w", b"", 0, True)) == (5, False)
        client.expect_closed()
    assert engine.status().sessions == 0


def test_a_policy_that_raises_allows_nothing(start: Start) -> None:
    """A defect of the policy closes the door, and the broker goes on."""
    engine = start(policy=Raises())
    with connected(engine.port) as client:
        assert client.subscribe("a") == [0x80]
        client.publish("a", b"x", 1)
        assert client.is_served()


def test_an_authenticator_that_raises_lets_nobody_in(start: Start) -> None:
    """A defect of the authenticator closes the door, with CONNACK 5."""
    engine = start(authenticator=Raises())
    with Client(engine.port) as client:
        assert client.connect("x") == (5, False)


def test_authentication_comes_before_any_session(start: Start) -> None:
    """Refused clients leave no session, publish no will and take nothing over [A1, A2]."""

    class Selective:
        def authenticate(self, credentials: Credentials) -> Identity | None:
            return Identity("ann") if credentials.password == b"right" else None

    engine = start(authenticator=Selective())
    with connected(engine.port, "ann", username="ann", password=b"right", clean=False) as owner:
        owner.subscribe(("#", 1))
        for number in range(50):
            with Client(engine.port) as stranger:
                refused = stranger.connect(
                    "ann", clean=bool(number % 2), will=("w", b"", 0, False),
                    username="ann", password=b"wrong",
                )  # fmt: skip
                assert refused == (5, False)
                stranger.expect_closed()
        assert owner.messages_so_far() == []
        wait_until(lambda: engine.status().connections == 1, what="the strangers to be gone")
        assert engine.status().sessions == 1


def test_credentials_hide_the_password() -> None:
    """The password does not slip into a log by way of the representation."""
    shown = repr(
        Credentials(client_id="c", username="u", password=b"hunter2", peer_address="[::1]:1")
    )
    assert "hunter2" not in shown


def test_the_permissive_pair() -> None:
    """Everybody may connect as who they say they are, and do all but speak as a broker."""
    known = Credentials(client_id="c", username="u", password=None, peer_address="")
    unknown = Credentials(client_id="c", username=None, password=None, peer_address="")
    assert AnyoneMayConnect().authenticate(known) == Identity("u")
    assert AnyoneMayConnect().authenticate(unknown) == Identity("c")
    policy = AllowEverything()
    for action in Action:
        assert policy.allows(Identity("u"), action, "a/b")
    assert not policy.allows(Identity("u"), Action.PUBLISH, "$SYS/broker/uptime")
    assert not policy.allows(Identity("u"), Action.WILL, "$SYS/x")
    assert policy.allows(Identity("u"), Action.SUBSCRIBE, "$SYS/#")
