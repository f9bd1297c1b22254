"""HQ's home: made once, changed with care, refused where it cannot be."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from buskit.locks import FileLock
from hqconsole.commands.main import main
from hqconsole.home import (
    HUB_LOCK_NAME,
    HqSettings,
    SettingsError,
    hub_state,
    parse_settings,
    read_hq_settings,
)
from tests.hq_console.conftest import Run


def test_init_makes_a_home_and_said_again_changes_only_what_is_given(
    run: Run, tmp_path: Path
) -> None:
    """The second call leaves the first one's settings as they are."""
    assert run("init", "--broker", "mqtt://a:1", "--broker", "ws://b/x")[0] == 0
    assert run("init", "--timezone", "asia/tokyo", "--root", "chain/bus")[0] == 0
    assert read_hq_settings(tmp_path / "hq") == HqSettings(
        timezone="Asia/Tokyo", brokers=("mqtt://a:1", "ws://b/x"), root="chain/bus"
    )
    assert (tmp_path / "hq").stat().st_mode & 0o077 == 0


def test_init_does_not_make_a_lost_ledger_anew(run: Run, home: Path) -> None:
    """A head office without its ledger has lost its disk; that must not go by unseen."""
    (home / "ledger.db").unlink()
    code, _, errors = run("init", "--timezone", "UTC")
    assert code == 1
    assert "there is nothing left of it" in errors
    assert "hq restore FILE" in errors


def test_a_new_home_takes_the_keys_of_one_that_lost_its_ledger(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """Without any backup, devices go on trusting the keys that they know."""
    shutil.copytree(home / "keys", tmp_path / "new" / "keys")
    code, _, errors = run("init", "--home", str(tmp_path / "new"))
    assert (code, "recovery key" in errors) == (0, False)
    assert (tmp_path / "new" / "keys" / "chain.json").read_bytes() == (
        home / "keys" / "chain.json"
    ).read_bytes()


@pytest.mark.parametrize("words", [["--broker", "http://x"], ["--timezone", "Nowhere/Land"]])
def test_init_refuses_what_cannot_be_before_it_makes_anything(
    run: Run, tmp_path: Path, words: list[str]
) -> None:
    """A wrong word is a wrong use, with a hint, and leaves no home behind."""
    code, out, errors = run("init", *words)
    assert (code, out) == (2, "")
    assert "hint:" in errors
    assert not (tmp_path / "hq").exists()


def test_every_reader_says_how_to_make_a_home_that_is_missing(run: Run) -> None:
    """No home is no stack trace, but the command that makes one."""
    verbs = ("status", "stores", "alerts", "replies", "reports", "quarantine", "incidents")
    groups = ("device list", "tool list", "key list", "key export")
    for verb in (*verbs, *groups, "verify", "audit", "evidence abcd"):
        code, out, errors = run(*verb.split())
        assert (code, out) == (1, ""), verb
        assert "hint: hq init" in errors


@pytest.mark.parametrize(
    "raw",
    [
        {"brokrs": []},
        {"brokers": []},
        {"brokers": "mqtt://x"},
        {"link": 3},
        {"link": {"qos": 2}},
        {"link": {"keepalive_seconds": 0}},
        {"timezone": 3},
    ],
)
def test_settings_that_cannot_be_are_refused(raw: dict[str, object]) -> None:
    """Each is an error that names the setting."""
    with pytest.raises(SettingsError):
        parse_settings(raw)


def test_brokers_of_the_environment_stand_in_for_those_of_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the supervisor tells its hub where the broker really listens."""
    monkeypatch.setenv("STOREBUS_HQ_BROKERS", "mqtt://a:1 ws://b/x")
    assert read_hq_settings(home).brokers == ("mqtt://a:1", "ws://b/x")


def test_whether_a_hub_runs_is_told_by_its_lock(home: Path) -> None:
    """A free lock, or none, means that no hub runs."""
    assert not hub_state(home).running
    lock = FileLock(home / HUB_LOCK_NAME)
    lock.acquire()
    assert hub_state(home).running
    lock.release()
    assert not hub_state(home).running
    lock.close()


def _verbs(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _verbs(command, *path, name)


def test_every_help_can_be_read_and_those_that_matter_have_examples(run: Run) -> None:
    """Examples stand on lines of their own, as they are typed."""
    trust = {"device", "key", "tool", "tls", "verify", "evidence", "audit"}
    reading = {"status", "who", "why", "cannot", "search", "board", "handover", "stores"}
    saying = {"publish", "submit", "approve", "deny", "revise", "schedule", "pause", "resume"}
    saying |= {"stop", "remind", "remove", "cancel", "replies", "alerts"}
    for path, _ in _verbs(main):
        code, out, _ = run(*path, "--help")
        assert code == 0
        assert "\\b" not in out, path
        assert "\b" not in out, path
        if path[0] in trust | reading | saying:
            lines = out.splitlines()
            after = next((n for n, line in enumerate(lines) if "Example" in line), None)
            assert after is not None, path
            assert lines[after + 1].strip().startswith(("hq ", "storeagent ")), path


def test_help_names_every_verb_and_imports_none(run: Run) -> None:
    """A verb that is only just listed cannot break the list."""
    code, out, _ = run("--help")
    assert code == 0
    for verb in ("publish", "who", "roster", "restore", "tail", "demo", "incidents"):
        assert verb in out
