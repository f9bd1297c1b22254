"""Homes: the folder in which HQ or a device keeps its database and its settings.

Owns where a home is, who may look into it, and settings files in TOML. Must not know which settings
there are. Settings are read by `tomllib` and written by the few lines here: strings, numbers,
truth values, lists and tables are all that settings need.
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buskit.errors import KitError
from buskit.files import make_folder, write_atomically
from buswire.phrases import phrase

__all__ = [
    "HomeError",
    "default_home",
    "make_home",
    "read_settings",
    "write_atomically",
    "write_settings",
]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class HomeError(KitError):
    """A home or its settings cannot be made, read or understood."""


def default_home(name: str, env: Mapping[str, str] | None = None) -> Path:
    """Return where a home is when nobody names one.

    Args:
        name: "hq" or "agent".
        env: The environment; `STOREBUS_HQ_HOME` or `STOREBUS_AGENT_HOME` in it decides, if set.
    """
    named = (os.environ if env is None else env).get(f"STOREBUS_{name.upper()}_HOME")
    if named:
        return Path(named).expanduser()
    import platformdirs  # noqa: PLC0415 - only who did not name a home pays for it

    return platformdirs.user_data_path("storebus", appauthor=False) / name


def make_home(path: Path) -> Path:
    """Make the folder of a home, with all above it, for its owner's eyes only; idempotent.

    It is durable when this returns.

    Returns:
        The absolute path.

    Raises:
        HomeError: It cannot be made, or something else has the name.
    """
    try:
        make_folder(path)
    except OSError as error:
        raise HomeError(
            f"{path} cannot be made: {error.strerror or error}", hint="name another place"
        ) from error
    return path.absolute()


def read_settings(path: Path, *, hint_create: str | None = None) -> dict[str, Any]:
    """Read a settings file.

    Args:
        path: The file.
        hint_create: The command that makes one, for when it is missing.

    Raises:
        HomeError: It is missing, unreadable, or not TOML; the message names the line.
    """
    import tomllib  # noqa: PLC0415 - costs 10 ms, and not every command reads settings

    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise HomeError(
            phrase("there are no settings at {path}", path=path), hint=hint_create
        ) from None
    except OSError as error:
        raise HomeError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise HomeError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise HomeError(f"{path} is not valid TOML: {error}", hint=f"correct {path}") from error


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write a settings file anew: durable, and complete or not at all. Comments are not kept.

    Args:
        path: The file; readable by its owner only.
        settings: Values are str, int, float, bool, lists, or tables of all these.

    Raises:
        TypeError: A value of another type.
        HomeError: It cannot be written.
    """
    text = "\n".join(_lines(settings)).lstrip("\n")
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise HomeError(f"{path} cannot be written: {error.strerror or error}") from error


def _lines(table: Mapping[str, Any], above: str = "") -> list[str]:
    """A table's values, and then the tables in it, each below a line with its whole name."""
    lines = [
        f"{_key(key)} = {_value(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping)
    ]
    for key, value in table.items():
        if isinstance(value, Mapping):
            name = above + _key(key)
            lines += ["", f"[{name}]", *_lines(value, f"{name}.")]
    return lines


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(value)
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + " }"
    raise TypeError(f"settings cannot hold a {type(value).__name__}")


def _string(text: str) -> str:
    """Return a TOML basic string: control characters have to be escaped, all else may stay."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'
