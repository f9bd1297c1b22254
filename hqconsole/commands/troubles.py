"""`quarantine` and `incidents`: what nobody could use, and what an operator should know."""

from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock
from hqconsole.commands.common import most_option
from hqconsole.ledger import trouble_views
from hqconsole.ledger.opening import open_ledger

_PAYLOAD_SHOWN = 120


@click.command()
@most_option
@home_option("hq")
@json_option
def quarantine(most: int, home: Path, as_json: bool) -> None:
    """Show what arrived and nobody could use: from whom, why, how often, and how it begins."""
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = trouble_views.quarantine(connection, most)
    columns = [
        Column("last_at", "last", text=clock),
        Column("times", "times", right=True),
        Column("source", "from"),
        Column("reason", "reason"),
        Column("payload_bytes", "bytes", right=True),
        Column("payload", "begins", text=lambda text: text[:_PAYLOAD_SHOWN]),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="nothing was put aside")


@click.command()
@click.option("--kind", metavar="KIND", help="Only this kind.")
@most_option
@home_option("hq")
@json_option
def incidents(kind: str | None, most: int, home: Path, as_json: bool) -> None:
    """Show what an operator should know: entries lost with a disk, a ledger put back, ..."""
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = trouble_views.incidents(connection, kind, most)
    columns = [
        Column("at", "at", text=clock),
        Column("kind", "kind"),
        Column("store", "store"),
        Column("device", "device"),
        Column("detail", "detail", text=_detail),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="nothing happened")


def _detail(detail: Any) -> str:
    if not isinstance(detail, dict):
        return str(detail)
    return " ".join(f"{name}={value}" for name, value in detail.items())
