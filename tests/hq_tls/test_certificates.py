"""Certificates: they hold at any clock, for what they are meant for and for nothing else."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtensionOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given, settings
from hypothesis import strategies as st

from hqconsole.certificates import (
    ALWAYS_NAMED,
    CertificateError,
    HostError,
    all_hosts,
    certificate_pem,
    common_name,
    covers,
    fingerprint,
    host_name,
    hosts_of,
    is_ca_of,
    make_broker_certificate,
    make_ca,
    make_client_certificate,
    new_key,
    read_key,
)

HOSTS = ("bus.example.com", "203.0.113.7", "2001:db8::7", "*.till.example.com", *ALWAYS_NAMED)
CLOCKS = {
    "the first second": 0,
    "a till with a dead battery": 1,
    "before anybody was here": 86_400 * 365,
    "now": int(datetime.now(UTC).timestamp()),
    "2038": 2**31,
    "2100": 4_102_444_800,
    "the last second but one": 253_402_300_798,  # OpenSSL counts the last one as over
}
CA_KEY = new_key()
CA = make_ca(CA_KEY)
BROKER = make_broker_certificate(CA, CA_KEY, new_key().public_key(), HOSTS)
DEVICE_KEY = Ed25519PrivateKey.generate()
DEVICE = make_client_certificate(
    CA, CA_KEY, "S017.till-1", DEVICE_KEY.public_key().public_bytes_raw()
)


def _openssl(folder: Path, certificate: x509.Certificate, at: int, purpose: str) -> str:
    """What the command `openssl verify` says at a clock, strictly by RFC 5280; "OK" is best."""
    (folder / "ca.pem").write_bytes(certificate_pem(CA))
    (folder / "one.pem").write_bytes(certificate_pem(certificate))
    command = ["openssl", "verify", "-x509_strict", "-attime", str(at), "-purpose", purpose]
    said = subprocess.run(
        [*command, "-CAfile", folder / "ca.pem", "-no-CApath", "-no-CAstore", folder / "one.pem"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "OK" if said.returncode == 0 and said.stdout.endswith("OK\n") else said.stderr


def _python(certificate: x509.Certificate, at: int, purpose: str) -> str:
    """The same by another implementation; for where that command is not installed."""
    builder = PolicyBuilder().store(Store([CA])).time(datetime.fromtimestamp(at, UTC))
    try:
        if purpose == "sslserver":
            name = x509.DNSName("bus.example.com")
            builder.build_server_verifier(name).verify(certificate, [])
        else:
            return "OK" if is_ca_of(CA, certificate) else "another CA's"
    except x509.verification.VerificationError as error:
        return str(error)
    return "OK"


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_chain_holds_at_any_clock(tmp_path: Path, clock: str) -> None:
    """From 1970 to 9999, to the letter of the standard, by implementations that are not ours."""
    at = CLOCKS[clock]
    assert _python(BROKER, at, "sslserver") == "OK"
    if shutil.which("openssl"):
        assert _openssl(tmp_path, BROKER, at, "sslserver") == "OK"
        assert _openssl(tmp_path, DEVICE, at, "sslclient") == "OK"
    for certificate in (CA, BROKER, DEVICE):
        assert certificate.not_valid_before_utc.timestamp() <= at
        assert at <= certificate.not_valid_after_utc.timestamp()


def test_the_dates_are_written_as_the_standard_says() -> None:
    """UTCTime for 1970, GeneralizedTime for 9999 (RFC 5280, 4.1.2.5), in each certificate."""
    for certificate in (CA, BROKER, DEVICE):
        der = certificate.tbs_certificate_bytes
        assert b"\x17\x0d700101000000Z\x18\x0f99991231235959Z" in der


def test_no_certificate_can_stand_in_for_another_kind(tmp_path: Path) -> None:
    """A device cannot pose as the broker, nor the broker as a device, nor either as a CA."""
    assert "unsuitable" in _if_openssl(tmp_path, DEVICE, "sslserver", "unsuitable")
    assert "unsuitable" in _if_openssl(tmp_path, BROKER, "sslclient", "unsuitable")
    assert _python(DEVICE, CLOCKS["now"], "sslserver") != "OK"
    for certificate in (BROKER, DEVICE):
        constraints = certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS)
        assert constraints.critical
        assert not constraints.value.ca  # type: ignore[attr-defined]


def _if_openssl(folder: Path, certificate: x509.Certificate, purpose: str, otherwise: str) -> str:
    if not shutil.which("openssl"):
        return otherwise
    return _openssl(folder, certificate, CLOCKS["now"], purpose)


def test_the_ca_signs_one_level_and_nothing_else() -> None:
    """Its key usage and its path length are critical: no key it signs can sign further."""
    constraints = CA.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (
        True,
        True,
        0,
    )
    usage = CA.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature


def test_two_head_offices_are_never_mistaken_for_each_other() -> None:
    """Two CAs have different names, and neither signed what is the other's."""
    other = make_ca(new_key())
    assert other.subject != CA.subject
    assert is_ca_of(CA, BROKER)
    assert not is_ca_of(other, BROKER)
    twin = make_ca(CA_KEY)
    assert is_ca_of(twin, BROKER), "a CA's certificate can be made anew from its key"
    assert twin.subject == CA.subject


def test_names_stand_where_clients_look() -> None:
    """Hosts as subjectAltName, each of its kind; an identity as common name, and no host there."""
    assert hosts_of(BROKER) == HOSTS
    names = BROKER.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == [
        "203.0.113.7",
        "2001:db8::7",
        "127.0.0.1",
        "::1",
    ]
    assert common_name(DEVICE) == "S017.till-1"
    assert hosts_of(DEVICE) == ()
    assert DEVICE.public_key() == DEVICE_KEY.public_key()


def test_the_fingerprint_is_the_one_that_openssl_shows(tmp_path: Path) -> None:
    """So that two people can compare it with tools of their own."""
    (tmp_path / "ca.pem").write_bytes(certificate_pem(CA))
    if shutil.which("openssl"):
        command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
        said = subprocess.run(
            [*command, "-in", tmp_path / "ca.pem"], capture_output=True, text=True, check=True
        )
        assert said.stdout.strip().partition("=")[2] == fingerprint(CA)
    assert len(fingerprint(CA).split(":")) == 32


@pytest.mark.parametrize("identity", ["", "S" * 60 + ".till1"])
def test_an_identity_that_does_not_fit_is_refused(identity: str) -> None:
    """64 characters are all that the standard has room for; nothing is cut off in silence."""
    raw = DEVICE_KEY.public_key().public_bytes_raw()
    with pytest.raises(CertificateError, match="has room for 64"):
        make_client_certificate(CA, CA_KEY, identity, raw)
    for good in ("S" * 58 + ".till1", "店舗１.レジ", "hub/3f2a"):
        assert common_name(make_client_certificate(CA, CA_KEY, good, raw)) == good
    with pytest.raises(CertificateError, match="public key"):
        make_client_certificate(CA, CA_KEY, "a.b", raw[1:])


def test_a_key_of_another_kind_is_refused() -> None:
    """An RSA key, an encrypted one, noise: no key of ours."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    plain, locked = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"x")
    for content, words in (
        (rsa.generate_private_key(65537, 2048).private_bytes(pem, form, plain), "another kind"),
        (new_key().private_bytes(pem, form, locked), "encrypted"),
        (b"", "PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "deserialize"),
    ):
        with pytest.raises(ValueError, match=words):
            read_key(content)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("bus.example.com", "bus.example.com"),
        ("Bus.Example.COM.", "bus.example.com"),
        ("  bus ", "bus"),
        ("10.0.0.5", "10.0.0.5"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("::1", "::1"),
        ("*.example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("storebus_broker", "storebus_broker"),
    ],
)
def test_hosts_are_named_in_one_way(text: str, host: str) -> None:
    """Case, a final dot, brackets and letters of other scripts do not make another host of it."""
    assert host_name(text) == host
    assert host_name(host) == host


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("mqtts://bus.example.com:8883", "--host bus.example.com"),
        ("bus.example.com:8883", "--host bus.example.com"),
        ("wss://[2001:db8::1]:443/mqtt", "--host 2001:db8::1"),
        ("bus/mqtt", "--host bus"),
        ("", "--host"),
        ("a b", "--host"),
        ("a..b", "--host"),
        ("-a.b", "--host"),
        ("*", "--host"),
        ("a.*.b", "--host"),
        ("10.0.0.256", "--host"),
        ("10.0.0", "--host"),
        ("x" * 64, "--host"),
        (".".join(["x" * 60] * 5), "--host"),
        ("a\0b", "--host"),
    ],
)
def test_what_is_no_host_is_refused_with_the_right_words(text: str, hint: str) -> None:
    """A usage error whose hint is what was probably meant."""
    with pytest.raises(HostError) as caught:
        host_name(text)
    assert hint in str(caught.value.hint)
    assert caught.value.exit_code == 2


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_host_or_a_refusal(text: str) -> None:
    """What is taken can stand in a certificate and is taken again as it is."""
    try:
        host = host_name(text)
    except HostError:
        return
    assert host_name(host) == host
    made = make_broker_certificate(CA, CA_KEY, CA_KEY.public_key(), [host])
    assert hosts_of(made) == (host,)


def test_this_machine_is_always_named_and_nothing_twice() -> None:
    """However often it is said."""
    assert all_hosts(["a", "A", "localhost", "127.0.0.1"]) == ("a", "localhost", "127.0.0.1", "::1")


def test_what_a_person_is_told_to_be_covered_is() -> None:
    """Exact names, one level of a wildcard, addresses in any spelling."""
    assert covers(HOSTS, "BUS.example.com")
    assert covers(HOSTS, "one.till.example.com")
    assert covers(HOSTS, "2001:DB8:0:0::7")
    for host in ("example.com", "a.b.till.example.com", "till.example.com", "203.0.113.8"):
        assert not covers(HOSTS, host)
