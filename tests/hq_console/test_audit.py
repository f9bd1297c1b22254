"""`hq audit`: every command that changes something leaves a row, chained to the one before."""

import json
from pathlib import Path

import pytest

from hqconsole.ledger import audit
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def test_each_command_that_writes_leaves_a_row(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With operator, origin and what changed, in the order in which it was done."""
    monkeypatch.setenv("STOREBUS_OPERATOR", "Ana Lima")
    monkeypatch.setenv("SSH_CLIENT", "10.0.0.7 5555 22")
    issued = json.loads(run("publish", "Pull it", "--all", "--json")[1])["id"]
    assert run("cancel", issued, "--reason", "wrong lot")[0] == 0
    assert run("tool", "add", "dash")[0] == 0
    assert run("tool", "revoke", "dash")[0] == 0
    assert run("key", "rotate", "--overlap", "0")[0] == 0
    recovery = str(home / "keys" / "recovery.key")
    assert run("key", "recover", "--recovery-key", recovery)[0] == 0
    assert run("init", "--timezone", "Asia/Tokyo")[0] == 0
    assert run("backup", str(tmp_path / "copy"))[0] == 0
    assert run("restore", str(tmp_path / "copy"), "--yes")[0] == 0
    rows = json.loads(run("audit", "--json")[1])
    assert [row["action"] for row in rows] == [
        *("init", "roster import", "publish", "cancel", "tool add", "tool revoke"),
        *("key rotate", "key recover", "settings", "backup", "restore"),
    ]
    assert rows[2]["operator"] == "Ana Lima"
    assert rows[2]["origin"].endswith("from 10.0.0.7")
    assert rows[2]["detail"]["directive"] == rows[3]["detail"]["directive"] == issued
    assert rows[3]["detail"]["reason"] == "wrong lot"
    assert rows[4]["detail"] == {"tool": "dash", "reads": ["storebus/v1/#"], "replaced": False}


def test_settings_are_kept_without_passwords(run: Run, home: Path) -> None:
    """What did not change leaves no row; a password never stands in one."""
    before = run("audit", "--json")
    assert run("init")[0] == 0
    assert run("init", "--timezone", "UTC")[0] == 0
    assert run("audit", "--json") == before
    settings = home / "hq.toml"
    settings.write_text(settings.read_text() + '\n[link]\npassword = "secret"\n')
    assert run("init", "--root", "other/bus", "--timezone", "Asia/Tokyo")[0] == 0
    row = json.loads(run("audit", "--json", "-n", "1")[1])[0]
    assert row["action"] == "settings"
    assert row["detail"] == {
        "timezone": "Asia/Tokyo",
        "link": {"password": "...", "root": "other/bus"},
    }


def test_a_dry_run_or_a_refused_command_leaves_none(run: Run, home: Path) -> None:
    """What did not happen was not done by anybody."""
    before = run("audit", "--json")
    assert run("publish", "x", "--all", "--dry-run")[0] == 0
    assert run("publish", "x", "--store", "S99")[0] != 0
    assert run("cancel", "abcdef")[0] == 1
    assert run("tool", "revoke", "none")[0] == 1
    assert run("tool", "add", "x", "--reads", "a/#/b")[0] == 1
    assert run("key", "recover", "--recovery-key", str(home / "ledger.db"))[0] == 1
    assert run("audit", "--json") == before


def test_it_is_found_by_operator_action_and_time(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action's first word stands for all of its verbs."""
    monkeypatch.setenv("STOREBUS_OPERATOR", "bob")
    run("tool", "add", "one")
    run("tool", "revoke", "one")

    def actions(*words: str) -> list[str]:
        return [row["action"] for row in json.loads(run("audit", "--json", *words)[1])]

    assert actions("--by", "bob") == ["tool add", "tool revoke"]
    assert actions("--action", "tool") == ["tool add", "tool revoke"]
    assert actions("--action", "tool add") == ["tool add"]
    assert actions("--action", "too") == []
    assert actions("-n", "1") == ["tool revoke"]
    assert len(actions("--since", "5 minutes")) == 4
    assert len(actions("--since", "2020-01-01")) == 4
    assert actions("--since", "2999-01-01 08:00") == []
    for words in ("nonsense", "5 months", "-3d"):
        code, _, errors = run("audit", "--since", words)
        assert (code, "no moment" in errors) == (2, True), words
    assert "tool=one" in run("audit")[1]


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE audit SET operator = 'nobody' WHERE no = 2",
        "UPDATE audit SET detail = '{}' WHERE no = 2",
        "UPDATE audit SET at = at + 1 WHERE no = 1",
        "UPDATE audit SET origin = '' WHERE no = 3",
        "UPDATE audit SET action = 'audit' WHERE no = 3",
        "UPDATE audit SET hash = '' WHERE no = 4",
        "DELETE FROM audit WHERE no = 2",
        (
            "INSERT INTO audit SELECT 99, at, operator, origin, action, detail, hash FROM audit"
            " WHERE no = 2"
        ),
    ],
)
def test_a_row_that_was_altered_taken_out_or_put_in_shows(run: Run, home: Path, harm: str) -> None:
    """`hq verify` names the place, and exits with 1."""
    for name in ("one", "two"):
        run("tool", "add", name)
    assert run("verify")[0] == 0
    with open_ledger(home) as ledger, ledger.write() as connection:
        connection.execute(harm)
    code, out, _ = run("verify", "--json")
    problem = json.loads(out)["problem"]
    assert (code, problem["kind"]) == (1, "audit")
    assert "audit row" in problem["what"]
    assert run("audit")[0] == 0


def test_what_the_environment_says_cannot_break_it(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that are no text, or far too long, are kept as far as they can be."""
    monkeypatch.setenv("STOREBUS_OPERATOR", "\udcff" + "x" * 5000)
    assert run("tool", "add", "one")[0] == 0
    row = json.loads(run("audit", "--json", "-n", "1")[1])[0]
    assert row["operator"].startswith("\\udcff")
    assert len(row["operator"]) == 100
    assert run("verify")[0] == 0


def test_the_latest_hash_is_what_verify_prints(run: Run, field: Field) -> None:
    """Who keeps it elsewhere can find it again among the rows."""
    head = json.loads(run("verify", "--json")[1])["audit_head"]
    assert head == json.loads(run("audit", "--json", "-n", "1")[1])[0]["hash"]
    assert head in run("verify")[2]
    with open_ledger(field.home) as ledger:
        assert [row.hash for row in audit.rows(ledger.connection)][-1] == head
