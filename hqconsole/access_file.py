"""The access file as HQ writes it: rendered from the ledger, put in place whole.

Owns when it is due. What is in it is the ledger's (`ledger.access`), its format the contract's
(`buswire.access`), what a broker makes of it the broker's.

It is due when the number changed that every change of the roster, of a device, a bundle or a tool
raises, when a bundle in it has expired, and when the file is not the one that was written: somebody
removed it, or put an older copy there, by which a broker would let in who is revoked. It is read in
one short transaction and written outside of any: commands and devices do not wait for it.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from buskit.database import Database, DatabaseError
from buskit.files import write_atomically
from buswire.access import (
    HUB_PREFIX,
    JOIN_PREFIX,
    TOOL_PREFIX,
    AccessFile,
    DeviceAccess,
    HubAccess,
    JoinAccess,
    ToolAccess,
    encode_access,
)
from hqconsole.errors import HqError
from hqconsole.ledger import access

FILE_NAME = "access.json"
_RETRY_SECONDS = 1.0
_PACE_MOST_SECONDS = 1.0


class AccessFileError(HqError):
    """The access file cannot be written."""


class AccessFileWriter:
    """Keeps the file of one home up to date."""

    def __init__(self, home: Path, root: str, *, mutual_tls: bool = False) -> None:
        """Begin with nothing written.

        Args:
            home: HQ's home.
            root: What all topics begin with.
            mutual_tls: Whether devices and hubs must show a certificate.
        """
        self.path = home / FILE_NAME
        self._root = root
        self._mutual_tls = mutual_tls
        self._version: int | None = None
        self._until_at = 0.0
        self._written: object = None

    def refresh(self, ledger: Database, at: float) -> bool:
        """Write the file if it is due; whether it was.

        Raises:
            AccessFileError: It cannot be written; it is due as before.
            DatabaseError: The ledger cannot be read.
        """
        version = access.version(ledger.connection)
        if version == self._version and at < self._until_at and self._stamp() == self._written:
            return False
        rendered, until_at = render(ledger, at, root=self._root, mutual_tls=self._mutual_tls)
        try:
            # Devices of other users' brokers on this machine read it: it has hashes, no secrets.
            write_atomically(self.path, encode_access(rendered), mode=0o640)
        except OSError as error:
            raise AccessFileError(
                f"{self.path} cannot be written: {error.strerror or error}",
                hint="until it can, the broker goes by the old one",
            ) from error
        self._version, self._until_at = rendered.version, until_at
        self._written = self._stamp()
        return True

    def _stamp(self) -> object:
        """Something that differs once somebody else has put another file there."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


class AccessFileKeeper:
    """Keeps it up to date for a hub: tries again by itself, and takes a share of its time only."""

    def __init__(
        self,
        writer: AccessFileWriter,
        *,
        say: Callable[[str], None],
        monotonic: Callable[[], float],
    ) -> None:
        """Begin with a file that may be out of date."""
        self._writer = writer
        self._say = say
        self._monotonic = monotonic
        self._next_at = 0.0
        self._trouble = ""

    def attend(self, ledger: Database, clock_at: Callable[[float], float]) -> None:
        """Bring the file up to date; a failure is told once and tried again.

        Args:
            ledger: Where its content is.
            clock_at: Unix time as HQ goes by it, of a monotonic time.
        """
        now = self._monotonic()
        if now < self._next_at:
            return
        try:
            if self._writer.refresh(ledger, clock_at(now)):
                # While a whole chain joins it is due all the time; a fifth of the time will do.
                took_seconds = self._monotonic() - now
                self._next_at = now + min(_PACE_MOST_SECONDS, 5 * took_seconds)
        except (AccessFileError, DatabaseError, sqlite3.Error) as error:
            self._next_at = now + _RETRY_SECONDS
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._say(str(error))
        else:
            self._trouble = ""


def render(
    ledger: Database, at: float, *, root: str, mutual_tls: bool = False
) -> tuple[AccessFile, float]:
    """The access file as of now, and until when it holds if nothing changes."""
    with ledger.read() as connection:
        version = access.version(connection)
        hub_hash = access.hub_token_hash(connection)
        bundles = access.bundles(connection, at=at)
        rendered = AccessFile(
            version=version,
            root=root,
            mutual_tls=mutual_tls,
            hubs={
                HUB_PREFIX + access.hub_id(connection): HubAccess(
                    tokens=[hub_hash] if hub_hash else []
                )
            },
            devices={
                f"{one.store}.{one.name}": DeviceAccess(
                    tokens=[one.token_hash], region=one.region, roles=list(one.roles)
                )
                for one in access.devices(connection)
            },
            tools={
                TOOL_PREFIX + one.name: ToolAccess(tokens=[one.token_hash], reads=one.reads)
                for one in access.tools(connection)
            },
            joins={JOIN_PREFIX + one.id: JoinAccess(tokens=[one.token_hash]) for one in bundles},
        )
    until = [one.until_at for one in bundles if one.until_at is not None]
    return rendered, min(until, default=float("inf"))
