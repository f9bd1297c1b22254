"""`board`: the whole chain on one live screen."""

import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buskit.cli import home_option, json_option
from buskit.database_opening import file_identity
from buskit.terminal import Sheet
from hqconsole.board import Line, picture, plain
from hqconsole.home import hub_state
from hqconsole.hub_link import hub_link
from hqconsole.ledger.board import Board
from hqconsole.ledger.opening import FILE_NAME, open_ledger

if TYPE_CHECKING:
    from rich.text import Text

_LOOK_SECONDS = 0.5
_CLOCK_SECONDS = 5.0
"""Without any change the picture is drawn anew after so long: times go on, and hubs die."""
_FIRST_SECONDS = 1.0
_ONCE_SIZE = 100, 50


@click.command()
@click.option("--once", is_flag=True, help="Write one picture, all of it counted, and end.")
@home_option("hq")
@json_option
def board(*, once: bool, home: Path, as_json: bool) -> None:
    """Show the whole chain on one live screen: what is out, what is unread, what comes in.

    Directives with their progress, the urgent and late ones first; the oldest unread; alerts and
    replies as they come; the stores that are there, by region, the worst first; and whether the
    hub is there. It needs 80 columns by 24 lines and uses more. Ctrl-C ends it. In a pipe it is one
    picture; with --json one line for each change.

    The bar: # as asked, + on the way, . not there yet, _ not sent yet, ! cannot, x closed by head
    office.

    \b
    Examples:
      hq board
      hq board --once
      hq board --json | jq .stores_there
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    live = not once and not as_json and sys.stdout.isatty()
    if live:
        _show_live(home)
        return
    if as_json:
        _write_changes(home, once=once)
        return
    view = next(_views(home, first_seconds=math.inf))
    size = shutil.get_terminal_size(_ONCE_SIZE) if sys.stdout.isatty() else _ONCE_SIZE
    Sheet().text(plain(picture(view, *size)))


def _views(home: Path, *, first_seconds: float) -> Iterator[dict[str, Any]]:
    """What to show now, and again whenever something changed; for ever."""
    while True:
        with open_ledger(home) as ledger:
            file = file_identity(home / FILE_NAME)
            counted, seen, drawn_at = Board(time.monotonic), -1, -math.inf
            budget: dict[str, float] = {"budget_seconds": first_seconds}
            # Where another ledger takes its place, such as after a restore, that one is shown.
            while file_identity(home / FILE_NAME) == file:
                # Asked before it is read: what is committed in between is seen the next time.
                changes, now = ledger.changes_by_others(), time.monotonic()
                if changes != seen or counted.behind or now - drawn_at >= _CLOCK_SECONDS:
                    seen, drawn_at = changes, now
                    with ledger.read() as connection:
                        view = counted.refresh(connection, now_at=time.time(), **budget)
                    budget = {}
                    yield {**view, "hub": _hub(home)}
                time.sleep(_LOOK_SECONDS)


def _hub(home: Path) -> dict[str, Any]:
    if not hub_state(home).running:
        return {"running": False, "connected": None, "since_at": None, "failure": ""}
    link = hub_link(home)
    known = {"connected": None, "since_at": None, "failure": ""} if link is None else asdict(link)
    return {"running": True, **known}


def _write_changes(home: Path, *, once: bool) -> None:
    sheet, said = Sheet(), dict[str, Any]()
    for view in _views(home, first_seconds=math.inf):
        content = {name: value for name, value in view.items() if name != "at"}
        if content != said:
            said = content
            sheet.json_line(view)
        if once:
            return


def _show_live(home: Path) -> None:
    from rich.console import Console  # noqa: PLC0415 - only a live view pays for it
    from rich.live import Live  # noqa: PLC0415

    console = Console(highlight=False)
    views = _views(home, first_seconds=_FIRST_SECONDS)
    view = next(views)  # before the screen is taken over: an error is read on the old one
    with Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
        while True:
            width, height = console.size
            live.update(_text(picture(view, width, height)), refresh=True)
            view = next(views)


def _text(lines: list[Line]) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    text = Text(no_wrap=True, overflow="crop")
    for number, line in enumerate(lines):
        if number:
            text.append("\n")
        for piece in line:
            text.append(piece.text, piece.style or None)
    return text
