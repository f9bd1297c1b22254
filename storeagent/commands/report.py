"""`report`: a table of figures from a file or from standard input."""

import sys
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Sheet, narrate
from storeagent import reports
from storeagent.api import Agent
from storeagent.commands.common import id_option


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl"]),
    help="How it is written; found by the file's name or content if not given.",
)
@click.option("--delimiter", help="What separates the cells of a CSV file, such as ';'.")
@click.option("--dry-run", is_flag=True, help="Only read it, and say what was understood.")
@id_option
@home_option("agent")
@json_option
def report(
    *,
    name: str,
    file: str,
    kind: reports.Format | None,
    delimiter: str | None,
    dry_run: bool,
    key: str | None,
    home: Path,
    as_json: bool,
) -> None:
    """Send the table in FILE (- for standard input) as the report NAME, all of it or nothing.

    CSV with a first line of column names, or JSON Lines. The same content sent again is not
    counted twice, unless it is given another --id.

    \b
    Examples:
      storeagent report daily-sales sales.csv
      till-export | storeagent report stock -
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if delimiter is not None and len(delimiter) != 1:
        raise click.BadParameter("one character", param_hint="--delimiter")
    content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    table = reports.read_table(
        content, kind or reports.guess_format(content, file), delimiter=delimiter
    )
    reports.check_report_name(name)
    rows = "1 row" if len(table.rows) == 1 else f"{len(table.rows)} rows"
    shape = f"{rows} of {', '.join(table.columns[:8])}"
    shape += ", ..." if len(table.columns) > 8 else ""
    if dry_run:
        narrate(f"{shape}; nothing was recorded")
        return
    with Agent(home) as agent:
        recorded = agent.report_table(name, table, key=key or reports.content_key(content))
    if as_json:
        Sheet().json(
            {
                "report": recorded.id,
                "new": recorded.new,
                "parts": recorded.parts,
                "rows": recorded.rows,
            }
        )
    elif recorded.new:
        narrate(f"recorded: {shape}; it goes to head office as soon as there is a connection")
    else:
        narrate("these figures were recorded before; nothing was added")
