"""HQ's keys as others come to trust them: a chain of announcements, each signed by what was before.

Owns when a key is trusted and when not any more. Must not know where keys or chains are kept.

Two kinds of keys: the *recovery key*, made once, kept offline, pinned by every device when it
joins; and the keys that sign messages, one after the other. An entry of the chain announces one of
these:

- A *rotation* has the epoch that is in force and the next number, and is signed by a key that is
  trusted. From then on the new key and the newest before it are trusted: while one takes over from
  the other both may be heard. Who slept through several rotations follows them one by one.
- A *recovery* has a higher epoch and is signed by the recovery key. The key that it announces is
  the only one trusted from then on, whatever was announced in earlier epochs, by whomever: that is
  how a lost key is replaced and how a stolen one is made worthless.

The first entry of a chain is a recovery like any other. Nobody can go back: an entry of an earlier
epoch, or of a number that is not the next one, is passed over (rollback, TUF's word).
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from buswire.errors import WireError
from buswire.signing import (
    ForgeryError,
    KeyId,
    KeyText,
    PublicKey,
    SignatureText,
    SigningKey,
    parse_signature,
    signature_text,
)

CHAIN_LIMIT = 200
"""The most entries that one welcome carries; who is further behind is told again from there."""

Count = Annotated[int, Meta(ge=0, le=2**53)]


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The announcement of one key."""

    epoch: Count
    number: Count
    key: KeyText
    by: KeyId
    signature: SignatureText


def announce(key: PublicKey, *, epoch: int, number: int, by: SigningKey) -> KeyEntry:
    """Write an entry: a rotation with a trusted key, a recovery with the recovery key."""
    signature = by.sign(_entry_bytes(epoch, number, key.text))
    return KeyEntry(
        epoch=epoch, number=number, key=key.text, by=by.id, signature=signature_text(signature)
    )


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """What is pinned, as it is kept and as a join bundle carries it."""

    recovery: KeyText
    epoch: Count = 0
    number: Count = 0
    keys: list[KeyText] = []
    """The trusted keys, the newest last; none before the first entry was followed."""


class Followed(NamedTuple):
    """What came of following a chain."""

    trust: "Trust"
    refused: int
    """Entries that claimed to go on from here and were not signed so."""


class Trust:
    """The keys that are trusted at a moment; never changed, only followed by another."""

    def __init__(self, kept: Trusted) -> None:
        """Begin from what is pinned.

        Raises:
            WireError: One of the keys is none.
        """
        self.kept = kept
        self._recovery = PublicKey.parse(kept.recovery)
        self._keys = {key.id: key for key in map(PublicKey.parse, kept.keys)}

    @property
    def newest(self) -> str:
        """The id of the newest key; empty before the first."""
        return next(reversed(self._keys), "")

    def key_of(self, key_id: str) -> PublicKey | None:
        """The key of that id, if it is trusted."""
        return self._keys.get(key_id)

    def follow(self, entries: Iterable[KeyEntry]) -> Followed:
        """Go along a chain as far as it is signed; entries from before are passed over."""
        trust, refused = self, 0
        for entry in entries:
            try:
                trust = trust._step(entry)
            except WireError:
                refused += 1
        return Followed(trust, refused)

    def _step(self, entry: KeyEntry) -> "Trust":
        kept = self.kept
        if entry.epoch > kept.epoch:
            signer: PublicKey | None = self._recovery
            keys = [entry.key]
        elif entry.epoch == kept.epoch and entry.number == kept.number + 1:
            signer = self._keys.get(entry.by)
            keys = [*kept.keys[-1:], entry.key]
        else:
            return self
        signed = _entry_bytes(entry.epoch, entry.number, entry.key)
        if (
            signer is None
            or entry.by != signer.id
            or not signer.verifies(parse_signature(entry.signature), signed)
        ):
            raise ForgeryError("an announcement of a key that no trusted key signed")
        return Trust(
            Trusted(recovery=kept.recovery, epoch=entry.epoch, number=entry.number, keys=keys)
        )


def chain_after(entries: Sequence[KeyEntry], newest: str) -> list[KeyEntry]:
    """What of a chain somebody lacks whose newest key is this one.

    Whoever knows a key that is not in the chain gets it from the latest recovery on, which
    outranks whatever led them astray.
    """
    for index in range(len(entries) - 1, -1, -1):
        if PublicKey.parse(entries[index].key).id == newest:
            return list(entries[index + 1 :][:CHAIN_LIMIT])
    last_recovery = max(
        (index for index, entry in enumerate(entries) if _begins_epoch(entries, index)),
        default=0,
    )
    return list(entries[last_recovery:][:CHAIN_LIMIT])


def _begins_epoch(entries: Sequence[KeyEntry], index: int) -> bool:
    return index == 0 or entries[index].epoch > entries[index - 1].epoch


def _entry_bytes(epoch: int, number: int, key: str) -> bytes:
    return f"storebus/1 key\n{epoch} {number} {key}".encode()
