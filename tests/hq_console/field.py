"""The stores as the hub hears them, without a network: devices that sign what they say."""

import os
import time
from copy import copy
from pathlib import Path
from typing import Any

from msgspec import Raw

from buskit.secrets import new_seed, new_token
from buswire import frame
from buswire.access import token_hash
from buswire.cursors import START, Cursor, advance
from buswire.messages import (
    Alert,
    Hello,
    Receipt,
    Record,
    Records,
    Reply,
    Report,
    Welcome,
    encode_data,
)
from buswire.signing import SigningKey
from buswire.states import State
from buswire.topics import Identity
from hqconsole.desk import Desk, Heard, Linked, Publish, Tick
from hqconsole.home import read_hq_settings
from hqconsole.keyring import Keyring
from hqconsole.ledger import directives, enrolment
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.views import directive_id

KINDS = {Receipt: "receipt", Reply: "reply", Alert: "alert", Report: "report"}
LOG_OF = {"report": "bulk"}


def new_id() -> str:
    """A random id."""
    return os.urandom(16).hex()


class Device:
    """One device: its key, and where its logs stand."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.key = SigningKey(new_seed())
        self.token = new_token()
        self.run, self.install, self.hellos = new_id(), new_id(), 0
        self.cursors: dict[str, Cursor] = {}


class Field:
    """The stores of a home; the hub works only while something is said."""

    def __init__(self, home: Path) -> None:
        """Belong to this home."""
        self.home = home
        self.devices: dict[Identity, Device] = {}

    def copy(self, home: Path) -> "Field":
        """The same stores, of a copy of the home; what either says, the other does not know of."""
        other = Field(home)
        for identity, device in self.devices.items():
            other.devices[identity] = copied = copy(device)
            copied.cursors = dict(device.cursors)
        return other

    def hub(self, *events: Any) -> list[Publish]:
        """Let a hub that has just come up hear these, and do what is due."""
        settings = read_hq_settings(self.home)
        with open_ledger(self.home) as ledger:
            desk = Desk(
                ledger,
                settings.topics,
                confirm=settings.confirms,
                keyring=Keyring.load(self.home),
                draw=lambda: 0.5,
                new_id=new_id,
                wall_clock=time.time,
            )
            return [*desk.handle([Linked(), *events], 1000.0), *desk.handle([Tick()], 1001.0)]

    def device(self, store: str, name: str = "till-1", roles: tuple[str, ...] = ()) -> Device:
        """A device was let in, and says hello."""
        identity = Identity(store, name)
        device = self.devices[identity] = Device(identity)
        with open_ledger(self.home) as ledger, ledger.write() as connection:
            enrolment.activate(
                connection,
                identity,
                roles or None,
                public=device.key.public,
                token_hash=token_hash(device.token),
                at=time.time(),
                new_id=new_id,
            )
        self.hello(device)
        return device

    def hello(self, device: Device) -> Welcome:
        """A device says hello; its logs go on from where HQ says."""
        device.hellos += 1
        hello = Hello(
            nonce=new_id(),
            run=device.run,
            install=device.install,
            start=1,
            number=device.hellos,
            machine="PC-1",
            clock_at=time.time(),
            version="1",
        )
        topics = read_hq_settings(self.home).topics
        heard = self.hub(self.signed(device, hello))
        (answer,) = [
            frame.decode_text(frame.take_apart(one.payload).text)
            for one in heard
            if one.topic == topics.to(device.identity) and b'"kind":"welcome"' in one.payload
        ]
        assert isinstance(answer, Welcome)
        device.cursors = {log: answer.uplink[log] for log in answer.uplink}
        return answer

    def signed(self, device: Device, message: Any) -> Heard:
        """What the hub hears when the device says this."""
        topic = read_hq_settings(self.home).topics.from_(device.identity)
        return Heard(topic, frame.encode(message, topic, device.key))

    def say(self, store: str, *said: Any, name: str = "till-1") -> None:
        """A device's records arrive."""
        self.say_raw(store, *((KINDS[type(one)], encode_data(one)) for one in said), name=name)

    def say_raw(self, store: str, *said: tuple[str, bytes], name: str = "till-1") -> None:
        """Records arrive whose data is whatever it is."""
        device = self.devices.get(Identity(store, name)) or self.device(store, name)
        for log in ("act", "bulk"):
            records = [
                Record(id=new_id(), kind=kind, at=time.time(), data=Raw(data))
                for kind, data in said
                if LOG_OF.get(kind, "act") == log
            ]
            if records:
                self.send(device, log, records)

    def send(self, device: Device, log: str, records: list[Record]) -> None:
        """Records arrive in one message, behind what came before."""
        after = device.cursors.get(log, START)
        self.hub(self.signed(device, Records(log=log, after=after, records=records)))
        device.cursors[log] = advance(after, [record.id for record in records])

    def receipt(self, directive: str, store: str, state: State, **more: Any) -> None:
        """A store states where it stands with a directive (any beginning of its id)."""
        more.setdefault("role", "any")
        self.say(store, Receipt(directive=self.whole(directive), state=state, **more))

    def whole(self, directive: str) -> str:
        """The whole id of a directive."""
        with open_ledger(self.home) as ledger:
            return directive_id(ledger.connection, directives.find(ledger.connection, directive))
