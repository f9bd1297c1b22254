"""`hq up` where the settings say mqtts://: broker and hub in TLS, with certificates if wanted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from buskit.homes import write_settings
from hqconsole.home import SETTINGS_NAME, HqSettings, as_toml
from hqconsole.ledger.opening import open_ledger
from hqconsole.supervisor import Listening, SupervisorError, listening, supervise
from hqconsole.tls import init_tls
from tests.helpers.waiting import wait_until


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose broker is to listen in TLS."""
    settings = HqSettings(brokers=("mqtts://localhost:0",))
    open_ledger(tmp_path, create=True).close()
    write_settings(tmp_path / SETTINGS_NAME, as_toml(settings))
    return tmp_path


def test_addresses_in_tls_have_their_own_ports() -> None:
    """Mqtts and wss together are one broker in TLS; plain and encrypted together are not."""
    found = listening(HqSettings(brokers=("mqtts://bus.example.com", "wss://bus.example.com")))
    assert found == Listening("bus.example.com", 8883, 443, tls=True)
    with pytest.raises(SupervisorError):
        listening(HqSettings(brokers=("mqtts://bus.example.com", "ws://bus.example.com")))


def test_without_a_certificate_it_says_how_to_make_one(home: Path) -> None:
    """Before anything is started."""
    with pytest.raises(SupervisorError) as refused:
        supervise(home)
    assert refused.value.hint == "hq tls init --host localhost"


def test_a_certificate_and_an_address_without_tls_do_not_go_together(home: Path) -> None:
    """On loopback they do: nobody can listen in there."""
    init_tls(home, ["bus.example.com"])
    settings = HqSettings(brokers=("mqtt://bus.example.com:1883",))
    write_settings(home / SETTINGS_NAME, as_toml(settings))
    with pytest.raises(SupervisorError) as refused:
        supervise(home)
    assert refused.value.hint == "hq init --broker mqtts://bus.example.com:8883"


def test_broker_and_hub_speak_tls(home: Path) -> None:
    """The hub trusts the private CA, and shows a certificate where devices must, too."""
    init_tls(home, ["localhost"], mutual=True)
    log = home / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hqconsole.commands.main", "up", "--home", str(home)],
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(
            lambda: b"connected to mqtts://localhost:" in log.read_bytes(),
            seconds=30,
            what="the hub's connection",
        )
        ready = json.loads((home / "broker.json").read_bytes())
        access = json.loads((home / "access.json").read_bytes())
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    assert ready["tls"] is True
    assert access["mutual_tls"] is True
    assert (home / "tls" / "hub.pem").exists()
