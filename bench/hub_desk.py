"""What the hub does in a second, without a network: the desk over a ledger in a file.

Hellos are those of devices that HQ knows and that have nothing to catch up with, as beats are.
Records come one a message, as receipts do, in batches of 1,000 messages of as many devices: each
batch is one transaction.
"""

import itertools
import os
import random
import time
from collections.abc import Sequence

import msgspec

from bench.chain import head_office, roster
from bench.figures import Figure, Setting, median
from bench.processes import new_id
from buswire import frame
from buswire.cursors import START, Cursor
from buswire.messages import Backlog, Hello, Receipt, Record, Records, Welcome, encode_data
from buswire.signing import SigningKey
from buswire.states import Needs, State
from buswire.topics import Identity, Topics
from hqconsole.audience import Selector, select
from hqconsole.desk import Desk, DeskTiming, Heard, Linked
from hqconsole.keyring import Keyring
from hqconsole.ledger import directives, enrolment, organisation

_STORES = 1_000


def _heard(topic: str, message: Hello | Records, key: SigningKey) -> Heard:
    return Heard(topic, frame.encode(message, topic, key))


def run(setting: Setting) -> Sequence[Figure]:
    """Drive a desk by hand."""
    stores = roster(_STORES)
    ledger = head_office(setting.folder / "hq", stores)
    try:
        topics = Topics()
        desk = Desk(
            ledger,
            topics,
            keyring=Keyring.load(setting.folder / "hq"),
            draw=random.Random(1).random,
            new_id=new_id,
            wall_clock=time.time,
            timing=DeskTiming(hellos_per_batch=_STORES),
        )
        clock = itertools.count(1.0, 0.01)
        desk.handle([Linked()], next(clock))
        identities = [Identity(store.store_id, "till-1") for store in stores]
        keys = {identity: SigningKey(os.urandom(32)) for identity in identities}
        with ledger.write() as connection:
            for identity, key in keys.items():
                enrolment.activate(
                    connection,
                    identity,
                    None,
                    public=key.public,
                    token_hash="0" * 64,
                    at=time.time(),
                    new_id=new_id,
                )
        desk.handle([], next(clock))  # HQ's word on their keys is no part of what is measured
        hellos = [
            Hello(nonce=new_id(), run=new_id(), install=new_id(), number=1, clock_at=time.time())
            for _ in identities
        ]
        answered: list[float] = []
        for _ in range(setting.pick(7, 3)):
            events = [
                _heard(topics.from_(identity), hello, keys[identity])
                for identity, hello in zip(identities, hellos, strict=True)
            ]
            began = time.perf_counter()
            outgoing = desk.handle(events, next(clock))
            answered.append(_STORES / (time.perf_counter() - began))
            said = [frame.decode_text(one.payload.partition(b"\n")[2]) for one in outgoing]
            welcomes = [one for one in said if isinstance(one, Welcome)]
            hellos = [
                msgspec.structs.replace(
                    hello,
                    nonce=new_id(),
                    number=hello.number + 1,
                    set_version=welcome.set_version,
                    cursors=welcome.heads,
                    uplink={log: Backlog(acked=at) for log, at in welcome.uplink.items()},
                )
                for hello, welcome in zip(hellos, welcomes, strict=True)
            ]
        committed: list[float] = []
        cursors = dict.fromkeys(identities, START)
        for _ in range(setting.pick(7, 3)):
            with ledger.write() as connection:
                there = organisation.organisation(connection)
                issued = directives.issue(
                    connection,
                    directives.Draft(title="Pull lot 2231", needs=Needs.READ),
                    select(Selector(everyone=True), there),
                    there,
                    at=time.time(),
                    new_id=new_id,
                )
            desk.handle([], next(clock))
            receipt = Receipt(directive=issued.id, role="any", state=State.DELIVERED)
            data = msgspec.Raw(encode_data(receipt))
            events = []
            for identity, cursor in cursors.items():
                record = Record(id=new_id(), kind="receipt", at=time.time(), data=data)
                message = Records(log="act", after=cursor, records=[record])
                events.append(_heard(topics.from_(identity), message, keys[identity]))
                cursors[identity] = Cursor(cursor.seq + 1, record.id)
            began = time.perf_counter()
            desk.handle(events, next(clock))
            committed.append(_STORES / (time.perf_counter() - began))
        (saved,) = ledger.connection.execute("SELECT count(*) FROM arrival").fetchone()
        if saved != len(committed) * _STORES:
            raise RuntimeError(f"{saved} records were saved")
    finally:
        ledger.close()
    return [
        Figure("hub.hellos", "hellos answered, one core", median(answered), "/s"),
        Figure("hub.records", "receipts committed with their effect", median(committed), "/s"),
    ]
