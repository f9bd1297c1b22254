"""Why a mailbox is not in an audience, in words. Pure.

Owns the explanation alone: what a selector means is `audience`'s. It is judged by today's roster,
and the audience was frozen on an earlier day; where the two differ, it says so.
"""

from dataclasses import replace

from hqconsole.audience import AudienceError, Mailbox, Selector, select_again
from hqconsole.organisation import Organisation
from hqconsole.selector import in_words


def why_not(
    selector: Selector | None, mailbox: Mailbox, organisation: Organisation, *, continuous: bool
) -> str:
    """Return why a mailbox is not in an audience.

    Args:
        selector: How the audience was asked for; None where that is not known.
        mailbox: One that is not in it.
        organisation: The roster of today.
        continuous: Whether the directive takes in who becomes part of it.
    """
    store_id, role = mailbox
    store = organisation.stores.get(store_id)
    if store is None:
        return f"{store_id} is closed: the list of stores has it no longer"
    if not organisation.has(mailbox):
        return f"{store_id} has no role {role}; it has {', '.join(sorted(store.roles)) or 'none'}"
    if selector is None:
        return "it is not in the frozen audience; how that was asked for is not known"
    asked = f"asked for was {in_words(selector)}"
    try:
        left_out = _left_out(selector, mailbox, organisation)
    except AudienceError as error:
        return f"it is not in the frozen audience; {asked}, which today cannot be judged: {error}"
    if left_out:
        return f"{asked}: {left_out}"
    later = "it is about to be taken in" if continuous else "the audience was frozen before that"
    return f"{asked}: that is {store_id} today, and {later}"


def _left_out(selector: Selector, mailbox: Mailbox, there: Organisation) -> str:
    store_id, role = mailbox
    store = there.stores[store_id]
    places = replace(
        selector,
        everyone=not (selector.regions or selector.stores or selector.audiences),
        tags=(),
        where="",
        excluded_regions=(),
        excluded_stores=(),
        excluded_tags=(),
    )
    reached = select_again(places, there)
    if mailbox not in reached:
        others = sorted(one.role for one in reached if one.store == store_id)
        if others:
            return f"of {store_id} that is {', '.join(others)}, and not {role}"
        return f"{store_id} is in region {store.region} and is none of these places"
    tagged = replace(places, tags=selector.tags)
    if mailbox not in select_again(tagged, there):
        has = ", ".join(sorted(store.tags)) or "none"
        return f"the tags of {store_id} are {has}"
    narrowed = replace(tagged, where=selector.where)
    if mailbox not in select_again(narrowed, there):
        return f"the expression is not true of {store_id}"
    if mailbox not in select_again(replace(selector, everyone=places.everyone), there):
        return f"{store_id} is excluded"
    return ""
