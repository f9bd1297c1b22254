"""TLS: what is spoken, which files are taken, whose certificate opens the door."""

import contextlib
import socket
import ssl
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect as open_websocket

from broker.access import Credentials, Identity
from broker.errors import ListenError
from broker.limits import Limits
from broker.server import EmbeddedBroker, TlsListener
from broker.tls import TlsFiles, server_context
from tests.broker_engine import raw
from tests.broker_engine.accesses import ROOT, access, connect, write
from tests.broker_engine.certificates import Authority
from tests.broker_engine.engines import Ours, Start
from tests.broker_engine.raw import Client, ClosedError
from tests.helpers.waiting import TIME_SCALE, wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make one CA for this module."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def secured(start: Start, authority: Authority) -> Ours:
    """Run a broker in TLS, WebSocket too."""
    return start(
        websocket_port=0,
        tls=authority.server(client_ca=authority.file),
        limits=Limits(connect_seconds=1.0),
    )


def test_messages_of_every_size(secured: Ours, authority: Authority) -> None:
    """What goes in comes out, small and large, at every QoS, many at once."""
    with Client(secured.port, tls=authority.client()) as client:
        assert client.connect("c")[0] == 0
        client.subscribe(("a", 2))
        for qos in (0, 1, 2):
            for size in (0, 1, 20_000, 900_000):
                client.send(raw.publish_packet("a", bytes(size), qos, packet_id=size % 7 + 1))
                answers = [client.read() for _ in range(1 + bool(qos))]
                (message,) = [a for a in answers if a.kind == raw.PUBLISH]
                assert len(message.body) >= size
                if qos == 2:
                    client.send(raw.packet(0x62, (size % 7 + 1).to_bytes(2, "big")))
                    client.expect(raw.PUBCOMP)
        burst = [raw.publish_packet("b", b"%d" % n) for n in range(2000)]
        client.subscribe("b")
        client.send(*burst)
        got = [client.read() for _ in range(2000)]
        assert [int(p.body[3:]) for p in got] == list(range(2000))


def test_urls_say_so(secured: Ours) -> None:
    """Mqtts and wss."""
    first, second = secured.addresses.urls
    assert first == f"mqtts://127.0.0.1:{secured.port}"
    assert second == f"wss://127.0.0.1:{secured.addresses.websocket_port}/mqtt"
    assert secured.addresses.tls


def test_websocket_in_tls(secured: Ours, authority: Authority) -> None:
    """The same broker behind wss."""
    url = f"wss://127.0.0.1:{secured.addresses.websocket_port}/mqtt"
    options = {"subprotocols": ["mqtt"], "compression": None, "ssl": authority.client()}
    with open_websocket(url, **options) as web:
        web.send(raw.connect_packet("w") + raw.subscribe_packet(("a", 0)))
        web.send(raw.publish_packet("a", bytes(200_000)))
        received = b""
        while len(received) < 200_000:
            received += web.recv(timeout=5)


def test_plain_text_at_a_tls_port(secured: Ours, authority: Authority) -> None:
    """A client without TLS gets no MQTT, and the others do not feel it."""
    with Client(secured.port) as plain:
        plain.send(raw.connect_packet("x"))
        plain.socket.settimeout(5)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := plain.socket.recv(4096):
                answer += piece
        assert not answer.startswith(b"\x20")
    with Client(secured.port, tls=authority.client()) as client:
        assert client.connect("c")[0] == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(secured: Ours, authority: Authority) -> None:
    """TLS 1.1 is not spoken, 1.2 and 1.3 are."""
    for version, spoken in (
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ):
        context = authority.client()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = version
        context.maximum_version = version
        try:
            with Client(secured.port, tls=context) as client:
                assert client.connect("c")[0] == 0
                assert spoken
        except (ssl.SSLError, ConnectionError):
            assert not spoken


def test_the_deadline_covers_the_handshake(start: Start, authority: Authority) -> None:
    """Silence before, in the middle of and after the handshake ends at the same deadline."""
    engine = start(tls=authority.server(), limits=Limits(connect_seconds=0.6))
    began = time.monotonic()
    silent = Client(engine.port)
    half = Client(engine.port)
    hello = ssl.MemoryBIO()
    half_tls = authority.client().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        half_tls.do_handshake()
    half.send(hello.read()[:60])
    time.sleep(0.3)  # the handshake takes half of the time
    late = Client(engine.port, tls=authority.client())
    late.send(raw.connect_packet("x")[:5])
    for client in (silent, half, late):
        client.expect_closed(3)
        client.close()
    assert time.monotonic() - began < 2.5 * TIME_SCALE
    wait_until(lambda: engine.status().connections == 0, what="all to be gone")


def test_handshakes_count_as_connections(start: Start, authority: Authority) -> None:
    """Who is in the middle of the handshake holds a place, and can be crowded out."""
    engine = start(tls=authority.server(), limits=Limits(strangers=2, stranger_grace_seconds=0))
    first, second = Client(engine.port), Client(engine.port)
    wait_until(lambda: engine.status().strangers == 2, what="both")
    with Client(engine.port, tls=authority.client()) as third:
        first.expect_closed()
        assert third.connect("c")[0] == 0
        assert engine.status().strangers == 1
    for client in (first, second):
        client.close()


def test_slow_reader_over_tls(start: Start, authority: Authority) -> None:
    """What TLS and the socket below it hold together counts: a client that does not read is cut."""
    engine = start(
        tls=authority.server(),
        limits=Limits(outgoing_bytes=1_000_000, packet_bytes=500_000, retained_bytes=0),
    )
    with (
        Client(engine.port, tls=authority.client()) as stuck,
        Client(engine.port, tls=authority.client()) as publisher,
    ):
        stuck.connect("stuck")
        publisher.connect("pub")
        stuck.subscribe("a")
        for _ in range(200):
            publisher.publish("a", bytes(100_000), 1)
            if engine.status().connections == 1:
                break
        assert engine.status().connections == 1


class TestMutualTls:
    """With mutual TLS in the access file a device or hub needs a certificate of its name."""

    @pytest.fixture
    def engine(self, start: Start, authority: Authority, tmp_path: Path) -> Ours:
        """Run a broker that demands certificates."""
        path = tmp_path / "access.json"
        write(path, access(mutual_tls=True))
        return start(access_file=path, tls=authority.server(client_ca=authority.file))

    def test_own_certificate(self, engine: Ours, authority: Authority) -> None:
        """Its own opens the door; another device's, and none, do not."""
        own, other = authority.issue("S1.till"), authority.issue("S1.back")
        for pair, code in ((own, 0), (other, 5), (None, 5)):
            with Client(engine.port, tls=authority.client(pair)) as client:
                assert connect(client, "S1.till") == code

    def test_joining_needs_none(self, engine: Ours, authority: Authority) -> None:
        """Who joins has no certificate yet, and a tool needs none."""
        for name in ("join/b1", "tool/board"):
            with Client(engine.port, tls=authority.client()) as client:
                assert connect(client, name) == 0

    def test_a_kept_session_does_not_stand_for_a_certificate(
        self, engine: Ours, authority: Authority
    ) -> None:
        """Who was there with a certificate cannot come back without [A3]."""
        own = authority.issue("S1.till")
        with Client(engine.port, tls=authority.client(own)) as client:
            assert connect(client, "S1.till", clean=False) == 0
            client.subscribe((f"{ROOT}/to/S1/till", 1))
        with Client(engine.port, tls=authority.client()) as client:
            assert connect(client, "S1.till", clean=False) == 5

    def test_another_ca_is_refused(
        self, engine: Ours, authority: Authority, tmp_path: Path
    ) -> None:
        """A certificate that another CA signed ends the handshake."""
        forged = Authority(tmp_path / "other", "other").issue("S1.till")
        with pytest.raises((ssl.SSLError, ConnectionError, ClosedError)):  # noqa: SIM117
            with Client(engine.port, tls=authority.client(forged)) as client:
                connect(client, "S1.till")


def test_the_authenticator_sees_the_certificate(start: Start, authority: Authority) -> None:
    """As verified; without a client CA nobody is asked for one."""
    seen: list[object] = []

    class Looks:
        def authenticate(self, credentials: Credentials) -> Identity | None:
            seen.append(credentials.peer_certificate)
            return Identity("x")

    pair = authority.issue("S1.till")
    for client_ca in (authority.file, None):
        engine = start(tls=authority.server(client_ca=client_ca), authenticator=Looks())
        with Client(engine.port, tls=authority.client(pair)) as client:
            assert client.connect("x")[0] == 0
    asked, not_asked = seen
    assert isinstance(asked, dict)
    assert (("commonName", "S1.till"),) in asked["subject"]
    assert not not_asked


def test_plain_and_tls_side_by_side(start: Start, authority: Authority) -> None:
    """Plain text for what is on this machine, TLS for the network: one broker."""
    engine = start(
        websocket_port=0,
        tls=authority.server(),
        tls_listener=TlsListener(port=0, websocket_port=0),
    )
    second = engine.addresses.second
    assert second is not None
    assert [url.split(":")[0] for url in engine.addresses.urls] == ["mqtt", "ws", "mqtts", "wss"]
    assert not engine.addresses.tls
    with (
        Client(engine.port) as plain,
        Client(second.port, tls=authority.client()) as secret,
    ):
        plain.connect("hub")
        secret.connect("till")
        secret.subscribe("a")
        plain.publish("a", b"across", 1)
        assert secret.message().payload == b"across"


class TestFiles:
    """What is wrong with the files is said before anything listens."""

    def _refused(self, files: TlsFiles) -> ListenError:
        with pytest.raises(ListenError) as caught:
            server_context(files)
        return caught.value

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="POSIX access rights")
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
    def test_key_that_others_can_read(self, authority: Authority, mode: int) -> None:
        """It is not secret, and the command that mends it is named."""
        pair = authority.issue("open")
        pair.key.chmod(mode)
        error = self._refused(TlsFiles(certificate=pair.certificate, key=pair.key))
        assert error.hint == f"chmod 600 {pair.key}"

    def test_missing_and_wrong(self, authority: Authority, tmp_path: Path) -> None:
        """No file, no PEM, two that do not belong together, an unusable client CA."""
        one, other = authority.issue("one"), authority.issue("two")
        nothing = tmp_path / "nothing.pem"
        garbage = tmp_path / "garbage.pem"
        garbage.touch(mode=0o600)
        garbage.write_text("garbage")
        cases = [
            (one.certificate, nothing, None, "No such file"),
            (nothing, one.key, None, "No such file"),
            (garbage, one.key, None, "cannot be read as PEM"),
            (one.certificate, garbage, None, "cannot be read as PEM"),
            (one.certificate, other.key, None, "do not belong together"),
            (one.certificate, one.key, garbage, "client CA"),
            (one.certificate, one.key, nothing, "client CA"),
        ]
        for certificate, key, client_ca, text in cases:
            files = TlsFiles(certificate=certificate, key=key, client_ca=client_ca)
            assert text in str(self._refused(files)), text

    def test_encrypted_key(self, authority: Authority, tmp_path: Path) -> None:
        """It is refused, and nobody is asked for a password on the terminal."""
        from cryptography.hazmat.primitives import serialization

        pair = authority.issue("locked")
        key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        error = self._refused(TlsFiles(certificate=pair.certificate, key=pair.key))
        assert "encrypted" in str(error)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"host": "0.0.0.0"}, "without TLS"),
        ({"host": "0.0.0.0", "tls": True}, "without an access file"),
        ({"tls": True, "tls_listener": TlsListener(host="0.0.0.0", port=0)}, "without an access"),
    ],
)
def test_the_network_is_protected_or_asked_for(
    authority: Authority, options: dict[str, object], text: str
) -> None:
    """A host that others reach needs TLS and rules, or an explicit word for what is missing."""
    if options.get("tls"):
        options = options | {"tls": authority.server()}
    with pytest.raises(ListenError, match=text):
        Ours(**options)


def test_tls_and_rules_need_no_word(start: Start, authority: Authority, tmp_path: Path) -> None:
    """With TLS and an access file every address is fine; without rules, if asked for."""
    path = tmp_path / "access.json"
    write(path, access())
    for options in ({"access_file": path}, {"open_to_network": True}):
        engine = start(host="0.0.0.0", tls=authority.server(), **options)
        with Client(engine.port, tls=authority.client()) as client:
            client.send(raw.connect_packet("x"))
            assert client.expect(raw.CONNACK).body[1] in (0, 5)


def test_arguments_that_exclude_each_other() -> None:
    """A TLS listener needs a certificate."""
    with pytest.raises(ValueError, match="certificate"):
        EmbeddedBroker(tls_listener=TlsListener())
