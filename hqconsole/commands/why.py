"""`why`: the custody chain of one delivery, or its first missing link and what to do about it."""

import sqlite3
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
from buswire.states import State
from hqconsole import custody, custody_advice
from hqconsole.commands.archive_option import archive_option, reading
from hqconsole.custody_facts import Facts, Hub
from hqconsole.home import hub_state
from hqconsole.hub_link import hub_link
from hqconsole.ledger import archived, directives, views
from hqconsole.ledger import custody as ledger_custody
from hqconsole.store_times import StoreTimes, wall


@click.command()
@click.argument("store", metavar="STORE")
@click.argument("directive", metavar="ID")
@click.option(
    "--role",
    metavar="ROLE",
    help="Only this mailbox of the store; any is the store as a whole.",
)
@archive_option
@home_option("hq")
@json_option
def why(
    *,
    store: str,
    directive: str,
    role: str | None,
    archive_file: Path | None,
    home: Path,
    as_json: bool,
) -> None:
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
    wanted = None if role is None else _role(role)
    with reading(home, archive_file) as connection:
        no = directives.find(connection, directive)
        roles = ledger_custody.mailboxes(connection, no, store, wanted)
        left = archived.stub(connection, no)
        if left is not None:
            roles = roles if wanted else archived.roles_with_it(connection, no, store) or roles
            found = [_row_of_stub(connection, no, store, one, left) for one in roles]
        else:
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


def _row_of_stub(
    connection: sqlite3.Connection, no: int, store: str, role: str, left: archived.Stub
) -> dict[str, Any]:
    """The same of a directive that has left for an archive, as far as the ledger still knows it."""
    one = views.one_directive(connection, no)
    name, region, timezone = ledger_custody.place(connection, store)
    due_at = StoreTimes(one["due"]).at(timezone)
    state = archived.end_of(connection, no, store, role)
    words = "it was never sent there" if state is None else f"it ended as {_words(state)}"
    file = left.file
    return {
        "id": one["id"],
        "short_id": one["short_id"],
        "title": one["title"],
        "directive_state": one["state"],
        "store": store,
        "name": name,
        "region": region,
        "role": role,
        "state": None if state is None else state.value,
        "due_at": due_at,
        "due_local": wall(due_at, timezone),
        "timezone": timezone,
        "links": [],
        "record": None,
        "missing": None,
        "verdict": f"{words}; its chain was archived {clock(left.archived_at)}, into {file}",
        "todo": [
            {
                "command": f"hq why {store} {one['short_id']} --archive {file}",
                "text": "the whole chain",
            }
        ],
    }


def _words(state: State) -> str:
    return state.value.replace("_", " ")


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
    if rows:
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
