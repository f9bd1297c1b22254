"""The live board as a picture: lines of styled text that fill a screen of any size. Pure.

Owns what goes where, and what gives way on a small screen: 80 columns by 24 lines show every part,
and more room shows more of each. Must not know the ledger, nor how a screen is drawn. Text from
outside is made harmless here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from buskit.terminal import ago, clock, display_width, printable
from hqconsole.render import progress_bar

WIDTH_LEAST, HEIGHT_LEAST = 60, 16

_WARNING, _GOOD, _QUIET, _TITLE = "bold red", "green", "dim", "bold"
_GAP = "  "
_ELLIPSIS: Final = "…"


class Piece(NamedTuple):
    """Some text in one style, in rich's words."""

    text: str
    style: str = ""


Line = list[Piece]


class Part(NamedTuple):
    """A part of the board: its title, and its lines, of which the first ones matter most."""

    title: Line
    lines: list[Line]
    least: int


def picture(view: Mapping[str, Any], width: int, height: int) -> list[Line]:
    """The board on a screen of this size, at most `height` lines.

    Args:
        view: What `ledger.board` counted, with `hub` beside it: `running`, `connected`, `since_at`,
            `failure`.
        width: Columns.
        height: Lines.
    """
    width, height = max(width, WIDTH_LEAST), max(height, HEIGHT_LEAST)
    parts = [
        _directives(view, width),
        _incoming(view, width),
        _unread(view, width),
        _stores(view, width),
    ]
    head = [_head(view, width)]
    if view["escalations"]:
        head.append(_escalations(view, width))
    room = _shared([len(p.lines) for p in parts], [p.least for p in parts], height, len(head))
    lines = head
    # Read from above: what moves, what nobody looks at, what comes in, and who is there.
    for index in (0, 2, 1, 3):
        part = parts[index]
        lines = [*lines, _title(part, room[index], width), *part.lines[: room[index]]]
    return lines[:height]


def plain(lines: Sequence[Line]) -> str:
    """The picture without colours."""
    return "\n".join("".join(piece.text for piece in line).rstrip() for line in lines)


def _shared(needs: Sequence[int], least: Sequence[int], height: int, head: int) -> list[int]:
    """How many lines each part gets: its least first, then one after the other as there is room."""
    left = height - head - len(needs)
    got = [0] * len(needs)
    for goals in (least, needs):
        growing = True
        while left > 0 and growing:
            growing = False
            for index, goal in enumerate(goals):
                if got[index] < min(goal, needs[index]) and left > 0:
                    got[index] += 1
                    left -= 1
                    growing = True
    return got


def _title(part: Part, shown: int, width: int) -> Line:
    hidden = len(part.lines) - shown
    more = [Piece(f"{_GAP}{hidden:,} more", _QUIET)] if hidden > 0 and shown else []
    return _cut([*part.title, *more], width)


def _head(view: Mapping[str, Any], width: int) -> Line:
    hub = view["hub"]
    if not hub["running"]:
        state = Piece("no hub is running: hq up", _WARNING)
    elif hub["connected"] is False:
        why = f" ({hub['failure']})" if hub["failure"] else ""
        since = f" since {clock(hub['since_at'])[11:]}" if hub["since_at"] else ""
        state = Piece(f"no connection to the broker{since}{why}", _WARNING)
    else:
        state = Piece("hub is there", _GOOD)
    line = [Piece(f"{clock(view['at'])}{_GAP}", _TITLE), state]
    if view["incidents"]:
        line.append(Piece(f"{_GAP}{view['incidents']:,} incidents: hq incidents", "yellow"))
    if view["behind"]:
        line.append(Piece(f"{_GAP}counting {view['behind']:,} more", _QUIET))
    return _cut(line, width)


def _escalations(view: Mapping[str, Any], width: int) -> Line:
    # One directive is late in each time zone of a region apart.
    latest = ", ".join({f"{one['region']} {one['short_id']}": None for one in view["unseen"]})
    text = f"{view['escalations']:,} ESCALATIONS UNSEEN{_GAP}{latest}: hq escalations"
    return _cut([Piece(text, _WARNING)], width)


def _directives(view: Mapping[str, Any], width: int) -> Part:
    counts = {"live": view["live"], **view["unsent"]}
    words = [f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    title = [Piece("DIRECTIVES", _TITLE), Piece(f"{_GAP}{', '.join(words)}")]
    shown = view["directives"]
    # Numbers stand below one another; what is nowhere on the screen takes no room.
    columns = {
        name: max((len(f"{one[name]:,}") for one in shown), default=0)
        for name in ("open", "overdue", "cannot")
        if name == "open" or any(one[name] for one in shown)
    }
    bar_width = min(40, max(10, width // 6))
    lines = [_directive(one, columns, bar_width, width) for one in shown]
    return Part(title, lines or [[Piece("  nothing is out", _QUIET)]], 6)


def _directive(
    one: Mapping[str, Any], columns: Mapping[str, int], bar_width: int, width: int
) -> Line:
    percent = one["met"] * 100 // one["mailboxes"] if one["mailboxes"] else 0
    style = _WARNING if one["priority"] == "urgent" else ""
    line = [Piece(f"{one['short_id']} ", _QUIET), Piece(progress_bar(one, bar_width))]
    line.append(Piece(f" {percent:3}%"))
    styles = {"open": "", "overdue": _WARNING, "cannot": "yellow"}
    for name, wide in columns.items():
        count = one[name]
        words = f"{count:>{wide},} {name}" if count else " " * (wide + 1 + len(name))
        line.append(Piece(f"{_GAP}{words}", styles[name]))
    if one["state"] == "paused":
        line.append(Piece(f"{_GAP}PAUSED", _WARNING))
    return _cut([*line, Piece(f"{_GAP}{_safe(one['title'])}", style)], width)


def _unread(view: Mapping[str, Any], width: int) -> Part:
    lines = []
    for one in view["unread"]:
        since = ago(max(0.0, view["at"] - one["since_at"]))
        who = ", ".join(map(_safe, one["by"]))
        if one["mailboxes"] > len(one["by"]):
            who += f" and {one['mailboxes'] - len(one['by']):,} more"
        text = f"  {one['short_id']} {since:>10}  {who}: {_safe(one['title'])}"
        lines.append(_cut([Piece(text)], width))
    title = [Piece("OLDEST UNREAD", _TITLE)]
    return Part(title, lines or [[Piece("  everything is read", _QUIET)]], 3)


def _incoming(view: Mapping[str, Any], width: int) -> Part:
    lines = []
    for one in view["incoming"]:
        by = f" {_safe(one['by'])}" if one["by"] else ""
        style = "yellow" if one["kind"] == "alert" else ""
        head = f"  {clock(one['received_at'])[5:]}  {one['kind']:5}  {_safe(one['store'])}{by}: "
        lines.append(_cut([Piece(head, style), Piece(_safe(one["text"]))], width))
    title = [Piece("COMING IN", _TITLE), Piece(f"{_GAP}alerts and replies")]
    return Part(title, lines or [[Piece("  nothing yet", _QUIET)]], 3)


def _stores(view: Mapping[str, Any], width: int) -> Part:
    there, stores = view["stores_there"], view["stores"]
    title = [
        Piece("STORES", _TITLE),
        Piece(f"{_GAP}{there:,} of {stores:,} there", _GOOD if there == stores else ""),
    ]
    # Where most are missing comes first.
    regions = sorted(
        view["regions"],
        key=lambda one: (one["there"] / one["stores"] if one["stores"] else 1, one["region"]),
    )
    cells = [
        (f"{_safe(one['region'])} {one['there']:,}/{one['stores']:,}", one["there"] < one["stores"])
        for one in regions
    ]
    wide = max((display_width(text) for text, _ in cells), default=1) + 2
    each_line = max(1, (width - 2) // wide)
    lines = [
        _cut([Piece("  "), *(_cell(*cell, wide) for cell in cells[at : at + each_line])], width)
        for at in range(0, len(cells), each_line)
    ]
    return Part(title, lines or [[Piece("  no store: hq roster import FILE", _QUIET)]], 2)


def _cell(text: str, missing: bool, wide: int) -> Piece:
    return Piece(text + " " * (wide - display_width(text)), "" if missing else _GOOD)


def _safe(text: Any) -> str:
    return printable(" ".join(str(text).split()))


def _cut(line: Sequence[Piece], width: int) -> Line:
    """The line without what does not fit."""
    if sum(display_width(piece.text) for piece in line) <= width:
        return list(line)
    left, cut = width - 1, list[Piece]()
    for piece in line:
        text = ""
        for character in piece.text:
            left -= display_width(character)
            if left < 0:
                return [*cut, Piece(text + _ELLIPSIS, piece.style)]
            text += character
        cut.append(piece)
    return cut
