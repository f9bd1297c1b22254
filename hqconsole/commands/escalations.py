"""`escalations`: what is so late that somebody else was to be told."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock, narrate
from hqconsole.commands.common import acting, most_option, operator, write_audit
from hqconsole.errors import HqError
from hqconsole.ledger import escalations as ledger_escalations
from hqconsole.ledger import store_views
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.views import SHORT_ID
from hqconsole.operators import FILE_NAME, Operators, load
from hqconsole.reminders import span_words
from hqconsole.render import short_clock
from hqconsole.suggestions import close_names

_AUDITED = 100


@click.command()
@click.option("--region", "regions", multiple=True, metavar="ID", help="Only of this region.")
@click.option("--mine", is_flag=True, help="Only of the regions that you manage.")
@click.option("--all", "everything", is_flag=True, help="Also what was seen.")
@click.option(
    "--seen",
    "seen",
    multiple=True,
    metavar="NO",
    help="Say that you have seen it; all for all that would be listed.",
)
@most_option
@home_option("hq")
@json_option
def escalations(
    *,
    regions: Sequence[str],
    mine: bool,
    everything: bool,
    seen: Sequence[str],
    most: int,
    home: Path,
    as_json: bool,
) -> None:
    """Show what is so late in a region that its manager is to know; the latest first.

    A kind of directive says when (hq kinds, escalate), operators.toml who manages a region.
    "open" is how much of it is open now.

    \b
    Examples:
      hq escalations
      hq escalations --mine
      hq escalations --region east --all
      hq escalations --seen 12 --seen 13
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    everyone = load(home)
    wanted = _wanted(home, everyone, regions, mine=mine)
    if seen:
        _see(home, seen, wanted)
        return
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = ledger_escalations.listed(connection, regions=wanted, seen=everything, most=most)
    for row in found:
        row["managers"] = [one.name for one in everyone.managers(row["region"])]
    sheet = Sheet()
    columns = [
        Column("no", "#", right=True),
        Column("at", "at", text=short_clock if sheet.narrow else clock),
        Column("directive", "directive", text=lambda text: text[:SHORT_ID]),
        Column("title", "title", style=lambda row: "dim" if row["seen_at"] else "yellow"),
        Column("region_name", "region"),
        Column("timezone", "time zone"),
        Column("late_seconds", "late by", text=_span),
        Column("mailboxes", "were open", right=True),
        Column("open", "open", right=True),
        Column("managers", "manager", text=", ".join),
        Column("seen_by", "seen by"),
    ]
    dropped = set() if any(row["seen_by"] for row in found) else {"seen_by"}
    if sheet.narrow and mine:
        dropped |= {"managers"}
    shown = [column for column in columns if column.key not in dropped]
    sheet.show(found, shown, as_json=as_json, empty="nothing is so late")
    if found and not as_json:
        narrate("who has not: hq who DIRECTIVE; you know of it: hq escalations --seen NO")


def _span(seconds: float | None) -> str:
    return "" if seconds is None else span_words(seconds)


def _wanted(
    home: Path, everyone: Operators, regions: Sequence[str], *, mine: bool
) -> list[str] | None:
    """The regions that are meant; None for all."""
    wanted = set(regions)
    if regions:
        with open_ledger(home) as ledger, ledger.read() as connection:
            known = store_views.regions(connection)
        for region in sorted(wanted - set(known)):
            near = close_names(region, known)
            hint = f"did you mean {near[0]}?" if near else "hq roster show lists them"
            raise HqError(f"there is no region {region}", hint=hint)
    if not mine:
        return sorted(wanted) if regions else None
    found = everyone.find(operator())
    if found is None or not found.manages:
        raise HqError(
            f"{operator()} manages no region",
            hint=f'{home.absolute() / FILE_NAME} says who does: manages = ["east"]',
        )
    return sorted(set(found.manages) & wanted if regions else set(found.manages))


def _see(home: Path, words: Sequence[str], wanted: list[str] | None) -> None:
    """Note that the operator has seen some."""
    numbers = _numbers(words)
    with open_ledger(home) as ledger, ledger.read() as connection:
        unseen = ledger_escalations.regions_of_unseen(connection, numbers)
    if wanted is not None:
        unseen = {no: region for no, region in unseen.items() if region in wanted}
    if not unseen:
        raise HqError("none of these is unseen", hint="hq escalations lists them")
    acting(home, "escalations", regions=set(unseen.values()))
    with open_ledger(home) as ledger, ledger.write() as connection:
        now_seen = ledger_escalations.mark_seen(connection, unseen, at=time.time(), by=operator())
        write_audit(connection, "escalation seen", escalations=now_seen[:_AUDITED])
    narrate(f"{len(now_seen):,} escalations are seen")


def _numbers(words: Sequence[str]) -> list[int] | None:
    """What was named; None for all."""
    if "all" in words:
        return None
    try:
        return [int(word) for text in words for word in text.replace(",", " ").split()]
    except ValueError:
        raise click.UsageError("--seen takes the number of an escalation, or all") from None
