"""`hq tls`: what a person types and reads."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hqconsole.commands.main import main
from hqconsole.tls import tls_files, tls_state

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `hq` with these words in a head office of its own; exit code, output, narration."""
    monkeypatch.setenv("STOREBUS_HQ_HOME", str(tmp_path / "hq"))
    monkeypatch.delenv("STOREBUS_HQ_BROKERS", raising=False)

    def call(*words: str) -> tuple[int, str, str]:
        code = main.run(list(words), "hq")
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    assert call("init")[0] == 0
    return call


def test_from_nothing_to_a_broker_that_stores_can_trust(run: Run, tmp_path: Path) -> None:
    """Each step says the next, and the last one says no more than that it is right."""
    code, out, said = run("tls", "show")
    assert (code, out) == (1, "")
    assert "hint: hq tls init --host" in said
    code, out, said = run("tls", "init")
    assert (code, out) == (0, "")
    assert "only this machine can use it" in said
    assert "hq tls init --host bus.example.com" in said
    code, out, said = run("tls", "init", "--host", "bus.example.com")
    assert (code, out) == (0, "")
    assert "hq init --broker mqtts://bus.example.com:8883" in said
    assert run("init", "--broker", "mqtts://bus.example.com:8883")[0] == 0
    code, out, said = run("tls", "init")
    assert (code, out) == (0, "")
    assert said == (
        "the broker's certificate is right as it is, "
        "for bus.example.com, localhost, 127.0.0.1 and ::1\n"
    )
    code, out, said = run("tls", "show")
    assert (code, said) == (0, "")
    assert "bus.example.com, localhost, 127.0.0.1, ::1" in out
    assert "1970-01-01 to 9999-12-31" in out
    assert tls_state(tmp_path / "hq").ca_fingerprint in out


def test_without_hosts_it_takes_those_of_the_settings(run: Run, tmp_path: Path) -> None:
    """Whoever has said where the broker is need not say it twice."""
    run("init", "--broker", "mqtts://bus.example.com:8883", "--broker", "wss://203.0.113.7/x")
    assert run("tls", "init")[0] == 0
    assert tls_state(tmp_path / "hq").hosts[:2] == ("bus.example.com", "203.0.113.7")


def test_a_broker_that_listens_everywhere_is_nobodys_name(run: Run, tmp_path: Path) -> None:
    """The address that stands for all of a machine's is in no certificate and is not missed."""
    run("init", "--broker", "mqtts://0.0.0.0:8883")
    code, _, said = run("tls", "init")
    assert code == 0
    assert tls_state(tmp_path / "hq").hosts == ("localhost", "127.0.0.1", "::1")
    assert "name what stores call the broker" in said
    said = run("tls", "init", "--host", "bus.example.com")[2]
    assert "0.0.0.0" not in said
    assert "start broker and hub again" in said


def test_hosts_that_stores_are_sent_to_are_missed(run: Run) -> None:
    """The command that is shown mends it and keeps what was there."""
    run("tls", "init", "--host", "one.example.com")
    run("init", "--broker", "mqtts://two.example.com")
    _, _, said = run("tls", "init")
    assert "stores are sent to two.example.com" in said
    (command,) = [line.split() for line in said.splitlines() if line.startswith("  hq ")]
    code, _, said = run(*command[1:])
    assert code == 0
    assert "stores are sent" not in said
    assert "one.example.com, two.example.com" in said
    _, _, said = run("tls", "init", "--host", "two.example.com")
    assert "no more for one.example.com" in said


def test_a_slip_changes_nothing(run: Run, tmp_path: Path) -> None:
    """A whole address instead of a host is a usage error that says what to write."""
    code, out, said = run("tls", "init", "--host", "mqtts://bus.example.com:8883")
    assert (code, out) == (2, "")
    assert "hint: write --host bus.example.com" in said
    assert not (tmp_path / "hq" / "tls").exists()


def test_mutual_is_said_and_kept(run: Run) -> None:
    """On, left alone, off."""
    assert "must show a certificate" in run("tls", "init", "--mutual")[2]
    assert "certificate, too" not in run("tls", "init", "--host", "a")[2]
    assert json.loads(run("tls", "show", "--json")[1])["mutual"] is True
    assert "need no certificate" in run("tls", "init", "--no-mutual")[2]
    assert json.loads(run("tls", "show", "--json")[1])["mutual"] is False


def test_what_does_not_fit_is_shown_and_fails(run: Run, tmp_path: Path) -> None:
    """Exit code 1, with the command that mends it; and that command does."""
    run("tls", "init", "--host", "a")
    tls_files(tmp_path / "hq").broker_key.unlink()
    code, out, said = run("tls", "show", "--json")
    assert code == 1
    assert json.loads(out)["troubles"]
    assert "hq tls renew" in said
    code, _, said = run("tls", "renew")
    assert code == 0
    assert "start broker and hub again" not in said  # nobody is sent to it yet
    assert run("tls", "show")[0] == 0


def test_changes_stand_in_the_audit(run: Run) -> None:
    """Who made which CA; and what changed nothing leaves no line."""
    run("tls", "init", "--host", "a")
    run("tls", "init")
    run("tls", "renew")
    _, out, _ = run("audit", "--json")
    actions = [one["action"] for one in json.loads(out) if one["action"].startswith("tls")]
    assert sorted(actions) == ["tls init", "tls renew"]


def test_without_a_home_the_hint_is_to_make_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each verb; and none of them makes a folder."""
    for verb in ("init", "show", "renew"):
        code, out, said = run("tls", verb, "--home", str(tmp_path / "none"))
        assert (code, out) == (1, "")
        assert "hint: hq init" in said
    assert not (tmp_path / "none").exists()


def test_help_has_examples_and_names_every_verb(run: Run) -> None:
    """At each level."""
    assert "tls" in run("--help")[1]
    _, out, _ = run("tls", "--help")
    for verb in ("init", "show", "renew"):
        assert f"  {verb} " in out
        assert "Example" in run("tls", verb, "--help")[1]
