"""A seat as a page for the person who takes it over: plain text or Markdown. Pure.

Owns the order and the words of the page. What stands in it is `ledger.seats.seat`'s; how much of a
long history is shown is its own. Text from outside can neither move a terminal's cursor nor make a
heading of itself.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from buskit.terminal import ago, clock, printable
from hqconsole.render import due_words

Words = Callable[[dict[str, Any]], str]

HISTORY_MOST = 50
"""So many lines of each kind of history are on the page; all of them are in the JSON."""

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~]|^[#+=-]|^\d+(?=\.))")


class Page:
    """Lines in one of two ways of writing headings, bullets and quotes."""

    def __init__(self, *, markdown: bool) -> None:
        """Begin an empty page."""
        self._markdown = markdown
        self._lines: list[str] = []

    def heading(self, text: str, level: int = 2) -> None:
        """Add a heading; 1 is the page's own."""
        text = self._words(text)
        if self._lines:
            self._lines.append("")
        if self._markdown:
            self._lines += [f"{'#' * level} {text}", ""]
        else:
            self._lines.append(text.upper() if level == 1 else text)

    def line(self, text: str) -> None:
        """Add a sentence of its own."""
        self._lines.append(self._words(text) + ("  " if self._markdown else ""))

    def item(self, text: str, detail: str = "") -> None:
        """Add something of a list, with a longer text below it."""
        self._lines.append(f"{'- ' if self._markdown else '  '}{self._words(text)}")
        for line in printable(detail.rstrip(), keep_newlines=True).split("\n") if detail else ():
            self._lines.append(
                f"{'  > ' if self._markdown else '      '}{self._escaped(line)}".rstrip()
            )

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def _words(self, text: str) -> str:
        return self._escaped(printable(" ".join(text.split())))

    def _escaped(self, text: str) -> str:
        return _MARKDOWN.sub(r"\\\1", text) if self._markdown else text


def page(seat: dict[str, Any], *, markdown: bool = False) -> str:
    """The page of a seat."""
    made = Page(markdown=markdown)
    role = seat["role_name"] or ("the store as a whole" if seat["role"] == "any" else seat["role"])
    made.heading(f"{seat['store']} {seat['name']}: {role}", 1)
    place = ", ".join(filter(None, (seat["city"], seat["region_name"], seat["timezone"])))
    made.line(f"{place}; as of {clock(seat['at'])}, history since {clock(seat['since_at'])[:10]}")
    if seat["closed_at"] is not None:
        made.line(f"This store is closed since {clock(seat['closed_at'])}.")
    for one in seat["devices"]:
        heard = one["last_heard_at"]
        there = "is there" if one["online"] else "is not there"
        last = "never heard" if heard is None else f"last heard {ago(max(0, seat['at'] - heard))}"
        made.line(f"{one['device']} {there}, {last}")
    if not seat["devices"]:
        made.line("No device serves this seat: hq device add")
    made.heading(f"Open work: {len(seat['open'])}")
    for one in seat["open"]:
        made.item(_open_words(one, seat["at"]), one["body"])
    if seat["coming"]:
        made.heading(f"Still to come: {len(seat['coming'])}")
        for one in seat["coming"]:
            made.item(_coming_words(one))
    cannot = [one for one in seat["closed"] if one["state"] == "cannot"]
    _list(made, "Could not be done", cannot, _closed_words)
    if seat["people"]:
        made.heading("Who was here before")
        for one in seat["people"]:
            span = f"{clock(one['first_at'])[:10]} to {clock(one['last_at'])[:10]}"
            made.item(f"{one['name']}: {span}, {one['times']:,} entries")
    replies = [one for one in seat["said"] if one["kind"] == "reply"]
    _list(made, "Replies", replies, _reply_words)
    _list(made, "Alerts of this store", seat["alerts"], _alert_words)
    done = [one for one in seat["closed"] if one["state"] != "cannot"]
    _list(made, "Closed", done, _closed_words)
    return str(made)


def _list(made: Page, title: str, rows: Sequence[dict[str, Any]], words: Words) -> None:
    if not rows:
        return
    made.heading(f"{title}: {len(rows):,}")
    if len(rows) > HISTORY_MOST:
        made.line(f"The latest {HISTORY_MOST}; all of them: --json")
    for one in rows[-HISTORY_MOST:][::-1]:
        made.item(words(one))


def _open_words(one: dict[str, Any], now_at: float) -> str:
    marks = [one["priority"]] if one["priority"] in {"urgent", "high"} else []
    if one["overdue"]:
        marks.insert(0, "OVERDUE")
    due = f", due {(one['due_there'] or one['due']).replace('T', ' ')}" if one["due"] else ""
    mark = f"[{', '.join(marks)}] " if marks else ""
    since = f"issued {ago(max(0, now_at - one['issued_at']))}"
    by = f" by {one['issued_by']}" if one["issued_by"] else ""
    return (
        f"{one['short_id']} {mark}{one['title']}: {one['kind']}, needs {one['needs']}{due},"
        f" {one['state'].replace('_', ' ')}, {since}{by}{_for_all(one)}"
    )


def _coming_words(one: dict[str, Any]) -> str:
    when = one["starts"] or (clock(one["not_before"]) if one["not_before"] else "")
    when = f", {due_words(when)}" if when else ""
    return f"{one['short_id']} {one['title']}: {one['state']}{when}{_for_all(one)}"


def _closed_words(one: dict[str, Any]) -> str:
    by = f" by {one['by']}" if one["by"] else ""
    why = "; ".join(filter(None, _texts(one, ("code", "reason", "note"))))
    late = ", late" if one["late"] else ""
    return (
        f"{clock(one['changed_at'])} {one['short_id']} {one['title']}:"
        f" {one['state'].replace('_', ' ')}{late}{by}{f' ({why})' if why else ''}{_for_all(one)}"
    )


def _reply_words(one: dict[str, Any]) -> str:
    about = f" on {one['short_id']} {one['title']}" if one["short_id"] else ""
    return f"{clock(one['received_at'])} {one['by'] or one['device']}{about}: {one['text']}"


def _alert_words(one: dict[str, Any]) -> str:
    fields = " ".join(f"{name}={value}" for name, value in one["fields"].items())
    words = " ".join(filter(None, (str(one["alert"]), fields, str(one["note"]))))
    return f"{clock(one['received_at'])} {one['by'] or one['device']}: {words}"


def _for_all(one: dict[str, Any]) -> str:
    return " (for the store as a whole)" if one["role"] == "any" else ""


def _texts(one: dict[str, Any], names: Sequence[str]) -> Iterator[str]:
    return (str(one[name] or "") for name in names)
