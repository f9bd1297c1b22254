"""`audit`: who did what at head office."""

from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock
from hqconsole.commands.common import most_option
from hqconsole.commands.past import past_moment, since_option
from hqconsole.ledger import audit as ledger_audit
from hqconsole.ledger.opening import open_ledger


@click.command()
@since_option
@click.option("--by", "operator", metavar="NAME", help="Only what this operator did.")
@click.option("--action", metavar="WORDS", help="Only this, such as 'device revoke', or 'device'.")
@most_option
@home_option("hq")
@json_option
def audit(
    *,
    since: str | None,
    operator: str | None,
    action: str | None,
    most: int,
    home: Path,
    as_json: bool,
) -> None:
    """Show who did what here, when, from where, and what changed; the latest last.

    The operator is $STOREBUS_OPERATOR, or whoever is logged in. Each row holds the one before it
    by its hash: hq verify says if a row was altered or taken out.

    \b
    Examples:
      hq audit
      hq audit --since 7d --by ana
      hq audit --action device --json
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    since_at = None if since is None else past_moment(since, home)
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = ledger_audit.entries(
            connection, since_at=since_at, operator=operator, action=action, most=most
        )
    columns = [
        Column("at", "at", text=clock),
        Column("operator", "who"),
        Column("origin", "from"),
        Column("action", "did"),
        Column("detail", "what changed", text=detail_words),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="nothing like that was done")


def detail_words(detail: Any) -> str:
    """Details in one line: `name=value`, lists apart by commas."""
    if not isinstance(detail, dict):
        return str(detail)
    return " ".join(
        f"{name}={_moment_word(value) if name.endswith('_at') else _word(value)}"
        for name, value in detail.items()
    )


def _moment_word(value: Any) -> str:
    return clock(value) if isinstance(value, int | float) else _word(value)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_word, value))
    if isinstance(value, dict):
        return "(" + detail_words(value) + ")"
    return "yes" if value is True else "no" if value is False else str(value)
