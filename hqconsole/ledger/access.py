"""What of the ledger the access file shows, and the number that rises with every change of it.

Whoever changes the roster, a device, a bundle or a tool raises the version in the same transaction;
the hub writes the file anew when it sees another version.
"""

import functools
import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hqconsole.ledger import channels

_VERSION = "access_version"
_HUB_ID = "hub_id"
_RECOVERY_KEY = "recovery_key"
_HUB_TOKEN_HASH = "hub_token_hash"  # noqa: S105 - the name of a row


def version(connection: sqlite3.Connection) -> int:
    """The version of what the access file shows."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_VERSION,)).fetchone()
    return int(row[0]) if row else 0


def raise_version(connection: sqlite3.Connection, *, above: int = 0) -> None:
    """Something that the access file shows has changed; durable with the caller's transaction."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2 + 1)"
        " ON CONFLICT (key) DO UPDATE SET value = max(value, ?2) + 1",
        (_VERSION, above),
    )


def hub_id(connection: sqlite3.Connection) -> str:
    """What this ledger's hub is called, drawn when the ledger was made."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_HUB_ID,)).fetchone()
    return str(row[0])


def hub_token_hash(connection: sqlite3.Connection) -> str:
    """The hash of the hub's token; empty before it has one."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_HUB_TOKEN_HASH,)).fetchone()
    return "" if row is None else str(row[0])


def save_hub_token_hash(connection: sqlite3.Connection, token_hash: str) -> None:
    """Keep the hash of the hub's token."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_HUB_TOKEN_HASH, token_hash),
    )
    raise_version(connection)


def recovery_key(connection: sqlite3.Connection) -> str:
    """The recovery key that this ledger's devices were let in with; empty before the first."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (_RECOVERY_KEY,)).fetchone()
    return "" if row is None else str(row[0])


def save_recovery_key(connection: sqlite3.Connection, key: str) -> None:
    """Remember it, so that the keys of another head office are noticed."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_RECOVERY_KEY, key),
    )


def belong_to(connection: sqlite3.Connection, key: str) -> bool:
    """Make this the ledger of the head office with that recovery key; whether it was another's.

    For who lost all keys and begins with new ones: what the old keys sealed and proved, the hub
    seals and proves anew. Devices go on trusting the old ones until they join again.
    """
    known = recovery_key(connection)
    if key in {"", known}:
        return False
    save_recovery_key(connection, key)
    if known:
        channels.unseal_all(connection)
        connection.execute(
            "UPDATE device_key SET joined_topic = NULL, joined_text = NULL, joined_key = NULL,"
            " joined_signature = NULL"
        )
    return bool(known)


class DeviceEntry(NamedTuple):
    """An active device."""

    store: str
    name: str
    token_hash: str
    region: str
    """Empty where the store is closed."""
    roles: tuple[str, ...]


DEVICES = (
    "SELECT store.id, device.name, token_hash,"
    " CASE WHEN closed_at IS NULL THEN region ELSE '' END, store.roles, device.roles"
    " FROM device JOIN store ON store.no = store_no WHERE state = 'active'"
)


def devices(connection: sqlite3.Connection) -> Iterator[DeviceEntry]:
    """Every device that may connect."""
    for store, name, token_hash, region, of_store, own in connection.execute(DEVICES):
        roles = _served(of_store, own) if region else ()
        yield DeviceEntry(store, name, token_hash, region, roles)


@functools.lru_cache(maxsize=4096)
def _served(of_store: str, own: str | None) -> tuple[str, ...]:
    # Thousands of devices have one of a few sets of roles.
    roles: Sequence[str] = json.loads(of_store)
    wanted = roles if own is None else json.loads(own)
    return tuple(role for role in roles if role in wanted)


class BundleEntry(NamedTuple):
    """A join bundle that may still be heard."""

    id: str
    token_hash: str
    until_at: float | None
    """When it is to be left out; None as long as its key waits for an operator."""


def bundles(connection: sqlite3.Connection, *, at: float) -> list[BundleEntry]:
    """The bundles whose holders may connect.

    One that was used stays until it expires: its first user may not have heard the answer, and a
    second one is to be heard.
    """
    return [
        BundleEntry(bundle_id, token_hash, None if waits else expires_at)
        for bundle_id, token_hash, expires_at, waits in connection.execute(
            "SELECT id, token_hash, expires_at, device_key IS NOT NULL AND used_at IS NULL"
            " FROM bundle WHERE withdrawn_at IS NULL"
            " AND (expires_at > ? OR (device_key IS NOT NULL AND used_at IS NULL))",
            (at,),
        )
    ]


class ToolEntry(NamedTuple):
    """A program of the operators' that listens."""

    name: str
    token_hash: str
    reads: list[str]


def tools(connection: sqlite3.Connection) -> list[ToolEntry]:
    """The tools that may connect."""
    return [
        ToolEntry(name, token_hash, json.loads(reads))
        for name, token_hash, reads in connection.execute(
            "SELECT name, token_hash, reads FROM tool WHERE revoked_at IS NULL"
        )
    ]
