"""How a scripted head office lets devices in: bundles given out, and its answers to joins."""

from typing import Any

from buswire import frame
from buswire.access import token_hash
from buswire.joining import Bundle
from buswire.messages import Join, Joined
from buswire.signing import PublicKey, SigningKey, fingerprint, parse_signature, proof_bytes
from storeagent.core import Heard
from storeagent.keys import seed_text
from tests.agent.head_office import HeadOffice

INVITE = SigningKey(b"an invitation".ljust(32, b"."))


class Enrolment:
    """The part of head office that lets devices in."""

    def __init__(self, office: HeadOffice) -> None:
        self.office = office
        self.confirms = False
        """Whether an operator is to compare fingerprints first."""
        self.confirmed: set[str] = set()
        self.expired: set[str] = set()
        self.silent = False
        self.used: dict[str, Join] = {}
        self.second_uses = 0
        self.asked = 0
        self.certificate = ""

    def bundle(self, number: int = 1, **changes: Any) -> Bundle:
        """Give out a bundle for the device of these tests."""
        identity = self.office.identity
        values: dict[str, Any] = {
            "id": f"{number:016x}",
            "root": self.office.topics.root,
            "store": identity.store,
            "device": identity.device,
            "roles": ["manager"],
            "brokers": ["mqtt://127.0.0.1:1"],
            "trust": self.office.trust,
            "token": "b" * 43,
            "invite": seed_text(INVITE.seed),
        }
        return Bundle(**(values | changes))

    def take(self, topic: str, payload: bytes) -> list[Heard]:
        """Take what was said on a bundle's topic; the answer, unless it is our own word."""
        envelope = frame.take_apart(payload)
        if envelope.key_id == self.office.key.id:
            return []
        frame.verify(envelope, topic, {INVITE.id: INVITE.public}.get)
        join = frame.decode_text(envelope.text)
        assert isinstance(join, Join)
        bundle = self.office.topics.parse(topic).join
        key = PublicKey.parse(join.device_key)
        assert key.verifies(parse_signature(join.proof), proof_bytes(bundle, join.token_hash))
        self.asked += 1
        if self.silent:
            return []
        return [self.office.lay(topic, self._answer(bundle, join, key))]

    def _answer(self, bundle: str, join: Join, key: PublicKey) -> Joined:
        if bundle in self.expired:
            return Joined(nonce=join.nonce, verdict="refused", reason="the bundle has expired")
        before = self.used.setdefault(bundle, join)
        if (before.device_key, before.token_hash) != (join.device_key, join.token_hash):
            self.second_uses += 1
            return Joined(nonce=join.nonce, verdict="refused", reason="the bundle was used before")
        if self.confirms and fingerprint(key) not in self.confirmed:
            return Joined(nonce=join.nonce, verdict="waiting")
        self.office.device_key = key
        return Joined(
            nonce=join.nonce,
            verdict="accepted",
            store=self.office.identity.store,
            device=self.office.identity.device,
            key=key.id,
            certificate=self.certificate,
            at=1_700_000_000.0,
        )

    def has_let_in(self, key: SigningKey, token: str) -> bool:
        """Whether this key and this token are the device's now."""
        return self.office.device_key == key.public and any(
            join.token_hash == token_hash(token) for join in self.used.values()
        )
