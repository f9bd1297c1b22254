"""Keys, signatures and seals: Ed25519 (RFC 8032) as the bus uses it.

Owns how keys and signatures are spelt, and what exactly is signed. Must not know where keys are
kept, who may use which, or what a message says. No randomness: a key is made from a seed that the
caller drew. The library behind it is imported when the first key is made: most commands of a
store name these types, and sign nothing.

What is signed begins with a text that names its use, so that a signature made for one use never
counts for another:

- a message: `storebus/1`, the topic name, the JSON text, a line each. The root, the device and the
  channel are in the topic, log and numbers in the text: what was signed for one place is void at
  every other.
- a document of HQ's, once for ever, in whatever message it travels: `storebus/1 seal`, its kind,
  its exact bytes.
- an entry in HQ's chain of keys: `storebus/1 key` and its numbers (`trust`).
- a device's word that it has the key with which it joins: `storebus/1 proof`, bundle, token hash.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated

from msgspec import Meta

from buswire.errors import WireError

SEED_BYTES = 32
SIGNATURE_BYTES = 64

KeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""The first 128 bits of the key's SHA-256."""
KeyText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
"""A public key, base64url."""
SignatureText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{86}\Z")]
Seal = Annotated[str, Meta(pattern=r"^([0-9a-f]{32} [A-Za-z0-9_-]{86})?\Z")]
"""Key id and signature of a document; empty where there is none."""

_MESSAGE = b"storebus/1\n"
_SEAL = b"storebus/1 seal\n"
_PROOF = b"storebus/1 proof\n"


# Points of small order (y, without the sign of x): with one of them as the key, a signature that
# anybody can write fits some messages or all, so its owner could deny whatever it signed.
_WEAK_KEYS = frozenset(
    map(
        bytes.fromhex,
        (
            "00" * 32,
            "01" + "00" * 31,
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "ec" + "ff" * 30 + "7f",
            "ed" + "ff" * 30 + "7f",
            "ee" + "ff" * 30 + "7f",
        ),
    )
)


class ForgeryError(WireError):
    """What claims to come from somebody and does not: refuse it, count it, tell HQ."""


class UnknownKeyError(ForgeryError):
    """Signed with a key that is not (yet, or any more) trusted here.

    Attributes:
        key_id: Which; nothing says that the signature fits it.
    """

    def __init__(self, key_id: str) -> None:
        """Name the key."""
        super().__init__(f"signed with the key {key_id[:8]}, which is not trusted here")
        self.key_id = key_id


class PublicKey:
    """A key that signatures are checked with; equal where the keys are."""

    __slots__ = ("_key", "id", "raw", "text")

    def __init__(self, raw: bytes) -> None:
        """Take the 32 bytes of RFC 8032.

        Raises:
            WireError: They are no key.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - see top
            Ed25519PublicKey,
        )

        try:
            self._key = Ed25519PublicKey.from_public_bytes(raw)
        except ValueError as error:
            raise WireError("not a public key") from error
        if raw[:31] + bytes([raw[31] & 0x7F]) in _WEAK_KEYS:
            raise WireError("not a public key: its signatures would prove nothing")
        self.raw = raw
        self.id: str = key_id(raw)
        self.text = _to_text(raw)

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Read the text of a key.

        Raises:
            WireError: It is none.
        """
        return cls(_from_text(text, "public key"))

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether the holder of the key signed exactly this."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - see top

        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        """Whether it is the same key."""
        return isinstance(other, PublicKey) and other.raw == self.raw

    def __hash__(self) -> int:
        """As equality has it."""
        return hash(self.raw)

    def __repr__(self) -> str:
        """Name it by the beginning of its id."""
        return f"PublicKey({self.id[:8]})"


class SigningKey:
    """A key that signs; its seed never shows in a representation."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        """Make the key of a seed of 32 random bytes.

        Raises:
            WireError: The seed has another length.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - see top
            Ed25519PrivateKey,
        )

        try:
            self._key = Ed25519PrivateKey.from_private_bytes(seed)
        except ValueError as error:
            raise WireError("not the seed of a key") from error
        self.seed = seed
        self.public = PublicKey(self._key.public_key().public_bytes_raw())

    @property
    def id(self) -> str:
        """The id of the public key."""
        return self.public.id

    def sign(self, data: bytes) -> bytes:
        """The signature over exactly this, 64 bytes."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        """Name the public key only."""
        return f"SigningKey({self.id[:8]})"


def key_id(raw: bytes) -> str:
    """The id of a public key."""
    return hashlib.sha256(raw).hexdigest()[:32]


def fingerprint(key: PublicKey) -> str:
    """What two people read to each other to compare a key: its id in groups of four."""
    return " ".join(key.id[start : start + 4] for start in range(0, 32, 4))


def message_bytes(topic: str, text: bytes) -> bytes:
    """What the signature of a message is over."""
    return b"%b%b\n%b" % (_MESSAGE, topic.encode(), text)


def seal(key: SigningKey, kind: str, data: bytes) -> str:
    """Sign a document of HQ's, once for ever."""
    return f"{key.id} {signature_text(key.sign(_seal_bytes(kind, data)))}"


def key_of_seal(seal: str) -> str:
    """The id of the key that a seal claims to be of; empty without a seal."""
    return seal.partition(" ")[0]


def check_seal(key: PublicKey, kind: str, data: bytes, seal: str) -> None:
    """Make sure that this key sealed exactly this document.

    Raises:
        ForgeryError: It did not.
    """
    named, _, signature = seal.partition(" ")
    if named != key.id or not key.verifies(parse_signature(signature), _seal_bytes(kind, data)):
        raise ForgeryError(f"a {kind} whose seal is not of the key {key.id[:8]}")


def proof_bytes(bundle: str, token_hash: str) -> bytes:
    """What a device signs with its own key when it joins."""
    return _PROOF + f"{bundle} {token_hash}".encode()


def signature_text(signature: bytes) -> str:
    """Spell a signature."""
    return _to_text(signature)


def parse_signature(text: str) -> bytes:
    """Read a signature.

    Raises:
        ForgeryError: It is none.
    """
    try:
        signature = _from_text(text, "signature")
    except WireError as error:
        raise ForgeryError(str(error)) from error
    if len(signature) != SIGNATURE_BYTES:
        raise ForgeryError("not a signature")
    return signature


def _seal_bytes(kind: str, data: bytes) -> bytes:
    return b"%b%b\n%b" % (_SEAL, kind.encode(), data)


def _to_text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _from_text(text: str, what: str) -> bytes:
    """Read base64url without padding, in its one canonical spelling."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise WireError(f"not a {what}") from error
    if _to_text(raw) != text:
        raise WireError(f"not a {what}")
    return raw
