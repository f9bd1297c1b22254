"""The client's side of TLS alone, without a network: any pieces, any damage, every ending."""

import contextlib
import random
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buskit.errors import KitError
from buskit.link_settings import LinkSettings, TlsSettings
from buskit.tls import Tls, TlsClient, certificate_name, tls_of
from buskit.tls_errors import (
    CertificateRefused,
    CertificateShown,
    TlsError,
    closed_early,
    explained,
    refusal,
)
from tests.kit.certificates import Authority
from tests.kit.tls_wire import server_context


class Pair:
    """A client and a server that hear each other when `carry` is called."""

    def __init__(self, client: TlsClient, context: ssl.SSLContext) -> None:
        """Begin."""
        self.client = client
        self.arriving = ssl.MemoryBIO()
        self.leaving = ssl.MemoryBIO()
        self.server = context.wrap_bio(self.arriving, self.leaving, server_side=True)
        self.client.begin()

    def serve(self) -> bytes:
        """Let the server answer what the client has said; return its answer, not delivered yet."""
        self.arriving.write(self.client.leaving())
        with contextlib.suppress(ssl.SSLWantReadError):
            self.server.do_handshake()
        return self.leaving.read()

    def open(self) -> "Pair":
        """Shake hands."""
        while not self.client.is_open:
            self.client.receive(self.serve())
        self.client.receive(self.serve())
        return self


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA for all tests here."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(ca: Authority) -> ssl.SSLContext:
    """A server for `host`."""
    return server_context(*ca.issue("host", "host", "127.0.0.1"))


@pytest.fixture(scope="module")
def tls(ca: Authority) -> Tls:
    """Trusts that CA."""
    return Tls(TlsSettings(ca.file))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=40_000), max_size=5), st.integers(0, 2**32), st.integers(1, 5000)
)
def test_any_pieces_give_the_same_bytes(
    tls: Tls, server: ssl.SSLContext, bodies: list[bytes], seed: int, most: int
) -> None:
    """Records cut anywhere, joined anyhow, in both directions: exactly what was sent, in order."""
    pair = Pair(tls.client("host"), server).open()
    chance = random.Random(seed)
    wire = bytearray()
    for body in bodies:
        done = 0
        while done < len(body):
            done += pair.server.write(body[done:])
        wire += pair.leaving.read()
        pair.client.send(body)
    pair.arriving.write(pair.client.leaving())
    sent = b"".join(bodies)
    got = bytearray()
    while len(got) < len(sent):
        got += pair.server.read(len(sent))
    assert bytes(got) == sent
    while wire:
        size = chance.randrange(1, most + 1)
        pair.client.receive(bytes(wire[:size]))
        del wire[:size]
    assert bytes(pair.client.received) == sent
    assert not pair.client.ended


def test_a_damaged_handshake_is_a_refusal_and_never_a_connection(
    tls: Tls, server: ssl.SSLContext
) -> None:
    """One bit anywhere in what the server says: an error in words, or waiting for more."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(200):
        pair = Pair(tls.client("host"), server)
        flight = bytearray(pair.serve())
        versions = _versions(bytes(flight))
        where = chance.randrange(len(flight))
        flight[where] ^= 1 << chance.randrange(8)
        with contextlib.suppress(TlsError):
            pair.client.receive(bytes(flight))
        assert where in versions or not pair.client.is_open


def _versions(flight: bytes) -> set[int]:
    """Where the records have their version, which TLS 1.3 does not look at."""
    found, at = set(), 0
    while at < len(flight):
        found |= {at + 1, at + 2}
        at += 5 + int.from_bytes(flight[at + 3 : at + 5], "big")
    return found


def test_noise_is_a_reason_in_words(tls: Tls) -> None:
    """Whatever arrives instead of a server's answer."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(200):
        client = tls.client("host")
        client.begin()
        with contextlib.suppress(TlsError):
            client.receive(chance.randbytes(chance.randrange(1, 3000)))
        assert not client.is_open


def test_after_the_end_nothing_more_is_taken(tls: Tls, server: ssl.SSLContext) -> None:
    """What came before the goodbye is there; what an attacker adds after it is not."""
    pair = Pair(tls.client("host"), server).open()
    pair.server.write(b"last words")
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.server.unwrap()
    pair.client.receive(pair.leaving.read())
    assert bytes(pair.client.received) == b"last words"
    assert pair.client.ended
    pair.client.receive(b"\x17\x03\x03\x00\x05more!")
    assert bytes(pair.client.received) == b"last words"
    pair.client.close()
    pair.arriving.write(pair.client.leaving())
    with pytest.raises(ssl.SSLZeroReturnError):
        pair.server.read(10)


def test_a_goodbye_is_heard_and_what_still_comes_can_be_read(
    tls: Tls, server: ssl.SSLContext
) -> None:
    """Ending our side, twice even, does not end the other's."""
    pair = Pair(tls.client("host"), server).open()
    pair.client.send(b"bye")
    pair.client.close()
    pair.client.close()
    pair.arriving.write(pair.client.leaving())
    assert pair.server.read(10) == b"bye"
    assert pair.server.read(10) == b""
    pair.server.write(b"farewell")
    pair.client.receive(pair.leaving.read())
    assert bytes(pair.client.received) == b"farewell"


def test_a_second_look_is_never_a_connection(
    tls: Tls, ca: Authority, server: ssl.SSLContext
) -> None:
    """Even where all fits it ends with the handshake, and it shows no certificate of ours."""
    refused = CertificateRefused("the broker's certificate is not for other", 62)
    mutual = server_context(*ca.issue("host", "host"), client_ca=ca.file)
    mutual.verify_mode = ssl.CERT_OPTIONAL
    showing = Tls(TlsSettings(ca.file, *ca.issue("me", client=True)))
    for look, context in ((tls.look, server), (showing.look, mutual)):
        pair = Pair(look("other", refused), context)
        with pytest.raises(CertificateShown, match="is for host"):
            pair.open()
        assert not pair.client.is_open
        pair.serve()
        assert not pair.server.getpeercert()


def test_old_versions_of_tls_are_refused(tls: Tls, ca: Authority) -> None:
    """A server that has nothing newer than TLS 1.1 is told apart."""
    old = server_context(*ca.issue("old", "host"))
    old.set_ciphers("ALL:@SECLEVEL=0")  # else OpenSSL itself refuses to be so old
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    pair = Pair(tls.client("host"), old)
    with contextlib.suppress(ssl.SSLError):
        pair.serve()
    with pytest.raises(TlsError, match=r"neither TLS 1\.2 nor 1\.3"):
        pair.client.receive(pair.leaving.read())


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("bus.example.com", "bus.example.com"),
        ("bus.example.com.", "bus.example.com"),
        ("10.0.0.5", "10.0.0.5"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_hosts_are_looked_for_as_certificates_name_them(host: str, name: str) -> None:
    """No zone of this machine, no final dot, one spelling of an address."""
    assert certificate_name(host) == name


def test_only_encrypted_addresses_need_tls() -> None:
    """And then the CAs of the system are enough."""
    assert tls_of(LinkSettings(("mqtt://h", "ws://h"), "c")) is None
    assert isinstance(tls_of(LinkSettings(("mqtt://h", "mqtts://h"), "c")), Tls)


# Words.


def _seen(**dates: str) -> dict[str, Any]:
    return {"subjectAltName": (("DNS", "h"),), **dates}


def test_the_clock_is_told_as_this_machine_has_it() -> None:
    """A till in 1970 says that it believes to be in 1970."""
    refused = CertificateRefused("the broker's certificate is not valid yet", 9)
    seen = _seen(notBefore="Jan  1 00:00:00 2020 GMT", notAfter="Jan  1 00:00:00 2030 GMT")
    assert str(refusal(refused, "h", seen, wall_clock=lambda: 60.0)) == (
        "the broker's certificate is not valid before 2020-01-01 00:00 UTC; "
        "by this machine's clock, which may be wrong, it is 1970-01-01 00:01 UTC"
    )
    expired = CertificateRefused("the broker's certificate has expired", 10)
    assert str(refusal(expired, "h", seen, wall_clock=lambda: 2e9)) == (
        "the broker's certificate has expired, on 2030-01-01 00:00 UTC; "
        "by this machine's clock, which may be wrong, it is 2033-05-18 03:33 UTC"
    )


def test_when_the_certificate_itself_is_right_it_is_one_above_it() -> None:
    """A person who looks at its dates must not be told something that he sees to be wrong."""
    expired = CertificateRefused("the broker's certificate has expired; it is now", 10)
    seen = _seen(notBefore="Jan  1 00:00:00 2020 GMT", notAfter="Jan  1 00:00:00 2030 GMT")
    said = str(refusal(expired, "h", seen, wall_clock=lambda: 1.6e9))
    assert said.endswith("(it is about one that signed it)")
    for nonsense in ({}, {"notAfter": "yesterday"}):
        assert str(refusal(expired, "h", nonsense)) == str(expired)


def test_no_clock_is_too_odd_for_words() -> None:
    """Not a number, or a year that no calendar has."""
    expired = CertificateRefused("has expired", 10)
    seen = _seen(notAfter="Jan  1 00:00:00 1990 GMT")
    for odd in (float("inf"), 1e300, float("nan")):
        said = str(refusal(expired, "h", seen, wall_clock=lambda odd=odd: odd))
        assert said


def test_every_early_close_has_its_likely_cause() -> None:
    """Nothing heard is another service; after that it is about certificates."""
    said = {
        closed_early(heard=heard, is_open=is_open, shows_certificate=shows)
        for heard, is_open in ((False, False), (True, False), (True, True))
        for shows in (False, True)
    }
    assert len(said) == 5


def test_what_openssl_says_of_untrusted_certificates_is_translated(tmp_path: Path) -> None:
    """Each known code has words without a number; an unknown one has OpenSSL's."""
    for code, words in (
        (18, "not signed by the CA in"),
        (20, "not signed by the CA in"),
        (26, "not one for a server"),
        (66, "too weak"),
        (62, "is not for h"),
        (10, "has expired; by this machine's clock"),
        (9, "is not valid yet; by this machine's clock"),
        (23, "certificate revoked"),
    ):
        error = ssl.SSLCertVerificationError(1, "x")
        error.verify_code = code
        error.verify_message = "certificate revoked"
        said = explained(error, "h", TlsSettings(tmp_path / "ca.pem"), wall_clock=lambda: 0.0)
        assert words in str(said)
        assert isinstance(said, KitError)
