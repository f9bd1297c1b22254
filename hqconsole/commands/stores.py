"""`stores`: who is online, who was last heard when, and who is behind."""

import time
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, narrate
from hqconsole.commands.common import heard_words, narrate_link, online_column
from hqconsole.ledger import store_views
from hqconsole.ledger.opening import open_ledger


@click.command()
@click.option("--region", metavar="ID", help="Only this region.")
@click.option("--offline", is_flag=True, help="Only stores of which no device is there.")
@home_option("hq")
@json_option
def stores(region: str | None, offline: bool, home: Path, as_json: bool) -> None:
    """Show each store: is it online, when was it last heard, how much has it not yet sent.

    The backlog is what its devices said they have still to send, in entries.

    \b
    Examples:
      hq stores --offline
      hq stores --region east
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    now_at = time.time()
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = store_views.stores(connection, region=region)
    listed = [row for row in found if not (offline and row["online"])]
    columns = [
        Column("store", "store"),
        Column("name", "name"),
        Column("region", "region"),
        online_column(),
        Column("last_heard_at", "last heard", text=heard_words(now_at)),
        Column("backlog", "backlog", right=True, text=lambda count: f"{count:,}" if count else ""),
        Column("devices", "devices", right=True),
    ]
    empty = "every store is online" if found else "no store: hq roster show lists the regions"
    Sheet().show(listed, columns, as_json=as_json, empty=empty)
    if as_json or not found:
        return
    online = sum(row["online"] for row in found)
    never = sum(row["last_heard_at"] is None for row in found)
    narrate(f"{online:,} of {len(found):,} stores are online; {never:,} were never heard")
    narrate_link(home, without="no hub is running: who is online is as it was when it stopped")
