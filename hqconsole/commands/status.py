"""`status`: how far each directive is, or one of them in full, or live."""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.database import Database
from buskit.terminal import Column, Sheet, ago, clock, narrate
from hqconsole.commands.common import narrate_link
from hqconsole.home import hub_state
from hqconsole.hub_link import hub_link
from hqconsole.ledger import directives, views
from hqconsole.ledger.opening import open_ledger
from hqconsole.render import (
    LEGEND,
    count_words,
    due_words,
    met_words,
    progress_bar,
    state_words,
)

_POLL_SECONDS = 0.2
_DIRECTIVES = 20
_WIDE = 110


@click.command()
@click.argument("directive", metavar="[ID]", required=False)
@click.option("--watch", is_flag=True, help="Follow one directive until everyone has answered.")
@click.option(
    "-n",
    "--limit",
    "most",
    type=click.IntRange(1),
    default=_DIRECTIVES,
    show_default=True,
    help="At most so many directives, the latest.",
)
@home_option("hq")
@json_option
def status(directive: str | None, watch: bool, most: int, home: Path, as_json: bool) -> None:
    """Show one line for each directive; with an ID, one directive in full.

    The bar: # as asked, + on the way, . not there yet, ! cannot, x closed by head office.
    In a pipe --watch writes a line whenever a number changes.

    \b
    Examples:
      hq status
      hq status 3f2a
      hq status 3f2a --watch
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if watch and directive is None:
        raise click.UsageError("--watch follows one directive; give its ID (hq status lists them)")
    with open_ledger(home) as ledger:
        if directive is None:
            _list(ledger, most, home, as_json=as_json)
            return
        with ledger.read() as connection:
            no = directives.find(connection, directive)
            found = views.one_directive(connection, no)
        if watch:
            _watch(ledger, no, found, as_json=as_json)
        elif as_json:
            Sheet().json(found)
        else:
            _show(found)


def _list(ledger: Database, most: int, home: Path, *, as_json: bool) -> None:
    with ledger.read() as connection:
        rows = views.latest_directives(connection, most)[::-1]
        total = views.directive_count(connection)
        asking = views.being_asked(connection)
    hub = hub_state(home)
    sheet = Sheet()
    if as_json:
        link = hub_link(home) if hub.running else None
        connected = None if link is None else link.connected
        shown = {"hub_running": hub.running, "hub_connected": connected}
        sheet.json({**shown, "directives": rows, "asking": asking})
        return
    # A bar that is folded is none: on a narrow terminal it is short, and dates are without year.
    narrow = sheet.on_terminal and shutil.get_terminal_size().columns < _WIDE
    for row in rows:
        row["bar"] = progress_bar(row, 8) if narrow else progress_bar(row)
        row["met_words"] = met_words(row)
        row["state_words"] = state_words(row)
    columns = [
        Column("short_id", "id"),
        Column("issued_at", "issued", text=lambda at: clock(at)[5:] if narrow else clock(at)),
        Column("state_words", "state", style=_colour),
        Column("bar", "progress"),
        Column("met_words", "as asked", right=True),
        Column("due", "due", text=lambda due: _short(due) if narrow else due_words(due)),
        Column("title", "title", style=_colour),
    ]
    sheet.show(rows, columns, as_json=False, empty="nothing was issued yet: hq publish --help")
    if total > len(rows):
        narrate(f"{total - len(rows):,} older ones: hq status --limit {total}")
    narrate_link(home, without="no hub is running: nothing leaves or comes in (hq up)")
    _tell_asking(asking)


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
    if row["state"] != "issued" or row["complete"]:
        return "dim"
    return "bold red" if row["priority"] == "urgent" else ""


def _words(found: dict[str, Any]) -> dict[str, str]:
    """One directive as pairs of a title and words."""
    words = {
        "id": found["id"],
        "title": found["title"],
        "kind": f"{found['kind']}, needs {found['needs']}, priority {found['priority']}",
        "issued": clock(found["issued_at"]) + _by(found["issued_by"]),
        "state": state_words(found),
        "due": due_words(found["due"]),
        "expires": "" if found["expires_at"] is None else clock(found["expires_at"]),
        "audience": f"{found['mailboxes']:,} mailboxes, frozen when issued",
        "progress": f"{progress_bar(found)}  {met_words(found)}",
        "counts": count_words(found),
    }
    if found["state"] == "cancelled":
        words["state"] += f" {clock(found['closed_at'])}" + _by(found["cancelled_by"])
        words["state"] += f": {found['cancel_reason']}" if found["cancel_reason"] else ""
    if found["adopted_at"] is not None:
        words["came back"] = (
            f"from the stores, {clock(found['adopted_at'])}: this ledger had forgotten it"
        )
    if found["known"] != found["mailboxes"]:
        words["known of"] = f"{found['known']:,} of the {found['mailboxes']:,} mailboxes"
    if found["late"]:
        words["late"] = f"{found['late']:,} said it in time and were heard after it was closed"
    words["channels"] = " ".join(found["channels"][:8])
    if len(found["channels"]) > 8:
        words["channels"] += f" and {len(found['channels']) - 8} more"
    words["digest"] = found["digest"]
    return {title: text for title, text in words.items() if text}


def _by(name: str) -> str:
    return f" by {name}" if name else ""


def _show(found: dict[str, Any]) -> None:
    sheet = Sheet()
    words = _words(found)
    sheet.show_one(words, [Column(title, title) for title in words], as_json=False)
    if found["body"]:
        sheet.text("\n" + found["body"])
    narrate(LEGEND)
    if found["open"]:
        narrate(f"who has not: hq who {found['short_id']}")


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
