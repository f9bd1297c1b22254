"""Stores, regions and roles that somebody named: are they in the roster, or which are near."""

import sqlite3
from typing import NoReturn

from hqconsole.errors import HqError
from hqconsole.ledger import store_views
from hqconsole.suggestions import close_names


def known_store(connection: sqlite3.Connection, store: str) -> str:
    """The identifier of a store that the roster has, or had; letter case does not matter.

    Raises:
        HqError: It had none of that identifier; the hint offers close ones.
    """
    if store_views.has_store(connection, store):
        return store
    near = close_names(store, store_views.store_ids(connection))
    return _nearly(near, store) or _refuse(f"there is no store {store!r}", near, "hq stores")


def known_region(connection: sqlite3.Connection, region: str) -> str:
    """The identifier of a region that the roster has, or had; letter case does not matter.

    Raises:
        HqError: It had none of that identifier; the hint offers close ones.
    """
    regions = store_views.regions(connection)
    if region in regions:
        return region
    near = close_names(region, regions)
    return _nearly(near, region) or _refuse(f"there is no region {region!r}", near, "hq stores")


def _nearly(near: list[str], text: str) -> str:
    return near[0] if near and near[0].casefold() == text.casefold() else ""


def _refuse(what: str, near: list[str], command: str) -> NoReturn:
    hint = f"did you mean {' or '.join(near)}?" if near else f"{command} lists them"
    raise HqError(what, hint=hint)
