"""`hq export`: every row once, nothing that a spreadsheet computes, all of a file or none of it."""

import csv
import errno
import io
import json
import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from buswire.messages import Alert, Receipt, Reply
from buswire.states import State
from hqconsole.export_format import BOM, CsvLines, format_of, harmless
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field

EVIL = '=cmd|"/c calc"!A1'


def table(text: str) -> list[dict[str, str]]:
    """The rows of a CSV."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_what_a_spreadsheet_would_compute_is_text() -> None:
    """And what is a number, or nothing of the kind, is left as it is."""
    for cell in (
        EVIL,
        "+cmd",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\uff1d1",
        "-",
        "+86 139 000",
    ):
        assert harmless(cell) == f"'{cell}"
    for cell in ("", "a=b", "-5", "+5", "-5.25", "3,5", "促销", "S017"):
        assert harmless(cell) == cell
    lines = CsvLines(("at", "seen_at", "count", "what"), ZoneInfo("Asia/Tokyo"))
    row = {"at": -5, "seen_at": 0, "count": -2.5, "what": {"a": [1, None], "b": "=x"}}
    assert lines.line(row) == "-5,1970-01-01 09:00:00,-2.5,a=1; ; b==x\r\n"
    assert lines.line({"seen_at": 1e300}) == ",1e+300,,\r\n"
    assert [format_of(name) for name in ("a.CSV", "a.jsonl", "a.txt", "csv")] == [
        "csv",
        "jsonl",
        None,
        "csv",
    ]


def test_every_table_is_written_with_what_was_said(run: Run, field: Field, tmp_path: Path) -> None:
    """As CSV and as JSON Lines, of all, of a store, of a region, of a time."""
    directive = str(
        json.loads(run("publish", "Recall", "--all", "--needs", "done", "--json")[1])["id"]
    )
    field.say("S1", Reply(directive=directive, role="any", text=f"{EVIL}\nline two", by="Mio"))
    field.say("S1", Alert(alert="replenishment", fields={"sku": "6901", "on_hand": 2}, note="-"))
    field.say(
        "S4",
        Receipt(
            directive=directive, role="any", state=State.CANNOT, code="no_key", reason="locked"
        ),
    )
    field.say_raw("S2", ("reply", b"[]"))
    (reply,) = table(run("export", "replies")[1])
    assert (reply["text"], reply["by"], reply["store"]) == (f"'{EVIL}\nline two", "Mio", "S1")
    (alert,) = table(run("export", "alerts", "--store", "s1")[1])
    assert alert["fields"] == "sku=6901; on_hand=2"
    (receipt,) = table(run("export", "receipts", "--region", "west", "--since", "1d")[1])
    assert (receipt["state"], receipt["code"], receipt["reason"]) == ("cannot", "no_key", "locked")
    assert table(run("export", "receipts", "--until", "1d")[1]) == []
    arrivals = [
        json.loads(one) for one in run("export", "arrivals", "--format", "jsonl")[1].splitlines()
    ]
    assert [one["kind"] for one in arrivals] == ["reply", "alert", "receipt", "reply"]
    assert arrivals[0]["data"]["text"] == f"{EVIL}\nline two"
    deliveries = table(run("export", "deliveries", directive[:8])[1])
    states = {row["store"]: (row["state"], row["open"], row["reason"]) for row in deliveries}
    assert states["S4"] == ("cannot", "no", "locked")
    assert states["S5"] == ("pending", "yes", "")
    assert len(deliveries) == 5
    assert len(table(run("export", "deliveries", directive, "--region", "East")[1])) == 2
    (one,) = table(run("export", "directives")[1])
    assert (one["id"], one["mailboxes"], one["cannot"], one["open"]) == (directive, "5", "1", "4")
    file = tmp_path / "audit.csv"
    assert run("export", "audit", "--to", str(file), "--bom")[0] == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith(BOM)
    assert [row["action"] for row in table(text.removeprefix(BOM))][-1] == "publish"


def test_tables_of_many_batches_have_every_row_once(run: Run, field: Field, tmp_path: Path) -> None:
    """Also where most rows are of somebody else, and where the last batch is just full."""
    field.say("S1", Alert(alert="incident"))
    field.say("S2", Alert(alert="incident"))
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        (devices,) = connection.execute("SELECT json_group_array(no) FROM device").fetchall()[0]
        for number in range(1498):
            connection.execute(
                "INSERT INTO arrival (device_no, id, kind, said_at, received_at, data)"
                " VALUES (?, ?, 'alert', 0, ?, ?)",
                (
                    json.loads(devices)[number % 7 == 0],
                    number.to_bytes(16, "big"),
                    float(number),
                    b'{"alert":"\\ud800"}',
                ),
            )
    file = tmp_path / "alerts.jsonl"
    assert run("export", "alerts", "--to", str(file))[0] == 0
    rows = [json.loads(one) for one in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == 1500
    assert len(table(run("export", "alerts", "--store", "S2")[1])) == 215


def test_a_file_is_there_completely_or_not_at_all(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk leaves the older one, and nothing beside it; head office's own are refused."""
    file = tmp_path / "out" / "a.csv"
    assert run("export", "audit", "--to", str(file))[0] == 1
    file.parent.mkdir()
    file.write_text("older")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, out, errors = run("export", "audit", "--to", str(file))
    assert (code, out) == (1, "")
    assert "No space left" in errors
    assert [one.name for one in file.parent.iterdir()] == ["a.csv"]
    assert file.read_text() == "older"
    for name in ("ledger.db", "hq.toml"):
        assert run("export", "audit", "--to", str(home / name))[0] == 2
    assert run("export", "audit", "--format", "jsonl", "--bom")[0] == 2
    assert run("export", "deliveries", "ffff")[0] == 1
    assert run("export", "replies", "--since", "yesteryear")[0] == 2
