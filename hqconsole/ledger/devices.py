"""Devices: who they are, whose word counts, where their uplink logs stand, and who is there.

A device is known because an operator added it (`enrolment`), never because somebody speaks.
"""

import functools
import json
import sqlite3
from typing import Any, NamedTuple

from buswire.cursors import START, Cursor
from buswire.messages import Hello, Log
from buswire.signing import PublicKey
from buswire.topics import ANY_ROLE, Identity
from hqconsole.ledger.organisation import Place

ACTIVE = "active"

FIND = (
    "SELECT device.no, roles, install, run, clock_offset_seconds, state, key_no, public,"
    " roles_ever, kept_bytes, allowed_bytes FROM device"
    " LEFT JOIN device_key ON device_key.no = key_no WHERE store_no = ? AND name = ?"
)
HAD_KEY = "SELECT 1 FROM device_key WHERE device_no = ? AND key_id = ? LIMIT 1"


class Device(NamedTuple):
    """One device as the ledger knows it."""

    no: int
    identity: Identity
    place: Place
    roles: tuple[str, ...]
    """The roles it serves: those it was assigned, as far as its store has them."""
    install: str
    run: str
    clock_offset_seconds: float
    state: str
    key_no: int | None
    key: PublicKey | None
    """The one key that counts; None before it has joined."""
    roles_ever: frozenset[str]
    """Roles that it served at some time."""
    kept_bytes: int
    """How much of its evidence is kept."""
    allowed_bytes: int | None
    """How much may be; None as the settings say."""

    @property
    def mailbox_roles(self) -> tuple[str, ...]:
        """The roles of the mailboxes that are its work: none in a closed store."""
        return (ANY_ROLE, *self.roles) if self.place.open else ()

    def may_speak_for(self, role: str) -> bool:
        """Whether it serves, or ever served, this role: work may be answered after a change."""
        return role == ANY_ROLE or role in self.roles or role in self.roles_ever


def find(connection: sqlite3.Connection, identity: Identity, place: Place) -> Device | None:
    """The device, or None when nobody ever added it."""
    row = connection.execute(FIND, (place.store_no, identity.device)).fetchone()
    return None if row is None else _device(identity, place, row)


def _device(identity: Identity, place: Place, row: Any) -> Device:
    no, roles, install, run, offset, state, key_no, public, ever, kept, allowed = row
    wanted = place.roles if roles is None else json.loads(roles)
    return Device(
        no,
        identity,
        place,
        tuple(role for role in place.roles if role in wanted),
        install,
        run,
        offset,
        state,
        key_no,
        None if public is None else _public_key(public),
        _roles(ever),
        kept,
        allowed,
    )


@functools.lru_cache(maxsize=30_000)
def _public_key(raw: bytes) -> PublicKey:
    # Making one takes about as long as a query, and a device speaks again and again.
    return PublicKey(raw)


@functools.lru_cache(maxsize=1024)
def _roles(text: str) -> frozenset[str]:
    # Thousands of devices have one of a few sets of roles.
    return frozenset(json.loads(text))


def had_key(connection: sqlite3.Connection, device_no: int, key_id: str) -> bool:
    """Whether this key was the device's at some time."""
    return connection.execute(HAD_KEY, (device_no, key_id)).fetchone() is not None


def note_hello(
    connection: sqlite3.Connection,
    device: Device,
    hello: Hello,
    *,
    at: float,
    measures_clock: bool = True,
) -> None:
    """Keep what a hello says of the device itself; it is there.

    Args:
        connection: In a write transaction.
        device: Who said it.
        hello: What was said.
        at: The present time.
        measures_clock: Whether `at` is good enough to tell how far off the device's clock is.
    """
    connection.execute(
        "UPDATE device SET install = ?1, run = ?2, version = ?3, online = 1, last_heard_at = ?4,"
        " first_heard_at = CASE WHEN last_heard_at = 0 THEN ?4 ELSE first_heard_at END,"
        " clock_offset_seconds = coalesce(?5, clock_offset_seconds) WHERE no = ?6",
        (
            hello.install,
            hello.run,
            hello.version,
            at,
            round(at - hello.clock_at, 3) if measures_clock else None,
            device.no,
        ),
    )


def note_heard(
    connection: sqlite3.Connection, device_no: int, *, at: float, kept_bytes: int = 0
) -> None:
    """The device said something, of which so much was kept: it is there."""
    connection.execute(
        "UPDATE device SET online = 1, last_heard_at = ?, kept_bytes = kept_bytes + ? WHERE no = ?",
        (at, kept_bytes, device_no),
    )


def note_bye(connection: sqlite3.Connection, device_no: int, run: str) -> None:
    """The device went; an old run's will does not count against the present run."""
    connection.execute("UPDATE device SET online = 0 WHERE no = ? AND run = ?", (device_no, run))


def sweep(connection: sqlite3.Connection, *, silent_since: float) -> int:
    """Take devices that were silent for too long as gone."""
    return connection.execute(
        "UPDATE device SET online = 0 WHERE online = 1 AND last_heard_at < ?", (silent_since,)
    ).rowcount


def anyone_silent(connection: sqlite3.Connection, *, since: float) -> bool:
    """Whether `sweep` would find somebody."""
    return (
        connection.execute(
            "SELECT 1 FROM device WHERE online = 1 AND last_heard_at < ? LIMIT 1", (since,)
        ).fetchone()
        is not None
    )


def anyone_ever_heard(connection: sqlite3.Connection) -> bool:
    """Whether any device ever said anything."""
    row = connection.execute("SELECT 1 FROM device WHERE last_heard_at > 0 LIMIT 1").fetchone()
    return row is not None


def count_there(connection: sqlite3.Connection) -> int:
    """How many devices are there."""
    (count,) = connection.execute("SELECT count(*) FROM device WHERE online = 1").fetchone()
    return int(count)


class Uplink(NamedTuple):
    """HQ's cursor in one log of a device, and the highest number it heard the log reach."""

    cursor: Cursor
    heard_head: int


def uplink(connection: sqlite3.Connection, device_no: int, log: Log) -> Uplink:
    """Where HQ stands in a device's log."""
    row = connection.execute(
        "SELECT seq, id, heard_head FROM uplink WHERE device_no = ? AND log = ?",
        (device_no, log),
    ).fetchone()
    return Uplink(START, 0) if row is None else Uplink(Cursor(row[0], row[1]), row[2])


def save_uplink(
    connection: sqlite3.Connection,
    device_no: int,
    log: Log,
    cursor: Cursor,
    *,
    heard_head: int,
    pending: int | None,
) -> None:
    """Keep HQ's cursor; without a `pending` said by the device, it shrinks with the cursor."""
    connection.execute(
        "INSERT INTO uplink (device_no, log, seq, id, heard_head, pending)"
        " VALUES (?1, ?2, ?3, ?4, ?5, coalesce(?6, 0))"
        " ON CONFLICT (device_no, log) DO UPDATE SET"
        " pending = coalesce(?6, max(0, pending - (?3 - seq))),"
        " seq = ?3, id = ?4, heard_head = ?5",
        (device_no, log, cursor.seq, cursor.id, heard_head, pending),
    )


def siblings(connection: sqlite3.Connection, device: Device) -> bool:
    """Whether the store has other devices, which should hear what this one said."""
    return (
        connection.execute(
            "SELECT 1 FROM device WHERE store_no = ? AND no <> ? LIMIT 1",
            (device.place.store_no, device.no),
        ).fetchone()
        is not None
    )


class Waiting(NamedTuple):
    """A device that is there and has not said that it has its work."""

    device_no: int
    identity: Identity


# CROSS JOIN keeps SQLite to this order. From the directives on it would read every delivery.
WITHOUT_RECEIPT = (
    "SELECT DISTINCT device.no, store.id, device.name FROM device INDEXED BY device_online"
    " CROSS JOIN store ON store.no = device.store_no AND store.closed_at IS NULL"
    " CROSS JOIN mailbox ON mailbox.store_no = device.store_no"
    " CROSS JOIN delivery INDEXED BY delivery_pending ON delivery.mailbox_no = mailbox.no"
    " AND delivery.open = 1 AND delivery.state = 0"
    " CROSS JOIN directive ON directive.no = delivery.directive_no AND directive.issued_at < ?"
    " WHERE device.online = 1 AND (mailbox.role = ?"
    # What the store's or the device's roles do not cover, no nudge will bring a receipt for.
    " OR (EXISTS (SELECT 1 FROM json_each(store.roles) WHERE value = mailbox.role)"
    " AND (device.roles IS NULL"
    " OR EXISTS (SELECT 1 FROM json_each(device.roles) WHERE value = mailbox.role))))"
    " LIMIT ?"
)


def there_without_receipt(
    connection: sqlite3.Connection, *, issued_before: float, most: int
) -> list[Waiting]:
    """Devices that are there, of mailboxes with work that nobody there has confirmed to have."""
    rows = connection.execute(WITHOUT_RECEIPT, (issued_before, ANY_ROLE, most))
    return [Waiting(no, Identity(store_id, name)) for no, store_id, name in rows]
