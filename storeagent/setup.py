"""Making a device's home, and changing what it was set up to be.

Owns what a home must have before anything runs in it, and how given settings join those that are
there. Must not know commands, links or keys.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from buskit.homes import make_home, read_settings, write_settings
from buskit.link_settings import Address
from buswire.topics import Identity
from storeagent.database import database_path, open_agent_database
from storeagent.limits import SETTINGS_NAME
from storeagent.settings import HookSettings, SettingsError, as_toml, parse_settings


def planned_settings(
    home: Path,
    identity: Identity,
    *,
    roles: Sequence[str] | None = None,
    brokers: Sequence[str] | None = None,
    root: str | None = None,
    hook: str | None = None,
    language: str | None = None,
) -> dict[str, Any]:
    """The settings that a home would have with these; what is None stays as it is.

    Nothing is written.

    Raises:
        SettingsError: One of them cannot be, or the home is that of another device.
        LinkSettingsError: An address cannot be.
        WireError: A name cannot stand in a topic.
    """
    for url in brokers or ():
        Address.parse(url)
    named: dict[str, Any] = {"store": identity.store, "device": identity.device}
    if roles is not None:
        named["roles"] = list(roles)
    if language is not None:
        named["language"] = language
    settings = parse_settings(named)
    given = as_toml(
        replace(
            settings,
            brokers=tuple(brokers or settings.brokers),
            root=root or settings.root,
            hook=HookSettings(hook) if hook else None,
        )
    )
    path = home / SETTINGS_NAME
    if path.exists():
        old = read_settings(path)
        there = parse_settings(old)
        if there.identity != settings.identity:
            raise SettingsError(
                f"{home} is the home of {there.identity}, not of {settings.identity}",
                hint="name another place with --home, or move that folder away",
            )
        given = _merged(
            old,
            given,
            language=language is not None,
            roles=roles is not None,
            brokers=bool(brokers),
        )
        if root is not None:
            given["link"] = {**given.get("link", {}), "root": root}
    parse_settings(given)
    return given


def make_device_home(home: Path) -> Path:
    """Make the folder and the database, where they are not there yet; idempotent.

    Owed next: the settings. They come last, because settings without a database would look like a
    device that lost its disk.

    Returns:
        The absolute path.

    Raises:
        HomeError: The folder cannot be made.
        DatabaseError: The database cannot be made, or the one that is there cannot be opened.
    """
    home = make_home(home)
    open_agent_database(database_path(home), create=True).close()
    return home


def save_settings(home: Path, settings: dict[str, Any]) -> None:
    """Write down what `planned_settings` gave.

    Raises:
        HomeError: They cannot be written.
    """
    write_settings(home / SETTINGS_NAME, settings)


def _merged(
    old: dict[str, Any], given: dict[str, Any], *, roles: bool, brokers: bool, language: bool
) -> dict[str, Any]:
    merged = dict(old)
    for name, wanted in (("roles", roles), ("brokers", brokers), ("language", language)):
        if wanted and name in given:
            merged[name] = given[name]
    for table in ("hook", "link"):
        if table in given:
            merged[table] = {**old.get(table, {}), **given[table]}
    return merged
