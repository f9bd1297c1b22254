"""`hq key` and `hq tool`: head office's own keys, and programs that listen."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from buswire.access import token_hash
from buswire.trust import Trust, Trusted
from hqconsole.access_file import render
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import Run


def keys(run: Run) -> list[dict[str, Any]]:
    """`hq key list` as programs see it."""
    found: list[dict[str, Any]] = json.loads(run("key", "list", "--json")[1])["keys"]
    return found


def test_init_makes_keys_and_says_where_the_recovery_key_lies(run: Run, tmp_path: Path) -> None:
    """For its owner only; the person is told to move it, and what comes next."""
    code, out, errors = run("init")
    assert (code, out) == (0, "")
    recovery = tmp_path / "hq" / "keys" / "recovery.key"
    assert str(recovery) in errors
    assert "offline" in errors
    places = [errors.index(step) for step in ("roster import", "device add", "hq up", "join")]
    assert places == sorted(places)
    for path in (recovery, tmp_path / "hq" / "hub.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "hq" / "access.json").exists()
    (key,) = keys(run)
    assert (key["epoch"], key["number"], key["signs"], key["trusted"]) == (1, 1, True, True)
    assert run("init", "--timezone", "UTC")[2].count("\n") == 1
    assert keys(run) == [key]


def test_init_does_not_make_lost_keys_anew(run: Run, home: Path) -> None:
    """Devices would not believe new ones; it says what to do instead."""
    (home / "keys" / "chain.json").rename(home / "moved")
    code, _, errors = run("init", "--timezone", "UTC")
    assert code == 1
    assert "no keys" in errors
    assert "backup" in errors
    assert not (home / "keys" / "chain.json").exists()


def test_a_rotation_overlaps_and_the_next_one_waits_for_it(run: Run, home: Path) -> None:
    """Both keys are trusted meanwhile; the old one signs until the new one does."""
    code, _, errors = run("key", "rotate", "--overlap", "2h")
    assert code == 0
    first, second = keys(run)
    assert (first["signs"], second["signs"]) == (True, False)
    assert first["trusted"]
    assert second["trusted"]
    assert second["announced_by"] == "rotation"
    assert second["fingerprint"] in errors
    assert 7000 < second["signs_at"] - first["signs_at"] < 7400
    code, _, errors = run("key", "rotate")
    assert code == 1
    assert "hint:" in errors
    assert len(keys(run)) == 2
    assert "announced, will sign" in run("key", "list")[1]
    for span in ("soon", "-1h", "1y", ""):
        assert run("key", "rotate", "--overlap", span)[0] == 2, span


def test_a_recovery_leaves_one_key_and_says_what_counts(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """Lost or stolen; with another head office's recovery key it is refused."""
    recovery = tmp_path / "recovery.key"
    (home / "keys" / "recovery.key").rename(recovery)
    assert "recovery key lies" not in run("key", "list")[2]
    assert run("key", "recover", "--recovery-key", str(recovery))[0] == 0
    assert [key["trusted"] for key in keys(run)] == [False, True]
    assert keys(run)[0]["stolen_at"] is None
    code, _, errors = run("key", "recover", "--recovery-key", str(recovery), "--stolen")
    assert code == 0
    assert "counts for nothing" in errors
    assert [key["stolen_at"] is None for key in keys(run)] == [False, False, True]
    assert "declared stolen" in run("key", "list")[1]
    other = tmp_path / "other"
    run("init", "--home", str(other))
    for wrong in (other / "keys" / "recovery.key", tmp_path / "missing", home / "hq.toml"):
        code, _, errors = run("key", "recover", "--recovery-key", str(wrong))
        assert code == 1, wrong
        assert "error:" in errors
    recovery.chmod(0o644)
    assert "chmod 600" in run("key", "recover", "--recovery-key", str(recovery))[2]
    assert len(keys(run)) == 3
    assert run("key", "recover")[0] == 2


def test_what_is_exported_is_what_devices_pin(run: Run, home: Path) -> None:
    """One line of JSON on standard output, which follows the chain to its end."""
    run("key", "rotate", "--overlap", "0")
    code, out, errors = run("key", "export")
    assert (code, errors, out.count("\n")) == (0, "", 1)
    trust = Trust(msgspec.json.decode(out, type=Trusted))
    assert trust.newest == keys(run)[1]["id"]


def test_a_tool_gets_a_token_once_and_hears_what_it_may(run: Run, home: Path) -> None:
    """Its hash is in the access file; a second call voids the first token."""
    made = json.loads(run("tool", "add", "dash", "--reads", "from/+/+", "--json")[1])
    assert made["reads"] == ["storebus/v1/from/+/+"]
    assert made["user"] == "tool/dash"
    with open_ledger(home) as ledger:
        tool = render(ledger, 2e9, root="storebus/v1")[0].tools["tool/dash"]
        assert made["token"].encode() not in ledger.serialize()
    assert tool.tokens == [token_hash(made["token"])]
    code, out, errors = run("tool", "add", "dash", "--reads", "storebus/v1/down/#")
    assert code == 0
    assert "is void" in errors
    token = next(line.split()[-1] for line in out.splitlines() if line.startswith("password"))
    assert token != made["token"]
    assert f"mosquitto_sub -h 127.0.0.1 -p 1883 -v -i tool/dash -u tool/dash -P {token}" in errors
    with open_ledger(home) as ledger:
        tool = render(ledger, 2e9, root="storebus/v1")[0].tools["tool/dash"]
    assert (tool.tokens, tool.reads) == ([token_hash(token)], ["storebus/v1/down/#"])
    assert run("tool", "revoke", "dash")[0] == 0
    with open_ledger(home) as ledger:
        assert render(ledger, 2e9, root="storebus/v1")[0].tools == {}
    (row,) = json.loads(run("tool", "list", "--json")[1])
    assert row["revoked_at"] > row["made_at"]


@pytest.mark.parametrize("reads", ["a/#/b", "a+", "#a", "a/b#", "", "x\0y", "x" * 70_000])
def test_a_filter_that_is_none_is_refused(run: Run, home: Path, reads: str) -> None:
    """With examples of what is one; nobody is let in."""
    code, _, errors = run("tool", "add", "dash", "--reads", reads)
    assert code == 1
    assert "hint:" in errors
    assert json.loads(run("tool", "list", "--json")[1]) == []


def test_a_tool_has_a_name_that_can_be_one(run: Run, home: Path) -> None:
    """It stands in user names."""
    for name in ("a/b", "", "a.b", "+"):
        assert run("tool", "add", name)[0] == 1, name


def test_an_encrypted_broker_is_tried_with_the_private_ca(run: Run, home: Path) -> None:
    """And a WebSocket address is passed over for one of MQTT."""
    run("init", "--broker", "wss://bus.example.com", "--broker", "mqtts://bus.example.com")
    errors = run("tool", "add", "dash")[2]
    assert "-h bus.example.com -p 8883" in errors
    assert "--cafile" in errors
