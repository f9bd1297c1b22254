"""`read`, `start`, `done`, `cannot`, `reply`: what staff say about work."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from buskit.cli import home_option
from buskit.terminal import narrate, printable
from buswire.phrases import phrase
from storeagent.api import Agent
from storeagent.commands.common import by_option
from storeagent.errors import InvalidEntry
from storeagent.language import say, speaker
from storeagent.statements import Outcome, Said
from storeagent.wording import reasons_of, state_words

F = TypeVar("F", bound=Callable[..., Any])

Row = dict[str, Any]


def _work_argument(command: F) -> F:
    return click.argument("work", nargs=-1, required=True, metavar="NUMBER...")(command)


@click.command()
@_work_argument
@by_option
@home_option("agent")
def read(work: Sequence[str], by: str, home: Path) -> None:
    """Say that somebody has read it.

    NUMBER is the number in the inbox, or the beginning of the directive's id; several are said at
    once: read 2 3 5.
    """
    _say(home, work, lambda agent, row: agent.read(row["number"], by=by), "read")


@click.command()
@_work_argument
@by_option
@home_option("agent")
def start(work: Sequence[str], by: str, home: Path) -> None:
    """Say that the work has begun."""
    _say(home, work, lambda agent, row: agent.start(row["number"], by=by), "in_progress")


@click.command()
@_work_argument
@click.option("--note", default="", help="A word about it, for head office.")
@by_option
@home_option("agent")
def done(work: Sequence[str], note: str, by: str, home: Path) -> None:
    """Say that the work is done.

    \b
    Examples:
      storeagent done 2 --by Ana
      storeagent done 2 3 5
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    _say(home, work, lambda agent, row: agent.done(row["number"], note=note, by=by), "done")


@click.command()
@_work_argument
@click.option("--code", default="", metavar="CODE", help="One of head office's reasons.")
@click.option("--reason", default="", metavar="TEXT", help="Why not, in a line of your own.")
@by_option
@home_option("agent")
def cannot(work: Sequence[str], code: str, reason: str, by: str, home: Path) -> None:
    """Say that the store cannot do it, and why.

    Without a reason, a terminal shows those that head office offers, and asks.

    \b
    Examples:
      storeagent cannot 3
      storeagent cannot 3 --code no-stock
      storeagent cannot 3 --reason "the ladder is broken"
    """  # noqa: D301 - see above
    why: dict[int, tuple[str, str]] = {}

    def ask(row: Row) -> None:
        why[row["number"]] = _reason_for(row, code.strip(), reason.strip())

    def tell(agent: Agent, row: Row) -> Said:
        chosen, words = why[row["number"]]
        return agent.cannot(row["number"], code=chosen, reason=words, by=by)

    _say(home, work, tell, "cannot", ask=ask)


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
        row = agent.find(work)
        agent.reply(row["number"], words, by=by)
    _narrate(row, phrase("your reply is recorded and goes to head office"))


def _say(
    home: Path,
    work: Sequence[str],
    tell: Callable[[Agent, Row], Said],
    state: str,
    *,
    ask: Callable[[Row], None] = lambda _: None,
) -> None:
    """Say something about several pieces of work: about none, if one of them cannot be meant."""
    with Agent(home) as agent:
        rows = {row["number"]: row for row in map(agent.find, work)}
        for row in rows.values():
            ask(row)
        for row in rows.values():
            _narrate(row, _told(tell(agent, row), state))


def _narrate(row: Row, told: str) -> None:
    narrate(printable(say(phrase("{number} {title}: {told}", **_named(row), told=told))))


def _told(said: Said, state: str) -> str:
    delivery = said.delivery
    now = state_words(delivery.state)
    match said.outcome:
        case Outcome.SAID:
            return phrase(
                "{state}; head office hears of it as soon as there is a connection",
                state=state_words(state),
            )
        case Outcome.ALREADY:
            if delivery.changed_by:
                return phrase(
                    "it is {state} already, by {who}; nothing was recorded",
                    state=now,
                    who=delivery.changed_by,
                )
            return phrase("it is {state} already; nothing was recorded", state=now)
        case Outcome.FOR_THE_RECORD:
            return phrase(
                "head office had closed it ({state}); what you say goes there for the record, "
                "and the work stays closed",
                state=now,
            )
        case Outcome.CLOSED:
            return phrase("head office has closed it ({state}); nothing was recorded", state=now)


# --- why not -------------------------------------------------------------------------------------


def _reason_for(row: Row, code: str, words: str) -> tuple[str, str]:
    """Why the store cannot do this: code and words, asked for where a person can be asked.

    Raises:
        InvalidEntry: The reason is missing or none of head office's, and nobody can be asked.
    """
    offered = reasons_of(row, speaker().language)
    codes = [one for one, _ in offered]
    if code and code not in codes:
        raise _wrong_code(row, code, codes)
    if code or (words and not offered):
        return code, words
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise _no_reason(row, codes)
    if not offered:
        return "", _asked(phrase("why not, in a line"))
    narrate(printable(say(phrase("why can {number} {title} not be done?", **_named(row)))))
    for place, (one, text) in enumerate(offered, 1):
        narrate(printable(f"  {place}  {text} ({one})"))
    chosen = _chosen(codes)
    return chosen, words or _asked(phrase("in your own words, or nothing"), needed=False)


def _chosen(codes: Sequence[str]) -> str:
    """One of the codes, by its place in the list or by itself; asked until it is one."""
    while True:
        answer = _asked(phrase("number of the reason"))
        if answer in codes:
            return answer
        if answer.isdecimal() and 1 <= int(answer[:9]) <= len(codes):
            return codes[int(answer[:9]) - 1]
        narrate(say(phrase("a number from 1 to {n}, please", n=len(codes))))


def _asked(question: str, *, needed: bool = True) -> str:
    """A line from the person."""
    while True:
        answer = click.prompt(say(question), default="", show_default=False, err=True)
        if answer.strip() or not needed:
            return str(answer).strip()


def _named(row: Row) -> dict[str, Any]:
    return {"number": row["number"], "title": row["title"]}


def _wrong_code(row: Row, code: str, codes: Sequence[str]) -> InvalidEntry:
    if not codes:
        return InvalidEntry(
            phrase("head office offers no reasons for {number} {title}", **_named(row)),
            hint=phrase("say why in your own words: --reason TEXT"),
        )
    return InvalidEntry(
        phrase(
            "{code!r} is none of head office's reasons for {number} {title}",
            code=code[:40],
            **_named(row),
        ),
        hint=phrase("choose one: --code {codes}", codes=" | ".join(codes)),
    )


def _no_reason(row: Row, codes: Sequence[str]) -> InvalidEntry:
    if codes:
        return InvalidEntry(
            phrase("{number} {title} needs one of head office's reasons", **_named(row)),
            hint=phrase("choose one: --code {codes}", codes=" | ".join(codes)),
        )
    return InvalidEntry(
        phrase("a reason is needed"),
        hint=phrase("say why, in a line: --reason TEXT"),
    )
