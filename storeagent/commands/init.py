"""`init`: make a device's home, or change its settings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from buskit.cli import home_option
from buskit.homes import make_home, read_settings, write_settings
from buskit.link_settings import Address
from buskit.terminal import narrate
from storeagent.database import database_path, open_agent_database
from storeagent.limits import SETTINGS_NAME
from storeagent.settings import (
    AgentSettings,
    HookSettings,
    SettingsError,
    as_toml,
    parse_settings,
)


@click.command()
@click.option("--store", required=True, metavar="ID", help="The store, as head office calls it.")
@click.option("--device", required=True, metavar="ID", help="This device, such as till-1.")
@click.option("--role", "roles", multiple=True, help="A role that works here, such as manager.")
@click.option(
    "--broker",
    "brokers",
    multiple=True,
    metavar="URL",
    help="mqtt://host:1883 or ws://host:80/mqtt; several are tried in random order.",
)
@click.option("--hook", metavar="COMMAND", help="A command that runs when work arrives.")
@click.option("--root", metavar="TOPIC", help="The root of the topics, if not the default.")
@home_option("agent")
def init(
    *,
    store: str,
    device: str,
    roles: Sequence[str],
    brokers: Sequence[str],
    hook: str | None,
    root: str | None,
    home: Path,
) -> None:
    """Set this device up. Said again for the same device, it changes the settings given.

    \b
    Example:
      storeagent init --store S017 --device till-1 --role manager \\
          --broker mqtt://bus.example.com:1883
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    for url in brokers:
        Address.parse(url)
    settings = parse_settings({"store": store, "device": device})
    settings = replace(
        settings,
        roles=parse_settings({"store": store, "device": device, "roles": list(roles)}).roles,
        brokers=tuple(brokers) or settings.brokers,
        root=root or settings.root,
        hook=HookSettings(hook) if hook else None,
    )
    path = home / SETTINGS_NAME
    written: dict[str, Any] = as_toml(settings)
    changed = path.exists()
    if changed:
        written = _merged(home, read_settings(path), settings, given=written)
    parse_settings(written)
    home = make_home(home)
    # The database first: settings without one would look like a device that lost its disk.
    open_agent_database(database_path(home), create=True).close()
    write_settings(home / SETTINGS_NAME, written)
    narrate(
        f"{settings.identity} is {'changed' if changed else 'set up'} in {home}\n"
        f"start it with: storeagent run --home {home}"
    )


def _merged(
    home: Path, old: dict[str, Any], settings: AgentSettings, *, given: dict[str, Any]
) -> dict[str, Any]:
    """The settings there are, with what was given now in their place."""
    there = parse_settings(old)
    if there.identity != settings.identity:
        raise SettingsError(
            f"{home} is the home of {there.identity}, not of {settings.identity}",
            hint="name another place with --home, or move that folder away",
        )
    context = click.get_current_context()
    merged = dict(old)
    for name in ("roles", "brokers"):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            merged[name] = given[name]
    for table in ("hook", "link"):
        if table in given:
            merged[table] = {**old.get(table, {}), **given[table]}
    return merged
