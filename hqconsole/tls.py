"""TLS at head office: a CA of its own, the broker's certificate, and where both are kept.

Owns the folder `tls` in HQ's home. What stands in a certificate is `certificates`; who may do what
on the broker is not decided here.

    tls/ca.pem       the CA's certificate: public, every device pins it
    tls/ca.key       its key (0600): whoever has it can pose as the broker and, with mutual TLS,
                     show a certificate for any device; may be kept offline in between
    tls/broker.pem   the broker's certificate
    tls/broker.key   its key (0600)
    tls/hub.pem      with mutual TLS: what the hub shows, and
    tls/hub.key      its key (0600)
    tls/tls.toml     whether devices and hubs must show a certificate

Invariants:
- The CA is made once; everything devices have pinned goes on being right. What is missing beside
  its key is made anew from it.
- A key is written before the certificate that goes with it. What a crash leaves between the two is
  seen and mended by the next `init_tls` or `renew_tls`.
- One writer at a time: `tls/tls.lock`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import Certificate

from buskit.files import write_atomically
from buskit.homes import make_home, read_settings, write_settings
from buskit.link_settings import TlsSettings
from buskit.locks import FileLock
from buskit.secrets import (
    SecretError,
    SecretMissing,
    new_seed,
    private_key_pem,
    read_secret,
    write_secret,
)
from hqconsole.certificates import (
    Key,
    all_hosts,
    belong_together,
    certificate_pem,
    common_name,
    fingerprint,
    hosts_of,
    is_ca_of,
    key_pem,
    make_broker_certificate,
    make_ca,
    make_client_certificate,
    new_key,
    read_certificate,
    read_key,
)
from hqconsole.errors import HqError

FOLDER = "tls"
HINT_INIT = "hq tls init --host bus.example.com"
HINT_RENEW = "hq tls renew"


class TlsError(HqError):
    """TLS is not set up here, or not as it should be."""


class TlsMissing(TlsError):  # noqa: N818 - it names the state it was found in
    """This head office has no CA."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where everything is, whether it is there or not."""

    ca: Path
    ca_key: Path
    broker: Path
    broker_key: Path
    hub: Path
    hub_key: Path
    settings: Path
    lock: Path


@dataclass(frozen=True, slots=True)
class TlsState:
    """What is set up.

    Attributes:
        hosts: What the broker's certificate is for.
        mutual: Whether devices and hubs must show a certificate.
        ca_fingerprint: SHA-256 of the CA's certificate, as openssl writes it.
        broker_fingerprint: Likewise of the broker's.
        valid_from_at: Since when both are valid.
        valid_until_at: Until when both are.
        ca_key_here: Whether the CA's key is in its place: without it nothing new can be signed.
        troubles: What does not fit, each with the command that mends it.
    """

    hosts: tuple[str, ...]
    mutual: bool
    ca_fingerprint: str
    broker_fingerprint: str
    valid_from_at: float
    valid_until_at: float
    ca_key_here: bool
    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TlsChange:
    """What `init_tls` and `renew_tls` did.

    Attributes:
        new_ca: The CA is new: devices that pinned another one have to join again.
        new_certificate: The broker's certificate is new: the broker has to be started again.
        dropped: Hosts that the certificate before was for, and this one is not.
        state: What is set up now.
    """

    new_ca: bool
    new_certificate: bool
    dropped: tuple[str, ...]
    state: TlsState


def tls_files(home: Path) -> TlsFiles:
    """Name the files of a home."""
    folder = home / FOLDER
    return TlsFiles(
        ca=folder / "ca.pem",
        ca_key=folder / "ca.key",
        broker=folder / "broker.pem",
        broker_key=folder / "broker.key",
        hub=folder / "hub.pem",
        hub_key=folder / "hub.key",
        settings=folder / "tls.toml",
        lock=folder / "tls.lock",
    )


def has_tls(home: Path) -> bool:
    """Whether this head office has a CA of its own."""
    return tls_files(home).ca.exists()


def is_mutual(home: Path) -> bool:
    """Whether devices and hubs must show a certificate.

    Raises:
        HomeError: The settings are no TOML.
        TlsError: They say something that cannot be.
    """
    path = tls_files(home).settings
    if not path.exists():
        return False
    mutual = read_settings(path).get("mutual", False)
    if not isinstance(mutual, bool):
        raise TlsError(f"{path}: mutual must be true or false", hint=f"correct {path}")
    return mutual


def ca_certificate(home: Path) -> str | None:
    """Return the CA's certificate as PEM text, as join bundles carry it; None where there is none.

    Raises:
        TlsError: It cannot be read.
    """
    path = tls_files(home).ca
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise TlsError(f"{path} cannot be read: {error}", hint="hq tls show") from error


def init_tls(home: Path, hosts: Sequence[str] = (), *, mutual: bool | None = None) -> TlsChange:
    """Make the CA, if there is none, and a broker's certificate for these hosts. Idempotent.

    Args:
        home: HQ's home, which must exist.
        hosts: Names and IP addresses by which stores reach the broker; those of this machine are
            always added. Without any, those of the certificate that is there stay.
        mutual: Whether devices and hubs must show a certificate; None leaves it as it is.

    Returns:
        What was done; durable by then.

    Raises:
        HostError: One of the hosts is none.
        TlsError: The CA's key is not there or fits nothing.
        SecretError: A key is open to others, or cannot be written.
    """
    wanted = all_hosts(hosts)
    files = _folder(home)
    with _locked(files):
        before = _certificate_if_any(files.broker)
        if not hosts and before is not None:
            wanted = hosts_of(before)
        ca, new_ca = _ca(files)
        intact = before is not None and _fits(files, ca, before)
        changed = not intact or before is None or hosts_of(before) != wanted
        if changed:
            _issue_broker(files, ca, wanted, keep_key=intact)
        if mutual is not None or not files.settings.exists():
            write_settings(files.settings, {"mutual": bool(mutual)})
    return TlsChange(
        new_ca=new_ca,
        new_certificate=changed,
        dropped=_dropped(before, wanted),
        state=tls_state(home),
    )


def renew_tls(home: Path) -> TlsChange:
    """Give the broker a new key and a certificate for the same hosts; the CA stays.

    Raises:
        TlsMissing: There is no CA.
        TlsError: The CA's key is not there or fits nothing, or there is no certificate to renew.
        SecretError: A key is open to others, or cannot be written.
    """
    files = _files_of(home)
    with _locked(files):
        before = _certificate_if_any(files.broker)
        if before is None:
            raise TlsError("there is no certificate of the broker to renew", hint=HINT_INIT)
        ca, _ = _ca(files)
        _issue_broker(files, ca, hosts_of(before), keep_key=False)
    return TlsChange(new_ca=False, new_certificate=True, dropped=(), state=tls_state(home))


def tls_state(home: Path) -> TlsState:
    """Look at what is set up, and whether it fits together.

    Raises:
        TlsMissing: There is no CA.
        TlsError: A certificate is missing or is none.
    """
    files = _files_of(home)
    ca, broker = _certificate(files.ca), _certificate(files.broker)
    if ca is None:
        raise TlsMissing(f"{files.ca} is gone", hint=f"put it back, or {HINT_INIT}")
    if broker is None:
        raise TlsError("the broker has no certificate yet", hint=HINT_INIT)
    troubles = []
    if not is_ca_of(ca, broker):
        troubles.append(f"the broker's certificate is not of this CA; mend it with: {HINT_RENEW}")
    troubles += _key_troubles(files.broker_key, broker, f"mend it with: {HINT_RENEW}")
    ca_key_here = files.ca_key.exists()
    if ca_key_here:
        troubles += _key_troubles(files.ca_key, ca, "put the right one there, from a backup")
    return TlsState(
        hosts=hosts_of(broker),
        mutual=is_mutual(home),
        ca_fingerprint=fingerprint(ca),
        broker_fingerprint=fingerprint(broker),
        valid_from_at=max(one.not_valid_before_utc.timestamp() for one in (ca, broker)),
        valid_until_at=min(one.not_valid_after_utc.timestamp() for one in (ca, broker)),
        ca_key_here=ca_key_here,
        troubles=tuple(troubles),
    )


def issue_client_certificate(home: Path, identity: str, public_key_raw: bytes) -> str:
    """Sign a certificate with which a device or hub shows who it is; nothing of it is kept here.

    Args:
        home: HQ's home.
        identity: Becomes the common name; at most 64 characters.
        public_key_raw: The 32 bytes of an Ed25519 public key: the one that signs its messages may
            serve here, too (see `buskit.secrets.private_key_pem`).

    Returns:
        The certificate as PEM text.

    Raises:
        TlsMissing: There is no CA.
        TlsError: Its key is not there.
        CertificateError: The identity is too long, or that is no key.
        SecretError: The CA's key is open to others.
    """
    files = _files_of(home)
    ca = _certificate(files.ca)
    if ca is None:
        raise TlsMissing(f"{files.ca} is gone", hint=f"put it back, or {HINT_INIT}")
    ca_key = _ca_key(files, ca)
    certificate = make_client_certificate(ca, ca_key, identity, public_key_raw)
    return certificate_pem(certificate).decode("ascii")


def hub_tls(home: Path, identity: str) -> TlsSettings | None:
    """Return what the hub's link needs; None where there is no CA, for the system's then counts.

    With mutual TLS a certificate for `identity` is made when there is none, or not a fitting one.

    Raises:
        TlsError, CertificateError, SecretError: As `issue_client_certificate`.
    """
    files = tls_files(home)
    if not files.ca.exists():
        return None
    if not is_mutual(home):
        return TlsSettings(ca_file=files.ca)
    with _locked(files):
        if not _hub_fits(files, identity):
            _issue_hub(files, home, identity)
    return TlsSettings(ca_file=files.ca, certificate_file=files.hub, key_file=files.hub_key)


def _hub_fits(files: TlsFiles, identity: str) -> bool:
    ca, certificate = _certificate_if_any(files.ca), _certificate_if_any(files.hub)
    if ca is None or certificate is None or not is_ca_of(ca, certificate):
        return False
    try:
        key = _key(files.hub_key)
    except (SecretMissing, TlsError):
        return False
    return common_name(certificate) == identity and belong_together(certificate, key)


def _issue_hub(files: TlsFiles, home: Path, identity: str) -> None:
    seed = new_seed()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    issued = issue_client_certificate(home, identity, public).encode("ascii")
    write_secret(files.hub_key, private_key_pem(seed))
    _write_public(files.hub, read_certificate(issued))


@contextlib.contextmanager
def _locked(files: TlsFiles) -> Iterator[None]:
    with contextlib.closing(FileLock(files.lock)) as lock:
        lock.acquire()
        yield


def _folder(home: Path) -> TlsFiles:
    """Make the folder, and name what is in it."""
    make_home(home / FOLDER)
    return tls_files(home)


def _files_of(home: Path) -> TlsFiles:
    """Name the files of a home that has a CA, or had one."""
    files = tls_files(home)
    if not files.ca.exists() and not files.ca_key.exists():
        raise TlsMissing(f"there is no CA in {files.ca.parent}", hint=HINT_INIT)
    return files


def _ca(files: TlsFiles) -> tuple[Certificate, bool]:
    """Return the CA, and whether it is new; a certificate that is missing is made from the key."""
    ca = _certificate(files.ca)
    if ca is not None:
        return ca, False
    new = not files.ca_key.exists()
    if new:
        write_secret(files.ca_key, key_pem(new_key()))
    ca = make_ca(_key(files.ca_key))
    _write_public(files.ca, ca)
    return ca, new


def _ca_key(files: TlsFiles, ca: Certificate) -> Key:
    try:
        key = _key(files.ca_key)
    except SecretMissing as error:
        raise TlsError(
            f"the CA's key {files.ca_key} is not there, and nothing can be signed without it",
            hint="put it back from where it is kept; it can be taken away again afterwards",
        ) from error
    if not belong_together(ca, key):
        raise TlsError(
            f"{files.ca_key} is not the key of {files.ca}", hint="put the right one there"
        )
    return key


def _fits(files: TlsFiles, ca: Certificate, broker: Certificate) -> bool:
    """Whether the broker's certificate is of this CA and for the key beside it."""
    try:
        return is_ca_of(ca, broker) and belong_together(broker, _key(files.broker_key))
    except (SecretMissing, TlsError):
        return False


def _issue_broker(
    files: TlsFiles, ca: Certificate, hosts: Sequence[str], *, keep_key: bool
) -> None:
    ca_key = _ca_key(files, ca)
    if keep_key:
        key = _key(files.broker_key)
    else:
        key = new_key()
        write_secret(files.broker_key, key_pem(key))
    _write_public(files.broker, make_broker_certificate(ca, ca_key, key.public_key(), hosts))


def _write_public(path: Path, certificate: Certificate) -> None:
    try:
        write_atomically(path, certificate_pem(certificate), mode=0o644)
    except OSError as error:
        raise TlsError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="look at the free space and at the rights of its folder",
        ) from error


def _dropped(before: Certificate | None, wanted: Sequence[str]) -> tuple[str, ...]:
    if before is None:
        return ()
    return tuple(host for host in hosts_of(before) if host not in wanted)


def _key_troubles(path: Path, certificate: Certificate, remedy: str) -> list[str]:
    try:
        if belong_together(certificate, _key(path)):
            return []
        return [f"{path} is not the key of its certificate; {remedy}"]
    except SecretMissing:
        return [f"{path} is not there; {remedy}"]
    except SecretError as error:
        return [f"{error}; mend it with: {error.hint}" if error.hint else str(error)]
    except TlsError as error:
        return [f"{error}; {remedy}"]


def _key(path: Path) -> Key:
    content = read_secret(path)
    try:
        return read_key(content)
    except ValueError as error:
        raise TlsError(
            f"{path} holds no key that can be used", hint="put it back from a backup"
        ) from error


def _certificate_if_any(path: Path) -> Certificate | None:
    """Read a certificate; None where there is none, or something else."""
    try:
        return _certificate(path)
    except TlsError:
        return None


def _certificate(path: Path) -> Certificate | None:
    """Read a certificate; None where there is none."""
    try:
        return read_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TlsError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise TlsError(
            f"{path} holds no certificate", hint="put it back from a backup, or take it away"
        ) from error
