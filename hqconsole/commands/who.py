"""`who`: who has not, or who has."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, clock, narrate
from buswire.states import State
from hqconsole.commands.archive_option import archive_option, find_here, reading
from hqconsole.commands.common import heard_words, narrate_link, online_column
from hqconsole.ledger import mailbox_views, views
from hqconsole.lifecycle import UNFINISHED, UNSENT, DirectiveState
from hqconsole.render import short_clock

_SAID_ONCE = {"region": "region {}", "role": "for {}", "state": "{}"}
"""What a narrow table leaves out where it is the same in every row."""


@click.command()
@click.argument("directive", metavar="ID")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*(state.value for state in State), mailbox_views.PLANNED]),
    help="Only those in this state; several add up. Otherwise everyone who is still open; before"
    " it has gone out, everyone it is for.",
)
@click.option("--overdue", is_flag=True, help="Only those for whom it is past due.")
@click.option("--no-device", is_flag=True, help="Only those that no device serves.")
@click.option("--region", metavar="ID", help="Only this region.")
@archive_option
@home_option("hq")
@json_option
def who(
    *,
    directive: str,
    states: Sequence[str],
    overdue: bool,
    no_device: bool,
    region: str | None,
    archive_file: Path | None,
    home: Path,
    as_json: bool,
) -> None:
    """Name the stores that have not done as asked, with what is known of their devices.

    When it is due is on each store's own clock.

    \b
    Examples:
      hq who 3f2a                       everyone who is still open
      hq who 3f2a --overdue             who is late
      hq who 3f2a --state pending       where it has not even arrived
      hq who 3f2a --state cannot        who cannot, and why
      hq who 3f2a --no-device           who can never get it: hq device add
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    now_at = time.time()
    with reading(home, archive_file) as connection:
        no = find_here(connection, directive, f"hq who {directive}")
        one = views.one_directive(connection, no)
        planned = mailbox_views.PLANNED in states
        wanted = {State(state) for state in states if state != mailbox_views.PLANNED}
        unsent = DirectiveState(one["state"]) in UNSENT and not states
        found: list[dict[str, Any]] = []
        if wanted or not (planned or unsent):
            found = mailbox_views.who(connection, no, wanted, now_at)
        if planned or unsent:
            found += mailbox_views.who_planned(connection, no, now_at)
    found = [
        row
        for row in found
        if (row["overdue"] or not overdue)
        and (not row["devices"] or not no_device)
        and region in {None, row["region"]}
    ]
    if as_json:
        Sheet().json(found)
        return
    _show(found, now_at)
    state = DirectiveState(one["state"])
    if one["planned"] and not planned and not unsent and state in UNFINISHED:
        narrate(
            f"{one['planned']:,} more are yet to get it:"
            f" hq who {one['short_id']} --state {mailbox_views.PLANNED}"
        )
    if found and archive_file is None:
        narrate_link(home, without="no hub is running: this is as it was when it stopped")


def _show(found: list[dict[str, Any]], now_at: float) -> None:
    for row in found:
        reason = row["reason"] or row["note"]
        said = ": ".join(filter(None, (row["by"], row["code"], reason)))
        proof = [f"was {row['before_hq'].replace('_', ' ')}"] if row["before_hq"] else []
        if row["was"]:
            proof = [f"confirmed: was {row['was'].replace('_', ' ')}"]
        late = ["done late"] if row["done_late"] else []
        late += ["heard after it was closed"] if row["late"] else []
        row["why"] = "; ".join(filter(None, (said, *proof, *late)))
        row["device"] = "" if row["devices"] else "no device"
        row["joined"] = "joined" if row["joined_at"] is not None else ""
    sheet = Sheet()
    columns = _columns(sheet, now_at)
    for row in found:
        heard = heard_words(now_at)(row["last_heard_at"])
        row["there"] = row["device"] or ("online" if row["online"] else heard)
    optional = {"since", "due_local", "overdue", "wave", "joined", "device", "why"}
    dropped = {key for key in optional if not any(row[key] for row in found)}
    same: list[str] = []
    if sheet.narrow and found:
        dropped |= {"overdue"}  # its due time is red
        for key, words in _SAID_ONCE.items():
            values = {row[key] for row in found}
            if len(values) == 1 and len(found) > 1 and key not in dropped:
                dropped.add(key)
                same.append(words.format(str(*values).replace("_", " ")))
        dropped |= {"wave"} if len({row["wave"] for row in found}) == 1 else set()
    shown = [column for column in columns if column.key not in dropped]
    sheet.show(found, shown, as_json=False, empty="nobody")
    if found:
        counts = Counter(row["state"] for row in found)
        late = sum(row["overdue"] for row in found)
        deviceless = sum(not row["devices"] for row in found)
        parts = [f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items()]
        parts += [f"{late:,} overdue"] if late else []
        parts += [f"{deviceless:,} without a device"] if deviceless else []
        online = sum(row["online"] for row in found)
        narrate(f"{', '.join(parts)}; {online:,} of them are online")
        if same:
            narrate(f"all of them: {', '.join(same)}")


def _moment(at: float | None) -> str:
    return "" if at is None else clock(at)


def _there_colour(row: Mapping[str, Any]) -> str:
    if row["device"]:
        return "bold yellow"
    return "green" if row["online"] else "dim"


def _columns(sheet: Sheet, now_at: float) -> list[Column]:
    narrow = sheet.narrow
    there = [
        online_column(),
        Column("device", "device", style="bold yellow"),
        Column("last_heard_at", "last heard", text=heard_words(now_at)),
    ]
    return [
        Column("store", "store"),
        Column("name", "name"),
        Column("region", "region"),
        Column("role", "for", text=lambda role: "" if role == "any" else role),
        Column("state", "state", text=lambda state: state.replace("_", " ")),
        Column("since", "since", text=short_clock if narrow else _moment),
        Column(
            "due_local",
            "due there" if narrow else "due (store time)",
            text=lambda due: "" if due is None else due.replace("T", " ")[5 * narrow :],
            style=lambda row: "bold red" if row["overdue"] else "",
        ),
        Column("overdue", "overdue", text=lambda over: "overdue" if over else "", style="bold red"),
        Column("wave", "wave", right=True),
        Column("joined", "joined"),
        *([Column("there", "device", style=_there_colour)] if narrow else there),
        Column("why", "said"),
    ]
