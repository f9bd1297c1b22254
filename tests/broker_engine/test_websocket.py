"""MQTT over WebSocket: the same broker behind another door."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from broker.limits import Limits
from tests.broker_engine import raw
from tests.broker_engine.engines import Ours, connected
from tests.broker_engine.raw import Client
from tests.helpers.waiting import wait_until


@pytest.fixture
def both(start: Callable[..., Ours]) -> Ours:
    """Run a broker with a WebSocket port."""
    return start(websocket_port=0, limits=Limits(connect_seconds=1.0))


def _open(both: Ours, **options: Any) -> ClientConnection:
    options = {"subprotocols": ["mqtt"], "compression": None} | options
    return connect(f"ws://127.0.0.1:{both.addresses.websocket_port}/mqtt", **options)


def _closed(socket: ClientConnection) -> bool:
    try:
        while True:
            socket.recv(timeout=5)
    except TimeoutError:
        return False
    except ConnectionClosed:
        return True


def test_paho_over_websocket(both: Ours) -> None:
    """The client library of storebus talks to one over TCP, both ways, large and small."""
    received: list[bytes] = []
    ready: list[int] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="web", transport="websockets")
    client.on_message = lambda _client, _data, message: received.append(message.payload)
    client.on_subscribe = lambda *_: ready.append(1)
    client.connect("127.0.0.1", both.addresses.websocket_port)
    client.loop_start()
    try:
        client.subscribe("to/web", 1)
        wait_until(lambda: ready, what="SUBACK")
        with connected(both.port) as other:
            other.subscribe(("to/tcp", 1))
            other.publish("to/web", b"hello", 1)
            other.publish("to/web", bytes(200_000), 2)
            client.publish("to/tcp", bytes(300_000), 1).wait_for_publish(5)
            assert len(other.message().payload) == 300_000
        wait_until(lambda: len(received) == 2, what="two messages")
        assert received == [b"hello", bytes(200_000)]
    finally:
        client.disconnect()
        client.loop_stop()


def test_packets_and_frames_are_independent(both: Ours) -> None:
    """A packet may be spread over frames, and a frame hold several packets [6.0.0-2]."""
    with _open(both) as socket:
        assert socket.subprotocol == "mqtt"
        data = raw.connect_packet("w") + raw.subscribe_packet(("a", 0))
        for start in range(0, len(data), 5):
            socket.send(data[start : start + 5])
        socket.send([raw.publish_packet("a", b"x")[:3], raw.publish_packet("a", b"x")[3:]])
        received = b""
        while not received.endswith(b"\0\x01ax"):
            received += socket.recv(timeout=5)
        assert received.startswith(b"\x20\x02\0\0\x90\x03\0\x01\0")


@pytest.mark.parametrize(
    "frame",
    ["text", bytes(2_000_000), b"\0\0", raw.connect_packet("x", flags=3)],
    ids=["text frame", "over the size limit", "no MQTT", "malformed CONNECT"],
)
def test_what_is_wrong_closes(both: Ours, frame: str | bytes) -> None:
    """A text frame, an oversize one and malformed MQTT end the connection, and that one alone."""
    with connected(both.port) as other, _open(both) as socket:
        with contextlib.suppress(ConnectionClosed):  # the broker may be faster than we send
            socket.send(frame)
        assert _closed(socket)
        assert other.is_served()


def test_other_subprotocol_is_refused(both: Ours) -> None:
    """A WebSocket that does not offer the subprotocol mqtt is not accepted [6.0.0-3]."""
    with pytest.raises(Exception, match="HTTP 400"):
        _open(both, subprotocols=["chat"])


def test_http_and_silence_are_closed(both: Ours) -> None:
    """A plain HTTP request is answered and closed, silence is closed at the deadline."""
    port = both.addresses.websocket_port
    assert port is not None
    with Client(port) as web, Client(port) as silent, Client(port) as mqtt:
        web.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while piece := web.socket.recv(4096):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 426 ")
        mqtt.send(raw.connect_packet("x"))
        mqtt.socket.settimeout(5)
        while mqtt.socket.recv(4096):
            pass
        silent.expect_closed()
    wait_until(lambda: both.status().connections == 0, what="all to be gone")


def test_handshake_without_connect_is_closed(both: Ours) -> None:
    """The deadline for CONNECT holds behind the handshake too."""
    with _open(both) as socket:
        assert _closed(socket)


def test_will_when_a_websocket_breaks(both: Ours) -> None:
    """A WebSocket closed without DISCONNECT, in whatever way, publishes the will."""
    with connected(both.port) as watcher:
        watcher.subscribe("w")
        for name in ("closing handshake", "end of stream"):
            socket = _open(both)
            socket.send(raw.connect_packet("x", will=("w", name.encode(), 0, False)))
            socket.recv(timeout=5)
            if name == "end of stream":
                socket.socket.shutdown(2)
            socket.close()
            assert watcher.message().payload == name.encode()


def test_slow_reader_over_websocket(start: Callable[..., Ours]) -> None:
    """A WebSocket client that does not read is cut off at its limit as well."""
    engine = start(
        websocket_port=0,
        limits=Limits(outgoing_bytes=1_000_000, packet_bytes=500_000, retained_bytes=0),
    )

    async def stuck() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", engine.addresses.websocket_port)
        writer.write(
            b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        for data, answer_bytes in (
            (raw.connect_packet("stuck"), 2 + 4),
            (raw.subscribe_packet(("a", 0)), 2 + 5),
        ):
            writer.write(bytes([0x82, 0x80 | len(data), 0, 0, 0, 0]) + data)
            await asyncio.wait_for(reader.readexactly(answer_bytes), 5)
        writer.transport.pause_reading()
        deadline = time.monotonic() + 20
        while engine.status().connections > 1 and time.monotonic() < deadline:
            publisher.publish("a", bytes(100_000), 1)
        writer.transport.abort()

    with connected(engine.port) as publisher:
        asyncio.run(stuck())
        assert engine.status().connections == 1
        assert publisher.is_served()
