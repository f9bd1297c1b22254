"""Joining: what HQ answers to who holds a join bundle and asks to become its device.

Owns the rules of a bundle's one use. Which bundles there are and what was made of them is the
ledger's (`ledger.enrolment`); signing the answer and sending it is the desk's.

- A request counts when it is signed with the bundle's invite key, and when the asker has the key
  that it wants to be known by.
- Who asks first has the bundle. The same key asking again gets the same answer, however often: the
  first answer may have been lost. Another key with the same bundle is an incident, and refused.
- Expiry and withdrawal are judged by HQ's clock and only for the first use.
- A joining that is let in ends the device's key of before.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

from buswire import frame
from buswire.access import JOIN_PREFIX
from buswire.errors import BusError, WireError
from buswire.frame import Envelope
from buswire.messages import Join, Joined
from buswire.signing import (
    ForgeryError,
    PublicKey,
    UnknownKeyError,
    fingerprint,
    parse_signature,
    proof_bytes,
)
from buswire.trust import KeyEntry
from hqconsole.gate import STRANGER, Refusal
from hqconsole.ledger import enrolment
from hqconsole.ledger.arrivals import FORGED
from hqconsole.ledger.enrolment import Bundle

USED_TWICE = "bundle used twice"

IssueCertificate = Callable[[str, bytes], str]
"""Given an identity and the raw public key, the client certificate for TLS; PEM."""


class Request(NamedTuple):
    """What somebody who holds the bundle has asked, and the key that asks."""

    join: Join
    key: PublicKey


class Answered(NamedTuple):
    """What to say, and of which key it is the proof, if it lets one in."""

    joined: Joined
    key_no: int | None


class Enrolling:
    """One request at work, in the caller's write transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        at: float,
        confirm: bool,
        certificate: IssueCertificate | None,
        keys_after: Callable[[str], list[KeyEntry]] = lambda _: [],
    ) -> None:
        """Take what the rules need.

        Args:
            connection: In a write transaction.
            at: The present time.
            confirm: Whether an operator is to compare the fingerprint of each key.
            certificate: Makes certificates, where brokers want them of their clients.
            keys_after: HQ's chain of keys behind the one of that id.
        """
        self._connection = connection
        self._at = at
        self._confirm = confirm
        self._certificate = certificate
        self._keys_after = keys_after

    def answer(self, bundle: Bundle, request: Request) -> Answered:
        """Judge a request.

        Raises:
            Refusal: The bundle was used by another key.
        """
        join, key = request
        if bundle.device_key is not None and bundle.device_key != key.raw:
            raise Refusal(
                USED_TWICE,
                f"{JOIN_PREFIX}{bundle.id}",
                "the bundle was used before, by another key",
                bundle.device_no,
                {
                    "bundle": bundle.id,
                    "first": {"machine": bundle.machine, "key": PublicKey(bundle.device_key).id},
                    "second": {"machine": join.machine, "key": key.id},
                },
                answer=self._refused(join, "this bundle was used before, for another key"),
            )
        if bundle.used_at is not None:
            return self._again(bundle, join, key)
        if bundle.withdrawn_at is not None:
            return Answered(self._refused(join, "this bundle was withdrawn"), None)
        if bundle.device_key is None:
            if bundle.expires_at <= self._at:
                return Answered(self._refused(join, "this bundle has expired"), None)
            enrolment.claim(
                self._connection,
                bundle.id,
                key=key,
                token_hash=join.token_hash,
                machine=join.machine,
            )
        elif bundle.asked_token_hash != join.token_hash:
            return Answered(self._refused(join, "the same key asked with another token"), None)
        if self._confirm:
            reason = f"an operator is to confirm the fingerprint {fingerprint(key)}"
            return Answered(self._joined(join, verdict="waiting", reason=reason), None)
        try:
            joined = self._accepted(bundle, join, key)
        except (BusError, OSError) as error:  # the private CA is not to be had just now
            reason = f"head office cannot make a certificate: {error}"
            return Answered(self._joined(join, verdict="waiting", reason=reason[:500]), None)
        return Answered(joined, enrolment.use(self._connection, bundle.id, at=self._at))

    def _again(self, bundle: Bundle, join: Join, key: PublicKey) -> Answered:
        """The key that was let in asks again, or hears only now that it was."""
        key_no = enrolment.counting_key(self._connection, bundle.device_no, key.raw)
        if key_no is None:
            reason = "the key that joined with this bundle does not count any more"
            return Answered(self._refused(join, reason), None)
        if bundle.asked_token_hash != join.token_hash:
            return Answered(self._refused(join, "the same key asked with another token"), None)
        try:
            return Answered(self._accepted(bundle, join, key), key_no)
        except (BusError, OSError) as error:
            reason = f"head office cannot make a certificate: {error}"
            return Answered(self._joined(join, verdict="waiting", reason=reason[:500]), None)

    def _accepted(self, bundle: Bundle, join: Join, key: PublicKey) -> Joined:
        certificate = ""
        if self._certificate is not None:
            certificate = self._certificate(str(bundle.identity), key.raw)
        return self._joined(
            join,
            verdict="accepted",
            store=bundle.identity.store,
            device=bundle.identity.device,
            key=key.id,
            certificate=certificate,
            at=self._at,
        )

    def _refused(self, join: Join, reason: str) -> Joined:
        return self._joined(join, verdict="refused", reason=reason)

    def _joined(self, join: Join, **fields: Any) -> Joined:
        """An answer, with HQ's keys that the bundle was too early for."""
        return Joined(nonce=join.nonce, keys=self._keys_after(join.hq_key), **fields)


def find_bundle(connection: sqlite3.Connection, bundle_id: str) -> Bundle:
    """The bundle that a request names by its topic.

    Raises:
        Refusal: There is none.
    """
    bundle = enrolment.bundle(connection, bundle_id)
    if bundle is None:
        raise Refusal(STRANGER, f"{JOIN_PREFIX}*", "a join bundle that HQ does not know")
    return bundle


def read_request(bundle: Bundle, envelope: Envelope, topic: str) -> Request:
    """The request and the key that asks.

    Raises:
        Refusal: Nobody who holds the bundle has said it so.
    """
    source = f"{JOIN_PREFIX}{bundle.id}"
    try:
        return _verified(bundle, envelope, topic)
    except ForgeryError as error:
        raise Refusal(FORGED, source, str(error), bundle.device_no) from error
    except WireError as error:
        raise Refusal(None, source, str(error), bundle.device_no) from error


def _verified(bundle: Bundle, envelope: Envelope, topic: str) -> Request:
    invite = PublicKey(bundle.invite)
    try:
        frame.verify(envelope, topic, {invite.id: invite}.get)
    except UnknownKeyError as error:
        raise ForgeryError("signed with another key than the bundle's") from error
    message = frame.decode_text(envelope.text)
    if not isinstance(message, Join):
        raise WireError(f"a {type(message).__name__} on the topic of a join bundle")
    key = PublicKey.parse(message.device_key)
    proof = proof_bytes(bundle.id, message.token_hash)
    if not key.verifies(parse_signature(message.proof), proof):
        raise ForgeryError("a request without the proof that the asker has the key")
    return Request(message, key)
