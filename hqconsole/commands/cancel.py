"""`cancel`: withdraw a directive."""

import time
from pathlib import Path

import click

from buskit.cli import home_option
from buskit.doorbell import ring
from buskit.terminal import narrate
from hqconsole.commands.common import by_option, narrate_hub, write_audit
from hqconsole.home import new_id
from hqconsole.ledger import directives, views, withdrawing
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import organisation


@click.command()
@click.argument("directive", metavar="ID")
@click.option("--reason", default="", metavar="TEXT", help="Why; the stores see it.")
@by_option
@home_option("hq")
def cancel(directive: str, reason: str, by: str, home: Path) -> None:
    """Withdraw a directive from everyone who has it. What was done already stays done.

    ID is the beginning of the directive's id, at least 4 characters.
    """
    if len(reason) > 500:
        raise click.UsageError(f"the reason has {len(reason)} characters, 500 are the most")
    with open_ledger(home) as ledger:
        with ledger.write() as connection:
            no = directives.find(connection, directive)
            closed = withdrawing.cancel(
                connection,
                no,
                reason=reason,
                by=by[:500],
                organisation=organisation(connection),
                at=time.time(),
                new_id=new_id,
            )
            write_audit(
                connection,
                "cancel",
                directive=views.directive_id(connection, no),
                reason=reason,
                by=by[:500],
                closed=closed,
            )
        ring(home)
    narrate(f"withdrawn; {closed:,} deliveries that were open are closed")
    narrate_hub(home)
