"""`init`: change a device's settings, or prepare a device that joins later."""

from collections.abc import Sequence
from pathlib import Path

import click

from buskit.cli import home_option
from buskit.terminal import narrate
from buswire.topics import Identity
from storeagent.limits import SETTINGS_NAME
from storeagent.settings import parse_settings
from storeagent.setup import make_device_home, planned_settings, save_settings


@click.command()
@click.option("--store", required=True, metavar="ID", help="The store, as head office calls it.")
@click.option("--device", required=True, metavar="ID", help="This device, such as till-1.")
@click.option("--role", "roles", multiple=True, help="A role that works here, such as manager.")
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="URL",
    help="mqtts://host:8883 or wss://host/mqtt; several are tried in random order.",
)
@click.option("--hook", metavar="COMMAND", help="A command that runs when work arrives.")
@click.option("--language", metavar="TAG", help="What staff read, whatever the locale: en or zh.")
@click.option("--root", metavar="TOPIC", help="The root of the topics, if not the default.")
@home_option("agent")
def init(
    *,
    store: str,
    device: str,
    roles: Sequence[str],
    brokers: Sequence[str],
    hook: str | None,
    language: str | None,
    root: str | None,
    home: Path,
) -> None:
    """Change the settings of this device, or prepare one that joins later.

    A device becomes one by joining, which makes all of this by itself: storeagent join BUNDLE.
    Afterwards this changes what is given here and leaves the rest as it is.

    \b
    Example:
      storeagent init --store S017 --device till-1 --hook 'aplay bell.wav'
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from storeagent.keys import has_key  # noqa: PLC0415 - the help needs none of it

    named = parse_settings({"store": store, "device": device})
    changed = (home / SETTINGS_NAME).exists()
    settings = planned_settings(
        home,
        Identity(named.store, named.device),
        roles=roles or None,
        brokers=brokers or None,
        root=root,
        hook=hook,
        language=language,
    )
    home = make_device_home(home)
    save_settings(home, settings)
    narrate(f"{named.identity} is {'changed' if changed else 'set up'} in {home}")
    if has_key(home):
        narrate(f"start it with: storeagent run --home {home}")
    else:
        narrate(f"let it join with: storeagent join BUNDLE --home {home}")
