"""Who is there to read what is for a mailbox: the devices that serve it.

Reading only. A device that has not joined, or was revoked, reads nothing and serves nobody.
"""

import functools
import json
import sqlite3
from collections.abc import Collection

DEVICES_OF_STORE = (
    "SELECT roles, online, last_heard_at FROM device WHERE store_no = ? AND state = 'active'"
)
DEVICES = "SELECT store_no, roles, online, last_heard_at FROM device WHERE state = 'active'"
_FEW_STORES = 500


class Presence:
    """Whether somebody is there, for many mailboxes at a time: each store is looked up once."""

    def __init__(self, connection: sqlite3.Connection, store_nos: Collection[int]) -> None:
        """Look up the devices of these stores."""
        self._devices: dict[int, list[tuple[str | None, int, float]]] = {}
        if len(store_nos) > _FEW_STORES:
            for store_no, *device in connection.execute(DEVICES):
                self._devices.setdefault(store_no, []).append((device[0], device[1], device[2]))
        else:
            for store_no in store_nos:
                self._devices[store_no] = connection.execute(
                    DEVICES_OF_STORE, (store_no,)
                ).fetchall()

    def of(self, store_no: int, role: str) -> tuple[bool, float | None, int]:
        """Whether a device of the mailbox is there, when one was last heard, how many it has."""
        online, heard_at, devices = False, 0.0, 0
        for roles, is_online, last_heard_at in self._devices.get(store_no, ()):
            if serves(roles, role):
                devices += 1
                online = online or bool(is_online)
                heard_at = max(heard_at, last_heard_at)
        return online, heard_at or None, devices


def serves(roles: str | None, role: str) -> bool:
    """Whether a device with these roles, as its row has them, reads what is for that role."""
    return role == "any" or roles is None or role in _roles(roles)


@functools.lru_cache(maxsize=1024)
def _roles(roles: str) -> frozenset[str]:
    # Thousands of devices have one of a few sets of roles.
    return frozenset(json.loads(roles))
