"""The folder `tls`: made once, mended when broken, shared by nobody, and good for real links."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buskit import files as kit_files
from buskit.errors import KitError
from buskit.homes import HomeError
from buskit.link_settings import TlsSettings
from buskit.secrets import SecretError, new_seed, private_key_pem, write_secret
from buskit.tls import Tls
from hqconsole.tls import (
    TlsError,
    TlsMissing,
    ca_certificate,
    has_tls,
    hub_tls,
    init_tls,
    is_mutual,
    issue_client_certificate,
    renew_tls,
    tls_files,
    tls_state,
)
from tests.hq_tls.handshake import server_context, shake_hands

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")


def _trusting(home: Path) -> Tls:
    return Tls(TlsSettings(tls_files(home).ca))


def _content(home: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in tls_files(home).ca.parent.iterdir()}


def test_a_link_gets_in_by_every_host_and_by_no_other(tmp_path: Path) -> None:
    """In TLS 1.3 and 1.2, by name, wildcard and address; what is not named is refused."""
    hosts = ["bus.example.com", "203.0.113.7", "*.till.example.com"]
    change = init_tls(tmp_path, hosts)
    assert change.new_ca
    assert change.new_certificate
    for newest in (True, False):
        server = server_context(tls_files(tmp_path), newest=newest)
        for host in (*hosts[:2], "one.till.example.com", "localhost", "127.0.0.1", "::1"):
            shaken = shake_hands(_trusting(tmp_path), server, host)
            assert shaken.version == ("TLSv1.3" if newest else "TLSv1.2")
        for host in ("bus.example.org", "203.0.113.8", "a.b.till.example.com"):
            with pytest.raises(KitError, match=f"is not for {host}"):
                shake_hands(_trusting(tmp_path), server, host)


def test_another_head_office_is_refused(tmp_path: Path) -> None:
    """Its broker has all the names and is not of our CA."""
    init_tls(tmp_path / "ours")
    init_tls(tmp_path / "theirs")
    with pytest.raises(KitError, match="is not signed by the CA"):
        shake_hands(_trusting(tmp_path / "ours"), server_context(tls_files(tmp_path / "theirs")))


def test_a_till_in_1970_gets_in(tmp_path: Path) -> None:
    """A real handshake by openssl, whose clock is told what to believe, and the name checked."""
    init_tls(tmp_path)
    openssl = shutil.which("openssl")
    if openssl is None:  # then by the flag alone: a link never looks at the clock
        shake_hands(_trusting(tmp_path), server_context(tls_files(tmp_path)))
        return
    server = server_context(tls_files(tmp_path))
    with Shaker(server) as port:
        for at in (0, 1, 86_400, 4_102_444_800, 253_402_300_798):
            said = subprocess.run(
                [
                    *(openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-attime", str(at)),
                    *("-CAfile", tls_files(tmp_path).ca, "-verify_return_error"),
                    *("-verify_ip", "127.0.0.1", "-brief"),
                ],
                input=b"",
                capture_output=True,
                check=False,
                timeout=60,
            )
            assert said.returncode == 0, said.stderr.decode()
            assert b"Verification: OK" in said.stderr


class Shaker:
    """A server that shakes hands with each who comes, and closes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """Listen."""
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)

    def _run(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(one, server_side=True) as tls:
                    tls.recv(10)
            except OSError:
                one.close()


def test_said_again_it_changes_nothing(tmp_path: Path) -> None:
    """Every byte stays, with the same hosts said or none; the wish for mutual TLS stays, too."""
    init_tls(tmp_path, ["a", "b"], mutual=True)
    before = _content(tmp_path)
    for hosts in ([], ["a", "b"], ["A", "b.", "localhost"]):
        change = init_tls(tmp_path, hosts)
        assert not change.new_ca
        assert not change.new_certificate
        assert not change.dropped
        assert _content(tmp_path) == before
    assert is_mutual(tmp_path)


def test_other_hosts_are_a_new_certificate_of_the_same_ca(tmp_path: Path) -> None:
    """Who pinned the CA gets in as before; what falls out is told."""
    init_tls(tmp_path, ["a", "b"])
    pinned = _trusting(tmp_path)
    old = _content(tmp_path)
    change = init_tls(tmp_path, ["b", "c"])
    assert (change.new_ca, change.new_certificate, change.dropped) == (False, True, ("a",))
    new = _content(tmp_path)
    assert {name for name in old if old[name] != new[name]} == {"broker.pem"}
    shake_hands(pinned, server_context(tls_files(tmp_path)), "c")
    with pytest.raises(KitError, match="is not for a"):
        shake_hands(pinned, server_context(tls_files(tmp_path)), "a")


def test_renewing_draws_a_new_key_for_the_same_hosts(tmp_path: Path) -> None:
    """The CA stays, and with it everyone's trust."""
    init_tls(tmp_path, ["a"], mutual=True)
    pinned = _trusting(tmp_path)
    old = _content(tmp_path)
    state = renew_tls(tmp_path).state
    new = _content(tmp_path)
    assert {name for name in old if old[name] != new[name]} == {"broker.pem", "broker.key"}
    assert state.hosts == ("a", "localhost", "127.0.0.1", "::1")
    assert state.mutual
    shake_hands(pinned, server_context(tls_files(tmp_path)), "a")


@posix_only
def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """And one that others can read is refused with the command that closes it, not used."""
    init_tls(tmp_path, ["a"])
    files = tls_files(tmp_path)
    assert files.ca.parent.stat().st_mode & 0o777 == 0o700
    for key in (files.ca_key, files.broker_key):
        assert key.stat().st_mode & 0o777 == 0o600
    files.ca_key.chmod(0o640)
    for act in (lambda: init_tls(tmp_path, ["b"]), lambda: renew_tls(tmp_path)):
        with pytest.raises(SecretError) as caught:
            act()
        assert caught.value.hint == f"chmod 600 {files.ca_key}"
    with pytest.raises(SecretError):
        issue_client_certificate(tmp_path, "a.b", new_seed())
    assert any("chmod 600" in trouble for trouble in tls_state(tmp_path).troubles)
    files.ca_key.chmod(0o600)
    assert tls_state(tmp_path).troubles == ()


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(1, 7))
@pytest.mark.parametrize("started", [False, True])
def test_killed_anywhere_the_next_call_puts_it_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, started: bool
) -> None:
    """Before any of its files takes its place: a CA that was there stays, and all fits in the end.

    Also where the first call was complete and a renewal was killed.
    """
    pinned = None
    if started:
        init_tls(tmp_path, ["a"])
        pinned = _trusting(tmp_path)
    left = step
    really = kit_files.replace

    def replace(source: Path, target: Path, **how: bool) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        really(source, target, **how)

    with monkeypatch.context() as patch:
        patch.setattr(kit_files, "replace", replace)
        with contextlib.suppress(Killed):
            renew_tls(tmp_path) if started else init_tls(tmp_path, ["a"])
    if pinned is None and tls_files(tmp_path).ca.exists():
        pinned = _trusting(tmp_path)
    state = init_tls(tmp_path, ["a"]).state
    assert state.troubles == ()
    shake_hands(pinned or _trusting(tmp_path), server_context(tls_files(tmp_path)), "a")
    assert not list(tls_files(tmp_path).ca.parent.glob(".*unfinished"))


def test_a_full_disk_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it hits; afterwards the same command goes through."""
    for step in (1, 3, 5, 7, 9):  # files and folders in turn
        home = tmp_path / str(step)
        left = step

        def full(descriptor: int, really: Callable[[int], None] = os.fsync) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(28, "No space left on device")
            really(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(kit_files.os, "fsync", full)
            with pytest.raises((HomeError, TlsError, SecretError), match="No space left"):
                init_tls(home)
        assert init_tls(home).state.troubles == ()


def test_several_at_once_make_one_ca(tmp_path: Path) -> None:
    """Processes that begin together agree in the end, whatever hosts each wants."""
    code = (
        "import sys; from pathlib import Path; from hqconsole.tls import init_tls\n"
        "print(init_tls(Path(sys.argv[1]), [sys.argv[2]]).state.ca_fingerprint)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path, host], stdout=subprocess.PIPE, text=True
        )
        for host in ("a", "b", "c")
    ]
    said = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    state = tls_state(tmp_path)
    assert said == {f"{state.ca_fingerprint}\n"}
    assert state.troubles == ()


def test_a_lost_certificate_of_the_ca_is_made_anew_from_its_key(tmp_path: Path) -> None:
    """Devices that pinned the lost one get in still."""
    init_tls(tmp_path, ["a"])
    pinned = _trusting(tmp_path)
    tls_files(tmp_path).ca.unlink()
    with pytest.raises(TlsMissing, match="is gone"):
        tls_state(tmp_path)
    change = init_tls(tmp_path, ["b"])
    assert not change.new_ca
    assert change.state.troubles == ()
    shake_hands(pinned, server_context(tls_files(tmp_path)), "b")
    shake_hands(_trusting(tmp_path), server_context(tls_files(tmp_path)), "b")


def test_the_ca_key_may_be_kept_elsewhere(tmp_path: Path) -> None:
    """Without it all goes on, and only what needs a signature says where it has to be."""
    init_tls(tmp_path, ["a"], mutual=True)
    hub_tls(tmp_path, "hub/1")
    files = tls_files(tmp_path)
    files.ca_key.rename(tmp_path / "offline")
    assert not init_tls(tmp_path, ["a"]).new_certificate
    state = tls_state(tmp_path)
    assert (state.ca_key_here, state.troubles) == (False, ())
    assert hub_tls(tmp_path, "hub/1") is not None
    before = _content(tmp_path)
    for act in (
        lambda: init_tls(tmp_path, ["b"]),
        lambda: renew_tls(tmp_path),
        lambda: issue_client_certificate(tmp_path, "a.b", new_seed()),
        lambda: hub_tls(tmp_path, "hub/2"),
    ):
        with pytest.raises(TlsError, match="is not there, and nothing can be signed") as caught:
            act()
        assert caught.value.hint
    assert _content(tmp_path) == before
    (tmp_path / "offline").rename(files.ca_key)
    assert init_tls(tmp_path, ["b"]).state.troubles == ()


def test_what_does_not_fit_is_told_with_its_remedy(tmp_path: Path) -> None:
    """A wrong key, garbage, a missing file: seen by `tls_state`, mended by what it says."""
    init_tls(tmp_path / "other")
    for name in ("broker.key", "broker.pem"):
        for spoil in ("other", "garbage", "gone"):
            home = tmp_path / f"{name}-{spoil}"
            init_tls(home, ["a"])
            pinned = _trusting(home)
            path = home / "tls" / name
            if spoil == "other":
                path.write_bytes((tmp_path / "other" / "tls" / name).read_bytes())
            elif spoil == "garbage":
                path.write_bytes(b"\0garbage")
            else:
                path.unlink()
            if name == "broker.pem" and spoil != "other":
                with pytest.raises(TlsError) as caught:
                    tls_state(home)
                assert caught.value.hint
            else:
                troubles = tls_state(home).troubles
                assert troubles
                assert all("hq tls renew" in trouble for trouble in troubles)
            assert init_tls(home, ["a"]).state.troubles == ()
            shake_hands(pinned, server_context(tls_files(home)), "a")
    home = tmp_path / "wrong-ca-key"
    init_tls(home)
    tls_files(home).ca_key.write_bytes(tls_files(tmp_path / "other").ca_key.read_bytes())
    assert "not the key" in tls_state(home).troubles[0]
    with pytest.raises(TlsError, match="is not the key of"):
        init_tls(home, ["new"])
    tls_files(home).ca.write_bytes(b"garbage")
    with pytest.raises(TlsError, match="holds no certificate"):
        init_tls(home, ["new"])


def test_where_nothing_is_set_up_it_is_said(tmp_path: Path) -> None:
    """No CA, no certificate: a hint, or None where that is an answer."""
    for act in (
        lambda: tls_state(tmp_path),
        lambda: renew_tls(tmp_path),
        lambda: issue_client_certificate(tmp_path, "a.b", new_seed()),
    ):
        with pytest.raises(TlsMissing) as caught:
            act()
        assert "hq tls init" in str(caught.value.hint)
    assert not has_tls(tmp_path)
    assert not is_mutual(tmp_path)
    assert ca_certificate(tmp_path) is None
    assert hub_tls(tmp_path, "hub/1") is None
    assert list(tmp_path.iterdir()) == []


def test_the_ca_goes_into_bundles_as_text(tmp_path: Path) -> None:
    """A device that writes it into a file of its own trusts this head office."""
    init_tls(tmp_path / "hq")
    text = ca_certificate(tmp_path / "hq")
    assert text is not None
    (tmp_path / "ca.pem").write_text(text)
    shake_hands(Tls(TlsSettings(tmp_path / "ca.pem")), server_context(tls_files(tmp_path / "hq")))


@pytest.mark.parametrize("newest", [True, False])
def test_a_device_shows_a_certificate_for_its_signing_key(tmp_path: Path, newest: bool) -> None:
    """Ed25519 in TLS 1.3 and 1.2, Python's ssl on both sides; the broker reads the identity."""
    init_tls(tmp_path / "hq", mutual=True)
    server = server_context(tls_files(tmp_path / "hq"), mutual=True, newest=newest)
    seed = new_seed()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    text = issue_client_certificate(tmp_path / "hq", "S017.till-1", public)
    (tmp_path / "client.pem").write_text(text)
    write_secret(tmp_path / "client.key", private_key_pem(seed))
    ca_file = tls_files(tmp_path / "hq").ca
    device = Tls(TlsSettings(ca_file, tmp_path / "client.pem", tmp_path / "client.key"))
    shaken = shake_hands(device, server)
    assert shaken.version == ("TLSv1.3" if newest else "TLSv1.2")
    assert shaken.certificate is not None
    assert shaken.certificate["subject"] == ((("commonName", "S017.till-1"),),)
    with pytest.raises(ssl.SSLError):
        shake_hands(Tls(TlsSettings(ca_file)), server)
    init_tls(tmp_path / "theirs", mutual=True)
    foreign = issue_client_certificate(tmp_path / "theirs", "S017.till-1", public)
    (tmp_path / "foreign.pem").write_text(foreign)
    with pytest.raises(ssl.SSLError):
        shake_hands(
            Tls(TlsSettings(ca_file, tmp_path / "foreign.pem", tmp_path / "client.key")), server
        )


def test_the_broker_cannot_pose_as_a_device_nor_a_device_as_the_broker(tmp_path: Path) -> None:
    """With keys and certificates of the right CA, but for the other purpose."""
    init_tls(tmp_path, mutual=True)
    files = tls_files(tmp_path)
    posing = Tls(TlsSettings(files.ca, files.broker, files.broker_key))
    with pytest.raises(ssl.SSLError):
        shake_hands(posing, server_context(files, mutual=True))
    hub_tls(tmp_path, "localhost")
    fake = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    fake.load_cert_chain(files.hub, files.hub_key)
    with pytest.raises(KitError, match=r"not one for a server|is not for localhost"):
        shake_hands(_trusting(tmp_path), fake)


def test_the_hub_has_what_its_link_needs(tmp_path: Path) -> None:
    """The CA alone; with mutual TLS a certificate for its name, made once and again for another."""
    init_tls(tmp_path)
    files = tls_files(tmp_path)
    assert hub_tls(tmp_path, "hub/1") == TlsSettings(ca_file=files.ca)
    assert not files.hub.exists()
    init_tls(tmp_path, mutual=True)
    server = server_context(files, mutual=True)
    for name in ("hub/1", "hub/1", "hub/2"):
        settings = hub_tls(tmp_path, name)
        assert settings is not None
        seen = shake_hands(Tls(settings), server).certificate
        assert seen is not None
        assert seen["subject"] == ((("commonName", name),),)
    before = _content(tmp_path)
    hub_tls(tmp_path, "hub/2")
    assert _content(tmp_path) == before
    files.hub_key.write_bytes(b"garbage")
    again = hub_tls(tmp_path, "hub/2")
    assert again is not None
    shake_hands(Tls(again), server)
