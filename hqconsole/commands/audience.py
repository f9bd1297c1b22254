"""`audience`: its verbs, for audiences that are asked for again and again."""

import time
from pathlib import Path
from typing import Any

import click

from buskit.cli import CommandGroup, home_option, json_option
from buskit.terminal import Column, Sheet, clock, narrate
from hqconsole.audience import choose, digest
from hqconsole.commands.audience_options import audience_options
from hqconsole.commands.common import acting, operator, write_audit
from hqconsole.ledger import audiences
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import organisation
from hqconsole.selector import Selector, in_words

_HERE = "hqconsole.commands.audience"

audience = CommandGroup(
    name="audience",
    help=(
        "Audiences under a name. What is saved is the question, not the answer: each use asks the "
        "roster anew.\n\n"
        "\b\n"
        "Examples:\n"
        "  hq audience save pilots --store S001 --store S017 --store S203\n"
        "  hq audience save big-flagships --where 'format=flagship and area_sqm>800'\n"
        "  hq audience save rest --all --exclude-region west\n"
        "  hq audience show pilots --mailboxes\n"
        "  hq publish 'New scanner' --audience pilots --role manager\n"
    ),
    sections={
        "Verbs": {
            "save": (f"{_HERE}:save", "Save what the options say under a name."),
            "list": (f"{_HERE}:list_audiences", "Which there are, and what each says."),
            "show": (f"{_HERE}:show", "Who that is today."),
            "drop": (f"{_HERE}:drop", "Forget one."),
        }
    },
)


@click.command()
@click.argument("name")
@audience_options
@home_option("hq")
def save(name: str, selector: Selector, home: Path) -> None:
    """Save what the options say under NAME; said again, it replaces what was saved.

    What was written with it before keeps the meaning that it had.

    \b
    Examples:
      hq audience save pilots --store S001 --store S017
      hq audience save metro-managers --tag metro --role manager
      hq audience save all-pilots --audience pilots --audience metro-managers
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    acting(home, "publish")
    with open_ledger(home) as ledger, ledger.write() as connection:
        replaced = audiences.save(connection, name, selector, at=time.time(), by=operator())
        there = organisation(connection)
        found = choose(audiences.whole(connection, Selector(audiences=(name,))), there)
        write_audit(
            connection,
            "audience save",
            audience=name,
            options=in_words(selector)[:2000],
            mailboxes=len(found.mailboxes),
            replaced=replaced,
        )
    stores = len({mailbox.store for mailbox in found.mailboxes})
    narrate(
        f"audience {name} is {'saved anew' if replaced else 'saved'}: today it is "
        f"{len(found.mailboxes):,} mailboxes in {stores:,} stores"
    )
    for note in found.notes:
        narrate(f"! {note}")


@click.command("list")
@home_option("hq")
@json_option
def list_audiences(home: Path, as_json: bool) -> None:
    """Show the saved audiences and the options that each stands for.

    \b
    Example:
      hq audience list --json
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger, ledger.read() as connection:
        found = audiences.saved(connection)
    columns = [
        Column("name", "audience"),
        Column("options", "stands for"),
        Column("saved_at", "saved", text=clock),
        Column("saved_by", "by"),
    ]
    Sheet().show(found, columns, as_json=as_json, empty="none yet: hq audience save NAME --help")


@click.command()
@click.argument("name")
@click.option("--mailboxes", "members", is_flag=True, help="Every mailbox, one a line.")
@home_option("hq")
@json_option
def show(name: str, members: bool, home: Path, as_json: bool) -> None:
    """Show who a saved audience is today, and what is odd about it.

    \b
    Examples:
      hq audience show pilots
      hq audience show pilots --mailboxes
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with open_ledger(home) as ledger, ledger.read() as connection:
        (found,) = audiences.saved(connection, name)
        there = organisation(connection)
        selector = audiences.whole(connection, Selector(audiences=(name,)))
        today = choose(selector, there, strict=False)
        found["part_of"] = audiences.used_by(connection, name)
    rows = [
        {"store": mailbox.store, "role": mailbox.role, "region": there.stores[mailbox.store].region}
        for mailbox in sorted(today.mailboxes)
    ]
    found |= {
        "mailboxes": len(rows),
        "stores": len({row["store"] for row in rows}),
        "roles": sorted({row["role"] for row in rows}),
        "digest": digest(today.mailboxes),
        "notes": list(today.notes),
    }
    if as_json:
        Sheet().json(found | {"members": rows if members else None})
        return
    if members:
        columns = [Column("store", "store"), Column("role", "role"), Column("region", "region")]
        Sheet().show(rows, columns, as_json=False, empty="nobody today")
    else:
        _show_one(found)
    for note in today.notes:
        narrate(f"! {note}")


def _show_one(found: dict[str, Any]) -> None:
    words = {
        "stands for": found["options"],
        "today": f"{found['mailboxes']:,} mailboxes in {found['stores']:,} stores"
        + (f" ({', '.join(found['roles'])})" if found["roles"] else ""),
        "digest": found["digest"],
        "saved": f"{clock(found['saved_at'])} by {found['saved_by']}",
    }
    if found["part_of"]:
        words["part of"] = ", ".join(found["part_of"])
    Sheet().show_one(words, [Column(key, key) for key in words], as_json=False)


@click.command()
@click.argument("name")
@home_option("hq")
def drop(name: str, home: Path) -> None:
    """Forget a saved audience. What was written with it keeps the meaning that it had.

    \b
    Example:
      hq audience drop pilots
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    acting(home, "publish")
    with open_ledger(home) as ledger, ledger.write() as connection:
        audiences.drop(connection, name)
        write_audit(connection, "audience drop", audience=name)
    narrate(f"audience {name} is forgotten")
