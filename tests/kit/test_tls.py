"""TLS in the link: it speaks to the right broker only, says why not, and bears whatever comes."""

import contextlib
import os
import random
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from buskit.link import (
    Connected,
    Disconnected,
    Link,
    LinkEvent,
    LinkSettings,
    LinkSettingsError,
    Publication,
    Published,
    Received,
    TlsSettings,
)
from buskit.secrets import private_key_pem, write_secret
from tests.helpers.waiting import wait_until
from tests.kit.certificates import FAR_FUTURE, FUTURE, LONG_AGO, PAST, Authority
from tests.kit.conftest import Listener, MakeLink, Running
from tests.kit.test_link import dead_port, subscribed
from tests.kit.tls_wire import Pretender, TlsWire, server_context
from tests.kit.wire import Wire


@dataclass
class Place:
    """A CA, and the broker behind TLS with a certificate of it."""

    ca: Authority
    server: ssl.SSLContext
    mqtt: TlsWire
    ws: TlsWire
    port: int

    @property
    def trusted(self) -> TlsSettings:
        """Trusts that CA alone."""
        return TlsSettings(ca_file=self.ca.file)

    def url(self, transport: str) -> str:
        """The address."""
        if transport == "mqtts":
            return f"mqtts://127.0.0.1:{self.mqtt.port}"
        return f"wss://localhost:{self.ws.port}/mqtt"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, running: Running) -> Iterator[Place]:
    """One for all tests here."""
    ca = Authority(tmp_path_factory.mktemp("ca"))
    server = server_context(*ca.issue("broker", "localhost", "127.0.0.1"))
    with TlsWire(running.port, server) as mqtt, TlsWire(running.websocket_port, server) as ws:
        yield Place(ca, server, mqtt, ws, running.port)


def failure(one: Listener) -> str:
    """Wait for the first round to fail, and return why."""
    wait_until(lambda: one.link.failure, seconds=20, what="the first round to fail")
    return str(one.link.failure)


@pytest.mark.parametrize("transport", ["mqtts", "wss"])
@pytest.mark.parametrize("qos", [0, 1])
def test_messages_arrive_in_order_and_each_is_published(
    place: Place, make_link: MakeLink, transport: str, qos: int
) -> None:
    """Encrypted, with WebSocket inside or without, nothing is missing, doubled or out of order."""
    one = make_link(place.url(transport), tls=place.trusted)
    topic = f"order/{transport}/{qos}"
    subscribed(one, topic, qos=qos)
    bodies = [str(n).encode() * (1 + n % 7) for n in range(500)]
    bodies += [b"x" * 250_000, b"", b"y" * 16_384, b"z" * 16_385]
    tokens = [one.link.publish(Publication(topic, body, qos)) for body in bodies]
    assert None not in tokens
    seen: list[LinkEvent] = []
    while len(seen) < 2 * len(bodies):
        seen.append(one.events.get(timeout=30))
    assert [e.payload for e in seen if isinstance(e, Received)] == bodies
    assert sorted(e.token for e in seen if isinstance(e, Published)) == tokens
    assert one.link.unsent_bytes == 0


@pytest.mark.parametrize("newest", [True, False])
@pytest.mark.parametrize("websocket", [True, False])
def test_five_megabytes_go_through_both_ways(
    place: Place, running: Running, make_link: MakeLink, newest: bool, websocket: bool
) -> None:
    """Big messages one after another, there and back at the same time, in TLS 1.3 and 1.2."""
    server = server_context(*place.ca.issue("big", "127.0.0.1"), newest=newest)
    draw = random.Random(5)
    with TlsWire(running.websocket_port if websocket else running.port, server) as wire:
        scheme = "wss" if websocket else "mqtts"
        one = make_link(f"{scheme}://127.0.0.1:{wire.port}", tls=place.trusted)
        topic = f"big/{scheme}/{newest}"
        subscribed(one, topic)
        bodies = [draw.randbytes(500_000) for _ in range(10)]
        for body in bodies:
            publication = Publication(topic, body, 1)
            wait_until(lambda p=publication: one.link.publish(p) is not None, what="room")
        assert [one.next(Received).payload for _ in bodies] == bodies
        assert wire.seen[0][0] == ("TLSv1.3" if newest else "TLSv1.2")


def test_published_means_that_the_system_has_all_of_it(
    place: Place, running: Running, make_link: MakeLink
) -> None:
    """At QoS 0 behind a network that takes nothing, what does not fit into it is not published."""
    with Wire(place.mqtt.port) as wire:
        one = make_link(f"mqtts://127.0.0.1:{wire.port}", tls=place.trusted)
        one.next(Connected)
        wire.stalled = True
        for _ in range(16):
            one.link.publish(Publication("stall", b"s" * 1_000_000))
        wait_until(lambda: one.link.publish(Publication("stall", b"s" * 1_000_000)) is None)
        assert one.link.unsent_bytes > 1_000_000
        wire.stalled = False
        wait_until(lambda: one.link.unsent_bytes == 0, seconds=30, what="all to be published")


def test_the_goodbye_arrives_before_the_end(place: Place, make_link: MakeLink) -> None:
    """What was published before stopping, and the goodbye, arrive; the will is not published."""
    witness = make_link(place.url("mqtts"), tls=place.trusted)
    subscribed(witness, "tlsbye/#")
    will = Publication("tlsbye/will", b"", 1)
    for qos, transport in ((0, "mqtts"), (1, "wss"), (0, "wss"), (1, "mqtts")):
        one = make_link(place.url(transport), tls=place.trusted, will=will)
        one.next(Connected)
        for n in range(300):
            assert one.link.publish(Publication("tlsbye/work", b"%d" % n * 500, qos)) is not None
        one.link.stop(Publication("tlsbye/last", b"", qos))
        assert one.next(Disconnected) == Disconnected("left in good order")
        for n in range(300):
            assert witness.next(Received).payload == b"%d" % n * 500
        assert witness.next(Received).topic == "tlsbye/last"
    assert witness.quiet()


def test_a_cut_is_told_and_mended(place: Place, make_link: MakeLink) -> None:
    """Without any goodbye of TLS, with something on its way: told each time, and back by itself."""
    witness = make_link(place.url("wss"), tls=place.trusted)
    subscribed(witness, "tlscut/#", qos=0)
    with Wire(place.mqtt.port) as wire:
        one = make_link(
            f"mqtts://127.0.0.1:{wire.port}", tls=place.trusted, backoff_most_seconds=0.1
        )
        for turn in range(4):
            one.next(Connected)
            wire.silent = True
            assert one.link.publish(Publication("tlscut/lost", b"%d" % turn, 1)) is not None
            wire.cut()
            assert "closed the connection" in one.next(Disconnected).reason
            assert one.link.unsent_bytes == 0
            wire.silent = False
        one.next(Connected)
        one.link.publish(Publication("tlscut/kept", b"", 1))
        assert witness.next(Received).topic == "tlscut/kept"


def test_what_was_changed_on_its_way_is_not_taken(place: Place, make_link: MakeLink) -> None:
    """One bit turned over ends the connection, with a reason, and nothing of it is delivered."""
    with Wire(place.mqtt.port) as wire:
        one = make_link(
            f"mqtts://127.0.0.1:{wire.port}", tls=place.trusted, backoff_most_seconds=0.1
        )
        subscribed(one, "bent/#")
        wire.bend = True
        one.link.publish(Publication("bent/a", b"a" * 1000, 1))
        reason = one.next(Disconnected).reason
        assert "changed on its way" in reason or "closed the connection" in reason
        wire.bend = False
        subscribed(one, "bent/#")
        one.link.publish(Publication("bent/b", b"b", 1))
        assert one.next(Received).topic == "bent/b"


@pytest.mark.parametrize("newest", [True, False])
def test_a_goodbye_of_tls_is_the_end_although_the_network_stays(
    place: Place, make_link: MakeLink, newest: bool
) -> None:
    """A broker that says that nothing more will come, and does not close: told, and left."""
    server = server_context(*place.ca.issue("half", "127.0.0.1"), newest=newest)

    def behave(one: socket.socket) -> None:
        tls = server.wrap_socket(one.dup(), server_side=True)
        tls.recv(4096)
        tls.sendall(b"\x20\x02\x00\x00")
        with contextlib.suppress(OSError):
            tls.unwrap()  # the link closes instead of answering
        tls.close()

    with Pretender(behave) as broker:
        one = make_link(f"mqtts://127.0.0.1:{broker.port}", tls=place.trusted)
        for _ in range(3):
            one.next(Connected)
            assert one.next(Disconnected).reason == "the broker closed the connection"
        one.link.stop()


# Whom to trust.


def test_a_broker_of_another_ca_is_refused(
    place: Place, make_link: MakeLink, tmp_path: Path
) -> None:
    """Whether its CA is unknown or has the same name; both sides can say why."""
    stranger = Authority(tmp_path / "stranger", "another CA")
    twin = Authority(tmp_path / "twin")
    for other in (stranger, twin):
        server = server_context(*other.issue("fake", "127.0.0.1"))
        told: list[str] = []

        def behave(one: socket.socket, server: Any = server, told: Any = told) -> None:
            try:
                server.wrap_socket(one.dup(), server_side=True).close()
            except ssl.SSLError as error:
                told.append(error.reason or "")

        with Pretender(behave) as broker:
            one = make_link(f"mqtts://127.0.0.1:{broker.port}", tls=place.trusted)
            assert f"is not signed by the CA in {place.ca.file}" in failure(one)
            wait_until(lambda told=told: told, what="the broker to be told")
            one.link.stop()
        assert told[0] in {"TLSV1_ALERT_UNKNOWN_CA", "TLSV1_ALERT_DECRYPT_ERROR"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["bus.example.com"], "is for bus.example.com, not for 127.0.0.1"),
        (["10.0.0.5", "::1"], "is for 10.0.0.5 and ::1, not for 127.0.0.1"),
        (["127.0.0.1"], "is for 127.0.0.1, not for localhost"),
        (["*.example.com"], "is for *.example.com, not for localhost"),
        (list("abcdef"), "is for a, b, c and 3 more, not for localhost"),
        ([], "is for no host, nor for localhost"),
    ],
)
def test_a_certificate_for_another_host_is_refused(
    place: Place, running: Running, make_link: MakeLink, names: list[str], words: str
) -> None:
    """The right CA is not enough; the words say whose it is. A common name is no host's name."""
    host = words.rpartition(" ")[2]
    certificate = place.ca.issue("localhost" if not names else "other", *names)
    with TlsWire(running.port, server_context(*certificate)) as wire:
        one = make_link(f"mqtts://{host}:{wire.port}", tls=place.trusted)
        assert f"the broker's certificate {words}" in failure(one)
        one.link.stop()
        # Only the second look got through the handshake, and it has said nothing.
        assert all(version is not None for version, _ in wire.seen)
        assert one.quiet()


@pytest.mark.parametrize(
    ("dates", "words"),
    [
        ((LONG_AGO, PAST), "has expired, on 2001-01-01 00:00 UTC"),
        ((FUTURE, FAR_FUTURE), "is not valid before 2090-01-01 00:00 UTC"),
    ],
)
def test_dates_count_with_the_cas_of_the_system_only(
    place: Place,
    make_link: MakeLink,
    monkeypatch: pytest.MonkeyPatch,
    dates: tuple[datetime, datetime],
    words: str,
) -> None:
    """A pinned CA lets in whatever the clock says, as of a till in 1970 for which all is future.

    Without one it is refused, and the words name the date and what this machine takes for now.
    """
    certificate = place.ca.issue("dated", "127.0.0.1", since=dates[0], until=dates[1])
    with TlsWire(place.port, server_context(*certificate)) as wire:
        url = f"mqtts://127.0.0.1:{wire.port}"
        make_link(url, tls=place.trusted).next(Connected)
        monkeypatch.setenv("SSL_CERT_FILE", str(place.ca.file))
        said = failure(make_link(url))
        assert words in said
        assert "by this machine's clock, which may be wrong, it is" in said
        assert time.strftime("%Y-", time.gmtime()) in said


def test_a_ca_of_the_system_is_enough(
    place: Place, make_link: MakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any settings the system decides; what it does not know is refused."""
    said = failure(make_link(place.url("mqtts")))
    assert "is not signed by any CA that this machine trusts" in said
    monkeypatch.setenv("SSL_CERT_FILE", str(place.ca.file))
    make_link(place.url("mqtts")).next(Connected)
    make_link(place.url("wss"), tls=TlsSettings()).next(Connected)


def test_when_the_second_look_shows_nothing_the_first_counts(
    place: Place, make_link: MakeLink
) -> None:
    """A broker that is gone by then, or shows something else: the reason is still the name."""
    server = server_context(*place.ca.issue("first", "elsewhere"))
    looks = 0

    def once(one: socket.socket) -> None:
        nonlocal looks
        looks += 1
        if looks % 2 == 0:
            one.sendall(b"no TLS this time\n")
            one.shutdown(socket.SHUT_WR)
            return
        with contextlib.suppress(ssl.SSLError):
            server.wrap_socket(one.dup(), server_side=True).close()

    with Pretender(once) as broker:
        one = make_link(f"mqtts://localhost:{broker.port}", tls=place.trusted)
        assert failure(one).endswith(": the broker's certificate is not for localhost")
        assert looks >= 2
        one.link.stop()


def test_a_second_look_does_not_take_longer(place: Place, make_link: MakeLink) -> None:
    """A broker that refuses to be looked at twice is given up when its time is over."""
    server = server_context(*place.ca.issue("first", "elsewhere"))

    def once(one: socket.socket) -> None:
        if broker.accepted % 2:
            with contextlib.suppress(ssl.SSLError):
                server.wrap_socket(one.dup(), server_side=True).close()

    with Pretender(once) as broker:
        one = make_link(
            f"mqtts://localhost:{broker.port}", tls=place.trusted, connect_timeout_seconds=0.4
        )
        assert failure(one).endswith(": the broker's certificate is not for localhost")
        wait_until(lambda: broker.accepted >= 4, what="the next attempt")
        one.link.stop()


# Showing ourselves.


@pytest.mark.parametrize("newest", [True, False])
def test_a_client_certificate_is_shown(
    place: Place, running: Running, make_link: MakeLink, tmp_path: Path, newest: bool
) -> None:
    """With an Ed25519 key, in a file of its own, in TLS 1.3 and 1.2; the broker sees the name."""
    seed = bytes(range(32))
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    certificate, _ = place.ca.issue("S017.till-1", key=key, client=True)
    write_secret(tmp_path / "client.key", private_key_pem(seed))
    server = server_context(
        *place.ca.issue("mutual", "127.0.0.1"), client_ca=place.ca.file, newest=newest
    )
    shown = TlsSettings(place.ca.file, certificate, tmp_path / "client.key")
    with TlsWire(running.port, server) as wire:
        make_link(f"mqtts://127.0.0.1:{wire.port}", tls=shown).next(Connected)
        version, seen = wire.seen[0]
    assert version == ("TLSv1.3" if newest else "TLSv1.2")
    assert seen is not None
    assert seen["subject"] == ((("commonName", "S017.till-1"),),)


@pytest.mark.parametrize("newest", [True, False])
def test_a_broker_that_wants_a_certificate_says_so(
    place: Place, make_link: MakeLink, tmp_path: Path, newest: bool
) -> None:
    """Without one, and with one of a CA that it does not know, the reason says what is missing."""
    server = server_context(
        *place.ca.issue("mutual", "127.0.0.1"), client_ca=place.ca.file, newest=newest
    )
    stranger = Authority(tmp_path / "stranger", "another CA")
    foreign = TlsSettings(place.ca.file, *stranger.issue("S017.till-1", client=True))

    def behave(one: socket.socket) -> None:
        with one.dup() as copy, contextlib.suppress(ssl.SSLError):
            server.wrap_socket(copy, server_side=True).close()
        one.close()  # at once: with what the client sends meanwhile unread, this is a reset

    with Pretender(behave) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        for _ in range(5):  # it depends on who is faster
            one = make_link(url, tls=place.trusted, backoff_first_seconds=60)
            assert "wants a certificate from us" in failure(one)
            one.link.stop()
            other = make_link(url, tls=foreign, backoff_first_seconds=60)
            assert "does not trust the CA that signed it" in failure(other)
            other.link.stop()


@pytest.mark.parametrize("newest", [True, False])
def test_a_broker_that_closes_without_a_word_is_explained(
    place: Place, running: Running, make_link: MakeLink, tmp_path: Path, newest: bool
) -> None:
    """As asyncio's servers do when they miss a certificate, or do not like it: the likely cause."""
    server = server_context(
        *place.ca.issue("mutual", "127.0.0.1"), client_ca=place.ca.file, newest=newest
    )
    stranger = Authority(tmp_path / "stranger", "another CA")
    foreign = TlsSettings(place.ca.file, *stranger.issue("S017.till-1", client=True))
    with TlsWire(running.port, server) as wire:
        url = f"mqtts://127.0.0.1:{wire.port}"
        for _ in range(5):
            one = make_link(url, tls=place.trusted, backoff_first_seconds=60)
            assert "the TLS handshake: it may want a certificate from us" in failure(one)
            one.link.stop()
            other = make_link(url, tls=foreign, backoff_first_seconds=60)
            assert "the TLS handshake: it may not accept our certificate" in failure(other)
            other.link.stop()
        assert wire.seen == []


# Peers that are none.


@pytest.mark.parametrize(
    "answer",
    [
        b"\x20\x02\x00\x00",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 50_000,
        b"\xff" * 50_000,
        os.urandom(50_000),
        b"\x16\x03\x03\x40\x00" + b"\x02" * 16_384,
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"",
    ],
)
def test_garbage_instead_of_a_handshake_is_a_reason(
    place: Place, make_link: MakeLink, answer: bytes
) -> None:
    """Other services, noise, half a record, an alert, nothing at all: words, and the next try."""

    def behave(one: socket.socket) -> None:
        one.recv(4096)
        one.sendall(answer)
        one.shutdown(socket.SHUT_WR)

    with Pretender(behave) as broker:
        one = make_link(
            f"mqtts://127.0.0.1:{broker.port}", tls=place.trusted, backoff_most_seconds=0.05
        )
        wait_until(lambda: broker.accepted >= 3, what="further attempts")
        assert len(failure(one)) > len(f"mqtts://127.0.0.1:{broker.port}: ") + 10
        assert "Traceback" not in failure(one)
        assert one.quiet()
        one.link.stop()


def test_a_plain_broker_behind_an_encrypted_address_is_told_apart(
    running: Running, make_link: MakeLink
) -> None:
    """Someone who took the wrong port reads that it does not speak TLS there."""
    assert "speak TLS" in failure(make_link(f"mqtts://127.0.0.1:{running.port}"))


def test_a_slow_handshake_is_given_up_in_time(
    place: Place, running: Running, make_link: MakeLink
) -> None:
    """Silence, or a byte now and then, does not hold a link: the next address gets its turn."""

    def drip(one: socket.socket) -> None:
        for byte in b"\x16\x03\x03\x40\x00" + bytes(10_000):
            one.sendall(bytes([byte]))
            time.sleep(0.05)

    with Pretender(drip) as slow, Pretender(lambda _: None) as silent:
        one = make_link(
            f"mqtts://127.0.0.1:{slow.port}",
            f"wss://127.0.0.1:{silent.port}",
            tls=place.trusted,
            connect_timeout_seconds=0.3,
            backoff_first_seconds=60,
        )
        assert set(failure(one).split("; ")) == {
            f"mqtts://127.0.0.1:{slow.port}: no answer in time",
            f"wss://127.0.0.1:{silent.port}: no answer in time",
        }
        one.link.stop()
        two = make_link(
            f"mqtts://127.0.0.1:{slow.port}",
            f"mqtt://127.0.0.1:{dead_port()}",
            place.url("mqtts"),
            tls=place.trusted,
            connect_timeout_seconds=0.3,
        )
        assert two.next(Connected, 30).address == place.url("mqtts")


def test_a_handshake_cut_anywhere_is_a_failure_and_no_crash(
    place: Place, make_link: MakeLink
) -> None:
    """After any number of its bytes: the next attempt gets through."""
    with Wire(place.mqtt.port) as wire:
        for most in (0, 1, 5, 6, 100, 200, 500, 700, 900):
            wire.allowance = most
            one = make_link(
                f"mqtts://127.0.0.1:{wire.port}", tls=place.trusted, backoff_most_seconds=0.05
            )
            assert failure(one)
            assert one.quiet()
            wire.allowance = None
            one.next(Connected)
            one.link.stop()


# Settings.


def test_files_that_do_not_serve_are_refused_before_anything_is_tried(
    place: Place, tmp_path: Path
) -> None:
    """Missing, no PEM, not a pair, open to others, encrypted: a usage error with a hint."""
    certificate, key = place.ca.issue("me", client=True)
    _, other_key = place.ca.issue("other", client=True)
    empty, noise, open_key = tmp_path / "empty", tmp_path / "noise", tmp_path / "open.key"
    empty.touch(0o600)
    noise.touch(0o600)
    noise.write_bytes(os.urandom(2000))
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    locked = tmp_path / "locked.key"
    locked.touch(0o600)
    locked.write_bytes(_encrypted_key())
    missing = tmp_path / "missing"
    for settings, words in (
        (TlsSettings(missing), "cannot be read"),
        (TlsSettings(tmp_path), "holds no CA|cannot be read"),
        (TlsSettings(empty), "holds no CA"),
        (TlsSettings(noise), "holds no CA"),
        (TlsSettings(None, missing, key), "cannot be read"),
        (TlsSettings(None, certificate, missing), "there is no"),
        (TlsSettings(None, noise, key), "not a certificate and its key"),
        (TlsSettings(None, certificate, noise), "not a certificate and its key"),
        (TlsSettings(None, certificate, other_key), "is not the one of the certificate"),
        (TlsSettings(None, certificate, open_key), "others than its owner"),
        (TlsSettings(None, certificate, locked), "is encrypted"),
    ):
        link_settings = LinkSettings(("mqtts://h",), "c", tls=settings)
        with pytest.raises(LinkSettingsError, match=words) as caught:
            Link(link_settings, deliver=print, random=random.Random(1))
        assert caught.value.hint
        assert caught.value.exit_code == 2
    with pytest.raises(LinkSettingsError, match="without a certificate"):
        TlsSettings(key_file=key)


def _encrypted_key() -> bytes:
    from cryptography.hazmat.primitives import serialization

    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def test_attempts_read_no_files(place: Place, make_link: MakeLink, tmp_path: Path) -> None:
    """Trust is settled when the link is made, so that it comes back with the disk gone."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(place.ca.file.read_bytes())
    with Wire(place.mqtt.port) as wire:
        one = make_link(
            f"mqtts://127.0.0.1:{wire.port}",
            tls=TlsSettings(ca_file),
            backoff_most_seconds=0.05,
        )
        one.next(Connected)
        ca_file.unlink()
        wire.cut()
        one.next(Disconnected)
        one.next(Connected)


def test_plain_addresses_need_no_files(running: Running, make_link: MakeLink) -> None:
    """Where no address is encrypted, nothing of TLS is looked at."""
    make_link(running.mqtt, tls=TlsSettings(Path("no-such-file"))).next(Connected)
