"""The gate, the meters and the sum of what waits, without sockets and without a clock."""

import logging

import pytest

from broker.gate import Gate, Refusal
from broker.limits import Limits, Rate
from broker.metering import Bucket, Meter, Regulars, Waiting
from broker.notices import Notices


class Socket:
    """A visitor that notes whether it was crowded out."""

    def __init__(self) -> None:
        """Be inside."""
        self.is_out = False

    def crowded_out(self) -> None:
        """Note."""
        self.is_out = True


def _arrive(gate: Gate, address: str, now: float, cost: float = 1) -> Socket | Refusal:
    one = Socket()
    return gate.arrive(one, address, now, cost=cost) or one


def _fail(gate: Gate, address: str, now: float) -> None:
    """Come and go without CONNECT, as often as counts for two."""
    one = _arrive(gate, address, now, cost=2)
    if isinstance(one, Socket):
        gate.leave(one, now)


class TestGate:
    """Who may come in."""

    def test_a_flood_from_one_address_is_refused_and_others_are_not(self) -> None:
        """Above its rate that address gets nothing, another one all it wants."""
        gate = Gate(Limits(strangers_per_second=300, strangers_burst=100))
        refused = 0
        for n in range(5000):  # a second of it
            now = n / 5000
            came = _arrive(gate, "10.0.0.1", now)
            if isinstance(came, Socket):
                gate.leave(came, now)
            else:
                assert came is Refusal.FLOOD
                refused += 1
            if n % 50 == 0:
                assert isinstance(_arrive(gate, "10.0.0.2", now), Socket)
        assert 5000 - refused == pytest.approx(100 + 300, abs=3)
        assert gate.refused == refused

    def test_who_authenticates_does_not_count(self) -> None:
        """A chain behind one address comes back all at once: nobody is refused."""
        gate = Gate(Limits(strangers_per_second=1, strangers_burst=10))
        for _ in range(5000):
            one = _arrive(gate, "10.0.0.1", 0.0, cost=2)
            assert isinstance(one, Socket)
            gate.know(one)
            gate.leave(one, 0.0)
        on_their_way = [_arrive(gate, "10.0.0.1", 0.0) for _ in range(4000)]
        for one in on_their_way:
            assert isinstance(one, Socket)
            gate.know(one)
        for _ in range(10):
            _fail(gate, "10.0.0.1", 0.0)
        assert _arrive(gate, "10.0.0.1", 0.0) is Refusal.FLOOD

    def test_a_crowd_that_fails_at_once_is_soon_forgiven(self) -> None:
        """A thousand clients whose line broke in the middle do not lock their address out."""
        gate = Gate(Limits(strangers_per_second=10, strangers_burst=10))
        crowd = [_arrive(gate, "a", 0.0) for _ in range(1000)]
        for one in crowd:
            assert isinstance(one, Socket)
            gate.leave(one, 1.0)
        assert _arrive(gate, "a", 1.0) is Refusal.FLOOD
        assert isinstance(_arrive(gate, "a", 1.3), Socket)

    def test_a_young_crowd_is_left_alone(self) -> None:
        """Before anybody had the time to say CONNECT the newcomer is refused, not the first."""
        gate = Gate(Limits(strangers_per_address=2, stranger_grace_seconds=2))
        first, _ = _arrive(gate, "a", 0.0), _arrive(gate, "a", 1.0)
        assert _arrive(gate, "a", 1.9) is Refusal.CROWD
        assert isinstance(_arrive(gate, "a", 2.0), Socket)
        assert isinstance(first, Socket)
        assert first.is_out

    def test_the_oldest_stranger_makes_room(self) -> None:
        """By address and in all; who is known is never crowded out."""
        gate = Gate(
            Limits(strangers=3, strangers_per_address=2, connections=100, stranger_grace_seconds=0)
        )
        known = _arrive(gate, "a", 0.0)
        assert isinstance(known, Socket)
        gate.know(known)
        first, second, third = (_arrive(gate, "a", 0.0) for _ in range(3))
        assert [s.is_out for s in (first, second, third)] == [True, False, False]
        other, another = _arrive(gate, "b", 0.0), _arrive(gate, "c", 0.0)
        assert [s.is_out for s in (second, third, other, another)] == [True, False, False, False]
        assert not known.is_out
        assert gate.strangers == 3
        for one in (first, second, third, other, another, known):
            gate.leave(one, 0.0)
            gate.leave(one, 0.0)
        assert gate.strangers == 0

    def test_full(self) -> None:
        """At the limit of connections a newcomer is refused; when one leaves there is room."""
        gate = Gate(Limits(connections=2))
        one, _ = _arrive(gate, "a", 0.0), _arrive(gate, "a", 0.0)
        assert _arrive(gate, "b", 0.0) is Refusal.FULL
        gate.leave(one, 0.0)
        assert isinstance(_arrive(gate, "b", 0.0), Socket)

    def test_a_network_of_ipv6_is_one_address(self) -> None:
        """Whoever has a /64 has all of it; an IPv4 address in IPv6 clothes is itself."""
        gate = Gate(Limits(strangers_burst=2, strangers_per_second=1))
        _fail(gate, "2001:db8:0:1::1", 0.0)
        assert _arrive(gate, "2001:db8:0:1:ffff::2", 0.0) is Refusal.FLOOD
        assert isinstance(_arrive(gate, "2001:db8:0:2::1", 0.0), Socket)
        assert isinstance(_arrive(gate, "fe80::1%eth0", 0.0), Socket)
        _fail(gate, "::ffff:10.0.0.1", 0.0)
        assert _arrive(gate, "10.0.0.1", 0.0) is Refusal.FLOOD
        assert isinstance(_arrive(gate, "::ffff:10.0.0.2", 0.0), Socket)

    def test_addresses_are_forgotten(self) -> None:
        """Twenty thousand addresses that came once are not kept."""
        gate = Gate(Limits(strangers_per_second=300, strangers_burst=300))
        for n in range(20_000):
            one = _arrive(gate, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", n / 100)
            assert isinstance(one, Socket)
            gate.leave(one, n / 100)
        assert len(gate._addresses) <= 2_000


class TestMeter:
    """What one client sends."""

    RATE = Rate(packets_per_second=100, bytes_per_second=10_000, burst_seconds=2)

    def test_a_burst_is_free_and_the_rest_is_held_back(self) -> None:
        """Two seconds' worth at once, then as fast as the rate."""
        meter = Meter(self.RATE, now=0.0)
        assert meter.charge(200, 0, 0.0) == 0
        assert meter.charge(50, 0, 0.0) == pytest.approx(0.5)
        assert meter.charge(0, 0, 0.5) == 0
        assert meter.charge(10, 0, 0.5) == pytest.approx(0.1)

    def test_bytes_count_too(self) -> None:
        """Whichever of both is exceeded by more."""
        meter = Meter(self.RATE, now=0.0)
        assert meter.charge(1, 25_000, 0.0) == pytest.approx(0.5)

    @pytest.mark.parametrize("late", [0.0, 0.001, 0.05])
    def test_whoever_never_stops_is_over_for_ever(self, late: float) -> None:
        """Also when it is read from a little later than was asked for."""
        meter = Meter(self.RATE, now=0.0)
        now = 0.0
        while now < 100:
            now += meter.charge(20, 0, now) + late
        assert meter.over_seconds(now) > 90

    def test_a_pause_makes_it_calm_again(self) -> None:
        """When half of the burst is there again the time starts anew."""
        meter = Meter(self.RATE, now=0.0)
        meter.charge(300, 0, 0.0)
        assert meter.over_seconds(1.0) == 1
        meter.charge(1, 0, 2.1)
        assert meter.over_seconds(2.1) == 0

    def test_calm_is_as_new(self) -> None:
        """When the whole burst is there again."""
        meter = Meter(self.RATE, now=0.0)
        meter.charge(100, 0, 0.0)
        assert not meter.is_calm(0.9)
        assert meter.is_calm(1.1)

    def test_bucket_does_not_overflow(self) -> None:
        """However long it was quiet or much was given back."""
        bucket = Bucket(10, 5, now=0.0)
        bucket.take(-100)
        assert bucket.fill(1000.0) == 5
        assert bucket.is_full


class TestWaiting:
    """The bytes of all clients together."""

    def test_measured_only_above_the_limit(self) -> None:
        """Below it nobody looks; above, once, and again only when a good deal more has come."""
        waiting = Waiting(1600)
        looks = []

        def relieve() -> int:
            looks.append(1)
            return 1550

        waiting.on_limit(relieve)
        for _ in range(16):
            waiting.change(100)
        assert not looks
        waiting.change(1)
        assert len(looks) == 1
        waiting.change(90)
        assert len(looks) == 1
        waiting.change(11)
        assert len(looks) == 2

    def test_relieving_may_count(self) -> None:
        """Cutting clients off changes the sum; that does not start it again."""
        waiting = Waiting(100)
        calls = []

        def relieve() -> int:
            calls.append(1)
            waiting.change(1000)
            return 0

        waiting.on_limit(relieve)
        waiting.change(101)
        assert len(calls) == 1


def test_notices_sum_up(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand warnings a second become twenty and one a second, and none is forgotten."""
    notices = Notices(logging.getLogger("test"))
    for n in range(3000):
        notices.tell("flood", n / 1000, "from %s", "here")
    notices.tell("other", 0.0, "something else")
    told = [r.getMessage() for r in caplog.records]
    assert 20 < len(told) < 26
    assert "something else" in told
    notices.tell("flood", 4.0, "from %s", "here")
    summed = sum(
        int(text.split("and ")[1].split()[0])
        for text in [*told, caplog.messages[-1]]
        if "and " in text
    )
    assert summed + len([t for t in told if t.startswith("from")]) + 1 == 3001


class TestRegulars:
    """What an identity does over all its connections."""

    RATE = Rate(packets_per_second=100, bytes_per_second=10_000, burst_seconds=2)

    def test_connects_have_a_rate(self) -> None:
        """A burst, then as many as the rate, however many are tried; another one is not touched."""
        regulars = Regulars(Limits(connects_per_second=2, connects_burst=5))
        tried = [regulars.come("a", self.RATE, n / 100) for n in range(1000)]
        let_in = [meter for meter in tried if meter is not None]
        assert 24 <= len(let_in) <= 25
        assert regulars.come("b", self.RATE, 10.0) is not None

    def test_the_meter_stays(self) -> None:
        """Who comes again is not at its burst again."""
        regulars = Regulars(Limits())
        first = regulars.come("a", self.RATE, 0.0)
        assert first is not None
        first.charge(300, 0, 0.0)
        again = regulars.come("a", self.RATE, 0.5)
        assert again is not None
        assert again.charge(0, 0, 0.5) == pytest.approx(0.5)

    def test_who_is_calm_is_forgotten(self) -> None:
        """Twenty thousand that came once are not kept; one that is in debt is."""
        regulars = Regulars(Limits())
        debtor = regulars.come("debtor", self.RATE, 0.0)
        assert debtor is not None
        debtor.charge(1_000_000, 0, 0.0)
        for n in range(20_000):
            regulars.come(f"c{n}", self.RATE, n / 100)
        assert len(regulars._known) <= 2_000
        assert regulars.come("debtor", self.RATE, 200.0) is debtor
