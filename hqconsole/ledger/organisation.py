"""The roster in the ledger: regions, stores, roles, mailboxes, and the version of channel sets.

A store's set version rises with every change of what its devices should hear (region, roles,
closing, a device's roles). It is a cursor like any other, number and random id, so that a ledger
put back from an older copy cannot be mistaken for the one that went on.

A store that closes keeps its rows; its mailboxes come back with their open work when it opens
again.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from buswire.cursors import Cursor
from buswire.messages import StoreFacts
from buswire.topics import ANY_ROLE, Channel, channels_of
from hqconsole.errors import HqError
from hqconsole.ledger import access
from hqconsole.organisation import OWN_COLUMNS, Mailbox, OpenStore, Organisation
from hqconsole.roster import RosterDifference, StoreRow, difference

NewId = Callable[[], str]

NUMBERS_FOR_ROLE = (
    "SELECT store.id, mailbox.no FROM mailbox CROSS JOIN store ON store.no = store_no"
    " WHERE role = ?"
)

# Column, or columns, of the ledger for each of `OWN_COLUMNS`.
_CELLS = {
    "id": "id",
    "name": "store.name",
    "region": "region",
    "region_name": "region.name",
    "city": "city",
    "country": "country",
    "timezone": "timezone",
    "roles": "roles || char(10) || role_names",
    "tags": "tags",
}


class Place(NamedTuple):
    """What answering a device needs to know of its store."""

    store_no: int
    open: bool
    region: str
    roles: tuple[str, ...]
    set_version: Cursor
    facts: StoreFacts


def place_of(connection: sqlite3.Connection, store_id: str) -> Place | None:
    """The store as the protocol sees it, or None when the roster does not have it."""
    row = connection.execute(
        "SELECT no, closed_at IS NULL, region, roles, set_seq, set_id, name, timezone"
        " FROM store WHERE id = ?",
        (store_id,),
    ).fetchone()
    if row is None:
        return None
    no, is_open, region, roles, seq, set_id, name, timezone = row
    facts = StoreFacts(name=name, region=region if is_open else "", timezone=timezone)
    return Place(no, bool(is_open), region, tuple(json.loads(roles)), Cursor(seq, set_id), facts)


def channels_for(place: Place, store_id: str, device_roles: Sequence[str]) -> tuple[Channel, ...]:
    """The channels of one device: none in a closed store."""
    if not place.open:
        return ()
    return channels_of(store_id, place.region, device_roles)


def rows(connection: sqlite3.Connection, *, closed: bool = False) -> dict[str, StoreRow]:
    """The roster's stores by id; closed ones only if asked for."""
    where = "" if closed else "WHERE closed_at IS NULL"
    return {
        row[0]: StoreRow(
            store_id=row[0],
            name=row[1],
            region=row[2],
            region_name=row[3],
            city=row[4],
            country=row[5],
            timezone=row[6],
            roles=tuple(json.loads(row[7])),
            role_names=tuple(json.loads(row[8])),
            tags=tuple(json.loads(row[9])),
            extra=json.loads(row[10]),
        )
        for row in connection.execute(
            "SELECT id, store.name, region, region.name, city, country, timezone, roles,"
            f" role_names, tags, extra FROM store JOIN region ON region.slug = region {where}"
            " ORDER BY id"
        )
    }


def timezones(connection: sqlite3.Connection) -> dict[str, str]:
    """The time zone of every open store."""
    return dict(
        connection.execute("SELECT id, timezone FROM store WHERE closed_at IS NULL").fetchall()
    )


def organisation(connection: sqlite3.Connection) -> Organisation:
    """The open stores as audiences see them; the rest of the roster is read if it is asked for."""
    lists: dict[str, frozenset[str]] = {}

    def entries(text: str) -> frozenset[str]:
        """The entries of a list; a chain has few different ones."""
        found = lists.get(text)
        if found is None:
            found = lists[text] = frozenset(json.loads(text))
        return found

    return Organisation(
        {
            store_id: OpenStore(region, entries(roles), entries(tags))
            for store_id, region, roles, tags in connection.execute(
                "SELECT id, region, roles, tags FROM store WHERE closed_at IS NULL"
            )
        },
        lambda own: cells(connection, own),
    )


def cells(
    connection: sqlite3.Connection, own: Collection[str] = OWN_COLUMNS
) -> dict[str, dict[str, str | tuple[str, ...]]]:
    """What the roster says of each open store, by column, as `--where` sees it.

    An extra column that is called like one of ours has `extra.` before its name.

    Args:
        connection: In a transaction.
        own: Which of our columns are needed; the extra ones are all there.
    """
    lists: dict[str, tuple[str, ...]] = {}

    def entries(text: str) -> tuple[str, ...]:
        """The entries of one list, or of several on lines of their own, each entry once."""
        found = lists.get(text)
        if found is None:
            every = [entry for line in text.split("\n") for entry in json.loads(line)]
            found = lists[text] = tuple(dict.fromkeys(every))
        return found

    wanted = sorted(set(own) & _CELLS.keys())
    columns = "".join(f", {_CELLS[name]}" for name in wanted)
    rows = connection.execute(
        f"SELECT id, extra{columns} FROM store JOIN region ON region.slug = region"
        " WHERE closed_at IS NULL"
    ).fetchall()
    # One document of them all is read several times as fast as each alone.
    extras = json.loads("[" + ",".join([row[1] for row in rows]) + "]")
    by_store: dict[str, dict[str, str | tuple[str, ...]]] = {}
    for row, extra in zip(rows, extras, strict=True):
        if not extra.keys().isdisjoint(_CELLS):
            for name in extra.keys() & _CELLS.keys():
                extra[f"extra.{name}"] = extra.pop(name)
        extra.update(zip(wanted, row[2:], strict=True))
        for name in ("roles", "tags"):
            if name in extra:
                extra[name] = entries(extra[name])
        by_store[row[0]] = extra
    return by_store


class PresentOrganisation:
    """The open stores, read again after every change of the roster."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read through this connection."""
        self._connection = connection
        self._version = -1
        self._organisation: Organisation | None = None

    def __call__(self) -> Organisation:
        """The organisation as it is in the present transaction."""
        version = roster_version(self._connection)
        if self._organisation is None or version != self._version:
            self._organisation = organisation(self._connection)
            self._version = version
        return self._organisation


def mailbox_numbers(connection: sqlite3.Connection) -> dict[Mailbox, int]:
    """Every mailbox that the ledger knows, closed stores' included."""
    return {
        Mailbox(store_id, role): no
        for no, store_id, role in connection.execute(
            "SELECT mailbox.no, store.id, role FROM mailbox JOIN store ON store.no = store_no"
        )
    }


class MailboxNumbers:
    """The numbers of mailboxes, role by role as they are asked for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read through this connection, in one transaction."""
        self._connection = connection
        self._by_role: dict[str, dict[str, int]] = {}

    def of(self, mailboxes: Collection[Mailbox]) -> list[int]:
        """The numbers of these, in order.

        Raises:
            KeyError: The ledger does not know one of them.
        """
        numbers: list[int] = []
        for role in {role for _, role in mailboxes}:
            if role not in self._by_role:
                rows = self._connection.execute(NUMBERS_FOR_ROLE, (role,)).fetchall()
                self._by_role[role] = dict(rows)
            by_store = self._by_role[role]
            numbers += [by_store[store] for store, its_role in mailboxes if its_role == role]
        return sorted(numbers)


def save_roster(
    connection: sqlite3.Connection, stores: Iterable[StoreRow], *, at: float, new_id: NewId
) -> RosterDifference:
    """Make the roster this list: new stores open, missing ones close, changed ones change.

    Durable with the caller's transaction; the same list again changes nothing.
    """
    new = {store.store_id: store for store in stores}
    change = difference(rows(connection), new)
    for store in new.values():
        connection.execute(
            "INSERT INTO region (slug, name) VALUES (?, ?)"
            " ON CONFLICT (slug) DO UPDATE SET name = excluded.name WHERE name <> excluded.name",
            (store.region, store.region_name),
        )
    touched = [store.store_id for store in change.added]
    touched += [altered.store_id for altered in change.changed]
    for store_id in touched:
        _save_store(connection, new[store_id], new_id)
    for closed in change.closed:
        connection.execute(
            "UPDATE store SET closed_at = ?, set_seq = set_seq + 1, set_id = ? WHERE id = ?",
            (at, new_id(), closed.store_id),
        )
    if touched or change.closed:
        _raise_roster_version(connection)
    return change


def roster_version(connection: sqlite3.Connection) -> int:
    """A number that rises with every change of the roster."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'roster_version'").fetchone()
    return int(row[0]) if row else 0


def set_versions(connection: sqlite3.Connection) -> dict[str, Cursor]:
    """The version of each store's channel set."""
    return {
        store_id: Cursor(seq, set_id)
        for store_id, seq, set_id in connection.execute("SELECT id, set_seq, set_id FROM store")
    }


def _raise_roster_version(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('roster_version', 1)"
        " ON CONFLICT (key) DO UPDATE SET value = value + 1"
    )
    access.raise_version(connection)


def _save_store(connection: sqlite3.Connection, store: StoreRow, new_id: NewId) -> None:
    before = connection.execute(
        "SELECT no, region, roles, closed_at FROM store WHERE id = ?", (store.store_id,)
    ).fetchone()
    roles = json.dumps(store.roles, ensure_ascii=False)
    values = (
        store.name,
        store.region,
        store.city,
        store.country,
        store.timezone,
        roles,
        json.dumps(store.role_names, ensure_ascii=False),
        json.dumps(store.tags, ensure_ascii=False),
        json.dumps(dict(store.extra), ensure_ascii=False),
    )
    if before is None:
        cursor = connection.execute(
            "INSERT INTO store (name, region, city, country, timezone, roles, role_names, tags,"
            " extra, id, set_seq, set_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)",
            (*values, store.store_id, new_id()),
        )
        store_no = int(cursor.lastrowid or 0)
    else:
        store_no = before[0]
        connection.execute(
            "UPDATE store SET name = ?, region = ?, city = ?, country = ?, timezone = ?,"
            " roles = ?, role_names = ?, tags = ?, extra = ?, closed_at = NULL WHERE no = ?",
            (*values, store_no),
        )
        if before[1] != store.region or before[2] != roles or before[3] is not None:
            raise_set_version(connection, store_no, new_id)
        if before[2] != roles:
            _remember_roles(connection, store_no, json.loads(before[2]))
    connection.executemany(
        "INSERT OR IGNORE INTO mailbox (store_no, role) VALUES (?, ?)",
        [(store_no, role) for role in (ANY_ROLE, *store.roles)],
    )


def _remember_roles(connection: sqlite3.Connection, store_no: int, roles: Sequence[str]) -> None:
    """Note, before they go, the roles of the devices that serve all that their store has."""
    for device_no, ever in connection.execute(
        "SELECT no, roles_ever FROM device WHERE store_no = ? AND roles IS NULL", (store_no,)
    ).fetchall():
        save_roles_ever(connection, device_no, {*json.loads(ever), *roles})


def save_roles_ever(connection: sqlite3.Connection, device_no: int, roles: Iterable[str]) -> None:
    """Keep which roles a device serves or served: work may be answered after they changed."""
    connection.execute(
        "UPDATE device SET roles_ever = ? WHERE no = ?",
        (json.dumps(sorted(roles), ensure_ascii=False), device_no),
    )


def raise_set_version(connection: sqlite3.Connection, store_no: int, new_id: NewId) -> None:
    """The store's devices are to hear other channels from now on: their next hello shows it."""
    connection.execute(
        "UPDATE store SET set_seq = set_seq + 1, set_id = ? WHERE no = ?", (new_id(), store_no)
    )


def assign_roles(
    connection: sqlite3.Connection,
    store_id: str,
    device: str,
    roles: Sequence[str] | None,
    *,
    new_id: NewId,
) -> None:
    """Set which of the store's roles a device serves; None for all.

    Raises:
        HqError: The store or the device is unknown, or the store does not have one of the roles.
    """
    place = place_with_roles(connection, store_id, roles)
    row = connection.execute(
        "SELECT no, roles_ever, roles IS NULL FROM device WHERE store_no = ? AND name = ?",
        (place.store_no, device),
    ).fetchone()
    if row is None:
        raise HqError(
            f"store {store_id} has no device {device}",
            hint=f"hq device add {store_id} {device}",
        )
    no, ever, had_all = row
    connection.execute("UPDATE device SET roles = ? WHERE no = ?", (roles_text(roles), no))
    gone = place.roles if had_all else ()
    save_roles_ever(connection, no, {*json.loads(ever), *gone, *(roles or ())})
    raise_set_version(connection, place.store_no, new_id)
    _raise_roster_version(connection)


def place_with_roles(
    connection: sqlite3.Connection, store_id: str, roles: Sequence[str] | None
) -> Place:
    """The store, which must have these roles.

    Raises:
        HqError: It is unknown, or lacks one.
    """
    place = place_of(connection, store_id)
    if place is None:
        raise HqError(f"there is no store {store_id}", hint="hq roster show lists them")
    strangers = sorted(set(roles or ()) - set(place.roles))
    if strangers:
        raise HqError(
            f"store {store_id} has no role {', '.join(strangers)}",
            hint=f"it has {', '.join(place.roles)}",
        )
    return place


def roles_text(roles: Sequence[str] | None) -> str | None:
    """A device's roles as its row has them; None for all that its store has."""
    return None if roles is None else json.dumps(sorted(roles), ensure_ascii=False)
