"""`audit`: who did what at head office."""

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock
from hqconsole.commands.common import most_option
from hqconsole.home import read_hq_settings
from hqconsole.ledger import audit as ledger_audit
from hqconsole.ledger.opening import open_ledger
from hqconsole.zones import time_zone

_AGO = re.compile(r"(\d{1,6})\s*(?:(m|mins?|minutes?)|(h|hours?)|(d|days?)|(w|weeks?))(?:\s+ago)?")
_UNIT_SECONDS = (60, 3600, 86_400, 604_800)


@click.command()
@click.option("--since", metavar="WHEN", help="From then on: 2026-11-20, '2026-11-20 08:00', 7d.")
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
    since_at = None if since is None else _moment(since, home)
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


def _moment(text: str, home: Path) -> float:
    """A moment that is past: so long ago, or a date with or without a time, at head office."""
    if match := _AGO.fullmatch(text.strip().lower()):
        (unit,) = [index for index, word in enumerate(match.groups()[1:]) if word]
        return time.time() - int(match[1]) * _UNIT_SECONDS[unit]
    try:
        moment = datetime.fromisoformat(" ".join(text.split()))
    except ValueError:
        raise click.UsageError(
            f"{text!r} is no moment; write 2026-11-20, '2026-11-20 08:00', 7d or 12h"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(time_zone(read_hq_settings(home).timezone)))
    return moment.timestamp()
