"""The access file as it lies on the disk: read at the start, looked at again twice a second.

Owns reading, noticing a change and keeping to the last good content. What follows from the content
is `broker.access`, what becomes of clients is the engine's.

Invariants: a file is taken whole or not at all; what is wrong with one is said once for each
content, and the rules in force stay; nothing long happens on the event loop. Nor in one piece
beside it: decoding holds the interpreter for as long as one call takes, so devices are decoded one
by one, and only those whose text is another than before.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from broker.access import AccessFileAuthenticator, ContractPolicy, changed_names, check
from broker.errors import AccessFileError
from buswire.access import AccessFile, DeviceAccess, decode_access
from buswire.errors import WireError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""How often the file is looked at: a revoked device is to be out within two seconds."""

_MAX_BYTES = 256 * 1024 * 1024
_HINT = "the hub writes it: 'hq init' sets head office up, 'hq hub' or 'hq up' runs the hub"


@dataclass(frozen=True, slots=True)
class Rules:
    """What follows from one content of the file.

    Attributes:
        access: The content.
        authenticator: Who may connect.
        policy: What they may do.
        texts: Each device's entry as it stands in the file.
    """

    access: AccessFile
    authenticator: AccessFileAuthenticator
    policy: ContractPolicy
    texts: dict[str, bytes]


Change = Callable[[Rules, frozenset[str] | None], Awaitable[None]]
"""Brings new rules into force, for these names, or for everybody (None)."""

# What tells one content from another without reading it: the hub renames a new file into its place.
_Mark = tuple[int, int, int, int]


class AccessFileKeeper:
    """Follows one access file; `rules` is what was last taken from it."""

    def __init__(self, path: Path) -> None:
        """Read the file for the first time.

        Raises:
            AccessFileError: It is not there or cannot be right.
        """
        self._path = path
        self._mark = self._look()
        try:
            self.rules, _ = _take(_read(path), None)
        except AccessFileError as error:
            raise AccessFileError(f"{path}: {error}", hint=error.hint) from error
        self._refused = b""

    async def follow(self, change: Change) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._follow_once(change)
            except AccessFileError as error:
                self._complain(str(error).encode(), error)
            except Exception:  # a defect must not end the watch: revocations depend on it
                log.exception("a defect while following %s", self._path)

    async def _follow_once(self, change: Change) -> None:
        mark = self._look()
        if mark == self._mark:
            return
        content = await asyncio.to_thread(_read, self._path)
        try:
            rules, changed = await asyncio.to_thread(_take, content, self.rules)
        except AccessFileError as error:
            self._mark = mark
            self._complain(hashlib.sha256(content).digest(), error)
            return
        if changed is not None:
            rules.policy.adopt(self.rules.policy, changed)
        await change(rules, changed)
        self.rules = rules
        self._mark = mark
        self._refused = b""
        log.info(
            "took version %d of %s: %d devices, %s changed",
            rules.access.version,
            self._path,
            len(rules.access.devices),
            "all" if changed is None else len(changed),
        )

    def _look(self) -> _Mark:
        try:
            found = os.stat(self._path)  # noqa: PTH116  # twice a second for ever
        except OSError as error:
            raise AccessFileError(
                f"the access file {self._path} cannot be read: {error.strerror or error}",
                hint=_HINT,
            ) from error
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _complain(self, what: bytes, error: AccessFileError) -> None:
        if what != self._refused:
            self._refused = what
            log.error(
                "%s is not taken, version %d stays in force: %s",
                self._path,
                self.rules.access.version,
                error,
            )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise AccessFileError(
            f"the access file {path} cannot be read: {error.strerror or error}", hint=_HINT
        ) from error
    if len(content) > _MAX_BYTES:
        raise AccessFileError(f"it is larger than {_MAX_BYTES} bytes", hint=_HINT)
    return content


_Texts = dict[str, msgspec.Raw]


def _take(content: bytes, before: Rules | None) -> tuple[Rules, frozenset[str] | None]:
    """Make rules of a content, and say who is concerned."""
    try:
        parts = msgspec.json.decode(content, type=_Texts)
        listed = msgspec.json.decode(parts.pop("devices", b"{}"), type=_Texts)
        access = decode_access(msgspec.json.encode(parts))
        texts = {name: bytes(text) for name, text in listed.items()}
        known = before.texts if before is not None else {}
        fresh = {
            name: msgspec.json.decode(text, type=DeviceAccess)
            for name, text in texts.items()
            if known.get(name) != text
        }
    except WireError as error:
        raise AccessFileError(str(error), hint=error.hint) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AccessFileError(f"not an access file: {error}", hint=_HINT) from error
    check(msgspec.structs.replace(access, devices=fresh))
    devices = fresh
    if before is not None:
        earlier = before.access.devices
        devices = {name: fresh[name] if name in fresh else earlier[name] for name in texts}
    access = msgspec.structs.replace(access, devices=devices)
    changed = None if before is None else changed_names(before.access, access)
    authenticator = AccessFileAuthenticator(access)
    return Rules(access, authenticator, ContractPolicy(access), texts), changed
