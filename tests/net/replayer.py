"""Somebody in the middle who has kept every message and says all of them again.

Owns what passed between one client and the broker, over all connections and restarts, and putting
it in again, each message whole. It alters nothing and forges nothing: that is another suite's.
"""

from dataclasses import dataclass, field

from buswire import frame
from buswire.errors import WireError
from buswire.messages import Records
from tests.net.mqtt import Cutter, publish, published
from tests.net.proxy import Connection, Proxy


@dataclass(frozen=True, slots=True)
class Kept:
    """One message as it passed, ready to be said again."""

    packet: bytes
    records: int


@dataclass
class Tape:
    """All that one client said and heard.

    Attributes:
        up: What it published.
        down: What it was sent.
        again: How many records of these have passed again.
        messages_again: The same in messages.
    """

    up: list[Kept] = field(default_factory=list)
    down: list[Kept] = field(default_factory=list)
    again: int = 0
    messages_again: int = 0
    connection: Connection | None = None


class Recorder:
    """The tap of one connection: keeps what passes and lets whole packets through."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._up, self._down = Cutter(), Cutter()

    def attach(self, connection: Connection) -> None:
        """From now on what is said again is said here."""
        self._tape.connection = connection

    def up(self, data: bytes) -> bytes:
        """What goes on towards the broker."""
        return _keep(self._up, data, self._tape.up)

    def down(self, data: bytes) -> bytes:
        """What goes on to the client."""
        return _keep(self._down, data, self._tape.down)


def _keep(cutter: Cutter, data: bytes, kept: list[Kept]) -> bytes:
    packets = cutter.cut(data)
    for packet in packets:
        message = published(packet)
        if message is not None:
            again = publish(message.topic, message.payload)
            kept.append(Kept(again, _records_in(message.payload)))
    return b"".join(packets)


def _records_in(payload: bytes) -> int:
    try:
        message = frame.decode_text(frame.take_apart(payload).text)
    except WireError:
        return 0
    return len(message.records) if isinstance(message, Records) else 0


class Replayer(Proxy):
    """A proxy with a tape."""

    def __init__(self, target_port: int) -> None:
        self.tape = Tape()
        super().__init__(target_port, new_tap=lambda: Recorder(self.tape))

    def say_again(self, messages: list[Kept], *, up: bool = False) -> bool:
        """Say these again on the present connection, between what passes.

        Returns:
            Whether all of them went: not if the connection ended meanwhile, or takes nothing.
        """

        async def say() -> bool:
            connection = self.tape.connection
            for message in messages:
                if connection is None or connection.ended:
                    return False
                await (connection.put_up if up else connection.put_down)(message.packet)
                self.tape.again += message.records
                self.tape.messages_again += 1
            return True

        return bool(self.call(say(), seconds=120.0))
