"""HQ's keys in memory: what `Keyring` is for a home, for desks that have none."""

from collections.abc import Callable, Sequence

from buswire.signing import PublicKey, SigningKey
from buswire.trust import KeyEntry, Trust, Trusted, announce


class MemoryKeys:
    """A recovery key and a chain; every new key signs at once."""

    def __init__(self, draw_seed: Callable[[], bytes]) -> None:
        """Begin as `keyring.create` does."""
        self._draw_seed = draw_seed
        self.recovery = SigningKey(draw_seed())
        self.entries: Sequence[KeyEntry] = ()
        self.stolen: frozenset[str] = frozenset()
        self.all: list[SigningKey] = []
        self.recover(stolen=False)

    def recover(self, *, stolen: bool) -> SigningKey:
        """Begin a new epoch; the keys of before may count no longer."""
        epoch = self.entries[-1].epoch + 1 if self.entries else 1
        if stolen:
            self.stolen = frozenset(key.id for key in self.all)
        return self._add(epoch, 1, self.recovery)

    def rotate(self) -> SigningKey:
        """Announce a new key, signed by the one before."""
        last = self.entries[-1]
        return self._add(last.epoch, last.number + 1, self.all[-1])

    def _add(self, epoch: int, number: int, by: SigningKey) -> SigningKey:
        key = SigningKey(self._draw_seed())
        self.entries = (*self.entries, announce(key.public, epoch=epoch, number=number, by=by))
        self.all.append(key)
        return key

    def signing(self, at: float) -> SigningKey:
        """The newest key."""
        return self.all[-1]

    def key_of(self, key_id: str) -> PublicKey | None:
        """A key that was announced and not stolen."""
        for key in self.all:
            if key.id == key_id and key_id not in self.stolen:
                return key.public
        return None

    def trusted(self) -> Trusted:
        """What a device pins that joins now."""
        begin = Trust(Trusted(recovery=self.recovery.public.text))
        return begin.follow(self.entries).trust.kept
