"""`revise`: take back what no store has heard of yet, and write it anew."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import msgspec

from buskit.cli import home_option
from buskit.terminal import narrate
from buswire.messages import Directive
from hqconsole.commands.about import about, directive_argument
from hqconsole.commands.publish import checked, read_body
from hqconsole.composing import to_come
from hqconsole.home import read_hq_settings
from hqconsole.kinds import PRIORITIES
from hqconsole.ledger import lifecycles
from hqconsole.moments import parse_moment
from hqconsole.zones import time_zone


@click.command()
@directive_argument
@click.option("--title", metavar="TEXT", help="Another title.")
@click.option("--body", metavar="TEXT", help="Another text.")
@click.option("-f", "--file", "body_file", metavar="FILE", help="The text from a file; - is stdin.")
@click.option("--due", metavar="WHEN", help="Another due time, on each store's own clock.")
@click.option("--forced-from", metavar="WHEN", help="From when devices insist on it.")
@click.option("--expires", metavar="WHEN", help="When it closes by itself.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Another priority.")
@home_option("hq")
def revise(
    *,
    directive: str,
    title: str | None,
    body: str | None,
    body_file: str | None,
    due: str | None,
    forced_from: str | None,
    expires: str | None,
    priority: str | None,
    home: Path,
) -> None:
    """Take a directive back that was denied, waits or is scheduled, and change it.

    It is a draft again: hq submit lets it go, and it needs approval anew where it needed it. Its
    audience, its rules and its waves stay; hq schedule changes when it goes out. What stores have
    already is replaced: hq publish --supersedes ID.

    \b
    Examples:
      hq revise 3f2a --body 'Only the 1 litre pack.' && hq submit 3f2a
      hq revise 3f2a --title 'Pull lot 2231 now' -f recall.md
      hq revise 3f2a --due 'Saturday 12:00' --priority high
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    change: dict[str, Any] = {}
    if title is not None:
        change["title"] = checked(title, "the title", 200)
    if body is not None or body_file is not None:
        change["body"] = read_body(body, body_file)
    if priority is not None:
        change["priority"] = priority
    zone = time_zone(read_hq_settings(home).timezone)
    now = datetime.fromtimestamp(time.time(), ZoneInfo(zone))
    for name, text in (("due", due), ("forced_from", forced_from)):
        if text is not None:
            change[name] = str(parse_moment(text, now=now))
    if expires is not None:
        change["expires_at"] = to_come(parse_moment(expires, now=now), zone, now)

    def changed(draft: Directive) -> Directive:
        return msgspec.structs.replace(draft, **change)

    with about(home, directive, "publish") as one:
        lifecycles.revise(one.connection, one.no, changed, by=one.by, at=one.at)
        one.audit("revise", changed=sorted(change))
    narrate(f"it is a draft: hq submit {one.short_id} lets it go")
