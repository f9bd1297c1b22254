"""Head office is not heard: said to staff, in the status and in the log, and cleared again."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from storeagent.agent import AgentProcess as Daemon
from storeagent.core import Linked, Unlinked
from storeagent.keys import read_key
from storeagent.main import main
from storeagent.settings import SettingsError, parse_settings, read_agent_settings
from storeagent.silence import Silence, not_heard_words
from storeagent.status import DaemonStatus, read_status, write_status
from tests.agent.device import Device
from tests.agent.head_office import TOKEN, HeadOffice
from tests.agent.processes import BrokerProcess, LiveHeadOffice, set_up
from tests.agent.words import ALL_ANY
from tests.helpers.waiting import wait_until


def test_silence_begins_after_its_time_and_ends_with_an_answer() -> None:
    """Alarm and all-clear, each said once, by the monotonic clock alone."""
    silence = Silence(900.0, now=50.0)
    assert not silence.look(949.9)
    assert not silence.silent
    assert silence.look(950.0)
    assert silence.silent
    assert not silence.look(5_000.0), "said once"
    silence.heard(5_000.0)
    assert silence.look(5_000.0)
    assert not silence.silent
    assert not silence.look(5_899.0)
    assert silence.look(5_900.0)
    assert silence.silent


def test_a_new_process_is_no_answer() -> None:
    """Silence outlives the process that noticed it, and ends with the first welcome."""
    silence = Silence(900.0, now=0.0, silent=True)
    assert not silence.look(0.0)
    assert silence.silent
    silence.heard(1.0)
    assert silence.look(1.0)
    assert not silence.silent


def test_the_words_have_the_time_on_the_stores_clock() -> None:
    """Today as a time, else with the day; never; and no clock can make it fail."""
    zone = ZoneInfo("Europe/Paris")
    now_at = datetime(2026, 5, 1, 16, 0, tzinfo=UTC).timestamp()
    heard_at = datetime(2026, 5, 1, 12, 5, tzinfo=UTC).timestamp()
    assert not_heard_words(heard_at, now_at=now_at, zone=zone) == "HQ not heard since 14:05"
    yesterday = heard_at - 86_400
    said = not_heard_words(yesterday, now_at=now_at, zone=zone)
    assert said == "HQ not heard since 2026-04-30 14:05"
    assert not_heard_words(None, now_at=now_at, zone=zone) == "HQ never heard"
    for odd in (-1e30, 1e30, float("nan"), float("inf")):
        assert not_heard_words(odd, now_at=now_at, zone=zone).startswith("HQ not heard")
        assert not_heard_words(heard_at, now_at=odd, zone=zone).startswith("HQ not heard")


def test_the_core_keeps_when_its_own_hello_was_answered(tmp_path: Path) -> None:
    """Only an answer to the latest nonce counts, and the database remembers it."""
    hq = HeadOffice()
    device = Device(hq)
    device.talk(Linked())
    assert device.core.last_welcome_at == 100.0
    assert device.core.memory.welcome_at() == 1_100.0
    hq.silent = True
    device.now = 200.0
    device.talk(hq.issue(ALL_ANY), Unlinked(), Linked())
    assert device.core.last_welcome_at == 100.0, "a record of HQ's proves no presence"
    hq.silent = False
    device.go_on(30.0)
    assert device.core.last_welcome_at > 200.0
    device.open(device.database)
    assert device.core.last_welcome_at is None
    assert device.core.memory.welcome_at() is not None


def test_the_setting() -> None:
    """`[timing] silence_seconds`, 900 by default, more than nothing."""
    named = {"store": "S", "device": "d"}
    assert parse_settings(named).silence_seconds == 900.0
    assert parse_settings({**named, "timing": {"silence_seconds": 60}}).silence_seconds == 60.0
    for wrong in (0, -1, "x", True):
        with pytest.raises(SettingsError, match="silence_seconds"):
            parse_settings({**named, "timing": {"silence_seconds": wrong}})


# --- the daemon and the commands -----------------------------------------------------------------


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker."""
    process = BrokerProcess(tmp_path)
    yield process
    process.stop()


def _said(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    capsys.readouterr()
    assert main.run([*words, "--home", str(home)], "storeagent") == 0
    said = capsys.readouterr()
    return said.out, said.err


def test_staff_are_told_and_it_clears(
    tmp_path: Path, bus: BrokerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """HQ says nothing on a connection that is there: log, status and inbox say so, then not."""
    home = tmp_path / "till"
    set_up(home, bus.port)
    with (home / "agent.toml").open("a") as file:
        file.write("silence_seconds = 1.0\nbeat_seconds = 0.2\n")
    said: list[str] = []
    settings = read_agent_settings(home)
    key = read_key(home, settings.identity, settings.root)
    assert key.token == TOKEN
    hq = LiveHeadOffice(bus.port)
    daemon = Daemon(home, settings, key, say=said.append)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        wait_until(lambda: read_status(home).last_welcome_at, what="a welcome")
        assert not read_status(home).silent
        hq.script.silent = True
        wait_until(lambda: read_status(home).silent, seconds=20, what="the alarm")
        assert read_status(home).connected
        last_at = read_status(home).last_welcome_at
        assert [line for line in said if line.startswith("HQ not heard since ")]
        wait_until(lambda: "HQ not heard since " in _said(home, capsys, "inbox")[1], what="inbox")
        found = json.loads(_said(home, capsys, "status", "--json")[0])
        assert found["not_heard"]
        assert found["last_welcome_at"] == last_at
        assert any(notice.startswith("HQ not heard since ") for notice in found["notices"])
        assert "HQ not heard" not in "".join(_said(home, capsys, "inbox", "--json"))
        hq.script.silent = False
        wait_until(lambda: not read_status(home).silent, seconds=20, what="the all-clear")
        assert "HQ is heard again" in said
        assert "HQ not heard" not in _said(home, capsys, "inbox")[1]
        assert not json.loads(_said(home, capsys, "status", "--json")[0])["not_heard"]
    finally:
        daemon.on_signal(15, None)
        thread.join(20)
        hq.stop()
    assert not thread.is_alive()


def test_without_a_daemon_the_inbox_says_since_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is heard where no daemon runs, and the line says what to do."""
    home = tmp_path / "till"
    set_up(home, 1883, quick=False)
    assert "HQ never heard; the daemon is not running" in _said(home, capsys, "inbox")[1]
    write_status(home, DaemonStatus(last_welcome_at=1_000.0))
    assert "HQ not heard since 1970-01-01 00:16" in _said(home, capsys, "inbox")[1]
    assert "storeagent run" in _said(home, capsys, "inbox")[1]
