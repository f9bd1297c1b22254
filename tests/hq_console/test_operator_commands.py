"""Operators at the command line: every verb that changes something asks, and the audit knows."""

import ast
import json
from pathlib import Path

import click
import pytest

from hqconsole.commands.main import main
from hqconsole.home import read_hq_settings
from hqconsole.operators import FILE_NAME
from tests.hq_console.conftest import STORES, Run
from tests.project.sources import tree

FILE = """\
[operators.root]
may = "admin"

[operators.viewer]
department = "Audit"
may = "viewer"

[operators.east]
display_name = "Ana"
department = "IT"
may = ["technician", "publish"]
regions = ["east"]
manages = ["east"]
"""
FREE = {
    "init": "makes a home; of one that is there it asks for the right",
    "backup": "changes nothing in the ledger but the audit, and runs at night by itself",
}
CHANGES = {"write_audit", "write_audit_alone"}
ASKS = {"acting", "acting_on"}
CHANGING = [
    ("settings", "init", "--name", "Other"),
    ("roster", "roster", "import", "{tmp}/other.csv"),
    ("roster", "roster", "assign", "S1", "till", "--all-roles"),
    ("devices", "device", "add", "S1", "till", "-o", "{tmp}/bundle"),
    ("devices", "device", "rotate", "S1.till"),
    ("devices", "device", "confirm", "S1.till", "abcd"),
    ("devices", "device", "revoke", "S1.till"),
    ("devices", "device", "allow", "S1.till", "--bytes", "1"),
    ("keys", "key", "rotate"),
    ("keys", "key", "recover", "--recovery-key", "{home}/keys/recovery.key"),
    ("keys", "tool", "add", "dash"),
    ("keys", "tool", "revoke", "dash"),
    ("keys", "tls", "init"),
    ("keys", "tls", "renew"),
    ("publish", "publish", "x", "--all"),
    ("publish", "audience", "save", "mine", "--all"),
    ("upkeep", "restore", "{tmp}/none", "--yes"),
    ("upkeep", "quarantine", "--retry"),
    ("upkeep", "quarantine", "--drop", "all"),
    ("upkeep", "incidents", "--acknowledge", "all"),
]


@pytest.fixture
def operators(home: Path) -> Path:
    """The file of operators of that home."""
    file = home / FILE_NAME
    file.write_text(FILE, encoding="utf-8")
    return file


def verbs(group: click.Group = main, path: str = "") -> list[tuple[str, click.Command]]:
    """Every verb with its words."""
    found: list[tuple[str, click.Command]] = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        words = f"{path} {name}".strip()
        found += verbs(command, words) if isinstance(command, click.Group) else [(words, command)]
    return found


def names_used(module: str, name: str, known: set[tuple[str, str]]) -> set[str]:
    """What a function or class of the command files names, also by way of others of theirs."""
    if (module, name) in known or module == "hqconsole.commands.common":
        return set()
    known.add((module, name))
    file = tree(f"{module.replace('.', '/')}.py")
    imported = {
        alias.name: str(node.module)
        for node in file.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hqconsole.commands.")
        for alias in node.names
    }
    found: set[str] = set()
    for body in file.body:
        if isinstance(body, ast.FunctionDef | ast.ClassDef) and body.name == name:
            found |= {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
    for other in list(found):
        found |= names_used(imported.get(other, module), other, known)
    return found


def test_every_verb_that_changes_something_asks_for_a_right() -> None:
    """Also verbs to come: what writes to the audit calls `acting` before."""
    changing, lacking = set(), set()
    for words, command in verbs():
        assert command.callback is not None
        callback = command.callback
        names = names_used(callback.__module__, callback.__name__, set())
        if names & CHANGES:
            changing.add(words)
            if not names & ASKS and words not in FREE:
                lacking.add(words)
    assert {words[1] for words in CHANGING} <= {words.partition(" ")[0] for words in changing}
    assert {"publish", "cancel"} <= changing
    assert not lacking, "these change something, and call neither acting nor acting_on"


def audited(run: Run, *words: str) -> list[dict[str, object]]:
    """What the audit has."""
    found: list[dict[str, object]] = json.loads(run("audit", "--json", *words)[1])
    return found


def test_who_may_only_look_changes_nothing_and_is_written_down(
    run: Run, operators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before anything is touched; the audit has command, right and department."""
    (tmp_path / "other.csv").write_text(STORES.replace("One", "Uno"), encoding="utf-8")
    keys = sorted(operators.parent.rglob("*.key"))
    settings = (operators.parent / "hq.toml").read_bytes()
    before = len(audited(run))
    monkeypatch.setenv("STOREBUS_OPERATOR", "viewer")
    for right, *words in CHANGING:
        there = [word.format(tmp=tmp_path, home=operators.parent) for word in words]
        code, _, errors = run(*there)
        assert (code, f"viewer does not have the right {right}" in errors) == (1, True), words
        assert "who could: root" in errors
    rows = audited(run)[before:]
    assert {row["action"] for row in rows} == {"refused"}
    assert [row["detail"]["right"] for row in rows] == [right for right, *_ in CHANGING]  # type: ignore[index]
    assert rows[3]["detail"] == {
        "command": "device add",
        "right": "devices",
        "department": "Audit",
    }
    assert rows[3]["operator"] == "viewer"
    assert sorted(operators.parent.rglob("*.key")) == keys
    assert (operators.parent / "hq.toml").read_bytes() == settings
    assert not list(tmp_path.glob("*bundle*"))
    assert run("verify")[0] == 0


def test_a_region_is_a_border_for_devices_and_for_the_roster(
    run: Run, operators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes elsewhere is refused as a whole; a store that moves is in both regions."""
    monkeypatch.setenv("STOREBUS_OPERATOR", "east")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "new.csv"

    def imported(old: str, new: str) -> tuple[int, str]:
        file.write_text(STORES.replace(old, new), encoding="utf-8")
        code, _, errors = run("roster", "import", str(file))
        return code, errors

    assert run("device", "add", "S1", "till")[0] == 0
    assert audited(run, "-n", "1")[0]["detail"] == {
        "device": "S1.till",
        "roles": "all",
        "department": "IT",
    }
    code, _, errors = run("device", "add", "--all", "office", "--into", "bundles")
    assert (code, "not in west (only east)" in errors) == (1, True)
    assert run("device", "revoke", "S3.till")[0] == 1
    assert imported("One", "Uno")[0] == 0
    assert imported("Three", "Tres")[0] == 1
    assert imported("S2,Two,East", "S2,Two,West")[0] == 1
    assert imported("S5,Five,West", "S5,Five,East")[0] == 1
    assert audited(run, "-n", "1")[0]["detail"] == {
        "command": "roster import",
        "right": "roster",
        "regions": ["west"],
        "department": "IT",
    }


def test_a_broken_file_lets_nobody_change_anything_and_everybody_look(
    run: Run, operators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even who was an admin; the error has the line and the way out."""
    monkeypatch.setenv("STOREBUS_OPERATOR", "root")
    assert run("tool", "add", "one")[0] == 0
    operators.write_text(FILE.replace('may = "admin"', 'may = "admn"'), encoding="utf-8")
    code, _, errors = run("tool", "add", "two")
    assert code == 1
    assert "operators.toml, line 2: root may 'admn'" in errors
    assert "did you mean admin?" in errors
    assert run("operators", "check")[0] == 1
    assert len(json.loads(run("tool", "list", "--json")[1])) == 1
    operators.unlink()
    assert run("tool", "add", "two")[0] == 0


def test_hq_operators_shows_who_may_what(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a file that everyone may everything, and how to write one that is right."""
    _, out, said = run("operators")
    assert (out, "everyone may do everything" in said) == ("", True)
    example = said.partition("[operators.ana]")
    (home / FILE_NAME).write_text("".join(example[1:]), encoding="utf-8")
    monkeypatch.setenv("STOREBUS_OPERATOR", "ana")
    (ana,) = json.loads(run("operators", "--json")[1])["operators"]
    assert (ana["display_name"], ana["you"], ana["regions"]) == ("Ana Li", True, ["east"])
    (home / FILE_NAME).write_text(FILE, encoding="utf-8")
    code, out, said = run("operators", "check")
    assert code == 1
    assert "only look" in out
    assert "you are ana, who is not in the file" in said
    assert "nobody manages west" in said
    monkeypatch.setenv("STOREBUS_OPERATOR", "root")
    (home / FILE_NAME).write_text(FILE.replace('manages = ["east"]', ""), encoding="utf-8")
    code, _, said = run("operators", "check")
    assert (code, "all of it fits" in said) == (0, True)
    assert "approve" in run("operators", "--rights")[1]


def test_kinds_are_shown_as_they_can_be_written(run: Run, home: Path) -> None:
    """What --json says of a rule is how hq.toml takes it; changing a setting keeps them."""
    (home / "hq.toml").write_text(
        (home / "hq.toml").read_text() + '\n[approval]\nabove_mailboxes = 50\nkinds = ["recall"]\n'
        '[kinds.promo]\nreasons = [{ code = "x", text = "y", zh = "海报" }]\n'
        'remind = ["2h before due, 20:00-04:00"]\nexpires_after = "30d"\n',
        encoding="utf-8",
    )
    before = read_hq_settings(home)
    found = json.loads(run("kinds", "--json")[1])
    assert found["approval_above_mailboxes"] == 50
    named = {row["kind"]: row for row in found["kinds"]}
    assert named["promo"]["remind"] == ["2h before due, 20:00-04:00"]
    assert (named["recall"]["approval"], named["task"]["approval"]) == (True, False)
    assert "more than 50 mailboxes" in run("kinds")[2]
    assert run("init", "--name", "Chain")[0] == 0
    after = read_hq_settings(home)
    assert (after.kinds, after.approval, after.name) == (before.kinds, before.approval, "Chain")
