"""The commands: all of them without a network and without a daemon."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from buswire.cursors import Cursor
from buswire.device import Reset
from buswire.states import Needs, State
from storeagent import Agent
from storeagent.alerts import KINDS
from storeagent.database import database_path
from storeagent.main import main
from storeagent.settings import AgentSettings, HookSettings, read_agent_settings
from tests.agent.processes import BIN, environment, set_up, tool
from tests.agent.words import ALL_ANY, FACTS, STORE_ANY, Bench, ids

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device that is set up, named by the environment."""
    monkeypatch.setenv("STOREBUS_AGENT_HOME", str(tmp_path / "till"))
    monkeypatch.delenv("STOREBUS_BY", raising=False)
    set_up(tmp_path / "till", 1883, quick=False)
    return tmp_path / "till"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: exit code, standard output, standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        code = main.run(list(words), "storeagent")
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def filled(home: Path) -> Bench:
    """The device's database with some work in it, as HQ would have put it there."""
    bench = Bench(str(database_path(home)))
    bench.now_at = time.time()
    with bench.database.write():
        bench.effects.reset(
            Reset(
                Cursor(1, ids("a")), {ALL_ANY: Cursor(0, ""), STORE_ANY: Cursor(0, "")}, [], FACTS
            )
        )
    bench.take(ALL_ANY, bench.words.issue(1, title="Someday", body="A\x1b[2J text\nof two lines"))
    bench.take(ALL_ANY, bench.words.issue(2, title="Pull lot 2231", priority="urgent"))
    bench.take(ALL_ANY, bench.words.issue(3, title="Late", due="2020-01-01T09:00"))
    bench.take(ALL_ANY, bench.words.issue(4, title="Notice", needs=Needs.DELIVERED))
    return bench


def test_the_inbox_has_the_most_pressing_first(run: Run, filled: Bench) -> None:
    """Overdue, urgent, unread; each with the number that stays with it."""
    code, out, _ = run("inbox")
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == ["#", "3", "2", "1", "4"]
    assert "Pull lot 2231" in lines[2]
    code, out, _ = run("inbox", "--json")
    rows = json.loads(out)
    assert [row["number"] for row in rows] == [3, 2, 1, 4]
    assert rows[0]["overdue"]
    assert rows[0]["due_at"] == 1577865600.0, "nine o'clock in Paris"


def test_numbers_do_not_shift_under_the_users_hands(run: Run, filled: Bench) -> None:
    """What was number 2 in the list is number 2 after more has come and some is done."""
    assert run("done", "3")[0] == 0
    filled.take(ALL_ANY, filled.words.issue(5, title="More", priority="urgent"))
    assert run("done", "2")[0] == 0
    assert filled.state(2) is State.DONE
    assert filled.state(5) is State.DELIVERED
    rows = json.loads(run("inbox", "--json")[1])
    assert [row["number"] for row in rows] == [5, 1, 4]
    everything = json.loads(run("inbox", "--all", "--json")[1])
    assert {row["number"] for row in everything} == {1, 2, 3, 4, 5}


def test_show_gives_the_text_and_marks_nothing(run: Run, filled: Bench) -> None:
    """Escape sequences of the body are shown and not obeyed; looking is not reading."""
    code, out, _ = run("show", "1")
    assert code == 0
    assert "Someday" in out
    assert "A\\x1b[2J text\nof two lines" in out
    assert filled.state(1) is State.DELIVERED
    shown = json.loads(run("show", ids("d", 1)[:32], "--json")[1])
    assert shown["body"] == "A\x1b[2J text\nof two lines"
    assert shown["directive"] == ids("d", 1)


def test_statements_of_staff(run: Run, filled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verb says what it did; again is a no-op that says so."""
    monkeypatch.setenv("STOREBUS_BY", "Ana")
    assert "read; head office hears" in run("read", "1")[2]
    assert "in progress" in run("start", "1")[2]
    assert "done" in run("done", "1", "2")[2]
    code, out, err = run("done", "1")
    assert (code, out) == (0, "")
    assert "done already, by Ana" in err
    assert "cannot" in run("cannot", "3", "--reason", "no ladder", "--by", "Bo")[2]
    assert filled.row(3).changed_by == "Bo"
    assert run("reply", "3", "Which", "shelf?")[0] == 0
    assert filled.sent()[-1] == (
        "reply",
        {"directive": ids("d", 3), "role": "any", "text": "Which shelf?", "by": "Ana"},
    )
    filled.take(STORE_ANY, filled.words.change(State.EXPIRED, 4))
    assert "head office has closed it" in run("read", "4")[2]
    assert "for the record" in run("done", "4")[2]


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (("show", "99"), 1, "no work '99'"),
        (("done",), 2, "Missing argument"),
        (("cannot", "1"), 2, "--reason"),
        (("cannot", "1", "--reason", " "), 2, "a reason is needed"),
        (("alert", "incident"), 2, "--what"),
        (("alert", "incidnt"), 2, "incidnt"),
        (("alert", "incident", "--what", "x", "--severity", "meh"), 2, "meh"),
        (
            ("alert", "replenishment", "--sku", "1", "--on-hand", "x", "--reorder-point", "1"),
            2,
            "on_hand of a replenishment alert must be a number",
        ),
        (("report", "a b", "-"), 2, "cannot be called"),
        (("report", "sales", "nowhere.csv"), 2, "nowhere.csv"),
        (("dine",), 2, "did you mean done"),
    ],
)
def test_a_slip_is_one_line_with_its_cause(
    *,
    run: Run,
    words: tuple[str, ...],
    code: int,
    cause: str,
    monkeypatch: pytest.MonkeyPatch,
    filled: Bench,
) -> None:
    """No stack trace, the right exit code, and the cause."""
    read, write = os.pipe()
    os.write(write, b"a,b\n1,2\n")
    os.close(write)
    with os.fdopen(read) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        found, out, err = run(*words)
    assert (found, out) == (code, "")
    assert cause in err
    assert err.startswith("error: ")


def test_alerts_of_every_kind_by_command(run: Run, home: Path) -> None:
    """Every kind of the table has its verb, with its fields as options."""
    code, out, _ = run(
        *("alert", "replenishment", "--sku", "0012", "--on-hand", "3", "--reorder-point", "12.5"),
        *("--wanted", "24", "--note", "hot", "--id", "mon", "--json"),
    )
    assert code == 0
    assert json.loads(out)["new"] is True
    again = run(
        *("alert", "replenishment", "--sku", "0012", "--on-hand", "3", "--reorder-point", "12.5"),
        *("--wanted", "24", "--note", "hot", "--id", "mon"),
    )
    assert "nothing was added" in again[2]
    assert run("alert", "incident", "--what", "water", "--severity", "high")[0] == 0
    assert run("alert", "equipment", "--unit", "till 2", "--problem", "dark")[0] == 0
    help_text = run("alert", "--help")[1]
    assert all(kind in help_text for kind in KINDS)
    bench = Bench(str(database_path(home)))
    assert [data["fields"] for kind, data in bench.sent() if kind == "alert"] == [
        {"sku": "0012", "on_hand": 3, "reorder_point": 12.5, "wanted": 24},
        {"what": "water", "severity": "high"},
        {"unit": "till 2", "problem": "dark"},
    ]


def test_a_report_of_ten_thousand_rows_is_one_command(run: Run, tmp_path: Path) -> None:
    """All of it in one transaction; the same file again is not counted twice."""
    path = tmp_path / "sales.csv"
    path.write_text("sku,sold\n" + "".join(f"{n:07d},{n}\n" for n in range(10_000)))
    assert (
        "10000 rows of sku, sold; nothing was recorded"
        in run("report", "sales", str(path), "--dry-run")[2]
    )
    code, out, _ = run("report", "sales", str(path), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["new"]
    assert found["rows"] == 10_000
    assert not json.loads(run("report", "sales", str(path), "--json")[1])["new"]
    assert json.loads(run("report", "sales", str(path), "--json", "--id", "2")[1])["new"]


def test_status_without_a_daemon_says_what_waits(run: Run, home: Path, filled: Bench) -> None:
    """Backlog, work and the sentence about the daemon, with no network and no daemon."""
    run("alert", "incident", "--what", "x")
    code, out, err = run("status")
    assert code == 0
    assert "S017.till-1" in out
    assert "5 to send" in out
    assert "the daemon is not running" in err
    found = json.loads(run("status", "--json")[1])
    assert found["backlog"]["act"]["rows"] == 5
    assert found["todo"] == 4
    assert found["daemon"]["running"] is False


def test_init_twice_changes_settings_and_keeps_the_rest(run: Run, home: Path) -> None:
    """The same device again: what is given replaces, what is not stays, the database stays."""
    run("alert", "incident", "--what", "x")
    with (home / "agent.toml").open("a") as file:
        file.write("\n[limits]\nrows = 77\n")
    code, _, err = run(
        *("init", "--store", "S017", "--device", "till-1", "--hook", "bell"),
        *("--broker", "mqtt://a:1", "--broker", "ws://b:80/mqtt"),
    )
    assert code == 0, err
    settings = read_agent_settings(home)
    assert settings.brokers == ("mqtt://a:1", "ws://b:80/mqtt")
    assert settings.roles == ("manager",)
    assert settings.limits.rows == 77
    assert settings.hook == HookSettings("bell")
    assert json.loads(run("status", "--json")[1])["backlog"]["act"]["rows"] == 1
    code, _, err = run("init", "--store", "S018", "--device", "till-1")
    assert code == 2
    assert "is the home of S017.till-1" in err


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--store", "S 17", "--device", "t"), "a space"),
        (("--store", "all", "--device", "t"), "means every store"),
        (("--store", "S", "--device", "t", "--role", "any"), "means the store as a whole"),
        (("--store", "S", "--device", "t", "--broker", "http://x"), "no broker address"),
        (("--store", "S", "--device", "t", "--root", "a/#"), "root of the topics"),
    ],
)
def test_init_refuses_what_cannot_be(
    tmp_path: Path, run: Run, words: tuple[str, ...], cause: str
) -> None:
    """Nothing is made when something is wrong."""
    code, _, err = run("init", *words, "--home", str(tmp_path / "new"))
    assert code in {1, 2}
    assert cause in err
    assert not (tmp_path / "new").exists()


def test_without_a_home_every_command_says_how_to_make_one(tmp_path: Path) -> None:
    """A real process on an empty place: the hint is the command to run."""
    found = tool("inbox", home=tmp_path / "nothing")
    assert found.returncode == 1
    assert "storeagent join BUNDLE" in found.stderr
    found = tool("run", home=tmp_path / "nothing")
    assert found.returncode == 1
    assert "storeagent join BUNDLE" in found.stderr


def test_a_reader_that_goes_away_is_no_error(home: Path) -> None:
    """`storeagent inbox --json | head -c 1`, as in a script."""
    bench = Bench(str(database_path(home)))
    bench.take(ALL_ANY, *(bench.words.issue(number) for number in range(1, 1_500)))
    found = subprocess.run(
        ["/bin/sh", "-c", f"{BIN / 'storeagent'} inbox --json | head -c 1"],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.stdout == "["
    assert found.stderr == ""


def test_every_command_has_help(run: Run) -> None:
    """The help of each verb names what it is for, and each module can be imported."""
    for words in [(), *((name,) for section in main.sections.values() for name in section)]:
        code, out, _ = run(*words, "--help")
        assert code == 0
        assert "Usage: storeagent" in out


def test_the_api_is_three_lines(home: Path) -> None:
    """As the documentation has it; the rest of the API beside it."""
    bench = Bench(str(database_path(home)))
    bench.take(ALL_ANY, bench.words.issue(1))
    agent = Agent()
    agent.alert("replenishment", sku="6901234", on_hand=3, reorder_point=12, key="2026-05-01")
    assert not agent.alert(
        "replenishment", sku="6901234", on_hand=3, reorder_point=12, key="2026-05-01"
    ).new
    assert agent.report("stock", [{"sku": "0012", "on_hand": 3}]).new
    assert not agent.report("stock", [{"sku": "0012", "on_hand": 3}]).new
    assert agent.report("stock", b"sku,on_hand\n0012,3\n", key="x").rows == 1
    (row,) = agent.inbox()
    agent.read(row["number"])
    agent.start(row["directive"][:8])
    agent.done(1, by="Ana")
    agent.reply(1, "so")
    assert agent.show(1)["changed_by"] == "Ana"
    assert agent.counts() == {"todo": 0, "unsure": 0, "act": 6, "bulk": 2}
    agent.close()
    agent.alert("incident", what="after close")
    agent.close()


def test_the_api_is_safe_from_many_threads_and_processes(home: Path) -> None:
    """Sixty-four alerts at once through one Agent and another process: none is lost."""
    from concurrent.futures import ThreadPoolExecutor

    other = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import storeagent; a = storeagent.Agent()\n"  # noqa: ISC004 - one program
            "for n in range(40): a.alert('incident', what=str(n))",
        ],
        env=environment(home),
    )
    with Agent(home) as agent, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: agent.alert("incident", what=str(n)), range(64)))
        assert other.wait(60) == 0
        assert agent.counts()["act"] == 104


def test_importing_the_api_loads_neither_the_link_nor_the_contract(home: Path) -> None:
    """One alert pays for SQLite and not for msgspec, paho, rich, click or sqlite_utils."""
    code = (
        "import sys; from storeagent import Agent; a = Agent(sys.argv[1]);"
        "a.alert('incident', what='x'); a.close();"
        "print([m for m in ('msgspec', 'paho', 'rich', 'click', 'sqlite_utils', 'platformdirs',"
        " 'asyncio') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ("alert", "incident", "--what", "x"),
        ("report", "sales", "sales.csv"),
        ("inbox",),
        ("show", "1"),
        ("read", "1"),
        ("done", "1"),
        ("cannot", "2", "--reason", "x"),
        ("reply", "1", "so"),
    ],
)
def test_commands_that_sign_nothing_do_not_load_what_signs(
    home: Path, filled: Bench, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """They only write the outbox: neither cryptography nor TLS nor the link is imported."""
    (tmp_path / "sales.csv").write_text("sku,sold\n1,2\n")
    code = (
        "import sys; from storeagent.main import main; code = main.run(sys.argv[1:]);"
        "print([m for m in ('cryptography', 'ssl', 'paho', 'asyncio') if m in sys.modules], code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(home),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout.splitlines()[-1] == "[] 0"


def test_settings_have_their_defaults() -> None:
    """What is not set is what the documentation says."""
    settings = AgentSettings(store="S", device="d")
    assert settings.qos == 0
    assert settings.limits.rows == 2_000_000
    assert settings.limits.size_bytes == 512 * 1024 * 1024
    assert str(settings.identity) == "S.d"
