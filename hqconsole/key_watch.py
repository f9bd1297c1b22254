"""HQ's keys while the hub runs: taken anew when a command has changed them.

Owns when to look, and which key is known to sign. What is in the keyring is `keyring`'s, who goes
by it is the hub's. Must not know links or ledgers.
"""

from collections.abc import Callable
from pathlib import Path

from buswire.errors import BusError
from hqconsole import keyring
from hqconsole.keyring import HqKeys, Keyring

_LOOK_SECONDS = 1.0


class KeyWatch:
    """The present keys of one home.

    Attributes:
        keys: HQ's keys, as they were when `look` last looked.
    """

    def __init__(self, home: Path, keys: HqKeys, *, say: Callable[[str], None], at: float) -> None:
        """Begin with the keys of the home.

        Args:
            home: HQ's.
            keys: What `hub_identity.prepare` gave.
            say: Tells whoever reads the log.
            at: Unix time as HQ goes by it.
        """
        self.keys = keys
        self._home = home
        self._say = say
        self._stamp = keyring.stamp(home)
        self._signer = keys.signing(at).id
        self._look_at = 0.0

    def look(self, now: float, at: float, take: Callable[[HqKeys], None]) -> bool:
        """Look whether they have changed; once a second, cheap in between.

        Args:
            now: Monotonic seconds.
            at: Unix time as HQ goes by it.
            take: Is given the new keys, if there are any.

        Returns:
            Whether another key signs since the last look.
        """
        if now < self._look_at:
            return False
        self._look_at = now + _LOOK_SECONDS
        found = keyring.stamp(self._home)
        if found != self._stamp:
            self._stamp = found
            if self._load():
                take(self.keys)
        signer = self.keys.signing(at).id
        if signer == self._signer:
            return False
        self._signer = signer
        self._say(f"the key {signer[:8]} signs")
        return True

    def _load(self) -> bool:
        try:
            self.keys = Keyring.load(self._home)
        except BusError as error:
            self._say(f"HQ's keys stay what they were: {error}")
            return False
        return True
