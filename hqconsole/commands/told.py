"""`replies` and `alerts`: what stores tell people."""

from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock
from hqconsole.commands.common import most_option
from hqconsole.ledger import arrival_views, directives
from hqconsole.ledger.opening import open_ledger


@click.command()
@click.argument("directive", metavar="[ID]", required=False)
@most_option
@home_option("hq")
@json_option
def replies(directive: str | None, most: int, home: Path, as_json: bool) -> None:
    """Show the answers in directives' threads, of one directive or of all, the latest last.

    \b
    Examples:
      hq replies
      hq replies 3f2a
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger, ledger.read() as connection:
        no = None if directive is None else directives.find(connection, directive)
        found = arrival_views.replies(connection, no, most)
    columns = [
        Column("received_at", "received", text=clock),
        Column("store", "store"),
        Column("store_name", "name"),
        Column("role", "for", text=lambda role: "" if role in {"any", None} else role),
        Column("by", "by"),
        Column("directive", "directive", text=arrival_views.short),
        Column("text", "reply"),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="nobody has replied yet")


@click.command()
@click.option("--kind", metavar="KIND", help="Only this kind, such as replenishment.")
@most_option
@home_option("hq")
@json_option
def alerts(kind: str | None, most: int, home: Path, as_json: bool) -> None:
    """Show what stores raised for action: replenishment, incidents; the latest last.

    \b
    Examples:
      hq alerts
      hq alerts --kind replenishment
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = arrival_views.alerts(connection, kind, most)
    columns = [
        Column("received_at", "received", text=clock),
        Column("store", "store"),
        Column("store_name", "name"),
        Column("alert", "kind"),
        Column("fields", "what", text=_fields),
        Column("note", "note"),
        Column("by", "by"),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="no alerts")


def _fields(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())
