"""Who `device add` is to invite: one device, one in each of many stores, or those of a list."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from buskit.database import Database
from buskit.terminal import narrate
from buswire.names import identifier, slug
from buswire.topics import Identity
from hqconsole.errors import HqError
from hqconsole.ledger import store_views

Roles = tuple[str, ...] | None


class Wanted(NamedTuple):
    """A device to add; `roles` None means all of its store, or as they are."""

    identity: Identity
    roles: Roles
    named: Sequence[str] = ()
    """What one that is known serves."""


def parse_roles(words: Sequence[str]) -> Roles:
    """Roles as typed, apart by commas or said several times; None for all."""
    named = [slug(word, "role") for text in words for word in text.split(",") if word.strip()]
    return tuple(sorted(set(named))) if words else None


def wanted_devices(
    ledger: Database,
    words: Sequence[str],
    roles: Roles,
    *,
    everywhere: bool,
    regions: Sequence[str],
    listed: str | None,
) -> list[Wanted]:
    """The devices that the words of a command mean.

    Args:
        ledger: Has the stores.
        words: `STORE DEVICE`, or `STORE.DEVICE`, or the one name that each store's device gets.
        roles: As `parse_roles` gives them.
        everywhere: Every open store is meant.
        regions: The stores of these are.
        listed: A file that names them, instead of all that.

    Raises:
        HqError: Something that was named is not there, or cannot be.
        UsageError: The words contradict each other.
    """
    if listed is not None:
        if words or roles is not None or everywhere or regions:
            raise click.UsageError("--list says stores, devices and roles itself")
        return _read_list(listed)
    if not (everywhere or regions):
        if len(words) == 1 and "." in words[0]:
            words = tuple(Identity.parse(words[0]))
        if len(words) != 2:
            raise click.UsageError("name a store and a device, or --all, --region or --list")
        return [Wanted(Identity(words[0], identifier(words[1], "device")), roles)]
    if everywhere and regions:
        raise click.UsageError("--all and --region contradict each other; leave one out")
    if len(words) != 1:
        raise click.UsageError("name one device, which each of these stores gets")
    name = identifier(words[0], "device")
    with ledger.read() as connection:
        known = store_views.regions(connection)
        for region in regions:
            if region not in known:
                raise HqError(f"there is no region {region}", hint=f"there are: {', '.join(known)}")
        stores = [
            row for row in store_views.roster(connection) if everywhere or row["region"] in regions
        ]
    wanted = []
    for row in stores:
        served = None if roles is None else tuple(role for role in roles if role in row["roles"])
        if served != ():
            wanted.append(Wanted(Identity(row["store"], name), served))
    if not stores:
        raise HqError("there are no stores yet", hint="hq roster import FILE")
    if lacking := len(stores) - len(wanted):
        narrate(f"! {lacking:,} stores have none of these roles and get no device")
    return wanted


def _read_list(file: str) -> list[Wanted]:
    """A list of devices: CSV, or JSON Lines with the same names."""
    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HqError(f"{file} is not UTF-8 (byte {error.start})", hint="save it as such") from None
    rows: list[tuple[int, dict[str, Any]]]
    if text.lstrip().startswith("{"):
        try:
            rows = [(no, json.loads(line)) for no, line in enumerate(text.splitlines(), 1) if line]
        except ValueError as error:
            raise HqError(f"{file} is not JSON Lines: {error}") from None
    else:
        reader = csv.DictReader(io.StringIO(text))
        rows = [(reader.line_num, row) for row in reader]
    wanted: dict[Identity, Wanted] = {}
    for line, row in rows:
        if not (row.get("store") and row.get("device")):
            raise HqError(
                f"line {line} of {file} names no store and device",
                hint="its columns are store, device and, if wanted, roles",
            )
        named = row.get("roles") or []
        words = named.replace(",", ";").split(";") if isinstance(named, str) else list(named)
        roles = tuple(sorted({slug(str(word), "role") for word in words if str(word).strip()}))
        identity = Identity(str(row["store"]), identifier(str(row["device"]), "device"))
        if identity in wanted:
            raise HqError(f"line {line} of {file} names {identity} again")
        wanted[identity] = Wanted(identity, roles or None)
    if not wanted:
        raise HqError(f"{file} names no device")
    return list(wanted.values())
