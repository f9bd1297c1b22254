"""What devices signed is kept once, byte by byte, and what they said is read from it."""

import json
from pathlib import Path

import pytest
from msgspec import Raw

from buswire import frame
from buswire.cursors import START, Cursor
from buswire.messages import Ack, Alert, Record, Records, Report, encode_data
from buswire.signing import PublicKey, message_bytes, parse_signature
from buswire.states import State
from hqconsole.desk import Linked
from hqconsole.ledger import arrival_views, enrolment, evidence
from hqconsole.ledger.arrival_views import ReportRows
from hqconsole.timing import HubLimits
from tests.hq_desk.office import AT, TILL, TOPICS, Office, new_id, receipt

READ = f"SELECT id, {evidence.DATA} FROM arrival ORDER BY no"


def an_alert(note: str) -> Record:
    """An alert with this note."""
    data = Raw(encode_data(Alert(alert="stockout", note=note)))
    return Record(id=new_id(), kind="alert", at=AT, data=data)


def test_a_message_is_kept_once_and_its_signature_holds(office: Office) -> None:
    """Three records, one message: bytes, topic and key are all that is needed to check it."""
    office.hello()
    said = Records(log="act", after=START, records=[an_alert("a"), an_alert("b"), an_alert("c")])
    payload = office.payload(said)
    office.hear_raw(payload)
    office.hear_raw(payload)
    ((topic, text, signature, public, records, after),) = office.rows(
        "SELECT topic, text, signature, public, records, after_seq FROM message"
        " JOIN device_key ON device_key.no = key_no"
    )
    assert (topic, records, after) == (TOPICS.from_(TILL), 3, 0)
    assert PublicKey(public).verifies(parse_signature(signature), message_bytes(topic, text))
    assert frame.decode_text(text) == said
    assert office.rows("SELECT DISTINCT length(data) FROM arrival") == [(0,)]
    assert [bytes(data) for _, data in office.rows(READ)] == [
        bytes(record.data) for record in said.records
    ]


def test_what_looks_alike_is_read_from_its_place(office: Office) -> None:
    """Equal data, data inside other data, blanks and every script: each record reads as sent."""
    odd = [
        b"{}",
        b'{ "alert" : "x" }',
        b'{"alert":"{}"}',
        '{"alert":"棚卸し"}'.encode(),
        b"{}",
        b'"act"',
        b"1",
    ]
    records = [
        Record(id=new_id(), kind="alert", at=float(number), data=Raw(data))
        for number, data in enumerate(odd)
    ]
    office.hello()
    office.hear(Records(log="act", after=START, records=records))
    assert [bytes(data) for _, data in office.rows(READ)] == odd


def test_known_and_new_records_of_one_message(office: Office) -> None:
    """Of an overlapping message the new records refer to it, the known ones to the first."""
    office.hello()
    records = [an_alert(str(number)) for number in range(4)]
    office.hear(Records(log="act", after=START, records=records[:2]))
    office.hear(Records(log="act", after=START, records=records))
    assert office.rows("SELECT message_no FROM arrival ORDER BY no") == [(1,), (1,), (2,), (2,)]
    assert [bytes(data) for _, data in office.rows(READ)] == [bytes(r.data) for r in records]


def test_a_history_told_again_is_kept_so_that_the_log_has_no_gap(office: Office) -> None:
    """A device that is an older copy sends all again under new numbers; each number has its proof.

    Nothing new was said; without that message the log would go on behind numbers that nobody can
    account for.
    """
    office.hello()
    records = [an_alert(str(number)) for number in range(2)]
    office.hear(Records(log="act", after=START, records=records))
    head = Cursor(2, records[1].id)
    office.hear(Records(log="act", after=head, records=records))
    assert office.rows("SELECT after_seq, records FROM message ORDER BY no") == [(0, 2), (2, 2)]
    assert office.rows("SELECT count(*) FROM arrival") == [(2,)]


def test_the_views_read_either_kind(office: Office) -> None:
    """What is in messages and what older programs kept in the rows themselves."""
    directive = office.issue()
    office.hello()
    rows = [["6901234", 3], ["6901235", 4]]
    report = Report(report="r1", name="sales", part=1, parts=1, columns=["sku", "n"], rows=rows)
    part = Record(id=new_id(), kind="report", at=AT, data=Raw(encode_data(report)))
    office.hear(
        Records(log="act", after=START, records=[receipt(directive, State.READ), an_alert("new")]),
        Records(log="bulk", after=START, records=[part]),
    )
    with office.ledger.write() as connection:
        connection.execute(
            "INSERT INTO arrival (device_no, id, kind, said_at, received_at, data)"
            " VALUES (1, x'00', 'alert', 0, 0, ?)",
            (encode_data(Alert(alert="stockout", note="old")),),
        )
    connection = office.ledger.connection
    assert [one["note"] for one in arrival_views.alerts(connection, None, 9)] == ["new", "old"]
    stream = arrival_views.stream(connection, arrival_views.parse_position("start"))
    assert [one["kind"] for one in stream] == ["receipt", "alert", "report", "alert"]
    assert list(ReportRows(connection, 1)) == rows


def test_a_receipt_that_waited_is_read_from_its_message(office: Office) -> None:
    """What is applied once its directive is known again comes from the evidence, too."""
    office.hello()
    office.hear(Records(log="act", after=START, records=[receipt("d" * 32, State.DONE)]))
    assert office.rows("SELECT count(*) FROM waiting") == [(1,)]
    ((data,),) = office.rows(f"SELECT {evidence.DATA} FROM arrival")
    assert json.loads(data)["directive"] == "d" * 32


def test_a_device_over_its_share_is_not_taken_until_more_is_allowed(tmp_path: Path) -> None:
    """No acknowledgement, nothing saved, told once; `hq device allow` lets it go on."""
    office = Office(tmp_path, limits=HubLimits(kept_bytes=3000))
    office.desk.handle([Linked()], office.now)
    office.hello()
    first = Records(log="act", after=START, records=[an_alert("x" * 1000)])
    assert [type(one) for one in office.hear(first)] == [Ack]
    second = Records(
        log="act", after=Cursor(1, first.records[0].id), records=[an_alert("y" * 2000)]
    )
    for _ in range(5):
        assert office.hear(second) == []
    assert office.incidents() == ["too much kept"]
    assert office.rows("SELECT count(*) FROM arrival") == [(1,)]
    with office.ledger.write() as connection:
        enrolment.allow(connection, TILL, 10_000)
    assert [type(one) for one in office.hear(second)] == [Ack]
    ((kept,),) = office.rows("SELECT kept_bytes FROM device WHERE no = 1")
    ((texts,),) = office.rows("SELECT sum(length(text)) FROM message")
    assert kept == texts + 2 * evidence.MESSAGE_OVERHEAD_BYTES
    office.ledger.close()


def test_a_batch_that_cannot_be_saved_keeps_no_evidence(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Message, arrivals, effect and cursor are one transaction."""
    office.hello()
    said = Records(log="act", after=START, records=[an_alert("a")])

    def broken(*_: object, **__: object) -> None:
        raise OSError("a fault behind the evidence")

    with monkeypatch.context() as patch:
        patch.setattr("hqconsole.ledger.devices.save_uplink", broken)
        with pytest.raises(OSError, match="behind the evidence"):
            office.hear(said)
    assert office.rows("SELECT count(*) FROM message") == [(0,)]
    assert [type(one) for one in office.hear(said)] == [Ack]
