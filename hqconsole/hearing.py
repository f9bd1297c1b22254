"""What the desk does with what arrives: lets it in or puts it aside, saves it, says what follows.

Owns the way of a message from its topic to its effect. Whose word counts is `gate`, what a hello is
answered with `hellos`, how one joins `enrolling`.

Nothing that arrives can raise, and nothing that is not verified leaves more in the ledger than a
row in the quarantine and, now and then, an incident.
"""

from collections.abc import Callable

from buskit.defects import told
from buswire import frame
from buswire.access import JOIN_PREFIX
from buswire.cursors import Misfit, advance, fit
from buswire.errors import WireError
from buswire.messages import LOGS, Bye, Hello, Records
from buswire.topics import Topics
from hqconsole.batch import Batch, Heard, Nudges
from hqconsole.bounds import Allowance
from hqconsole.enrolling import Enrolling, IssueCertificate, find_bundle, read_request
from hqconsole.gate import Admitted, Refusal, admit
from hqconsole.hellos import Hellos
from hqconsole.ledger import devices, enrolment
from hqconsole.ledger.arrivals import DEFECT, Arrivals
from hqconsole.ledger.devices import Device
from hqconsole.ledger.evidence import Evidence, same_ids
from hqconsole.ledger.organisation import PresentOrganisation
from hqconsole.ledger.troubles import put_aside, record_standing_incident, report_aside
from hqconsole.notary import Notary, certificate
from hqconsole.timing import HubLimits

TOO_MUCH_KEPT = "too much kept"
"""The kind of the incident that a device has sent more than may be kept of it."""
_MESSAGES_UNDER_WAY = 32
"""A device has fewer messages under way: none that is honest begins further behind HQ's cursor."""
_JOINS_PER_MINUTE = 30
"""So many requests of one bundle are answered."""


class Hearing:
    """Takes what arrives, one message at a time."""

    def __init__(
        self,
        topics: Topics,
        notary: Notary,
        hellos: Hellos,
        nudges: Nudges,
        organisation: PresentOrganisation,
        *,
        new_id: Callable[[], str],
        limits: HubLimits,
        certificate: IssueCertificate | None,
        confirm: bool,
    ) -> None:
        """Take what it works with; see `Desk`."""
        self._topics = topics
        self._notary = notary
        self._hellos = hellos
        self._nudges = nudges
        self._organisation = organisation
        self._new_id = new_id
        self._limits = limits
        self._certificate = certificate
        self._confirm = confirm
        self._joins = Allowance(_JOINS_PER_MINUTE)

    def hear(self, batch: Batch, event: Heard) -> None:
        """Take one message."""
        try:
            address = self._topics.parse(event.topic)
            if address.kind == "join":
                self._hear_join(batch, event, address.join)
            elif address.kind == "from" and address.identity is not None:
                said = admit(batch.reading, address.identity, event.topic, event.payload)
                self._hear_device(batch, event, said)
        except Refusal as refusal:
            self._refuse(batch, event, refusal)
        except WireError as error:
            self._put_aside(batch, event, str(error))

    def _hear_device(self, batch: Batch, event: Heard, said: Admitted) -> None:
        match said.message:
            case Hello() as hello:
                self._hellos.hear(batch, said.device, hello)
            case Records() as records:
                self._hear_records(batch, event, said, records)
            case Bye(run=run):
                devices.note_bye(batch.connection, said.device.no, run)
            case other:
                self._put_aside(batch, event, f"a {type(other).__name__} from a device")

    def _hear_records(self, batch: Batch, event: Heard, said: Admitted, message: Records) -> None:
        device = said.device
        log = next((name for name in LOGS if name == message.log), None)
        if log is None:
            self._put_aside(batch, event, f"records of a log {message.log[:40]!r}")
            return
        cursor, heard_head = devices.uplink(batch.reading, device.no, log)
        ids = [record.id for record in message.records]
        outcome = fit(cursor, message.after, ids)
        if outcome is Misfit.GAP:
            self._nudges.nudge(batch, device.identity, f"a gap in {log}", 1.0)
            return
        if outcome is not Misfit.DUPLICATE:
            if outcome and not same_ids(
                batch.reading,
                (device.no, log),
                message.after,
                ids[:outcome],
                most=_MESSAGES_UNDER_WAY,
            ):
                self._put_aside(batch, event, "records with other ids than those taken before")
                self._nudges.nudge(batch, device.identity, f"another history of {log}", 1.0)
                return
            kept = _evidence(event, said, message)
            if not self._has_room(batch, device, kept):
                return
            arrivals = Arrivals(
                batch.connection,
                organisation=self._organisation,
                new_id=self._new_id,
                at=batch.at,
                check_seal=self._notary.check_seal,
                carefully=batch.carefully,
            )
            arrivals.save(device, message.records[outcome:], kept)
            batch.touched |= arrivals.touched
            cursor = advance(message.after, ids)
            devices.save_uplink(
                batch.connection,
                device.no,
                log,
                cursor,
                heard_head=max(heard_head, cursor.seq),
                pending=None,
            )
            devices.note_heard(batch.connection, device.no, at=batch.at, kept_bytes=kept.kept_bytes)
        batch.acks[device.identity, log] = cursor

    def _has_room(self, batch: Batch, device: Device, more: Evidence) -> bool:
        """Whether this much more may be kept of the device; without, it is not acknowledged."""
        allowed = device.allowed_bytes
        if allowed is None:
            allowed = self._limits.kept_bytes
        if device.kept_bytes + more.kept_bytes <= allowed:
            return True
        record_standing_incident(
            batch.connection,
            TOO_MUCH_KEPT,
            at=batch.at,
            device_no=device.no,
            kept_bytes=device.kept_bytes,
            allowed_bytes=allowed,
        )
        return False

    def _hear_join(self, batch: Batch, event: Heard, bundle_id: str) -> None:
        """Who holds a bundle asks to become its device."""
        try:
            envelope = frame.take_apart(event.payload)
        except WireError as error:
            raise Refusal(None, f"{JOIN_PREFIX}*", str(error)) from error
        if self._notary.is_own(envelope.key_id):
            return  # HQ's answers come back on the topic that both share
        bundle = find_bundle(batch.reading, bundle_id)
        # Verified first: garbage on the topic must not use up what its holder may ask.
        request = read_request(bundle, envelope, event.topic)
        if self._joins.wait_seconds(bundle_id, 1, batch.now):
            return
        self._joins.spend(bundle_id, 1, batch.now)
        enrolling = Enrolling(
            batch.connection,
            at=batch.at,
            confirm=self._confirm,
            certificate=self._certificate,
            keys_after=self._notary.chain_after,
        )
        joined, key_no = enrolling.answer(bundle, request)
        publish = batch.say(event.topic, joined)
        if key_no is not None:
            enrolment.prove(batch.connection, key_no, certificate(publish.topic, publish.payload))

    def give_up(self, batch: Batch, event: Heard, error: Exception) -> None:
        """Put a message aside that makes this program fail, whenever it comes."""
        report_aside(
            batch.connection,
            DEFECT,
            source=event.topic,
            reason=told(error),
            payload=event.payload,
            at=batch.at,
            device_no=None,
        )

    # --- what is not taken -----------------------------------------------------------------------

    def _refuse(self, batch: Batch, event: Heard, refusal: Refusal) -> None:
        if refusal.kind is None:
            put_aside(
                batch.connection,
                source=refusal.source,
                reason=str(refusal),
                payload=event.payload,
                at=batch.at,
            )
        else:
            report_aside(
                batch.connection,
                refusal.kind,
                source=refusal.source,
                reason=str(refusal),
                payload=event.payload,
                at=batch.at,
                device_no=refusal.device_no,
                **refusal.detail,
            )
        if refusal.answer is not None:
            batch.say(event.topic, refusal.answer)

    def _put_aside(self, batch: Batch, event: Heard, reason: str) -> None:
        put_aside(
            batch.connection,
            source=event.topic,
            reason=reason,
            payload=event.payload,
            at=batch.at,
        )


def _evidence(event: Heard, said: Admitted, message: Records) -> Evidence:
    assert said.device.key_no is not None, "who is admitted has a key"
    return Evidence(
        key_no=said.device.key_no,
        topic=event.topic,
        log=message.log,
        after=message.after,
        records=len(message.records),
        signature=said.envelope.signature,
        text=said.envelope.text,
    )
