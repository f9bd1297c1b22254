"""What the parts of a verification share: who is who, what was counted, and how a misfit is told.

Owns the report and the words of a problem. The checks are `verification` and `verification_logs`.
"""

import sqlite3
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from buswire import signing
from buswire.errors import WireError
from buswire.signing import PublicKey
from buswire.topics import Identity

Advance = Callable[[int], None]

ARRIVAL = "SELECT message_no FROM arrival WHERE device_no = ? AND id = ?"
_STEP = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that does not fit: a word for programs, where it is, what it means."""

    kind: str
    what: str
    meaning: str


@dataclass(slots=True)
class Report:
    """What was looked at, and the first thing that did not fit.

    Attributes:
        problem: None where everything fits.
        audit_head: The hash of the latest row of the audit: who keeps it elsewhere notices when
            the audit is written anew.
        counts: How much of each kind was looked at, up to the problem if there is one.
    """

    problem: Problem | None = None
    audit_head: str = ""
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                *(
                    "audit_rows",
                    "hq_keys",
                    "devices",
                    "device_keys",
                    "unproved",
                    "messages",
                    "records",
                ),
                *("unsigned", "directives", "cancels", "unsealed", "stolen_seals", "adopted"),
                *("deliveries", "archived"),
            ),
            0,
        )
    )

    def as_row(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {
            "ok": self.problem is None,
            "problem": None if self.problem is None else asdict(self.problem),
            "audit_head": self.audit_head,
            **self.counts,
        }


class MisfitError(Exception):
    """Carries the problem out of whatever depth it was found in."""

    def __init__(self, kind: str, what: str, meaning: str) -> None:
        super().__init__(what)
        self.problem = Problem(kind, what, meaning)


class DeviceKey(NamedTuple):
    """A key, whose it is, and whether HQ gave its signed word for that."""

    device_no: int
    key: PublicKey
    proved: bool


class Context:
    """One walk through the ledger: what it reads from, what it knows, what it has counted."""

    def __init__(self, connection: sqlite3.Connection, report: Report, advance: Advance) -> None:
        """Take a connection in a read transaction, and a report to fill in."""
        self.connection = connection
        self.report = report
        self.counts = report.counts
        self.hq_keys: dict[str, PublicKey] = {}
        self.stolen: Container[str] = frozenset()
        self.devices: dict[int, tuple[Identity, int]] = {}
        """Identity and store of each device, by its number."""
        self.device_keys: dict[int, DeviceKey] = {}
        self.is_archive = False
        """Whether it is a part of a ledger: what is not there may be elsewhere."""
        self.archived: dict[str, int] = {}
        """The directives that left for an archive: their ids and numbers."""
        self._advance = advance
        self._steps = 0

    def step(self, steps: int = 1) -> None:
        """Count steps; the bar is moved now and then."""
        self._steps += steps
        if self._steps >= _STEP:
            self.flush()

    def flush(self) -> None:
        """Move the bar."""
        self._advance(self._steps)
        self._steps = 0

    def hq_key(self, what: str, key_id: str) -> PublicKey:
        """The key of HQ's with that id.

        Raises:
            MisfitError: HQ never announced it.
        """
        key = self.hq_keys.get(key_id)
        if key is None:
            raise MisfitError(
                "hq signature", what, f"signed by {key_id[:8]}, which is not in HQ's chain of keys"
            )
        return key

    def name(self, device_no: int) -> str:
        """What people call the device."""
        found = self.devices.get(device_no)
        return f"device {device_no}" if found is None else str(found[0])

    def arrival(self, device_no: int, record_id: str) -> tuple[int | None] | None:
        """The number of the message that brought a record, in a tuple; None without an arrival.

        The number is None where the arrival is from before signing.
        """
        found: tuple[int | None] | None = self.connection.execute(
            ARRIVAL, (device_no, bytes.fromhex(record_id))
        ).fetchone()
        return found


def verifies(key: PublicKey, signature: str, data: bytes) -> bool:
    """Whether that text is the key's signature over the data."""
    try:
        return key.verifies(signing.parse_signature(signature), data)
    except WireError:
        return False
