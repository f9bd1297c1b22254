"""`remind`, `remove`: about those who have not."""

from collections.abc import Sequence
from pathlib import Path

import click

from buskit.cli import home_option
from buskit.terminal import narrate
from hqconsole.commands.about import about, directive_argument
from hqconsole.commands.common import narrate_hub
from hqconsole.ledger import lifecycles
from hqconsole.organisation import Mailbox


@click.command()
@directive_argument
@click.option("--text", default="", metavar="TEXT", help="A word with it.")
@home_option("hq")
def remind(directive: str, text: str, home: Path) -> None:
    """Remind those who have not answered, and nobody else; no oftener than every 5 minutes.

    What a directive's own rules say (hq publish --remind) the stores' devices do by themselves.

    \b
    Examples:
      hq who 3f2a --overdue                          whom it would remind
      hq remind 3f2a --text 'The auditor comes at ten'
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if len(text) > 500:
        raise click.UsageError(f"the text has {len(text)} characters, 500 are the most")
    with about(home, directive, "remind") as one:
        count = lifecycles.remind(
            one.connection,
            one.no,
            text=text,
            by=one.by,
            organisation=one.organisation,
            **one.sending,
        )
        one.audit("remind", mailboxes=count, text=text)
    narrate(f"{count:,} mailboxes are reminded: hq who {one.short_id} names them")
    narrate_hub(home)


@click.command()
@directive_argument
@click.option("--store", "stores", multiple=True, required=True, help="This store.")
@click.option("--role", "roles", multiple=True, help="This mailbox of it; otherwise the store's.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@home_option("hq")
def remove(
    directive: str, stores: Sequence[str], roles: Sequence[str], reason: str, home: Path
) -> None:
    """Wait for these stores no longer: they are listed apart, and see that it is off.

    The denominator stays what it was; hq status says how many were removed.

    \b
    Examples:
      hq remove 3f2a --store S017 --reason 'closed for rebuilding'
      hq remove 3f2a --store S017 --role manager --role clerk
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    mailboxes = {Mailbox(store, role) for store in stores for role in roles or ("any",)}
    with about(home, directive, "cancel") as one:
        count = lifecycles.remove(
            one.connection, one.no, mailboxes, by=one.by, reason=reason, **one.sending
        )
        one.audit("remove", mailboxes=count, stores=list(stores)[:50], reason=reason)
    narrate(f"{count:,} of {len(mailboxes):,} were open and are waited for no longer")
    narrate_hub(home)
