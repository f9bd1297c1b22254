"""A head office of its own for each test, and its command line run in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hqconsole.commands.main import main
from tests.hq_console.field import Field

Run = Callable[..., tuple[int, str, str]]

STORES = """\
store_id,name,region,timezone,roles,tags
S1,One,East,Asia/Tokyo,manager;clerk,24h
S2,Two,East,Asia/Tokyo,manager;clerk,
S3,Three,West,Europe/Lisbon,manager,24h
S4,Four,West,Europe/Lisbon,manager;clerk;warehouse,
S5,Five,West,Europe/Lisbon,clerk,
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `hq` with these words: exit code, standard output, standard error."""
    monkeypatch.setenv("STOREBUS_HQ_HOME", str(tmp_path / "hq"))
    monkeypatch.delenv("STOREBUS_HQ_BROKERS", raising=False)
    monkeypatch.setenv("STOREBUS_BY", "Ana")

    def call(*words: str) -> tuple[int, str, str]:
        code = main.run(list(words), "hq")
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


@pytest.fixture
def home(run: Run, tmp_path: Path) -> Path:
    """A home that is set up and has five stores."""
    (tmp_path / "stores.csv").write_text(STORES, encoding="utf-8")
    assert run("init")[0] == 0
    code, _, errors = run("roster", "import", str(tmp_path / "stores.csv"))
    assert code == 0, errors
    return tmp_path / "hq"


@pytest.fixture
def field(home: Path) -> Field:
    """The stores of that home, and what they say."""
    return Field(home)
