"""`init`: make head office's home, or change its settings."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option
from buskit.homes import make_home, read_settings, write_settings
from buskit.link_settings import Address
from buskit.terminal import narrate
from hqconsole.commands.common import write_audit
from hqconsole.home import SETTINGS_NAME, HqSettings, as_toml, parse_settings
from hqconsole.ledger.opening import FILE_NAME, open_ledger


@click.command()
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="URL",
    help="mqtts://host:8883, wss://host/mqtt, or mqtt:// on this machine; several add up.",
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
    """Make head office's home, with its keys. Said again, it changes the settings given.

    What comes then: the stores (hq roster import), a bundle for each device (hq device add), the
    daemons (hq up); and on the device storeagent join, storeagent run.

    \b
    Examples:
      hq init
      hq init --broker mqtts://bus.example.com:8883 --timezone Europe/Paris
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from hqconsole.hub_identity import prepare  # noqa: PLC0415 - help needs neither
    from hqconsole.zones import time_zone  # noqa: PLC0415 - reads the list of all zones

    for url in brokers:
        Address.parse(url)
    path = home / SETTINGS_NAME
    changed = path.exists()
    before: dict[str, Any] = read_settings(path) if changed else {}
    written = dict(before) if changed else as_toml(HqSettings())
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
    create = not changed or (home / FILE_NAME).exists()
    with open_ledger(home, create=create) as ledger:
        prepare(home, ledger, root=settings.root, at=time.time())
        with ledger.write() as connection:
            write_settings(path, written)
            write_audit(
                connection,
                "settings" if changed else "init",
                changed=sorted(key for key in written if written[key] != before.get(key)),
                **{key: written[key] for key in ("name", "brokers") if key in written},
            )
    narrate(f"{settings.name} is {'changed' if changed else 'set up'} in {home}")
    if not changed:
        _narrate_next(home)


def _narrate_next(home: Path) -> None:
    from hqconsole import keyring  # noqa: PLC0415 - cryptography

    at = _at(home)
    recovery = home / keyring.FOLDER_NAME / keyring.RECOVERY_NAME
    steps = {
        f"hq roster import FILE{at}": "the stores",
        f"hq device add STORE DEVICE{at}": "a bundle for each device",
        f"hq up{at}": "broker and hub",
        "storeagent join BUNDLE": "on the device, then: storeagent run",
    }
    width = max(map(len, steps))
    narrate(
        f"\n! the recovery key lies in {recovery}\n"
        "  It mends a lost or stolen key without going to every store. Move it offline now, two\n"
        "  copies in two safe places, and delete it here; whoever has it can pose as head office.\n"
        "\nwhat comes next:\n"
        + "\n".join(f"  {step:{width}}  {what}" for step, what in steps.items())
    )


def _at(home: Path) -> str:
    """What has to be added to the next command so that it finds this home."""
    from buskit.homes import default_home  # noqa: PLC0415

    return "" if default_home("hq").absolute() == home else f" --home {home}"
