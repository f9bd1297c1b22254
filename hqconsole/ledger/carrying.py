"""What a ledger that is put back keeps of the one it replaces: who is let in, and who is out.

A copy is from before. Put back as it is, it would let in a device that was revoked since, shut out
every device that joined or got another key since, and believe hellos that were recorded since. So
the identities are taken over from the ledger that was there, as long as it can be read: devices
with their states, tokens, keys and latest runs, bundles, tools, and the hub's own token. What
stores did and said is not touched: that they bring back themselves. What operators did since the
copy was made nobody could bring back, so the audit goes on where the ledger that was there ends: no
restore makes anybody forget who did what.

Stores are matched by their id, devices by their name; a device of a store that the copy does not
have is left out and named.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hqconsole.ledger import access, organisation

_DEVICE = (
    "roles",
    "state",
    "token_hash",
    "roles_ever",
    "revoked_at",
    "allowed_bytes",
    "run",
    "first_heard_at",
)
_KEY = (
    "key_id",
    "public",
    "since_at",
    "until_at",
    "why",
    "joined_topic",
    "joined_text",
    "joined_key",
    "joined_signature",
)
_BUNDLE = (
    "id",
    "token_hash",
    "invite",
    "made_at",
    "made_by",
    "expires_at",
    "used_at",
    "device_key",
    "asked_token_hash",
    "machine",
    "withdrawn_at",
)
_RUN = ("run", "install", "start", "number", "machine", "first_at", "last_at", "comebacks")
_TOOL = ("name", "token_hash", "reads", "made_at", "made_by", "revoked_at")

_AUDIT = ("at", "operator", "origin", "action", "detail", "hash")

Row = Sequence[Any]


class _Device(NamedTuple):
    store: str
    name: str
    values: Row
    key_id: str | None
    keys: list[Row]
    bundles: list[Row]
    runs: list[Row]


class Identities(NamedTuple):
    """All that a ledger knows of who may speak."""

    devices: list[_Device]
    tools: list[Row]
    hub_token_hash: str
    recovery_key: str
    access_version: int
    audit: list[Row]


class Carried(NamedTuple):
    """What was taken over."""

    devices: int
    changed: int
    """Of these, how many the copy knew otherwise or not at all."""
    left_out: list[str]
    """Devices of stores that the copy does not have."""


def read_identities(connection: sqlite3.Connection) -> Identities:
    """Take them out of the ledger that is to be replaced."""
    devices = []
    for no, store, name, key_id, *values in connection.execute(
        f"SELECT device.no, store.id, device.name, key_id, {_columns(_DEVICE, 'device')}"
        " FROM device JOIN store ON store.no = device.store_no"
        " LEFT JOIN device_key ON device_key.no = device.key_no"
    ).fetchall():
        devices.append(
            _Device(
                store,
                name,
                values,
                key_id,
                _of_device(connection, "device_key", _KEY, no),
                _of_device(connection, "bundle", _BUNDLE, no),
                _of_device(connection, "device_run", _RUN, no),
            )
        )
    return Identities(
        devices,
        connection.execute(f"SELECT {_columns(_TOOL)} FROM tool").fetchall(),
        access.hub_token_hash(connection),
        access.recovery_key(connection),
        access.version(connection),
        connection.execute(f"SELECT {_columns(_AUDIT)} FROM audit ORDER BY no").fetchall(),
    )


def carry_identities(
    connection: sqlite3.Connection, identities: Identities, *, new_id: Callable[[], str]
) -> Carried:
    """Put them into the copy, in the caller's transaction. Idempotent.

    Where a device has other roles than in the copy, the version of its store's channel set rises:
    the copy's version stands for the copy's roles.
    """
    stores = dict(connection.execute("SELECT id, no FROM store").fetchall())
    changed, left_out = 0, []
    for device in identities.devices:
        store_no = stores.get(device.store)
        if store_no is None:
            left_out.append(f"{device.store}.{device.name}")
        else:
            changed += _carry_device(connection, store_no, device, new_id)
    for tool in identities.tools:
        _put(connection, "tool", dict(zip(_TOOL, tool, strict=True)))
    if identities.hub_token_hash:
        access.save_hub_token_hash(connection, identities.hub_token_hash)
    if identities.recovery_key and not access.recovery_key(connection):
        access.save_recovery_key(connection, identities.recovery_key)
    _carry_audit(connection, identities.audit)
    access.raise_version(connection, above=identities.access_version)
    return Carried(len(identities.devices) - len(left_out), changed, left_out)


def _carry_audit(connection: sqlite3.Connection, audit: Sequence[Row]) -> None:
    """Append what followed the copy's latest row; nothing where that row is not of this audit."""
    last = connection.execute("SELECT hash FROM audit ORDER BY no DESC LIMIT 1").fetchone()
    hashes = [row[-1] for row in audit]
    if last is not None and last[0] not in hashes:
        return
    missing = audit[0 if last is None else hashes.index(last[0]) + 1 :]
    marks = ", ".join("?" * len(_AUDIT))
    connection.executemany(f"INSERT INTO audit ({_columns(_AUDIT)}) VALUES ({marks})", missing)


def _carry_device(
    connection: sqlite3.Connection, store_no: int, device: _Device, new_id: Callable[[], str]
) -> bool:
    before = connection.execute(
        "SELECT device.no, state, token_hash, key_id, device.roles FROM device"
        " LEFT JOIN device_key ON device_key.no = key_no WHERE store_no = ? AND name = ?",
        (store_no, device.name),
    ).fetchone()
    values = dict(zip(_DEVICE, device.values, strict=True))
    if before is None:
        cursor = connection.execute(
            "INSERT INTO device (store_no, name, first_heard_at, last_heard_at)"
            " VALUES (?, ?, ?, 0)",
            (store_no, device.name, values["first_heard_at"]),
        )
        no = int(cursor.lastrowid or 0)
    else:
        no = before[0]
    numbers = {}
    for key in device.keys:
        numbers[key[0]] = _carry_key(connection, no, dict(zip(_KEY, key, strict=True)))
    for bundle in device.bundles:
        _put(connection, "bundle", {**dict(zip(_BUNDLE, bundle, strict=True)), "device_no": no})
    connection.execute("DELETE FROM device_run WHERE device_no = ?", (no,))
    for run in device.runs:
        _put(connection, "device_run", {**dict(zip(_RUN, run, strict=True)), "device_no": no})
    values["key_no"] = None if device.key_id is None else numbers[device.key_id]
    del values["first_heard_at"]
    assignments = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"UPDATE device SET {assignments} WHERE no = ?", (*values.values(), no))
    if before is not None and before[4] != values["roles"]:
        organisation.raise_set_version(connection, store_no, new_id)
    now = (values["state"], values["token_hash"], device.key_id, values["roles"])
    return before is None or before[1:] != now


def _carry_key(connection: sqlite3.Connection, device_no: int, key: Mapping[str, Any]) -> int:
    row = connection.execute(
        "SELECT no FROM device_key WHERE device_no = ? AND key_id = ? AND since_at = ?",
        (device_no, key["key_id"], key["since_at"]),
    ).fetchone()
    if row is None:
        return _put(connection, "device_key", {**key, "device_no": device_no})
    assignments = ", ".join(f"{name} = ?" for name in key)
    connection.execute(f"UPDATE device_key SET {assignments} WHERE no = ?", (*key.values(), row[0]))
    return int(row[0])


def _put(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    marks = ", ".join("?" * len(row))
    cursor = connection.execute(
        f"INSERT OR REPLACE INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
    )
    return int(cursor.lastrowid or 0)


def _of_device(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], device_no: int
) -> list[Row]:
    return connection.execute(
        f"SELECT {_columns(columns)} FROM {table} WHERE device_no = ?", (device_no,)
    ).fetchall()


def _columns(names: Sequence[str], table: str = "") -> str:
    return ", ".join(f"{table}.{name}" if table else name for name in names)
