"""`roster import`: take over a list of stores that another system wrote, all of it or nothing."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option, json_option
from buskit.database import Database
from buskit.doorbell import ring
from buskit.terminal import Column, Sheet, narrate
from hqconsole.commands.common import acting, write_audit
from hqconsole.errors import HqError
from hqconsole.home import new_id, read_hq_settings
from hqconsole.ledger import store_views
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import rows, save_roster
from hqconsole.roster import (
    DEFAULT_ROLES,
    Problem,
    RosterDifference,
    StoreRow,
    difference,
    parse_mapping,
    read_stores,
)

_SHOWN_TO_A_PERSON = 30
_CLOSING_SHARE = 5
_AUDITED = 5


class ClosingError(HqError):
    """The list would close a suspicious part of the chain."""


@click.command("import")
@click.argument("words", metavar="FILE", nargs=-1, required=True)
@click.option(
    "--map",
    "mappings",
    multiple=True,
    metavar="OURS=THEIRS ...",
    help='Which column is what, such as store_id="Store Number" region=Country.',
)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--timezone", metavar="ZONE", help="Of stores for which the list says none.")
@click.option(
    "--default-roles",
    metavar="ROLE;ROLE",
    help=f"Of every store when the list has none; otherwise {' and '.join(DEFAULT_ROLES)}.",
)
@click.option("--closing", is_flag=True, help="Yes, more than a fifth of the stores close.")
@home_option("hq")
@json_option
def import_roster(
    *,
    words: Sequence[str],
    mappings: Sequence[str],
    dry_run: bool,
    timezone: str | None,
    default_roles: str | None,
    closing: bool,
    home: Path,
    as_json: bool,
) -> None:
    """Make the roster this list (CSV; - is standard input): all of it, or nothing.

    New stores open, changed ones change, and stores that the list does not have are closed; they
    keep their history, and their open work waits for them.

    \b
    Examples:
      hq roster import stores.csv --dry-run
      hq roster import list.csv --map store_id="Store Number" region=Country \\
          timezone=Timezone
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    # --map takes several words as people write them; click hands all but the first in with FILE.
    more = [word for word in words if "=" in word and not Path(word).is_file()]
    files = [word for word in words if word not in more]
    if len(files) != 1:
        raise click.UsageError(
            "name one file" if not files else f"name one file, not {len(files)}: {' '.join(files)}"
        )
    read_hq_settings(home)
    roles = DEFAULT_ROLES if default_roles is None else tuple(default_roles.split(";"))
    found = read_stores(
        _bytes(files[0]),
        parse_mapping([*mappings, *more]),
        default_roles=roles,
        default_timezone=timezone,
    )
    for notice in found.notices:
        narrate(f"! {notice}")
    if found.problems:
        _show_problems(found.problems, as_json=as_json)
        raise HqError(
            f"{len(found.problems):,} problems in {files[0]}: nothing was imported",
            hint="correct these lines and import it again",
        )
    with open_ledger(home) as ledger:
        if dry_run:
            with ledger.read() as connection:
                before = store_views.open_stores(connection)
                change = difference(
                    rows(connection), {store.store_id: store for store in found.stores}
                )
        else:
            _permitted(home, ledger, found.stores)
            with ledger.write() as connection:
                before = store_views.open_stores(connection)
                change = save_roster(connection, found.stores, at=time.time(), new_id=new_id)
                if _suspicious(change, before) and not closing:
                    # Leaving the block by an error undoes all of it.
                    raise _closing_error(change, before)
                write_audit(connection, "roster import", file=files[0], **_counts(change))
            ring(home)
    _show_change(change, as_json=as_json, dry_run=dry_run)
    if not dry_run:
        return
    if _suspicious(change, before) and not closing:
        narrate(f"! {_closing_error(change, before)}: it would need --closing")
    narrate("nothing was changed; the same without --dry-run does it")


def _permitted(home: Path, ledger: Database, stores: Sequence[StoreRow]) -> None:
    """See that whoever imports may change the roster, in every region where it would change."""
    if acting(home, "roster").regions is None:
        return
    with ledger.read() as connection:
        known = rows(connection)
    listed = {store.store_id: store for store in stores}
    change = difference(known, listed)
    touched = [*change.added, *change.closed]
    for altered in change.changed:
        touched += [known[altered.store_id], listed[altered.store_id]]
    acting(home, "roster", regions={store.region for store in touched})


def _bytes(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()


def _counts(change: RosterDifference) -> dict[str, Any]:
    """What the audit keeps of a change: counts, and the first stores of each."""
    named = {
        "added": [store.store_id for store in change.added],
        "changed": [altered.store_id for altered in change.changed],
        "closed": [store.store_id for store in change.closed],
    }
    counts: dict[str, Any] = {what: len(stores) for what, stores in named.items()}
    counts |= {f"{what}_first": stores[:_AUDITED] for what, stores in named.items() if stores}
    return {**counts, "same": change.same}


def _suspicious(change: RosterDifference, before: int) -> bool:
    """A truncated file must not close a chain."""
    return len(change.closed) * _CLOSING_SHARE > before


def _closing_error(change: RosterDifference, before: int) -> ClosingError:
    return ClosingError(
        f"this list closes {len(change.closed):,} of {before:,} stores",
        hint="is the file whole? if they really close, say --closing",
    )


def _show_problems(problems: Sequence[Problem], *, as_json: bool) -> None:
    rows = [
        {"line": problem.line, "column": problem.column, "reason": problem.reason}
        for problem in problems
    ]
    if as_json:
        Sheet().json({"problems": rows})
        return
    columns = [
        Column("line", "line", right=True),
        Column("column", "column"),
        Column("reason", "reason"),
    ]
    Sheet().show(rows, columns, as_json=False, empty="")


def _show_change(change: RosterDifference, *, as_json: bool, dry_run: bool) -> None:
    sheet = Sheet()
    if as_json:
        sheet.json(
            {
                "dry_run": dry_run,
                "added": [store.store_id for store in change.added],
                "changed": {
                    altered.store_id: {
                        name: {"before": before, "after": after}
                        for name, (before, after) in altered.fields.items()
                    }
                    for altered in change.changed
                },
                "closed": [store.store_id for store in change.closed],
                "same": change.same,
            }
        )
        return
    listed = _rows(change)
    shown = listed[:_SHOWN_TO_A_PERSON] if sheet.on_terminal else listed
    columns = [
        Column("change", "change", style=_colour),
        Column("store", "store"),
        Column("field", "what"),
        Column("before", "before"),
        Column("after", "after"),
    ]
    sheet.show(shown, columns, as_json=False, empty="the roster is like that already")
    if len(shown) < len(listed):
        narrate(f"and {len(listed) - len(shown):,} more lines; all of them with | less")
    narrate(
        f"{len(change.added):,} added, {len(change.changed):,} changed,"
        f" {len(change.closed):,} closed, {change.same:,} as before"
    )


def _rows(change: RosterDifference) -> list[dict[str, Any]]:
    # What closes comes first: it is what a person must not overlook.
    listed: list[dict[str, Any]] = [
        {"change": "closed", "store": store.store_id, "field": "store", "before": store.name}
        for store in change.closed
    ]
    for altered in change.changed:
        listed += [
            {
                "change": "changed",
                "store": altered.store_id,
                "field": name,
                "before": before,
                "after": after,
            }
            for name, (before, after) in altered.fields.items()
        ]
    listed += [
        {"change": "added", "store": store.store_id, "field": "store", "after": store.name}
        for store in change.added
    ]
    return listed


def _colour(row: Any) -> str:
    return {"added": "green", "closed": "bold red"}.get(row["change"], "yellow")
