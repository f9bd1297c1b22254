"""`submit`, `approve`, `deny`: what stands between a draft and the stores."""

from pathlib import Path

import click

from buskit.cli import home_option
from buskit.terminal import narrate
from hqconsole import kinds
from hqconsole.commands.about import about, directive_argument
from hqconsole.commands.common import narrate_hub
from hqconsole.commands.going_out import out_words
from hqconsole.composing import why_approval
from hqconsole.home import read_hq_settings
from hqconsole.ledger import lifecycles, steps, waves
from hqconsole.lifecycle import DirectiveState


@click.command()
@directive_argument
@home_option("hq")
def submit(directive: str, home: Path) -> None:
    """Let a draft go: to whoever has to approve it, or to the stores.

    \b
    Example:
      hq publish 'New prices' --all --draft
      hq submit 3f2a
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    settings = read_hq_settings(home)
    with about(home, directive, "publish") as one:
        steps.require(
            one.connection,
            one.no,
            frozenset({DirectiveState.DRAFT}),
            "only a draft can be submitted",
        )
        why = why_approval(
            settings.approval, kinds.of(settings, one.author.kind), one.author.mailboxes
        )
        if why:
            lifecycles.submit(one.connection, one.no, by=one.by, why=why, at=one.at)
            state = DirectiveState.WAITING
        else:
            state = waves.begin(
                one.connection,
                one.no,
                by=one.by,
                organisation=lambda: one.organisation,
                **one.sending,
            )
        one.audit("submit", state=state.value)
    narrate(out_words(state, one.short_id, why))
    narrate_hub(home)


@click.command()
@directive_argument
@click.option("--note", default="", metavar="TEXT", help="A word about it, for the history.")
@home_option("hq")
def approve(directive: str, note: str, home: Path) -> None:
    """Let out what somebody else wrote: hq status ID shows the text and the audience.

    What you approve is its text and its frozen audience; neither can change before it goes out.

    \b
    Examples:
      hq status --state waiting_for_approval
      hq status 3f2a
      hq approve 3f2a --note 'checked with quality'
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with about(home, directive, "approve", by_another=True) as one:
        state = lifecycles.approve(
            one.connection,
            one.no,
            by=one.by,
            note=note,
            organisation=lambda: one.organisation,
            **one.sending,
        )
        one.audit("approve", author=one.author.name, note=note, state=state.value)
    narrate(f"approved; {out_words(state, one.short_id)}")
    narrate_hub(home)


@click.command()
@directive_argument
@click.option("--reason", required=True, metavar="TEXT", help="Why; its author sees it.")
@home_option("hq")
def deny(directive: str, reason: str, home: Path) -> None:
    """Say no to what waits for approval; its author can revise it and submit it again.

    \b
    Examples:
      hq deny 3f2a --reason 'Which sizes?'
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    with about(home, directive, "approve", by_another=True) as one:
        lifecycles.deny(one.connection, one.no, by=one.by, why=reason, at=one.at)
        one.audit("deny", author=one.author.name, reason=reason)
    author = one.author.name or "its author"
    narrate(f"denied; {author} can: hq revise {one.short_id}, then hq submit {one.short_id}")
