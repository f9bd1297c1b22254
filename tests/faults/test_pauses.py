"""A taste of the pauses, and that the suite notices what it is there for."""

import json
from pathlib import Path

import pytest

from buskit.database import DatabaseBusy
from hqconsole.commands.main import main as hq_main
from hqconsole.ledger.opening import open_ledger
from tests.faults import pauses as suite
from tests.faults.chains import Tally
from tests.faults.pauses import pauses, standing_still
from tests.faults.seeds import seed_of_this_run


def test_who_stands_still_comes_back_and_stalls_nobody() -> None:
    """Broker, hub and a device, each for a second or so under load: nothing lost or twice."""
    row = pauses(seed_of_this_run(), 0.02)
    print(row)
    assert row.failures == []
    assert row.times >= 3


def test_a_command_that_stands_still_in_its_transaction_is_named(tmp_path: Path) -> None:
    """Others are refused by the pid of who has the ledger; it goes on where it stood."""
    home = tmp_path / "hq"
    roster = tmp_path / "stores.csv"
    roster.write_text("store_id,name,region\nS001,One,east\n")
    for words in (["init"], ["roster", "import", str(roster)]):
        assert hq_main.run([*words, "--home", str(home)]) == 0
    words = ["hq", "publish", "work", "--all", "--json", "--home", home]
    with standing_still(home, *words) as still:
        with (
            pytest.raises(DatabaseBusy, match=f"by process {still.process.pid}") as refused,
            open_ledger(home) as ledger,
            ledger.write(timeout_seconds=0.2),
        ):
            pass
        assert refused.value.hint
        issued = json.loads(still.go_on())
    with open_ledger(home) as ledger:
        assert ledger.connection.execute("SELECT id FROM directive").fetchall() == [(issued["id"],)]


def test_a_refusal_that_names_nobody_is_noticed() -> None:
    """The suite asks for who has the lock, and for what to do."""

    def refuse() -> None:
        raise DatabaseBusy("it is locked")

    tally = Tally()
    suite._try(tally, refuse)
    assert tally.refused == 1
    assert len(tally.wrong) == 1


def test_one_that_ends_instead_of_standing_still_is_noticed(tmp_path: Path) -> None:
    """A command that fails has not stood still."""
    with (
        pytest.raises(AssertionError, match="it has ended"),
        standing_still(tmp_path, "hq", "status", "--home", tmp_path / "nowhere"),
    ):
        pass
