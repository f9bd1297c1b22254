"""Malformed MQTT ends its own connection and nothing else.

Some thousands of cases pass here, some hundred thousand in `make faults`. The seed is printed;
STOREBUS_FAULTS_SEED plays one again.
"""

import itertools
import socket
from collections.abc import Iterator
from random import Random

import pytest

from broker.limits import Limits
from tests.broker_engine.engines import Plain
from tests.broker_engine.raw import Client, connect_packet, publish_packet
from tests.faults.seeds import seed_of_this_run
from tests.helpers.waiting import wait_until
from tests.malformed import cases, websocket
from tests.malformed.cases import Case, Verdict
from tests.malformed.drive import Driver
from tests.malformed.flood import feel
from tests.malformed.judge import Judge
from tests.malformed.target import Target

SHOWN = 5


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """Run a broker for this module; at its end it must be as well as at the beginning."""
    with Target() as running:
        yield running
        assert running.is_up
        assert "Traceback" not in running.log()
        assert "defect" not in running.log()


@pytest.fixture
def driver(target: Target) -> Iterator[Driver]:
    """Give somebody who sends cases; when the test is over nothing may have been wrong."""
    made = Driver(target.port, target.websocket_port)
    yield made
    made.close()
    print(f"{made.report.cases} cases: {dict(made.report.verdicts)}")
    wrong = made.report.wrong
    assert not wrong, f"{len(wrong)} of {made.report.cases} wrong\n" + "\n".join(wrong[:SHOWN])


@pytest.fixture
def random() -> Random:
    """Draw as the seed of this run has it."""
    return Random(seed_of_this_run())


def test_every_fault_that_has_a_name(driver: Driver, random: Random) -> None:
    """What the standard forbids closes the connection, and nothing of it is routed."""
    driver.run(cases.crafted(random))
    assert driver.report.cases > 1_000


def test_sessions_that_end_at_any_byte(driver: Driver, random: Random) -> None:
    """What was complete counts, what is cut off does not, and the will is published."""
    for _ in range(3):
        driver.run(cases.truncated(random))


def test_sessions_with_a_few_bytes_changed(driver: Driver, random: Random) -> None:
    """Of each, all that the standard says comes, and no more: answers, messages, will, end."""
    driver.run(itertools.islice(cases.mutated(random), 1_500))


def test_the_same_over_websocket(driver: Driver, random: Random) -> None:
    """However the bytes are cut into frames, the same comes of them."""
    some = random.sample(list(cases.crafted(random)), 200)
    driver.run_wrapped(some, random)
    driver.run_wrapped(itertools.islice(cases.mutated(random), 200), random)


def test_what_is_no_websocket(driver: Driver, random: Random) -> None:
    """A handshake or a frame that cannot be ends the connection."""
    driver.run_garbage(websocket.garbage(random))
    session = websocket.REQUEST + websocket.wrapped(next(cases.mutated(random)), random)
    driver.run_garbage(websocket.mutated(random, session) for _ in range(100))


def test_the_judge_agrees_with_what_was_written_by_hand(random: Random) -> None:
    """Two readings of the standard, case by case; where they differ one of them is wrong."""
    for case in cases.crafted(random):
        outcome = Judge().judge(case.stream)
        if case.verdict is Verdict.CLOSE:
            assert outcome.closes, case
            assert not any(cases.MARK in topic for topic, _ in outcome.routed), case
        elif case.verdict is Verdict.GO_ON:
            assert not outcome.is_open, case
            assert not outcome.closes or "DISCONNECT" in outcome.why, case
        if case.connack is not None:
            assert outcome.connack == case.connack, case


def test_a_broker_that_lets_faults_pass_is_noticed(random: Random) -> None:
    """Plain amqtt takes what follows a bad topic for packets, and keeps connections open."""
    plain = Plain()
    try:
        hello = connect_packet("somebody", username="somebody")
        faults = [
            Case("wildcard", hello + publish_packet("a/+", b"x") + b"\xc0\x00", Verdict.CLOSE),
            Case("PINGREQ first", b"\xc0\x00", Verdict.CLOSE),
        ]
        attacker = Driver(plain.port, seconds=0.7, username="somebody")
        attacker.run(faults)
        attacker.close()
        assert len(attacker.report.wrong) >= len(faults)
    finally:
        plain.stop()


def test_half_open_sockets_are_closed_and_hold_up_nobody(target: Target) -> None:
    """Hundreds that say nothing, or half a CONNECT, end at the deadline; others are served."""
    before = target.descriptors()
    whole = connect_packet("half")
    sockets = []
    for number in range(300):
        connection = socket.create_connection(("127.0.0.1", target.port))
        connection.sendall(whole[: number % len(whole)])
        sockets.append(connection)
    with Client(target.port) as other:
        assert other.connect("other") == (0, False)
        wait_until(
            lambda: other.is_served() and target.descriptors() <= before + 1,
            what="the half-open sockets closed by the broker",
        )
        for connection in sockets:
            connection.settimeout(1)
            assert connection.recv(100) == b""
            connection.close()


def test_a_connect_byte_by_byte_does_not_outlive_its_deadline(target: Target) -> None:
    """Every byte comes in time, and the CONNECT does not."""
    whole = connect_packet("slow" * 50)
    with Client(target.port) as slow, Client(target.port) as other:
        assert other.connect("other") == (0, False)
        rest = iter(whole)

        def is_closed() -> bool:
            assert other.is_served()
            slow.socket.settimeout(0.05)
            try:
                slow.socket.sendall(bytes([next(rest)]))
                return slow.socket.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        wait_until(is_closed, what="the slow CONNECT closed")
        assert next(rest, None) is not None


def test_a_flood_is_refused_and_not_the_others() -> None:
    """While one address floods, everything that another publishes arrives, and it may come in."""
    limits = Limits()
    with Target(
        strangers_per_second=limits.strangers_per_second, strangers_burst=limits.strangers_burst
    ) as flooded:
        felt = feel(flooded.port, per_second=0, seconds=3.0)
        print(felt)
        assert felt.received == felt.sent > 0
        assert felt.opened > limits.strangers_burst
        with Client(flooded.port) as newcomer:
            assert newcomer.connect("newcomer") == (0, False)
        assert "too many connections from its address" in flooded.log()
        assert flooded.is_up
