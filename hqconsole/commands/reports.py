"""`reports`: tables of figures that stores sent, and their rows."""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock, narrate, printable
from hqconsole.commands.common import most_option
from hqconsole.errors import HqError
from hqconsole.ledger import arrival_views
from hqconsole.ledger.opening import open_ledger


@click.command()
@click.argument("report", metavar="[NO]", required=False, type=click.IntRange(1))
@click.option("--csv", "as_csv", is_flag=True, help="Write the rows of report NO as CSV.")
@click.option("--partial", is_flag=True, help="Also when some of its parts are still missing.")
@most_option
@home_option("hq")
@json_option
def reports(
    *, report: int | None, as_csv: bool, partial: bool, most: int, home: Path, as_json: bool
) -> None:
    """List the reports; with a number, write its rows back in their order.

    \b
    Examples:
      hq reports
      hq reports 12 --csv > sales.csv
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if report is None and as_csv:
        raise click.UsageError("--csv needs the number of a report; hq reports lists them")
    if as_csv and as_json:
        raise click.UsageError("--csv and --json contradict each other")
    with open_ledger(home) as ledger:
        if report is None:
            with ledger.read() as connection:
                found = arrival_views.reports(connection, most)
            _list(found, as_json=as_json)
            return
        rows = arrival_views.ReportRows(ledger.connection, report)
        if not rows.complete and not partial:
            raise HqError(
                f"{rows.parts_here} of {rows.parts} parts of report {report} are here",
                hint="wait for the rest, or take what there is with --partial",
            )
        if as_json:
            Sheet().json(
                {"no": report, "name": rows.name, "columns": rows.columns(), "rows": list(rows)}
            )
        else:
            _write_csv(rows.columns(), rows)


def _list(found: list[dict[str, Any]], *, as_json: bool) -> None:
    columns = [
        Column("no", "#", right=True),
        Column("first_at", "received", text=clock),
        Column("store", "store"),
        Column("store_name", "name"),
        Column("device", "device"),
        Column("name", "report"),
        Column("rows", "rows", right=True),
        Column("parts_words", "parts"),
    ]
    shown = [
        {
            **row,
            "parts_words": "all" if row["complete"] else f"{row['parts_here']} of {row['parts']}",
        }
        for row in found
    ]
    Sheet().show(found if as_json else shown, columns, as_json=as_json, empty="no reports")
    if found and not as_json:
        narrate(f"the rows of one: hq reports {found[-1]['no']} --csv")


def _write_csv(columns: list[str], rows: Iterable[list[Any]]) -> None:
    # A file or pipe gets what the store sent to the letter, a person's terminal what it can show.
    harmless = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([harmless(name) for name in columns])
    for row in rows:
        writer.writerow([harmless(_cell(cell)) for cell in row])


def _cell(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)
