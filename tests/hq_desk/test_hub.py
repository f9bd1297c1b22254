"""The hub's loop beside the protocol: access file, keys, and whose word on `hq` counts."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buskit.database import Database, DatabaseFailed
from buskit.doorbell import ring
from buskit.link import Received
from buswire import frame
from buswire.access import AccessFile, decode_access, token_hash
from buswire.messages import Hub
from buswire.signing import SigningKey
from buswire.topics import Identity, Topics
from hqconsole import hub_identity, keyring
from hqconsole.home import HqSettings, SettingsError, parse_settings
from hqconsole.hub import HubError, HubProcess
from hqconsole.keyring import Keyring, KeyringError
from hqconsole.ledger import enrolment, organisation
from hqconsole.ledger.opening import open_ledger
from hqconsole.store_row import StoreRow
from hqconsole.timing import HubLimits
from tests.helpers.waiting import wait_until
from tests.hq_desk.office import seed

STORE = StoreRow(
    store_id="S1",
    name="One",
    region="east",
    region_name="East",
    city="",
    country="",
    timezone="UTC",
    roles=("manager",),
    role_names=("manager",),
    tags=(),
    extra={},
)
TILL = Identity("S1", "till-1")


def new_id() -> str:
    """A random id."""
    return os.urandom(16).hex()


class Running:
    """A hub in a thread, whose broker nobody runs: all that it does beside the link."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.said: list[str] = []
        self.failure: BaseException | None = None
        settings = HqSettings(brokers=("mqtt://127.0.0.1:9",))
        self.hub = HubProcess(home, settings, say=self.said.append)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.hub.run()
        except BaseException as error:
            self.failure = error

    @property
    def alive(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """As SIGTERM does; idempotent."""
        self.hub.on_signal(15, None)
        self._thread.join(20)
        assert not self.alive

    def hears(self, payload: bytes) -> None:
        """Something arrives on `hq`."""
        self.hub._inbound.put(Received(Topics().hq, payload, False))

    def access(self) -> AccessFile:
        """The access file as it is now."""
        return decode_access((self.home / "access.json").read_bytes())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a store and a device, as from before there were keys."""
    with open_ledger(tmp_path, create=True) as ledger, ledger.write() as connection:
        organisation.save_roster(connection, [STORE], at=time.time(), new_id=new_id)
        enrolment.activate(
            connection,
            TILL,
            None,
            public=SigningKey(seed("till")).public,
            token_hash=token_hash("till"),
            at=time.time(),
            new_id=new_id,
        )
    return tmp_path


@pytest.fixture
def running(home: Path) -> Iterator[Running]:
    """A hub at work."""
    running = Running(home)
    wait_until(lambda: any("runs in" in line for line in running.said), what="the hub")
    yield running
    running.stop()


def test_a_revocation_is_in_the_access_file_at_once(running: Running) -> None:
    """A command rings and the file is new; without a ring it takes a second longer."""
    assert list(running.access().devices) == ["S1.till-1"]
    assert running.access().hubs
    for rings in (True, False):
        with open_ledger(running.home) as ledger, ledger.write() as connection:
            if rings:
                enrolment.revoke(connection, TILL, at=time.time(), by="Ana")
            else:
                enrolment.activate(
                    connection,
                    TILL,
                    None,
                    public=SigningKey(seed("again")).public,
                    token_hash=token_hash("again"),
                    at=time.time(),
                    new_id=new_id,
                )
        if rings:
            ring(running.home)
        wait_until(lambda r=rings: not running.access().devices if r else running.access().devices)


def test_new_keys_are_taken_while_it_runs(running: Running) -> None:
    """What a command rotated or recovered signs without a restart; a damaged chain changes none."""
    first = Keyring.load(running.home).signing(time.time())
    second = keyring.rotate(running.home, 0.0, time.time()).signing(time.time())
    assert second.id != first.id
    wait_until(lambda: any(f"the key {second.id[:8]} signs" in line for line in running.said))
    (running.home / "keys" / "chain.json").write_bytes(b"damaged")
    wait_until(lambda: any("stay what they were" in line for line in running.said))
    assert running.alive


def test_what_commands_wrote_is_sealed_while_nobody_is_connected(running: Running) -> None:
    """Keys that commands let in get HQ's word likewise."""
    with open_ledger(running.home) as ledger, ledger.write() as connection:
        connection.execute("INSERT INTO doc (kind, data) VALUES ('directive', x'7b7d')")
    ring(running.home)
    with open_ledger(running.home) as ledger:
        wait_until(lambda: ledger.connection.execute("SELECT seal FROM doc").fetchone()[0])
        wait_until(
            lambda: ledger.connection.execute("SELECT joined_text FROM device_key").fetchone()[0]
        )


def test_only_a_hub_with_hqs_keys_can_send_another_one_away(running: Running) -> None:
    """A stranger's word is nothing, nor a recording; an older hub that answers us is obeyed."""
    recorded = Hub(run="0" * 32, up=True, since_at=1.0)
    message = Hub(run="0" * 32, up=True, since_at=1.0, heard=running.hub._desk.run)
    topic = Topics().hq
    own = Keyring.load(running.home).signing(time.time())
    running.hears(frame.encode(message, topic, SigningKey(seed("stranger"))))
    running.hears(frame.encode(message, "other/v1/hq", own))
    running.hears(b"storebus/1\n{}")
    running.hears(frame.encode(recorded, topic, own))
    with open_ledger(running.home) as ledger, ledger.write() as connection:
        connection.execute("INSERT INTO doc (kind, data) VALUES ('directive', x'7b7d')")
    ring(running.home)
    with open_ledger(running.home) as ledger:
        wait_until(lambda: ledger.connection.execute("SELECT seal FROM doc").fetchone()[0])
    assert running.alive, "it has heard them all and goes on"
    running.hears(frame.encode(message, topic, own))
    wait_until(lambda: not running.alive)
    assert isinstance(running.failure, HubError)


def test_an_access_file_that_cannot_be_written_is_told_of_once_and_tried_again(
    running: Running,
) -> None:
    """The protocol goes on meanwhile; when there is room again the file is there."""
    path = running.home / "access.json"
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    with open_ledger(running.home) as ledger, ledger.write() as connection:
        enrolment.revoke(connection, TILL, at=time.time(), by="Ana")
    ring(running.home)
    wait_until(lambda: any("cannot be written" in line for line in running.said))
    (path / "in the way").unlink()
    path.rmdir()
    wait_until(path.exists)
    assert running.access().devices == {}
    assert sum("cannot be written" in line for line in running.said) == 1


def test_a_hub_whose_keys_are_gone_says_what_to_do(home: Path) -> None:
    """It does not become another head office."""
    with open_ledger(home) as ledger:
        hub_identity.prepare(home, ledger, root="storebus/v1", at=time.time())
    (home / "keys").rename(home / "moved")
    running = Running(home)
    wait_until(lambda: not running.alive)
    assert isinstance(running.failure, KeyringError)
    assert "backup" in str(running.failure.hint)


def test_limits_and_confirmation_are_settings() -> None:
    """In hq.toml, checked like all others."""
    settings = parse_settings(
        {
            "enrolment": {"activation": "confirm"},
            "limits": {"kept_bytes": 5_000_000},
            "link": {"ca_file": "/etc/ssl/corporate.pem"},
        }
    )
    assert settings.confirms
    assert settings.limits == HubLimits(kept_bytes=5_000_000)
    assert settings.ca_file == "/etc/ssl/corporate.pem"
    assert not parse_settings({}).confirms
    for wrong in (
        {"enrolment": {"activation": "perhaps"}},
        {"enrolment": {"activate": "confirm"}},
        {"limits": {"kept_bytes": 0}},
        {"limits": {"kept": 5}},
    ):
        with pytest.raises(SettingsError, match=r"enrolment|limits"):
            parse_settings(wrong)


def test_a_ledger_that_stays_broken_is_opened_anew_until_it_works(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub says why, with a hint, tries again on a new connection, and goes on by itself."""
    monkeypatch.setattr("buskit.disk_trouble.RETRY_FIRST_SECONDS", 0.05)
    broken = running.hub._ledger
    broken._broken = "a sync failed"
    real, refused = open_ledger, 0

    def refuse(home: Path) -> Database:
        nonlocal refused
        refused += 1
        if refused < 4:
            raise DatabaseFailed("the ledger cannot be read", hint="look at the disk")
        return real(home)

    monkeypatch.setattr("hqconsole.hub.open_ledger", refuse)
    with real(running.home) as ledger, ledger.write() as connection:
        enrolment.revoke(connection, TILL, at=time.time(), by="Ana")

    def rung() -> bool:
        running.hub._desk._nudge_at = 0.0
        _write(running)
        return any("works again" in line for line in running.said)

    wait_until(rung, what="the hub to go on")
    assert refused == 4
    assert running.hub._ledger is not broken
    assert any("look at the disk" in line for line in running.said)
    assert running.alive


def _write(running: Running) -> None:
    """Give the hub something to save: a directive that waits for its seal."""
    running.hub._desk._notary._seals_doubted = True
    ring(running.home)


def test_what_dead_processes_left_is_removed_at_the_start(home: Path) -> None:
    """Half-written files in the home and among the keys, once nobody can be at work on them."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    keyring.create(home, at=1.0)
    left = [folder / f".x.json.{child.pid}.0123abcd.unfinished" for folder in (home, home / "keys")]
    for path in left:
        path.write_bytes(b"half")
        os.utime(path, (1e9, 1e9))
    running = Running(home)
    wait_until(lambda: any("runs in" in line for line in running.said), what="the hub")
    running.stop()
    assert not any(path.exists() for path in left)
