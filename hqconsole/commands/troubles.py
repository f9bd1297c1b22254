"""`quarantine` and `incidents`: what nobody could use, and what an operator should know."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock, narrate
from hqconsole import incidents as meaning
from hqconsole.commands.common import most_option, operator, write_audit
from hqconsole.errors import HqError
from hqconsole.ledger import trouble_views, troubles
from hqconsole.ledger.opening import open_ledger

_PAYLOAD_SHOWN = 120


@click.command()
@click.option("--from", "source", metavar="TEXT", help="Only from sources that have this in them.")
@most_option
@home_option("hq")
@json_option
def quarantine(source: str | None, most: int, home: Path, as_json: bool) -> None:
    """Show what arrived and nobody could use: from whom, why, how often, and how it begins.

    Of what is forged or unknown, a bounded number of reasons is kept, with a count of each.

    \b
    Examples:
      hq quarantine
      hq quarantine --from S017/till-1
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = trouble_views.quarantine(connection, most, source=source)
    columns = [
        Column("last_at", "last", text=clock),
        Column("times", "times", right=True, text=lambda times: f"{times:,}"),
        Column("source", "from"),
        Column("reason", "reason"),
        Column("payload_bytes", "bytes", right=True),
        Column("payload", "begins", text=_beginning),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="nothing was put aside")


def _beginning(payload: str) -> str:
    """What a payload says, without the signature that most have before it."""
    header, line_feed, text = payload.partition("\n")
    if line_feed and header.startswith("storebus/1 "):
        payload = f"{header[:19]}… {text}"
    return payload[:_PAYLOAD_SHOWN]


@click.command()
@click.option("--kind", metavar="KIND", help="Only this kind.")
@click.option("--open", "only_open", is_flag=True, help="Only what nobody has acknowledged.")
@click.option(
    "--acknowledge",
    "acknowledged",
    multiple=True,
    metavar="NO",
    help="Say that you know of it; all for all. What goes on is then raised again.",
)
@most_option
@home_option("hq")
@json_option
def incidents(
    *,
    kind: str | None,
    only_open: bool,
    acknowledged: Sequence[str],
    most: int,
    home: Path,
    as_json: bool,
) -> None:
    """Show what an operator should know: forged messages, cloned devices, entries lost, ...

    What goes on for long is raised once a day, or again once it was acknowledged.

    \b
    Examples:
      hq incidents --open
      hq incidents --kind 'cloned device'
      hq incidents --acknowledge 12 --acknowledge 13
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger:
        if acknowledged:
            numbers = _numbers(acknowledged)
            with ledger.write() as connection:
                known = troubles.acknowledge(connection, numbers, at=time.time(), by=operator())
                if not known:
                    raise HqError("none of these is open", hint="hq incidents --open lists them")
                write_audit(connection, "incident acknowledge", incidents=known[:100])
            narrate(f"{len(known):,} incidents are acknowledged")
            return
        with ledger.read() as connection:
            found = trouble_views.incidents(connection, kind, most, only_open=only_open)
    shown = [{**one, "words": meaning.words(one["kind"], one["detail"])} for one in found]
    columns = [
        Column("no", "#", right=True),
        Column("at", "at", text=clock),
        Column("kind", "kind", style=lambda row: "dim" if row["acknowledged_at"] else "yellow"),
        Column("store", "store"),
        Column("device", "device"),
        Column("words", "what happened"),
        Column("acknowledged_by", "known to"),
    ]
    Sheet().show(found if as_json else shown, columns, as_json=as_json, empty="nothing happened")
    if not as_json:
        still = {one["kind"] for one in found if one["acknowledged_at"] is None}
        for name in sorted(still & meaning.ADVICE.keys()):
            narrate(f"{name}: {meaning.ADVICE[name]}")


def _numbers(words: Sequence[str]) -> list[int] | None:
    """The incidents that were named; None for all."""
    if "all" in words:
        return None
    try:
        return [int(word) for text in words for word in text.replace(",", " ").split()]
    except ValueError:
        raise click.UsageError("--acknowledge takes the number of an incident, or all") from None
