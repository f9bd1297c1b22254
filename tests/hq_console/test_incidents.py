"""`hq incidents` and `hq quarantine` say what happened, to whom, and what to do about it."""

import json
import time
from typing import Any

import pytest

from buskit.secrets import new_seed
from buswire import frame
from buswire.messages import Receipt, Records
from buswire.signing import SigningKey
from buswire.states import State
from buswire.topics import Topics
from hqconsole import incidents
from hqconsole.desk import Heard
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.troubles import record_incident
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def shown(run: Run, *words: str) -> list[dict[str, Any]]:
    """`hq incidents` as programs see it."""
    found: list[dict[str, Any]] = json.loads(run("incidents", "--json", *words)[1])
    return found


def test_a_forged_message_is_an_incident_and_its_payload_is_kept(run: Run, field: Field) -> None:
    """Signed with a key of nobody's, on a device's topic; the sentence says so, and how often."""
    field.device("S1")
    topic = Topics().from_(next(iter(field.devices)))
    message = Records(log="act", after=[0, ""], records=[])  # type: ignore[arg-type]
    for _ in range(10):
        forged = frame.encode(message, topic, SigningKey(new_seed()))
        field.hub(Heard(topic, forged))
    first, tenth = shown(run, "--kind", "forged")
    assert (first["store"], first["device"], first["detail"]["times"]) == ("S1", "till-1", 1)
    assert tenth["detail"]["times"] == 10
    out, errors = run("incidents")[1:]
    assert "signed with another key than the device's" in out
    assert "10 times by now" in out
    assert "if it grows" in errors
    (row,) = json.loads(run("quarantine", "--json", "--from", "S1/till-1")[1])
    assert row["times"] == 10
    line = run("quarantine")[1].splitlines()[1]
    assert '… {"kind":"records"' in line
    assert json.loads(run("quarantine", "--json", "--from", "S2")[1]) == []


def test_strangers_and_roles_that_are_not_its_own_are_told(run: Run, field: Field) -> None:
    """Who was never added, and who answers for others."""
    directive = json.loads(run("publish", "x", "--all", "--role", "manager", "--json")[1])["id"]
    field.device("S1", roles=("clerk",))
    field.say("S1", Receipt(directive=directive, role="manager", state=State.DONE))
    topic = Topics().root + "/from/S2/ghost"
    field.hub(Heard(topic, b"anything"))
    kinds = {row["kind"]: row for row in shown(run)}
    assert kinds.keys() == {"not its role", "not a device"}
    out, errors = run("incidents")[1:]
    assert "it answered for manager, which it never served" in out
    assert "a device that nobody added (from/S2/*)" in out
    assert "hq device add" in errors


def test_a_cloned_device_names_both_machines(run: Run, field: Field) -> None:
    """With their runs and when each was heard."""
    runs = (field.device("S1").run, "ab" * 16)
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        record_incident(
            connection,
            "cloned device",
            at=time.time(),
            device_no=1,
            runs=[
                {"run": runs[0], "machine": "PC-1", "heard_at": 1.0},
                {"run": runs[1], "machine": "", "heard_at": 2.0},
            ],
        )
    out, errors = run("incidents", "--kind", "cloned device")[1:]
    assert f"on PC-1 (run {runs[0][:8]}" in out
    assert "on a machine without a name (run abababab" in out
    assert "identity of its own" in errors


def test_what_was_acknowledged_is_no_longer_open(run: Run, field: Field) -> None:
    """By number or all at once; who knows of it stands beside, and in the audit."""
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        for number in range(4):
            record_incident(connection, "forged", at=float(number), device_no=None)
    assert run("incidents", "--acknowledge", "2", "--acknowledge", "3")[0] == 0
    assert [row["no"] for row in shown(run, "--open")] == [1, 4]
    known = shown(run)[1]
    assert known["acknowledged_at"] > 0
    assert known["acknowledged_by"]
    assert run("incidents", "--acknowledge", "2")[0] == 1
    assert run("incidents", "--acknowledge", "x")[0] == 2
    assert run("incidents", "--acknowledge", "all")[0] == 0
    assert shown(run, "--open") == []
    rows = json.loads(run("audit", "--action", "incident acknowledge", "--json")[1])
    assert [row["detail"]["incidents"] for row in rows] == [[2, 3], [1, 4]]


@pytest.mark.parametrize(
    ("kind", "detail", "words"),
    [
        (
            "bundle used twice",
            {
                "bundle": "00ff",
                "first": {"machine": "A", "key": "ab" * 16},
                "second": {"machine": "B", "key": "cd" * 16},
            },
            "bundle 00ff: first on A, key abab abab, then on B, key cdcd cdcd",
        ),
        (
            "too much kept",
            {"kept_bytes": 2**31, "allowed_bytes": 2**31},
            "2,048.0 MiB of 2,048.0 MiB are used up",
        ),
        (
            "entries may be lost",
            {"log": "act", "entries": 1200},
            "1,200 entries of act may have died with its disk",
        ),
        ("device trouble", {"what": "refused", "detail": ""}, "refused"),
        ("directive adopted", {"directive": "ab" * 16, "title": "T"}, "it sent back abababab, T"),
        ("restored", {"copy": "c.db", "by": ""}, "from c.db by somebody"),
        ("something new", {"a": 1, "b": "x"}, "a=1 b=x"),
        ("forged", {"odd": True}, "odd=True"),
        ("cloned device", {"runs": []}, "runs=[]"),
        ("forged", "text", "text"),
    ],
)
def test_each_kind_has_its_sentence(kind: str, detail: Any, words: str) -> None:
    """What is not as expected is shown as it is."""
    assert incidents.words(kind, detail) == words
