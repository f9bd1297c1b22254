"""In which words staff see their work: states, times, what presses, and what was closed.

Owns the words, as phrases that a catalogue can be asked for. Must not know commands, tables or
languages. A row is a piece of work as `work.as_dict` gives it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from buswire.messages import Reason
from buswire.phrases import Phrase, phrase, phrase_in
from buswire.states import State
from storeagent.delivery import reason_words

Row = Mapping[str, Any]
Say = Callable[[str], str]

_STATES: dict[str, Phrase] = {
    State.DELIVERED: phrase_in("state", "new"),
    State.READ: phrase_in("state", "read"),
    State.IN_PROGRESS: phrase_in("state", "in progress"),
    State.DONE: phrase_in("state", "done"),
    State.CANNOT: phrase_in("state", "cannot"),
    State.EXPIRED: phrase_in("state", "expired"),
    State.CANCELLED: phrase_in("state", "withdrawn"),
    State.REMOVED: phrase_in("state", "not for this store any more"),
}
_PRIORITIES = {
    "urgent": phrase_in("priority", "urgent"),
    "high": phrase_in("priority", "high"),
    "normal": phrase_in("priority", "normal"),
    "low": phrase_in("priority", "low"),
}
_KINDS = {
    "notice": phrase_in("kind", "notice"),
    "task": phrase_in("kind", "task"),
    "recall": phrase_in("kind", "recall"),
}
_NEEDS = {
    "delivered": phrase_in("needs", "nothing"),
    "read": phrase_in("needs", "that somebody reads it"),
    "done": phrase_in("needs", "that it is done"),
}
_WEEKDAYS = (
    phrase_in("weekday", "Mon"),
    phrase_in("weekday", "Tue"),
    phrase_in("weekday", "Wed"),
    phrase_in("weekday", "Thu"),
    phrase_in("weekday", "Fri"),
    phrase_in("weekday", "Sat"),
    phrase_in("weekday", "Sun"),
)


# --- one piece of work --------------------------------------------------------------------------


def state_words(state: str) -> str:
    """A state, as staff call it."""
    return _STATES.get(state, state)


def priority_words(priority: str) -> str:
    """A priority; one that is unknown here as it is."""
    return _PRIORITIES.get(priority, priority)


def kind_words(kind: str) -> str:
    """A kind of work; a chain's own word as it is."""
    return _KINDS.get(kind, kind)


def needs_words(needs: str) -> str:
    """What head office waits for."""
    return _NEEDS.get(needs, needs)


def who_and_state(row: Row) -> str:
    """How far it is, and who took it there."""
    state = state_words(row["state"])
    if not row["changed_by"]:
        return state
    if row["state"] == State.CANNOT:
        return phrase("cannot, says {who}", who=row["changed_by"])
    return phrase("{state} by {who}", state=state, who=row["changed_by"])


def moment_words(text: str | None, at: float | None, zone: tzinfo, now_at: float) -> str:
    """A moment on the store's clock: today as a time, a near day with its weekday.

    Args:
        text: As the directive has it; shown as it is where it cannot be placed.
        at: In Unix seconds, where that is known.
        zone: The store's time zone.
        now_at: The present time in Unix seconds.
    """
    if at is None:
        return text or ""
    try:
        when, now = datetime.fromtimestamp(at, zone), datetime.fromtimestamp(now_at, zone)
    except (OverflowError, ValueError, OSError):
        return text or ""
    clock = f"{when:%H:%M}"
    match (when.date() - now.date()).days:
        case 0:
            return phrase("today {time}", time=clock)
        case 1:
            return phrase("tomorrow {time}", time=clock)
        case -1:
            return phrase("yesterday {time}", time=clock)
        case days if abs(days) < 7:
            return phrase("{weekday} {time}", weekday=_WEEKDAYS[when.weekday()], time=clock)
    return f"{when:%Y-%m-%d} {clock}"


def marks(row: Row, zone: tzinfo, now_at: float) -> list[str]:
    """Why somebody should look at it: forced, overdue, its priority, reminded of; mostly empty."""
    found: list[str] = []
    if row["forced"]:
        found.append(phrase("must be done now"))
    if row["overdue"]:
        found.append(phrase("overdue"))
    if row["priority"] != "normal":
        found.append(priority_words(row["priority"]))
    if row["reminded"]:
        when = moment_words(None, row["reminded_at"], zone, now_at)
        found.append(phrase("reminded {when}", when=when))
    return found


def next_steps(row: Row) -> list[str]:
    """The commands that make sense now, the likeliest first."""
    number = row["number"]
    if not row["todo"]:
        return []
    steps = [f"storeagent read {number}"] if row["state"] == State.DELIVERED else []
    if row["needs"] == "done" and row["open"]:
        if row["state"] != State.IN_PROGRESS:
            steps.append(f"storeagent start {number}")
        steps += [f"storeagent done {number}", f"storeagent cannot {number}"]
    return steps


def reasons_of(row: Row, language: str) -> list[tuple[str, str]]:
    """Head office's reasons in this language, each with its code."""
    return [(one["code"], reason_words(Reason(**one), language)) for one in row["reasons"]]


# --- the list ------------------------------------------------------------------------------------


def pressing(row: Row) -> str:
    """The one thing that presses most about a piece of work; a state where nothing does."""
    for name in ("forced", "overdue"):
        if row[name]:
            return name
    if row["priority"] == "urgent":
        return "urgent"
    return "reminded" if row["reminded"] else str(row["state"])


def headline(rows: Sequence[Row], say: Say) -> str:
    """Count what is to do, each piece under what presses most about it; empty for nothing."""
    counts = Counter(pressing(row) for row in rows if row["todo"])
    if not counts:
        return ""
    counted = {
        "forced": phrase("{n} that must be done now", n=counts["forced"]),
        "overdue": phrase("{n} overdue", n=counts["overdue"]),
        "urgent": phrase("{n} urgent", n=counts["urgent"]),
        "reminded": phrase("{n} reminded of", n=counts["reminded"]),
        "delivered": phrase("{n} new", n=counts["delivered"]),
        "read": phrase("{n} read", n=counts["read"]),
        "in_progress": phrase("{n} in progress", n=counts["in_progress"]),
    }
    parts = [words for name, words in counted.items() if counts[name]]
    return say(phrase("{n} to do: {counts}", n=counts.total(), counts=joined(parts, say)))


def joined(parts: Iterable[str], say: Say) -> str:
    """Parts of a sentence as a list."""
    return say(phrase(", ")).join(say(part) for part in parts)


def closed_words(row: Row, replacement: Row | None) -> Phrase:
    """What became of work that this device did not finish itself, in a line.

    Args:
        row: The work.
        replacement: What stands in for it, where that is here.
    """
    named = {"number": row["number"], "title": row["title"]}
    reason = row["reason"]
    if row["superseded_by"]:
        if replacement is None:
            return phrase("{number} {title}: replaced by another that is to come", **named)
        new = {"new_number": replacement["number"], "new_title": replacement["title"]}
        return phrase("{number} {title}: replaced by {new_number} {new_title}", **named, **new)
    if row["state"] == State.CANCELLED:
        if reason:
            return phrase(
                "{number} {title}: withdrawn by head office: {reason}", **named, reason=reason
            )
        return phrase("{number} {title}: withdrawn by head office", **named)
    if row["state"] == State.EXPIRED:
        return phrase("{number} {title}: closed by head office, its time is over", **named)
    return phrase("{number} {title}: {state}", **named, state=who_and_state(row))
