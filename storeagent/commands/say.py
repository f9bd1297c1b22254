"""`read`, `start`, `done`, `cannot`, `reply`: what staff say about work."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from buskit.cli import home_option
from buskit.terminal import narrate
from storeagent.api import Agent
from storeagent.commands.common import by_option
from storeagent.statements import Outcome, Said

F = TypeVar("F", bound=Callable[..., Any])

_WORDS = {"read": "read", "in_progress": "in progress", "done": "done", "cannot": "cannot"}


def _work_argument(command: F) -> F:
    return click.argument("work", nargs=-1, required=True, metavar="NUMBER...")(command)


@click.command()
@_work_argument
@by_option
@home_option("agent")
def read(work: Sequence[str], by: str, home: Path) -> None:
    """Say that somebody has read it.

    NUMBER is the number in the inbox, or the beginning of the directive's id.
    """
    _say(home, work, lambda agent, one: agent.read(one, by=by), "read")


@click.command()
@_work_argument
@by_option
@home_option("agent")
def start(work: Sequence[str], by: str, home: Path) -> None:
    """Say that the work has begun."""
    _say(home, work, lambda agent, one: agent.start(one, by=by), "in_progress")


@click.command()
@_work_argument
@click.option("--note", default="", help="A word about it, for head office.")
@by_option
@home_option("agent")
def done(work: Sequence[str], note: str, by: str, home: Path) -> None:
    """Say that the work is done.

    \b
    Example:
      storeagent done 2 --by Ana
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    _say(home, work, lambda agent, one: agent.done(one, note=note, by=by), "done")


@click.command()
@_work_argument
@click.option("--reason", required=True, metavar="TEXT", help="Why not, in a line.")
@by_option
@home_option("agent")
def cannot(work: Sequence[str], reason: str, by: str, home: Path) -> None:
    """Say that the store cannot do it, and why.

    \b
    Example:
      storeagent cannot 3 --reason "the ladder is broken"
    """  # noqa: D301 - see above
    _say(home, work, lambda agent, one: agent.cannot(one, reason=reason, by=by), "cannot")


@click.command()
@click.argument("work", metavar="NUMBER")
@click.argument("text", nargs=-1, required=True)
@by_option
@home_option("agent")
def reply(work: str, text: Sequence[str], by: str, home: Path) -> None:
    """Answer in the directive's thread; - reads the answer from standard input.

    \b
    Example:
      storeagent reply 2 "Which shelf is meant?" --by Ana
    """  # noqa: D301 - see above
    words = " ".join(text)
    if words == "-":
        words = sys.stdin.read().strip()
    with Agent(home) as agent:
        agent.reply(work, words, by=by)
    narrate(f"{work}: your reply is recorded and goes to head office")


def _say(home: Path, work: Sequence[str], say: Callable[[Agent, str], Said], state: str) -> None:
    with Agent(home) as agent:
        for one in work:
            narrate(f"{one}: {_told(say(agent, one), state)}")


def _told(said: Said, state: str) -> str:
    delivery = said.delivery
    now = _WORDS.get(delivery.state.value, delivery.state.value)
    match said.outcome:
        case Outcome.SAID:
            return f"{_WORDS[state]}; head office hears of it as soon as there is a connection"
        case Outcome.ALREADY:
            by = f", by {delivery.changed_by}" if delivery.changed_by else ""
            return f"it is {now} already{by}; nothing was recorded"
        case Outcome.FOR_THE_RECORD:
            return (
                f"head office had closed it ({now}); what you say goes there for the record, "
                "and the work stays closed"
            )
        case Outcome.CLOSED:
            return f"head office has closed it ({now}); nothing was recorded"
