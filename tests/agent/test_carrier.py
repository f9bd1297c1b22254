"""Between core and link: order, patience, and nothing that spins."""

from collections.abc import Iterable, Sequence

import pytest

from buskit.link import Publication
from storeagent.carrier import Carrier
from storeagent.core import Publish, Subscribe


class _Link:
    """What a carrier uses of a link, with room for so many messages."""

    def __init__(self, room: int = 10) -> None:
        self.room = room
        self.connected = True
        self.calls: list[str] = []
        self.offers = 0

    def publish(self, publication: Publication) -> int | None:
        self.offers += 1
        if not self.connected or not self.room:
            return None
        self.room -= 1
        self.calls.append(publication.payload.decode())
        return 1

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> bool:
        self.calls.append("+" + ",".join(name for name, _ in filters))
        return self.connected

    def unsubscribe(self, filters: Iterable[str]) -> bool:
        self.calls.append("-" + ",".join(sorted(filters)))
        return self.connected


@pytest.fixture
def link() -> _Link:
    """A link that is connected."""
    return _Link()


@pytest.fixture
def carrier(link: _Link) -> Carrier:
    """A carrier on a new connection."""
    carrier = Carrier(link, qos=1)  # type: ignore[arg-type]
    carrier.connected()
    return carrier


def _say(*words: str) -> list[Publish]:
    return [Publish("t", word.encode()) for word in words]


def test_nothing_is_said_before_the_broker_listens_for_us(link: _Link, carrier: Carrier) -> None:
    """A hello waits for the SUBACK, or for five seconds when a broker never sends one."""
    carrier.carry([Subscribe(("a", "b")), *_say("hello")], 0.0)
    assert link.calls == ["+a,b"]
    carrier.subscribed()
    carrier.pump(0.1)
    assert link.calls == ["+a,b", "hello"]
    carrier.carry([Subscribe(("b", "c")), *_say("again")], 1.0)
    assert link.calls[2:] == ["-a", "+c"]
    carrier.pump(5.9)
    assert link.calls[4:] == []
    carrier.pump(6.1)
    assert link.calls[4:] == ["again"]


def test_what_the_broker_refuses_is_asked_for_again(link: _Link, carrier: Carrier) -> None:
    """Ever more slowly, as long as it is wanted; and nothing else waits for it."""
    carrier.carry([Subscribe(("a", "b"))], 0.0)
    carrier.subscribed(["b"], 0.0)
    carrier.carry(_say("hello"), 0.1)
    assert link.calls == ["+a,b", "hello"]
    carrier.pump(0.9)
    assert link.calls[2:] == []
    carrier.pump(1.1)
    assert link.calls[2:] == ["+b"]
    carrier.subscribed(["b"], 1.1)
    carrier.pump(3.0)
    assert link.calls[3:] == []
    carrier.pump(3.2)
    assert link.calls[3:] == ["+b"]
    carrier.subscribed((), 3.2)
    carrier.pump(1_000.0)
    assert link.calls[4:] == []
    carrier.carry([Subscribe(("a",))], 1_000.0)
    assert link.calls[4:] == ["-b"]


def test_what_is_refused_and_not_wanted_any_more_is_forgotten(
    link: _Link, carrier: Carrier
) -> None:
    """Nor is it unsubscribed, for it never was subscribed; and a new connection begins anew."""
    carrier.carry([Subscribe(("a", "b"))], 0.0)
    carrier.subscribed(["b"], 0.0)
    carrier.carry([Subscribe(("a",))], 0.5)
    carrier.pump(1_000.0)
    assert link.calls == ["+a,b"]
    carrier.carry([Subscribe(("a", "b"))], 1_000.0)
    carrier.subscribed(["b"], 1_000.0)
    carrier.connected()
    carrier.pump(2_000.0)
    assert link.calls == ["+a,b", "+b"]


def test_what_may_have_been_ended_is_subscribed_again(link: _Link, carrier: Carrier) -> None:
    """Although it is subscribed as far as we know."""
    carrier.carry([Subscribe(("a", "b", "c"))], 0.0)
    carrier.subscribed()
    carrier.carry([Subscribe(("a", "b", "d"), again=("b",))], 1.0)
    assert link.calls == ["+a,b,c", "-c", "+b,d"]


def test_a_link_without_room_is_offered_one_message_a_round(link: _Link, carrier: Carrier) -> None:
    """What does not fit waits in order; a round costs one offer, not one for each message."""
    link.room = 2
    carrier.carry(_say(*"abcdefgh"), 0.0)
    assert link.calls == ["a", "b"]
    link.offers = 0
    for _ in range(5):
        carrier.pump(1.0)
    assert link.offers == 5
    link.room = 100
    carrier.carry(_say("i"), 2.0)
    assert link.calls == list("abcdefghi")


def test_what_waits_ends_with_the_connection(link: _Link, carrier: Carrier) -> None:
    """The protocol sends it again; an old message must not come out of a new connection."""
    link.room = 0
    carrier.carry(_say("old"), 0.0)
    link.connected = False
    carrier.pump(0.1)
    link.connected, link.room = True, 10
    carrier.connected()
    carrier.carry(_say("new"), 0.2)
    assert link.calls == ["new"]
