"""What the verbs share: options that mean the same everywhere, and words for the same things."""

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from buskit.terminal import Column, ago, narrate
from hqconsole.home import hub_state

F = TypeVar("F", bound=Callable[..., Any])

LIST_MOST = 100


def by_option(command: F) -> F:
    """Add `--by`: who does it; by default the user of this machine."""
    return click.option(
        "--by",
        default=_user,
        envvar="STOREBUS_BY",
        metavar="NAME",
        show_default="$STOREBUS_BY, or who you are here",
        help="Who says it.",
    )(command)


def _user() -> str:
    """The name of this machine's user; empty where there is none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def most_option(command: F) -> F:
    """Add `--limit` (parameter `most`): how many of the latest."""
    return click.option(
        "-n",
        "--limit",
        "most",
        type=click.IntRange(1),
        default=LIST_MOST,
        show_default=True,
        help="At most so many, the latest.",
    )(command)


def narrate_hub(home: Path) -> bool:
    """Tell the person when nothing leaves head office for want of a hub; returns if one runs."""
    running = hub_state(home).running
    if not running:
        narrate("no hub is running: it stands in the ledger and goes out with hq up (or hq hub)")
    return running


def heard_words(now_at: float) -> Callable[[float | None], str]:
    """Return how "last heard" is put into words."""
    return lambda at: "never" if at is None else ago(max(0.0, now_at - at))


def online_column() -> Column:
    """Whether a device is there."""
    return Column("online", "online", style=lambda row: "green" if row["online"] else "dim")
