"""What a store is to the roster, and how two rosters differ.

Owns the fields of a store and their comparison. Knows nothing of lists, files or the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

FieldValue = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreRow:
    """One store as the roster knows it.

    Attributes:
        store_id: Its identifier, as in topics.
        name: What people call it.
        region: The identifier of its region.
        region_name: What people call the region.
        city: Free text, may be empty.
        country: Free text, may be empty.
        timezone: IANA name.
        roles: The identifiers of its roles, without `any`, which every store has.
        role_names: What people call them, in the same order.
        tags: Identifiers made from what the list says, for `--tag`.
        extra: What else the list says of it, by column name; empty cells are left out.
    """

    store_id: str
    name: str
    region: str
    region_name: str
    city: str
    country: str
    timezone: str
    roles: tuple[str, ...]
    role_names: tuple[str, ...]
    tags: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class StoreChange:
    """One store that is in both rosters and not the same.

    Attributes:
        store_id: Which.
        fields: Field to (before, after); roles and tags sorted, extras as `extra.<column>`.
    """

    store_id: str
    fields: Mapping[str, tuple[FieldValue, FieldValue]]


@dataclass(frozen=True, slots=True)
class RosterDifference:
    """What importing a roster would do, each part by store identifier.

    Attributes:
        added: Stores that are only in the new one.
        changed: Stores that are in both and differ.
        closed: Stores that are only in the old one.
        same: How many stores are in both and alike.
    """

    added: tuple[StoreRow, ...]
    changed: tuple[StoreChange, ...]
    closed: tuple[StoreRow, ...]
    same: int

    @property
    def is_empty(self) -> bool:
        """Whether importing would change nothing."""
        return not (self.added or self.changed or self.closed)


def difference(old: Mapping[str, StoreRow], new: Mapping[str, StoreRow]) -> RosterDifference:
    """Compare two rosters by store identifier; the order of roles and tags does not matter."""
    changed: list[StoreChange] = []
    same = 0
    for store_id in sorted(old.keys() & new.keys()):
        fields = _changed_fields(old[store_id], new[store_id])
        if fields:
            changed.append(StoreChange(store_id, fields))
        else:
            same += 1
    return RosterDifference(
        added=tuple(new[store_id] for store_id in sorted(new.keys() - old.keys())),
        changed=tuple(changed),
        closed=tuple(old[store_id] for store_id in sorted(old.keys() - new.keys())),
        same=same,
    )


def _changed_fields(old: StoreRow, new: StoreRow) -> dict[str, tuple[FieldValue, FieldValue]]:
    if old == new:
        return {}
    before, after = _comparable(old), _comparable(new)
    names = [*before, *(name for name in after if name not in before)]
    return {
        name: (before.get(name, ""), after.get(name, ""))
        for name in names
        if before.get(name, "") != after.get(name, "")
    }


def _comparable(store: StoreRow) -> dict[str, FieldValue]:
    named_roles = sorted(zip(store.roles, store.role_names, strict=True))
    return {
        "name": store.name,
        "region": store.region,
        "region_name": store.region_name,
        "city": store.city,
        "country": store.country,
        "timezone": store.timezone,
        "roles": tuple(role for role, _ in named_roles),
        "role_names": tuple(name for _, name in named_roles),
        "tags": tuple(sorted(store.tags)),
        **{f"extra.{column}": text for column, text in store.extra.items()},
    }
