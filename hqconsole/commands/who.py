"""`who`: who has not, or who has."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock, narrate
from buswire.states import State
from hqconsole.commands.common import heard_words, narrate_link, online_column
from hqconsole.ledger import directives, views
from hqconsole.ledger.opening import open_ledger


@click.command()
@click.argument("directive", metavar="ID")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State]),
    help="Only those in this state; several add up. Otherwise everyone who is still open.",
)
@home_option("hq")
@json_option
def who(directive: str, states: Sequence[str], home: Path, as_json: bool) -> None:
    """Name the stores that have not done as asked, with what is known of their devices.

    \b
    Examples:
      hq who 3f2a                       everyone who is still open
      hq who 3f2a --state pending       where it has not even arrived
      hq who 3f2a --state cannot        who cannot, and why
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    now_at = time.time()
    with open_ledger(home) as ledger, ledger.read() as connection:
        no = directives.find(connection, directive)
        found = views.who(connection, no, {State(state) for state in states})
    for row in found:
        row["why"] = ": ".join(filter(None, (row["by"], row["reason"] or row["note"])))
    columns = [
        Column("store", "store"),
        Column("name", "name"),
        Column("region", "region"),
        Column("role", "for", text=lambda role: "" if role == "any" else role),
        Column("state", "state", text=lambda state: state.replace("_", " ")),
        Column("since", "since", text=lambda at: "" if at is None else clock(at)),
        online_column(),
        Column("last_heard_at", "last heard", text=heard_words(now_at)),
        Column("why", "said"),
    ]
    if not any(row["why"] for row in found):
        columns.pop()
    if as_json:
        for row in found:
            del row["why"]
    Sheet().show(found, columns, as_json=as_json, empty="nobody")
    if found and not as_json:
        counts = Counter(row["state"] for row in found)
        narrate(
            ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items())
            + f"; {sum(row['online'] for row in found):,} of them are online"
        )
        narrate_link(home, without="no hub is running: this is as it was when it stopped")
