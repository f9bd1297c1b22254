"""Who a directive is for: a selector over the organisation, and the channels that reach exactly it.

Owns the meaning of `--region`, `--store`, `--role`, `--tag` and `--all`, and the cheapest exact
cover of an audience by channels. Knows nothing of the ledger, of messages or of the command line;
everything here is a pure function of its arguments.

The meaning of a selector:

* Places add up: `--region east --store S017` is every store of region east, and S017.
* Tags restrict: `--tag drive-thru --tag 24h` keeps the stores of these places that have all the
  tags. No place at all means every store.
* Roles name the mailboxes: `--role manager --role clerk` is up to two mailboxes in each store, for
  the roles that the store has. No role means `any`, the store as a whole.
* Everyone is said, never left out: a selector that says nothing is refused unless it says `--all`.

Invariants of a cover: every mailbox of the audience is reached by exactly one channel, no channel
reaches a mailbox outside the audience, and no other set of channels does that with fewer. It holds
for the organisation given; when the roster changes, cover again.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from buswire.errors import WireError
from buswire.names import ANY_ROLE, shown, slug
from buswire.topics import ALL_PLACE, Channel
from hqconsole.errors import HqError
from hqconsole.suggestions import close_names

_EXPLAINED = 5  # unknown names with suggestions; looking for close ones takes time


class AudienceError(HqError):
    """A selector that names something unknown, or nobody."""

    exit_code = 2


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


@dataclass(frozen=True, slots=True)
class Selector:
    """What the operator asked for, as typed: identifiers, or display names of regions and roles."""

    regions: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    everyone: bool = False


class Organisation:
    """The open stores as audiences see them, with the counts that make a cover quick.

    Build it once per command from the roster; it does not change.

    Attributes:
        stores: Every open store by its identifier.
        regions: The stores of each region.
        roles: Every role that at least one open store has, `any` included.
        tags: Every tag that at least one open store has.
    """

    def __init__(self, stores: Mapping[str, OpenStore]) -> None:
        """Index the open stores; closed ones must not be among them."""
        self.stores = dict(stores)
        regions: defaultdict[str, set[str]] = defaultdict(set)
        self._with_role: defaultdict[str, int] = defaultdict(int)
        self._with_role_in: defaultdict[tuple[str, str], int] = defaultdict(int)
        tags: set[str] = set()
        for store_id, (region, store_roles, store_tags) in self.stores.items():
            regions[region].add(store_id)
            tags |= store_tags
            for role in (ANY_ROLE, *(store_roles - {ANY_ROLE})):
                self._with_role[role] += 1
                self._with_role_in[region, role] += 1
        self.regions: Mapping[str, set[str]] = dict(regions)
        self.roles = frozenset(self._with_role) | {ANY_ROLE}
        self.tags = frozenset(tags)

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


@dataclass(frozen=True, slots=True)
class ChannelUse:
    """One channel of a cover and the stores whose mailbox it reaches."""

    channel: Channel
    stores: frozenset[str]

    @property
    def mailboxes(self) -> frozenset[Mailbox]:
        """The mailboxes reached: the channel's role in each of the stores."""
        return frozenset(Mailbox(store_id, self.channel.role) for store_id in self.stores)


def select(selector: Selector, organisation: Organisation) -> set[Mailbox]:
    """Return the mailboxes that the selector means today.

    Raises:
        AudienceError: The selector says nothing, contradicts itself, names something unknown
            (the message offers close names), or finds nobody.
    """
    has_place = bool(selector.regions or selector.stores)
    if selector.everyone and has_place:
        raise AudienceError(
            "--all and --region or --store contradict each other",
            hint="leave --all out, or the places",
        )
    if not (selector.everyone or has_place or selector.roles or selector.tags):
        raise AudienceError(
            "nobody was named",
            hint="say --region, --store, --role or --tag, or --all for every store",
        )
    regions = _known(selector.regions, organisation.regions, "region")
    named = _known(selector.stores, organisation.stores, "store")
    roles = _known(selector.roles, organisation.roles, "role") or (ANY_ROLE,)
    tags = frozenset(_known(selector.tags, organisation.tags, "tag"))

    chosen: set[str] = set(named)
    for region in regions:
        chosen |= organisation.regions[region]
    found = {
        Mailbox(store_id, role)
        for store_id in (chosen if has_place else organisation.stores)
        if tags <= organisation.stores[store_id].tags
        for role in roles
        if role == ANY_ROLE or role in organisation.stores[store_id].roles
    }
    if not found:
        raise AudienceError(
            "no store is meant by that: " + _in_words(selector),
            hint="hq roster show lists every store with its region, roles and tags",
        )
    return found


def left_out(selector: Selector, audience: Collection[tuple[str, str]]) -> tuple[str, ...]:
    """Return the stores that the operator named and that have no mailbox in the audience.

    They lack a role or a tag that was asked for; a command should say so.
    """
    reached = {store_id for store_id, _ in audience}
    return tuple(store_id for store_id in selector.stores if store_id not in reached)


def unreachable(
    mailboxes: Iterable[tuple[str, str]], organisation: Organisation
) -> set[tuple[str, str]]:
    """Return the mailboxes that no channel reaches: the store is closed or has lost the role."""
    return {mailbox for mailbox in mailboxes if not organisation.has(mailbox)}


def cover(
    mailboxes: Iterable[tuple[str, str]], organisation: Organisation
) -> tuple[ChannelUse, ...]:
    """Return the cheapest exact set of channels for an audience, the widest places first.

    For each role: the channel of everyone when all stores that have the role are meant; else the
    channel of each region where all that have it are meant; else the stores' own channels.

    Raises:
        AudienceError: A mailbox is unknown to the organisation; see `unreachable`.
    """
    stores_by_role: defaultdict[str, set[str]] = defaultdict(set)
    for store_id, role in mailboxes:
        stores_by_role[role].add(store_id)
    uses: list[ChannelUse] = []
    for role, wanted in sorted(stores_by_role.items()):
        strangers = [store_id for store_id in wanted if not organisation.has((store_id, role))]
        if strangers:
            raise AudienceError(
                f"{len(strangers)} of {len(wanted)} stores for role {role} are closed or do not "
                f"have it, {shown(min(strangers))} first",
                hint="the roster has changed since this audience was chosen: choose it again",
            )
        if len(wanted) == organisation.count(role):
            uses.append(ChannelUse(Channel(ALL_PLACE, role), frozenset(wanted)))
            continue
        uses += _cover_regions(role, wanted, organisation)
    breadth = {ALL_PLACE: 0, "region": 1, "store": 2}
    uses.sort(key=lambda use: (breadth[use.channel.place.partition("/")[0]], use.channel))
    return tuple(uses)


def digest(mailboxes: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of an audience in hex, so that a frozen one can be audited later.

    It is taken over the lines `store/role`, sorted by code point, each ended by a line feed, in
    UTF-8; `LC_ALL=C sort -u | sha256sum` over such lines gives the same.
    """
    lines = sorted({f"{store_id}/{role}\n" for store_id, role in mailboxes})
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def _cover_regions(role: str, wanted: set[str], organisation: Organisation) -> list[ChannelUse]:
    by_region: defaultdict[str, list[str]] = defaultdict(list)
    for store_id in wanted:
        by_region[organisation.stores[store_id].region].append(store_id)
    uses: list[ChannelUse] = []
    for region, store_ids in by_region.items():
        if len(store_ids) == organisation.count(role, region):
            uses.append(ChannelUse(Channel.of_region(region, role), frozenset(store_ids)))
        else:
            uses += (
                ChannelUse(Channel.of_store(store_id, role), frozenset((store_id,)))
                for store_id in store_ids
            )
    return uses


def _known(typed: tuple[str, ...], known: Collection[str], what: str) -> tuple[str, ...]:
    """Resolve what was typed; display names of regions, roles and tags are found by their slug."""
    resolved: dict[str, None] = {}
    unknown: list[str] = []
    for text in typed:
        name = text if text in known or what == "store" else _slug_or_text(text, what)
        if name in known:
            resolved[name] = None
        else:
            unknown.append(text)
    if unknown:
        explained = [_unknown(text, known, what) for text in unknown[:_EXPLAINED]]
        if len(unknown) > _EXPLAINED:
            explained.append(f"and {len(unknown) - _EXPLAINED} more")
        raise AudienceError(
            "; ".join(explained), hint=f"hq roster show lists every {what} that there is"
        )
    return tuple(resolved)


def _slug_or_text(text: str, what: str) -> str:
    try:
        return slug(text, what)
    except WireError:
        return text


def _unknown(text: str, known: Collection[str], what: str) -> str:
    close = close_names(text, known)
    asked = f", did you mean {' or '.join(close)}?" if close else ""
    return f"there is no {what} {shown(text)}{asked}"


def _in_words(selector: Selector) -> str:
    parts = [
        f"{what} {' '.join(shown(value) for value in values)}"
        for what, values in (
            ("region", selector.regions),
            ("store", selector.stores),
            ("tag", selector.tags),
            ("role", selector.roles),
        )
        if values
    ]
    return ", ".join(parts) or "the roster has no open store"
