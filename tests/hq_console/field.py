"""The stores as the ledger hears them, without a network: devices, and what they say."""

import os
import time
from pathlib import Path
from typing import Any

from msgspec import Raw

from buswire.messages import Alert, Hello, Receipt, Record, Reply, Report, encode_data
from buswire.states import State
from buswire.topics import Identity
from hqconsole.ledger import devices, directives
from hqconsole.ledger.arrivals import Arrivals
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import organisation, place_of

KINDS = {Receipt: "receipt", Reply: "reply", Alert: "alert", Report: "report"}


def new_id() -> str:
    """A random id."""
    return os.urandom(16).hex()


class Field:
    """Saves into the ledger of a home what devices would have said, one commit for each call."""

    def __init__(self, home: Path) -> None:
        """Belong to this home."""
        self.home = home

    def device(self, store: str, name: str = "till-1", roles: tuple[str, ...] = ()) -> None:
        """A device says hello for the first time."""
        hello = Hello(
            nonce=new_id(),
            run=new_id(),
            install=new_id(),
            roles=list(roles),
            clock_at=time.time(),
            version="1",
        )
        with open_ledger(self.home) as ledger, ledger.write() as connection:
            place = place_of(connection, store)
            assert place is not None
            identity = Identity(store, name)
            known = devices.register(connection, identity, place, hello, at=time.time())
            assert known is not None
            devices.note_hello(connection, known, hello, at=time.time())

    def say(self, store: str, *said: Any, name: str = "till-1") -> None:
        """A device's records arrive."""
        self.say_raw(store, *((KINDS[type(one)], encode_data(one)) for one in said), name=name)

    def say_raw(self, store: str, *said: tuple[str, bytes], name: str = "till-1") -> None:
        """Records arrive whose data is whatever it is."""
        with open_ledger(self.home) as ledger, ledger.write() as connection:
            place = place_of(connection, store)
            assert place is not None
            if devices.find(connection, Identity(store, name), place) is None:
                hello = Hello(nonce=new_id(), run=new_id(), install=new_id())
                devices.register(connection, Identity(store, name), place, hello, at=time.time())
            device = devices.find(connection, Identity(store, name), place)
            assert device is not None
            arrivals = Arrivals(
                connection,
                organisation=lambda: organisation(connection),
                new_id=new_id,
                at=time.time(),
            )
            arrivals.save(
                device,
                [
                    Record(id=new_id(), kind=kind, at=time.time(), data=Raw(data))
                    for kind, data in said
                ],
            )

    def receipt(self, directive: str, store: str, state: State, **more: Any) -> None:
        """A store states where it stands with a directive (any beginning of its id)."""
        more.setdefault("role", "any")
        self.say(store, Receipt(directive=self.whole(directive), state=state, **more))

    def whole(self, directive: str) -> str:
        """The whole id of a directive."""
        with open_ledger(self.home) as ledger:
            no = directives.find(ledger.connection, directive)
            row = ledger.connection.execute("SELECT id FROM directive WHERE no = ?", (no,))
            return str(row.fetchone()[0])
