"""A session on its own: window, queue and packet identifiers, without sockets."""

import random

import pytest

from broker.access import Identity
from broker.errors import CloseReason
from broker.limits import Limits
from broker.packets import Message
from broker.session import Session


class Sink:
    """An outlet that keeps what it is given."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.sent: list[bytes] = []
        self.ends: list[CloseReason] = []

    def send(self, data: bytes) -> None:
        """Keep."""
        self.sent.append(data)

    def end(self, reason: CloseReason, detail: str = "") -> None:
        """Note."""
        self.ends.append(reason)


def _session(**limits: int) -> Session:
    return Session("c", Identity("c"), Limits(**limits), clean=False)


def _packet_id(publish: bytes) -> int:
    return int.from_bytes(publish[5:7], "big")


def test_packet_identifiers_go_round() -> None:
    """200,000 messages later identifiers are 1 to 65535 and never in use twice [L7]."""
    session, sink = _session(inflight_messages=5), Sink()
    session.resume(sink)
    message = Message("a", b"x", 1)
    stuck = 3
    session.deliver(message, 1)
    in_flight: list[int] = []
    for _ in range(140_000):
        session.deliver(message, 1)
        in_flight.extend(_packet_id(data) for data in sink.sent)
        sink.sent.clear()
        assert len(set(in_flight)) == len(in_flight)
        oldest = in_flight.pop(0 if in_flight[0] != stuck else 1)
        assert 1 <= oldest <= 65_535
        session.on_puback(oldest)
    assert stuck in in_flight


def test_a_queue_beyond_all_identifiers() -> None:
    """66,000 messages wait for a client that is away, and all arrive in order [L7]."""
    session = _session()
    for number in range(66_000):
        session.deliver(Message("a", b"%d" % number, 1), 1)
    sink = Sink()
    session.resume(sink)
    got = []
    while sink.sent:
        sent, sink.sent = sink.sent, []
        for data in sent:
            got.append(int(data[7:]))
            session.on_puback(_packet_id(data))
    assert got == list(range(66_000))
    assert (session.waiting_messages, session.waiting_bytes) == (0, 0)
    assert not sink.ends


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_over_cuts(seed: int) -> None:
    """Whatever order of deliveries, acknowledgements and cuts: each once, and in order."""
    rng = random.Random(seed)
    print("seed", seed)
    session = _session(inflight_messages=4)
    outlet: Sink | None = None
    got: list[int] = []
    held: set[int] = set()
    pending: list[bytes] = []
    published = 0
    steps = 0
    while published < 300 or session.waiting_messages or pending:
        steps += 1
        assert steps < 50_000
        step = rng.random()
        if outlet is None:
            outlet = Sink()
            session.resume(outlet)
        elif step < 0.05:
            session.outlet = outlet = None
            pending.clear()
        elif step < 0.4 and published < 300:
            session.deliver(Message("a", b"%d" % published, published % 2 + 1), published % 2 + 1)
            published += 1
        elif pending:
            data = pending.pop(0)
            number = int.from_bytes(data[2:4], "big")
            if data[0] == 0x62:
                held.discard(number)
                session.on_pubcomp(number)
            elif data[0] & 0x06 == 0x04:
                number = _packet_id(data)
                if number not in held:
                    got.append(int(data[7:]))
                    held.add(number)
                session.on_pubrec(number)
            else:
                # At QoS 1 it may come again, marked so; only the last one can.
                if not (data[0] & 0x08 and int(data[7:]) in got):
                    got.append(int(data[7:]))
                session.on_puback(_packet_id(data))
        if outlet is not None:
            pending += outlet.sent
            outlet.sent.clear()
    assert sorted(got) == list(range(300))
    for parity in (0, 1):
        assert [n for n in got if n % 2 == parity] == list(range(parity, 300, 2))
    assert session.waiting_bytes == 0
