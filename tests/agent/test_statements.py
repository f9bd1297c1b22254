"""What staff and scripts say: never backwards, never twice, all or nothing."""

import json
import sqlite3

import pytest

from buswire.messages import RECORD_BYTES_LIMIT
from buswire.states import State
from storeagent.errors import InvalidEntry, NoSuchWork, OutboxFull
from storeagent.limits import Limits
from storeagent.reports import content_key, make_table
from storeagent.scripts import derived_id
from storeagent.statements import Outcome
from tests.agent.words import ALL_ANY, ALL_MANAGER, STORE_ANY, Bench, ids

D1 = ids("d", 1)


@pytest.fixture
def bench() -> Bench:
    """A device with directive 1 in its inbox."""
    bench = Bench()
    bench.take(ALL_ANY, bench.words.issue())
    return bench


def test_statements_move_up_and_are_receipted(bench: Bench) -> None:
    """Read, start, done: each one receipt, with who said it."""
    for say in (bench.statements.read, bench.statements.start, bench.statements.done):
        assert say(D1, "any", by="Ana").outcome is Outcome.SAID
    assert bench.receipts() == ["delivered", "read", "in_progress", "done"]
    assert bench.sent()[-1][1]["by"] == "Ana"
    assert bench.row().changed_by == "Ana"
    assert not bench.row().todo


def test_what_is_said_twice_or_backwards_says_so_and_sends_nothing(bench: Bench) -> None:
    """A repeated done, and a read after it, record nothing."""
    bench.statements.done(D1, "any")
    assert bench.statements.done(D1, "any").outcome is Outcome.ALREADY
    assert bench.statements.read(D1, "any").outcome is Outcome.ALREADY
    assert bench.statements.cannot(D1, "any", reason="no").outcome is Outcome.ALREADY
    assert bench.receipts() == ["delivered", "done"]


def test_cannot_needs_a_reason_and_can_become_done(bench: Bench) -> None:
    """The reason travels; later the store can after all."""
    with pytest.raises(InvalidEntry):
        bench.statements.cannot(D1, "any", reason="  ")
    bench.statements.cannot(D1, "any", reason="no ladder")
    assert bench.sent()[-1][1]["reason"] == "no ladder"
    assert bench.row().reason == "no ladder"
    assert bench.statements.done(D1, "any").outcome is Outcome.SAID
    assert bench.state() is State.DONE


def test_done_after_hq_closed_goes_up_for_the_record_only(bench: Bench) -> None:
    """Nothing a store did is thrown away, and the delivery is work again if HQ opens it again."""
    bench.take(STORE_ANY, bench.words.change(State.EXPIRED))
    assert bench.statements.read(D1, "any").outcome is Outcome.CLOSED
    assert bench.statements.done(D1, "any").outcome is Outcome.FOR_THE_RECORD
    assert bench.receipts() == ["delivered", "done"]
    assert bench.state() is State.EXPIRED
    bench.take(ALL_ANY, bench.words.issue())
    assert bench.row().open


def test_a_reply_is_for_work_that_is_here(bench: Bench) -> None:
    """Each reply is a record of its own; unknown work is refused."""
    bench.statements.reply(D1, "any", text="Which shelf?", by="Ana")
    bench.statements.reply(D1, "any", text="Which shelf?", by="Ana")
    assert [kind for kind, _ in bench.sent()] == ["receipt", "reply", "reply"]
    with pytest.raises(NoSuchWork):
        bench.statements.reply(ids("d", 9), "any", text="x")
    with pytest.raises(InvalidEntry):
        bench.statements.reply(D1, "any", text=" ")
    with pytest.raises(InvalidEntry, match="most"):
        bench.statements.reply(D1, "any", text="x" * RECORD_BYTES_LIMIT)


def test_work_is_found_by_number_and_by_the_beginning_of_its_id(bench: Bench) -> None:
    """Both name one delivery; what names none or several says so."""
    bench.take(ALL_ANY, bench.words.issue(0xABC0 << 104))
    bench.take(ALL_MANAGER, bench.words.issue(0xABC0 << 104))
    assert bench.statements.find("#1").delivery.directive == D1
    assert bench.statements.find("\N{ARABIC-INDIC DIGIT ONE}").delivery.directive == D1
    assert bench.statements.find("3").delivery.role == "manager"
    assert bench.statements.find(D1[:32]).delivery.number == 1
    assert bench.statements.find("D000").delivery.number == 1
    for nobody in ("77", "ffff", "", "dx"):
        with pytest.raises(NoSuchWork, match="no work"):
            bench.statements.find(nobody)
    with pytest.raises(NoSuchWork, match=r"several: 2 \(any\), 3 \(manager\)"):
        bench.statements.find(ids("d", 0xABC0 << 104)[:6])


def test_an_alert_with_a_key_is_recorded_once(bench: Bench) -> None:
    """A retried script is harmless, and the id depends on kind and key only."""
    fields = {"sku": "0012", "on_hand": 3, "reorder_point": 12}
    first = bench.statements.alert("replenishment", fields, key="mon-0012")
    again = bench.statements.alert("replenishment", fields, key="mon-0012", note="retried")
    other = bench.statements.alert("incident", {"what": "x"}, key="mon-0012")
    assert (first.new, again.new, other.new) == (True, False, True)
    assert first.id == again.id == derived_id("alert/replenishment", "mon-0012")
    assert len([kind for kind, _ in bench.sent() if kind == "alert"]) == 2
    assert bench.statements.alert("incident", {"what": "x"}).new
    assert bench.statements.alert("incident", {"what": "x"}).new


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("replenishmnt", {}, "no alert kind"),
        ("replenishment", {"sku": "1", "on_hand": 3}, "needs reorder_point"),
        ("replenishment", {"sku": "1", "on_hand": "three", "reorder_point": 1}, "a number"),
        ("replenishment", {"sku": "1", "on_hand": float("nan"), "reorder_point": 1}, "ordinary"),
        ("replenishment", {"sku": "1", "on_hand": True, "reorder_point": 1}, "a number"),
        ("replenishment", {"sku": " ", "on_hand": 1, "reorder_point": 1}, "not empty"),
        ("replenishment", {"sku": "1", "onhand": 1, "on_hand": 1, "reorder_point": 1}, "no field"),
        ("incident", {"what": "x", "severity": "meh"}, "cannot be 'meh'"),
        ("incident", {"what": "x" * 501}, "501 characters"),
    ],
)
def test_an_alert_that_does_not_fit_its_kind_is_refused(
    bench: Bench, kind: str, fields: dict[str, object], message: str
) -> None:
    """Nothing is recorded, and the message says which field."""
    head = bench.outbox.head("act")
    with pytest.raises(InvalidEntry, match=message):
        bench.statements.alert(kind, fields)
    assert bench.outbox.head("act") == head


def test_numbers_may_come_as_text_and_skus_as_numbers(bench: Bench) -> None:
    """Scripts read figures from files; a SKU stays text."""
    bench.statements.alert(
        "replenishment", {"sku": 6901234, "on_hand": "3", "reorder_point": "12.5", "wanted": None}
    )
    assert bench.sent()[-1][1]["fields"] == {"sku": "6901234", "on_hand": 3, "reorder_point": 12.5}


def test_a_report_is_cut_into_parts_in_one_transaction(bench: Bench) -> None:
    """Ten thousand rows: parts below 48 KiB that add up, recorded once however often it is sent."""
    rows = [{"sku": f"{n:07d}", "sold": n, "price": n / 4} for n in range(10_000)]
    table = make_table(rows)
    key = content_key(b"the file")
    first = bench.statements.report("daily-sales", table, key=key)
    assert first.new
    assert first.parts > 1
    again = bench.statements.report("daily-sales", table, key=key)
    assert not again.new
    parts = bench.outbox.entries("bulk", after=0, most=10_000, most_bytes=10**9)
    assert len(parts) == first.parts
    assert max(len(bytes(part.record.data)) for part in parts) < 48 * 1024
    read = [json.loads(bytes(part.record.data)) for part in parts]
    assert [part["part"] for part in read] == list(range(1, first.parts + 1))
    assert {part["parts"] for part in read} == {first.parts}
    assert [row for part in read for row in part["rows"]] == table.rows
    assert bench.statements.report("other-name", table, key=key).new


def test_a_report_that_does_not_fit_leaves_no_part_behind() -> None:
    """The outbox fills up in the middle of a report: none of it is there."""
    bench = Bench(limits=Limits(rows=3))
    table = make_table([{"text": "x" * 1_000} for _ in range(500)])
    with pytest.raises(OutboxFull):
        bench.statements.report("big", table, key="1")
    assert bench.outbox.head("bulk") == 0


def test_a_statement_is_in_both_tables_or_in_neither(bench: Bench) -> None:
    """A commit that fails leaves the delivery as it was and the outbox without the receipt."""
    head = bench.outbox.head("act")
    bench.database.connection.set_authorizer(
        lambda action, operation, *_: (
            sqlite3.SQLITE_DENY
            if action == sqlite3.SQLITE_TRANSACTION and operation == "COMMIT"
            else sqlite3.SQLITE_OK
        )
    )
    with pytest.raises(sqlite3.DatabaseError):
        bench.statements.done(D1, "any")
    bench.database.connection.set_authorizer(None)
    assert bench.state() is State.DELIVERED
    assert bench.outbox.head("act") == head
    assert bench.statements.done(D1, "any").outcome is Outcome.SAID


def test_texts_that_are_no_text_are_refused(bench: Bench) -> None:
    """A lone surrogate, as from a file name decoded wrongly, is a clear error."""
    with pytest.raises(InvalidEntry, match="no text"):
        bench.statements.alert("incident", {"what": "caf\udce9"})
    with pytest.raises(InvalidEntry):
        bench.statements.done(D1, "any", by="x" * 501)
    with pytest.raises(InvalidEntry):
        bench.statements.alert("incident", {"what": "x"}, key=" ")


def test_an_alert_is_written_as_the_contract_has_it(bench: Bench) -> None:
    """The hand-written JSON is what the contract's type would encode, and decodes to it."""
    from buswire.messages import DEVICE_KINDS, Alert, decode_data, encode_data
    from storeagent.alerts import encode_alert

    fields: dict[str, str | int | float | bool | None] = {"sku": 'é\n\x01"', "on_hand": 2.5}
    for note, by in (("", ""), ("a \u2028 b", "Ana")):
        written = encode_alert("replenishment", fields, note=note, by=by)
        alert = Alert(alert="replenishment", fields=fields, note=note, by=by)
        assert decode_data("alert", written, DEVICE_KINDS) == alert
        assert json.loads(written) == json.loads(encode_data(alert))
    with pytest.raises(InvalidEntry, match="10001 characters"):
        encode_alert("incident", {"what": "x"}, note="x" * 10_001, by="")
