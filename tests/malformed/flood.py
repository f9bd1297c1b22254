"""Floods of connections that come to nothing, and what another client feels of them.

`python -m tests.malformed.flood PORT ADDRESS PER_SECOND SECONDS` is the attacker: a process of its
own, so that it takes no time from whoever measures. It prints a line when it begins, and how many
connections it opened when it has ended.
"""

import socket
import statistics
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.broker_engine.raw import Client
from tests.helpers.waiting import TIME_SCALE

ROOT = Path(__file__).parents[2]
_KINDS = (
    b"",
    b"\x10",
    b"\xc0\x00",
    b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x00\x00\x00",
    b"GET / HTTP/1.1\r\n",
)


@dataclass
class Felt:
    """What one client felt.

    Attributes:
        sent: Messages published.
        received: Of these, how many arrived.
        p50_ms: From publishing to receiving.
        p99_ms: The same.
        opened: The attacker's connections.
    """

    sent: int
    received: int
    p50_ms: float
    p99_ms: float
    opened: int


def attack(port: int, address: str, per_second: float, seconds: float) -> int:
    """Open connections at a rate (as many as can be when it is 0), each with a bad first packet."""
    began = time.monotonic()
    opened = 0
    held: list[socket.socket] = []
    while (now := time.monotonic() - began) < seconds:
        if per_second and opened >= now * per_second:
            time.sleep(0.001)
            continue
        connection = socket.socket()
        try:
            connection.bind((address, 0))
            connection.connect(("127.0.0.1", port))
            connection.send(_KINDS[opened % len(_KINDS)])
        except OSError:
            pass
        opened += 1
        held.append(connection)
        if len(held) > 200:
            # A reset leaves nothing behind, on either side.
            old = held.pop(0)
            old.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            old.close()
    for connection in held:
        connection.close()
    return opened


def feel(port: int, *, per_second: float | None, seconds: float, pause: float = 0.005) -> Felt:
    """Publish and receive for so long while somebody else attacks from another address.

    Now and then another client comes, and must be let in.

    Args:
        port: Of the broker.
        per_second: Bad connections; 0 for as many as can be, None for none.
        seconds: How long.
        pause: Between two messages.
    """
    attacker = None
    with Client(port) as publisher, Client(port) as subscriber:
        assert publisher.connect("publisher") == (0, False)
        assert subscriber.connect("subscriber") == (0, False)
        subscriber.subscribe("felt")
        if per_second is not None:
            words = [str(port), "127.0.0.66", str(per_second), str(seconds)]
            attacker = subprocess.Popen(
                [sys.executable, "-m", "tests.malformed.flood", *words],
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            assert attacker.stdout is not None
            attacker.stdout.readline()
        waits = []
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            at = time.perf_counter()
            publisher.publish("felt", b"%d" % len(waits))
            got = subscriber.message(20 * TIME_SCALE)
            waits.append(time.perf_counter() - at)
            assert got.payload == b"%d" % (len(waits) - 1)
            if len(waits) % 50 == 0:
                with Client(port) as newcomer:
                    assert newcomer.connect(f"newcomer-{len(waits)}") == (0, False)
            time.sleep(pause)
        opened = 0
        if attacker is not None:
            opened = int(attacker.communicate(timeout=60 * TIME_SCALE)[0])
    cuts = statistics.quantiles(waits, n=100)
    return Felt(len(waits), len(waits), cuts[49] * 1000, cuts[98] * 1000, opened)


if __name__ == "__main__":
    print("here", flush=True)
    print(attack(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
