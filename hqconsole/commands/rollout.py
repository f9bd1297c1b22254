"""`schedule`, `pause`, `resume`, `stop`: when a directive goes out, and how far."""

import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from buskit.cli import home_option
from buskit.terminal import clock, narrate
from hqconsole.commands.about import about, directive_argument
from hqconsole.commands.common import narrate_hub
from hqconsole.commands.going_out import out_words
from hqconsole.errors import HqError
from hqconsole.home import read_hq_settings
from hqconsole.ledger import lifecycles, waves
from hqconsole.lifecycle import DirectiveState
from hqconsole.moments import EXAMPLES, Moment, parse_moment
from hqconsole.render import due_words
from hqconsole.zones import time_zone


@click.command()
@directive_argument
@click.argument("when")
@click.option("--local", is_flag=True, help="On each store's own clock.")
@home_option("hq")
def schedule(directive: str, when: str, local: bool, home: Path) -> None:
    """Give a directive that has not gone out another time; WHEN is on head office's clock.

    \b
    Examples:
      hq schedule 3f2a 'Monday 06:00'
      hq schedule 3f2a 'Monday 06:00' --local
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    zone = time_zone(read_hq_settings(home).timezone)
    now_at = time.time()
    moment = parse_moment(when, now=datetime.fromtimestamp(now_at, ZoneInfo(zone)))
    if moment.is_local and not local:
        moment = Moment(unix_seconds=int(moment.at(zone)))
    if local and not moment.is_local:
        raise click.UsageError(f"{when} is one instant for all stores; leave --local out")
    if not local and moment.at(zone) <= now_at:
        raise HqError(f"{when} is past in {zone}", hint=f"write a time to come: {EXAMPLES}")
    with about(home, directive, "publish") as one:
        parts: list[tuple[str, float, list[int] | None]] = [("all", moment.at(zone), None)]
        if local:
            by_zone = lifecycles.planned_by_zone(one.connection, one.no)
            parts = [(name, moment.at(name), numbers) for name, numbers in by_zone.items()]
            parts.sort(key=lambda part: part[1])
        lifecycles.reschedule(one.connection, one.no, str(moment), parts, by=one.by, at=one.at)
        one.audit("schedule", starts=str(moment), by_store=local)
    first = clock(parts[0][1])
    if local:
        narrate(f"it goes out {due_words(str(moment))}, in the first stores at {first} here")
    else:
        narrate(f"it goes out {first}")
    narrate_hub(home)


@click.command()
@directive_argument
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@home_option("hq")
def pause(directive: str, reason: str, home: Path) -> None:
    """Let no more waves of a directive go before hq resume; who has it keeps it.

    \b
    Examples:
      hq pause 3f2a --reason 'the vendor is looking at it'
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with about(home, directive, "publish") as one:
        waves.pause(one.connection, one.no, why=reason or "by hand", at=one.at, by=one.by)
        one.audit("pause", reason=reason)
    narrate(
        f"paused: hq resume {one.short_id} lets it go on, hq stop {one.short_id} leaves it at that"
    )


@click.command()
@directive_argument
@home_option("hq")
def resume(directive: str, home: Path) -> None:
    """Let a paused directive go on: where a wave was worse than it may be, past that wave.

    \b
    Examples:
      hq cannot 3f2a        why it paused
      hq resume 3f2a
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with about(home, directive, "publish") as one:
        state = waves.resume(
            one.connection,
            one.no,
            by=one.by,
            organisation=lambda: one.organisation,
            **one.sending,
        )
        one.audit("resume", state=state.value)
    narrate(f"resumed; {_words(state, one.short_id)}")
    narrate_hub(home)


def _words(state: DirectiveState, short_id: str) -> str:
    if state is DirectiveState.ROLLING:
        return f"hq status {short_id} --by wave shows how far it is"
    return out_words(state, short_id)


@click.command()
@directive_argument
@home_option("hq")
def stop(directive: str, home: Path) -> None:
    """Send a directive to nobody else. Who has it keeps it; hq cancel takes it from them, too.

    \b
    Examples:
      hq stop 3f2a
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with about(home, directive, "publish") as one:
        left = waves.stop(one.connection, one.no, at=one.at, by=one.by)
        one.audit("stop", not_sent=left)
    narrate(f"stopped; {left:,} mailboxes do not get it")
