"""A device that was taken over, with a key that counts: what it can make head office keep and lose.

Everything here is signed by the device itself, so nothing of it is a forgery.
"""

import pytest
from msgspec import Raw

from buswire import frame
from buswire.cursors import START, Cursor
from buswire.messages import Ack, Alert, Nudge, Record, Records, Trouble, Work, encode_data
from hqconsole.desk import Tick
from hqconsole.ledger import forgotten, troubles, verification
from tests.hq_desk.office import AT, TILL, TOPICS, Office, key_of, new_id


def alert(number: int, *, record_id: str = "") -> Record:
    """An alert."""
    data = Raw(encode_data(Alert(alert=f"a{number}")))
    return Record(id=record_id or f"{number:032x}", kind="alert", at=AT, data=data)


def place(number: int) -> Cursor:
    """The place of the alert with this number, in a log that has all of them."""
    return Cursor(number, f"{number:032x}") if number else START


def problem(office: Office) -> str:
    """What a verification of the ledger finds; empty where it is whole."""
    report = verification.verify(
        office.ledger.connection,
        entries=office.keys.entries,
        recovery=office.keys.recovery.public.text,
    )
    return "" if report.problem is None else report.problem.kind


def say(office: Office, after: Cursor, *records: Record) -> list[object]:
    """Records arrive behind this place."""
    return office.hear(Records(log="act", after=after, records=list(records)))


def test_a_message_that_tells_the_past_otherwise_is_not_taken(office: Office) -> None:
    """Taken, it would look as if somebody had put it into the ledger, and stay so for ever."""
    office.hello()
    for number in (1, 2, 3):
        say(office, place(number - 1), alert(number))
    # It ends the known part with the right id; what is before that is new.
    forked = say(office, START, alert(71), alert(72), alert(3), alert(4))
    assert [type(one) for one in forked] == [Nudge]
    assert office.rows("SELECT seq FROM uplink WHERE log = 'act'") == [(3,)]
    assert "records with other ids than those taken before" in office.reasons()
    # Nor one whose first record follows another one than it did.
    say(office, Cursor(1, "f" * 32), alert(2), alert(3), alert(4))
    assert office.rows("SELECT seq FROM uplink WHERE log = 'act'") == [(3,)]
    honest = say(office, START, alert(1), alert(2), alert(3), alert(4))
    assert [type(one) for one in honest] == [Ack]
    assert problem(office) == ""


def test_a_message_that_begins_far_back_is_not_looked_up_for_ever(office: Office) -> None:
    """No honest device has so much under way; reading it all again would be dear."""
    office.hello()
    for number in range(1, 41):
        say(office, place(number - 1), alert(number))
    say(office, START, *(alert(number) for number in range(1, 42)))
    assert office.rows("SELECT seq FROM uplink WHERE log = 'act'") == [(40,)]
    say(office, Cursor(20, f"{20:032x}"), *(alert(number) for number in range(21, 42)))
    assert office.rows("SELECT seq FROM uplink WHERE log = 'act'") == [(41,)]
    assert problem(office) == ""


def test_what_others_could_not_read_is_refused_whole(office: Office) -> None:
    """Kept, it would make the ledger's verification or somebody's evidence fail.

    Where only the data of a record is unreadable, neither does: see `test_defects`, and the tests
    of evidence.
    """
    text = (
        b'{"kind":"records","log":"act","after":[0,""],"records":[{"id":"%b","kind":"alert",'
        b'"at":1.0,"data":{"alert":"x"}}]}' % (b"a" * 32 + b"\\n")
    )
    office.hello()
    topic = TOPICS.from_(TILL)
    payload = frame.encode(Records(log="act", after=START, records=[]), topic, key_of(TILL))
    signature = key_of(TILL).sign(b"storebus/1\n" + topic.encode() + b"\n" + text)
    from buswire.signing import signature_text

    header = b" ".join(payload.partition(b"\n")[0].split(b" ")[:2])
    office.hear_raw(b"%b %b\n%b" % (header, signature_text(signature).encode(), text))
    assert office.rows("SELECT count(*) FROM message") == [(0,)]
    assert sum(office.reasons().values()) == 1
    assert problem(office) == ""


def test_a_hello_played_again_and_again_puts_off_nobody(office: Office) -> None:
    """Else a broker could have the device put off for ever, and so freeze it unnoticed."""
    recorded = office.payload(office.a_hello())
    office.hear_raw(recorded)
    for _ in range(10):
        office.now += 1.0
        office.hear_raw(*[recorded] * 200)
        assert office.hello().mode != "later"


def test_troubles_without_end_drive_out_no_other_incidents(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever floods head office with incidents could otherwise hide one behind them."""
    monkeypatch.setattr(troubles, "_INCIDENTS_OF_A_DEVICE", 20)
    monkeypatch.setattr(troubles, "_INCIDENTS", 60)
    monkeypatch.setattr(troubles, "_COUNT_EVERY", 1)
    with office.ledger.write() as connection:
        troubles.record_incident(connection, "cloned device", at=AT, device_no=2)
    office.hello()
    after = START
    for batch in range(4):
        records = [
            Record(
                id=f"{batch * 50 + number + 1:032x}",
                kind="trouble",
                at=AT,
                data=Raw(encode_data(Trouble(what=f"odd {number}"))),
            )
            for number in range(50)
        ]
        say(office, after, *records)
        after = Cursor(after.seq + 50, records[-1].id)
    assert office.rows("SELECT count(*) FROM incident WHERE kind = 'device trouble'") == [(20,)]
    assert "cloned device" in office.incidents()


def test_questions_about_what_never_was_are_not_kept_for_ever(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred invented directives in each hello fill no disk, and are forgotten after an hour."""
    monkeypatch.setattr(forgotten, "ASKED_MOST", 250)
    for _ in range(5):
        welcome = office.hello(unsure=[Work(new_id(), "any") for _ in range(100)])
        assert {answer.verdict for answer in welcome.answers} == {"unknown"}
    assert office.rows("SELECT count(*) FROM asked") == [(250,)]
    office.at += 2 * 3600.0
    office.now += 2 * 3600.0
    office.desk.handle([Tick()], office.now)
    assert office.rows("SELECT count(*) FROM asked") == [(0,)]
