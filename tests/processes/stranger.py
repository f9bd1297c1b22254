"""A plain MQTT client that plays a device: it says what ours would never say."""

import json
import queue
import socket
import threading
from types import TracebackType
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from buswire.topics import DEFAULT_ROOT
from hqconsole.home import new_id
from tests.helpers.waiting import TIME_SCALE, wait_until

HEADER = b"storebus/1\n"


class Stranger:
    """One client on the bus, in the place of a device that the roster may or may not know."""

    def __init__(self, port: int, store: str, device: str) -> None:
        self.source = f"{DEFAULT_ROOT}/from/{store}/{device}"
        self._heard_topic = f"{DEFAULT_ROOT}/to/{store}/{device}"
        self._port = port
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"stranger {device}")
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._listens = threading.Event()
        self.cursor: list[Any] = [0, ""]
        self.run = new_id()
        self.install = new_id()

    def __enter__(self) -> Self:
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._listens.set()
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self._client.subscribe(self._heard_topic, qos=1)
        assert self._listens.wait(10 * TIME_SCALE)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self._messages.put(json.loads(message.payload.partition(b"\n")[2]))

    def publish(self, payload: bytes, topic: str | None = None) -> None:
        """Publish any bytes, and wait until the broker has them."""
        sent = self._client.publish(topic or self.source, payload, qos=1)
        sent.wait_for_publish(20 * TIME_SCALE)
        assert sent.is_published()

    def say(self, **message: Any) -> None:
        """Publish a message, right or wrong."""
        self.publish(HEADER + json.dumps(message).encode())

    def poll(self, kind: str) -> dict[str, Any] | None:
        """The next message, if one comes soon and is of that kind."""
        try:
            message = self._messages.get(timeout=0.05)
        except queue.Empty:
            return None
        return message if message["kind"] == kind else None

    def hear(self, kind: str) -> dict[str, Any]:
        """Wait for a message of a kind."""
        return wait_until(lambda: self.poll(kind), seconds=20, what=f"a {kind} from HQ")

    def hello(self, **changes: Any) -> dict[str, Any]:
        """Say a right hello and wait for its answer."""
        nonce = new_id()
        self.say(kind="hello", nonce=nonce, run=self.run, install=self.install, **changes)
        while (welcome := self.hear("welcome"))["nonce"] != nonce:
            pass
        self.cursor = welcome.get("uplink", {}).get("act", [0, ""])
        return welcome

    def records(self, *records: dict[str, Any], after: list[Any] | None = None) -> list[str]:
        """Send records of the log `act`, by default such as follow; returns their ids."""
        filled = [{"id": new_id(), "kind": "alert", "at": 1.0, **record} for record in records]
        follows = self.cursor if after is None else after
        self.say(kind="records", log="act", after=follows, records=filled)
        ids = [str(record["id"]) for record in filled]
        if after is None:
            self.cursor = [self.cursor[0] + len(ids), ids[-1]]
        return ids

    def wait_acknowledged(self) -> None:
        """Wait until HQ has all that was sent."""
        while self.hear("ack")["cursor"] != self.cursor:
            pass


def raw_publish(port: int, topic: bytes, payload: bytes) -> bytes:
    """Publish with a topic of any bytes, past every client library; what the broker answered."""
    connect = b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x03raw"
    publish = len(topic).to_bytes(2) + topic + payload
    assert len(publish) < 128
    with socket.create_connection(("127.0.0.1", port), timeout=10 * TIME_SCALE) as connection:
        connection.sendall(bytes([0x10, len(connect)]) + connect)
        assert connection.recv(4) == b"\x20\x02\x00\x00"
        connection.sendall(bytes([0x30, len(publish)]) + publish + b"\xc0\x00")  # and a ping
        try:
            return connection.recv(10)
        except ConnectionResetError:
            return b""
