"""HQ's word: signs what leaves, seals what commands wrote, and tells whether a seal is HQ's.

Owns which key is used for what. Where the keys lie is the keyring's; the ledger says what waits.
"""

import sqlite3

from buswire import frame
from buswire.messages import AnyMessage, Joined
from buswire.signing import ForgeryError, check_seal, key_of_seal, seal
from buswire.topics import Topics
from buswire.trust import KeyEntry, chain_after
from hqconsole.keyring import HqKeys
from hqconsole.ledger import channels, enrolment
from hqconsole.ledger.enrolment import Certificate

_CHAINS_KEPT = 100


class Notary:
    """Uses HQ's keys."""

    def __init__(self, keys: HqKeys, topics: Topics) -> None:
        """Take the keys as they are; a change of them needs `take_keys`."""
        self._topics = topics
        self.take_keys(keys)

    def take_keys(self, keys: HqKeys) -> None:
        """HQ's keys are these from now on."""
        self._keys = keys
        self._chains: dict[str, list[KeyEntry]] = {}
        self._seals_doubted = bool(keys.stolen)

    def sign(self, topic: str, message: AnyMessage, at: float) -> bytes:
        """A message as it leaves."""
        return frame.encode(message, topic, self._keys.signing(at))

    def is_own(self, key_id: str) -> bool:
        """Whether a key of that id was ever HQ's."""
        return key_id in self._keys.stolen or self._keys.key_of(key_id) is not None

    def chain_after(self, newest: str) -> list[KeyEntry]:
        """What of the chain of keys a device lacks whose newest key is this one."""
        chain = self._chains.get(newest)
        if chain is None:
            if len(self._chains) >= _CHAINS_KEPT:
                self._chains.clear()
            chain = self._chains[newest] = chain_after(self._keys.entries, newest)
        return chain

    def check_seal(self, kind: str, data: bytes, found: str) -> None:
        """Make sure that HQ sealed this document.

        Raises:
            ForgeryError: It did not, or with a key that was stolen since.
        """
        key = self._keys.key_of(key_of_seal(found))
        if key is None:
            raise ForgeryError(
                f"a {kind} with a seal that is not HQ's" if found else f"a {kind} without a seal"
            )
        check_seal(key, kind, data, found)

    # --- what commands left to do ----------------------------------------------------------------

    def is_waited_for(self, connection: sqlite3.Connection) -> bool:
        """Whether something waits for `attend`."""
        return (
            self._seals_doubted
            or channels.any_unsealed(connection)
            or enrolment.any_unproved(connection)
        )

    def attend(self, connection: sqlite3.Connection, at: float) -> None:
        """Seal what commands wrote, and give HQ's word on keys that commands let in.

        What a stolen key had sealed gets a new seal; `settle` once that is committed.
        """
        if self._seals_doubted:
            for key_id in self._keys.stolen:
                channels.unseal(connection, key_id)
        key = self._keys.signing(at)
        channels.seal_all(connection, lambda kind, data: seal(key, kind, data))
        for one in enrolment.unproved(connection):
            joined = Joined(
                nonce=one.key_id,
                verdict="accepted",
                store=one.identity.store,
                device=one.identity.device,
                key=one.key_id,
                at=one.since_at,
            )
            # Nobody asked for it, so it has a topic of its own.
            topic = self._topics.join(one.key_id[:16])
            enrolment.prove(
                connection, one.key_no, certificate(topic, self.sign(topic, joined, at))
            )

    def settle(self) -> None:
        """What `attend` did is committed."""
        self._seals_doubted = False


def certificate(topic: str, payload: bytes) -> Certificate:
    """HQ's own signed message, to be kept."""
    envelope = frame.take_apart(payload)
    return Certificate(topic, envelope.text, envelope.key_id, envelope.signature)
