"""What stores say, as the console shows it: replies, alerts, reports, the stream, troubles."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from buswire.messages import Alert, Reply, Report
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.troubles import put_aside, record_incident
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def lines(out: str) -> list[dict[str, object]]:
    """JSON lines."""
    return [json.loads(line) for line in out.splitlines()]


def issue(run: Run) -> str:
    """The id of a directive to everyone."""
    return str(json.loads(run("publish", "Hello", "--all", "--json")[1])["id"])


def test_replies_stand_in_order_of_all_threads_or_of_one(run: Run, field: Field) -> None:
    """Also a reply to a directive that the ledger does not know is shown."""
    one, two = issue(run), issue(run)
    field.say("S1", Reply(directive=one, role="any", text="first", by="Mio"))
    field.say("S2", Reply(directive=two, role="any", text="second"))
    field.say("S1", Reply(directive="ab" * 16, role="any", text="third"))
    found = json.loads(run("replies", "--json")[1])
    assert [row["text"] for row in found] == ["first", "second", "third"]
    assert (found[0]["by"], found[0]["store"], found[2]["directive"]) == ("Mio", "S1", "ab" * 16)
    assert [row["text"] for row in json.loads(run("replies", two, "--json")[1])] == ["second"]
    assert [row["text"] for row in json.loads(run("replies", "-n", "1", "--json")[1])] == ["third"]


def test_alerts_are_shown_by_kind(run: Run, field: Field) -> None:
    """With their typed fields; the limit counts those of the kind."""
    for number in range(3):
        field.say("S1", Alert(alert="replenishment", fields={"sku": str(number), "on_hand": 2}))
        field.say("S2", Alert(alert="incident", note="a leak"))
    found = json.loads(run("alerts", "--kind", "replenishment", "-n", "2", "--json")[1])
    assert [row["fields"] for row in found] == [
        {"sku": "1", "on_hand": 2},
        {"sku": "2", "on_hand": 2},
    ]
    assert "sku=2 on_hand=2" in run("alerts")[1]
    assert json.loads(run("alerts", "--kind", "none", "--json")[1]) == []


def test_what_nobody_can_read_is_no_reply_and_no_crash(run: Run, field: Field) -> None:
    """It is in the quarantine, and in the stream with its outcome."""
    field.say_raw("S1", ("reply", b'{"text":3}'), ("alert", b"[]"), ("strange", b"{}"))
    assert json.loads(run("replies", "--json")[1]) == []
    assert json.loads(run("alerts", "--json")[1]) == []
    assert len(json.loads(run("quarantine", "--json")[1])) == 3
    stream = lines(run("tail", "--no-follow", "--json")[1])
    assert [row["outcome"] for row in stream] == ["aside"] * 3
    assert run("tail", "--no-follow")[0] == 0


def part(number: int, parts: int, *rows: list[object]) -> Report:
    """One part of a report."""
    return Report(
        report="r1",
        name="sales",
        part=number,
        parts=parts,
        columns=["sku", "sold", "note"],
        rows=list(rows),  # type: ignore[arg-type]
    )


def test_a_report_is_written_back_in_its_order(run: Run, field: Field) -> None:
    """Whatever order its parts came in, and only when all are here, unless asked otherwise."""
    field.say("S1", part(2, 3, ["0002", None, "x,y"]))
    field.say("S1", part(3, 3, ["0003", 2.5, 'a "b"\nc']))
    code, out, errors = run("reports", "1", "--csv")
    assert (code, out) == (1, "")
    assert "2 of 3 parts" in errors
    assert run("reports", "1", "--csv", "--partial")[1].count("000") == 2
    field.say("S1", part(1, 3, ["0001", 7, True]))
    code, out, _ = run("reports", "1", "--csv")
    assert code == 0
    assert list(csv.reader(io.StringIO(out))) == [
        ["sku", "sold", "note"],
        ["0001", "7", "true"],
        ["0002", "", "x,y"],
        ["0003", "2.5", 'a "b"\nc'],
    ]
    listed = json.loads(run("reports", "--json")[1])
    assert [(row["no"], row["rows"], row["complete"]) for row in listed] == [(1, 3, True)]
    assert json.loads(run("reports", "1", "--json")[1])["rows"][2] == ["0003", 2.5, 'a "b"\nc']
    assert run("reports", "9", "--csv")[0] == 1
    assert run("reports", "--csv")[0] == 2


def test_tail_goes_on_behind_a_position_without_loss_or_repeat(run: Run, field: Field) -> None:
    """From any position, to the end, in the order of saving."""
    directive = issue(run)
    for number in range(25):
        field.say("S1", Reply(directive=directive, role="any", text=str(number)))
    everything = lines(run("tail", "--from", "start", "--no-follow", "--json")[1])
    assert [row["data"]["text"] for row in everything] == [str(n) for n in range(25)]  # type: ignore[index]
    for at in (0, 11, 24):
        position = str(everything[at]["position"])
        rest = lines(run("tail", "--from", position, "--no-follow", "--json")[1])
        assert rest == everything[at + 1 :]
    assert lines(run("tail", "--no-follow", "--json")[1]) == everything[-10:]
    assert len(run("tail", "--no-follow")[1].splitlines()) == 10


def test_tail_refuses_a_position_that_is_none_or_of_another_ledger(run: Run, field: Field) -> None:
    """Going on there would lose or repeat entries in silence."""
    field.say("S1", Alert(alert="incident"))
    for position in ("nonsense", "7", "9999-00000000", "1-00000000", "1-", "-1-00000000"):
        code, out, errors = run("tail", "--from", position, "--no-follow")
        assert (code, out) == (2, ""), position
        assert "hint:" in errors


def test_tail_follows_what_comes_and_sees_the_ledger_being_put_back(
    run: Run, field: Field, tmp_path: Path
) -> None:
    """It shows entries as they are committed, and ends with a clear error behind a restore."""
    field.say("S1", Alert(alert="incident", note="one"))
    assert run("backup", str(tmp_path / "old"))[0] == 0
    command = [sys.executable, "-m", "hqconsole.commands.main", "tail", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ.copy()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        notes = []
        for note in ("one", "two", "three"):
            if note != "one":
                field.say("S2", Alert(alert="incident", note=note))
            notes.append(json.loads(process.stdout.readline())["data"]["note"])
        assert notes == ["one", "two", "three"]
        code, _, errors = run("restore", str(tmp_path / "old"), "--yes")
        assert code == 0, errors
        assert process.stdout.read() == b""
        assert b"does not fit this ledger" in process.stderr.read()
    assert process.returncode == 2


def test_a_reader_that_goes_away_is_no_error(run: Run, field: Field) -> None:
    """As other programs behave in front of head."""
    for _ in range(3):
        field.say("S1", Alert(alert="incident", note="x" * 40_000))
    with subprocess.Popen(
        [sys.executable, "-m", "hqconsole.commands.main", "tail", "--json", "--no-follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ.copy(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_stores_shows_who_is_there_and_who_is_behind(run: Run, field: Field) -> None:
    """A store is online when one of its devices is; its backlog is the sum of all."""
    field.device("S1", "a")
    field.device("S1", "b")
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        connection.execute("UPDATE device SET online = 0 WHERE name = 'b'")
        connection.execute("DELETE FROM uplink")
        connection.executemany(
            "INSERT INTO uplink (device_no, log, seq, id, heard_head, pending)"
            " VALUES (?, ?, 0, '', 0, ?)",
            [(1, "act", 2), (1, "bulk", 3), (2, "bulk", 10)],
        )
    found = {row["store"]: row for row in json.loads(run("stores", "--json")[1])}
    one = found["S1"]
    assert (one["online"], one["devices"], one["devices_online"], one["backlog"]) == (
        True,
        2,
        1,
        15,
    )
    assert (found["S2"]["online"], found["S2"]["last_heard_at"]) == (False, None)
    offline = json.loads(run("stores", "--offline", "--region", "east", "--json")[1])
    assert [row["store"] for row in offline] == ["S2"]
    assert "1 of 5 stores are online; 4 were never heard" in run("stores")[2]
    assert "no hub is running" in run("stores")[2]


def test_troubles_are_shown_escaped_and_latest_last(run: Run, field: Field) -> None:
    """Whatever bytes a device sent."""
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        for number in range(3):
            put_aside(
                connection,
                source="S1.till-1",
                reason=f"reason {number}",
                payload=b"\x1b[2J\xff\x00",
                at=float(number),
            )
        record_incident(connection, "device wiped", at=1.0, device_no=None, may_have_lost=4)
    found = json.loads(run("quarantine", "--json")[1])
    assert [row["reason"] for row in found] == ["reason 0", "reason 1", "reason 2"]
    out = run("quarantine")[1]
    assert "\x1b" not in out
    assert r"\xff" in out
    assert "may_have_lost=4" in run("incidents", "--kind", "device wiped")[1]
    assert json.loads(run("incidents", "--kind", "none", "--json")[1]) == []


def test_readers_say_so_when_there_is_nothing_and_keep_the_data_clean(run: Run, home: Path) -> None:
    """Nothing on standard output for a person, an empty list for a program."""
    for verb in ("replies", "alerts", "reports", "quarantine", "incidents"):
        code, out, errors = run(verb)
        assert (code, out) == (0, ""), verb
        assert errors.strip()
        assert json.loads(run(verb, "--json")[1]) == []
