"""The cheapest exact set of channels for an audience, and the digest by which one is audited.

Invariants of a cover: every mailbox of the audience is reached by exactly one channel, no channel
reaches a mailbox outside the audience, and no other set of channels does that with fewer. It holds
for the organisation given; when the roster changes, cover again.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from buswire.names import shown
from buswire.topics import ALL_PLACE, Channel
from hqconsole.organisation import Mailbox, Organisation
from hqconsole.selector import AudienceError


@dataclass(frozen=True, slots=True)
class ChannelUse:
    """One channel of a cover and the stores whose mailbox it reaches."""

    channel: Channel
    stores: frozenset[str]

    @property
    def mailboxes(self) -> frozenset[Mailbox]:
        """The mailboxes reached: the channel's role in each of the stores."""
        return frozenset(Mailbox(store_id, self.channel.role) for store_id in self.stores)


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
