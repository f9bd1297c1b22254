"""Letting devices in and putting them out: invitations, keys, revocation.

A device is `invited` when a bundle was made for it, `waiting` when somebody asked to be it and an
operator is to compare the fingerprint of the key, `active` from when its key counts, `revoked` for
good or until it is invited again. One that is active stays so while a new key asks and waits.

Every function works in the caller's transaction and raises the version of the access file where
that shows the change.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from buswire.errors import WireError
from buswire.names import identifier
from buswire.signing import PublicKey
from buswire.topics import Identity
from hqconsole.errors import HqError
from hqconsole.ledger import access, device_runs, organisation

NewId = Callable[[], str]

DEVICES_PER_STORE = 200
BUNDLE_ID_CHARACTERS = 16
CONFIRMED_SECONDS = 7 * 24 * 3600.0
"""So long a device has to hear that its key was confirmed, even when its bundle has expired."""


class Bundle(NamedTuple):
    """A join bundle as the ledger knows it."""

    id: str
    device_no: int
    identity: Identity
    state: str
    """Of its device."""
    invite: bytes
    expires_at: float
    used_at: float | None
    withdrawn_at: float | None
    device_key: bytes | None
    """The key of who asked first."""
    asked_token_hash: str | None
    machine: str | None


class EnrolmentError(HqError):
    """A device cannot be let in, or put out, so."""


def add(
    connection: sqlite3.Connection,
    identity: Identity,
    roles: Sequence[str] | None,
    *,
    at: float,
    new_id: NewId,
) -> int:
    """Make a device known, invited; one that is known gets these roles. Returns its number.

    Args:
        connection: In a write transaction.
        identity: Store and device.
        roles: What it serves; None for all that its store has, or as it is where it is known.
        at: The present time.
        new_id: For the version of the store's channel set.

    Raises:
        EnrolmentError: The name cannot stand in a topic, or the store has too many devices.
        HqError: The store is unknown, or does not have one of the roles.
    """
    try:
        name = identifier(identity.device, "device")
    except WireError as error:
        raise EnrolmentError(str(error), hint=error.hint) from error
    place = organisation.place_with_roles(connection, identity.store, roles)
    row = connection.execute(
        "SELECT no FROM device WHERE store_no = ? AND name = ?", (place.store_no, name)
    ).fetchone()
    if row is not None:
        if roles is not None:
            organisation.assign_roles(connection, identity.store, name, roles, new_id=new_id)
        return int(row[0])
    (count,) = connection.execute(
        "SELECT count(*) FROM device WHERE store_no = ?", (place.store_no,)
    ).fetchone()
    if count >= DEVICES_PER_STORE:
        raise EnrolmentError(f"store {identity.store} has {DEVICES_PER_STORE} devices already")
    cursor = connection.execute(
        "INSERT INTO device (store_no, name, roles, first_heard_at, last_heard_at)"
        " VALUES (?, ?, ?, ?, 0)",
        (place.store_no, name, organisation.roles_text(roles), at),
    )
    no = int(cursor.lastrowid or 0)
    organisation.save_roles_ever(connection, no, roles or ())
    access.raise_version(connection)
    return no


def invite(
    connection: sqlite3.Connection,
    identity: Identity,
    roles: Sequence[str] | None,
    *,
    at: float,
    by: str,
    expires_at: float,
    new_id: NewId,
    token_hash: str,
    invite_public: PublicKey,
) -> str:
    """Note a join bundle; those that were made for the device before are withdrawn.

    The key that the device has, if any, counts until the bundle was used. A revoked device is
    invited again from now on, and stays out until it has joined.

    Args:
        connection: In a write transaction.
        identity: Store and device.
        roles: As `add` has them.
        at: The present time.
        by: Who invites.
        expires_at: Until when it can be used, by HQ's clock.
        new_id: A random 128-bit id.
        token_hash: Of the bundle's token for the broker.
        invite_public: The key that the request must be signed with.

    Returns:
        The id of the bundle.

    Raises:
        HqError: As `add`.
    """
    device_no = add(connection, identity, roles, at=at, new_id=new_id)
    _withdraw_all(connection, device_no, at=at)
    connection.execute(
        "UPDATE device SET state = 'invited' WHERE no = ? AND state <> 'active'", (device_no,)
    )
    bundle_id = new_id()[-BUNDLE_ID_CHARACTERS:]
    connection.execute(
        "INSERT INTO bundle (id, device_no, token_hash, invite, made_at, made_by, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (bundle_id, device_no, token_hash, invite_public.raw, at, by, expires_at),
    )
    access.raise_version(connection)
    return bundle_id


def activate(
    connection: sqlite3.Connection,
    identity: Identity,
    roles: Sequence[str] | None,
    *,
    public: PublicKey,
    token_hash: str,
    at: float,
    new_id: NewId,
) -> int:
    """Let a device in whose key and token were made here: for trials, where HQ may know them.

    Returns:
        The device's number.

    Raises:
        HqError: As `add`.
    """
    device_no = add(connection, identity, roles, at=at, new_id=new_id)
    let_in(connection, device_no, public=public, token_hash=token_hash, at=at)
    return device_no


def let_in(
    connection: sqlite3.Connection, device_no: int, *, public: PublicKey, token_hash: str, at: float
) -> int:
    """Make this the one key that counts for the device. Returns the number of the key.

    The key before it ends, and so do the runs that HQ knew: what that key signed is void.
    """
    _end_key(connection, device_no, at=at, why="rotated")
    cursor = connection.execute(
        "INSERT INTO device_key (device_no, key_id, public, since_at) VALUES (?, ?, ?, ?)",
        (device_no, public.id, public.raw, at),
    )
    key_no = int(cursor.lastrowid or 0)
    connection.execute(
        "UPDATE device SET state = 'active', token_hash = ?, key_no = ?, revoked_at = NULL"
        " WHERE no = ?",
        (token_hash, key_no, device_no),
    )
    device_runs.forget(connection, device_no)
    access.raise_version(connection)
    return key_no


def _end_key(connection: sqlite3.Connection, device_no: int, *, at: float, why: str) -> None:
    connection.execute(
        "UPDATE device_key SET until_at = ?, why = ? WHERE until_at IS NULL"
        " AND no = (SELECT key_no FROM device WHERE no = ?)",
        (at, why, device_no),
    )


# --- what an operator does -----------------------------------------------------------------------


def confirm(
    connection: sqlite3.Connection, identity: Identity, fingerprint: str, *, at: float
) -> PublicKey:
    """Let in the key that waits, if this is its fingerprint; blanks and letter case do not matter.

    The device hears of it when it asks again.

    Raises:
        EnrolmentError: The device is unknown, none of its keys waits, or another one does.
    """
    device_no = number_of(connection, identity)
    row = connection.execute(
        "SELECT id, device_key, asked_token_hash, expires_at FROM bundle WHERE device_no = ?"
        " AND device_key IS NOT NULL AND used_at IS NULL AND withdrawn_at IS NULL",
        (device_no,),
    ).fetchone()
    if row is None:
        raise EnrolmentError(
            f"no key waits for {identity}", hint="see who waits: hq device list --state waiting"
        )
    bundle_id, raw, token_hash, expires_at = row
    key = PublicKey(raw)
    if "".join(fingerprint.split()).replace(":", "").lower() != key.id:
        raise EnrolmentError(
            f"that is not the fingerprint of the key that waits for {identity}",
            hint="read it off the device again; if it differs, somebody else has used the bundle:"
            f" hq device revoke {identity}",
        )
    let_in(connection, device_no, public=key, token_hash=token_hash, at=at)
    connection.execute(
        "UPDATE bundle SET used_at = ?, expires_at = ? WHERE id = ?",
        (at, max(expires_at, at + CONFIRMED_SECONDS), bundle_id),
    )
    return key


def revoke(
    connection: sqlite3.Connection, identity: Identity, *, at: float, by: str, why: str = ""
) -> None:
    """Put a device out, at once and until it is invited again; idempotent.

    Raises:
        EnrolmentError: The device is unknown.
    """
    device_no = number_of(connection, identity)
    reason = f"revoked by {by}" if by else "revoked"
    _end_key(connection, device_no, at=at, why=f"{reason}: {why}" if why else reason)
    _withdraw_all(connection, device_no, at=at)
    connection.execute(
        "UPDATE device SET state = 'revoked', token_hash = '', online = 0,"
        " revoked_at = coalesce(revoked_at, ?) WHERE no = ?",
        (at, device_no),
    )
    access.raise_version(connection)


def allow(connection: sqlite3.Connection, identity: Identity, allowed_bytes: int | None) -> None:
    """Let so much of a device's records be kept; None as the settings say.

    Raises:
        EnrolmentError: The device is unknown.
    """
    connection.execute(
        "UPDATE device SET allowed_bytes = ? WHERE no = ?",
        (allowed_bytes, number_of(connection, identity)),
    )


def withdraw_bundle(connection: sqlite3.Connection, bundle_id: str, *, at: float) -> bool:
    """Make a bundle worthless; whether there was one that was not used yet."""
    found = bundle(connection, bundle_id)
    if found is None or found.used_at is not None or found.withdrawn_at is not None:
        return False
    _withdraw(connection, [found.id], found.device_no, at=at)
    return True


def _withdraw_all(connection: sqlite3.Connection, device_no: int, *, at: float) -> None:
    open_ones = [
        bundle_id
        for (bundle_id,) in connection.execute(
            "SELECT id FROM bundle WHERE device_no = ? AND used_at IS NULL"
            " AND withdrawn_at IS NULL",
            (device_no,),
        )
    ]
    _withdraw(connection, open_ones, device_no, at=at)


def _withdraw(
    connection: sqlite3.Connection, bundle_ids: Sequence[str], device_no: int, *, at: float
) -> None:
    connection.executemany(
        "UPDATE bundle SET withdrawn_at = ? WHERE id = ?", [(at, one) for one in bundle_ids]
    )
    connection.execute(
        "UPDATE device SET state = 'invited' WHERE no = ? AND state = 'waiting'", (device_no,)
    )
    access.raise_version(connection)


# --- what the hub does ---------------------------------------------------------------------------


BUNDLE = (
    "SELECT bundle.id, bundle.device_no, store.id, device.name, device.state, invite,"
    " expires_at, used_at, withdrawn_at, device_key, asked_token_hash, machine FROM bundle"
    " JOIN device ON device.no = bundle.device_no JOIN store ON store.no = device.store_no"
    " WHERE bundle.id = ?"
)


def bundle(connection: sqlite3.Connection, bundle_id: str) -> Bundle | None:
    """The bundle of that id."""
    row = connection.execute(BUNDLE, (bundle_id,)).fetchone()
    if row is None:
        return None
    no, device_no, store, name, *rest = row
    return Bundle(no, device_no, Identity(store, name), *rest)


def claim(
    connection: sqlite3.Connection,
    bundle_id: str,
    *,
    key: PublicKey,
    token_hash: str,
    machine: str,
) -> None:
    """Note who asked first; from now on the bundle is good for nobody else."""
    connection.execute(
        "UPDATE bundle SET device_key = ?, asked_token_hash = ?, machine = ? WHERE id = ?",
        (key.raw, token_hash, machine, bundle_id),
    )
    connection.execute(
        "UPDATE device SET state = 'waiting' WHERE state = 'invited'"
        " AND no = (SELECT device_no FROM bundle WHERE id = ?)",
        (bundle_id,),
    )


def use(connection: sqlite3.Connection, bundle_id: str, *, at: float) -> int:
    """Let in the key that claimed the bundle. Returns the number of the key."""
    device_no, raw, token_hash = connection.execute(
        "SELECT device_no, device_key, asked_token_hash FROM bundle WHERE id = ?", (bundle_id,)
    ).fetchone()
    key_no = let_in(connection, device_no, public=PublicKey(raw), token_hash=token_hash, at=at)
    connection.execute("UPDATE bundle SET used_at = ? WHERE id = ?", (at, bundle_id))
    return key_no


class Certificate(NamedTuple):
    """HQ's signed word about whose key a key is."""

    topic: str
    text: bytes
    key_id: str
    signature: str


def counting_key(connection: sqlite3.Connection, device_no: int, raw: bytes) -> int | None:
    """The number of this key if it is the one that counts for the device at present."""
    row = connection.execute(
        "SELECT device_key.no FROM device JOIN device_key ON device_key.no = key_no"
        " WHERE device.no = ? AND state = 'active' AND public = ?",
        (device_no, raw),
    ).fetchone()
    return None if row is None else int(row[0])


def prove(connection: sqlite3.Connection, key_no: int, certificate: Certificate) -> None:
    """Keep HQ's word with the key it is about; the first one stays."""
    connection.execute(
        "UPDATE device_key SET joined_topic = ?, joined_text = ?, joined_key = ?,"
        " joined_signature = ? WHERE no = ? AND joined_text IS NULL",
        (
            certificate.topic,
            certificate.text,
            certificate.key_id,
            certificate.signature,
            key_no,
        ),
    )


class Unproved(NamedTuple):
    """A key that was let in and that HQ has not signed for yet."""

    key_no: int
    key_id: str
    identity: Identity
    since_at: float


ANY_UNPROVED = "SELECT 1 FROM device_key WHERE joined_text IS NULL LIMIT 1"


def any_unproved(connection: sqlite3.Connection) -> bool:
    """Whether a key waits for HQ's word."""
    return connection.execute(ANY_UNPROVED).fetchone() is not None


def unproved(connection: sqlite3.Connection) -> Iterator[Unproved]:
    """The keys that wait for HQ's word."""
    for key_no, key_id, store, name, since_at in connection.execute(
        "SELECT device_key.no, key_id, store.id, device.name, since_at FROM device_key"
        " JOIN device ON device.no = device_key.device_no JOIN store ON store.no = device.store_no"
        " WHERE joined_text IS NULL"
    ).fetchall():
        yield Unproved(key_no, key_id, Identity(store, name), since_at)


def number_of(connection: sqlite3.Connection, identity: Identity) -> int:
    """The number of a device.

    Raises:
        EnrolmentError: There is none of that name.
    """
    row = connection.execute(
        "SELECT device.no FROM device JOIN store ON store.no = store_no"
        " WHERE store.id = ? AND device.name = ?",
        identity,
    ).fetchone()
    if row is None:
        raise EnrolmentError(
            f"there is no device {identity}",
            hint=f"hq device list {identity.store}, or: hq device add {identity.store}"
            f" {identity.device}",
        )
    return int(row[0])
