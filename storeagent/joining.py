"""How a device joins, without a link, files or a clock: what it asks, and which answer counts.

Owns the conversation on the topic of a join bundle. Must not know how its messages travel, nor what
is saved when it is over; that is `join_home`.

Invariants:
- Only an answer counts that HQ signed, for this topic and to a nonce of ours, with a key of the
  bundle or with one that HQ's keys have announced since the bundle was made.
- Our own messages come back to us on the same topic, and whatever else comes is passed over.
- Asking again with the same key is the same question: HQ answers it as it did before.
"""

from collections.abc import Callable

import msgspec

from buswire import frame
from buswire.access import token_hash
from buswire.errors import WireError
from buswire.joining import Bundle
from buswire.messages import AnyMessage, Join, Joined
from buswire.signing import (
    ForgeryError,
    KeyText,
    SigningKey,
    UnknownKeyError,
    fingerprint,
    proof_bytes,
    signature_text,
)
from buswire.topics import Topics
from buswire.trust import CHAIN_LIMIT, Trust, Trusted
from storeagent.errors import AgentError
from storeagent.keys import seed_of, seed_text


class JoinError(AgentError):
    """A device cannot join like this."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a device has drawn for itself and HQ has not accepted yet; saved before it asks."""

    bundle: str
    seed: KeyText
    token: str

    def __repr__(self) -> str:
        """Name the bundle only."""
        return f"Draft({self.bundle})"


def draw_draft(bundle: Bundle, *, seed: bytes, token: str) -> Draft:
    """Make what is to be asked for with this bundle."""
    return Draft(bundle=bundle.id, seed=seed_text(seed), token=token)


class Joining:
    """One run of asking to be let in."""

    def __init__(
        self,
        bundle: Bundle,
        draft: Draft,
        *,
        new_id: Callable[[], str],
        machine: str = "",
        version: str = "",
        trust: Trusted | None = None,
    ) -> None:
        """Prepare.

        Args:
            bundle: What HQ made for this device.
            draft: What the device has drawn for itself.
            new_id: A random 128-bit id in hex.
            machine: What the machine calls itself.
            version: Of this program.
            trust: HQ's keys to begin with; those of the bundle if not given.

        Raises:
            WireError: The bundle has something in it that is no key or no topic.
        """
        self.topic = Topics(bundle.root).join(bundle.id)
        self._bundle = bundle
        self._trust = Trust(trust or bundle.trust)
        self._invite = SigningKey(seed_of(bundle.invite))
        self._key = SigningKey(seed_of(draft.seed))
        self._token_hash = token_hash(draft.token)
        self._new_id = new_id
        self._machine = machine
        self._version = version
        self._nonces: set[str] = set()
        self.strangers = 0
        """How many answers came that are signed with a key the bundle does not know."""

    @property
    def trusted(self) -> Trusted:
        """HQ's keys: those of the bundle, or what they have led to."""
        return self._trust.kept

    @property
    def fingerprint(self) -> str:
        """Of the key that asks, for two people to compare."""
        return fingerprint(self._key.public)

    def ask(self) -> bytes:
        """The payload that asks, once more if need be."""
        nonce = self._new_id()
        self._nonces.add(nonce)
        proof = self._key.sign(proof_bytes(self._bundle.id, self._token_hash))
        join = Join(
            nonce=nonce,
            device_key=self._key.public.text,
            token_hash=self._token_hash,
            proof=signature_text(proof),
            machine=self._machine,
            version=self._version,
            hq_key=self._trust.newest,
        )
        return frame.encode(join, self.topic, self._invite)

    def hear(self, topic: str, payload: bytes) -> Joined | None:
        """HQ's answer, if this is one; None for anything else.

        Raises:
            JoinError: HQ says that it accepted somebody or something else than asked.
        """
        try:
            envelope = frame.take_apart(payload)
            if topic != self.topic or envelope.key_id == self._invite.id:
                return None
            try:
                frame.verify(envelope, topic, self._trust.key_of)
            except UnknownKeyError:
                trust = self._followed(frame.decode_text(envelope.text))
                frame.verify(envelope, topic, trust.key_of)
                self._trust = trust
            message = frame.decode_text(envelope.text)
        except UnknownKeyError:
            self.strangers += 1
            return None
        except (ForgeryError, WireError):
            return None
        if not isinstance(message, Joined) or message.nonce not in self._nonces:
            return None
        if message.verdict == "accepted":
            self._check(message)
        return message

    def _followed(self, message: AnyMessage) -> Trust:
        """HQ's keys by the chain in an answer to a question of ours, of which nothing else counts.

        The bundle may have been made before HQ's latest key.
        """
        if not isinstance(message, Joined) or message.nonce not in self._nonces:
            return self._trust
        return self._trust.follow(message.keys[:CHAIN_LIMIT]).trust

    def _check(self, joined: Joined) -> None:
        bundle = self._bundle
        asked = (bundle.store, bundle.device, self._key.id)
        if (joined.store, joined.device, joined.key) != asked:
            raise JoinError(
                f"head office let in {joined.store}.{joined.device} with the key "
                f"{joined.key[:8]}, and {bundle.store}.{bundle.device} with the key "
                f"{self._key.id[:8]} had asked",
                hint="tell head office; nothing was changed here",
            )
