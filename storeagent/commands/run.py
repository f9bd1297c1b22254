"""`run`: the daemon in the foreground."""

from pathlib import Path

import click

from buskit.cli import home_option


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@home_option("agent")
def run(quiet: bool, home: Path) -> None:
    """Run the daemon that carries work down and answers up; it ends with SIGTERM or Ctrl-C.

    One daemon per home. Commands work beside it and without it.
    """
    from storeagent.agent import run_agent  # noqa: PLC0415 - the link, which help does not need

    run_agent(home, quiet=quiet)
