"""`init`: make head office's home, or change its settings."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option
from buskit.homes import make_home, read_settings, write_settings
from buskit.link_settings import Address
from buskit.terminal import narrate
from hqconsole.commands.common import acting, write_audit
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
    from hqconsole.hub_identity import prepare  # noqa: PLC0415 - help needs none of these
    from hqconsole.keyring import exists  # noqa: PLC0415
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
    different = {key: value for key, value in written.items() if value != before.get(key)}
    if changed and different:
        acting(home, "settings")
    home = make_home(home)
    # The ledger first: settings without one would look like a head office that lost its disk.
    # And settings that are there already mean that there was a ledger: it is never made anew.
    create = not changed or (home / FILE_NAME).exists()
    new_keys = not exists(home)
    with open_ledger(home, create=create) as ledger:
        prepare(home, ledger, root=settings.root, at=time.time())
        if different:
            with ledger.write() as connection:
                write_settings(path, written)
                write_audit(connection, "settings" if changed else "init", **_audited(different))
    done = "set up" if not changed else "changed" if different else "as it was"
    narrate(f"{settings.name} is {done} in {home}")
    if new_keys:
        _narrate_recovery_key(home)
    if not changed:
        _narrate_next(home)


def _audited(different: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit keeps of settings: all of it but passwords."""
    return {
        key: {name: "..." if name == "password" else one for name, one in value.items()}
        if isinstance(value, Mapping)
        else value
        for key, value in different.items()
    }


def _narrate_recovery_key(home: Path) -> None:
    from hqconsole.keyring import FOLDER_NAME, RECOVERY_NAME  # noqa: PLC0415 - cryptography

    narrate(
        f"\n! the recovery key lies in {home / FOLDER_NAME / RECOVERY_NAME}\n"
        "  It mends a lost or stolen key without going to every store. Move it offline now, two\n"
        "  copies in two safe places, and delete it here; whoever has it can pose as head office."
    )


def _narrate_next(home: Path) -> None:
    at = _at(home)
    steps = {
        f"hq roster import FILE{at}": "the stores",
        f"hq device add STORE DEVICE{at}": "a bundle for each device",
        f"hq up{at}": "broker and hub",
        "storeagent join BUNDLE": "on the device, then: storeagent run",
    }
    width = max(map(len, steps))
    narrate(
        "\nwhat comes next:\n"
        + "\n".join(f"  {step:{width}}  {what}" for step, what in steps.items())
    )


def _at(home: Path) -> str:
    """What has to be added to the next command so that it finds this home."""
    from buskit.homes import default_home  # noqa: PLC0415

    return "" if default_home("hq").absolute() == home else f" --home {home}"
