"""How a device is: gathered from its database and from what the daemon last said of itself.

Owns the file in which the daemon says what only it knows, and the sentences about what is wrong.
Works without the daemon, and without a database that can be written.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from buskit.files import write_atomically
from buskit.locks import FileLock
from buskit.secrets import SecretError
from buswire.messages import LOGS
from buswire.phrases import phrase, phrases
from buswire.signing import PublicKey, fingerprint
from buswire.trust import Trusted
from storeagent.database import database_path, open_agent_database
from storeagent.hearing import further
from storeagent.inbox import Inbox
from storeagent.keys import KeyFileError, read_key
from storeagent.memory import Memory
from storeagent.mending import mended
from storeagent.outbox import Outbox
from storeagent.settings import LOCK_NAME, STATUS_NAME, AgentSettings, read_agent_settings
from storeagent.silence import not_heard_words
from storeagent.work import zone_of

_NOT_LET_IN = ("not authorized", "bad user name or password")
"""How brokers refuse (MQTT 3.1.1, table 3.1: return codes 4 and 5)."""


@dataclass(slots=True)
class DaemonStatus:
    """What the daemon says of itself."""

    pid: int = 0
    started_at: float = 0.0
    connected: bool = False
    address: str = ""
    failure: str = ""
    """Why it is not connected, as far as it knows."""
    last_welcome_at: float | None = None
    silent: bool = False
    """Whether head office has not answered for longer than the settings say."""
    problem: str = ""
    """Why it cannot work, such as a full disk."""
    refused: tuple[str, ...] = ()
    """Topics that the broker does not let it hear."""
    file: str = ""
    """Which database it has (`mending.file_id`)."""
    heads: dict[str, int] = field(default_factory=dict)
    """How far the logs of that database had come; a database that has less is an older one."""


def write_status(home: Path, status: DaemonStatus) -> None:
    """Say how the daemon is.

    Raises:
        OSError: It cannot be written.
    """
    write_atomically(home / STATUS_NAME, json.dumps(asdict(status)).encode(), durable=False)


def read_status(home: Path) -> DaemonStatus:
    """What the daemon last said; nothing is known where it never ran."""
    try:
        raw = json.loads((home / STATUS_NAME).read_bytes())
        return DaemonStatus(**{**raw, "refused": tuple(raw["refused"])})
    except (OSError, ValueError, TypeError, KeyError):
        return DaemonStatus()


def running_pid(home: Path) -> int | None:
    """The process of the daemon of this home, or None when none runs."""
    path = home / LOCK_NAME
    if not path.exists():
        return None
    lock = FileLock(path)
    try:
        if lock.try_acquire():
            return None
        return lock.holder() or 0
    except OSError:
        return None
    finally:
        lock.close()


@dataclass(frozen=True, slots=True)
class HqHeard:
    """Whether head office is heard."""

    silent: bool
    last_at: float | None
    """The latest answer in Unix seconds, by this machine's clock; None if there never was one."""
    running: bool
    """Whether a daemon runs, without which nothing is heard."""


def how_heard(home: Path, *, last_saved_at: float | None, now_at: float) -> HqHeard:
    """Whether head office is heard, as far as the daemon has said so.

    Args:
        home: The device's home.
        last_saved_at: What the database says of the latest welcome.
        now_at: The present by this machine's clock.
    """
    daemon = read_status(home)
    last_at = last_saved_at if daemon.last_welcome_at is None else daemon.last_welcome_at
    if running_pid(home) is not None:
        return HqHeard(daemon.silent, last_at, running=True)
    limit_seconds = read_agent_settings(home).silence_seconds
    recent = last_at is not None and abs(now_at - last_at) < limit_seconds
    return HqHeard(daemon.silent or not recent, last_at, running=False)


def gather(home: Path, *, now_at: float) -> dict[str, Any]:
    """Everything there is to say about a device, as `storeagent status --json` prints it.

    Raises:
        HomeError: There are no settings.
        DatabaseError: The database cannot be read.
    """
    settings = read_agent_settings(home)
    pid = running_pid(home)
    daemon = read_status(home)
    if pid is None:
        daemon.connected = False
        daemon.address = daemon.problem = daemon.failure = ""
    with open_agent_database(database_path(home)) as database:
        outbox, inbox = Outbox(database, settings.limits), Inbox(database)
        memory = Memory(database)
        damage = mended(home, memory)
        facts = memory.facts()
        heard = how_heard(home, last_saved_at=memory.welcome_at(), now_at=now_at)
        trusted = memory.trust()
        backlog = {}
        for log in LOGS:
            waits = outbox.backlog(log)
            backlog[log] = {
                "rows": waits.rows,
                "bytes": waits.size_bytes,
                "rows_limit": settings.limits.rows,
                "bytes_limit": settings.limits.size_bytes,
                "oldest_at": outbox.oldest_pending_at(log),
            }
        found: dict[str, Any] = {
            "at": now_at,
            "home": str(home.absolute()),
            "device": str(settings.identity),
            "roles": list(settings.roles),
            "brokers": list(settings.brokers),
            "store_name": facts.name,
            "region": facts.region,
            "timezone": facts.timezone,
            "daemon": {"running": pid is not None, **_shown(daemon), "pid": pid},
            "last_welcome_at": heard.last_at,
            "not_heard": heard.silent,
            **_keys(home, settings, trusted),
            "todo": inbox.todo_count(),
            "unsure": inbox.unsure_count(),
            "states": inbox.counts(),
            "backlog": backlog,
            "lost": [
                {"log": lost.log, "entries": lost.entries, "heard_at": lost.heard_at}
                for lost in memory.lost()
            ],
            "damage": None if damage is None else {**damage._asdict(), "words": damage.words()},
            "aside": inbox.aside_count(),
            "asides": [aside._asdict() for aside in inbox.asides(5)],
            "hook_failures": [failure._asdict() for failure in inbox.hook_failures()],
        }
    found["notices"] = list(_notices(found, settings.limits.least_free_bytes))
    return found


def _shown(daemon: DaemonStatus) -> dict[str, Any]:
    """What the daemon says, but for what it notes for the daemon after it."""
    shown = asdict(daemon)
    del shown["file"], shown["heads"]
    return shown


def _keys(home: Path, settings: AgentSettings, learned: Trusted | None) -> dict[str, str]:
    """The fingerprints of this device's key and of HQ's, or what is wrong with the key file."""
    found = {"key": "", "hq_key": "", "key_problem": ""}
    try:
        key = read_key(home, settings.identity, settings.root)
    except (KeyFileError, SecretError) as error:
        found["key_problem"] = error.args[0]
        if error.hint:
            found["key_problem"] = phrase("{cause} ({hint})", cause=error.args[0], hint=error.hint)
        return found
    found["key"] = fingerprint(key.signing_key.public)
    keys = further(key.trust, learned).keys
    if keys:
        found["hq_key"] = fingerprint(PublicKey.parse(keys[-1]))
    return found


def _notices(found: dict[str, Any], least_free_bytes: int) -> list[str]:
    """What a person should know, each in a sentence."""
    notices: list[str] = []
    daemon = found["daemon"]
    if found["key_problem"]:
        notices.append(found["key_problem"])
    if found["not_heard"]:
        zone = zone_of(found["timezone"])
        notices.append(not_heard_words(found["last_welcome_at"], now_at=found["at"], zone=zone))
    if not daemon["running"]:
        notices.append(
            phrase("the daemon is not running, so nothing is sent; start it: storeagent run")
        )
    if daemon["problem"]:
        notices.append(daemon["problem"])
    if daemon["running"] and not daemon["connected"] and daemon["failure"]:
        notices.append(phrase("no connection: {cause}", cause=daemon["failure"]))
        if any(word in daemon["failure"].lower() for word in _NOT_LET_IN):
            notices.append(
                phrase(
                    "the broker does not know this device by its password: head office may have "
                    "revoked it, or let it join elsewhere. To let it in again: hq device rotate "
                    "{device} there, then here: storeagent join BUNDLE",
                    device=found["device"],
                )
            )
    if daemon["refused"]:
        notices.append(phrase("the broker refuses: {topics}", topics=", ".join(daemon["refused"])))
    free_bytes = _free_bytes(found["home"])
    if free_bytes is not None and free_bytes < least_free_bytes:
        notices.append(
            phrase(
                "the disk is nearly full: {free:.0f} MB are free, new entries are refused",
                free=free_bytes / 1e6,
            )
        )
    for log, backlog in found["backlog"].items():
        share = max(
            backlog["rows"] / max(backlog["rows_limit"], 1),
            backlog["bytes"] / max(backlog["bytes_limit"], 1),
        )
        if share >= 1:
            notices.append(
                phrase("the outbox is full (log {log}): new entries are refused", log=log)
            )
        elif share > 0.8:
            notices.append(
                phrase("the outbox (log {log}) is {share:.0%} full", log=log, share=share)
            )
    notices += [
        phrase(
            "head office says that {n} entries of this device (log {log}) may have been lost with "
            "an earlier disk",
            n=lost["entries"],
            log=lost["log"],
        )
        for lost in found["lost"]
    ]
    if found["damage"]:
        notices.append(
            phrase(
                "{what}; take that file away when nobody needs it any more",
                what=found["damage"]["words"],
            )
        )
    if found["unsure"]:
        notices.append(
            phrases(
                "{n} piece of work is being asked about at head office",
                "{n} pieces of work are being asked about at head office",
                found["unsure"],
            )
        )
    if found["aside"]:
        notices.append(
            phrase(
                "{n} things from head office could not be used and are kept aside; the latest: "
                "{what}",
                n=found["aside"],
                what=found["asides"][0]["what"],
            )
        )
    if found["hook_failures"]:
        latest = found["hook_failures"][0]
        notices.append(
            phrase(
                "the hook failed for {n} arrivals; the latest: {error}",
                n=len(found["hook_failures"]),
                error=latest["error"],
            )
        )
    return notices


def _free_bytes(folder: str) -> int | None:
    import shutil  # noqa: PLC0415 - a few milliseconds that the daemon need not pay

    try:
        return shutil.disk_usage(os.fspath(folder)).free
    except OSError:
        return None
