"""Who a directive is for: what a selector means in the organisation.

Owns what a selector means, and how a frozen audience differs from what it would be today. Knows
nothing of the ledger, of messages or of the command line; everything here is a pure function of its
arguments. The selector as data is in `selector`, the stores in `organisation`, the channels that
reach an audience in `cover`; their names are given here too.

The meaning of a selector, in the order in which it is applied:

* Places add up: `--region east --store S017` is every store of region east, and S017. A saved
  audience is a place, too: what it means today, under this same meaning. No place at all means
  every store.
* Tags and `--where` restrict: `--tag drive-thru --tag 24h` keeps the stores of these places that
  have all the tags, `--where` those of which the expression is true.
* Exclusions take away last: what they name is out, whatever brought it in; `--exclude-tag` takes
  stores with any of its tags. Those of a saved audience take away from that audience only.
* Roles name the mailboxes: `--role manager --role clerk` is up to two mailboxes in each store, for
  the roles that the store has. No role means `any`, the store as a whole, and for a saved audience
  the mailboxes that it names itself; a role asked for beside a saved audience is asked of the
  stores that the audience means, instead of its own roles.
* Everyone is said, never left out: a selector that says nothing, or only what to exclude, is
  refused unless it says `--all`.

What an operator types is taken strictly: an unknown name is refused with what may have been meant.
What was saved earlier (a saved audience, the selector of a directive that goes on taking in
stores) is taken as it stands: a store that closed since, a region or tag that nobody has any
longer adds nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from buswire.errors import WireError
from buswire.names import ANY_ROLE, shown, slug
from hqconsole.cover import ChannelUse, cover, digest, unreachable
from hqconsole.organisation import Mailbox, OpenStore, Organisation
from hqconsole.selector import AudienceError, Selector, in_words
from hqconsole.suggestions import close_names

__all__ = [
    "AudienceError",
    "ChannelUse",
    "Choice",
    "Drift",
    "Mailbox",
    "OpenStore",
    "Organisation",
    "Selector",
    "choose",
    "cover",
    "digest",
    "drift",
    "left_out",
    "select",
    "select_again",
    "unreachable",
]

MAX_NESTED = 20
"""How deep saved audiences may name one another."""
_EXPLAINED = 5  # unknown names with suggestions; looking for close ones takes time


class Choice(NamedTuple):
    """What a selector means today, and what whoever asked should hear about it."""

    mailboxes: set[Mailbox]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """How a frozen audience differs from what it would be today; the denominator stays.

    Attributes:
        joined: Mailboxes that the selector takes today and that are not in the frozen audience.
        left: Mailboxes of the frozen audience whose store is closed or has lost the role.
    """

    joined: frozenset[Mailbox]
    left: frozenset[Mailbox]


def choose(selector: Selector, organisation: Organisation, *, strict: bool = True) -> Choice:
    """Return the mailboxes that the selector means today, with notes for the person who asks.

    Args:
        selector: With the definitions of the saved audiences that it names.
        organisation: The roster of today.
        strict: False for a selector that was understood on an earlier day: what is no longer there
            adds nothing, and nobody at all is an answer.

    Raises:
        AudienceError: It has an expression that this roster has no answer to; or, being strict, it
            says nothing, contradicts itself, names something unknown (the message offers close
            names), or finds nobody.
    """
    if strict:
        check(selector)
    elif not _names_somebody(selector):  # what is said by nobody is never everybody
        return Choice(set(), ())
    choosing = _Choosing(selector, organisation)
    found = choosing.mailboxes(selector, strict=strict)
    if strict and not found:
        meant = in_words(selector) if organisation.stores else "the roster has no open store"
        raise AudienceError(
            "; ".join([f"no store is meant by that: {meant}", *choosing.notes]),
            hint="hq roster show lists every store with its region, roles and tags",
        )
    return Choice(found, tuple(choosing.notes))


def select(selector: Selector, organisation: Organisation) -> set[Mailbox]:
    """Return the mailboxes that the selector means today.

    Raises:
        AudienceError: As `choose` does.
    """
    return choose(selector, organisation).mailboxes


def select_again(selector: Selector, organisation: Organisation) -> set[Mailbox]:
    """Return what a selector means today that was understood on an earlier day; may be nobody.

    Raises:
        AudienceError: Its expression cannot be judged any longer: the roster lost the column.
    """
    return choose(selector, organisation, strict=False).mailboxes


def drift(
    frozen: Collection[Mailbox], selector: Selector | None, organisation: Organisation
) -> Drift:
    """Compare a frozen audience with what its selector means today.

    Args:
        frozen: The mailboxes of the audience.
        selector: How it was asked for; None when that is not known, and then nobody joins.
        organisation: The roster of today.

    Raises:
        AudienceError: As `select_again` does.
    """
    today = set() if selector is None else select_again(selector, organisation)
    return Drift(
        joined=frozenset(today.difference(frozen)),
        left=frozenset(mailbox for mailbox in frozen if not organisation.has(mailbox)),
    )


def check(selector: Selector) -> None:
    """Refuse a selector that says nothing or contradicts itself.

    Raises:
        AudienceError: It does.
    """
    if selector.everyone and (selector.regions or selector.stores or selector.audiences):
        raise AudienceError(
            "--all and --region, --store or --audience contradict each other",
            hint="leave --all out, or the places",
        )
    if not _names_somebody(selector):
        raise AudienceError(
            "nobody was named",
            hint="say --region, --store, --audience, --role, --tag or --where, or --all for every "
            "store",
        )


def _names_somebody(selector: Selector) -> bool:
    return bool(
        selector.everyone
        or selector.regions
        or selector.stores
        or selector.audiences
        or selector.roles
        or selector.tags
        or selector.where
    )


class _Choosing:
    """One evaluation of a selector: what is found on the way is kept here."""

    def __init__(self, selector: Selector, organisation: Organisation) -> None:
        self._there = organisation
        self._definitions = dict(selector.definitions)
        self._found: dict[str, set[Mailbox]] = {}
        self._within: list[str] = []
        self.notes: list[str] = []

    def mailboxes(self, selector: Selector, *, strict: bool) -> set[Mailbox]:
        """What it means; a saved audience is taken less strictly than what a person typed."""
        there = self._there
        stores: set[str] = set(self._known(selector.stores, there.stores, "store", strict=strict))
        for region in self._known(selector.regions, there.regions, "region", strict=strict):
            stores |= there.regions[region]
        saved: set[Mailbox] = set()
        for name in selector.audiences:
            saved |= self._saved(name)
        if not (selector.regions or selector.stores or selector.audiences):
            stores = set(there.stores)
        roles = self._known(selector.roles, there.roles, "role", strict=strict)
        if selector.roles:
            stores |= {mailbox.store for mailbox in saved}
            saved = set()
        kept = self._kept(selector, stores | {mailbox.store for mailbox in saved}, strict=strict)
        found = {mailbox for mailbox in saved if mailbox.store in kept}
        stores &= kept
        for role in roles if selector.roles else (ANY_ROLE,):
            found.update(
                Mailbox(store_id, role)
                for store_id in stores
                if role == ANY_ROLE or role in there.stores[store_id].roles
            )
        return found

    def _kept(self, selector: Selector, stores: set[str], *, strict: bool) -> set[str]:
        """Those of the stores that the restrictions and exclusions leave."""
        there = self._there
        regions = set(
            self._known(selector.excluded_regions, there.regions, "region", strict=strict)
        )
        out = set(self._known(selector.excluded_stores, there.stores, "store", strict=strict))
        out_tags = set(self._known(selector.excluded_tags, there.tags, "tag", strict=strict))
        tags = set(self._known(selector.tags, there.tags, "tag", strict=strict))
        if selector.tags and not strict and not self._all_known(selector.tags, there.tags):
            return set()
        if tags:
            stores = {store_id for store_id in stores if tags <= there.stores[store_id].tags}
        if regions or out or out_tags:
            stores = {
                store_id
                for store_id in stores
                if store_id not in out
                and there.stores[store_id].region not in regions
                and out_tags.isdisjoint(there.stores[store_id].tags)
            }
        if selector.where:
            from hqconsole import where_match  # noqa: PLC0415 - only who uses it pays for it

            cells = there.cells(where_match.own_columns(selector.where))
            # Read a moment later than the stores: one may have closed.
            stores, notes = where_match.matching(selector.where, stores & cells.keys(), cells)
            self.notes += (self._in_context(note) for note in notes)
        return stores

    def _saved(self, name: str) -> set[Mailbox]:
        if name in self._found:
            return self._found[name]
        definition = self._definitions.get(name)
        if definition is None:
            raise AudienceError(
                f"what audience {shown(name)} means is not known here",
                hint="hq audience list names the saved ones",
            )
        if name in self._within or len(self._within) >= MAX_NESTED:
            raise AudienceError(
                f"audience {shown(name)} leads back to itself, or names others too deep: "
                + " > ".join([*self._within[:5], name]),
                hint="hq audience save it again without the audience that names it",
            )
        self._within.append(name)
        found = self.mailboxes(definition, strict=False)
        if not found:
            self.notes.append(f"audience {name} is nobody today")
        self._within.pop()
        self._found[name] = found
        return found

    def _known(
        self, typed: tuple[str, ...], known: Collection[str], what: str, *, strict: bool
    ) -> tuple[str, ...]:
        if not typed:
            return ()
        resolved, unknown = _resolved(typed, known, what)
        if unknown and strict:
            raise _unknown_names(unknown, known, what)
        if unknown and self._within:
            names = " ".join(shown(name) for name in unknown[:_EXPLAINED])
            more = f" and {len(unknown) - _EXPLAINED} more" if len(unknown) > _EXPLAINED else ""
            self.notes.append(self._in_context(f"there is no {what} {names}{more} any longer"))
        return resolved

    def _all_known(self, typed: tuple[str, ...], known: Collection[str]) -> bool:
        return not _resolved(typed, known, "tag")[1]

    def _in_context(self, note: str) -> str:
        return f"audience {self._within[-1]}: {note}" if self._within else note


def left_out(selector: Selector, audience: Collection[tuple[str, str]]) -> tuple[str, ...]:
    """Return the stores that the operator named and that have no mailbox in the audience.

    They lack a role or a tag that was asked for; a command should say so.
    """
    reached = {store_id for store_id, _ in audience}
    return tuple(store_id for store_id in selector.stores if store_id not in reached)


def _resolved(
    typed: tuple[str, ...], known: Collection[str], what: str
) -> tuple[tuple[str, ...], list[str]]:
    """Resolve what was typed; display names of regions, roles and tags are found by their slug."""
    resolved: dict[str, None] = {}
    unknown: list[str] = []
    for text in typed:
        name = text if text in known or what == "store" else _slug_or_text(text, what)
        if name in known:
            resolved[name] = None
        else:
            unknown.append(text)
    return tuple(resolved), unknown


def _unknown_names(unknown: list[str], known: Collection[str], what: str) -> AudienceError:
    explained = [_unknown(text, known, what) for text in unknown[:_EXPLAINED]]
    if len(unknown) > _EXPLAINED:
        explained.append(f"and {len(unknown) - _EXPLAINED} more")
    return AudienceError(
        "; ".join(explained), hint=f"hq roster show lists every {what} that there is"
    )


def _slug_or_text(text: str, what: str) -> str:
    try:
        return slug(text, what)
    except WireError:
        return text


def _unknown(text: str, known: Collection[str], what: str) -> str:
    close = close_names(text, known)
    asked = f", did you mean {' or '.join(close)}?" if close else ""
    return f"there is no {what} {shown(text)}{asked}"
