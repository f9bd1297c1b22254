"""`docs/cli-json.md` names the very fields that `--json` writes, in each command."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hqconsole.commands.main import main as hq_main
from hqconsole.ledger.directives import find
from hqconsole.ledger.escalations import raise_
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.troubles import put_aside, record_incident
from hqconsole.operators import FILE_NAME as OPERATORS
from storeagent.main import main as agent_main
from tests.contract.conftest import Chain
from tests.contract.markdown import Section, sections, words

PAGE = "docs/cli-json.md"
COMMANDS = sections(PAGE, 2)


def _fields(section: Section, table: int = 0) -> set[str]:
    """The fields of one of its tables."""
    heading, *rows = section.tables()[table]
    assert heading == ["field", "what"], section.title
    assert all(what for _, what in rows), section.title
    return {words(field)[0] for field, _ in rows}


def raise_escalation(home: Path, directive: str) -> None:
    """As the hub does it when the work of a region is late."""
    with open_ledger(home) as ledger, ledger.write() as connection:
        no = find(connection, directive)
        raise_(connection, no, rule=0, timezone="UTC", region="east", mailboxes=1, at=1.0)


def test_the_json_of_every_reader_is_the_one_described(chain: Chain, tmp_path: Path) -> None:
    """After a day of a small chain each command has the fields of the page, no more, no less."""
    written: dict[str, Any] = {}
    written["hq publish"] = chain.hq("publish", "Labels", "--all", "--role", "manager", "--json")
    planned = chain.hq("publish", "Never", "--all", "--dry-run", "--json")
    chain.carry()
    written["storeagent inbox"] = chain.device("inbox", "--json")
    written["storeagent show"] = chain.device("show", "1", "--json")
    chain.device("reply", "1", "which?")
    refused = chain.hq("publish", "Paint", "--all", "--kind", "task", "--json")["id"]
    chain.carry()
    chain.device("cannot", refused, "--code", "no-material", "--reason", "no paint")
    alert = ("alert", "incident", "--what", "leak", "--json")
    written["storeagent alert"] = chain.device(*alert)
    (tmp_path / "sales.csv").write_text("sku,sold\n1,2\n", encoding="utf-8")
    sales = ("report", "sales", str(tmp_path / "sales.csv"), "--json")
    written["storeagent report"] = chain.device(*sales)
    chain.carry()
    with open_ledger(chain.hq_home) as ledger, ledger.write() as connection:
        put_aside(connection, source="somewhere", reason="odd", payload=b"?", at=1.0)
        record_incident(connection, "restored", at=1.0, device_no=None)
    chain.hq("tls", "init")
    chain.hq("audience", "save", "pilots", "--store", "S1")
    directive = written["hq publish"]["id"]
    raise_escalation(chain.hq_home, directive)
    (chain.hq_home / OPERATORS).write_text("[operators.x]\nmay = 'admin'\n", encoding="utf-8")
    operators = chain.hq("operators", "--json")
    (chain.hq_home / OPERATORS).unlink()
    written |= {
        "storeagent status": chain.device("status", "--json"),
        "hq status": chain.hq("status", "--json"),
        "hq status ID": chain.hq("status", directive, "--json"),
        "hq who": chain.hq("who", directive, "--json"),
        "hq why": chain.hq("why", "S1", directive, "--json"),
        "hq cannot": chain.hq("cannot", refused, "--json"),
        "hq replies": chain.hq("replies", "--json"),
        "hq alerts": chain.hq("alerts", "--json"),
        "hq reports": chain.hq("reports", "--json"),
        "hq reports NO": chain.hq("reports", "1", "--json"),
        "hq tail": chain.hq("tail", "--from", "start", "--no-follow", "--json"),
        "hq stores": chain.hq("stores", "--json"),
        "hq roster show": chain.hq("roster", "show", "--json"),
        "hq roster columns": chain.hq("roster", "columns", "--json"),
        "hq audience list": chain.hq("audience", "list", "--json"),
        "hq audience show": chain.hq("audience", "show", "pilots", "--json"),
        "hq roster devices": chain.hq("roster", "devices", "--json"),
        "hq roster import": chain.hq("roster", "import", str(tmp_path / "stores.csv"), "--json"),
        "hq quarantine": chain.hq("quarantine", "--json"),
        "hq incidents": chain.hq("incidents", "--json"),
        "hq device list": chain.hq("device", "list", "--json"),
        "hq key list": chain.hq("key", "list", "--json"),
        "hq tool add": chain.hq("tool", "add", "dash", "--json"),
        "hq tool list": chain.hq("tool", "list", "--json"),
        "hq verify": chain.hq("verify", "--json"),
        "hq audit": chain.hq("audit", "--json"),
        "hq archive": chain.hq("archive", "--older-than", "400d", "--dry-run", "--json"),
        "storeagent join": chain.device("join", str(tmp_path / "bundle"), "--json"),
        "hq tls show": chain.hq("tls", "show", "--json"),
        "hq operators": operators,
        "hq kinds": chain.hq("kinds", "--json"),
        "hq escalations": chain.hq("escalations", "--json"),
        "hq search": chain.hq("search", "labels OR leak", "--json"),
        "hq board": chain.hq("board", "--once", "--json"),
        "hq handover": chain.hq("handover", "S1", "manager", "--json"),
    }
    assert written.keys() == COMMANDS.keys()
    first = {
        command: (found[0] if isinstance(found, list) else found).keys()
        for command, found in written.items()
    }
    expected = {command: _fields(section) for command, section in COMMANDS.items()}
    expected["storeagent show"] |= expected["storeagent inbox"]
    expected["hq audience show"] |= expected["hq audience list"]
    expected["hq status ID"] |= _fields(COMMANDS["hq status"], 1)
    for command, keys in first.items():
        assert keys == expected[command], command
    assert planned.keys() == _fields(COMMANDS["hq publish"]) - {"id", "short_id", "state"}
    assert written["hq status"]["directives"][0].keys() == _fields(COMMANDS["hq status"], 1)
    for command, items in (
        ("hq operators", "operators"),
        ("hq kinds", "kinds"),
        ("hq board", "directives"),
        ("hq handover", "open"),
    ):
        assert written[command][items][0].keys() == _fields(COMMANDS[command], 1)
    assert written["hq key list"]["keys"][0].keys() == _fields(COMMANDS["hq key list"], 1)


@pytest.mark.parametrize(
    ("command", "field", "path"),
    [
        ("storeagent status", "daemon", ("daemon",)),
        ("storeagent status", "backlog", ("backlog", "act")),
        ("hq status", "asking", ("asking",)),
    ],
)
def test_what_stands_inside_a_field_is_described_too(
    chain: Chain, command: str, field: str, path: tuple[str, ...]
) -> None:
    """The names in its description are the keys."""
    run = chain.device if command.startswith("storeagent") else chain.hq
    found = run(*command.split()[1:], "--json")
    for step in path:
        found = found[step]
    (described,) = [
        what for name, what in COMMANDS[command].tables()[0][1:] if words(name) == [field]
    ]
    assert found.keys() <= set(words(described)), described


def test_no_reader_is_left_out() -> None:
    """Every command with `--json` has its chapter, also those to come."""
    import click

    def readers(group: click.Group, path: str) -> set[str]:
        found: set[str] = set()
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            assert command is not None
            if any(parameter.name == "as_json" for parameter in command.params):
                found.add(f"{path} {name}")
            if isinstance(command, click.Group) and name != "alert":
                found |= readers(command, f"{path} {name}")
        return found

    there = readers(hq_main, "hq") | readers(agent_main, "storeagent") | {"storeagent alert"}
    assert there == {re.sub(r" [A-Z]+$", "", title) for title in COMMANDS}


def test_the_json_is_one_value_on_standard_output(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words for people are on the other stream, so that a pipe into jq works."""
    assert hq_main.run(["publish", "x", "--all", "--json", "--home", str(chain.hq_home)]) == 0
    assert json.loads(capsys.readouterr().out)["mailboxes"] == 2
