"""What a device was set up to be: the settings file of its home, read and checked.

Owns the names and meanings of the settings, and where things are in a home. Must not know links,
databases or commands. Whoever needs the limits alone asks `limits`, which is cheaper.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from buswire.device import Timing
from buswire.errors import WireError
from buswire.names import identifier, new_identifier
from buswire.phrases import phrase
from buswire.topics import DEFAULT_ROOT, Identity, Topics
from storeagent.errors import AgentError
from storeagent.language import LANGUAGES, known_language
from storeagent.limits import SETTINGS_NAME, Limits

LOCK_NAME = "daemon.lock"
STATUS_NAME = "daemon.json"
DRAFT_NAME = "join.key"
"""What a device has drawn while it joins; see `join_home`."""
HINT_CREATE = phrase(
    "ask head office for a bundle (hq device add STORE DEVICE), then: storeagent join BUNDLE"
)

_HINT_GO_ON = phrase(
    "it had begun to join: say `storeagent join BUNDLE` again with the same bundle"
)

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"


class SettingsError(AgentError):
    """The settings say something that cannot be."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class HookSettings:
    """The command that runs when work arrives."""

    command: str | tuple[str, ...]
    """A text is run by the shell, a list is run as it is."""
    timeout_seconds: float = 30.0
    attempts: int = 5
    """How often one arrival is tried before it is set aside."""
    pause_seconds: float = 2.0
    """Before the second attempt; each further pause is twice as long."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """All settings of one device."""

    store: str
    device: str
    roles: tuple[str, ...] = ()
    brokers: tuple[str, ...] = (DEFAULT_BROKER,)
    root: str = DEFAULT_ROOT
    username: str | None = None
    """Where another broker engine wants other names than ours; the identity if not set."""
    password: str | None = field(default=None, repr=False)
    """Likewise; the token of the key file if not set."""
    ca_file: str | None = None
    """The private CA of the broker's certificate, below the home; `ca.pem` there if not set."""
    qos: int = 0
    keepalive_seconds: int = 30
    reconnect_most_seconds: float = 60.0
    hook: HookSettings | None = None
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=Timing)
    language: str = ""
    """Which language staff read, such as zh or en; that of the locale where it is not set."""
    silence_seconds: float = 900.0
    """After so long without a welcome, staff are told that head office is not heard."""

    @property
    def identity(self) -> Identity:
        """Which device this is."""
        return Identity(self.store, self.device)

    @property
    def topics(self) -> Topics:
        """How its topics are spelt."""
        return Topics(self.root)


def hint_to_join(home: Path) -> str:
    """What to do in a home whose device has not joined yet."""
    return _HINT_GO_ON if (home / DRAFT_NAME).exists() else HINT_CREATE


def read_agent_settings(home: Path) -> AgentSettings:
    """Read and check the settings of a home.

    Raises:
        HomeError: There are none, or the file is not TOML.
        SettingsError: A setting is unknown or cannot be.
    """
    from buskit.homes import read_settings  # noqa: PLC0415 - a script with an alert does not need it

    path = home / SETTINGS_NAME
    try:
        return parse_settings(read_settings(path, hint_create=hint_to_join(home)))
    except (WireError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}", hint=error.hint) from error


def parse_settings(raw: Mapping[str, Any]) -> AgentSettings:
    """Check settings as they stand in the file.

    Raises:
        SettingsError: A setting is missing, unknown or cannot be.
        WireError: A name that cannot stand in a topic.
    """
    tables = {"link", "hook", "limits", "timing"}
    _refuse_unknown(raw, {"store", "device", "roles", "brokers", "language", *tables}, "")
    link = _table(raw, "link")
    known = {"root", "username", "password", "ca_file", "qos", "keepalive_seconds"}
    _refuse_unknown(link, known | {"reconnect_most_seconds"}, "link.")
    timing = dict(_table(raw, "timing"))
    silence = {"silence_seconds": timing.pop("silence_seconds", 900.0)}
    for name in ("store", "device"):
        if not isinstance(raw.get(name), str):
            raise SettingsError(f"{name} must be set to text", hint=HINT_CREATE)
    settings = AgentSettings(
        store=new_identifier(raw["store"], "store"),
        device=identifier(raw["device"], "device"),
        roles=tuple(new_identifier(role, "role") for role in _texts(raw, "roles", ())),
        brokers=tuple(_texts(raw, "brokers", (DEFAULT_BROKER,))),
        root=Topics(_typed(link, "root", str, DEFAULT_ROOT, "link.")).root,
        username=_typed(link, "username", str, None, "link."),
        password=_typed(link, "password", str, None, "link."),
        ca_file=_typed(link, "ca_file", str, None, "link."),
        qos=_typed(link, "qos", int, 0, "link."),
        keepalive_seconds=_typed(link, "keepalive_seconds", int, 30, "link."),
        reconnect_most_seconds=_typed(link, "reconnect_most_seconds", float, 60.0, "link."),
        hook=_hook(_table(raw, "hook")),
        limits=_numbers(Limits, _table(raw, "limits"), "limits."),
        timing=_numbers(Timing, timing, "timing."),
        language=_language(raw),
        silence_seconds=_typed(silence, "silence_seconds", float, 900.0, "timing."),
    )
    if settings.silence_seconds <= 0:
        raise SettingsError("timing.silence_seconds must be more than nothing")
    if settings.qos not in {0, 1}:
        raise SettingsError(f"link.qos is {settings.qos}", hint="0 or 1")
    if not settings.brokers:
        raise SettingsError("brokers is empty", hint=f'such as brokers = ["{DEFAULT_BROKER}"]')
    return settings


def as_toml(settings: AgentSettings) -> dict[str, Any]:
    """The settings that `storeagent init` writes down; what is left out has its default."""
    written: dict[str, Any] = {
        "store": settings.store,
        "device": settings.device,
        "roles": list(settings.roles),
        "brokers": list(settings.brokers),
    }
    if settings.language:
        written["language"] = settings.language
    if settings.root != DEFAULT_ROOT:
        written["link"] = {"root": settings.root}
    if settings.hook is not None:
        command = settings.hook.command
        written["hook"] = {"command": command if isinstance(command, str) else list(command)}
    return written


def _language(raw: Mapping[str, Any]) -> str:
    language: str = _typed(raw, "language", str, "", "")
    if language and known_language(language) is None:
        raise SettingsError(f"language is {language!r}", hint=f"known are {', '.join(LANGUAGES)}")
    return language


def _hook(table: Mapping[str, Any]) -> HookSettings | None:
    if not table:
        return None
    known = {"command", "timeout_seconds", "attempts", "pause_seconds"}
    _refuse_unknown(table, known, "hook.")
    command = table.get("command")
    if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        command = tuple(command)
    elif not isinstance(command, str) or not command.strip():
        raise SettingsError("hook.command must be text or a list of texts")
    hook = HookSettings(
        command=command,
        timeout_seconds=_typed(table, "timeout_seconds", float, 30.0, "hook."),
        attempts=_typed(table, "attempts", int, 5, "hook."),
        pause_seconds=_typed(table, "pause_seconds", float, 2.0, "hook."),
    )
    if hook.timeout_seconds <= 0 or hook.attempts < 1 or hook.pause_seconds < 0:
        raise SettingsError("hook: the times and the attempts must be positive")
    return hook


def _numbers(kind: Any, table: Mapping[str, Any], prefix: str) -> Any:
    defaults = kind()
    names = [one.name for one in fields(kind)]
    _refuse_unknown(table, set(names), prefix)
    values = {}
    for name, value in table.items():
        wanted = float if isinstance(getattr(defaults, name), float) else int
        values[name] = _typed(table, name, wanted, value, prefix)
        if values[name] < 0:
            raise SettingsError(f"{prefix}{name} is {value}", hint="it cannot be negative")
    return kind(**values)


def _typed(table: Mapping[str, Any], name: str, kind: type, default: Any, prefix: str) -> Any:
    value = table.get(name, default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if value is default or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    words = {str: "text", int: "a whole number", float: "a number"}
    raise SettingsError(f"{prefix}{name} must be {words[kind]}, not {value!r}")


def _texts(table: Mapping[str, Any], name: str, default: tuple[str, ...]) -> list[str]:
    value = table.get(name, list(default))
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise SettingsError(f"{name} must be a list of texts")
    return value


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name, {})
    if not isinstance(value, dict):
        raise SettingsError(f"{name} must be a table", hint=f"write it below a line [{name}]")
    return value


def _refuse_unknown(table: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for name in table:
        if name not in known:
            import difflib  # noqa: PLC0415 - only a slip pays for it

            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(known))
            raise SettingsError(f"there is no setting {prefix}{name}", hint=hint)
