"""How the progress of a directive looks: a bar, and the words beside it. Pure."""

from collections.abc import Mapping
from typing import Any

from buskit.terminal import Sheet, bar, clock
from buswire.states import State
from hqconsole.lifecycle import UNFINISHED, DirectiveState, words
from hqconsole.moments import Moment, MomentError

LEGEND = (
    "# as asked   + on the way   . not there yet   _ not sent yet   ! cannot"
    "   x closed by head office"
)

_CLOSED = (State.EXPIRED, State.CANCELLED, State.REMOVED)


def progress_bar(row: Mapping[str, Any], width: int = 24) -> str:
    """The bar of one directive; its parts are told by `LEGEND`."""
    states = row["states"]
    waiting = states[State.PENDING]
    on_the_way = row["open"] - waiting
    return bar(
        (row["met"], "#"),
        (max(0, on_the_way), "+"),
        (states[State.CANNOT], "!"),
        (sum(states[state] for state in _CLOSED), "x"),
        (waiting, "."),
        (row["planned"], "_"),
        width=width,
    )


def bar_width(sheet: Sheet) -> int:
    """How wide a bar in a table is: one that is folded is none, so it is short where it must be."""
    return 10 if sheet.narrow else 24


def short_clock(unix_at: float | None) -> str:
    """A moment for a narrow table, without its year; empty for none."""
    return "" if unix_at is None else clock(unix_at)[5:]


def met_words(row: Mapping[str, Any]) -> str:
    """How many did as asked, of how many: "87 of 112 done"."""
    return f"{row['met']:,} of {row['mailboxes']:,} {row['needs']}"


def state_words(row: Mapping[str, Any]) -> str:
    """The state of a directive as people read it."""
    return words(DirectiveState(row["state"]))


def count_words(row: Mapping[str, Any]) -> str:
    """The counts of all states that anyone is in: "12 pending, 3 read, 97 done"."""
    over = DirectiveState(row["state"]) not in UNFINISHED | {DirectiveState.DENIED}
    counts = {**row["states"], "never sent" if over else "not sent yet": row["planned"]}
    return ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count
    )


def note_words(row: Mapping[str, Any]) -> str:
    """What else is to be known of a directive in a list: why it waits, or until when."""
    if row["state"] == DirectiveState.PAUSED:
        return str(row["paused_why"])
    if row["state"] == DirectiveState.SCHEDULED:
        return f"goes out {_start_words(row['starts'])}".rstrip()
    late = [f"{row['done_late']:,} done late"] if row["done_late"] else []
    joined = row["joined"]["mailboxes"]
    return ", ".join(late + ([f"{joined:,} joined"] if joined else []))


def _start_words(starts: str | None) -> str:
    """When it goes out: on every store's own clock, or on this machine's."""
    try:
        Moment.from_text(starts or "")
    except MomentError:
        return ""
    return due_words(starts)


def due_words(due: str | None) -> str:
    """When it is due: a wall time is every store's own; an instant is on this machine's clock."""
    if not due:
        return ""
    try:
        unix_seconds = Moment.from_text(due).unix_seconds
    except MomentError:  # adopted from a store's copy; shown as it is
        return due
    return due.replace("T", " ") + " local" if unix_seconds is None else clock(unix_seconds)
