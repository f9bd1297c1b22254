"""`roster show` and `roster devices`: the organisation as HQ has it."""

import time
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, narrate
from hqconsole.commands.common import heard_words, online_column
from hqconsole.errors import HqError
from hqconsole.ledger import store_views
from hqconsole.ledger.opening import open_ledger


@click.command()
@click.option("--region", metavar="ID", help="Only this region.")
@click.option("--closed", is_flag=True, help="Closed stores, too.")
@home_option("hq")
@json_option
def show(region: str | None, closed: bool, home: Path, as_json: bool) -> None:
    """List the stores with their regions, roles and tags, as --region, --role, --tag take them."""
    with open_ledger(home) as ledger, ledger.read() as connection:
        known = store_views.regions(connection)
        if region is not None and region not in known:
            from hqconsole.suggestions import close_names  # noqa: PLC0415 - only a slip pays for it

            near = close_names(region, known)
            raise HqError(
                f"there is no region {region}" + (f", did you mean {near[0]}?" if near else ""),
                hint=f"there are: {', '.join(known)}" if known else "hq roster import FILE",
            )
        found = store_views.roster(connection, region=region, closed=closed)
    columns = [
        Column("store", "store"),
        Column("name", "name"),
        Column("region", "region"),
        Column("city", "city"),
        Column("timezone", "timezone"),
        Column("roles", "roles"),
        Column("tags", "tags"),
    ]
    if closed:
        columns.append(
            Column("closed_at", "closed", text=lambda at: "" if at is None else "closed")
        )
    Sheet().show(found, columns, as_json=as_json, empty="no stores yet: hq roster import FILE")
    if found and not as_json:
        count = len({row["region"] for row in found})
        narrate(f"{len(found):,} stores in {count:,} regions")


@click.command()
@click.option("--store", metavar="ID", help="Only this store.")
@home_option("hq")
@json_option
def devices(store: str | None, home: Path, as_json: bool) -> None:
    """List the devices: which roles each serves, and when it was last heard."""
    now_at = time.time()
    with open_ledger(home) as ledger, ledger.read() as connection:
        if store is not None and not store_views.has_store(connection, store):
            raise HqError(f"there is no store {store}", hint="hq roster show lists them")
        found = store_views.devices(connection, store=store)
    columns = [
        Column("store", "store"),
        Column("device", "device"),
        Column("roles", "serves"),
        online_column(),
        Column("last_heard_at", "last heard", text=heard_words(now_at)),
        Column("backlog", "backlog", right=True),
        Column("clock_offset_seconds", "clock off", right=True, text=_offset),
        Column("version", "version"),
    ]
    Sheet().show(
        found,
        columns,
        as_json=as_json,
        empty="no device was heard yet; on one: storeagent init, then storeagent run",
    )


def _offset(seconds: float) -> str:
    return "" if abs(seconds) < 60 else f"{seconds:+,.0f} s"
