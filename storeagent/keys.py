"""The key file of a device: who it is towards HQ, and whom it believes to be HQ.

Owns `device.key` and the certificates beside it. Must not know how a device joins or what it signs.

Invariants:
- The private key never leaves the machine: it was drawn here, and no message carries it.
- All secrets of a device are in files that only its owner can read, written whole or not at all.
- What is pinned here is of the joining; keys of HQ's that were announced later are in the database.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import msgspec

from buskit.files import write_atomically
from buskit.link_settings import TlsSettings
from buskit.secrets import SecretMissing, private_key_pem, read_secret, write_secret
from buswire.errors import WireError
from buswire.phrases import phrase
from buswire.signing import KeyText, PublicKey, SigningKey
from buswire.topics import Identity
from buswire.trust import Trusted
from storeagent.database import KEY_NAME
from storeagent.errors import AgentError
from storeagent.settings import HINT_CREATE, hint_to_join

FORMAT = 1
CA_NAME = "ca.pem"
CERTIFICATE_NAME = "client.pem"
CERTIFICATE_KEY_NAME = "client.key"


class KeyFileError(AgentError):
    """The device's key file is missing, cannot be read, or is another device's."""


class DeviceKey(msgspec.Struct, frozen=True, kw_only=True):
    """What the key file says; its secrets never show in a representation."""

    format: int = FORMAT
    store: str
    device: str
    root: str
    seed: KeyText
    """Of the key that this device signs with, base64url."""
    token: str
    """The password for the broker."""
    trust: Trusted
    """HQ's keys as the join bundle pinned them."""
    bundle: str = ""
    """The join bundle that it came by."""

    @property
    def identity(self) -> Identity:
        """Whose key it is."""
        return Identity(self.store, self.device)

    @property
    def signing_key(self) -> SigningKey:
        """The key itself."""
        return SigningKey(seed_of(self.seed))

    def __repr__(self) -> str:
        """Name the device only."""
        return f"DeviceKey({self.identity})"


_decoder = msgspec.json.Decoder(DeviceKey)


def seed_of(text: str) -> bytes:
    """Read a seed as it stands in key files and bundles.

    Raises:
        WireError: It is none.
    """
    try:
        seed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise WireError("not the seed of a key") from error
    if len(seed) != 32:
        raise WireError("not the seed of a key")
    return seed


def seed_text(seed: bytes) -> str:
    """Spell a seed."""
    return urlsafe_b64encode(seed).rstrip(b"=").decode()


def has_key(home: Path) -> bool:
    """Whether this device has joined."""
    return (home / KEY_NAME).exists()


def write_key(home: Path, key: DeviceKey) -> None:
    """Save the key file; durable when it returns.

    Raises:
        SecretError: It cannot be written; what was there is still there.
    """
    write_secret(home / KEY_NAME, msgspec.json.format(msgspec.json.encode(key)) + b"\n")


def read_key(home: Path, identity: Identity, root: str) -> DeviceKey:
    """Read the key file.

    Args:
        home: The device's home.
        identity: Whose it must be, by the settings.
        root: For which bus, likewise.

    Raises:
        KeyFileError: There is none, or it is broken, or of another device.
        SecretError: Others can read it.
    """
    path = home / KEY_NAME
    try:
        key = _read(path)
    except SecretMissing as error:
        raise KeyFileError(
            phrase("{device} has not joined: there is no {path}", device=identity, path=path),
            hint=hint_to_join(home),
        ) from error
    if (key.identity, key.root) != (identity, root):
        raise KeyFileError(
            f"{path} is the key of {key.identity} below {key.root}, "
            f"and the settings are those of {identity} below {root}",
            hint="put the right settings back, or join again with a bundle for this device",
        )
    return key


def peek_key(home: Path) -> DeviceKey | None:
    """The key file of whatever device this is; None where there is none, or a broken one.

    Raises:
        SecretError: Others can read it.
    """
    try:
        return _read(home / KEY_NAME)
    except (SecretMissing, KeyFileError):
        return None


def _read(path: Path) -> DeviceKey:
    content = read_secret(path)
    try:
        key = _decoder.decode(content)
        PublicKey.parse(key.trust.recovery)
        for text in key.trust.keys:
            PublicKey.parse(text)
        seed_of(key.seed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, WireError) as error:
        raise KeyFileError(f"{path} is no key file: {error}", hint=HINT_CREATE) from error
    if key.format != FORMAT:
        raise KeyFileError(
            f"{path} has format {key.format}, and {FORMAT} is what is known here",
            hint="bring this program up to date",
        )
    return key


def tls_settings(home: Path, ca_file: str | None = None) -> TlsSettings | None:
    """What the link needs for encrypted addresses; None trusts the CAs of the system.

    Args:
        home: The device's home.
        ca_file: A private CA's file, below the home; if not given, the one of the join bundle.
    """
    ca = home / (ca_file or CA_NAME)
    certificate = home / CERTIFICATE_NAME
    shown = certificate.exists()
    if ca_file is None and not ca.exists() and not shown:
        return None
    return TlsSettings(
        ca_file=ca if ca_file is not None or ca.exists() else None,
        certificate_file=certificate if shown else None,
        key_file=home / CERTIFICATE_KEY_NAME if shown else None,
    )


def write_certificates(home: Path, *, ca: str, certificate: str, seed: bytes) -> None:
    """Save what TLS needs besides the key file; an empty text takes away what was there.

    Raises:
        SecretError: A file cannot be written.
        OSError: Likewise.
    """
    if certificate:
        write_secret(home / CERTIFICATE_KEY_NAME, private_key_pem(seed))
    for name, content in ((CA_NAME, ca), (CERTIFICATE_NAME, certificate)):
        if content:
            write_atomically(home / name, content.encode())
        else:
            (home / name).unlink(missing_ok=True)
    if not certificate:
        (home / CERTIFICATE_KEY_NAME).unlink(missing_ok=True)
