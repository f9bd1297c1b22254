"""Secrets: drawing them, and keeping them in files that only their owner can read.

Owns the files' access rights, and the two shapes that random secrets have here. Must not know what
a secret opens.

Invariants:
- A secret is never readable by others, not even while it is being written or replaced.
- A secret that others could have read is not used: whoever finds one gets a refusal that names the
  command which closes the file, because a new secret may be the better cure.
"""

import base64
import os
import stat
import sys
from pathlib import Path

from buskit.errors import KitError
from buskit.files import write_atomically

TOKEN_BYTES = 32
SEED_BYTES = 32
_MOST_BYTES = 1024 * 1024

# RFC 8410, sections 7 and 10.3: the DER of such a key is always this and then the seed.
_ED25519_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


class SecretError(KitError):
    """A secret cannot be kept or must not be used."""


class SecretMissing(SecretError):  # noqa: N818 - it names the state it was found in
    """There is no such secret."""


def new_token() -> str:
    """Draw a token: 256 random bits as 43 characters of base64url, without padding."""
    return base64.urlsafe_b64encode(os.urandom(TOKEN_BYTES)).rstrip(b"=").decode()


def new_seed() -> bytes:
    """Draw the 32 random bytes from which an Ed25519 key is made."""
    return os.urandom(SEED_BYTES)


def write_secret(path: Path, content: bytes) -> None:
    """Write a secret, replacing what is there; the folder must exist.

    When it returns the secret is durable. Only the owner can read it from its first byte on,
    whatever rights the file had that it replaces; a crash leaves the old content or the new.

    Raises:
        SecretError: It cannot be written; the old content is still there.
    """
    try:
        write_atomically(path, content, mode=0o600)
    except OSError as error:
        raise SecretError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="look at the rights of its folder and at the free space",
        ) from error


def read_secret(path: Path) -> bytes:
    """Read a secret.

    On Windows nobody's rights are checked: the bits that Python shows there say nothing about who
    may read a file, and the homes lie in folders that Windows keeps for their user.

    Raises:
        SecretMissing: There is no such file.
        SecretError: It cannot be read, is not ours, or others may read it.
    """
    try:
        # Without O_NONBLOCK a named pipe in its place would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise SecretMissing(f"there is no {path}") from error
    except OSError as error:
        raise SecretError(
            f"{path} cannot be read: {error.strerror or error}",
            hint=f"look at it: ls -l {_quoted(path)}",
        ) from error
    try:
        found = os.fstat(descriptor)  # of what was opened: the name may mean another one by now
        if not stat.S_ISREG(found.st_mode):
            raise SecretError(f"{path} is no file")
        if found.st_size > _MOST_BYTES:
            raise SecretError(f"{path} has {found.st_size} bytes; that is no secret of ours")
        _refuse_open(path, found)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise SecretError(f"{path} cannot be read: {error.strerror or error}") from error
    finally:
        os.close(descriptor)


def private_key_pem(seed: bytes) -> bytes:
    """Return an Ed25519 key as a PEM file, as TLS wants it for a client certificate (RFC 8410).

    The key that signs messages may serve here, too: what TLS signs begins with 64 spaces (1.3) or
    with a ClientHello (1.2), which no signed message and no seal does.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    body = base64.b64encode(_ED25519_PKCS8 + seed)  # 64 characters: exactly one line
    return b"-----BEGIN PRIVATE KEY-----\n" + body + b"\n-----END PRIVATE KEY-----\n"


def _refuse_open(path: Path, found: os.stat_result) -> None:
    """Refuse a file that is not ours alone."""
    if sys.platform != "win32":
        ours = os.geteuid()
        if found.st_uid != ours:
            raise SecretError(
                f"{path} belongs to another user (number {found.st_uid}; we are {ours})",
                hint=f"run this as that user, or: sudo chown {ours} {_quoted(path)}",
            )
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077:
            raise SecretError(
                f"others than its owner may use {path} (its mode is {mode:03o})",
                hint=f"chmod 600 {_quoted(path)}",
            )


def _quoted(path: Path) -> str:
    """Return the path as a shell takes it."""
    import shlex  # noqa: PLC0415 - needed for a refusal only

    return shlex.quote(str(path))
