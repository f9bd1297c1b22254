"""Certificates of head office's own CA: what is in them. Pure but for the randomness of keys.

Owns their content and what may stand in it. Must not know files.

Invariants:
- All are valid from 1970-01-01 to 9999-12-31, which RFC 5280 (4.1.2.5) defines as "no end": a till
  with a dead battery wakes up in 1970 and must get in. What ends a certificate is not its date: a
  device's ends with its entry in the access file, the broker's with the CA.
- The CA signs certificates of its own kind only, for one level below it.
- A broker's certificate names hosts as subjectAltName and nowhere else (RFC 9525), a device's names
  its identity as common name and nowhere else. Neither can stand in for the other.
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hqconsole.errors import HqError

SINCE = datetime(1970, 1, 1, tzinfo=UTC)
UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
ALWAYS_NAMED = ("localhost", "127.0.0.1", "::1")
"""The hub is mostly on the broker's machine."""

_PEM = serialization.Encoding.PEM
_MOST_NAME_CHARACTERS = 64  # ub-common-name, RFC 5280 appendix A.1
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class CertificateError(HqError):
    """A certificate cannot be made, or is not what it should be."""


class HostError(CertificateError):
    """Something that is no host's name stands where one is needed."""

    exit_code = 2


def new_key() -> ec.EllipticCurvePrivateKey:
    """Draw a key on P-256, which every TLS stack knows."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """Return a private key as a PEM file, not encrypted: the file's rights protect it."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def read_key(pem: bytes) -> Key:
    """Read a private key: on an elliptic curve, or Ed25519.

    Raises:
        ValueError: It is no such key.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError as error:  # it is encrypted
        raise ValueError(str(error)) from error
    if not isinstance(key, Key):
        raise ValueError("a key of another kind")  # noqa: TRY004 - the file's fault
    return key


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as a PEM file."""
    return certificate.public_bytes(_PEM)


def read_certificate(pem: bytes) -> x509.Certificate:
    """Read a PEM file.

    Raises:
        ValueError: It holds no certificate.
    """
    return x509.load_pem_x509_certificate(pem)


def make_ca(key: Key) -> x509.Certificate:
    """Return the certificate of a CA with this key."""
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    # With a name of its own for each key it is never mistaken for another head office's CA.
    name = _name(f"storebus CA {identifier.digest.hex()[:16]}")
    return (
        _builder(name, name, public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, _hash(key))
    )


def make_broker_certificate(
    ca: x509.Certificate, ca_key: Key, public: PublicKey, hosts: Sequence[str]
) -> x509.Certificate:
    """Return a broker's certificate for hosts as `host_name` gives them."""
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    return _sign(
        ca,
        ca_key,
        _builder(_name("storebus broker"), ca.subject, public)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False),
        public,
    )


def make_client_certificate(
    ca: x509.Certificate, ca_key: Key, identity: str, public_key_raw: bytes
) -> x509.Certificate:
    """Return a client's certificate for an Ed25519 key.

    Raises:
        CertificateError: The identity does not fit into one, or that is no such key.
    """
    if not 1 <= len(identity) <= _MOST_NAME_CHARACTERS:
        raise CertificateError(
            f"{identity!r} has {len(identity)} characters, and the name in a certificate has room "
            f"for {_MOST_NAME_CHARACTERS}",
            hint="with mutual TLS the names of store and device must be shorter",
        )
    try:
        public = ed25519.Ed25519PublicKey.from_public_bytes(public_key_raw)
    except ValueError as error:
        raise CertificateError(f"the public key of {identity} is none: {error}") from error
    return _sign(
        ca,
        ca_key,
        _builder(_name(identity), ca.subject, public).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        ),
        public,
    )


def is_ca_of(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether the CA signed the certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def belong_together(certificate: x509.Certificate, key: Key) -> bool:
    """Whether the certificate is for that key."""
    return certificate.public_key() == key.public_key()


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the hosts that a certificate names, in its order."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(
        str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)
    )


def common_name(certificate: x509.Certificate) -> str | None:
    """Return whom a client's certificate names; None where it does not name exactly one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else None


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 fingerprint as `openssl x509 -fingerprint -sha256` writes it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def host_name(text: str) -> str:
    """Return a host's name or IP address as it stands in certificates.

    Raises:
        HostError: It is none; the hint says what to write.
    """
    bare = text.strip().removesuffix(".")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(bare.removeprefix("[").removesuffix("]")))
    if "://" in bare or "/" in bare or ":" in bare:
        inner = bare.partition("://")[2] or bare
        inner = inner.partition("/")[0].rpartition("@")[2]
        inner = inner.partition("]")[0].removeprefix("[") if "[" in inner else inner.split(":")[0]
        raise HostError(
            f"{text!r} is more than the name of a host",
            hint=f"write --host {inner or 'bus.example.com'}",
        )
    try:
        name = bare.encode("idna").decode().lower() if not bare.isascii() else bare.lower()
    except UnicodeError:
        name = ""
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise HostError(
            f"{text!r} cannot be the name of a host",
            hint="write --host bus.example.com, or an IP address",
        )
    if labels[-1].isdigit():
        raise HostError(f"{text!r} is no IP address", hint="write --host 10.0.0.5, or a name")
    return name


def all_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return these hosts, checked, and those that are always named; each once, in order.

    Raises:
        HostError: One of them is none.
    """
    return tuple(dict.fromkeys([*map(host_name, hosts), *ALWAYS_NAMED]))


def covers(names: Iterable[str], host: str) -> bool:
    """Whether a certificate with these names is for a host, as clients see it (RFC 9525, 6.3).

    For a person's guidance only; what counts is what OpenSSL says.
    """
    with contextlib.suppress(HostError):
        host = host_name(host)
    parent = host.partition(".")[2]
    return any(name == host or (parent and name == f"*.{parent}") for name in names)


def _builder(subject: x509.Name, issuer: x509.Name, public: PublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(SINCE)
        .not_valid_after(UNTIL)
    )


def _sign(
    ca: x509.Certificate, ca_key: Key, builder: x509.CertificateBuilder, public: PublicKey
) -> x509.Certificate:
    """Add what every certificate below the CA has, and sign it."""
    signer = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False
        )
        .sign(ca_key, _hash(ca_key))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _hash(key: Key) -> hashes.SHA256 | None:
    """Ed25519 brings its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
