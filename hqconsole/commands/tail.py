"""`tail`: follow what arrives, for scripts that must not miss anything."""

import time
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.database import Database
from buskit.database_opening import file_identity
from buskit.terminal import Sheet, clock
from hqconsole.ledger.arrival_views import (
    START,
    Position,
    check_position,
    parse_position,
    position_before_last,
    stream,
)
from hqconsole.ledger.opening import FILE_NAME, open_ledger

_POLL_SECONDS = 0.1
_LAST = 10


@click.command()
@click.option("--from", "start", metavar="POSITION", help=f"Go on behind this one, or {START!r}.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Wait for more.")
@home_option("hq")
@json_option
def tail(start: str | None, follow: bool, home: Path, as_json: bool) -> None:
    """Show what arrives from the stores, in the order in which it was saved.

    Each JSON line has its position. A script that keeps the position of the last line it has dealt
    with, and begins with --from POSITION, misses nothing and gets nothing twice. Without --from it
    begins with the last 10.

    \b
    Example:
      hq tail --json --from "$(cat position)" | while read -r line; do
          handle "$line" && jq -r .position <<< "$line" > position
      done
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    sheet = Sheet()
    position = None if start is None else parse_position(start)
    while True:
        with open_ledger(home) as ledger:
            if position is None:
                position = position_before_last(ledger.connection, _LAST)
            check_position(ledger.connection, position)
            position = _write(ledger, position, sheet, as_json=as_json)
            if not follow:
                return
            position = _follow(ledger, home, position, sheet, as_json=as_json)
        # Another ledger has taken the place: go on only if it knows where we are.


def _follow(
    ledger: Database, home: Path, position: Position, sheet: Sheet, *, as_json: bool
) -> Position:
    """Write what comes, until another ledger takes this one's place."""
    file = file_identity(home / FILE_NAME)
    seen = -1
    while file_identity(home / FILE_NAME) == file:
        # Asked before it is read: what is committed in between is seen the next time.
        changes = ledger.changes_by_others()
        if changes != seen:
            seen = changes
            position = _write(ledger, position, sheet, as_json=as_json)
        time.sleep(_POLL_SECONDS)
    return position


def _write(ledger: Database, position: Position, sheet: Sheet, *, as_json: bool) -> Position:
    """Write what is behind a position; returns where that ends."""
    for one in stream(ledger.connection, position):
        if as_json:
            sheet.json_line(one)
        else:
            sheet.text(_line(one).replace("\n", " "))
        position = parse_position(one["position"])
    return position


def _line(one: dict[str, Any]) -> str:
    """One entry for a person."""
    said = one["data"]
    match one["kind"]:
        case "receipt":
            what = f"{said.get('state', '?')}: {one['title'] or said.get('directive', '')}"
            if said.get("reason"):
                what += f" ({said['reason']})"
        case "reply":
            what = f"replies: {said.get('text', '')}"
        case "alert":
            fields = said.get("fields")
            pairs = fields.items() if isinstance(fields, dict) else ()
            what = f"alert {said.get('alert', '')} " + " ".join(f"{k}={v}" for k, v in pairs)
        case "report":
            what = f"report {said.get('name')} part {said.get('part')} of {said.get('parts')}"
        case other:
            what = str(other)
    role = "" if one["role"] in {None, "any"} else f"/{one['role']}"
    aside = f"  [{one['outcome']}]" if one["outcome"] else ""
    by = f"  by {said['by']}" if said.get("by") else ""
    return f"{clock(one['received_at'])}  {one['store']}{role}  {what}{by}{aside}"
