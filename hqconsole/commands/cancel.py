"""`cancel`: withdraw a directive."""

from pathlib import Path

import click

from buskit.cli import home_option
from buskit.terminal import narrate
from hqconsole.commands.about import about, directive_argument
from hqconsole.commands.common import by_option, narrate_hub, said_by
from hqconsole.ledger import steps, withdrawing
from hqconsole.lifecycle import UNSENT


@click.command()
@directive_argument
@click.option("--reason", default="", metavar="TEXT", help="Why; the stores see it.")
@by_option
@home_option("hq")
def cancel(directive: str, reason: str, by: str, home: Path) -> None:
    """Withdraw a directive from everyone who has it. What was done already stays done.

    ID is the beginning of the directive's id, at least 4 characters. Each store's devices say when
    they have taken it off, and how far the work was: hq status ID.

    \b
    Examples:
      hq cancel 3f2a --reason 'We close at 20:00 after all'
      hq publish 'Put lot 2231 back' --undo 3f2a --kind task    to those who had done it
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if len(reason) > 500:
        raise click.UsageError(f"the reason has {len(reason)} characters, 500 are the most")
    by = said_by(by, home)
    with about(home, directive, "cancel") as one:
        heard = steps.state_of(one.connection, one.no) not in UNSENT
        closed = withdrawing.cancel(
            one.connection,
            one.no,
            reason=reason,
            by=by,
            organisation=one.organisation,
            **one.sending,
        )
        done = len(withdrawing.done_before(one.connection, one.no))
        one.audit("cancel", reason=reason, by=by, closed=closed)
    if heard:
        narrate(f"withdrawn; {closed:,} deliveries that were open are closed")
        narrate(f"which stores have taken it off: hq status {one.short_id}")
    else:
        narrate("withdrawn; no store had heard of it")
    if done:
        narrate(
            f"{done:,} had done it already; to have that undone:"
            f" hq publish 'Undo: ...' --undo {one.short_id} --kind task"
        )
    narrate_hub(home)
