"""`inbox`, `show`, `status`: what a person looks at. Looking says nothing to head office."""

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.database import DatabaseError
from buskit.terminal import Column, Sheet, ago, narrate, printable
from buswire.phrases import phrase, phrase_in, phrases
from storeagent import wording
from storeagent.api import Agent
from storeagent.language import say, speaker
from storeagent.silence import not_heard_words
from storeagent.work import zone_of

_MOST_NEWS = 8
"""So many closings are told one by one."""


def _colour(row: Mapping[str, Any]) -> str:
    match wording.pressing(row):
        case "forced":
            return "bold white on red"
        case "overdue":
            return "bold red"
        case "urgent":
            return "bold yellow" if row["todo"] else ""
        case "reminded":
            return "bold cyan"
        case "delivered":
            return "bold"
    return ""


@click.command()
@click.option("--all", "everything", is_flag=True, help="What is finished and kept, too.")
@home_option("agent")
@json_option
def inbox(everything: bool, home: Path, as_json: bool) -> None:
    """List what is to do, the most pressing first.

    First comes what head office insists on by now, then what is overdue, urgent, reminded of, and
    not read yet. What was withdrawn, replaced or done elsewhere is told once, above the list.

    A number stays with its work, however the list changes: show 2, done 2.
    """
    now_at = time.time()
    with Agent(home) as agent:
        found = agent.inbox(everything=everything)
        if as_json:
            Sheet().json(found)
            return
        zone = zone_of(agent.facts().timezone)
        unsure = agent.counts()["unsure"]
        heard = agent.hearing()
        news = agent.news()
        if heard.silent:
            narrate("! " + _not_heard(heard.last_at, heard.running, zone=zone, now_at=now_at))
        _tell(news)
        if head := wording.headline(found, say):
            narrate(head)
        sheet = Sheet()
        sheet.show(
            [_shown(row, zone, now_at) for row in found],
            _columns(),
            as_json=False,
            empty=say(phrase("nothing to do")),
        )
        if unsure:
            narrate(
                say(
                    phrases(
                        "{n} of these is being asked about: head office may have closed it",
                        "{n} of these are being asked about: head office may have closed them",
                        unsure,
                    )
                )
            )
        if news and (sheet.on_terminal or sys.stderr.isatty()):
            # Not being able to note it, such as on a full disk, is no reason not to show the list.
            with contextlib.suppress(DatabaseError):
                agent.tell(news)


def _not_heard(last_at: float | None, running: bool, *, zone: tzinfo, now_at: float) -> str:
    since = say(not_heard_words(last_at, now_at=now_at, zone=zone))
    if running:
        return since
    return say(
        phrase(
            "{since}; the daemon is not running, start it: storeagent run",
            since=since,
        )
    )


def _tell(news: Sequence[Mapping[str, Any]]) -> None:
    for row in news[:_MOST_NEWS]:
        narrate("* " + printable(say(wording.closed_words(row, row["replacement"]))))
    if (more := len(news) - _MOST_NEWS) > 0:
        narrate("* " + say(phrase("{n} more were closed: storeagent inbox --all", n=more)))


def _shown(row: dict[str, Any], zone: tzinfo, now_at: float) -> dict[str, Any]:
    """A row with the words of its cells beside its values."""
    return {
        **row,
        "state_words": say(wording.who_and_state(row)),
        "mark_words": wording.joined(wording.marks(row, zone, now_at), say),
        "due_words": say(wording.moment_words(row["due"], row["due_at"], zone, now_at)),
        "role_words": "" if row["role"] == "any" else row["role"],
        "kind_words": say(wording.kind_words(row["kind"])),
    }


def _columns() -> list[Column]:
    return [
        Column("number", "#", right=True, style=_colour),
        Column("mark_words", say(phrase_in("column", "attention")), style=_colour),
        Column("due_words", say(phrase_in("column", "due")), style=_colour),
        Column("state_words", say(phrase_in("column", "state")), style=_colour),
        Column("role_words", say(phrase_in("column", "for"))),
        Column("kind_words", say(phrase_in("column", "kind"))),
        Column("title", say(phrase_in("column", "title")), style=_colour),
    ]


@click.command()
@click.argument("work", metavar="NUMBER")
@home_option("agent")
@json_option
def show(work: str, home: Path, as_json: bool) -> None:
    """Show one directive with its text. It is not marked as read: storeagent read NUMBER.

    NUMBER is the number in the inbox, or the beginning of the directive's id.
    """
    now_at = time.time()
    with Agent(home) as agent:
        row = agent.show(work)
        zone = zone_of(agent.facts().timezone)
        other = {
            key: _titled(agent, row[key]) if row[key] and not as_json else ""
            for key in ("supersedes", "superseded_by", "undoes")
        }
    sheet = Sheet()
    if as_json:
        sheet.json(row)
        return
    lines = _lines(row, other, zone, now_at)
    sheet.show_one(
        lines, [Column(key, key) for key, value in lines.items() if value], as_json=False
    )
    if row["body"]:
        sheet.text("\n" + row["body"])
    if row["reasons"] and row["open"]:
        sheet.text("\n" + say(phrase("reasons to choose from, if it cannot be done:")))
        reasons = wording.reasons_of(row, speaker().language)
        wide = max(len(code) for code, _ in reasons)
        for code, text in reasons:
            sheet.text(f"  {code:{wide}}  {text}")
    if steps := wording.next_steps(row):
        narrate(say(phrase("next: {commands}", commands=wording.joined(steps, say))))


def _lines(
    row: Mapping[str, Any], other: Mapping[str, str], zone: tzinfo, now_at: float
) -> dict[str, str]:
    """What is shown of one piece of work: a title, and a value that may be empty."""
    state = say(wording.who_and_state(row))
    if row["code"]:
        state += (
            f": {dict(wording.reasons_of(row, speaker().language)).get(row['code'], row['code'])}"
        )
    if row["reason"]:
        state += f": {row['reason']}"
    if row["unsure"]:
        state = say(
            phrase("{state} (being asked about: head office may have closed it)", state=state)
        )
    due = say(wording.moment_words(row["due"], row["due_at"], zone, now_at))
    if row["overdue"]:
        due = say(phrase("{due} (overdue)", due=due))
    forced = say(wording.moment_words(row["forced_from"], row["forced_at"], zone, now_at))
    issued = reminded = ""
    if row["issued_at"]:
        issued = say(wording.moment_words(None, row["issued_at"], zone, now_at))
    if row["reminded_at"]:
        reminded = say(wording.moment_words(None, row["reminded_at"], zone, now_at))
        if row["reminder"]:
            reminded += f": {row['reminder']}"
    return {
        say(phrase_in("line", "number")): str(row["number"]),
        say(phrase_in("line", "title")): row["title"],
        say(phrase_in("line", "state")): state,
        say(phrase_in("line", "due")): due,
        say(phrase_in("line", "must be done from")): forced,
        say(phrase_in("line", "reminded")): reminded,
        say(phrase_in("line", "priority")): say(wording.priority_words(row["priority"])),
        say(phrase_in("line", "for")): (
            say(phrase("the whole store")) if row["role"] == "any" else row["role"]
        ),
        say(phrase_in("line", "kind")): say(wording.kind_words(row["kind"])),
        say(phrase_in("line", "needs")): say(wording.needs_words(row["needs"])),
        say(phrase_in("line", "from")): row["issued_by"],
        say(phrase_in("line", "issued")): issued,
        say(phrase_in("line", "replaces")): other["supersedes"],
        say(phrase_in("line", "replaced by")): other["superseded_by"],
        say(phrase_in("line", "undoes")): other["undoes"],
        say(phrase_in("line", "id")): row["directive"],
    }


def _titled(agent: Agent, directive: str) -> str:
    """A directive by number and title, or by its id where it is not here."""
    from storeagent.errors import NoSuchWork  # noqa: PLC0415 - seldom needed

    try:
        found = agent.find(directive)
    except NoSuchWork:
        return directive
    return f"{found['number']} {found['title']}"


@click.command()
@home_option("agent")
@json_option
def status(home: Path, as_json: bool) -> None:
    """Say whether this device is connected, what waits for head office, and what is wrong."""
    from storeagent.status import gather  # noqa: PLC0415 - the two verbs above need none of it

    found = gather(home, now_at=time.time())
    sheet = Sheet()
    if as_json:
        sheet.json(found)
        return
    rows = _status_lines(found)
    sheet.show_one(rows, [Column(key, key) for key, value in rows.items() if value], as_json=False)
    for notice in found["notices"]:
        narrate(f"! {say(notice)}")


def _status_lines(found: Mapping[str, Any]) -> dict[str, str]:
    daemon = found["daemon"]
    running = phrase("not running")
    if daemon["running"]:
        running = phrase("running, process {pid}", pid=daemon["pid"])
    connection = ""
    if daemon["running"]:
        connection = say(phrase("not connected"))
        if daemon["connected"]:
            connection = say(phrase("connected to {address}", address=daemon["address"]))
    answered = phrase("has not answered this device yet")
    if found["last_welcome_at"] is not None:
        answered = phrase("answered {ago}", ago=ago(found["at"] - found["last_welcome_at"]))
    rows = {
        say(phrase_in("status", "device")): found["device"],
        say(phrase_in("status", "store")): (
            f"{found['store_name']} ({found['region']})" if found["store_name"] else ""
        ),
        say(phrase_in("status", "home")): found["home"],
        say(phrase_in("status", "daemon")): say(running),
        say(phrase_in("status", "connection")): connection,
        say(phrase_in("status", "head office")): say(answered),
        say(phrase_in("status", "key of HQ")): found["hq_key"],
        say(phrase_in("status", "own key")): found["key"] if found["hq_key"] else "",
        say(phrase_in("status", "to do")): str(found["todo"]),
    }
    titles = {
        "act": phrase_in("status", "answers, alerts"),
        "bulk": phrase_in("status", "figures"),
    }
    for log, backlog in found["backlog"].items():
        waits = phrase("all with head office")
        if backlog["rows"]:
            shown = {"n": backlog["rows"], "size": _size(backlog["bytes"])}
            waits = phrase("{n} to send, {size}", **shown)
            if backlog["oldest_at"] is not None:
                said = ago(found["at"] - backlog["oldest_at"])
                waits = phrase("{n} to send, {size}, the oldest said {ago}", **shown, ago=said)
        rows[say(titles[log])] = say(waits)
    return rows


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:.1f} kB"
