"""`cancel`: withdraw a directive."""

from pathlib import Path

import click

from buskit.cli import home_option
from buskit.terminal import narrate
from hqconsole.commands.about import about, directive_argument
from hqconsole.commands.common import by_option, narrate_hub
from hqconsole.ledger import withdrawing


@click.command()
@directive_argument
@click.option("--reason", default="", metavar="TEXT", help="Why; the stores see it.")
@by_option
@home_option("hq")
def cancel(directive: str, reason: str, by: str, home: Path) -> None:
    """Withdraw a directive from everyone who has it. What was done already stays done.

    ID is the beginning of the directive's id, at least 4 characters. Each store's devices say when
    they have taken it off, and how far the work was: hq status ID.
    """
    if len(reason) > 500:
        raise click.UsageError(f"the reason has {len(reason)} characters, 500 are the most")
    with about(home, directive, "cancel") as one:
        closed = withdrawing.cancel(
            one.connection,
            one.no,
            reason=reason,
            by=by[:500],
            organisation=one.organisation,
            **one.sending,
        )
        done = len(withdrawing.done_before(one.connection, one.no))
        one.audit("cancel", reason=reason, by=by[:500], closed=closed)
    narrate(f"withdrawn; {closed:,} deliveries that were open are closed")
    if done:
        narrate(
            f"{done:,} had done it already; to have that undone:"
            f" hq publish 'Undo: ...' --undo {one.short_id} --kind task"
        )
    narrate_hub(home)
