"""A record or a message on which HQ's program fails does not stop the rest, and is not lost."""

from typing import Any

import pytest
from msgspec import Raw

from buswire.cursors import START
from buswire.messages import Ack, Record, Records
from hqconsole import desk as desks
from hqconsole.commands.main import main
from hqconsole.ledger import directives
from hqconsole.ledger.arrivals import DEFECT, Arrivals
from tests.hq_desk.office import Office, new_id


def _alert(what: str) -> Record:
    data = f'{{"alert":"incident","fields":{{"what":"{what}"}}}}'
    return Record(id=new_id(), kind="alert", at=1.0, data=Raw(data.encode()))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """HQ's program fails on alerts that say `bad`."""
    take = Arrivals._take_effect

    def take_or_fail(arrivals: Arrivals, *said: Any, **more: Any) -> None:
        take(arrivals, *said, **more)
        if b'"bad"' in said[3]:
            raise ZeroDivisionError("as planned")

    monkeypatch.setattr(Arrivals, "_take_effect", take_or_fail)
    return monkeypatch


def test_the_rest_of_the_log_goes_on(office: Office, failing: pytest.MonkeyPatch) -> None:
    """It is acknowledged, kept whole, marked, and told of."""
    del failing
    office.hello()
    good, bad, later = _alert("good"), _alert("bad"), _alert("later")
    said = office.hear(Records(log="act", after=START, records=[good, bad, later]))
    acks = [one for one in said if isinstance(one, Ack)]
    assert [ack.cursor.seq for ack in acks] == [3]
    assert office.rows("SELECT outcome FROM arrival ORDER BY no") == [(None,), ("failed",), (None,)]
    assert office.incidents() == [DEFECT]
    assert office.reasons() == {"ZeroDivisionError: as planned": 1}


def test_it_has_its_effect_when_the_program_is_mended(
    office: Office, failing: pytest.MonkeyPatch
) -> None:
    """`hq quarantine --retry`, as often as one likes; rows can then be dropped."""
    office.hello()
    office.hear(Records(log="act", after=START, records=[_alert("bad"), _alert("good")]))
    with office.ledger.write() as connection:
        arrivals = Arrivals(
            connection, organisation=None, new_id=new_id, at=office.at, carefully=True
        )
        assert arrivals.take_again() == (1, 0, 1)
    failing.undo()
    with office.ledger.write() as connection:
        arrivals = Arrivals(connection, organisation=None, new_id=new_id, at=office.at)
        assert arrivals.take_again() == (1, 1, 0)
        assert arrivals.take_again() == (0, 0, 0)
    assert office.rows("SELECT count(*) FROM arrival WHERE outcome IS NOT NULL") == [(0,)]


def test_a_message_that_makes_it_fail_is_put_aside(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its batch are taken, however often it comes."""
    office.hello()
    hear = desks.Hearing.hear

    def hear_or_fail(hearing: desks.Hearing, batch: Any, event: Any) -> None:
        hear(hearing, batch, event)
        if b'"bad"' in event.payload:
            raise KeyError("as planned")

    monkeypatch.setattr(desks.Hearing, "hear", hear_or_fail)
    good, bad = (
        office.payload(Records(log=log, after=START, records=[_alert(what)]))
        for log, what in (("act", "good"), ("bulk", "bad"))
    )
    for _ in range(3):
        office.hear_raw(bad, good)
    assert office.rows("SELECT count(*) FROM arrival") == [(1,)]
    assert office.rows("SELECT times FROM quarantine") == [(3,)]
    assert office.incidents() == [DEFECT], "the first, then the tenth"


def test_what_is_due_and_fails_stops_nobody(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives is taken and acknowledged all the same."""
    office.hello()

    def fail(*_: object, **__: object) -> None:
        raise KeyError("as planned")

    monkeypatch.setattr(directives, "next_expiry", fail)
    said = office.hear(Records(log="act", after=START, records=[_alert("good")]))
    assert any(isinstance(one, Ack) for one in said)
    assert office.incidents() == [DEFECT]


def test_the_quarantine_has_commands(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to do is said; a row that is not there is an error."""
    home = str(tmp_path / "hq")
    assert main.run(["init", "--home", home]) == 0
    assert main.run(["quarantine", "--retry", "--home", home]) == 0
    assert "0 entries" in capsys.readouterr().err
    assert main.run(["quarantine", "--drop", "7", "--home", home]) == 1
    assert "no such row" in capsys.readouterr().err
    assert main.run(["quarantine", "--drop", "x", "--home", home]) == 2
