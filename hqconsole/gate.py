"""Whose word counts: each payload of a device is verified before anything in it is read.

Owns the order of the questions: is that device ours, may it speak, is this exactly what its key
signed for this topic, can it be read. Who it is follows from the topic, which key that device has
from the ledger; nothing of the payload is believed before.

Only the one active key of a device counts, and the key before it not for a moment longer: a device
joins anew because its disk is gone, in other hands or doubted, and whoever has that disk would be
heard beside it. The device loses nothing by it, since what was not acknowledged is sent again,
signed anew.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from buswire import frame
from buswire.errors import WireError
from buswire.frame import Envelope
from buswire.messages import AnyMessage, UnknownKindError
from buswire.signing import ForgeryError, PublicKey, UnknownKeyError
from buswire.topics import Identity
from hqconsole.errors import HqError
from hqconsole.ledger import devices, organisation
from hqconsole.ledger.arrivals import FORGED
from hqconsole.ledger.devices import ACTIVE, Device

STRANGER = "not a device"
"""Somebody speaks as a device that HQ never let in."""
REVOKED = "revoked device speaks"
UNREADABLE = "unreadable messages"
"""A device signs what is no message: its program, or its disk, is broken."""


class Admitted(NamedTuple):
    """A message of a device that may speak."""

    device: Device
    envelope: Envelope
    message: AnyMessage


class Refusal(HqError):  # noqa: N818 - it is an answer, seldom an error
    """What arrived is not taken.

    Attributes:
        kind: The kind of the incident that it is, or None where it is only put aside.
        source: Whom to put it down to; few, whatever arrives.
        device_no: Of which device, if it is one of ours.
        detail: What else is to be told of the incident.
        answer: What is to be said to who sent it, if anything.
    """

    def __init__(
        self,
        kind: str | None,
        source: str,
        reason: str,
        device_no: int | None = None,
        detail: Mapping[str, Any] | None = None,
        *,
        answer: AnyMessage | None = None,
    ) -> None:
        """Keep all that is to be reported."""
        super().__init__(reason)
        self.kind = kind
        self.source = source
        self.device_no = device_no
        self.detail = dict(detail or {})
        self.answer = answer


def admit(
    connection: sqlite3.Connection, identity: Identity, topic: str, payload: bytes
) -> Admitted:
    """Let a message of this device in.

    Args:
        connection: Of the ledger.
        identity: Who spoke, by the topic.
        topic: On which.
        payload: What arrived.

    Raises:
        Refusal: It is not taken, and why.
    """
    place = organisation.place_of(connection, identity.store)
    if place is None:
        raise Refusal(STRANGER, "from/*", "a store that is not in the roster")
    device = devices.find(connection, identity, place)
    if device is None:
        raise Refusal(STRANGER, f"from/{identity.store}/*", "a device that nobody added")
    if device.state != ACTIVE or device.key is None:
        if device.state == "revoked":
            raise Refusal(REVOKED, topic, "the device is revoked", device.no)
        raise Refusal(STRANGER, topic, "the device has not joined", device.no)
    try:
        envelope = frame.take_apart(payload)
        _verify(connection, device, device.key, envelope, topic)
        message = _read(device, envelope, topic)
        return Admitted(device, envelope, message)
    except ForgeryError as error:
        raise Refusal(FORGED, topic, str(error), device.no) from error
    except WireError as error:
        raise Refusal(None, topic, str(error), device.no) from error


def _read(device: Device, envelope: Envelope, topic: str) -> AnyMessage:
    """Read what a device has signed.

    Raises:
        Refusal: It is no message at all, not even one with records that cannot be read. Its log
            stands still from there on, so an operator hears.
        WireError: It is of a kind that this version does not know.
    """
    try:
        return frame.decode_text(envelope.text)
    except UnknownKindError:
        raise
    except WireError as error:
        raise Refusal(UNREADABLE, topic, str(error), device.no) from error


def _verify(
    connection: sqlite3.Connection, device: Device, key: PublicKey, envelope: Envelope, topic: str
) -> None:
    try:
        frame.verify(envelope, topic, {key.id: key}.get)
    except UnknownKeyError as error:
        # Without the id, which whoever sends this chooses: one reason, one row.
        if devices.had_key(connection, device.no, error.key_id):
            raise ForgeryError("signed with a key that the device had before") from error
        raise ForgeryError("signed with another key than the device's") from error
