"""The keys of a world, all from its seed: HQ's in memory, and one for each device that joins.

HQ's keyring is the one that ships, made from a chain instead of files. Owns how that chain grows,
and which of its keys somebody else has.

Signatures are real. To check one takes longer than all the rest of what a message costs here, so a
world may remember what was signed in it: the same signature by the same key over the same bytes is
good, and everything else is checked.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from unittest import mock

from buswire.signing import PublicKey, SigningKey
from buswire.trust import KeyEntry, Trusted, announce
from hqconsole.keyring import Announced, Keyring
from tests.simulation.timeline import Timeline


class Seeds:
    """Draws keys, apart from all other chance of a world."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"keys of {seed}")

    def key(self) -> SigningKey:
        """A key that nobody has."""
        return SigningKey(self._random.randbytes(32))


@contextlib.contextmanager
def remembered_signatures() -> Iterator[None]:
    """Within, what was signed by the code that ships need not be checked."""
    signed: set[tuple[bytes, bytes, bytes]] = set()
    sign, verifies = SigningKey.sign, PublicKey.verifies

    def sign_and_remember(self: SigningKey, data: bytes) -> bytes:
        signature = sign(self, data)
        signed.add((self.public.raw, signature, data))
        return signature

    def verifies_or_remembers(self: PublicKey, signature: bytes, data: bytes) -> bool:
        return (self.raw, signature, data) in signed or verifies(self, signature, data)

    with (
        mock.patch.object(SigningKey, "sign", sign_and_remember),
        mock.patch.object(PublicKey, "verifies", verifies_or_remembers),
    ):
        yield


class HqKeys:
    """HQ's chain of keys; what the hub asks of it, it asks of the keyring of this moment."""

    def __init__(self, timeline: Timeline, seeds: Seeds, *, under_way_seconds: float) -> None:
        self._timeline = timeline
        self._seeds = seeds
        self._under_way_seconds = under_way_seconds
        self._recovery = seeds.key()
        self._private: list[SigningKey] = []
        self._chain: list[Announced] = []
        self.recoveries = 0
        self.in_other_hands: list[SigningKey] = []
        """Keys that were stolen, and are known to be."""
        self._announce(epoch=1, number=1, by=self._recovery, signs_at=0.0)

    def _announce(self, *, epoch: int, number: int, by: SigningKey, signs_at: float) -> None:
        key = self._seeds.key()
        entry = announce(key.public, epoch=epoch, number=number, by=by)
        self._private.append(key)
        self._chain.append(Announced(entry=entry, signs_at=signs_at))
        self.keyring = Keyring(self._recovery.public.text, self._chain, self._private)

    # --- what operators do -----------------------------------------------------------------------

    def may_rotate(self) -> bool:
        """Whether the last rotation is over, so that another one may begin.

        And what the key of before signed has arrived: no device listens to three of them.
        """
        arrived_at = self._chain[-1].signs_at + self._under_way_seconds
        return arrived_at <= self._timeline.wall_clock()

    def rotate(self, overlap_seconds: float) -> None:
        """Announce another key, which signs after the overlap."""
        at, last = self._timeline.wall_clock(), self._chain[-1].entry
        self._announce(
            epoch=last.epoch,
            number=last.number + 1,
            by=self.keyring.signing(at),
            signs_at=at + overlap_seconds,
        )

    def recover(self, *, stolen: bool) -> None:
        """Begin again with another key, which signs at once."""
        at, last = self._timeline.wall_clock(), self._chain[-1].entry
        if stolen:
            self.in_other_hands += self._private
            self._chain = [
                Announced(entry=one.entry, signs_at=one.signs_at, stolen_at=at)
                for one in self._chain
            ]
        self.recoveries += 1
        self._announce(epoch=last.epoch + 1, number=1, by=self._recovery, signs_at=at)

    # --- what the hub asks -----------------------------------------------------------------------

    @property
    def entries(self) -> Sequence[KeyEntry]:
        """The chain as devices follow it."""
        return self.keyring.entries

    @property
    def stolen(self) -> frozenset[str]:
        """The ids of keys that do not count any more."""
        return self.keyring.stolen

    def signing(self, at: float) -> SigningKey:
        """The key that signs now."""
        return self.keyring.signing(at)

    def key_of(self, key_id: str) -> PublicKey | None:
        """A key whose seals count."""
        return self.keyring.key_of(key_id)

    def trusted(self) -> Trusted:
        """What a device pins that joins now."""
        return self.keyring.trusted()
