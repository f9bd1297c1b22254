"""HQ's own keys: files in `<home>/keys/`, and which of them signs and which still count.

Owns the files' names and formats, when a key begins to sign, and the three ways in which the chain
of keys (`buswire.trust`) grows: its beginning, a rotation, a recovery. Must not know what is signed
with them, nor the ledger.

- `chain.json`, public: the recovery key's public half, and the keys in the order in which they were
  announced, each with the time from which it signs.
- `<key id>.key`: the seed of a key, only for its owner.
- `recovery.key`: the seed of the recovery key. It is needed for `recover` alone and belongs into a
  safe, away from this machine.

Invariants:
- A key is announced only after its seed is on the disk.
- The key that signs is one that every device trusts which has followed the chain: devices trust the
  two newest of an epoch, so a rotation must be over before the next one begins.
- The private half of a key is here only as long as somebody trusts the key.
- A key that was declared stolen counts for nothing from then on; nothing takes that back.
"""

import base64
import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from buskit.files import make_folder, write_atomically
from buskit.locks import FileLock, LockBusy
from buskit.secrets import SecretMissing, new_seed, read_secret, write_secret
from buswire.errors import WireError
from buswire.signing import KeyText, PublicKey, SigningKey
from buswire.trust import KeyEntry, Trust, Trusted, announce
from hqconsole.errors import HqError

FOLDER_NAME = "keys"
CHAIN_NAME = "chain.json"
RECOVERY_NAME = "recovery.key"
OVERLAP_SECONDS = 24 * 3600.0
"""How long a new key is announced before it signs, unless the operator says otherwise."""

_FORMAT = 1
_LOCK_SECONDS = 10.0


class KeyringError(HqError):
    """HQ's keys cannot be used, or not so."""


class KeyringMissing(KeyringError):  # noqa: N818 - it names the state they were found in
    """There are no keys in this home."""


class HqKeys(Protocol):
    """What the desk needs of HQ's keys: read from files, or made in memory by simulations."""

    @property
    def entries(self) -> Sequence[KeyEntry]:
        """The chain of announcements, as devices follow it."""

    @property
    def stolen(self) -> frozenset[str]:
        """The ids of keys that were declared stolen."""

    def signing(self, at: float) -> SigningKey:
        """The key that signs at this Unix time."""

    def key_of(self, key_id: str) -> PublicKey | None:
        """The key of that id if HQ ever announced it and nobody stole it: its seals count."""


class Announced(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key of the chain."""

    entry: KeyEntry
    signs_at: float
    """From when on it signs, Unix time."""
    stolen_at: float | None = None
    """When an operator declared it stolen."""

    @property
    def public(self) -> PublicKey:
        """The key itself."""
        return PublicKey.parse(self.entry.key)


class _Chain(msgspec.Struct, frozen=True, kw_only=True):
    format: int = _FORMAT
    recovery: KeyText
    keys: list[Announced]


class Keyring:
    """The keys of a home as they were read; what changes them writes new files."""

    def __init__(
        self, recovery: str, keys: Sequence[Announced], seeds: Sequence[SigningKey]
    ) -> None:
        """Take a chain and those private keys that are here.

        Raises:
            KeyringError: No device that knows this recovery key would follow this chain.
            WireError: A key is none.
        """
        self.recovery = recovery
        self.keys = tuple(keys)
        self.entries: tuple[KeyEntry, ...] = tuple(one.entry for one in keys)
        self.stolen = frozenset(one.public.id for one in keys if one.stolen_at is not None)
        trust = Trust(Trusted(recovery=recovery))
        for one in keys:
            trust = trust.follow([one.entry]).trust
            if trust.newest != one.public.id:
                raise KeyringError(
                    "the chain of HQ's keys contradicts itself: its entries do not follow",
                    hint=f"put {FOLDER_NAME}/{CHAIN_NAME} back from its backup",
                )
        self._trusted = trust.kept
        self._counting = {one.public.id: one.public for one in keys if one.stolen_at is None}
        private = {seed.id: seed for seed in seeds}
        self.here = frozenset(private)
        """The ids of the keys whose private half is here."""
        trusted = {PublicKey.parse(text).id for text in self._trusted.keys}
        # The newest first. Where its seed is gone, the one before it is still trusted.
        self._signers = [
            (one.signs_at, private[one.public.id])
            for one in reversed(self.keys)
            if one.public.id in trusted and one.public.id in private
        ]

    @classmethod
    def load(cls, home: Path) -> "Keyring":
        """Read the keys of a home.

        Raises:
            KeyringMissing: There are none.
            KeyringError: The chain is damaged, or no private key is here that may sign.
            SecretError: Others can read a private key.
        """
        folder = home / FOLDER_NAME
        chain = _read_chain(folder)
        seeds = []
        for one in chain.keys[-2:]:
            with contextlib.suppress(SecretMissing):
                seeds.append(read_key(_key_path(folder, one.public)))
        keyring = cls(chain.recovery, chain.keys, seeds)
        if not keyring._signers:
            newest = chain.keys[-1].public
            raise KeyringError(
                f"the key that signs is not in {_key_path(folder, newest)}",
                hint="put it back from its backup, or: hq key recover --recovery-key FILE",
            )
        return keyring

    def signing(self, at: float) -> SigningKey:
        """The newest key that signs by then; of those that are here, whatever the clock says."""
        for signs_at, key in self._signers:
            if signs_at <= at:
                return key
        return self._signers[-1][1]

    def key_of(self, key_id: str) -> PublicKey | None:
        """The key of that id if HQ ever announced it and nobody stole it: its seals count."""
        return self._counting.get(key_id)

    def trusted(self) -> Trusted:
        """What a device pins that joins now."""
        return self._trusted


def stamp(home: Path) -> object:
    """Something that differs once the keys of a home were changed."""
    try:
        found = (home / FOLDER_NAME / CHAIN_NAME).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def exists(home: Path) -> bool:
    """Whether the home has keys."""
    return (home / FOLDER_NAME / CHAIN_NAME).exists()


def recovery_of(home: Path) -> str:
    """The public half of the home's recovery key; empty where there are no keys.

    Raises:
        KeyringError: The chain is damaged.
    """
    return _read_chain(home / FOLDER_NAME).recovery if exists(home) else ""


def create(home: Path, *, at: float) -> Keyring:
    """Make the recovery key and the first key; durable when it returns, idempotent.

    Raises:
        KeyringError: There are keys already, and they cannot be used.
        SecretError: The files cannot be written.
    """
    folder = home / FOLDER_NAME
    make_folder(folder)
    with _locked(folder):
        if not (folder / CHAIN_NAME).exists():
            try:  # a creation that was cut short has left it
                recovery = read_key(folder / RECOVERY_NAME)
            except SecretMissing:
                recovery = SigningKey(new_seed())
                write_key(folder / RECOVERY_NAME, recovery)
            first = SigningKey(new_seed())
            write_key(_key_path(folder, first.public), first)
            entry = announce(first.public, epoch=1, number=1, by=recovery)
            chain = _Chain(
                recovery=recovery.public.text, keys=[Announced(entry=entry, signs_at=at)]
            )
            _write_chain(folder, chain)
    return Keyring.load(home)


def rotate(home: Path, overlap_seconds: float, at: float) -> Keyring:
    """Announce a new key, which signs once the overlap is over; the hub notices by itself.

    Raises:
        KeyringMissing: There are no keys.
        KeyringError: The last rotation is not over, or the key that has to sign is not here.
    """
    folder = home / FOLDER_NAME
    with _locked(folder):
        chain = _read_chain(folder)
        newest = chain.keys[-1]
        if newest.signs_at > at:
            raise KeyringError(
                f"the key {newest.public.id[:8]} was announced and does not sign yet:"
                " devices that were asleep would not follow another one",
                hint="see when it begins to: hq key list; a stolen key: hq key recover --stolen",
            )
        signer = Keyring.load(home).signing(at)
        key = SigningKey(new_seed())
        write_key(_key_path(folder, key.public), key)
        entry = announce(
            key.public, epoch=newest.entry.epoch, number=newest.entry.number + 1, by=signer
        )
        added = Announced(entry=entry, signs_at=at + max(0.0, overlap_seconds))
        chain = msgspec.structs.replace(chain, keys=[*chain.keys, added])
        _write_chain(folder, chain)
        _drop_seeds(folder, chain)
    return Keyring.load(home)


def recover(home: Path, recovery_key_file: Path, *, stolen: bool, at: float) -> Keyring:
    """Begin a new epoch with a new key, which signs at once and is the only one trusted.

    Args:
        home: HQ's home; all it needs is the chain.
        recovery_key_file: Where the recovery key lies at present.
        stolen: Whether somebody else may have the keys of before: then their seals count no
            longer, and the hub seals anew what they had sealed.
        at: The present time.

    Raises:
        KeyringMissing: There are no keys.
        KeyringError: The file is not the recovery key of this head office.
        SecretError: It is not there, or others can read it.
    """
    folder = home / FOLDER_NAME
    with _locked(folder):
        chain = _read_chain(folder)
        recovery = read_key(recovery_key_file)
        if recovery.public.text != chain.recovery:
            raise KeyringError(
                f"{recovery_key_file} is not the recovery key of this head office",
                hint="devices trust only the one that was made with this home",
            )
        key = SigningKey(new_seed())
        write_key(_key_path(folder, key.public), key)
        # Devices follow only what is newer than all they know, and this chain may be an older copy
        # of one that had a recovery since: so the time of day is the number, if that is higher.
        epoch = max(*(one.entry.epoch + 1 for one in chain.keys), int(at))
        entry = announce(key.public, epoch=epoch, number=1, by=recovery)
        before = [
            msgspec.structs.replace(one, stolen_at=at) if stolen and one.stolen_at is None else one
            for one in chain.keys
        ]
        keys = [*before, Announced(entry=entry, signs_at=at)]
        chain = msgspec.structs.replace(chain, keys=keys)
        _write_chain(folder, chain)
        _drop_seeds(folder, chain)
    return Keyring.load(home)


def write_key(path: Path, key: SigningKey) -> None:
    """Keep a private key: its seed as one line of base64url, only for its owner.

    Raises:
        SecretError: It cannot be written.
    """
    write_secret(path, base64.urlsafe_b64encode(key.seed).rstrip(b"=") + b"\n")


def read_key(path: Path) -> SigningKey:
    """Read what `write_key` wrote.

    Raises:
        SecretError: It is not there, or others can read it.
        KeyringError: It is no key.
    """
    text = read_secret(path).strip()
    try:
        seed = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return SigningKey(seed)
    except (ValueError, WireError) as error:
        raise KeyringError(f"{path} has no private key in it") from error


def _key_path(folder: Path, key: PublicKey) -> Path:
    return folder / f"{key.id}.key"


def _drop_seeds(folder: Path, chain: _Chain) -> None:
    """Remove the private keys that nobody trusts any more.

    They sign nothing again, and a seal of theirs still counts: whoever copied one could write
    directives of yesterday. What cannot be removed now is removed the next time.
    """
    trusted = {
        PublicKey.parse(one).id for one in Keyring(chain.recovery, chain.keys, ()).trusted().keys
    }
    for one in chain.keys:
        if one.public.id not in trusted:
            with contextlib.suppress(OSError):
                _key_path(folder, one.public).unlink(missing_ok=True)


def _read_chain(folder: Path) -> _Chain:
    path = folder / CHAIN_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise KeyringMissing(
            f"head office has no keys in {folder}",
            hint="put them back from their backup; a new head office: hq init",
        ) from error
    except OSError as error:
        raise KeyringError(f"{path} cannot be read: {error.strerror or error}") from error
    hint = f"put {path} back from its backup"
    try:
        chain = msgspec.json.decode(content, type=_Chain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeyringError(f"{path} is damaged: {error}", hint=hint) from error
    if chain.format != _FORMAT:
        raise KeyringError(f"{path} is of format {chain.format}", hint="use a newer program")
    if not chain.keys:
        raise KeyringError(f"{path} names no key", hint=hint)
    return chain


def _write_chain(folder: Path, chain: _Chain) -> None:
    text = msgspec.json.format(msgspec.json.encode(chain)) + b"\n"
    path = folder / CHAIN_NAME
    try:
        write_atomically(path, text, mode=0o644)
    except OSError as error:
        raise KeyringError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One who changes the keys at a time."""
    if not folder.is_dir():
        _read_chain(folder)
    lock = FileLock(os.fspath(folder / "chain.lock"))
    try:
        lock.acquire(_LOCK_SECONDS)
    except LockBusy as busy:
        raise KeyringError("somebody else is changing the keys", hint="try again") from busy
    try:
        yield
    finally:
        lock.release()
        lock.close()
