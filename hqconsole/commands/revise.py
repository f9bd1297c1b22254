"""`revise`: take back what no store has heard of yet, and write it anew."""

from pathlib import Path
from typing import Any

import click
import msgspec

from buskit.cli import home_option
from buskit.terminal import narrate
from buswire.messages import Directive
from hqconsole.commands.about import about, directive_argument
from hqconsole.commands.publish import checked, read_body
from hqconsole.ledger import lifecycles


@click.command()
@directive_argument
@click.option("--title", metavar="TEXT", help="Another title.")
@click.option("--body", metavar="TEXT", help="Another text.")
@click.option("-f", "--file", "body_file", metavar="FILE", help="The text from a file; - is stdin.")
@home_option("hq")
def revise(
    directive: str, title: str | None, body: str | None, body_file: str | None, home: Path
) -> None:
    """Take a directive back that was denied, waits or is scheduled, and change its text.

    It is a draft again: hq submit lets it go, and it needs approval anew where it needed it. Its
    audience stays. What stores have already is replaced: hq publish --supersedes ID.

    \b
    Examples:
      hq revise 3f2a --body 'Only the 1 litre pack.' && hq submit 3f2a
      hq revise 3f2a --title 'Pull lot 2231 now' -f recall.md
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    change: dict[str, Any] = {}
    if title is not None:
        change["title"] = checked(title, "the title", 200)
    if body is not None or body_file is not None:
        change["body"] = read_body(body, body_file)

    def changed(draft: Directive) -> Directive:
        return msgspec.structs.replace(draft, **change)

    with about(home, directive, "publish") as one:
        lifecycles.revise(one.connection, one.no, changed, by=one.by, at=one.at)
        one.audit("revise", changed=sorted(change))
    narrate(f"it is a draft: hq submit {one.short_id} lets it go")
