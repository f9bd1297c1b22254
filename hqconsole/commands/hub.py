"""`hub`: the daemon in the foreground."""

from pathlib import Path

import click

from buskit.cli import home_option


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@home_option("hq")
def hub(quiet: bool, home: Path) -> None:
    """Run the hub: it sends what was issued and saves what stores say. Ends with SIGTERM, Ctrl-C.

    One hub per ledger. It needs a broker: the settings say where, and hq up brings one along.
    """
    from hqconsole.hub import run_hub  # noqa: PLC0415 - the link, which help does not need

    run_hub(home, quiet=quiet)
