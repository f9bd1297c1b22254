"""What the verbs share: options that mean the same everywhere, and words for the same things."""

import contextlib
import getpass
import os
import platform
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from buskit.database import Database
from buskit.terminal import Column, ago, clock, narrate
from hqconsole import operators
from hqconsole.home import hub_state
from hqconsole.hub_link import hub_link
from hqconsole.ledger import audit
from hqconsole.ledger.opening import open_ledger

F = TypeVar("F", bound=Callable[..., Any])

LIST_MOST = 100
_REGIONS_AUDITED = 20
TAKES_EFFECT = "it takes effect"
"""What `narrate_hub` says of a change of access."""
_ACTING = "hqconsole.operator"
"""Under this click keeps who was permitted to do what runs now."""

_SPAN = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*(s|m|min|h|d|w)?")
_UNIT_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def span_seconds(text: str) -> float:
    """Read a span of time as people write it, 30m, 24h or 7d; a number alone is seconds.

    Raises:
        UsageError: It is none.
    """
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise click.UsageError(f"{text!r} is no span of time; write 30m, 24h or 7d")
    return float(match[1]) * _UNIT_SECONDS[match[2] or "s"]


def by_option(command: F) -> F:
    """Add `--by`: who says it; empty when nobody said who, and `said_by` knows then."""
    return click.option(
        "--by",
        default="",
        envvar="STOREBUS_BY",
        metavar="NAME",
        show_default="$STOREBUS_BY, or your name in operators.toml, or who you are here",
        help="Who says it, as the stores see it.",
    )(command)


def said_by(by: str, home: Path) -> str:
    """The name that the stores see: as `--by` says, or what people call the operator."""
    known = None
    with contextlib.suppress(operators.OperatorsError):  # to look at something asks for no file
        known = operators.load(home).find(operator())
    return (by or (known.display_name if known else "") or operator())[:500]


def _user() -> str:
    """The name of this machine's user; empty where there is none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def acting(
    home: Path,
    right: str,
    *,
    kind: str | None = None,
    regions: Iterable[str] = (),
    author: str | None = None,
) -> operators.Operator:
    """Return who works at this command line, if they may do this; `write_audit` knows them then.

    Every verb that changes something calls it first, outside any transaction of its own: a refusal
    is written to the audit in one. Call it again with what is known only later, such as regions.

    Args:
        home: Of head office.
        right: One of `hqconsole.operators.RIGHTS`.
        kind: Of the directive.
        regions: Every region that is touched.
        author: With `approve`: the operator who wrote it.

    Raises:
        NotPermitted: They may not.
        OperatorsError: Nobody may, because the file of operators cannot be understood.
    """
    everyone = operators.load(home)
    try:
        found = operators.permit(
            everyone, operator(), right, kind=kind, regions=regions, author=author
        )
    except operators.NotPermitted as refused:
        known = everyone.find(refused.operator)
        _remember(known)
        asked = {"right": right, "kind": kind, "regions": list(refused.regions[:_REGIONS_AUDITED])}
        write_audit_alone(
            home,
            "refused",
            command=_command_words(click.get_current_context()),
            **{name: value for name, value in asked.items() if value},
        )
        raise
    _remember(found)
    return found


def acting_on(
    home: Path, ledger: Database, right: str, stores: Iterable[str]
) -> operators.Operator:
    """As `acting`, for what touches these stores: their regions have to be the operator's.

    A store that the roster does not have is in nobody's way; the verb itself says that of it.

    Args:
        home: Of head office.
        ledger: That of the home, outside any transaction.
        right: One of `hqconsole.operators.RIGHTS`.
        stores: By their ids.

    Raises:
        NotPermitted: They may not.
        OperatorsError: Nobody may.
    """
    found = acting(home, right)
    if found.regions is None:
        return found
    from hqconsole.ledger.organisation import place_of  # noqa: PLC0415 - few are bound to regions

    with ledger.read() as connection:
        places = [place_of(connection, store) for store in sorted(set(stores))]
    return acting(home, right, regions={place.region for place in places if place is not None})


def _command_words(context: click.Context) -> str:
    """The words of the command that runs, without `hq`, as the audit calls what is done by it."""
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, context.info_name or "")
        context = context.parent
    return " ".join(words)


def _remember(found: operators.Operator | None) -> None:
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_ACTING] = found


def _department() -> dict[str, str]:
    """What the audit says of whoever was permitted, or refused, in the command that runs."""
    context = click.get_current_context(silent=True)
    found: operators.Operator | None = None if context is None else context.meta.get(_ACTING)
    return {"department": found.department} if found is not None and found.department else {}


def write_audit(connection: sqlite3.Connection, action: str, /, **detail: Any) -> None:
    """Record in the audit that the person at this command line does this.

    Call it in the transaction that does it: a command that changes something owes one line.

    Args:
        connection: With a write transaction open.
        action: The command's words without `hq`.
        detail: What changed; numbers instead of long lists.
    """
    audit.record(
        connection,
        action=action,
        at=time.time(),
        operator=operator(),
        origin=origin(),
        **detail,
        **_department(),
    )


def write_audit_alone(home: Path, action: str, /, **detail: Any) -> None:
    """Record what was done outside the ledger, such as making files, once it is done."""
    with open_ledger(home) as ledger, ledger.write() as connection:
        write_audit(connection, action, **detail)


def operator() -> str:
    """Who works at this command line: $STOREBUS_OPERATOR, or the user of this machine."""
    name = os.environ.get("STOREBUS_OPERATOR", "").strip() or _user() or "unknown"
    return name.encode("utf-8", "backslashreplace").decode()[:100]


def origin() -> str:
    """From where: the machine's name, the terminal, and the address that a remote login is of."""
    words = [platform.node() or "unknown machine"]
    if sys.platform != "win32":
        for descriptor in (0, 1, 2):
            try:
                words.append(os.ttyname(descriptor).removeprefix("/dev/"))
                break
            except OSError:
                continue
    if client := os.environ.get("SSH_CLIENT", "").split():
        words.append(f"from {client[0]}")
    return " ".join(words)


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Show a bar for long work where a person looks on; gives what to call with steps taken.

    In a pipe, and where there is nothing to count, there is none, and nothing of rich is loaded.
    """
    if not (total and sys.stdout.isatty() and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich import progress as bars  # noqa: PLC0415 - see above
    from rich.console import Console  # noqa: PLC0415

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda steps: shown.advance(task, steps)


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


def narrate_hub(home: Path, what: str = "it stands in the ledger and goes out") -> bool:
    """Tell the person when nothing leaves head office for want of a hub; returns if one runs."""
    running = hub_state(home).running
    if not running:
        narrate(f"no hub is running: {what} with hq up (or hq hub)")
    return running


def narrate_link(home: Path, *, without: str) -> None:
    """Tell the person when what is shown of stores is old: no hub, or one that is cut off.

    Args:
        home: Of head office.
        without: What to say where no hub runs.
    """
    if not hub_state(home).running:
        narrate(without)
        return
    link = hub_link(home)
    if link is not None and not link.connected:
        why = f" ({link.failure})" if link.failure else ""
        narrate(
            f"the hub has no connection to the broker since {clock(link.since_at)}{why}:"
            " nothing leaves or comes in, and who is online is as it was then"
        )


def heard_words(now_at: float) -> Callable[[float | None], str]:
    """Return how "last heard" is put into words."""
    return lambda at: "never" if at is None else ago(max(0.0, now_at - at))


def online_column() -> Column:
    """Whether a device is there."""
    return Column("online", "online", style=lambda row: "green" if row["online"] else "dim")
