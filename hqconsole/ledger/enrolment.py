"""Letting devices in and putting them out: invitations, keys, revocation.

A device is `invited` when a bundle was made for it, `waiting` when somebody asked to be it and an
operator is to compare the fingerprint of the key, `active` from when its key counts, `revoked` for
good or until it is invited again. One that is active stays so while a new key asks and waits.

Every function works in the caller's transaction and raises the version of the access file where
that shows the change.
"""

import sqlite3
from collections.abc import Callable, Sequence

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
