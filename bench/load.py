"""Many MQTT clients on plain sockets in one epoll loop: load that costs little beside the broker.

Owns the bytes of the few packets that this takes, and one stream of messages from a publisher to
the stores in turn. Shares no code with the broker or the links that it measures.
"""

import contextlib
import select
import socket
import time
from typing import Self

_PAYLOAD = b"x" * 200
_WINDOW = 50
"""So many messages are sent and not yet received, at most. It is below the smallest number of
stores that is measured: otherwise several messages for one store would share a system call, and few
stores would look quicker for the wrong reason."""
_STUCK_SECONDS = 60.0


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(first: int, body: bytes) -> bytes:
    length, header = len(body), bytearray([first])
    while True:
        length, low = divmod(length, 128)
        header.append(low | (128 if length else 0))
        if not length:
            return bytes(header) + body


class Client:
    """One connection, and the bytes of a packet that has not come whole."""

    def __init__(
        self, port: int, client_id: str, password: str | None = None, *, user: str = ""
    ) -> None:
        """Connect; with a password, under a user name that is the client id if none is given."""
        self.rest = b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(_STUCK_SECONDS)
        self.socket.sendall(
            _packet(
                0x10,
                _text("MQTT")
                + bytes([4, 2 if password is None else 0xC2])
                + (600).to_bytes(2, "big")
                + _text(client_id)
                + (b"" if password is None else _text(user or client_id) + _text(password)),
            )
        )
        answer = self.socket.recv(4)
        if len(answer) != 4 or answer[3]:
            raise ConnectionError(f"the broker does not accept client {client_id}")

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        """Subscribe, and wait for the answer."""
        wanted = b"".join(_text(name) + bytes([qos]) for name in filters)
        self.socket.sendall(_packet(0x82, b"\0\1" + wanted))
        answer = self.socket.recv(65536)
        if answer[:1] != b"\x90":
            raise ConnectionError("the broker does not answer SUBSCRIBE")
        self.rest = answer[4 + len(filters) :]  # messages may come right behind it

    def receive(self) -> list[str]:
        """Take what has come and acknowledge it. Returns the topics of the messages."""
        data = self.rest + self.socket.recv(65536)
        at = 0
        topics: list[str] = []
        acknowledgements = b""
        while at + 2 <= len(data):
            begin, length, shift = at + 1, 0, 0
            while begin < len(data):
                byte = data[begin]
                begin += 1
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            else:
                break
            if begin + length > len(data):
                break
            if data[at] >> 4 == 3:
                end = begin + 2 + int.from_bytes(data[begin : begin + 2], "big")
                topics.append(data[begin + 2 : end].decode())
                if data[at] & 6:
                    acknowledgements += b"\x40\x02" + data[end : end + 2]
            at = begin + length
        self.rest = data[at:]
        if acknowledgements:
            self.socket.sendall(acknowledgements)
        return topics


class Stores:
    """So many stores connected to one broker, and a publisher; whoever has it owes a `close`."""

    def __init__(
        self, port: int, count: int, *, password: str | None = None, hub: str = "hub"
    ) -> None:
        """Connect and subscribe all of them, to four exact filters each as devices do.

        Args:
            port: Of the broker.
            count: How many.
            password: Of all of them, where the broker wants one.
            hub: What the publisher is called.
        """
        self.count = count
        self._next = 0
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        for number in range(count):
            client = Client(port, f"S{number}.d1", password)
            client.subscribe(
                f"bench/down/store/S{number}/any",
                f"bench/to/S{number}/d1",
                f"bench/down/region/r{number % 10}/any",
                "bench/down/all/any",
            )
            self._watch(client)
        run = "" if password is None else "/0"
        self._publisher = Client(port, hub + run, password, user=hub)
        self._watch(self._publisher)

    def _watch(self, client: Client) -> None:
        client.socket.setblocking(False)
        self._clients[client.socket.fileno()] = client
        self._epoll.register(client.socket.fileno(), select.EPOLLIN)

    def unicast(self, messages: int, *, qos: int) -> float:
        """Publish to one store after the other. Returns messages received a second.

        Raises:
            TimeoutError: Some never came.
        """
        sent = received = 0
        outgoing = b""
        began = time.perf_counter()
        while received < messages:
            while sent < messages and sent - received < _WINDOW:
                outgoing += self._publish(qos)
                sent += 1
            if outgoing:
                with contextlib.suppress(BlockingIOError):
                    outgoing = outgoing[self._publisher.socket.send(outgoing) :]
            for descriptor, _ in self._epoll.poll(0.05):
                received += self._receive(self._clients[descriptor])
            if time.perf_counter() - began > _STUCK_SECONDS:
                raise TimeoutError(f"{received} of {messages} messages came")
        return messages / (time.perf_counter() - began)

    def _publish(self, qos: int) -> bytes:
        self._next += 1
        packet_id = (self._next % 60_000 + 1).to_bytes(2, "big") if qos else b""
        topic = f"bench/to/S{self._next % self.count}/d1"
        return _packet(0x30 | qos << 1, _text(topic) + packet_id + _PAYLOAD)

    @staticmethod
    def _receive(client: Client) -> int:
        """Take what has come and acknowledge it. Returns how many messages it were."""
        return len(client.receive())

    def close(self) -> None:
        """Hang up."""
        for client in self._clients.values():
            client.socket.close()
        self._epoll.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
