"""Sends cases to a broker and compares what comes of them with what must.

Many connections at a time: all send, then each is read to its end. A witness who subscribes to
everything hears what was routed; a sentinel behind each batch says that there is no more.
"""

import itertools
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from tests.broker_engine.raw import CONNACK, PUBLISH, SUBACK, Client
from tests.helpers.waiting import TIME_SCALE
from tests.malformed import websocket
from tests.malformed.cases import Case, Verdict
from tests.malformed.judge import Judge, Outcome

BATCH = 100


@dataclass
class Report:
    """What was sent and what was wrong."""

    cases: int = 0
    wrong: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Shot:
    """A case as it is sent.

    Attributes:
        case: Which.
        outcome: What must come of it.
        stream: The bytes on the wire.
        port: Where to.
        unwrapped: Gives the MQTT in what comes back.
        greeting: What is sent before, and answered.
    """

    case: Case
    outcome: Outcome
    stream: bytes
    port: int
    unwrapped: Callable[[bytes], bytes] = bytes
    greeting: bytes = b""


class Driver:
    """One attacker with a witness."""

    def __init__(
        self,
        port: int,
        websocket_port: int | None = None,
        *,
        seconds: float = 5.0,
        username: str | None = None,
    ) -> None:
        """Connect the witness and who speaks for the sentinels.

        Args:
            port: Of MQTT over TCP.
            websocket_port: Of MQTT over WebSocket.
            seconds: How long the broker may take to close.
            username: Of these two, where the broker wants one.
        """
        self._port = port
        self._websocket_port = websocket_port or 0
        self._seconds = seconds
        self.report = Report()
        self._witness = Client(port)
        assert self._witness.connect("witness", username=username) == (0, False)
        assert self._witness.subscribe("#") == [0]
        self._control = Client(port)
        assert self._control.connect("control", username=username) == (0, False)
        self._numbers = itertools.count()

    def close(self) -> None:
        """Close both."""
        self._witness.close()
        self._control.close()

    def run(self, cases: Iterable[Case]) -> None:
        """Send cases over TCP, in batches."""
        self._run(Shot(case, _outcome(case), case.stream, self._port) for case in cases)

    def run_wrapped(self, cases: Iterable[Case], random: Random) -> None:
        """Send cases over WebSocket, in frames of any size: the same must come of them."""
        self._run(
            Shot(
                case,
                _outcome(case),
                websocket.wrapped(case, random),
                self._websocket_port,
                websocket.unwrapped,
                websocket.REQUEST,
            )
            for case in cases
        )

    def run_garbage(self, cases: Iterable[Case]) -> None:
        """Send what is no WebSocket to where one is expected."""
        for_all = (
            Shot(
                case,
                Outcome(closes=case.verdict is Verdict.CLOSE, is_open=True, why="close"),
                case.stream,
                self._websocket_port,
                lambda _: b"",  # whatever it says to garbage
            )
            for case in cases
        )
        self._run(for_all)

    def _run(self, shots: Iterable[Shot]) -> None:
        source = iter(shots)
        while batch := list(itertools.islice(source, BATCH)):
            for shot, connection in [(shot, self._send(shot)) for shot in batch]:
                self._judge(shot, connection)
                connection.close()
            self._compare(batch)
            self.report.cases += len(batch)

    def _send(self, shot: Shot) -> socket.socket:
        connection = socket.socket()
        connection.settimeout(self._seconds * TIME_SCALE)
        # From many addresses, so that ports do not run out with the connections that are just over.
        number = next(self._numbers)
        connection.bind((f"127.0.{number % 3}.{number % 199 + 1}", 0))
        connection.connect(("127.0.0.1", shot.port))
        try:
            if shot.greeting:
                connection.sendall(shot.greeting)
                connection.recv(4096)
            connection.sendall(shot.stream)
            if not shot.outcome.closes:
                connection.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # closed on the first bytes already
        return connection

    def _judge(self, shot: Shot, connection: socket.socket) -> None:
        case, outcome = shot.case, shot.outcome
        self.report.verdicts[
            "closed" if outcome.closes else "either" if outcome.is_open else "gone on with"
        ] += 1
        received = bytearray()
        try:
            while data := connection.recv(65_536):
                received += data
        except ConnectionError:
            pass
        except TimeoutError:
            self._wrong(case, f"still open after {self._seconds} s: {outcome.why or 'the end'}")
            return
        code, replies = _replies(shot.unwrapped(bytes(received)))
        expected = outcome.replies
        if outcome.is_open:
            replies = replies[: len(expected)]
        if code != outcome.connack and not (outcome.is_open or (outcome.connack is None and code)):
            self._wrong(case, f"CONNACK {code} instead of {outcome.connack}")
        elif replies != expected and case.verdict is not Verdict.EITHER:
            self._wrong(case, f"answered {replies} instead of {expected}")

    def _compare(self, batch: list[Shot]) -> None:
        sentinel = f"sentinel/{next(self._numbers)}"
        self._control.publish(sentinel, b"", 1)
        heard: Counter[tuple[str, bytes]] = Counter()
        while (message := self._witness.message(20.0)).topic != sentinel:
            if not message.retain:  # that is from before this witness came
                heard[message.topic, message.payload] += 1
        must: Counter[tuple[str, bytes]] = Counter()
        may: Counter[tuple[str, bytes]] = Counter()
        for shot in batch:
            must.update(one for one in shot.outcome.routed if not one[0].startswith("$"))
            may.update(shot.outcome.maybe)
        # What a changed WebSocket still has inside, nobody can say.
        anything = any(shot.case.name == websocket.CHANGED for shot in batch)
        routed = Counter() if anything else heard - must - may
        for what, found in (("routed", routed), ("lost", must - heard)):
            for topic, payload in found:
                words = topic.encode()[:40]
                culprits = [shot.case for shot in batch if words in shot.case.stream]
                self._wrong(
                    (culprits or [batch[0].case])[0], f"{what}: {topic[:60]!r} {payload[:20]!r}"
                )

    def _wrong(self, case: Case, what: str) -> None:
        self.report.wrong.append(f"{case.name}: {what}; {case.stream[:300].hex()}")


def _outcome(case: Case) -> Outcome:
    """What must come of a case: by hand where its verdict is written, by the judge otherwise."""
    outcome = Judge().judge(case.stream)
    if case.verdict is Verdict.EITHER:
        outcome.maybe += outcome.routed
        return Outcome(maybe=outcome.maybe, is_open=True)
    if case.verdict is not None:
        # The judge says in which order and with which answers, the hand what comes of it.
        outcome.closes = case.verdict is Verdict.CLOSE or outcome.closes
        if case.connack is not None:
            outcome.connack = case.connack
    return outcome


def _replies(received: bytes) -> tuple[int | None, list[bytes]]:
    """Take the broker's packets apart: the code of CONNACK, and all others but PUBLISH."""
    code: int | None = None
    replies = []
    position = 0
    while position < len(received):
        first, length, shift = received[position], 0, 0
        start = position + 1
        while start < len(received):
            length |= (received[start] & 127) << shift
            shift += 7
            start += 1
            if received[start - 1] < 128:
                break
        end = start + length
        kind = first >> 4
        body = received[start:end]
        if kind == CONNACK and len(body) == 2:
            code = body[1]
        elif kind == SUBACK:
            # How much is granted is the broker's choice.
            replies.append(received[position : start + 2] + bytes(len(body) - 2))
        elif kind != PUBLISH:
            replies.append(received[position:end])
        position = end
    return code, replies
