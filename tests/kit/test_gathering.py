"""What links hand to daemons: in order, bounded, in batches."""

import signal
import threading

from buskit.gathering import RUNG, Gathering, GatheringLimits
from buskit.link_settings import Connected, Disconnected, Received

LIMITS = GatheringLimits(batch_events=4, batch_bytes=100, waiting_messages=6, waiting_bytes=300)


def message(size_bytes: int = 1) -> Received:
    """A message of a size."""
    return Received("a", b"x" * size_bytes, False)


def test_all_that_is_there_is_one_batch_in_its_order() -> None:
    """One waits for the first event only, and rings are events among the others."""
    gathering = Gathering(LIMITS)
    assert gathering.take(0.0) == []
    for one in (Connected("b"), message(), Disconnected("c")):
        gathering.put(one)
    gathering.ring()
    assert gathering.take(0.0) == [Connected("b"), message(), Disconnected("c"), RUNG]
    assert gathering.take(0.0) == []


def test_a_batch_is_bounded_in_number_and_in_bytes() -> None:
    """What is left over comes with the next one."""
    gathering = Gathering(LIMITS)
    for _ in range(6):
        gathering.put(message())
    assert [len(gathering.take(0.0)) for _ in range(3)] == [4, 2, 0]
    for _ in range(3):
        gathering.put(message(60))
    assert [len(gathering.take(0.0)) for _ in range(3)] == [2, 1, 0]


def test_what_waits_is_bounded_and_what_is_dropped_is_counted() -> None:
    """Messages beyond the bounds are dropped; word of the link never is; taking makes room."""
    gathering = Gathering(LIMITS)
    for _ in range(10):
        gathering.put(message())
    gathering.put(Disconnected("c"))
    assert gathering.dropped() == 3
    assert gathering.dropped() == 0
    taken = [one for _ in range(3) for one in gathering.take(0.0)]
    assert taken == [message()] * 7 + [Disconnected("c")]
    for _ in range(4):
        gathering.put(message(200))
    assert gathering.dropped() == 2
    assert [gathering.take(0.0) for _ in range(3)] == [[message(200)]] * 2 + [[]]
    gathering.put(message(200))
    assert gathering.dropped() == 0


def test_the_account_of_what_waits_holds_with_many_threads() -> None:
    """After many put and one has taken all, as much fits as at the beginning."""
    gathering = Gathering(LIMITS)
    putters = [
        threading.Thread(target=lambda: [gathering.put(message(3)) for _ in range(500)])
        for _ in range(4)
    ]
    for thread in putters:
        thread.start()
    taken = 0
    while any(thread.is_alive() for thread in putters):
        taken += len(gathering.take(0.001))
    while batch := gathering.take(0.0):
        taken += len(batch)
    assert taken + gathering.dropped() == 2_000
    for _ in range(7):
        gathering.put(message())
    assert gathering.dropped() == 0


def test_a_signal_handler_may_ring_while_a_message_is_handed_over() -> None:
    """The handler runs in the middle of anything, also of the code that holds the guard."""
    gathering = Gathering(LIMITS)
    before = signal.signal(signal.SIGINT, lambda *_: gathering.ring())
    try:
        with gathering._guard:
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert gathering.take(0.0) == [RUNG]
