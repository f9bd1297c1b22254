"""`hq escalations`: what was raised once, who is to know, and who has seen it."""

import json
import sqlite3
from pathlib import Path

import pytest

from hqconsole.ledger import escalations
from hqconsole.ledger.opening import open_ledger
from hqconsole.operators import FILE_NAME
from tests.hq_console.conftest import Run

OPERATORS = """\
[operators.ana]
department = "East"
may = "viewer"
manages = ["east"]
[operators.ops]
may = ["escalations"]
regions = ["west"]
"""
RULES = '[{"late_seconds": 86400.0, "to": "region"}]'


def directive(connection: sqlite3.Connection, no: int, title: str, stores: list[str]) -> None:
    """A directive that is open in these stores."""
    connection.execute("INSERT INTO doc (no, kind, data) VALUES (?, 'directive', x'7b7d')", (no,))
    connection.execute(
        "INSERT INTO directive (no, id, doc_no, title, kind, needs, priority, due, issued_at,"
        " issued_by, state, mailboxes, digest) VALUES"
        " (?, ?, ?, ?, 'task', 'done', 'normal', '2026-11-27T18:00', 1, 'x', 'issued', 1, '')",
        (no, f"{no:032x}", no, title),
    )
    connection.execute(
        "INSERT INTO plan (directive_no, selector, author, written_at, escalate)"
        " VALUES (?, '{}', 'x', 1, ?)",
        (no, RULES),
    )
    for store in stores:
        connection.execute(
            "INSERT INTO delivery (directive_no, mailbox_no, state, open)"
            " SELECT ?, mailbox.no, 0, 1 FROM mailbox JOIN store ON store.no = store_no"
            " WHERE store.id = ? ORDER BY mailbox.no LIMIT 1",
            (no, store),
        )


@pytest.fixture
def late(home: Path) -> Path:
    """A home where two directives are late in the east and one in the west."""
    with open_ledger(home) as ledger, ledger.write() as connection:
        directive(connection, 1, "Shelf labels", ["S1", "S3"])
        directive(connection, 2, "Window", ["S2"])
        for no, region, zone, mailboxes in (
            (1, "east", "Asia/Tokyo", 2),
            (1, "west", "Europe/Lisbon", 3),
            (2, "east", "Asia/Tokyo", 1),
        ):
            for again in range(2):
                new = escalations.raise_(
                    connection,
                    no,
                    rule=0,
                    timezone=zone,
                    region=region,
                    mailboxes=mailboxes + again,
                    at=100.0 + no + again,
                )
                assert new is (again == 0)
    (home / FILE_NAME).write_text(OPERATORS, encoding="utf-8")
    return home


def shown(run: Run, *words: str) -> list[dict[str, object]]:
    """The escalations as programs see them."""
    code, out, errors = run("escalations", "--json", *words)
    assert code == 0, errors
    found: list[dict[str, object]] = json.loads(out)
    return found


def test_each_is_raised_once_and_says_what_is_open_now(run: Run, late: Path) -> None:
    """However often the hub comes to it; the latest first, with whom it goes to."""
    found = shown(run)
    assert [(row["no"], row["title"], row["region"]) for row in found] == [
        (3, "Window", "east"),
        (2, "Shelf labels", "west"),
        (1, "Shelf labels", "east"),
    ]
    assert [(row["mailboxes"], row["open"]) for row in found] == [(1, 1), (3, 1), (2, 1)]
    assert found[0]["managers"] == ["ana"]
    assert (found[0]["late_seconds"], found[0]["at"]) == (86_400.0, 102.0)
    assert "24h" in run("escalations")[1]
    assert [row["no"] for row in shown(run, "--region", "west")] == [2]
    code, _, errors = run("escalations", "--region", "eats")
    assert (code, "did you mean east?" in errors) == (1, True)


def test_the_manager_of_a_region_sees_to_it(
    run: Run, late: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs without a right; others take the right; what was seen first stays so."""
    monkeypatch.setenv("STOREBUS_OPERATOR", "ana")
    assert [row["no"] for row in shown(run, "--mine")] == [3, 1]
    assert run("escalations", "--seen", "1,2")[0] == 1
    assert len(shown(run)) == 3
    assert run("escalations", "--mine", "--seen", "all")[0] == 0
    last = json.loads(run("audit", "--json", "-n", "1")[1])[0]
    assert (last["action"], last["detail"]) == (
        "escalation seen",
        {"escalations": [1, 3], "department": "East"},
    )
    monkeypatch.setenv("STOREBUS_OPERATOR", "ops")
    code, _, errors = run("escalations", "--mine")
    assert (code, "ops manages no region" in errors) == (1, True)
    assert run("escalations", "--seen", "1")[0] == 1
    assert run("escalations", "--seen", "2")[0] == 0
    assert run("escalations", "--seen", "x")[0] == 2
    assert shown(run) == []
    everything = shown(run, "--all")
    assert [(row["no"], row["seen_by"]) for row in everything] == [
        (3, "ana"),
        (2, "ops"),
        (1, "ana"),
    ]
    assert [row["no"] for row in shown(run, "--all", "-n", "1")] == [3]


def test_the_list_reads_no_more_than_it_shows() -> None:
    """What was not seen has an index of its own; open work is counted by its directive's."""
    with open_ledger(None, create=True) as ledger:
        unseen = escalations.UNSEEN.format(seen="NULL", where="AND escalation.region IN (?)")
        plan, counted = (
            [row[3] for row in ledger.connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
            for query, values in ((unseen, ("east", 10)), (escalations.OPEN, (1,)))
        )
    assert "escalation_unseen" in plan[0]
    assert not [step for step in plan if step.startswith("SCAN")]
    assert "delivery_open_of" in counted[0]
    assert not [step for step in counted if step.startswith("SCAN")]
