"""`init`: make head office's home, or change its settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option
from buskit.homes import make_home, read_settings, write_settings
from buskit.link_settings import Address
from buskit.terminal import narrate
from hqconsole.home import SETTINGS_NAME, HqSettings, as_toml, parse_settings
from hqconsole.ledger.opening import FILE_NAME, open_ledger


@click.command()
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="URL",
    help="mqtt://host:1883 or ws://host:80/mqtt; several are tried in random order.",
)
@click.option("--timezone", metavar="ZONE", help="In which --due is read, such as Europe/Paris.")
@click.option("--root", metavar="TOPIC", help="The root of the topics, if not the default.")
@click.option("--name", metavar="NAME", help="What head office is called.")
@home_option("hq")
def init(
    *,
    brokers: Sequence[str],
    timezone: str | None,
    root: str | None,
    name: str | None,
    home: Path,
) -> None:
    """Make head office's home. Said again, it changes the settings given and nothing else.

    \b
    Examples:
      hq init
      hq init --broker mqtt://bus.example.com:1883 --timezone Europe/Paris
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from hqconsole.zones import time_zone  # noqa: PLC0415 - reads the list of all zones

    for url in brokers:
        Address.parse(url)
    path = home / SETTINGS_NAME
    changed = path.exists()
    written: dict[str, Any] = read_settings(path) if changed else as_toml(HqSettings())
    if brokers:
        written["brokers"] = list(brokers)
    if timezone is not None:
        written["timezone"] = time_zone(timezone)
    if name is not None:
        written["name"] = name
    if root is not None:
        written["link"] = {**written.get("link", {}), "root": root}
    settings = parse_settings(written)
    home = make_home(home)
    # The ledger first: settings without one would look like a head office that lost its disk.
    # And settings that are there already mean that there was a ledger: it is never made anew.
    open_ledger(home, create=not changed or (home / FILE_NAME).exists()).close()
    write_settings(path, written)
    narrate(
        f"{settings.name} is {'changed' if changed else 'set up'} in {home}\n"
        f"the stores come next: hq roster import FILE{_at(home)}"
    )


def _at(home: Path) -> str:
    """What has to be added to the next command so that it finds this home."""
    from buskit.homes import default_home  # noqa: PLC0415

    return "" if default_home("hq").absolute() == home else f" --home {home}"
