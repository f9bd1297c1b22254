"""Makes join bundles: what a device is handed so that it can become one.

Owns what goes into a bundle. Which bundles count is the ledger's (`ledger.enrolment`): a bundle is
noted there, by hashes and public keys, before its file exists; one whose file was never written is
worth nothing and runs out.
"""

import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from buskit.secrets import new_seed, new_token
from buswire.access import token_hash
from buswire.joining import Bundle, encode_bundle
from buswire.signing import SigningKey
from buswire.topics import Identity
from buswire.trust import Trusted
from hqconsole.ledger import enrolment


@dataclass(frozen=True, slots=True)
class Common:
    """What all bundles of one command have in common.

    Attributes:
        root: Of the topics.
        brokers: Where the devices find a broker, as URLs.
        ca: The private CA's certificate, PEM; empty without one.
        trust: HQ's keys, which the devices pin.
        expires_at: Until when a bundle can be used, by HQ's clock.
        by: Who makes them.
    """

    root: str
    brokers: tuple[str, ...]
    ca: str
    trust: Trusted
    expires_at: float
    by: str


def invite(
    connection: sqlite3.Connection,
    identity: Identity,
    roles: Sequence[str] | None,
    common: Common,
    *,
    at: float,
    new_id: Callable[[], str],
    named: Sequence[str] = (),
) -> bytes:
    """Note a bundle in the ledger and return the content of its file, a secret until it was used.

    Args:
        connection: In a write transaction; the file is to be written after its commit.
        identity: Who it lets in.
        roles: What the device is to serve; None for all of its store, or as it is.
        common: The rest.
        at: The present time.
        new_id: A random 128-bit id.
        named: What it serves already, for a device that is known and stays as it is.

    Raises:
        HqError: The device cannot be invited; the ledger says why.
    """
    token, seed = new_token(), new_seed()
    bundle_id = enrolment.invite(
        connection,
        identity,
        roles,
        at=at,
        by=common.by,
        expires_at=common.expires_at,
        new_id=new_id,
        token_hash=token_hash(token),
        invite_public=SigningKey(seed).public,
    )
    bundle = Bundle(
        id=bundle_id,
        root=common.root,
        store=identity.store,
        device=identity.device,
        roles=list(roles or named),
        brokers=list(common.brokers),
        ca=common.ca,
        trust=common.trust,
        token=token,
        invite=_seed_text(seed),
        expires_at=common.expires_at,
    )
    return encode_bundle(bundle)


def activate(
    connection: sqlite3.Connection,
    identity: Identity,
    roles: Sequence[str] | None,
    *,
    at: float,
    new_id: Callable[[], str],
) -> dict[str, object]:
    """Let a device in at once whose key is drawn here; for trials, because HQ then knows the key.

    Returns:
        A line for the fleet's file, with the secrets in it.
    """
    token, seed = new_token(), new_seed()
    enrolment.activate(
        connection,
        identity,
        roles,
        public=SigningKey(seed).public,
        token_hash=token_hash(token),
        at=at,
        new_id=new_id,
    )
    return {
        "store": identity.store,
        "device": identity.device,
        "roles": list(roles or ()),
        "seed": _seed_text(seed),
        "token": token,
    }


def _seed_text(seed: bytes) -> str:
    return urlsafe_b64encode(seed).rstrip(b"=").decode()
