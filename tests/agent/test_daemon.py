"""The daemon as a process, against a real broker and a scripted head office."""

import json
import socket
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from storeagent import Agent
from storeagent.core import Event, Outgoing
from storeagent.status import read_status
from tests.agent.processes import (
    BIN,
    AgentProcess,
    BrokerProcess,
    LiveHeadOffice,
    environment,
    running_agent,
    set_up,
    status,
    tool,
)
from tests.agent.words import ALL_ANY, STORE_MANAGER, ids
from tests.helpers.waiting import wait_until


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker for all tests of this module."""
    process = BrokerProcess(tmp_path_factory.mktemp("bus"))
    yield process
    process.stop()


@pytest.fixture
def hq(bus: BrokerProcess) -> Iterator[LiveHeadOffice]:
    """A head office that is connected."""
    office = LiveHeadOffice(bus.port)
    assert office.ready.wait(20)
    yield office
    office.stop()


@pytest.fixture
def home(tmp_path: Path, bus: BrokerProcess) -> Path:
    """A device that is set up."""
    set_up(tmp_path / "till", bus.port)
    return tmp_path / "till"


def _inbox(home: Path) -> list[dict[str, object]]:
    with Agent(home) as agent:
        return agent.inbox()


def test_work_comes_down_answers_go_up_and_it_leaves_with_a_bye(
    home: Path, hq: LiveHeadOffice
) -> None:
    """The whole way, with commands beside the running daemon, and SIGTERM at the end."""
    with running_agent(home) as agent:
        hq.issue(ALL_ANY, 1, title="Set up the promotion")
        hq.issue(STORE_MANAGER, 2, title="Read this")
        wait_until(lambda: len(_inbox(home)) == 2, what="the work")
        wait_until(lambda: len(hq.said("receipt")) == 2, what="the receipts")
        assert tool("done", "1", "--by", "Ana", home=home).returncode == 0
        assert tool("cannot", "2", "--reason", "closed on Monday", home=home).returncode == 0
        wait_until(lambda: len(hq.said("receipt")) == 4, what="the statements")
        wait_until(lambda: status(home)["daemon"]["connected"], what="its word of the connection")
        found = status(home)
        assert found["daemon"]["running"]
        assert found["daemon"]["pid"] == agent.process.pid
        assert found["store_name"] == "Seventeen"
        assert found["notices"] == []
        agent.stop()
    wait_until(lambda: hq.byes, what="the bye")
    assert [r["state"] for r in hq.said("receipt")][2:] == ["done", "cannot"]
    assert hq.script.twice == 0
    assert not status(home)["daemon"]["running"]


def test_what_a_command_writes_is_on_its_way_at_once(home: Path, hq: LiveHeadOffice) -> None:
    """The doorbell brings an alert to the daemon without waiting for the slow look.

    Not a timed test: the slow look comes once a second, and eight alerts that waited for it could
    not all arrive one after another within the four seconds that are given.
    """
    with running_agent(home) as agent, Agent(home) as till:
        wait_until(lambda: status(home)["last_welcome_at"], what="the welcome")
        begin = time.monotonic()
        for number in range(8):
            till.alert("incident", what=f"number {number}")
            wait_until(lambda n=number: len(hq.said("alert")) == n + 1, seconds=20, what="it")
        if time.monotonic() - begin > 4:
            pytest.skip("this machine is too slow to tell")
        agent.stop()


def test_everything_works_without_network_and_is_sent_later(tmp_path: Path) -> None:
    """No broker at all: entries are taken, the daemon waits, the broker comes, all arrives."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "till"
    set_up(home, port)
    with (home / "agent.toml").open("a") as file:
        file.write("[link]\nreconnect_most_seconds = 0.3\n")
    with running_agent(home) as agent:
        for number in range(20):
            with Agent(home) as till:
                till.alert("incident", what=f"{number}", key=f"{number}")
        wait_until(lambda: status(home)["daemon"]["failure"], what="the failure to be said")
        found = tool("status", home=home)
        assert "no connection" in found.stderr
        assert "20 to send" in found.stdout
        bus = BrokerProcess.__new__(BrokerProcess)
        bus._ready, bus.port = tmp_path / "broker.json", port
        bus.start()
        hq = LiveHeadOffice(port)
        try:
            wait_until(lambda: len(hq.said("alert")) == 20, seconds=20, what="the alerts")
            assert hq.script.twice == 0
        finally:
            hq.stop()
            bus.stop()
        agent.stop()


def test_killed_daemons_and_brokers_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL again and again, of both, while work comes and alerts go: each arrives once."""
    bus = BrokerProcess(tmp_path)
    home = tmp_path / "till"
    set_up(home, bus.port)
    with (home / "agent.toml").open("a") as file:
        file.write("[link]\nreconnect_most_seconds = 0.3\n")
    hq = LiveHeadOffice(bus.port)
    assert hq.ready.wait(20)
    agent = AgentProcess(home)
    try:
        wait_until(lambda: hq.script.hellos, what="the first hello")
        for round_number in range(1, 7):
            for number in range(10):
                with Agent(home) as till:
                    till.alert("incident", what="x", key=f"{round_number}.{number}")
                hq.issue(ALL_ANY, round_number * 10 + number)
            if round_number == 4:
                hq.ready.clear()
                bus.kill()
                bus.start()
                assert hq.ready.wait(20)
            else:
                agent.kill()
                agent = AgentProcess(home)
        wait_until(lambda: len(hq.said("alert")) == 60, seconds=40, what="the alerts")
        wait_until(lambda: len(_inbox(home)) == 60, seconds=20, what="the work")
        wait_until(lambda: len(hq.said("receipt")) == 60, seconds=20, what="the receipts")
        assert hq.script.twice == 0
    finally:
        agent.kill()
        hq.stop()
        bus.stop()


def test_a_second_daemon_is_refused(home: Path, hq: LiveHeadOffice) -> None:
    """One agent per home; the second one names the first, and leaves it alone."""
    with running_agent(home) as agent:
        wait_until(lambda: hq.script.hellos, what="the hello")
        second = tool("run", home=home)
        assert second.returncode == 1
        assert f"process {agent.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        agent.stop()


def test_a_wiped_home_is_a_new_device_and_gets_its_work(
    home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """The disk dies: after a new set-up the snapshot brings what is open."""
    with running_agent(home) as agent:
        hq.issue(ALL_ANY, 1)
        wait_until(lambda: len(hq.said("receipt")) == 1, what="the receipt")
        agent.kill()
    for path in home.iterdir():
        path.unlink()
    set_up(home, bus.port)
    with running_agent(home) as agent:
        wait_until(lambda: len(_inbox(home)) == 1, what="the work")
        agent.stop()
    assert len({hello.install for hello in hq.script.hellos}) == 2


def test_a_database_that_is_replaced_under_it_is_opened_anew(
    home: Path, hq: LiveHeadOffice
) -> None:
    """Somebody puts back a copy while the daemon runs: it notices, and goes on with that one."""
    copy = home / "copy"
    copy.write_bytes((home / "agent.db").read_bytes())
    with running_agent(home) as agent:
        wait_until(lambda: status(home)["last_welcome_at"], what="the welcome")
        copy.replace(home / "agent.db")
        for companion in ("agent.db-wal", "agent.db-shm"):
            (home / companion).unlink(missing_ok=True)
        hq.issue(ALL_ANY, 1)
        wait_until(lambda: len(_inbox(home)) == 1, seconds=20, what="the work in the new file")
        with Agent(home) as till:
            till.alert("incident", what="after all")
        wait_until(lambda: len(hq.said("alert")) == 1, what="the alert")
        agent.stop()


def test_a_database_locked_by_another_program_only_delays(home: Path, hq: LiveHeadOffice) -> None:
    """The daemon waits for the lock; what came meanwhile is there afterwards."""
    with running_agent(home) as agent:
        wait_until(lambda: status(home)["last_welcome_at"], what="the welcome")
        other = sqlite3.connect(home / "agent.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        hq.issue(ALL_ANY, 1)
        time.sleep(0.3)  # long enough for the daemon to run into it; nothing depends on it
        other.execute("ROLLBACK")
        other.close()
        wait_until(lambda: len(_inbox(home)) == 1, seconds=40, what="the work")
        agent.stop()


def test_settings_that_cannot_be_are_said(home: Path) -> None:
    """A slip in the settings is one line with the file's name, and exit code 2."""
    with (home / "agent.toml").open("a") as file:
        file.write("\n[limits]\nrow = 5\n")
    found = tool("run", home=home)
    assert found.returncode == 2
    assert "agent.toml" in found.stderr
    assert "did you mean rows?" in found.stderr


# --- the hook ------------------------------------------------------------------------------------


def _hook(home: Path, script: str, **settings: object) -> None:
    path = home / "hook.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    with (home / "agent.toml").open("a") as file:
        file.write(f'\n[hook]\ncommand = ["{path}"]\n{lines}')


def test_the_hook_runs_for_each_arrival_with_the_work(home: Path, hq: LiveHeadOffice) -> None:
    """JSON on its standard input, the essentials in variables, in the order of arrival."""
    out = home / "out"
    _hook(home, f'echo "$STOREBUS_NUMBER $STOREBUS_TITLE" >> {out}.txt; cat >> {out}.json')
    with running_agent(home) as agent:
        for number in (1, 2, 3):
            hq.issue(ALL_ANY, number, body="Text of $(it)")
        wait_until(
            lambda: (
                out.with_suffix(".json").exists()
                and out.with_suffix(".json").read_text().count("\n") == 3
            ),
            what="three runs",
        )
        agent.stop()
    assert out.with_suffix(".txt").read_text().splitlines() == [
        "1 Directive 1",
        "2 Directive 2",
        "3 Directive 3",
    ]
    told = [json.loads(line) for line in out.with_suffix(".json").read_text().splitlines()]
    assert told[0]["directive"] == ids("d", 1)
    assert told[0]["body"] == "Text of $(it)"


def test_a_run_that_a_power_cut_ended_is_repeated(home: Path, hq: LiveHeadOffice) -> None:
    """At least once: killed in the middle of a run, the daemon runs it again."""
    out = home / "runs"
    flag = home / "flag"
    _hook(home, f"echo run >> {out}; test -e {flag} && exit 0; sleep 60")
    with running_agent(home) as agent:
        hq.issue(ALL_ANY, 1)
        wait_until(out.exists, what="the first run")
        agent.kill()
    flag.touch()
    with running_agent(home) as agent:
        wait_until(lambda: out.read_text().count("run") == 2, what="the second run")
        agent.stop()
    with running_agent(home) as agent:
        hq.issue(ALL_ANY, 2)
        wait_until(lambda: out.read_text().count("run") == 3, what="the run for the next work")
        agent.stop()


def test_a_hook_that_hangs_or_fails_holds_nothing_up(home: Path, hq: LiveHeadOffice) -> None:
    """Time limit, bounded attempts, set aside and said; the bus goes on meanwhile."""
    _hook(
        home,
        'case "$STOREBUS_TITLE" in *1) sleep 60 & sleep 60;; *2) echo no paper >&2; exit 3;; esac',
        timeout_seconds=0.3,
        attempts=2,
        pause_seconds=0.05,
    )
    with running_agent(home) as agent:
        for number in (1, 2, 3):
            hq.issue(ALL_ANY, number)
        wait_until(lambda: len(hq.said("receipt")) == 3, what="the receipts")
        wait_until(
            lambda: len(status(home)["hook_failures"]) == 2, seconds=20, what="two set aside"
        )
        errors = [failure["error"] for failure in status(home)["hook_failures"]]
        assert errors == ["it ended with 3: no paper", "it took over 0.3 s"]
        assert "the hook failed" in tool("status", home=home).stderr
        agent.stop()


def test_a_hook_that_does_not_exist_is_said(home: Path, hq: LiveHeadOffice) -> None:
    """A wrong path does not stop the daemon."""
    with (home / "agent.toml").open("a") as file:
        file.write('\n[hook]\ncommand = ["/nowhere/bell"]\nattempts = 1\n')
    with running_agent(home) as agent:
        hq.issue(ALL_ANY, 1)
        wait_until(lambda: status(home)["hook_failures"], what="the failure")
        agent.stop()


def test_a_daemon_without_a_terminal_says_what_it_does(home: Path, hq: LiveHeadOffice) -> None:
    """Its narration is on standard error, one line each, and none of it on standard output."""
    process = subprocess.Popen(
        [BIN / "storeagent", "run"],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: hq.script.hellos, what="the hello")
    process.send_signal(2)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    assert "connected to mqtt://127.0.0.1:" in said
    assert said.rstrip().endswith("has stopped")


def test_a_full_disk_is_said_and_the_link_stays(
    home: Path, hq: LiveHeadOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be saved the daemon keeps its connection; with room again all comes in."""
    from buskit.database import DatabaseFull
    from storeagent.agent import AgentProcess as Daemon
    from storeagent.core import AgentCore
    from storeagent.keys import read_key
    from storeagent.settings import read_agent_settings

    full = threading.Event()
    said: list[str] = []
    real = AgentCore.handle

    def handle(core: AgentCore, events: Sequence[Event], now: float) -> list[Outgoing]:
        if full.is_set():
            core.reload()
            raise DatabaseFull("no room left for the agent's database")
        return real(core, events, now)

    monkeypatch.setattr(AgentCore, "handle", handle)
    settings = read_agent_settings(home)
    key = read_key(home, settings.identity, settings.root)
    daemon = Daemon(home, settings, key, say=said.append)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        wait_until(lambda: hq.script.hellos, what="the hello")
        hq.issue(ALL_ANY, 1)
        wait_until(lambda: len(_inbox(home)) == 1, what="the first work")
        full.set()
        hq.issue(ALL_ANY, 2)
        with Agent(home) as till:
            till.alert("incident", what="while it is full")
        wait_until(lambda: "no room left" in read_status(home).problem, what="the problem")
        assert read_status(home).connected
        full.clear()
        wait_until(lambda: len(_inbox(home)) == 2, seconds=20, what="the second work")
        wait_until(lambda: len(hq.said("alert")) == 1, seconds=20, what="the alert")
        wait_until(lambda: not read_status(home).problem, what="the all-clear")
    finally:
        daemon.on_signal(15, None)
        thread.join(20)
    assert not thread.is_alive()
    assert not [line for line in said if "connection is gone" in line]
