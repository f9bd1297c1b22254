"""What devices said: each record saved once, in the order of saving, with its effect.

The uniqueness of (device, record id) is what makes an effect happen once, whatever is sent again.
A record that cannot be used is saved all the same, marked, and put aside for an operator: the log
goes on behind it. What speaks of a directive that HQ does not know waits for it.

What a device says counts for the roles that it serves, or served at some time: who took a device is
not to answer for the others of its store. Of what HQ has forgotten, only what HQ itself sealed is
taken back.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from buskit.database_part import undone_alone
from buskit.defects import is_defect, told
from buswire.errors import WireError
from buswire.messages import (
    DEVICE_KINDS,
    HQ_KINDS,
    Cancel,
    Directive,
    Original,
    Receipt,
    Record,
    Reply,
    Report,
    Trouble,
    Withdrawn,
    decode_data,
)
from buswire.signing import ForgeryError
from buswire.states import SAYABLE, STORE_RANK, State, Verdict
from buswire.topics import Identity
from hqconsole.audience import Mailbox, Organisation
from hqconsole.ledger import (
    adoption,
    archived,
    deliveries,
    devices,
    directives,
    evidence,
    withdrawing,
)
from hqconsole.ledger.devices import Device
from hqconsole.ledger.evidence import Evidence
from hqconsole.ledger.organisation import place_of
from hqconsole.ledger.troubles import (
    put_aside,
    record_incident,
    record_standing_incident,
    report_aside,
)
from hqconsole.moments import due_at

FORGED = "forged"
"""The kind of the incident that something bears a signature which is not what it claims to be."""
DEFECT = "a defect of HQ's program"
"""The kind of the incident that this program failed on something, and put it aside."""
NOT_ITS_ROLE = "not its role"
_ASIDE, _FAILED = "aside", "failed"
"""Outcomes of records that had no effect: they do not fit the contract, or this program failed."""
_AGAIN_AT_ONCE = 500
_AHEAD_SECONDS = 60.0

CheckSeal = Callable[[str, bytes, str], None]
"""Given kind, bytes and seal of a document; raises ForgeryError where HQ did not seal it."""


def no_seal_counts(kind: str, _data: bytes, _seal: str) -> None:
    """Take no document back."""
    raise ForgeryError(f"a {kind} that nobody here can tell to be HQ's")


class Arrivals:
    """Saves records and their effects in the caller's transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        organisation: Callable[[], Organisation],
        new_id: Callable[[], str],
        at: float,
        check_seal: CheckSeal = no_seal_counts,
        carefully: bool = False,
    ) -> None:
        """Work on this transaction, at this Unix time.

        With `carefully`, a record that makes this program fail is put aside alone; without, it
        raises.
        """
        self.touched: set[int] = set()
        """The directives whose deliveries were moved: the caller looks at them afterwards."""
        self._carefully = carefully
        self._connection = connection
        self._organisation = organisation
        self._new_id = new_id
        self._at = at
        self._check_seal = check_seal

    def save(
        self, device: Device, records: Sequence[Record], message: Evidence | None = None
    ) -> int:
        """Save these records of a device.

        Args:
            device: Who said them.
            records: Those that HQ's cursor does not cover.
            message: The signed message that they came in, which is kept; without one their data
                is kept in their own rows, and nothing proves it.

        Returns:
            How many were new.
        """
        message_no = None
        if message is not None:
            message_no = evidence.keep(self._connection, device.no, message, at=self._at)
        new = 0
        behind = 0
        for record in records:
            data = bytes(record.data)
            place = -1
            if message is not None:
                # Its own place, or an earlier one with the same bytes: as good.
                place = message.text.find(data, behind)
                if place >= 0:
                    behind = place + len(data)
            try:
                with self._alone():
                    arrival_no = self._save_one(device, record, data, message_no, place)
            except Exception as error:
                self._give_up(error, device, data, None)
                continue
            if arrival_no is not None:
                new += 1
                self._try_effect(device, record.kind, record.at, data, arrival_no)
        return new

    def take_again(self, after_no: int = 0) -> tuple[int, int, int]:
        """Try once more what had no effect: another version of this program may be able to use it.

        Some hundred of them; call it again behind the last.

        Args:
            after_no: Of the last arrival that was tried.

        Returns:
            The last that was tried, or 0; how many had their effect now; how many still have none.
        """
        rows = self._connection.execute(
            f"SELECT arrival.no, kind, said_at, {evidence.DATA}, store.id, device.name"
            " FROM arrival JOIN device ON device.no = arrival.device_no"
            " JOIN store ON store.no = store_no"
            " WHERE arrival.no > ? AND outcome IN (?, ?) ORDER BY arrival.no LIMIT ?",
            (after_no, _ASIDE, _FAILED, _AGAIN_AT_ONCE),
        ).fetchall()
        for no, kind, said_at, data, store_id, name in rows:
            device = known_device(self._connection, store_id, name)
            if device is not None:
                self._mark(no, None)
                self._try_effect(device, kind, said_at, data, no)
        numbers = [row[0] for row in rows]
        (left,) = self._connection.execute(
            "SELECT count(*) FROM arrival WHERE no BETWEEN ? AND ? AND outcome IN (?, ?)",
            (min(numbers, default=0), max(numbers, default=0), _ASIDE, _FAILED),
        ).fetchone()
        return max(numbers, default=0), len(rows) - left, left

    def _alone(self) -> AbstractContextManager[None]:
        return undone_alone(self._connection) if self._carefully else nullcontext()

    def _try_effect(
        self,
        device: Device,
        kind: str,
        said_at: float,
        data: bytes,
        arrival_no: int,
        *,
        waited: bool = False,
    ) -> None:
        try:
            with self._alone():
                self._take_effect(device, kind, said_at, data, arrival_no, waited=waited)
        except Exception as error:
            self._give_up(error, device, data, arrival_no)

    def _give_up(
        self, error: Exception, device: Device, data: bytes, arrival_no: int | None
    ) -> None:
        """Put a record aside that makes this program fail.

        Raises:
            Exception: It is none of those, or this is not the time.
        """
        if not self._carefully or not is_defect(error):
            raise error
        report_aside(
            self._connection,
            DEFECT,
            source=str(device.identity),
            reason=told(error),
            payload=data,
            at=self._at,
            device_no=device.no,
        )
        if arrival_no is not None:
            self._mark(arrival_no, _FAILED)

    def _save_one(
        self, device: Device, record: Record, data: bytes, message_no: int | None, place: int
    ) -> int | None:
        in_message = message_no is not None and place >= 0
        row = self._connection.execute(
            "INSERT INTO arrival (device_no, id, kind, said_at, received_at, data, message_no,"
            " data_at, data_bytes, offset_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (device_no, id) DO NOTHING RETURNING no",
            (
                device.no,
                bytes.fromhex(record.id),
                record.kind,
                record.at,
                self._at,
                b"" if in_message else data,
                message_no if in_message else None,
                place if in_message else None,
                len(data) if in_message else None,
                device.clock_offset_seconds,
            ),
        ).fetchone()
        return None if row is None else int(row[0])

    def _take_effect(
        self,
        device: Device,
        kind: str,
        said_at: float,
        data: bytes,
        arrival_no: int,
        *,
        waited: bool = False,
    ) -> None:
        try:
            said = decode_data(kind, data, DEVICE_KINDS)
            if isinstance(said, Original):
                if self._its_role(device, said.role, arrival_no):
                    self._take_back(device, said)
                return
        except ForgeryError as error:
            report_aside(
                self._connection,
                FORGED,
                source=str(device.identity),
                reason=str(error),
                payload=data,
                at=self._at,
                device_no=device.no,
            )
            self._mark(arrival_no, _ASIDE)
            return
        except WireError as error:
            put_aside(
                self._connection,
                source=str(device.identity),
                reason=str(error),
                payload=data,
                at=self._at,
            )
            self._mark(arrival_no, _ASIDE)
            return
        match said:
            case Receipt():
                if self._its_role(device, said.role, arrival_no):
                    self._receipt(device, said, said_at, arrival_no, waited=waited)
            case Withdrawn():
                if self._its_role(device, said.role, arrival_no):
                    self._withdrawn(device, said, arrival_no)
            case Reply():
                if self._its_role(device, said.role, arrival_no):
                    self._reply(device, said, arrival_no)
            case Report():
                self._report(device, said, arrival_no)
            case Trouble():
                record_incident(
                    self._connection,
                    "device trouble",
                    at=self._at,
                    device_no=device.no,
                    what=said.what,
                    detail=said.detail[:1000],
                )

    def _its_role(self, device: Device, role: str, arrival_no: int) -> bool:
        """Whether it may answer for this role; what it may not is kept and has no effect."""
        if device.may_speak_for(role):
            return True
        self._mark(arrival_no, NOT_ITS_ROLE)
        record_standing_incident(
            self._connection, NOT_ITS_ROLE, at=self._at, device_no=device.no, role=role
        )
        return False

    def _mark(self, arrival_no: int, outcome: str | None) -> None:
        self._connection.execute(
            "UPDATE arrival SET outcome = ? WHERE no = ?", (outcome, arrival_no)
        )

    def _concern(self, arrival_no: int, directive_no: int, mailbox_no: int | None) -> None:
        self._connection.execute(
            "UPDATE arrival SET directive_no = ?, mailbox_no = ? WHERE no = ?",
            (directive_no, mailbox_no, arrival_no),
        )

    def _mailbox(self, device: Device, role: str) -> int | None:
        row = self._connection.execute(
            "SELECT no FROM mailbox WHERE store_no = ? AND role = ?",
            (device.place.store_no, role),
        ).fetchone()
        return None if row is None else int(row[0])

    def _known(self, directive_id: str, device: Device, arrival_no: int) -> int | None:
        directive_no = directives.number_of(self._connection, directive_id)
        if directive_no is None:
            self._connection.execute(
                "INSERT OR IGNORE INTO waiting (directive_id, arrival_no, device_no)"
                " VALUES (?, ?, ?)",
                (directive_id, arrival_no, device.no),
            )
        return directive_no

    def _receipt(
        self, device: Device, said: Receipt, said_at: float, arrival_no: int, *, waited: bool
    ) -> None:
        if said.state not in SAYABLE:
            self._mark(arrival_no, "not a store's state")
            return
        directive_no = self._known(said.directive, device, arrival_no)
        if directive_no is None:
            return
        mailbox_no = self._mailbox(device, said.role)
        self._concern(arrival_no, directive_no, mailbox_no)
        if mailbox_no is None:
            self._stray(arrival_no, directive_no)
            return
        if not deliveries.exists(self._connection, directive_no, mailbox_no):
            adoption.count_in(
                self._connection, directive_no, mailbox_no, at=self._at, new_id=self._new_id
            )
        said_at += device.clock_offset_seconds
        if said_at > self._at + _AHEAD_SECONDS:
            # That device's clock was set since: when it was said nobody knows, and it counts.
            said_at = float("-inf")
        moved = deliveries.move(
            self._connection,
            directive_no,
            mailbox_no,
            said.state,
            said_at=said_at,
            arrival_no=arrival_no,
            at=self._at,
            due_at=lambda due: due_at(due, device.place.facts.timezone),
        )
        if moved is None:
            self._stray(arrival_no, directive_no)
            return
        if moved.verdict is Verdict.TOO_LATE:
            self._mark(arrival_no, "too late")
        self.touched.add(directive_no)
        moved_on = moved.verdict in {Verdict.MOVES, Verdict.MOVES_LATE}
        beyond_delivered = deliveries.STATE_CODES[said.state] > 1
        # What waited was said before the directive was issued again: by a device that may have
        # lost its disk since, and takes the directive as new.
        unaware = waited or devices.siblings(self._connection, device)
        if moved_on and beyond_delivered and unaware:
            directives.tell_siblings(
                self._connection,
                said.directive,
                device.identity.store,
                said.role,
                said.state,
                # The others show who did it, and where: "done by Ana, till-2".
                by=", ".join(filter(None, (said.by, device.identity.device)))[:500],
                reason=said.reason,
                code=said.code,
                at=self._at,
                new_id=self._new_id,
            )

    def _withdrawn(self, device: Device, said: Withdrawn, arrival_no: int) -> None:
        directive_no = self._known(said.directive, device, arrival_no)
        if directive_no is None:
            return
        mailbox_no = self._mailbox(device, said.role)
        self._concern(arrival_no, directive_no, mailbox_no)
        was = said.was if said.was in STORE_RANK else State.PENDING
        if mailbox_no is None:
            self._stray(arrival_no, directive_no)
            return
        if not deliveries.exists(self._connection, directive_no, mailbox_no):
            adoption.count_in(
                self._connection, directive_no, mailbox_no, at=self._at, new_id=self._new_id
            )
        if not deliveries.note_withdrawn(self._connection, directive_no, mailbox_no, was):
            self._stray(arrival_no, directive_no)

    def _stray(self, arrival_no: int, directive_no: int) -> None:
        """Mark what is about a mailbox that the directive has not, or has no longer here."""
        left = archived.is_archived(self._connection, directive_no)
        self._mark(arrival_no, archived.OUTCOME if left else "stray")

    def _reply(self, device: Device, said: Reply, arrival_no: int) -> None:
        directive_no = self._known(said.directive, device, arrival_no)
        if directive_no is not None:
            self._concern(arrival_no, directive_no, self._mailbox(device, said.role))

    def _report(self, device: Device, said: Report, arrival_no: int) -> None:
        (no,) = self._connection.execute(
            "INSERT INTO report (device_no, key, name, parts, parts_here, rows, first_at)"
            " VALUES (?, ?, ?, ?, 0, 0, ?)"
            " ON CONFLICT (device_no, key) DO UPDATE SET key = key RETURNING no",
            (device.no, said.report, said.name, said.parts, self._at),
        ).fetchone()
        added = self._connection.execute(
            "INSERT OR IGNORE INTO report_part (report_no, part, arrival_no) VALUES (?, ?, ?)",
            (no, said.part, arrival_no),
        ).rowcount
        if added:
            self._connection.execute(
                "UPDATE report SET parts_here = parts_here + 1, rows = rows + ?,"
                " complete_at = CASE WHEN parts_here + 1 = parts THEN ? END WHERE no = ?",
                (len(said.rows), self._at, no),
            )

    # --- what HQ had forgotten --------------------------------------------------------------------

    def _take_back(self, device: Device, original: Original) -> None:
        """Adopt a directive or a cancel that a device sent back.

        Raises:
            ForgeryError: HQ did not seal it.
            WireError: The copy does not fit the contract.
        """
        data = bytes(original.data)
        document: Any = decode_data(original.kind, data, HQ_KINDS)
        if not directives.is_here(self._connection, document, data):
            # What is here bears HQ's seal, also where the copy has one of a key that was stolen.
            self._check_seal(original.kind, data, original.seal)
        if isinstance(document, Cancel):
            withdrawing.adopt_cancel(
                self._connection,
                data,
                document,
                seal=original.seal,
                organisation=self._organisation(),
                at=self._at,
                new_id=self._new_id,
            )
            return
        if not isinstance(document, Directive):
            raise WireError(f"an original of kind {original.kind!r}")
        new = directives.number_of(self._connection, document.id) is None
        adoption.adopt(
            self._connection,
            data,
            document,
            Mailbox(device.identity.store, original.role),
            seal=original.seal,
            organisation=self._organisation(),
            at=self._at,
            new_id=self._new_id,
        )
        if new:
            record_incident(
                self._connection,
                "directive adopted",
                at=self._at,
                device_no=device.no,
                directive=document.id,
                title=document.title,
            )
        self._connection.execute("DELETE FROM asked WHERE directive_id = ?", (document.id,))
        self._apply_waiting(document.id)

    def _apply_waiting(self, directive_id: str) -> None:
        rows = self._connection.execute(
            f"SELECT arrival.no, arrival.kind, said_at, {evidence.DATA}, store.id, device.name"
            " FROM waiting"
            " JOIN arrival ON arrival.no = arrival_no"
            " JOIN device ON device.no = arrival.device_no JOIN store ON store.no = store_no"
            " WHERE directive_id = ? ORDER BY arrival.no",
            (directive_id,),
        ).fetchall()
        self._connection.execute("DELETE FROM waiting WHERE directive_id = ?", (directive_id,))
        for no, kind, said_at, data, store_id, name in rows:
            device = known_device(self._connection, store_id, name)
            if device is not None:
                self._try_effect(device, kind, said_at, data, no, waited=True)


def known_device(connection: sqlite3.Connection, store_id: str, name: str) -> Device | None:
    """A device by its names."""
    place = place_of(connection, store_id)
    return None if place is None else devices.find(connection, Identity(store_id, name), place)
