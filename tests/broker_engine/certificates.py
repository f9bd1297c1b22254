"""Certificates for tests: a CA of one's own, the broker's certificate, and clients'."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.tls import TlsFiles

_FROM = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)
_UNTIL = dt.datetime(9999, 12, 30, tzinfo=dt.UTC)


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A CA, and what it signs, in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        """Make it."""
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(f"test {name}")
        certificate = self._sign(
            self._subject,
            self._key.public_key(),
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_SIGNS_CERTIFICATES, True),  # Python 3.13 looks for it
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *extensions: tuple[x509.ExtensionType, bool],
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FROM)
            .not_valid_after(_UNTIL)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def issue(self, common_name: str) -> Pair:
        """Sign a certificate for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        other = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = self._sign(
            _name(common_name),
            key.public_key(),
            (x509.SubjectAlternativeName([other]), False),
        )
        stem = common_name.replace("/", "_")
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        pair.certificate.write_bytes(certificate)
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def server(self, *, client_ca: Path | None = None) -> TlsFiles:
        """Make the broker's files."""
        pair = self.issue("broker")
        return TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=client_ca)

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Make a client's context that trusts this CA, with a certificate or without."""
        context = ssl.create_default_context(cafile=self.file)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context
