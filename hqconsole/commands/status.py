"""`status`: how far each directive is, or one of them in full, by parts, or live."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.database import Database
from buskit.terminal import Column, Sheet, ago, clock, narrate
from hqconsole.commands import status_one
from hqconsole.commands.archive_option import archive_option, find_here, reading
from hqconsole.commands.common import narrate_link
from hqconsole.home import hub_state
from hqconsole.hub_link import hub_link
from hqconsole.ledger import breakdowns, directives, views
from hqconsole.ledger.opening import open_ledger
from hqconsole.lifecycle import LIVE, UNFINISHED, DirectiveState
from hqconsole.render import (
    LEGEND,
    bar_width,
    count_words,
    due_words,
    met_words,
    note_words,
    progress_bar,
    state_words,
)

_POLL_SECONDS = 0.2
_DIRECTIVES = 20


@click.command()
@click.argument("directive", metavar="[ID]", required=False)
@click.option("--watch", is_flag=True, help="Follow one directive until everyone has answered.")
@click.option(
    "--by",
    "grouping",
    type=click.Choice(breakdowns.GROUPINGS),
    help="One directive, split up by this, the furthest behind first.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in DirectiveState]),
    help="Only those that stand so; several add up.",
)
@click.option(
    "-n",
    "--limit",
    "most",
    type=click.IntRange(1),
    default=_DIRECTIVES,
    show_default=True,
    help="At most so many directives, the latest.",
)
@archive_option
@home_option("hq")
@json_option
def status(
    *,
    directive: str | None,
    watch: bool,
    grouping: str | None,
    states: Sequence[str],
    most: int,
    archive_file: Path | None,
    home: Path,
    as_json: bool,
) -> None:
    """Show one line for each directive; with an ID, one directive in full.

    The bar: # as asked, + on the way, . not there yet, _ not sent yet, ! cannot, x closed by head
    office. In a pipe --watch writes a line whenever a number changes.

    \b
    Examples:
      hq status
      hq status --state paused --state waiting_for_approval
      hq status 3f2a
      hq status 3f2a --by region
      hq status 3f2a --watch
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    _check(directive, watch=watch, grouping=grouping, states=states)
    if archive_file is not None and (directive is None or watch):
        raise click.UsageError("--archive is for one directive that has left; give its ID")
    if directive is None or watch:
        with open_ledger(home) as ledger:
            if directive is None:
                wanted = [DirectiveState(one) for one in states]
                _list(ledger, most, wanted, home, as_json=as_json)
                return
            with ledger.read() as connection:
                no = directives.find(connection, directive)
                followed = views.one_directive(connection, no)
            _watch(ledger, no, followed, as_json=as_json)
        return
    now_at = time.time()
    with reading(home, archive_file) as connection:
        if grouping is not None:
            no = find_here(connection, directive, f"hq status {directive} --by {grouping}")
            rows = breakdowns.by(connection, no, grouping, now_at)
            needs = str(views.one_directive(connection, no)["needs"])
        else:
            found = status_one.gather(connection, directives.find(connection, directive), now_at)
    if grouping is not None and as_json:
        Sheet().json(rows)
    elif grouping is not None:
        status_one.show_by(rows, grouping, needs)
    elif as_json:
        Sheet().json(found)
    else:
        status_one.show(found)


def _check(
    directive: str | None, *, watch: bool, grouping: str | None, states: Sequence[str]
) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: They do not.
    """
    if directive is None and (watch or grouping):
        option = "--watch follows" if watch else "--by splits up"
        raise click.UsageError(f"{option} one directive; give its ID (hq status lists them)")
    if directive is not None and states:
        raise click.UsageError("--state is for the list; leave the ID out")
    if watch and grouping:
        raise click.UsageError("--watch and --by do not go together")


def _list(
    ledger: Database, most: int, states: Sequence[DirectiveState], home: Path, *, as_json: bool
) -> None:
    with ledger.read() as connection:
        rows = views.latest_directives(connection, most, states)[::-1]
        total = views.directive_count(connection, states)
        asking = views.being_asked(connection)
    hub = hub_state(home)
    sheet = Sheet()
    if as_json:
        link = hub_link(home) if hub.running else None
        connected = None if link is None else link.connected
        shown = {"hub_running": hub.running, "hub_connected": connected}
        sheet.json({**shown, "directives": rows, "asking": asking})
        return
    width = 8 if sheet.narrow else bar_width(sheet)
    for row in rows:
        row["bar"] = progress_bar(row, width)
        row["met_words"] = met_words(row)
        row["state_words"] = state_words(row)
        row["note"] = note_words(row)
    columns = [
        Column("short_id", "id"),
        Column("issued_at", "issued", text=clock),
        Column("state_words", "state", style=_colour),
        Column("bar", "progress"),
        Column("met_words", "as asked", right=True),
        Column("due", "due", text=_short if sheet.narrow else due_words),
        Column("title", "title", style=_colour),
        Column("note", "note"),
    ]
    if sheet.narrow:  # the title is what one reads; what else there is, hq status ID has
        del columns[1]
        for row in rows:
            row["title"] += f" ({row['note']})" if row["note"] else ""
            row["note"] = ""
    if not any(row["note"] for row in rows):
        columns.pop()
    empty = "none stands so" if states else "nothing was issued yet: hq publish --help"
    sheet.show(rows, columns, as_json=False, empty=empty)
    _tell_what_waits(rows)
    if total > len(rows):
        narrate(f"{total - len(rows):,} older ones: hq status --limit {total}")
    narrate_link(home, without="no hub is running: nothing leaves or comes in (hq up)")
    _tell_asking(asking)


def _tell_what_waits(rows: Sequence[Mapping[str, Any]]) -> None:
    """Name what waits for an operator."""
    for row in rows:
        if row["state"] == DirectiveState.WAITING:
            narrate(f"{row['short_id']} waits for approval: hq approve {row['short_id']}")
        elif row["state"] == DirectiveState.PAUSED:
            narrate(
                f"{row['short_id']} is paused: hq cannot {row['short_id']},"
                f" hq resume {row['short_id']}"
            )


def _short(due: str | None) -> str:
    return due_words(due).removesuffix(" local")[5:16]


def _tell_asking(asking: dict[str, Any]) -> None:
    """After a restore: what the stores have brought back, and what they are being asked for."""
    if asking["adopted"]:
        narrate(f"{asking['adopted']:,} directives came back from the stores after a restore")
    if asking["directives"]:
        narrate(
            f"{len(asking['directives']):,} directives that this ledger does not know are being"
            f" asked for; {asking['statements']:,} statements wait for them:"
        )
        for one in asking["directives"][:5]:
            asked = (
                "" if one["asked_at"] is None else f", asked {ago(time.time() - one['asked_at'])}"
            )
            narrate(f"  {one['id'][:8]}: {one['statements']:,} statements{asked}")
        if len(asking["directives"]) > 5:
            narrate("  and more: hq status --json")


def _colour(row: Mapping[str, Any]) -> str:
    state = DirectiveState(row["state"])
    if state is DirectiveState.PAUSED or state is DirectiveState.WAITING:
        return "bold yellow"
    if state not in UNFINISHED or row["complete"]:
        return "dim"
    return "bold red" if row["priority"] == "urgent" and state in LIVE else ""


def _watch(ledger: Database, no: int, found: dict[str, Any], *, as_json: bool) -> None:
    """Show one directive until nothing of it is open; Ctrl-C ends it too."""
    if sys.stdout.isatty() and not as_json:
        _watch_live(ledger, no, found)
        return
    sheet = Sheet()
    shown: dict[str, Any] = {}
    for counts in _changes(ledger, no):
        if counts == shown:
            continue
        shown = counts
        if as_json:
            sheet.json_line({"at": time.time(), "id": found["id"], **counts})
        else:
            row = {**found, **counts}
            sheet.text(f"{clock(time.time())}  {met_words(row)}  ({count_words(row)})")


def _watch_live(ledger: Database, no: int, found: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only a live view pays for it
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from buskit.terminal import printable  # noqa: PLC0415

    def picture(counts: dict[str, Any]) -> Text:
        row = {**found, **counts}
        lines = [
            f"{row['short_id']}  {printable(row['title'])}",
            f"{progress_bar(row, 50)}  {met_words(row)}",
            count_words(row),
            LEGEND,
        ]
        return Text("\n".join(lines))

    console = Console(highlight=False)
    with Live(picture(found), console=console, auto_refresh=False) as live:
        for counts in _changes(ledger, no):
            live.update(picture(counts), refresh=True)


def _changes(ledger: Database, no: int) -> Iterator[dict[str, Any]]:
    """The counts now and after every commit of others, until nothing is open."""
    seen = -1
    while True:
        changes = ledger.changes_by_others()
        if changes != seen:
            seen = changes
            counts = views.counts_of(ledger.connection, no)
            yield counts
            if counts["complete"]:
                return
        time.sleep(_POLL_SECONDS)
