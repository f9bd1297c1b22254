"""What it costs that everything is signed, and that nobody may do what is not theirs to do.

A signature and its check, of a message as receipts come; the broker with an access file against the
same broker without one, in turns; and the access file of 25,000 devices, from the ledger until a
revoked device is out.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Raw
from msgspec.structs import replace

from bench.chain import ROLES, head_office, roster
from bench.figures import Aim, Figure, Setting, median, paired_ratio
from bench.load import Client, Stores
from bench.processes import embedded_broker, new_id
from broker.access_file import AccessFileKeeper
from buskit.database import Database
from buskit.files import write_atomically
from buswire import frame
from buswire.access import (
    HUB_PREFIX,
    AccessFile,
    DeviceAccess,
    HubAccess,
    decode_access,
    encode_access,
    token_hash,
)
from buswire.cursors import START
from buswire.messages import Receipt, Record, Records, encode_data
from buswire.signing import SigningKey
from buswire.states import State
from buswire.topics import Identity, Topics
from hqconsole.access_file import FILE_NAME, AccessFileWriter
from hqconsole.ledger import enrolment

_DEVICES = 25_000
_STORES = 1_000
_TOKEN = "t" * 43
_HUB = HUB_PREFIX + "0" * 16


def run(setting: Setting) -> Sequence[Figure]:
    """Measure all three."""
    return [*_signatures(setting), *_policy(setting), *_access_file(setting)]


def _signatures(setting: Setting) -> list[Figure]:
    key = SigningKey(os.urandom(32))
    topic = Topics().from_(Identity("S00001", "till-1"))
    receipt = Receipt(directive=new_id(), role="any", state=State.DELIVERED)
    data = Raw(encode_data(receipt))
    record = Record(id=new_id(), kind="receipt", at=time.time(), data=data)
    message = Records(log="act", after=START, records=[record])
    payload = frame.encode(message, topic, key)
    times = setting.pick(5_000, 1_000)
    signed = _rate(lambda: frame.encode(message, topic, key), times)
    checked = _rate(lambda: frame.read(payload, topic, {key.id: key.public}.get), times)
    return [
        Figure("security.sign", "messages encoded and signed, one core", signed, "/s"),
        Figure("security.verify", "messages verified and read, one core", checked, "/s"),
    ]


def _rate(do: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        do()
    return times / (time.perf_counter() - began)


def _policy(setting: Setting) -> list[Figure]:
    """The broker's rate to one store after another, with the contract as policy and without."""
    access = AccessFile(
        version=1,
        root="bench",  # the load's own topics, which have the contract's form below it
        hubs={_HUB: HubAccess(tokens=[token_hash(_TOKEN)])},
        devices={
            f"S{number}.d1": DeviceAccess(tokens=[token_hash(_TOKEN)], region=f"r{number % 10}")
            for number in range(_STORES)
        },
    )
    rates: dict[str, list[float]] = {"open": [], "access": []}
    with ExitStack() as stack:
        sides: dict[str, Stores] = {}
        for name in rates:
            folder = setting.folder / name
            folder.mkdir()
            (folder / FILE_NAME).write_bytes(encode_access(access))
            words = () if name == "open" else ("--access", str(folder / FILE_NAME))
            port, _ = stack.enter_context(embedded_broker(folder, *words))
            setting.say(f"connecting {_STORES:,} stores, {name}")
            credentials = {} if name == "open" else {"password": _TOKEN, "hub": _HUB}
            sides[name] = stack.enter_context(Stores(port, _STORES, **credentials))
        for stores in sides.values():
            stores.unicast(200, qos=0)  # the first of everything is slower
        for _ in range(setting.pick(9, 3)):
            for name, stores in sides.items():
                rates[name].append(stores.unicast(setting.pick(6_000, 2_000), qos=0))
    return [
        Figure(
            "security.policy",
            f"unicast to {_STORES:,} stores with an access file, against without",
            median(rates["access"]),
            "/s",
            paired_ratio(rates["access"], rates["open"]),
            Aim("ratio", "at least", 0.75),
            {"open_per_second": round(median(rates["open"]))},
        )
    ]


def _access_file(setting: Setting) -> list[Figure]:
    count = setting.pick(_DEVICES, _DEVICES // 5)
    home = setting.folder / "hq"
    setting.say(f"letting {count:,} devices in")
    ledger = head_office(home, roster(count))
    try:
        _let_in(ledger, count)
        writer = AccessFileWriter(home, Topics().root)
        began = time.perf_counter()
        writer.refresh(ledger, time.time())
        written = time.perf_counter() - began
    finally:
        ledger.close()
    path = home / FILE_NAME
    began = time.perf_counter()
    AccessFileKeeper(path)
    read = time.perf_counter() - began
    return [
        Figure(
            "security.access.write",
            f"access file of {count:,} devices, from the ledger to the disk",
            written,
            "s",
            aim=Aim("figure", "at most", 0.5, "s"),
            detail={"bytes": path.stat().st_size},
        ),
        Figure("security.access.read", "the same, as a broker reads it when it starts", read, "s"),
        Figure(
            "security.access.out",
            "from a new file until the device that it lacks has lost its connection",
            median([_until_out(setting, path, number) for number in range(setting.pick(5, 2))]),
            "s",
            aim=Aim("figure", "at most", 2, "s"),
        ),
    ]


def _let_in(ledger: Database, count: int) -> None:
    hashed = token_hash(_TOKEN)
    with ledger.write() as connection:
        for number in range(1, count + 1):
            enrolment.activate(
                connection,
                Identity(f"S{number:05}", "till-1"),
                ROLES[:2],
                public=SigningKey(os.urandom(32)).public,
                token_hash=hashed,
                at=time.time(),
                new_id=new_id,
            )


def _until_out(setting: Setting, path: Path, turn: int) -> float:
    """How long a device stays that the file does not name any more."""
    name = f"S{turn + 1:05}.till-1"
    folder = setting.folder / f"out{turn}"
    folder.mkdir()
    with embedded_broker(folder, "--access", str(path)) as (port, _):
        client = Client(port, name, _TOKEN)
        access = decode_access(path.read_bytes())
        others = {one: entry for one, entry in access.devices.items() if one != name}
        began = time.perf_counter()
        write_atomically(
            path, encode_access(replace(access, version=access.version + 1, devices=others))
        )
        client.socket.settimeout(30)
        while client.socket.recv(1000):
            pass
        return time.perf_counter() - began
