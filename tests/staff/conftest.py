"""A device with work in it, and its command line."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from buswire.cursors import Cursor
from buswire.device import Reset
from storeagent.database import database_path
from storeagent.main import main
from tests.agent.conftest import _close_databases  # noqa: F401 - a fixture for all tests here
from tests.agent.processes import set_up
from tests.agent.words import ALL_ANY, FACTS, STORE_ANY, Bench, ids

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device that is set up, named by the environment, whose staff read English."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANGUAGE", "STOREBUS_BY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("STOREBUS_AGENT_HOME", str(tmp_path / "till"))
    set_up(tmp_path / "till", 1883, quick=False)
    return tmp_path / "till"


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: exit code, standard output, standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.run(list(words), "storeagent")
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def bench(home: Path) -> Bench:
    """The device's database, as if HQ had just shown all of its work: none."""
    made = Bench(str(database_path(home)))
    made.now_at = time.time() - 3600
    with made.database.write():
        made.effects.reset(
            Reset(
                Cursor(1, ids("a")), {ALL_ANY: Cursor(0, ""), STORE_ANY: Cursor(0, "")}, [], FACTS
            )
        )
    return made
