"""`inbox`, `show`, `status`: what a person looks at. Looking changes nothing."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, ago, clock, narrate
from storeagent import work as words
from storeagent.api import Agent
from storeagent.silence import not_heard_words

_STATES = {
    "delivered": "new",
    "in_progress": "in progress",
}


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:.1f} kB"


def _colour(row: Mapping[str, Any]) -> str:
    if row["overdue"]:
        return "bold red"
    if row["priority"] == "urgent" and row["todo"]:
        return "bold yellow"
    return "bold" if row["state"] == "delivered" else ""


@click.command()
@click.option("--all", "everything", is_flag=True, help="What is finished and kept, too.")
@home_option("agent")
@json_option
def inbox(everything: bool, home: Path, as_json: bool) -> None:
    """List what is to do: what is overdue first, then what is urgent, then what is unread.

    A number stays with its work, however the list changes: show 2, done 2.
    """
    now_at = time.time()
    with Agent(home) as agent:
        found = agent.inbox(everything=everything)
        zone = words.zone_of(agent.facts().timezone)
        unsure = agent.counts()["unsure"]
        heard = agent.hearing()
    for row in found:
        row["due_words"] = words.due_words_of(row["due"], row["due_at"], zone, now_at)
    columns = [
        Column("number", "#", right=True, style=_colour),
        Column("state", "state", text=lambda s: _STATES.get(s, s), style=_colour),
        Column("due_words", "due", style=_colour),
        Column("priority", "priority", text=lambda p: "" if p == "normal" else p, style=_colour),
        Column("role", "for", text=lambda r: "" if r == "any" else r),
        Column("kind", "kind"),
        Column("title", "title", style=_colour),
    ]
    if as_json:
        for row in found:
            del row["due_words"]
    elif heard.silent:
        since = not_heard_words(heard.last_at, now_at=now_at, zone=zone)
        why = "" if heard.running else "; the daemon is not running, start it: storeagent run"
        narrate(f"! {since}{why}")
    Sheet().show(found, columns, as_json=as_json, empty="nothing to do")
    if unsure and not as_json:
        narrate(f"{unsure} of these are being asked about: head office may have closed them")


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
        zone = words.zone_of(agent.facts().timezone)
    sheet = Sheet()
    if as_json:
        sheet.json(row)
        return
    row["due_words"] = words.due_words_of(row["due"], row["due_at"], zone, now_at)
    row["state_words"] = _STATES.get(row["state"], row["state"])
    if row["changed_by"]:
        row["state_words"] += f", by {row['changed_by']}"
    if row["reason"]:
        row["state_words"] += f": {row['reason']}"
    if row["overdue"]:
        row["due_words"] += " (overdue)"
    if row["unsure"]:
        row["state_words"] += " (being asked about: head office may have closed it)"
    titles = {
        "number": "number",
        "title": "title",
        "state_words": "state",
        "due_words": "due",
        "priority": "priority",
        "role": "for",
        "kind": "kind",
        "needs": "needs",
        "issued_by": "from",
        "issued_at": "issued",
        "directive": "id",
    }
    columns = [
        Column(key, title, text=clock if key.endswith("_at") else None)
        for key, title in titles.items()
        if row[key]
    ]
    sheet.show_one(row, columns, as_json=False)
    if row["body"]:
        sheet.text("\n" + row["body"])


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
    daemon = found["daemon"]
    rows: dict[str, str] = {
        "device": found["device"],
        "store": f"{found['store_name']} ({found['region']})" if found["store_name"] else "",
        "home": found["home"],
        "daemon": "not running" if not daemon["running"] else f"running, process {daemon['pid']}",
    }
    if daemon["running"]:
        rows["connection"] = (
            f"connected to {daemon['address']}" if daemon["connected"] else "not connected"
        )
    if found["last_welcome_at"] is not None:
        rows["head office"] = "answered " + ago(found["at"] - found["last_welcome_at"])
    else:
        rows["head office"] = "has not answered this device yet"
    if found["hq_key"]:
        rows["key of HQ"] = found["hq_key"]
        rows["own key"] = found["key"]
    rows["to do"] = str(found["todo"])
    for log, backlog in found["backlog"].items():
        waits = "all with head office"
        if backlog["rows"]:
            waits = f"{backlog['rows']} to send, {_size(backlog['bytes'])}"
            if backlog["oldest_at"] is not None:
                waits += f", the oldest said {ago(found['at'] - backlog['oldest_at'])}"
        rows[{"act": "answers, alerts", "bulk": "figures"}[log]] = waits
    sheet.show_one(rows, [Column(key, key) for key, value in rows.items() if value], as_json=False)
    for notice in found["notices"]:
        narrate(f"! {notice}")
