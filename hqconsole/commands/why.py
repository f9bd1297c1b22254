"""`why`: the custody chain of one delivery, or its first missing link and what to do about it."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock
from buswire.errors import WireError
from buswire.names import ANY_ROLE, slug
from hqconsole import custody, custody_advice
from hqconsole.custody_facts import Facts, Hub
from hqconsole.home import hub_state
from hqconsole.hub_link import hub_link
from hqconsole.ledger import custody as ledger_custody
from hqconsole.ledger import directives
from hqconsole.ledger.opening import open_ledger


@click.command()
@click.argument("store", metavar="STORE")
@click.argument("directive", metavar="ID")
@click.option(
    "--role",
    metavar="ROLE",
    help="Only this mailbox of the store; any is the store as a whole.",
)
@home_option("hq")
@json_option
def why(store: str, directive: str, role: str | None, home: Path, as_json: bool) -> None:
    """Show how a directive came to a store, link by link, or what it waits for.

    Who wrote it, who approved it, why the store is in its audience, on which channel it is
    logged, when a device saved it, who read it, and what they said. Where a link is missing, it
    says what to do. Times are those of this machine.

    \b
    Examples:
      hq why S017 3f2a
      hq why S017 3f2a --role manager
      hq why S017 3f2a --json
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if directives.may_be_id(store) and not directives.may_be_id(directive):
        store, directive = directive, store  # as every other verb has the directive first
    now_at = time.time()
    hub = _hub(home)
    with open_ledger(home) as ledger, ledger.read() as connection:
        no = directives.find(connection, directive)
        wanted = None if role is None else _role(role)
        roles = ledger_custody.mailboxes(connection, no, store, wanted)
        facts = [ledger_custody.gather(connection, no, store, one, hub) for one in roles]
    found = [_row(one, now_at) for one in facts]
    sheet = Sheet()
    if as_json:
        sheet.json(found)
        return
    for number, one in enumerate(found):
        if number:
            sheet.text("")
        _show(sheet, one)


def _role(text: str) -> str:
    if text == ANY_ROLE:
        return text
    try:
        return slug(text, "role")
    except WireError as error:
        raise click.UsageError(str(error)) from error


def _hub(home: Path) -> Hub:
    if not hub_state(home).running:
        return Hub(running=False)
    link = hub_link(home)
    if link is None:
        return Hub(running=True)
    return Hub(True, link.connected, link.since_at, link.failure)


def _row(facts: Facts, now_at: float) -> dict[str, Any]:
    """One chain with the names that `--json` shows."""
    chain = custody.links(facts)
    verdict = custody_advice.judge(facts, chain, now_at)
    logged = facts.logged
    state = "planned" if facts.planned else None
    if facts.delivery is not None:
        state = facts.delivery.state.value
    return {
        "id": facts.id,
        "short_id": facts.short_id,
        "title": facts.title,
        "directive_state": facts.state.value,
        "store": facts.store,
        "name": facts.store_name,
        "region": facts.region,
        "role": facts.role,
        "state": state,
        "due_at": facts.due_at,
        "due_local": facts.due_local,
        "timezone": facts.timezone,
        "links": [_link(link) for link in chain],
        "record": None if logged is None else asdict(logged) | {"key": facts.seal_key or None},
        "missing": verdict.missing or None,
        "verdict": verdict.words,
        "todo": [todo._asdict() for todo in verdict.todo],
    }


def _link(link: custody.Link) -> dict[str, Any]:
    return {
        "link": link.name,
        "there": link.there,
        "at": link.at,
        "by": link.by,
        "device": link.device,
        "said_at": link.said_at,
        "clock_offset_seconds": link.offset_seconds,
        "words": link.words,
    }


def _show(sheet: Sheet, one: dict[str, Any]) -> None:
    mailbox = one["store"] if one["role"] == "any" else f"{one['store']} {one['role']}"
    sheet.text(f"{mailbox} ({one['name']}), {one['short_id']}: {one['title']}")
    columns = [
        Column("mark", "", style=_colour),
        Column("at", "when", text=lambda at: "" if at is None else clock(at)),
        Column("link", "link", style=_colour),
        Column("who", "who"),
        Column("words", "what", style=_colour),
    ]
    rows = [
        {**link, "mark": "#" if link["there"] else "?", "who": _who(link)} for link in one["links"]
    ]
    sheet.show(rows, columns, as_json=False, empty="")
    sheet.text("\n" + _sentence(one["verdict"]))
    width = max((len(todo["command"]) for todo in one["todo"]), default=0)
    for todo in one["todo"]:
        sheet.text(f"  {todo['command']:<{width}}  {todo['text']}")


def _who(link: dict[str, Any]) -> str:
    return " at ".join(filter(None, (link["by"], link["device"])))


def _colour(link: Mapping[str, Any]) -> str:
    return "" if link["there"] else "bold red"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
