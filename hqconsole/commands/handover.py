"""`handover`: a seat's open work and history, for the person who takes over."""

import time
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Sheet
from hqconsole import handover as handover_page
from hqconsole.commands.common import narrate_link
from hqconsole.commands.past import past_moment
from hqconsole.commands.places import known_store
from hqconsole.ledger import seats
from hqconsole.ledger.opening import open_ledger


@click.command()
@click.argument("store", metavar="STORE")
@click.argument("role", metavar="[ROLE]", default=seats.ANY)
@click.option(
    "--since",
    metavar="WHEN",
    default="90d",
    show_default=True,
    help="History from then on: 2026-11-20, 30d. Open work is shown however old it is.",
)
@click.option("--markdown", is_flag=True, help="Write Markdown, to print or to send on.")
@home_option("hq")
@json_option
def handover(
    *, store: str, role: str, since: str, markdown: bool, home: Path, as_json: bool
) -> None:
    """Show a seat to whoever takes it over: its open work, and what was said and done there.

    Work belongs to the seat and not to a person. What is for the store as a whole is part of it;
    without ROLE it is that alone.

    \b
    Examples:
      hq handover S017 manager
      hq handover S017 manager --since 1w --markdown > s017.md
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if markdown and as_json:
        raise click.UsageError("--markdown and --json contradict each other")
    since_at = past_moment(since, home)
    with open_ledger(home) as ledger, ledger.read() as connection:
        store = known_store(connection, store)
        found = seats.seat(connection, store, role, since_at=since_at, now_at=time.time())
    sheet = Sheet()
    if as_json:
        sheet.json(found)
        return
    sheet.text(handover_page.page(found, markdown=markdown))
    narrate_link(home, without="no hub is running: this is as it was when it stopped")
