"""A record or a message on which HQ's program fails does not stop the rest, and is not lost."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from buswire.cursors import START, Cursor
from buswire.messages import Ack, Record, Records
from buswire.signing import message_bytes, signature_text
from hqconsole import desk as desks
from hqconsole.commands.main import main
from hqconsole.gate import UNREADABLE as UNREADABLE_MESSAGES
from hqconsole.ledger import arrival_views, directives, search_index, verification
from hqconsole.ledger.arrivals import DEFECT, Arrivals
from hqconsole.ledger.evidence import DATA
from tests.hq_desk.office import TILL, TOPICS, Office, key_of, new_id


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


UNREADABLE = (
    b'{"alert":"incident","fields":{"what":"\\ud800"}}',
    b'{"alert":"incident","fields":{"what":"caf\xe9"}}',
    b'{"alert":"incident","fields":{"what":NaN}}',
    b'{"alert":"incident","fields":{},"more":"\xed\xa0\x80"}',
    b'{"directive":"' + b"0" * 32 + b'","role":"any","state":"done","note":"\\udc00"}',
)


@pytest.mark.parametrize("bad", UNREADABLE)
def test_a_record_that_nobody_can_read_stops_no_log(office: Office, bad: bytes) -> None:
    """It is put aside, marked and stepped over; what stands around it counts, and readers bear it.

    A foreign program has signed it so, in one message with good ones; said again it is a duplicate.
    """
    office.hello()
    kind = "receipt" if b"state" in bad else "alert"
    good, later, last = _alert("good"), _alert("later"), _alert("last")
    hole = Record(id=new_id(), kind=kind, at=1.0, data=Raw(b'"HOLE"'))
    whole = msgspec.json.encode(Records(log="act", after=START, records=[good, hole, later]))
    payload = _signed(whole.replace(b'"HOLE"', bad))
    for _ in range(3):
        acks = [one for one in office.hear_raw(payload) if isinstance(one, Ack)]
        assert [ack.cursor for ack in acks] == [Cursor(3, later.id)]
    follows = Records(log="act", after=acks[0].cursor, records=[last])
    acks = [one for one in office.hear(follows) if isinstance(one, Ack)]
    assert [ack.cursor.seq for ack in acks] == [4]
    outcomes = office.rows("SELECT outcome FROM arrival ORDER BY no")
    assert outcomes == [(None,), ("aside",), (None,), (None,)]
    assert office.incidents() == []
    ((reason, times, kept),) = office.rows("SELECT reason, times, payload FROM quarantine")
    assert "does not fit the contract" in reason
    assert (times, kept) == (1, bad)
    connection = office.ledger.connection
    ((saved,),) = office.rows(f"SELECT {DATA} FROM arrival WHERE outcome = 'aside'")
    assert saved == bad
    told = list(arrival_views.stream(connection, arrival_views.Position(0, "")))
    assert [one["data"] == {} for one in told] == [False, True, False, False]
    whats = [one["fields"].get("what") for one in arrival_views.alerts(connection, None, 9)]
    assert [what for what in whats if what] == ["good", "later", "last"]
    json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    with office.ledger.write() as connection:
        while search_index.behind(connection):
            search_index.catch_up(connection)
        arrivals = Arrivals(connection, organisation=None, new_id=new_id, at=office.at)
        assert arrivals.take_again() == (2, 0, 1)
    report = verification.verify(
        office.ledger.connection,
        entries=office.keys.entries,
        recovery=office.keys.recovery.public.text,
    )
    assert report.problem is None


def test_a_message_that_is_no_json_still_tells_an_operator(office: Office) -> None:
    """Nobody can tell how many records there are, so none is acknowledged, and that is told."""
    office.hello()
    text = msgspec.json.encode(Records(log="act", after=START, records=[_alert("good")]))
    assert office.hear_raw(_signed(text[:-9])) == []
    assert office.incidents() == [UNREADABLE_MESSAGES]
    assert office.rows("SELECT count(*) FROM arrival") == [(0,)]


def _signed(text: bytes) -> bytes:
    """What a foreign program signs with the device's key."""
    key = key_of(TILL)
    signature = signature_text(key.sign(message_bytes(TOPICS.from_(TILL), text)))
    return b"storebus/1 %b %b\n%b" % (key.id.encode(), signature.encode(), text)
