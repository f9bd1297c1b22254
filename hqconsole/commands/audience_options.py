"""The options by which a command is told whom it is about, and the selector that they make.

A command that uses them owes two things: inside its transaction it makes the selector whole
(`ledger.audiences.whole`), and it tells the person the notes of `audience.choose`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from hqconsole.audience import Selector

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--region", "regions", multiple=True, help="Every store of this region."),
    click.option("--store", "stores", multiple=True, help="This store."),
    click.option(
        "--audience", "audiences", multiple=True, metavar="NAME", help="A saved audience."
    ),
    click.option("--all", "everyone", is_flag=True, help="Every store."),
    click.option("--tag", "tags", multiple=True, help="Only stores with this tag."),
    click.option(
        "--where",
        metavar="EXPRESSION",
        help="Only stores of which it is true: 'format=flagship and area_sqm>800'; "
        "hq roster columns lists the columns.",
    ),
    click.option(
        "--exclude-region",
        "excluded_regions",
        multiple=True,
        metavar="REGION",
        help="Not the stores of this region.",
    ),
    click.option(
        "--exclude-store",
        "excluded_stores",
        multiple=True,
        metavar="STORE",
        help="Not this store.",
    ),
    click.option(
        "--exclude-tag",
        "excluded_tags",
        multiple=True,
        metavar="TAG",
        help="Not the stores with this tag.",
    ),
    click.option("--role", "roles", multiple=True, help="For this role; otherwise the store."),
)


def audience_options(command: F) -> F:
    """Add the options that name an audience; the command gets them as one `selector`.

    An expression that does not read is a wrong use and ends the command before it begins.
    """

    @functools.wraps(command)
    def with_selector(
        *,
        regions: Sequence[str],
        stores: Sequence[str],
        audiences: Sequence[str],
        everyone: bool,
        tags: Sequence[str],
        where: str | None,
        excluded_regions: Sequence[str],
        excluded_stores: Sequence[str],
        excluded_tags: Sequence[str],
        roles: Sequence[str],
        **more: Any,
    ) -> Any:
        if where is not None:
            from hqconsole.where import parse  # noqa: PLC0415 - only who uses it pays for it

            parse(where)
        selector = Selector(
            regions=tuple(regions),
            stores=tuple(stores),
            roles=tuple(roles),
            tags=tuple(tags),
            everyone=everyone,
            where=where or "",
            audiences=tuple(audiences),
            excluded_regions=tuple(excluded_regions),
            excluded_stores=tuple(excluded_stores),
            excluded_tags=tuple(excluded_tags),
        )
        return command(selector=selector, **more)

    decorated: Any = with_selector
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # the same command with more options
