"""`up`: the embedded broker and the hub together."""

from pathlib import Path

import click

from buskit.cli import home_option


@click.command()
@click.option(
    "--plain-text-on-network",
    is_flag=True,
    help="Let the broker listen where other machines can reach it, although nothing is encrypted.",
)
@home_option("hq")
def up(plain_text_on_network: bool, home: Path) -> None:
    """Run the embedded broker and the hub, and start either again when it dies.

    The broker listens at the addresses of the settings that this machine has (hq init --broker);
    port 0 takes a free one. Ends with SIGTERM or Ctrl-C, the hub first.
    """
    from hqconsole.supervisor import supervise  # noqa: PLC0415 - help does not need it

    supervise(home, plain_text_on_network=plain_text_on_network)
