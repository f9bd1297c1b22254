"""`quarantine` and `incidents`: what nobody could use, and what an operator should know."""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.doorbell import ring
from buskit.terminal import Column, Sheet, clock, narrate
from hqconsole import incidents as meaning
from hqconsole.commands.common import acting, most_option, operator, write_audit
from hqconsole.errors import HqError
from hqconsole.home import new_id, read_hq_settings
from hqconsole.ledger import trouble_views, troubles
from hqconsole.ledger.arrivals import Arrivals
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import PresentOrganisation

_PAYLOAD_SHOWN = 120


@click.command()
@click.option("--from", "source", metavar="TEXT", help="Only from sources that have this in them.")
@click.option(
    "--retry", is_flag=True, help="Try entries of devices again that had no effect: after upgrades."
)
@click.option(
    "--drop",
    "dropped",
    multiple=True,
    metavar="NO",
    help="Forget this row; all for all. Entries of devices stay in the ledger.",
)
@most_option
@home_option("hq")
@json_option
def quarantine(
    *,
    source: str | None,
    retry: bool,
    dropped: Sequence[str],
    most: int,
    home: Path,
    as_json: bool,
) -> None:
    """Show what arrived and nobody could use: from whom, why, how often, and how it begins.

    Of what is forged or unknown, a bounded number of reasons is kept, with a count of each.

    \b
    Examples:
      hq quarantine
      hq quarantine --from S017/till-1
      hq quarantine --retry
      hq quarantine --drop all
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if retry or dropped:
        acting(home, "upkeep")
    if retry:
        _retry(home)
        return
    if dropped:
        _drop(home, dropped)
        return
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = trouble_views.quarantine(connection, most, source=source)
    columns = [
        Column("no", "#", right=True),
        Column("last_at", "last", text=clock),
        Column("times", "times", right=True, text=lambda times: f"{times:,}"),
        Column("source", "from"),
        Column("reason", "reason"),
        Column("payload_bytes", "bytes", right=True),
        Column("payload", "begins", text=_beginning),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="nothing was put aside")


def _retry(home: Path) -> None:
    """Let entries of devices have their effect that had none."""
    from hqconsole.keyring import Keyring  # noqa: PLC0415 - cryptography
    from hqconsole.notary import Notary  # noqa: PLC0415

    notary = Notary(Keyring.load(home), read_hq_settings(home).topics)
    last, done, left = 0, 0, 0
    with open_ledger(home) as ledger:
        while True:
            with ledger.write() as connection:
                arrivals = Arrivals(
                    connection,
                    organisation=PresentOrganisation(connection),
                    new_id=new_id,
                    at=time.time(),
                    check_seal=notary.check_seal,
                    carefully=True,
                )
                last, now_done, still_left = arrivals.take_again(last)
                if not last:
                    write_audit(connection, "quarantine retry", done=done, left=left)
                    break
            done, left = done + now_done, left + still_left
    ring(home)
    narrate(f"{done:,} entries have had their effect now; {left:,} still cannot be used")


def _drop(home: Path, words: Sequence[str]) -> None:
    """Forget rows."""
    numbers = _numbers(words, "--drop takes the number of a row, or all")
    with open_ledger(home) as ledger, ledger.write() as connection:
        known = troubles.drop(connection, numbers)
        if not known:
            raise HqError("there is no such row", hint="hq quarantine lists them")
        write_audit(connection, "quarantine drop", rows=known)
    narrate(f"{known:,} rows are forgotten")


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
    if acknowledged:
        acting(home, "upkeep")
    with open_ledger(home) as ledger:
        if acknowledged:
            numbers = _numbers(acknowledged, "--acknowledge takes an incident's number, or all")
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


def _numbers(words: Sequence[str], wanted: str) -> list[int] | None:
    """What was named; None for all."""
    if "all" in words:
        return None
    try:
        return [int(word) for text in words for word in text.replace(",", " ").split()]
    except ValueError:
        raise click.UsageError(wanted) from None
