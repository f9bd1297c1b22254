"""A large chain with a past: stores in 101 time zones, devices, directives, and what stores said.

Owns how that is made up, always the same for the same size. Must not know what is measured on it.
All is written as the hub and the commands write it, but for the signatures, which nothing of what
is measured looks at: they stand there with their length.
"""

import os
import random
import sqlite3
import time
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Raw

from bench.chain import head_office
from bench.processes import new_id
from buskit.database import Database
from buswire.cursors import START
from buswire.messages import Receipt, Record, Records, Reply, encode_data
from buswire.signing import SigningKey
from buswire.states import Needs, State
from buswire.topics import Identity, Topics
from hqconsole import kinds
from hqconsole.audience import Selector, select
from hqconsole.ledger import directives, enrolment, organisation, search_index
from hqconsole.ledger.arrivals import Arrivals, known_device
from hqconsole.ledger.devices import Device
from hqconsole.ledger.evidence import Evidence
from hqconsole.moments import parse_moment
from hqconsole.selector import selector_to_json
from hqconsole.store_row import StoreRow

ZONES = 101
DIRECTIVES = 20
UNEQUIPPED = 20
"""One store in so many has no device."""
DAY_SECONDS = 86_400.0
_ROLES = ("manager", "clerk")
_FORMATS = ("hypermarket", "supermarket", "convenience", "flagship")
_TITLES = (
    *("Golden Week promotion", "Pull lot 2231 of SKU 6901234", "New return procedure"),
    *("促销海报更换", "Price tags of the freezers", "Stock count of spirits"),
)
_SAID = (
    *("the poster for the window is missing", "done before opening", "half of the tags are wrong"),
    *("the freezer at the door is out of order", "nobody from the carrier came", "all is in place"),
    *("we need twenty more labels", "海报还没有到", "冷柜坏了, 明天修", "已经完成"),
    *("促销价格标签不够", "二十张标签到了"),
    *("仓库没有这批货", "the shelf for lot {lot} is empty", "pallet {lot} went back"),
)
_SIGNATURE = "A" * 86
_LATEST_SHARE = 0.3
"""How much of the latest directive is done; of the first all is."""


@dataclass(frozen=True, slots=True)
class Past:
    """What was made.

    Attributes:
        home: Head office's.
        directive: Id of a directive to all stores that is due since days and half done.
        store: A store with devices that said something of it.
        texts: How many replies there are.
    """

    home: Path
    directive: str
    store: str
    texts: int


def time_zones() -> list[str]:
    """So many time zones of the IANA database as `ZONES` says, from all over the world."""
    areas = ("Africa/", "America/", "Asia/", "Australia/", "Europe/", "Pacific/")
    names = sorted(one for one in zoneinfo.available_timezones() if one.startswith(areas))
    return [names[number * len(names) // ZONES] for number in range(ZONES)]


def stores(count: int) -> list[StoreRow]:
    """So many stores, in fifty regions, with what a real list has beside the name."""
    zones = time_zones()
    rows = []
    for number in range(count):
        region = f"Region {number * 50 // count + 1:02}"
        rows.append(
            StoreRow(
                store_id=f"S{number + 1:05}",
                name=f"Store {number + 1} of the {region}",
                region=region.lower().replace(" ", "-"),
                region_name=region,
                city=f"City {number % 997}",
                country=f"Country {number % 31}",
                timezone=zones[number * ZONES // count],
                roles=_ROLES,
                role_names=("Manager", "Clerk"),
                tags=("drive-thru",) if number % 7 == 0 else (),
                extra={
                    "format": _FORMATS[number % len(_FORMATS)],
                    "area_sqm": str(200 + number * 37 % 4_000),
                    "opened": f"{1980 + number % 45}-03-01",
                },
            )
        )
    return rows


def past(home: Path, count: int, *, say: Callable[[str], None]) -> Past:
    """Make a chain of so many stores with its past."""
    now_at = time.time()
    say(f"a roster of {count:,} stores in {ZONES} time zones")
    ledger = head_office(home, stores(count))
    try:
        say("devices")
        with ledger.write() as connection:
            devices = _devices(connection, now_at - 100 * DAY_SECONDS)
        ids, texts = [], 0
        for number in range(DIRECTIVES):
            say(f"directive {number + 1} of {DIRECTIVES} and what was said of it")
            share = 1 - (1 - _LATEST_SHARE) * (number / (DIRECTIVES - 1)) ** 4
            at = now_at - (DIRECTIVES - number) * 4 * DAY_SECONDS
            directive_id, said = _directive(ledger, devices, number, share, at=at)
            ids.append(directive_id)
            texts += said
        say(f"the index over {texts:,} replies")
        looked = 1
        while looked:
            with ledger.write() as connection:
                looked = search_index.catch_up(connection)
        ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        ledger.close()
    return Past(home, ids[-1], devices[16].identity.store, texts)


def _devices(connection: sqlite3.Connection, at: float) -> list[Device]:
    hashed, found = "0" * 64, []
    for number, store in enumerate(organisation.organisation(connection).stores):
        if number % UNEQUIPPED == UNEQUIPPED - 1:
            continue
        identity = Identity(store, "till-1")
        enrolment.activate(
            connection,
            identity,
            None,
            public=SigningKey(os.urandom(32)).public,
            token_hash=hashed,
            at=at,
            new_id=new_id,
        )
        device = known_device(connection, *identity)
        assert device is not None  # it was let in just now
        found.append(device)
    return found


def _directive(
    ledger: Database, devices: Sequence[Device], number: int, share: float, *, at: float
) -> tuple[str, int]:
    """Issue one and let the stores answer. Returns its id, and how many replies there were."""
    task = kinds.BUILT_IN["task"]
    everyone = Selector(everyone=True)
    now = datetime.fromtimestamp(at, UTC)
    draft = directives.Draft(
        title=f"{_TITLES[number % len(_TITLES)]} {number + 1}",
        body="Set it up by the end of the week, and say so. " * 10,
        kind=task.name,
        needs=Needs.DONE,
        due=str(parse_moment("tomorrow 18:00", now=now)),
        issued_by="operations",
        reasons=task.reasons,
        remind=task.remind,
    )
    plan = directives.Plan(author="operations", selector=selector_to_json(everyone))
    dice = random.Random(number)
    codes = [reason.code for reason in task.reasons]
    texts = 0
    with ledger.write() as connection:
        there = organisation.organisation(connection)
        issued = directives.issue(
            connection, draft, select(everyone, there), there, at=at, new_id=new_id, plan=plan
        )
        arrivals = Arrivals(
            connection, organisation=lambda: there, new_id=new_id, at=at + DAY_SECONDS
        )
        for device in devices:
            said = list(_statements(issued.id, share, dice, codes))
            texts += sum(isinstance(one, Reply) for one in said)
            _save(arrivals, device, said, at + dice.random() * DAY_SECONDS)
    return issued.id, texts


def _statements(
    directive: str, share: float, dice: random.Random, codes: Sequence[str]
) -> Iterator[Receipt | Reply]:
    """What one store says of one directive."""
    if dice.random() > share + (1 - share) / 2:
        return
    if dice.random() > share:
        yield Receipt(directive=directive, role="any", state=State.DELIVERED)
        return
    by = f"Person {dice.randrange(5_000)}"
    if dice.random() < 0.52:
        text = dice.choice(_SAID).format(lot=dice.randrange(10_000))
        text += f" ({dice.choice(_SAID).format(lot=dice.randrange(10_000))})"
        yield Reply(directive=directive, role="any", text=text, by=by)
    if dice.random() < 0.05:
        yield Receipt(
            directive=directive,
            role="any",
            state=State.CANNOT,
            by=by,
            code=dice.choice(codes),
            reason=dice.choice(_SAID).format(lot=7),
        )
    elif dice.random() < share:
        yield Receipt(directive=directive, role="any", state=State.DONE, by=by)
    else:
        yield Receipt(directive=directive, role="any", state=State.READ, by=by)


def _save(
    arrivals: Arrivals, device: Device, said: Sequence[Receipt | Reply], said_at: float
) -> None:
    """Let a device say all of it in one message."""
    if not said:
        return
    records = [
        Record(
            id=new_id(),
            kind="receipt" if isinstance(one, Receipt) else "reply",
            at=said_at,
            data=Raw(encode_data(one)),
        )
        for one in said
    ]
    text = msgspec.json.encode(Records(log="act", after=START, records=records))
    topic = Topics().from_(device.identity)
    assert device.key_no is not None  # it was let in
    message = Evidence(device.key_no, topic, "act", START, len(records), _SIGNATURE, text)
    arrivals.save(device, records, message)
