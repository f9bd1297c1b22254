"""`hq verify`: a whole ledger is whole, and each way to harm one is named for what it is."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buswire import signing
from buswire.cursors import START, Cursor
from buswire.messages import Alert, Receipt, Record, Records, Reply, Report, encode_data
from buswire.states import State
from hqconsole.commands.main import main
from hqconsole.keyring import Keyring
from hqconsole.ledger import verification
from hqconsole.ledger.opening import FILE_NAME, open_ledger
from hqconsole.ledger.views import latest_directives
from tests.hq_console.conftest import STORES, Run
from tests.hq_console.field import Field, new_id
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World


def problem(run: Run) -> dict[str, Any]:
    """The first thing that does not fit; empty where everything does."""
    code, out, errors = run("verify", "--json")
    found = json.loads(out)
    assert found["ok"] == (found["problem"] is None) == (code == 0), errors
    return found["problem"] or {}


def harm(field: Field, statement: str, *values: Any) -> None:
    """Change the ledger as somebody with the file could."""
    with contextlib.closing(sqlite3.connect(field.home / FILE_NAME)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


@pytest.fixture(scope="module")
def finished_day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A day of work: answers of every kind from two stores, and a withdrawal."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("day")
        patch.setenv("STOREBUS_HQ_HOME", str(folder / "hq"))
        (folder / "stores.csv").write_text(STORES, encoding="utf-8")

        def hq(*words: str) -> None:
            assert main.run(list(words), "hq") == 0

        hq("init")
        hq("roster", "import", str(folder / "stores.csv"))
        hq("publish", "One", "--all", "--needs", "done")
        hq("publish", "Two", "--store", "S1")
        field = Field(folder / "hq")
        one, two = directive_ids(field)
        for store in ("S1", "S2"):
            field.device(store)
        field.receipt(one, "S1", State.DELIVERED)
        field.say(
            "S1",
            Receipt(directive=one, role="any", state=State.READ),
            Receipt(directive=one, role="any", state=State.DONE, by="Mio"),
            Reply(directive=one, role="any", text="all pulled"),
        )
        field.receipt(one, "S2", State.CANNOT, reason="no key")
        field.say("S2", Alert(alert="incident", fields={"what": "leak"}))
        field.say(
            "S2", Report(report="r", name="sales", part=1, parts=1, columns=["a"], rows=[[1], [2]])
        )
        hq("cancel", two)
        field.hub()
    return field


def directive_ids(field: Field) -> list[str]:
    """The ids of all directives, the oldest first."""
    with open_ledger(field.home) as ledger:
        return [row["id"] for row in latest_directives(ledger.connection, 100)][::-1]


@pytest.fixture
def day(run: Run, finished_day: Field, tmp_path: Path) -> Field:
    """That day in a home of the test's own."""
    shutil.copytree(finished_day.home, tmp_path / "hq")
    return finished_day.copy(tmp_path / "hq")


def test_a_whole_ledger_is_whole_and_counted(run: Run, day: Field) -> None:
    """For people a list of counts, for programs the same as fields."""
    found = json.loads(run("verify", "--json")[1])
    assert found["ok"]
    assert found["problem"] is None
    counted = {
        *(("messages", 5), ("records", 7), ("unsigned", 0), ("devices", 2), ("device_keys", 2)),
        *(("directives", 2), ("cancels", 1), ("unsealed", 0), ("deliveries", 6), ("hq_keys", 1)),
    }
    assert counted <= found.items(), found
    code, out, errors = run("verify")
    assert code == 0
    assert "5  messages that devices signed" in out
    assert "everything fits" in errors


def test_the_steps_for_the_bar_are_as_many_as_were_announced(day: Field) -> None:
    """Neither does it stand still at the end nor go beyond."""
    keyring = Keyring.load(day.home)
    steps: list[int] = []
    with open_ledger(day.home) as ledger:
        report = verification.verify(
            ledger.connection,
            entries=keyring.entries,
            recovery=keyring.recovery,
            advance=steps.append,
        )
        assert report.problem is None
        assert sum(steps) == verification.size(ledger.connection)


KEY = "(SELECT no FROM device_key WHERE device_no = 2)"
HARMS = {
    "a word in a message": (
        (
            "UPDATE message SET"
            " text = CAST(replace(CAST(text AS TEXT), 'pulled', 'burned') AS BLOB) WHERE no = 2"
        ),
        "signature",
    ),
    "a message's signature": (
        "UPDATE message SET signature = (SELECT signature FROM message WHERE no = 1) WHERE no = 2",
        "signature",
    ),
    "a message moved to another topic": (
        "UPDATE message SET topic = replace(topic, 'S1', 'S2') WHERE no = 1",
        "topic",
    ),
    "a message under another root": (
        "UPDATE message SET topic = replace(topic, 'v1', 'v2') WHERE no = 1",
        "signature",
    ),
    "a message given to another device": (
        "UPDATE message SET device_no = 2 WHERE no = 1",
        "message key",
    ),
    "a message under another key": (
        f"UPDATE message SET key_no = {KEY} WHERE no = 1",
        "message key",
    ),
    "a message's place": ("UPDATE message SET after_seq = 7 WHERE no = 2", "message"),
    "a message's count": ("UPDATE message SET records = 1 WHERE no = 2", "message"),
    "an arrival's kind": ("UPDATE arrival SET kind = 'reply' WHERE no = 2", "arrival"),
    "an arrival's id": ("UPDATE arrival SET id = zeroblob(16) WHERE no = 2", "arrival"),
    "an arrival's time": ("UPDATE arrival SET said_at = said_at - 60 WHERE no = 2", "arrival"),
    "an arrival's place": ("UPDATE arrival SET data_at = data_at + 1 WHERE no = 2", "arrival"),
    "an arrival's length": (
        "UPDATE arrival SET data_bytes = data_bytes - 1 WHERE no = 2",
        "arrival",
    ),
    "an arrival's own data": ("UPDATE arrival SET data = X'7b7d' WHERE no = 2", "arrival"),
    "an arrival of another message": ("UPDATE arrival SET message_no = 1 WHERE no = 4", "arrival"),
    "an arrival of no message": ("UPDATE arrival SET message_no = 99 WHERE no = 7", "record"),
    "an arrival given to another device": (
        "UPDATE arrival SET device_no = 2 WHERE no = 2",
        "arrival",
    ),
    "an arrival taken out": ("DELETE FROM arrival WHERE no = 4", "record"),
    "an unsigned arrival put in": (
        (
            "INSERT INTO arrival (device_no, id, kind, said_at, received_at, data)"
            " SELECT device_no, randomblob(16), kind, said_at, received_at, X'7b7d' FROM arrival"
            " WHERE no = 1"
        ),
        "unsigned",
    ),
    "an uplink's number": ("UPDATE uplink SET seq = seq + 1 WHERE log = 'act'", "head"),
    "an uplink's id": ("UPDATE uplink SET id = '' WHERE log = 'bulk' AND seq = 1", "head"),
    "an uplink taken out": ("DELETE FROM uplink WHERE device_no = 1", "head"),
    "a directive's text": (
        (
            "UPDATE doc SET data = CAST(replace(CAST(data AS TEXT), 'One', 'Two') AS BLOB)"
            " WHERE no = 1"
        ),
        "seal",
    ),
    "a seal taken from another": (
        "UPDATE doc SET seal = (SELECT seal FROM doc WHERE no = 2) WHERE no = 1",
        "seal",
    ),
    "a seal of nobody's key": (
        "UPDATE doc SET seal = 'f00d' || substr(seal, 5) WHERE no = 1",
        "hq signature",
    ),
    "a directive's title": ("UPDATE directive SET title = 'x' WHERE no = 1", "directive"),
    "a directive's author": ("UPDATE directive SET issued_by = 'x' WHERE no = 1", "directive"),
    "a directive's denominator": ("UPDATE directive SET mailboxes = 4 WHERE no = 1", "directive"),
    "a directive's digest": ("UPDATE directive SET digest = 'x' WHERE no = 1", "directive"),
    "a directive without its document": (
        "UPDATE directive SET doc_no = 3 WHERE no = 1",
        "directive",
    ),
    "a mailbox taken out of the audience": (
        (
            "DELETE FROM delivery WHERE directive_no = 1 AND state = 0"
            " AND mailbox_no = (SELECT max(mailbox_no) FROM delivery WHERE directive_no = 1)"
        ),
        "audience",
    ),
    "a mailbox exchanged for another": (
        (
            "UPDATE delivery SET mailbox_no = (SELECT no FROM mailbox WHERE role = 'manager')"
            " WHERE directive_no = 1 AND state = 0"
        ),
        "audience",
    ),
    "a withdrawal of another directive": (
        "UPDATE cancel SET directive_id = (SELECT id FROM directive WHERE no = 1)",
        "cancel",
    ),
    "a withdrawal taken out": ("DELETE FROM cancel", "cancel"),
    "a withdrawal undone": ("UPDATE directive SET state = 'issued' WHERE no = 2", "cancel"),
    "a delivery said to be done by nobody": (
        "UPDATE delivery SET state = 5 WHERE directive_no = 1 AND state = 0",
        "state",
    ),
    "a delivery that is hidden from who has not": (
        "UPDATE delivery SET open = 0 WHERE directive_no = 1 AND state = 0",
        "state",
    ),
    "a delivery that is called withdrawn": (
        "UPDATE delivery SET state = 7, open = 0 WHERE directive_no = 1 AND state = 0",
        "state",
    ),
    "a delivery that a withdrawal left open": (
        "UPDATE delivery SET state = 0, open = 1 WHERE directive_no = 2",
        "state",
    ),
    "a delivery further than its receipt": (
        "UPDATE delivery SET state = 5 WHERE directive_no = 1 AND state = 4",
        "state",
    ),
    "a delivery with another's receipt": (
        "UPDATE delivery SET arrival_no = 3 WHERE directive_no = 1 AND state = 4",
        "state",
    ),
    "head office's word for a key altered": (
        (
            "UPDATE device_key SET joined_text ="
            " CAST(replace(CAST(joined_text AS TEXT), 'S1', 'S9') AS BLOB) WHERE no = 1"
        ),
        "hq signature",
    ),
    "head office's word for another key": (
        (
            "UPDATE device_key SET (joined_topic, joined_text, joined_key, joined_signature) ="
            " (SELECT joined_topic, joined_text, joined_key, joined_signature FROM device_key"
            " WHERE no = 2) WHERE no = 1"
        ),
        "device key",
    ),
    "head office's word by nobody's key": (
        "UPDATE device_key SET joined_key = 'f00d' WHERE no = 1",
        "hq signature",
    ),
    "head office's word taken out": (
        "UPDATE device_key SET joined_text = NULL WHERE no = 1",
        "device key",
    ),
    "a device that is in without a key": (
        "UPDATE device SET key_no = NULL WHERE no = 1",
        "device key",
    ),
    "a text where bytes belong": ("UPDATE doc SET data = CAST(data AS TEXT) WHERE no = 1", "form"),
    "bytes where a text belongs": ("UPDATE message SET signature = X'00' WHERE no = 1", "form"),
    "a device's key exchanged": (
        "UPDATE device_key SET public = zeroblob(32) WHERE no = 1",
        "device key",
    ),
    "a key that is another device's": (
        f"UPDATE device SET key_no = {KEY} WHERE no = 1",
        "device key",
    ),
}


@pytest.mark.parametrize("name", HARMS)
def test_each_harm_is_named_for_what_it_is(run: Run, day: Field, name: str) -> None:
    """Kind, place and meaning; a person reads the same; exit code 1."""
    statement, kind = HARMS[name]
    if "a mailbox exchanged" in name:
        statement += " AND mailbox_no = (SELECT max(mailbox_no) FROM delivery)"
    harm(day, statement)
    found = problem(run)
    assert found.get("kind") == kind, found
    code, out, _ = run("verify")
    assert code == 1
    assert found["what"] in out
    assert found["meaning"] in out


def test_a_message_taken_out_with_all_its_rows_leaves_a_gap(run: Run, day: Field) -> None:
    """The numbers that are missing are named; the newest taken out is not at HQ's cursor."""
    with open_ledger(day.home) as ledger:
        image = ledger.serialize()
    connection = sqlite3.connect(":memory:")
    connection.deserialize(image[:18] + b"\x01\x01" + image[20:])
    for no, kind, words in ((1, "gap", "begins at number 2"), (2, "head", "reach 1")):
        connection.execute("SAVEPOINT before")
        connection.execute("UPDATE delivery SET state = 0, arrival_no = NULL")
        connection.execute("DELETE FROM arrival WHERE message_no = ?", (no,))
        connection.execute("DELETE FROM message WHERE no = ?", (no,))
        found = verified(day, connection)
        assert found.problem is not None
        assert (found.problem.kind, words in found.problem.meaning) == (kind, True), found.problem
        connection.execute("ROLLBACK TO before")
    assert verified(day, connection).problem is None
    connection.close()


def verified(field: Field, connection: sqlite3.Connection) -> verification.Report:
    """A verification with the home's keys."""
    keyring = Keyring.load(field.home)
    return verification.verify(connection, entries=keyring.entries, recovery=keyring.recovery)


def said(number: int) -> list[Record]:
    """A record with an alert."""
    return [Record(id=f"{number:032x}", kind="alert", at=1.0, data=_raw(Alert(alert=f"a{number}")))]


def _raw(data: Any) -> Any:
    from msgspec import Raw

    return Raw(encode_data(data))


def test_what_was_sent_again_in_other_cuts_is_dense(run: Run, field: Field) -> None:
    """A message that overlaps with earlier ones, or brings known ids under new numbers, fits."""
    device = field.device("S1")
    one, two, three, four = (said(number) for number in range(1, 5))
    field.send(device, "act", [*one, *two])
    # Cut at another place after a broken link: one and two again, three is new.
    device.cursors["act"] = START
    field.send(device, "act", [*one, *two, *three])
    device.cursors["act"] = Cursor(1, one[0].id)
    field.send(device, "act", [*two, *three, *four])
    # The device was put back from an older copy: everything again, numbered on.
    field.send(device, "act", [*one, *two, *said(9)])
    assert problem(run) == {}
    assert json.loads(run("verify", "--json")[1])["records"] == 5


def test_a_second_id_for_a_number_is_a_fork(run: Run, field: Field) -> None:
    """Also where it lies messages back, and where the device's own key signed it."""
    device = field.device("S1")
    for number in range(1, 5):
        field.send(device, "act", said(number))
    assert problem(run) == {}
    records = [record for number in (1, 7, 3, 4, 5) for record in said(number)]
    forged = Records(log="act", after=START, records=records)
    heard = field.signed(device, forged)
    from buswire import frame

    envelope = frame.take_apart(heard.payload)
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        connection.execute(
            "INSERT INTO message (device_no, key_no, topic, log, after_seq, after_id, records,"
            " received_at, signature, text) VALUES (1, 1, ?, 'act', 0, '', 5, 1.0, ?, ?)",
            (heard.topic, envelope.signature, envelope.text),
        )
        data_at = envelope.text.index(b'{"alert":"a7"')
        connection.executemany(
            "INSERT INTO arrival (device_no, id, kind, said_at, received_at, data, message_no,"
            " data_at, data_bytes) VALUES (1, ?, 'alert', 1.0, 1.0, X'', 5, ?, 14)",
            [
                (bytes.fromhex(f"{7:032x}"), data_at),
                (bytes.fromhex(f"{5:032x}"), envelope.text.index(b'{"alert":"a5"')),
            ],
        )
        connection.execute("UPDATE uplink SET seq = 5, id = ? WHERE log = 'act'", (f"{5:032x}",))
    assert problem(run)["kind"] == "fork"


def unsigned(field: Field, *numbers: int) -> None:
    """As a ledger looked before messages were signed."""
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        connection.executemany(
            "INSERT INTO arrival (device_no, id, kind, said_at, received_at, data)"
            " VALUES (1, ?, 'alert', 1.0, 1.0, ?)",
            [
                (bytes.fromhex(f"{number:032x}"), encode_data(Alert(alert=f"a{number}")))
                for number in numbers
            ],
        )
        connection.execute(
            "INSERT INTO uplink (device_no, log, seq, id, heard_head, pending)"
            " VALUES (1, 'act', ?1, ?2, ?1, 0) ON CONFLICT (device_no, log)"
            " DO UPDATE SET seq = ?1, id = ?2",
            (len(numbers), f"{numbers[-1]:032x}"),
        )


def test_rows_from_before_signing_are_counted_apart(run: Run, field: Field) -> None:
    """A log may go on from them, and nothing else may stand before its first message."""
    device = field.device("S1")
    unsigned(field, 1, 2, 3)
    found = json.loads(run("verify", "--json")[1])
    assert (found["ok"], found["unsigned"], found["records"]) == (True, 3, 0)
    field.hello(device)
    assert device.cursors["act"] == Cursor(3, f"{3:032x}")
    field.send(device, "act", said(4))
    found = json.loads(run("verify", "--json")[1])
    assert (found["ok"], found["unsigned"], found["records"]) == (True, 3, 1)
    harm(field, "DELETE FROM arrival WHERE no = 3")
    assert problem(run)["kind"] == "gap"


def test_directives_that_the_hub_has_not_seen_yet_are_no_problem(run: Run, field: Field) -> None:
    """They are counted, and a person is told."""
    run("publish", "Just now", "--all")
    assert problem(run) == {}
    assert json.loads(run("verify", "--json")[1])["unsealed"] == 1
    assert "not sealed yet" in run("verify")[2]


def test_a_rotated_and_a_recovered_chain_of_keys_hold(run: Run, day: Field) -> None:
    """Seals of replaced keys stay good; those of stolen ones are told of until renewed."""
    assert run("key", "rotate", "--overlap", "0")[0] == 0
    run("publish", "By the second key", "--all")
    day.hub()
    assert problem(run) == {}
    recovery = str(day.home / "keys" / "recovery.key")
    assert run("key", "recover", "--recovery-key", recovery)[0] == 0
    assert problem(run) == {}
    assert run("key", "recover", "--recovery-key", recovery, "--stolen")[0] == 0
    found = json.loads(run("verify", "--json")[1])
    assert (found["ok"], found["stolen_seals"], found["hq_keys"]) == (True, 4, 4)
    assert "declared stolen" in run("verify")[2]
    day.hub()
    assert json.loads(run("verify", "--json")[1])["stolen_seals"] == 0


def test_a_chain_that_no_recovery_key_begins_is_named(day: Field) -> None:
    """Whoever exchanges HQ's keys exchanges the recovery key, or breaks the chain."""
    keyring = Keyring.load(day.home)
    other = signing.SigningKey(b"x" * 32).public.text
    with open_ledger(day.home) as ledger:
        report = verification.verify(ledger.connection, entries=keyring.entries, recovery=other)
    assert report.problem is not None
    assert report.problem.kind == "hq key"


def test_a_ledger_put_back_and_healed_is_whole(
    run: Run, day: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restore the logs go on from where the copy stands."""
    backup = str(tmp_path / "copy.db")
    assert run("backup", backup)[0] == 0
    day.say("S1", Alert(alert="incident", fields={"what": "one"}))
    assert run("restore", backup, "--yes")[0] == 0
    for device in day.devices.values():
        day.hello(device)
        day.send(
            device, "act", [Record(id=new_id(), kind="alert", at=1.0, data=_raw(Alert(alert="x")))]
        )
    assert problem(run) == {}


@pytest.mark.parametrize(
    "name", ["device disasters", "ledger restore", "key changes", "captured broker", "everything"]
)
def test_whatever_befalls_an_honest_chain_its_ledger_is_whole(name: str) -> None:
    """Disks put back on either side, machines exchanged, keys replaced: no gap, no fork."""
    world = World(SCENARIOS[name], 11)
    world.run()
    with world.hq.ledger.read() as connection:
        report = verification.verify(
            connection,
            entries=world.keys.entries,
            recovery=world.keys.trusted().recovery,
            stolen=world.keys.stolen,
        )
    assert report.problem is None
    assert report.counts["records"] > 0
