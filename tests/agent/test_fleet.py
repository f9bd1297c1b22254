"""The fleet: light devices that behave like real ones."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storeagent.database import agent_database_from, empty_image, open_agent_database
from storeagent.keys import seed_text
from storeagent.main import main
from tests.agent.head_office import DEVICE_KEY, TOKEN, HeadOffice
from tests.agent.processes import BIN, BrokerProcess, LiveHeadOffice, environment
from tests.agent.words import ALL_ANY, STORE_MANAGER
from tests.helpers.waiting import TIME_SCALE, wait_until

TRUST = '{"trust": {"recovery": "' + DEVICE_KEY.public.text + '"}}\n'
MEMBER = '{"store": "S1", "device": "d", "seed": "' + "a" * 42 + 'A", "token": "t"}\n'


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker."""
    process = BrokerProcess(tmp_path)
    yield process
    process.stop()


def _fleet(bus: BrokerProcess, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            BIN / "storeagent",
            "fleet",
            *("--broker", f"mqtt://127.0.0.1:{bus.port}", "--time-scale", "0.1", "--every", "0.2"),
            *words,
        ],
        env=environment(Path("/nowhere")),
        stdout=subprocess.PIPE,
        text=True,
    )


def _keys(path: Path, *devices: dict[str, object]) -> str:
    """The file that head office writes for a fleet."""
    trust = {"trust": msgspec.to_builtins(HeadOffice().trust)}
    path.write_text("".join(json.dumps(line) + "\n" for line in (trust, *devices)))
    return str(path)


def _last(fleet: subprocess.Popen[str]) -> dict[str, Any]:
    fleet.send_signal(signal.SIGTERM)
    out, _ = fleet.communicate(timeout=30 * TIME_SCALE)
    assert fleet.returncode == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["final"] for line in lines] == [False] * (len(lines) - 1) + [True]
    last: dict[str, Any] = lines[-1]
    return last


@pytest.mark.parametrize("qos", ["0", "1"])
def test_a_light_device_takes_work_and_answers_it(
    tmp_path: Path, bus: BrokerProcess, qos: str
) -> None:
    """Receipts, read and done, a reply, and totals that add up, whatever the wire QoS."""
    hq = LiveHeadOffice(bus.port)
    assert hq.ready.wait(20 * TIME_SCALE)
    keys = _keys(
        tmp_path / "keys.jsonl",
        {
            "store": "S017",
            "device": "till-1",
            "roles": ["manager"],
            "seed": seed_text(DEVICE_KEY.seed),
            "token": TOKEN,
        },
    )
    fleet = _fleet(
        bus,
        *("--keys", keys, "--answer", "read,done", "--within", "0.3"),
        *("--reply-ratio", "1", "--qos", qos),
    )
    try:
        for number in (1, 2, 3):
            hq.issue(ALL_ANY if number < 3 else STORE_MANAGER, number)
        wait_until(lambda: len(hq.said("receipt")) == 9, seconds=20, what="nine receipts")
        wait_until(lambda: len(hq.said("reply")) == 3, what="the replies")
        last = _last(fleet)
    finally:
        fleet.kill()
        hq.stop()
    states = [said["state"] for said in hq.said("receipt")]
    assert {state: states.count(state) for state in states} == {
        "delivered": 3,
        "read": 3,
        "done": 3,
    }
    assert hq.script.twice == 0
    assert (last["taken"], last["open"], last["said"], last["twice"]) == (3, 0, 6, 0)
    wait_until(lambda: hq.byes, what="the farewell")


def test_many_devices_connect_all_at_once(tmp_path: Path, bus: BrokerProcess) -> None:
    """Sixty devices in one process, with alerts that wait for a head office that is not there."""
    devices = [
        {
            "store": f"F{n:05d}",
            "device": "d1",
            "seed": seed_text(f"{n:032d}".encode()),
            "token": "t",
        }
        for n in range(60)
    ]
    fleet = _fleet(
        bus,
        *(
            "--keys",
            _keys(tmp_path / "keys.jsonl", *devices),
            "--connects-per-second",
            "1000",
            "--alerts-per-second",
            "100",
        ),
    )
    try:
        assert fleet.stdout is not None
        totals: dict[str, Any] = {}

        def all_there() -> bool:
            assert fleet.stdout is not None
            totals.update(json.loads(fleet.stdout.readline()))
            return totals["connected"] == 60 and totals["alerts"] >= 20

        wait_until(all_there, seconds=30, what="sixty connections")
        assert totals["unacknowledged"] == totals["alerts"]
        _last(fleet)
    finally:
        fleet.kill()


def test_the_small_image_is_the_same_database() -> None:
    """The fleet's tables are those of the migrations."""
    small = agent_database_from(empty_image())
    plain = open_agent_database(":memory:")
    query = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
    assert small.connection.execute(query).fetchall() == plain.connection.execute(query).fetchall()
    logs = "SELECT * FROM acked"
    assert small.connection.execute(logs).fetchall() == plain.connection.execute(logs).fetchall()
    assert small.version == plain.version


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("", "names no device"),
        (TRUST, "names no device"),
        ("{}\n", "line 1"),
        ('{"trust": {"recovery": "x"}}\n', "line 1"),
        (TRUST + "[]\n", "line 2"),
        (TRUST + '{"store": "S1", "device": "d"}\n', "line 2"),
        (TRUST + '{"store": "S1", "device": "d", "seed": "x", "token": "t"}\n', "line 2"),
        (TRUST + MEMBER.replace("S1", "S 1"), "line 2"),
        (TRUST + MEMBER + MEMBER, "again"),
    ],
)
def test_a_wrong_list_of_devices_is_said(
    tmp_path: Path, content: str, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its line."""
    path = tmp_path / "keys.jsonl"
    path.write_text(content)
    assert main.run(["fleet", "--keys", str(path)]) != 0
    assert cause in capsys.readouterr().err
