"""`roster columns`: what `--where` can ask of the stores."""

from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, narrate
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import cells
from hqconsole.where import OPERATORS
from hqconsole.where_columns import columns as read_columns


@click.command()
@home_option("hq")
@json_option
def columns(home: Path, as_json: bool) -> None:
    """List what the roster says of stores, column by column, as --where asks for it.

    Every column of the imported list is there, also those that storebus has no use for itself.
    Numbers and dates show their least and greatest, so that a column which was read otherwise than
    it was meant is seen.

    \b
    Examples:
      hq roster columns
      hq publish 'Floor plan' --where 'format=flagship and area_sqm>800' --dry-run
      hq audience save old --where 'opened < 2010-01-01 and not tags has metro'
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = read_columns(cells(connection).values())
    Sheet().show(
        found if as_json else [one | {"holds": _holds(one)} for one in found],
        [
            Column("written", "column"),
            Column("kind", "kind"),
            Column("stores", "stores", right=True),
            Column("empty", "empty", right=True),
            Column("other", "no such", right=True, text=lambda count: str(count or "")),
            Column("different", "different", right=True),
            Column("holds", "holds"),
        ],
        as_json=as_json,
        empty="no stores yet: hq roster import FILE",
    )
    if found and not as_json:
        for sign, meaning in OPERATORS.items():
            narrate(f"  {sign:<11} {meaning}")
        narrate("  and, or, not, ( )   a name or value with spaces goes in quotes")


def _holds(column: dict[str, Any]) -> str:
    if column["least"] is not None:
        return f"{column['least']} to {column['most']}"
    return ", ".join(f"{one['value']} ({one['stores']:,})" for one in column["examples"])
