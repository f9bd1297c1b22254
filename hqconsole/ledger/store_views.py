"""What the console reads of stores and devices: who is there, who is behind, who serves what.

Reading only. A row is a dict with the names that `--json` shows.
"""

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from buswire.signing import key_id
from hqconsole.audience import Mailbox
from hqconsole.ledger.presence import serves

STORES = (
    "SELECT store.id, store.name, store.region, store.city, store.timezone, store.closed_at,"
    " count(device.no), coalesce(sum(device.online), 0), max(device.last_heard_at),"
    " sum((SELECT sum(pending) FROM uplink WHERE uplink.device_no = device.no))"
    " FROM store LEFT JOIN device ON device.store_no = store.no AND device.state = 'active'"
    " WHERE {where} GROUP BY store.no ORDER BY store.region, store.id"
)
DEVICES = (
    "SELECT store.id, device.name, device.roles, device.online, device.last_heard_at,"
    " device.first_heard_at, device.version, device.install, device.clock_offset_seconds,"
    " (SELECT sum(pending) FROM uplink WHERE uplink.device_no = device.no), store.roles"
    " FROM store JOIN device ON device.store_no = store.no"
    " WHERE {where} ORDER BY store.id, device.name"
)
ENROLLED = (
    "SELECT store.id, device.name, device.state, device.roles, store.roles, device_key.key_id,"
    " bundle.device_key, bundle.expires_at, device.online, device.last_heard_at,"
    " (SELECT machine FROM device_run WHERE device_no = device.no ORDER BY last_at DESC LIMIT 1),"
    " bundle.machine, device.kept_bytes, device.allowed_bytes, device.revoked_at"
    " FROM store JOIN device ON device.store_no = store.no"
    " LEFT JOIN device_key ON device_key.no = device.key_no"
    " LEFT JOIN bundle ON bundle.id = (SELECT id FROM bundle WHERE device_no = device.no"
    " AND used_at IS NULL AND withdrawn_at IS NULL ORDER BY made_at DESC LIMIT 1)"
    " WHERE {where} ORDER BY store.id, device.name"
)
_ROSTER = (
    "SELECT store.id, store.name, region, region.name, city, country, timezone, roles, role_names,"
    " tags, extra, closed_at FROM store JOIN region ON region.slug = region"
    " WHERE {where} ORDER BY region, store.id"
)


def stores(
    connection: sqlite3.Connection, *, region: str | None = None, closed: bool = False
) -> list[dict[str, Any]]:
    """The stores with what is known of their devices: online, last heard, backlog."""
    where, values = _where(region, closed=closed)
    return [
        {
            "store": row[0],
            "name": row[1],
            "region": row[2],
            "city": row[3],
            "timezone": row[4],
            "closed_at": row[5],
            "devices": row[6],
            "devices_online": row[7],
            "online": row[7] > 0,
            "last_heard_at": row[8] or None,
            "backlog": row[9] or 0,
        }
        for row in connection.execute(STORES.format(where=where), values)
    ]


def devices(connection: sqlite3.Connection, *, store: str | None = None) -> list[dict[str, Any]]:
    """The devices that HQ knows, heard or assigned."""
    where, values = ("store.id = ?", [store]) if store is not None else ("1", [])
    return [
        {
            "store": row[0],
            "device": row[1],
            "roles": json.loads(row[10] if row[2] is None else row[2]),
            "all_roles": row[2] is None,
            "online": bool(row[3]),
            "last_heard_at": row[4] or None,
            "first_heard_at": row[5] if row[4] else None,
            "version": row[6],
            "install": row[7],
            "clock_offset_seconds": row[8],
            "backlog": row[9] or 0,
        }
        for row in connection.execute(DEVICES.format(where=where), values)
    ]


def enrolled(
    connection: sqlite3.Connection,
    *,
    store: str | None = None,
    device: str | None = None,
    state: str | None = None,
) -> list[dict[str, Any]]:
    """The devices as they were let in: state, key, what is kept of them, on which machine."""
    parts, values = ["1"], list[str]()
    for column, value in (("store.id", store), ("device.name", device), ("device.state", state)):
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    return [
        {
            "store": row[0],
            "device": row[1],
            "state": row[2],
            "roles": json.loads(row[4] if row[3] is None else row[3]),
            "all_roles": row[3] is None,
            "key": None if row[2] == "revoked" else row[5],
            "waiting_key": None if row[6] is None else key_id(bytes(row[6])),
            "invited_until_at": row[7],
            "online": bool(row[8]),
            "last_heard_at": row[9] or None,
            "machine": row[10] or row[11] or "",
            "kept_bytes": row[12],
            "allowed_bytes": row[13],
            "revoked_at": row[14] if row[2] == "revoked" else None,
        }
        for row in connection.execute(ENROLLED.format(where=" AND ".join(parts)), values)
    ]


def roster(
    connection: sqlite3.Connection, *, region: str | None = None, closed: bool = False
) -> list[dict[str, Any]]:
    """The roster as it was imported."""
    where, values = _where(region, closed=closed)
    return [
        {
            "store": row[0],
            "name": row[1],
            "region": row[2],
            "region_name": row[3],
            "city": row[4],
            "country": row[5],
            "timezone": row[6],
            "roles": json.loads(row[7]),
            "role_names": json.loads(row[8]),
            "tags": json.loads(row[9]),
            "extra": json.loads(row[10]),
            "closed_at": row[11],
        }
        for row in connection.execute(_ROSTER.format(where=where), values)
    ]


def regions(connection: sqlite3.Connection) -> dict[str, str]:
    """Every region by its identifier, with its display name."""
    return dict(connection.execute("SELECT slug, name FROM region ORDER BY slug").fetchall())


def has_store(connection: sqlite3.Connection, store: str) -> bool:
    """Whether the roster has, or had, this store."""
    found = connection.execute("SELECT 1 FROM store WHERE id = ?", (store,)).fetchone()
    return found is not None


def store_ids(connection: sqlite3.Connection) -> list[str]:
    """Every store that the roster has, or had."""
    return [str(row[0]) for row in connection.execute("SELECT id FROM store ORDER BY id")]


def open_stores(connection: sqlite3.Connection) -> int:
    """How many stores are open."""
    return int(
        connection.execute("SELECT count(*) FROM store WHERE closed_at IS NULL").fetchone()[0]
    )


def unserved(connection: sqlite3.Connection, mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
    """Those of the mailboxes that no active device serves which HQ has ever heard, sorted."""
    heard: dict[str, list[str | None]] = {}
    for store_id, roles in connection.execute(
        "SELECT store.id, device.roles FROM device JOIN store ON store.no = device.store_no"
        " WHERE device.last_heard_at > 0 AND device.state = 'active'"
    ):
        heard.setdefault(store_id, []).append(roles)
    return sorted(
        mailbox
        for mailbox in mailboxes
        if not any(serves(roles, mailbox.role) for roles in heard.get(mailbox.store, ()))
    )


def _where(region: str | None, *, closed: bool) -> tuple[str, list[str]]:
    parts = [] if closed else ["store.closed_at IS NULL"]
    values = []
    if region is not None:
        parts.append("store.region = ?")
        values.append(region)
    return " AND ".join(parts) or "1", values
