"""A plain MQTT client that has a device's key and password: it says what ours would never say.

And one with the hub's password and no key, which is what a captured broker is.
"""

import json
import queue
import secrets
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from buskit.doorbell import ring
from buswire.access import token_hash
from buswire.frame import VERSION
from buswire.signing import SigningKey, message_bytes, signature_text
from buswire.topics import DEFAULT_ROOT, Identity
from hqconsole.home import new_id
from hqconsole.ledger import enrolment
from hqconsole.ledger.opening import open_ledger
from tests.helpers.waiting import TIME_SCALE, wait_until


def signed(key: SigningKey, topic: str, text: bytes) -> bytes:
    """Any text at all as a payload, signed for this topic."""
    signature = signature_text(key.sign(message_bytes(topic, text)))
    return b"%b %b %b\n%b" % (VERSION, key.id.encode(), signature.encode(), text)


class Client:
    """One MQTT client with a name and a password."""

    def __init__(self, port: int, name: str, password: str, client_id: str) -> None:
        self._port = port
        self.name = name
        self.password = password
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        self._client.username_pw_set(name, password)
        self._connected = threading.Event()

    def __enter__(self) -> Self:
        def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, *_: Any) -> None:
            if not reason.is_failure:
                self._connected.set()

        self._client.on_connect = on_connect
        # The broker hears of new names a moment after they are known to HQ.
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._connected.wait(20 * TIME_SCALE), f"{self.name} is not let in"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, payload: bytes, topic: str) -> None:
        """Publish any bytes, and wait until the broker has them."""
        sent = self._client.publish(topic, payload, qos=1)
        sent.wait_for_publish(20 * TIME_SCALE)
        assert sent.is_published()


class FalseHub(Client):
    """Has the hub's password, and none of HQ's keys."""

    def __init__(self, port: int, home: Path) -> None:
        with closing(open_ledger(home)) as ledger:
            row = ledger.connection.execute("SELECT value FROM meta WHERE key = 'hub_id'")
            name = f"hub/{row.fetchone()[0]}"
        password = (home / "hub.key").read_text().strip()
        super().__init__(port, name, password, f"{name}/{new_id()[:16]}")

    def listen(self, topic: str) -> queue.SimpleQueue[bytes]:
        """Subscribe; what comes is put there, what the broker keeps first."""
        heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._client.on_message = lambda _client, _data, message: heard.put(message.payload)
        self._client.subscribe(topic, qos=1)
        return heard


class Stranger(Client):
    """A device that HQ let in, and that is not one of our programs."""

    def __init__(self, port: int, home: Path, store: str, device: str) -> None:
        identity = Identity(store, device)
        password = secrets.token_urlsafe(32)
        super().__init__(port, str(identity), password, str(identity))
        self.key = SigningKey(secrets.token_bytes(32))
        with closing(open_ledger(home)) as ledger, ledger.write() as connection:
            enrolment.activate(
                connection,
                identity,
                None,
                public=self.key.public,
                token_hash=token_hash(password),
                at=time.time(),
                new_id=new_id,
            )
        ring(home)
        self.source = f"{DEFAULT_ROOT}/from/{store}/{device}"
        self._heard_topic = f"{DEFAULT_ROOT}/to/{store}/{device}"
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._listens = threading.Event()
        self.cursor: list[Any] = [0, ""]
        self.run = new_id()
        self.install = new_id()
        self._hellos = 0

    def __enter__(self) -> Self:
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._listens.set()
        super().__enter__()
        self._client.subscribe(self._heard_topic, qos=1)
        assert self._listens.wait(10 * TIME_SCALE)
        return self

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self._messages.put(json.loads(message.payload.partition(b"\n")[2]))

    def say_text(self, text: bytes) -> None:
        """Publish any text, rightly signed."""
        self.publish(signed(self.key, self.source, text), self.source)

    def say(self, **message: Any) -> None:
        """Publish a message, right or wrong."""
        self.say_text(json.dumps(message).encode())

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
        self._hellos += 1
        said = {"nonce": nonce, "run": self.run, "install": self.install, "number": self._hellos}
        self.say(kind="hello", **said, **changes)
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


def raw_publish(client: Client, port: int, topic: bytes, payload: bytes) -> bytes:
    """Publish with a topic of any bytes, past every client library; what the broker answered.

    It is said in the place of that client, which loses its connection.
    """

    def text(words: str) -> bytes:
        return len(words.encode()).to_bytes(2) + words.encode()

    name = text(client.name)
    connect = b"\x00\x04MQTT\x04\xc2\x00\x3c" + name + name + text(client.password)
    publish = len(topic).to_bytes(2) + topic + payload
    assert max(len(connect), len(publish)) < 128
    with socket.create_connection(("127.0.0.1", port), timeout=10 * TIME_SCALE) as connection:
        connection.sendall(bytes([0x10, len(connect)]) + connect)
        assert connection.recv(4) == b"\x20\x02\x00\x00"
        connection.sendall(bytes([0x30, len(publish)]) + publish + b"\xc0\x00")  # and a ping
        try:
            return connection.recv(10)
        except ConnectionResetError:
            return b""
