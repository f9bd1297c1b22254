"""One directive in full, as `status ID` shows it: what it says, how far it is, and what comes next.

Owns the words of that page and its JSON. Must not know how the command line was read.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from buskit.terminal import Column, Sheet, clock, narrate
from hqconsole.errors import HqError
from hqconsole.ledger import audiences, breakdowns, views
from hqconsole.lifecycle import UNSENT, DirectiveState
from hqconsole.prospects import Coming, upcoming
from hqconsole.render import (
    LEGEND,
    bar_width,
    count_words,
    due_words,
    met_words,
    progress_bar,
    short_clock,
    state_words,
)
from hqconsole.store_times import StoreTimes

_CHANNELS_NAMED = 8
_DRIFTERS_NAMED = 10
_WITHDRAWN = frozenset({DirectiveState.CANCELLED, DirectiveState.SUPERSEDED})
_HELD = frozenset({DirectiveState.PAUSED, DirectiveState.DENIED})
_SEEN = {
    "pending": "never seen",
    "delivered": "delivered but not read",
    "read": "read",
    "in_progress": "started",
    "cannot": "could not",
    "done": "already done",
}


def gather(connection: sqlite3.Connection, no: int, now_at: float) -> dict[str, Any]:
    """All of a directive, with the names that `--json` shows.

    Args:
        connection: Of a read transaction.
        no: Which.
        now_at: Unix time.
    """
    found = views.one_directive(connection, no)
    zones = breakdowns.open_zones(connection, no)
    due = StoreTimes(found["due"])
    withdrawn = DirectiveState(found["state"]) in _WITHDRAWN
    coming = upcoming(breakdowns.outlook(connection, no, zones), now_at)
    return {
        **found,
        "overdue": sum(count for zone, count in zones.items() if due.is_past(zone, now_at)),
        "waves": breakdowns.waves(connection, no),
        "versions": breakdowns.versions(connection, no),
        "undone_by": breakdowns.undoing(connection, no),
        "withdrawal": breakdowns.proof(connection, no) if withdrawn else None,
        "drift": None if found["archived"] else _drift(connection, no),
        "next": [_coming(one) for one in coming],
        "steps": breakdowns.steps(connection, no),
    }


def _drift(connection: sqlite3.Connection, no: int) -> dict[str, Any] | None:
    """Who would be in the audience today and is not, and who has left it."""
    try:
        found = audiences.drift_of(connection, no)
    except HqError:  # how it was asked for can be judged no longer
        return None
    return {
        "joined": sorted(map(str, found.joined)),
        "taken_in": sorted(map(str, found.taken_in)),
        "left": sorted(map(str, found.left)),
    }


def _coming(one: Coming) -> dict[str, Any]:
    return {"at": one.at, "until_at": one.until_at, "what": one.what, "words": one.words}


def show(found: Mapping[str, Any]) -> None:
    """Show it to a person."""
    sheet = Sheet()
    words = _words(found)
    sheet.show_one(words, [Column(title, title) for title in words], as_json=False)
    if found["body"]:
        sheet.text("\n" + found["body"])
    if len(found["waves"]) > 1:
        sheet.text("")
        _show_waves(sheet, found)
    if found["next"]:
        sheet.text("")
        _show_next(sheet, found)
    narrate(LEGEND)
    _tell_what_to_do(found)


def show_by(rows: Sequence[Mapping[str, Any]], grouping: str, needs: str) -> None:
    """Show how far each part of it is."""
    sheet = Sheet()
    width = bar_width(sheet)
    lines = [
        {**row, "bar": progress_bar(row, width), "met_words": met_words({**row, "needs": needs})}
        for row in rows
    ]
    columns = [
        Column("group", grouping),
        Column("name", "name"),
        Column("bar", "progress"),
        Column("met_words", "as asked", right=True),
        Column("open", "open", right=True, text=_count),
        Column("overdue", "overdue", right=True, text=_count, style="bold red"),
        Column("cannot", "cannot", right=True, text=_count),
    ]
    if not any(row["name"] for row in rows):
        del columns[1]
    for line in lines:
        line["cannot"] = line["states"]["cannot"]
    sheet.show(lines, columns, as_json=False, empty="it has no audience")
    narrate(LEGEND)


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _words(found: Mapping[str, Any]) -> dict[str, str]:
    """One directive as pairs of a title and words."""
    words = {
        "id": found["id"],
        "title": found["title"],
        "kind": f"{found['kind']}, needs {found['needs']}, priority {found['priority']}",
        "written": _when(found["written_at"], found["author"]) if _is_planned(found) else "",
        "approved": _approved(found),
        "issued": _when(found["issued_at"], found["issued_by"]),
        "state": _state(found),
        "due": due_words(found["due"]),
        "forced from": due_words(found["forced_from"]),
        "expires": "" if found["expires_at"] is None else clock(found["expires_at"]),
        "archived": _archived(found),
        "audience": f"{found['mailboxes']:,} mailboxes, frozen when it was written",
        "digest": found["digest"],
        "progress": f"{progress_bar(found)}  {met_words(found)}",
        "counts": count_words(found),
        "overdue": f"{found['overdue']:,} of those that are open" if found["overdue"] else "",
        "late": _late(found),
        **_beside(found),
        "came back": _came_back(found),
        "channels": _named(found["channels"], _CHANNELS_NAMED),
    }
    return {title: text for title, text in words.items() if text}


def _archived(found: Mapping[str, Any]) -> str:
    left = found["archived"]
    if left is None:
        return ""
    return f"{clock(left['at'])}; its deliveries and answers are in {left['file']}"


def _is_planned(found: Mapping[str, Any]) -> bool:
    """Whether writing it and sending it were two things."""
    at = found["written_at"]
    return at is not None and at != found["issued_at"]


def _approved(found: Mapping[str, Any]) -> str:
    """Who let it out, unless it was taken back after that."""
    acts = [one for one in found["steps"] if one["action"] in {"approve", "revise"}]
    if not acts or acts[-1]["action"] != "approve":
        return ""
    note = acts[-1]["note"]
    return _when(acts[-1]["at"], acts[-1]["by"]) + (f": {note}" if note else "")


def _when(at: float | None, by: str) -> str:
    return "" if at is None else clock(at) + (f" by {by}" if by else "")


def _state(found: Mapping[str, Any]) -> str:
    text = state_words(found)
    if found["closed_at"] is not None:
        text += f" {clock(found['closed_at'])}"
    if found["cancelled_by"]:
        text += f" by {found['cancelled_by']}"
    held = [one for one in found["steps"] if one["state"] == found["state"] in _HELD]
    why = found["cancel_reason"]
    if held:
        text += f" by {held[-1]['by']}" if held[-1]["by"] else ""
        why = held[-1]["note"]
    if found["state"] == DirectiveState.PAUSED:
        why = found["paused_why"]
    return f"{text}: {why}" if why else text


def _late(found: Mapping[str, Any]) -> str:
    parts = []
    if found["done_late"]:
        parts.append(f"{found['done_late']:,} done after it was due")
    if found["late"]:
        parts.append(f"{found['late']:,} said in time and heard after it was closed")
    return "; ".join(parts)


def _beside(found: Mapping[str, Any]) -> dict[str, str]:
    """What stands apart from the denominator, and where it stands among others."""
    words = {}
    if found["known"] != found["mailboxes"]:
        words["known of"] = f"{found['known']:,} of the {found['mailboxes']:,} mailboxes"
    joined, drift = found["joined"], found["drift"] or {"joined": [], "taken_in": [], "left": []}
    if joined["mailboxes"]:
        words["taken in"] = (
            f"{joined['mailboxes']:,} joined later and are counted apart: {joined['met']:,}"
            f" {found['needs']}, {joined['open']:,} open"
        )
    outside = sorted(set(drift["joined"]) - set(drift["taken_in"]))
    if outside:
        words["joined"] = (
            f"{len(outside):,} would be in the audience today and are not:"
            f" {_named(outside, _DRIFTERS_NAMED)}"
        )
    if drift["left"]:
        words["left"] = (
            f"{len(drift['left']):,} of the audience closed or lost the role since:"
            f" {_named(drift['left'], _DRIFTERS_NAMED)}"
        )
    if found["withdrawal"]:
        words["withdrawn"] = _withdrawal(found["withdrawal"])
    if found["versions"]:
        words["versions"] = "  >  ".join(map(_version, found["versions"]))
    if found["undone_by"]:
        words["undone by"] = ", ".join(
            f"{one['short_id']} {one['title']}" for one in found["undone_by"]
        )
    return words


def _withdrawal(proof: Mapping[str, Any]) -> str:
    counted = [f"{count:,} {_SEEN[state]}" for state, count in proof["was"].items() if count]
    if proof["never_sent"]:
        counted.append(f"{proof['never_sent']:,} never sent")
    total = proof["confirmed"] + proof["unconfirmed"]
    if not total:
        return ", ".join(counted)
    return ", ".join(counted) + f"; confirmed by {proof['confirmed']:,} of {total:,}"


def _version(one: Mapping[str, Any]) -> str:
    text = f"{one['short_id']} ({state_words(one)})"
    return f"[{text}]" if one["this"] else text


def _came_back(found: Mapping[str, Any]) -> str:
    if found["adopted_at"] is None:
        return ""
    return f"from the stores, {clock(found['adopted_at'])}: this ledger had forgotten it"


def _named(names: Sequence[str], most: int) -> str:
    more = len(names) - most
    return " ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _show_waves(sheet: Sheet, found: Mapping[str, Any]) -> None:
    rows = [
        {
            **wave,
            "bar": progress_bar(wave, bar_width(sheet)),
            "met_words": met_words({**wave, "needs": found["needs"]}),
        }
        for wave in found["waves"]
    ]
    moment = short_clock if sheet.narrow else _moment
    columns = [
        Column("wave", "wave", right=True),
        Column("label", "which"),
        Column("not_before_at", "not before", text=moment),
        Column("began_at", "began", text=moment),
        Column("sent_at", "sent", text=moment),
        Column("bar", "progress"),
        Column("met_words", "as asked", right=True),
    ]
    moments = {"not_before_at", "began_at", "sent_at"}
    unused = {key for key in moments if all(row[key] is None for row in rows)}
    if sheet.narrow and "sent_at" not in unused:
        unused.add("began_at")
    shown = [column for column in columns if column.key not in unused]
    sheet.show(rows, shown, as_json=False, empty="")


def _show_next(sheet: Sheet, found: Mapping[str, Any]) -> None:
    rows = [
        {**one, "until_at": None if one["until_at"] == one["at"] else one["until_at"]}
        for one in found["next"]
    ]
    columns = [
        Column("at", "next", text=_moment),
        Column("until_at", "until", text=_moment),
        Column("words", "what"),
    ]
    if not any(row["until_at"] for row in rows):
        del columns[1]
    sheet.show(rows, columns, as_json=False, empty="")


def _moment(at: float | None) -> str:
    return "" if at is None else clock(at)


def _tell_what_to_do(found: Mapping[str, Any]) -> None:
    one, state = found["short_id"], DirectiveState(found["state"])
    if found["archived"]:
        narrate(f"all of it: hq status {one} --archive {found['archived']['file']}")
        return
    if state is DirectiveState.WAITING:
        narrate(f"somebody else looks at it: hq approve {one}, or hq deny {one}")
    elif state is DirectiveState.PAUSED:
        narrate(f"why: hq cannot {one}; then hq resume {one}, or hq stop {one}")
    elif state is DirectiveState.DRAFT:
        narrate(f"let it go: hq submit {one}; whom it is for: hq who {one}")
    elif state is DirectiveState.DENIED:
        narrate(f"take it back to mend it: hq revise {one}")
    elif state in UNSENT:
        narrate(f"whom it is for: hq who {one}")
    if found["open"] or found["joined"]["open"]:
        narrate(f"who has not: hq who {one}; by region: hq status {one} --by region")
    if found["withdrawal"] and found["withdrawal"]["was"]["done"]:
        narrate(
            f"who had done it already: hq who {one} --state done; to have it undone:"
            f" hq publish 'Undo: ...' --undo {one}"
        )
