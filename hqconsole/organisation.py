"""The open stores as audiences see them, and what a mailbox is.

Pure data with the counts that make choosing and covering quick. Knows nothing of selectors,
channels or the ledger.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from buswire.names import ANY_ROLE

Cells = Mapping[str, str | tuple[str, ...]]
"""What the roster says of a store, by column; an empty cell may be left out."""

OWN_COLUMNS = (
    *("id", "name", "region", "region_name", "city", "country", "timezone", "roles", "tags"),
)
"""The columns that every roster has, whatever list it was imported from."""


class Mailbox(NamedTuple):
    """Who a directive is for: one role of one store; role `any` is the store as a whole."""

    store: str
    role: str

    def __str__(self) -> str:
        return f"{self.store}/{self.role}"


class OpenStore(NamedTuple):
    """What choosing an audience needs to know of a store; `roles` is without `any`."""

    region: str
    roles: frozenset[str]
    tags: frozenset[str]


class Organisation:
    """The open stores as audiences see them, with the counts that make a cover quick.

    Build it once per command from the roster; it does not change.

    Attributes:
        stores: Every open store by its identifier.
        regions: The stores of each region.
        roles: Every role that at least one open store has, `any` included.
        tags: Every tag that at least one open store has.
    """

    def __init__(
        self,
        stores: Mapping[str, OpenStore],
        read_cells: Callable[[Collection[str]], Mapping[str, Cells]] | None = None,
    ) -> None:
        """Index the open stores; closed ones must not be among them.

        Args:
            stores: By identifier.
            read_cells: Reads what the roster says of each of them: the columns of the imported
                list that are none of ours, and of `OWN_COLUMNS` those that are asked for. Called
                only if an expression asks; without it there are id, region, roles and tags.
        """
        self.stores = dict(stores)
        self._read_cells = read_cells
        self._cells: dict[frozenset[str], Mapping[str, Cells]] = {}
        regions: defaultdict[str, set[str]] = defaultdict(set)
        self._with_role: defaultdict[str, int] = defaultdict(int)
        self._with_role_in: defaultdict[tuple[str, str], int] = defaultdict(int)
        # A chain has few different sets of roles and of tags.
        alike: Counter[tuple[str, frozenset[str]]] = Counter()
        for store_id, (region, store_roles, _) in self.stores.items():
            regions[region].add(store_id)
            alike[region, store_roles] += 1
        for (region, store_roles), count in alike.items():
            for role in store_roles | {ANY_ROLE}:
                self._with_role[role] += count
                self._with_role_in[region, role] += count
        tags = frozenset().union(*{store.tags for store in self.stores.values()})
        self.regions: Mapping[str, set[str]] = dict(regions)
        self.roles = frozenset(self._with_role) | {ANY_ROLE}
        self.tags: frozenset[str] = tags

    def cells(self, own: Collection[str] = OWN_COLUMNS) -> Mapping[str, Cells]:
        """Return what the roster says of each open store, for `--where`; read when first asked.

        Args:
            own: Which of `OWN_COLUMNS` are needed; each takes time to read.
        """
        wanted = frozenset(own)
        if wanted not in self._cells:
            read = self._read_cells
            self._cells[wanted] = self._known_cells() if read is None else read(wanted)
        return self._cells[wanted]

    def _known_cells(self) -> Mapping[str, Cells]:
        return {
            store_id: {
                "id": store_id,
                "region": store.region,
                "roles": tuple(sorted(store.roles)),
                "tags": tuple(sorted(store.tags)),
            }
            for store_id, store in self.stores.items()
        }

    def has(self, mailbox: tuple[str, str]) -> bool:
        """Tell whether the store is open and has the role."""
        store_id, role = mailbox
        store = self.stores.get(store_id)
        return store is not None and (role == ANY_ROLE or role in store.roles)

    def count(self, role: str, region: str | None = None) -> int:
        """Return how many stores have the role, in one region or altogether."""
        if region is None:
            return self._with_role.get(role, 0)
        return self._with_role_in.get((region, role), 0)
