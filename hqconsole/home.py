"""HQ's home: the folder with the ledger and the settings, and whether a hub is at work in it.

Owns the names and meanings of HQ's settings and where things are in the home. Must not know links,
tables or commands.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from buskit.locks import FileLock
from buswire.errors import WireError
from buswire.topics import DEFAULT_ROOT, Topics
from hqconsole.approval import ApprovalPolicy
from hqconsole.errors import HqError
from hqconsole.timing import DeskTiming, HubLimits

if TYPE_CHECKING:
    from hqconsole.kinds import Kind

SETTINGS_NAME = "hq.toml"
HUB_LOCK_NAME = "hub.lock"
"""Held by the hub as long as it runs; `hq restore` holds it so that none starts meanwhile."""
SUPERVISOR_LOCK_NAME = "up.lock"
BROKER_READY_NAME = "broker.json"
BROKERS_VARIABLE = "STOREBUS_HQ_BROKERS"
HINT_CREATE = "hq init"

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
DEFAULT_TIMEZONE = "UTC"
ACTIVATIONS = ("automatic", "confirm")


Numbers = TypeVar("Numbers", DeskTiming, HubLimits)


class SettingsError(HqError):
    """The settings say something that cannot be."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class HqSettings:
    """All settings of a head office.

    Attributes:
        name: What head office is called.
        timezone: IANA name: in which "Friday 18:00" on this command line is read.
        brokers: URLs of the brokers, any of which will do.
        root: What all topics begin with.
        username: Towards a broker that does not go by the access file; else the hub's own name.
        password: Likewise; else the hub's own token.
        ca_file: The CA that signed the broker's certificate; else the private one of `hq tls init`
            if there is one, or those of the system.
        qos: Of what the hub publishes and subscribes, 0 or 1; see docs/decisions/0004-wire-qos.md.
        keepalive_seconds: As `buskit.link_settings` has it.
        reconnect_most_seconds: The longest pause between attempts to reach a broker.
        confirms: Whether an operator compares the fingerprint of each device that joins.
        timing: Waits and bounds of the protocol.
        limits: What one device may take of HQ.
        kinds: Those that the file defines; `hqconsole.kinds.of` knows the others, too.
        approval: Which directives need a second pair of eyes.
    """

    name: str = "HQ"
    timezone: str = DEFAULT_TIMEZONE
    brokers: tuple[str, ...] = (DEFAULT_BROKER,)
    root: str = DEFAULT_ROOT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    qos: int = 0
    keepalive_seconds: int = 30
    reconnect_most_seconds: float = 10.0
    ca_file: str | None = None
    confirms: bool = False
    timing: DeskTiming = field(default_factory=DeskTiming)
    limits: HubLimits = field(default_factory=HubLimits)
    kinds: "tuple[Kind, ...]" = ()
    approval: ApprovalPolicy = field(default_factory=ApprovalPolicy)

    @property
    def topics(self) -> Topics:
        """How the topics are spelt."""
        return Topics(self.root)


def read_hq_settings(home: Path) -> HqSettings:
    """Read and check the settings of a home.

    Where `$STOREBUS_HQ_BROKERS` is set, its addresses (apart by spaces) stand in for those of the
    file: `hq up` tells its hub so where its broker really listens.

    Raises:
        HomeError: There are none, or the file is not TOML.
        SettingsError: A setting is unknown or cannot be.
    """
    from buskit.homes import read_settings  # noqa: PLC0415 - only who reads settings pays for TOML

    path = home / SETTINGS_NAME
    raw = read_settings(path, hint_create=HINT_CREATE)
    if there := os.environ.get(BROKERS_VARIABLE, "").split():
        raw["brokers"] = there
    try:
        return parse_settings(raw)
    except (WireError, HqError) as error:
        raise SettingsError(f"{path}: {error}", hint=error.hint or f"correct {path}") from error


def parse_settings(raw: Mapping[str, Any]) -> HqSettings:
    """Check settings as they stand in the file.

    Raises:
        SettingsError: A setting is unknown or cannot be.
        HqError: Likewise, of a kind, or of approval.
        WireError: The root cannot begin a topic.
    """
    tables = ("link", "enrolment", "timing", "limits", "kinds", "approval")
    link_names = ("root", "username", "password", "qos", "keepalive_seconds", "ca_file")
    link = _table(raw, "link")
    enrolment = _table(raw, "enrolment")
    _refuse_unknown(raw, ("name", "timezone", "brokers", *tables), "")
    _refuse_unknown(link, (*link_names, "reconnect_most_seconds"), "link.")
    _refuse_unknown(enrolment, ("activation",), "enrolment.")
    activation = _typed(enrolment, "activation", str, ACTIVATIONS[0], "enrolment.")
    if activation not in ACTIVATIONS:
        raise SettingsError(
            f"enrolment.activation is {activation!r}", hint=f"one of {', '.join(ACTIVATIONS)}"
        )
    brokers = raw.get("brokers", [DEFAULT_BROKER])
    if not isinstance(brokers, list) or not all(isinstance(url, str) for url in brokers):
        raise SettingsError("brokers must be a list of texts")
    settings = HqSettings(
        name=_typed(raw, "name", str, "HQ", ""),
        timezone=_typed(raw, "timezone", str, DEFAULT_TIMEZONE, ""),
        brokers=tuple(brokers),
        root=Topics(_typed(link, "root", str, DEFAULT_ROOT, "link.")).root,
        username=_typed(link, "username", str, None, "link."),
        password=_typed(link, "password", str, None, "link."),
        qos=_typed(link, "qos", int, 0, "link."),
        keepalive_seconds=_typed(link, "keepalive_seconds", int, 30, "link."),
        reconnect_most_seconds=_typed(link, "reconnect_most_seconds", float, 10.0, "link."),
        ca_file=_typed(link, "ca_file", str, None, "link."),
        confirms=activation == "confirm",
        timing=_numbers(_table(raw, "timing"), DeskTiming(), "timing."),
        limits=_numbers(_table(raw, "limits"), HubLimits(), "limits."),
    )
    if "kinds" in raw or "approval" in raw:
        from hqconsole import kinds  # noqa: PLC0415 - few have any

        settings = replace(
            settings,
            kinds=kinds.parse_kinds(_table(raw, "kinds")),
            approval=kinds.parse_approval(_table(raw, "approval")),
        )
    if not settings.brokers:
        raise SettingsError("brokers is empty", hint=f'such as brokers = ["{DEFAULT_BROKER}"]')
    if settings.qos not in {0, 1}:
        raise SettingsError(f"link.qos is {settings.qos}", hint="0 or 1")
    if settings.reconnect_most_seconds <= 0 or not 1 <= settings.keepalive_seconds <= 65535:
        raise SettingsError("link: the times must be positive")
    return settings


def as_toml(settings: HqSettings) -> dict[str, Any]:
    """The settings that `hq init` writes down; what is left out has its default."""
    written: dict[str, Any] = {
        "name": settings.name,
        "timezone": settings.timezone,
        "brokers": list(settings.brokers),
    }
    if settings.root != DEFAULT_ROOT:
        written["link"] = {"root": settings.root}
    return written


@dataclass(frozen=True, slots=True)
class HubState:
    """Whether a hub is at work in a home, and which process it is if that is known."""

    running: bool
    pid: int | None = None


def hub_state(home: Path) -> HubState:
    """Look whether a hub runs; holds its lock for a moment if none does."""
    path = home / HUB_LOCK_NAME
    if not path.exists():
        return HubState(running=False)
    lock = FileLock(path)
    try:
        if lock.try_acquire():
            lock.release()
            return HubState(running=False)
        return HubState(running=True, pid=lock.holder())
    except OSError:  # nobody with these rights could run one either
        return HubState(running=False)
    finally:
        lock.close()


def new_id() -> str:
    """A random 128-bit id, as records and directives have it."""
    return os.urandom(16).hex()


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = raw.get(name, {})
    if not isinstance(table, Mapping):
        raise SettingsError(f"{name} must be a table", hint=f"write it below a line [{name}]")
    return table


def _numbers(table: Mapping[str, Any], defaults: Numbers, prefix: str) -> Numbers:
    """A table of positive numbers; what it leaves out has its default."""
    _refuse_unknown(table, [one.name for one in fields(defaults)], prefix)
    values = {}
    for name, value in table.items():
        values[name] = _typed(table, name, type(getattr(defaults, name)), None, prefix)
        if not values[name] > 0:
            raise SettingsError(f"{prefix}{name} is {value}", hint="it must be positive")
    return replace(defaults, **values)


def _typed(table: Mapping[str, Any], name: str, kind: type, default: Any, prefix: str) -> Any:
    value = table.get(name, default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if value is default or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    words = {str: "text", int: "a whole number", float: "a number"}
    raise SettingsError(f"{prefix}{name} must be {words[kind]}, not {value!r}")


def _refuse_unknown(table: Mapping[str, Any], known: Sequence[str], prefix: str) -> None:
    for name in table:
        if name not in known:
            import difflib  # noqa: PLC0415 - only a slip pays for it

            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(known))
            raise SettingsError(f"there is no setting {prefix}{name}", hint=hint)
