"""Joining: what a device asks, which answer counts, and what a kill leaves behind."""

import contextlib
import io
import json
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from buswire.joining import Bundle, encode_bundle
from buswire.messages import Joined, Nudge
from buswire.signing import SigningKey
from buswire.trust import Trusted, announce
from storeagent import Agent
from storeagent.database import database_path, open_agent_database
from storeagent.join_home import JoinHome
from storeagent.joining import Draft, JoinError, Joining, draw_draft
from storeagent.keys import read_key, tls_settings
from storeagent.main import main
from storeagent.memory import Memory
from storeagent.settings import read_agent_settings
from tests.agent.enrolment import INVITE, Enrolment
from tests.agent.head_office import ME, TOPICS, HeadOffice, hq_key
from tests.agent.processes import (
    BIN,
    BrokerProcess,
    LiveHeadOffice,
    environment,
    running_agent,
    tool,
)
from tests.agent.words import ids
from tests.helpers.waiting import TIME_SCALE, wait_until

# --- the conversation, without a link ------------------------------------------------------------


def _joining(bundle: Bundle, seed: bytes = b"s" * 32) -> Joining:
    numbers = iter(range(1, 1000))
    draft = draw_draft(bundle, seed=seed, token="t" * 43)
    return Joining(bundle, draft, new_id=lambda: ids("f", next(numbers)), machine="TILL")


def _accepted(joining: Joining, hq: HeadOffice, **changes: Any) -> Joined:
    values = {
        "nonce": ids("f", 1),
        "verdict": "accepted",
        "store": "S017",
        "device": "till-1",
        "key": SigningKey(b"s" * 32).id,
    }
    joining.ask()
    return Joined(**(values | changes))


@pytest.fixture
def office() -> HeadOffice:
    """A head office."""
    return HeadOffice()


def test_the_question_proves_the_key_and_the_answer_counts(office: HeadOffice) -> None:
    """Signed with the invite key, with a proof of the device's own; accepted by HQ's word."""
    enrolment = Enrolment(office)
    joining = _joining(enrolment.bundle())
    (answer,) = enrolment.take(joining.topic, joining.ask())
    joined = joining.hear(answer.topic, answer.payload)
    assert joined is not None
    assert joined.verdict == "accepted"
    assert enrolment.has_let_in(SigningKey(b"s" * 32), "t" * 43)
    assert enrolment.used["0000000000000001"].machine == "TILL"


def test_our_own_word_comes_back_and_is_passed_over(office: HeadOffice) -> None:
    """Publisher and subscriber of one topic hear themselves."""
    joining = _joining(Enrolment(office).bundle())
    assert joining.hear(joining.topic, joining.ask()) is None
    assert joining.strangers == 0


@pytest.mark.parametrize("key", [hq_key(9), INVITE, SigningKey(b"s" * 32)])
def test_only_head_office_lets_in(office: HeadOffice, key: SigningKey) -> None:
    """Another key than HQ's does not count, and neither do the bundle's nor the device's own."""
    joining = _joining(Enrolment(office).bundle())
    said = office.lay(joining.topic, _accepted(joining, office), key)
    assert joining.hear(said.topic, said.payload) is None
    assert joining.strangers == (0 if key is INVITE else 1)


@pytest.mark.parametrize("change", ["rotate", "recover"])
def test_a_bundle_is_good_after_head_office_changed_its_keys(
    office: HeadOffice, change: str
) -> None:
    """The answer leads from the bundle's keys to the new one; a stranger's chain leads nowhere."""
    before = office.trust
    joining = _joining(Enrolment(office).bundle())
    getattr(office, change)()
    said = office.lay(joining.topic, _accepted(joining, office))
    assert joining.hear(said.topic, said.payload) is None
    stranger = HeadOffice()
    key = hq_key(7)
    forged = announce(key.public, epoch=9, number=1, by=key)
    said = stranger.lay(joining.topic, _accepted(joining, office, keys=[forged]), key)
    assert joining.hear(said.topic, said.payload) is None
    assert joining.trusted == before
    other = _accepted(joining, office, keys=office.entries, nonce=ids("e", 1))
    said = office.lay(joining.topic, other)
    assert joining.hear(said.topic, said.payload) is None
    said = office.lay(joining.topic, _accepted(joining, office, keys=office.entries))
    assert joining.hear(said.topic, said.payload) is not None
    assert joining.trusted == office.trust


def test_an_answer_to_somebody_else_does_not_count(office: HeadOffice) -> None:
    """Another nonce, another topic, another kind of message, an altered byte, no signature."""
    joining = _joining(Enrolment(office).bundle())
    accepted = _accepted(joining, office)
    for said in (
        office.lay(joining.topic, msgspec.structs.replace(accepted, nonce=ids("f", 2))),
        office.lay(TOPICS.join("f" * 16), accepted),
        office.lay(joining.topic, Nudge()),
    ):
        assert joining.hear(said.topic, said.payload) is None
    elsewhere = office.lay(TOPICS.join("f" * 16), accepted)
    assert joining.hear(joining.topic, elsewhere.payload) is None
    good = office.lay(joining.topic, accepted)
    for place in range(len(good.payload)):
        altered = bytearray(good.payload)
        altered[place] ^= 1
        assert joining.hear(joining.topic, bytes(altered)) is None
    assert joining.hear(joining.topic, good.payload[good.payload.index(b"\n") :]) is None
    assert joining.hear(good.topic, good.payload) == accepted


@pytest.mark.parametrize(
    "changes", [{"store": "S018"}, {"device": "till-2"}, {"key": "0" * 32}, {"key": ""}]
)
def test_an_acceptance_of_somebody_else_is_an_error(
    office: HeadOffice, changes: dict[str, str]
) -> None:
    """HQ's word must name this device and this key."""
    joining = _joining(Enrolment(office).bundle())
    said = office.lay(joining.topic, _accepted(joining, office, **changes))
    with pytest.raises(JoinError):
        joining.hear(said.topic, said.payload)


def test_an_old_answer_of_another_run_does_not_count(office: HeadOffice) -> None:
    """A broker that kept an acceptance of yesterday cannot use it today."""
    bundle = Enrolment(office).bundle()
    first = _joining(bundle)
    kept = office.lay(first.topic, _accepted(first, office))
    assert first.hear(kept.topic, kept.payload) is not None
    draft = Draft(bundle=bundle.id, seed="s" * 42 + "A", token="t")
    second = Joining(bundle, draft, new_id=lambda: ids("e", 1))
    second.ask()
    assert second.hear(kept.topic, kept.payload) is None


# --- the command, over a real broker -------------------------------------------------------------


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker for all tests of this module."""
    process = BrokerProcess(tmp_path_factory.mktemp("bus"))
    yield process
    process.stop()


@pytest.fixture
def hq(bus: BrokerProcess) -> Iterator[LiveHeadOffice]:
    """A head office that is connected."""
    office = LiveHeadOffice(bus.port)
    assert office.ready.wait(20 * TIME_SCALE)
    yield office
    office.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the device will be."""
    return tmp_path / "till"


def _bundle(
    hq: LiveHeadOffice, folder: Path, bus: BrokerProcess, number: int = 1, **changes: Any
) -> Path:
    path = folder / f"{number}.bundle"
    brokers = [f"mqtt://127.0.0.1:{bus.port}"]
    path.write_bytes(encode_bundle(hq.enrolment.bundle(number, **({"brokers": brokers} | changes))))
    return path


def _join(home: Path, bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `storeagent join` in this process, which is quicker; nothing of it is left behind."""
    out, err = io.StringIO(), io.StringIO()
    words = ("join", str(bundle), "--wait-seconds", "15", "--home", str(home), *words)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(words, "storeagent")
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def test_a_device_joins_and_runs(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """One command makes the home, the key and the settings; then the daemon is let in."""
    bundle = _bundle(hq, tmp_path, bus)
    found = _join(home, bundle, "--hook", "true")
    assert found.returncode == 0, found.stderr
    assert "S017.till-1 has joined" in found.stderr
    assert "storeagent run" in found.stderr
    assert str(bundle) in found.stderr, "the bundle is to be deleted"
    settings = read_agent_settings(home)
    assert settings.brokers == (f"mqtt://127.0.0.1:{bus.port}",)
    assert settings.roles == ("manager",)
    assert settings.hook is not None
    key = read_key(home, ME, TOPICS.root)
    assert hq.enrolment.has_let_in(key.signing_key, key.token)
    assert key.trust == hq.script.trust
    for secret in home.glob("*.key"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert not (home / "join.key").exists()
    assert key.seed not in found.stdout + found.stderr
    assert key.token not in found.stdout + found.stderr
    assert repr(key) == "DeviceKey(S017.till-1)"
    with running_agent(home) as agent:
        wait_until(lambda: hq.script.hellos, what="the hello")
        agent.stop()


def test_the_bundle_may_come_by_a_pipe_and_the_answer_as_json(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """`join -` reads standard input, --json writes one object."""
    content = _bundle(hq, tmp_path, bus).read_text()
    found = tool("join", "-", "--json", home=home, input=content)
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    assert (said["verdict"], said["device"], said["home"]) == ("accepted", str(ME), str(home))
    status = json.loads(tool("status", "--json", home=home).stdout)
    assert status["key"] == said["fingerprint"]
    assert status["hq_key"].replace(" ", "") == hq.script.key.id


def test_refused_with_head_offices_reason(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """An expired bundle: exit code 1, HQ's words, and no key file."""
    hq.enrolment.expired.add("0000000000000001")
    found = _join(home, _bundle(hq, tmp_path, bus))
    assert found.returncode == 1
    assert "the bundle has expired" in found.stderr
    assert "hq device add S017 till-1" in found.stderr
    assert not (home / "device.key").exists()
    run = tool("run", home=home)
    assert run.returncode == 1
    assert "storeagent join BUNDLE" in run.stderr
    assert "Traceback" not in run.stderr


def test_waiting_for_an_operator_then_accepted(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """The fingerprint is shown; exit code 4 when time is over; the same command goes on."""
    hq.enrolment.confirms = True
    bundle = _bundle(hq, tmp_path, bus)
    found = _join(home, bundle, "--wait-seconds", "0.7")
    assert found.returncode == 4
    assert "the same command again" in found.stderr
    shown = found.stdout.strip()
    assert len(shown.replace(" ", "")) == 32
    assert f'hq device confirm S017.till-1 "{shown}"' in found.stderr
    again = subprocess.Popen(
        [BIN / "storeagent", "join", str(bundle)],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    asked = hq.enrolment.asked
    wait_until(lambda: hq.enrolment.asked > asked, what="the question")
    hq.enrolment.confirmed.add(shown)
    out, err = again.communicate(timeout=30 * TIME_SCALE)
    assert again.returncode == 0, err
    assert shown in out, "the same key asks again"
    assert hq.enrolment.second_uses == 0


def test_killed_while_it_asks_it_asks_again_with_the_same_key(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """HQ accepted and the device died before it heard: no second use of the bundle."""
    hq.enrolment.silent = True
    bundle = _bundle(hq, tmp_path, bus)
    first = subprocess.Popen(
        [BIN / "storeagent", "join", str(bundle)], env=environment(home), stderr=subprocess.DEVNULL
    )
    wait_until(lambda: hq.enrolment.asked, what="the question")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert "it had begun to join" in tool("run", home=home).stderr
    draft = msgspec.json.decode((home / "join.key").read_bytes(), type=Draft)
    hq.enrolment.silent = False
    found = _join(home, bundle)
    assert found.returncode == 0, found.stderr
    key = read_key(home, ME, TOPICS.root)
    assert (key.seed, key.token) == (draft.seed, draft.token)
    assert hq.enrolment.second_uses == 0


@pytest.mark.parametrize("step", range(5))
def test_killed_while_it_saves_it_goes_on(
    step: int,
    tmp_path: Path,
    home: Path,
    hq: LiveHeadOffice,
    bus: BrokerProcess,
) -> None:
    """Whichever write was the last one, the same command ends well with the same key."""
    bundle = _bundle(hq, tmp_path, bus, ca="-----BEGIN CERTIFICATE-----\nx\n")
    code = (
        "import os, sys\n"
        "from storeagent import join_home\n"
        "from storeagent.main import main\n"
        "def dies(*_, **__): os._exit(9)\n"
        "names = ['write_certificates', 'save_settings', 'open_agent_database', 'write_key',"
        " 'drop_draft']\n"
        f"name = names[{step}]\n"
        "setattr(join_home.JoinHome if name == 'drop_draft' else join_home, name, dies)\n"
        "main.run(sys.argv[1:], 'storeagent')\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, "join", str(bundle)],
        env=environment(home),
        check=False,
        capture_output=True,
        timeout=30 * TIME_SCALE,
    )
    assert died.returncode == 9, died.stderr
    if step == 3:
        assert "it had begun to join" in tool("run", home=home).stderr
    found = _join(home, bundle)
    assert found.returncode == 0, found.stderr
    key = read_key(home, ME, TOPICS.root)
    assert hq.enrolment.has_let_in(key.signing_key, key.token)
    assert hq.enrolment.second_uses == 0
    assert not list(home.glob("join.*"))
    tls = tls_settings(home)
    assert tls is not None
    assert tls.ca_file == home / "ca.pem"


def test_a_second_use_is_refused_and_the_same_home_need_not_ask(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """Elsewhere the bundle is used up; here it is only said that the device has joined."""
    bundle = _bundle(hq, tmp_path, bus)
    assert _join(home, bundle).returncode == 0
    again = _join(home, bundle)
    assert again.returncode == 0
    assert "has joined with this bundle already" in again.stderr
    assert hq.enrolment.second_uses == 0
    thief = _join(tmp_path / "thief", bundle)
    assert thief.returncode == 1
    assert "was used before" in thief.stderr
    assert hq.enrolment.second_uses > 0
    key = read_key(home, ME, TOPICS.root)
    assert hq.enrolment.has_let_in(key.signing_key, key.token)


def test_a_head_office_with_another_key_is_not_believed(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """Answers that no key of the bundle signed: exit code 4, and why."""
    other = SigningKey(b"another head office".ljust(32, b"."))
    trust = Trusted(recovery=other.public.text, epoch=1, keys=[other.public.text])
    bundle = _bundle(hq, tmp_path, bus, trust=trust)
    found = _join(home, bundle, "--wait-seconds", "1")
    assert found.returncode == 4
    assert "not signed with a key of this bundle" in found.stderr
    assert not (home / "device.key").exists()


def test_nobody_there(tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess) -> None:
    """No broker: exit code 3. A broker and no answer: exit code 4. Each says what to do."""
    bundle = _bundle(hq, tmp_path, bus)
    found = _join(home, bundle, "--wait-seconds", "0.5", "--broker", "mqtt://127.0.0.1:9")
    assert found.returncode == 3, found.stderr
    assert "--broker" in found.stderr
    hq.enrolment.silent = True
    found = _join(home, bundle, "--wait-seconds", "0.7")
    assert found.returncode == 4, found.stderr
    assert "head office has not answered" in found.stderr


def test_joining_again_replaces_the_key_and_keeps_the_work(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """A rotation: outbox and settings stay, and so does what was learned of HQ's keys."""
    assert _join(home, _bundle(hq, tmp_path, bus)).returncode == 0
    with (home / "agent.toml").open("a") as file:
        file.write("\n[limits]\nrows = 77\n")
    with Agent(home) as agent:
        agent.alert("incident", what="before")
    before = read_key(home, ME, TOPICS.root)
    with open_agent_database(database_path(home)) as database, database.write():
        Memory(database).keep_trust(msgspec.structs.replace(before.trust, number=99))
    found = _join(home, _bundle(hq, tmp_path, bus, 2))
    assert found.returncode == 0, found.stderr
    after = read_key(home, ME, TOPICS.root)
    assert after.seed != before.seed
    assert after.token != before.token
    assert after.bundle == f"{2:016x}"
    assert read_agent_settings(home).limits.rows == 77
    assert after.trust.number == 99
    with Agent(home) as agent:
        assert agent.counts()["act"] == 1


def test_a_home_of_another_device_is_refused(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """The home stays whose it is; nothing is asked."""
    assert _join(home, _bundle(hq, tmp_path, bus)).returncode == 0
    asked = hq.enrolment.asked
    found = _join(home, _bundle(hq, tmp_path, bus, 2, device="till-2"))
    assert found.returncode != 0
    assert "is the home of S017.till-1" in found.stderr
    assert "--home" in found.stderr
    found = _join(home, _bundle(hq, tmp_path, bus, 3, root="another/chain"))
    assert found.returncode != 0
    assert "another/chain" in found.stderr
    assert hq.enrolment.asked == asked


def test_a_running_daemon_is_not_disturbed(
    tmp_path: Path, home: Path, hq: LiveHeadOffice, bus: BrokerProcess
) -> None:
    """A key is not changed under a daemon that signs with it."""
    assert _join(home, _bundle(hq, tmp_path, bus)).returncode == 0
    asked = hq.enrolment.asked
    with running_agent(home) as agent:
        wait_until(lambda: hq.script.hellos, what="the hello")
        found = _join(home, _bundle(hq, tmp_path, bus, 2))
        assert found.returncode == 1
        assert f"process {agent.process.pid}" in found.stderr
        agent.stop()
    assert hq.enrolment.asked == asked


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not a join bundle"),
        (b"\xff\xfe", "not a join bundle"),
        (b"{}", "not a join bundle"),
        (b"[" * 100_000, "not a join bundle"),
    ],
)
def test_what_is_no_bundle_is_said(
    home: Path, tmp_path: Path, content: bytes, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the way to another one; no home is made."""
    path = tmp_path / "bundle"
    path.write_bytes(content)
    assert main.run(["join", str(path), "--home", str(home)]) == 1
    said = capsys.readouterr().err
    assert cause in said
    assert "hq device add" in said
    assert not home.exists()


def test_secrets_that_others_can_read_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`run` names the command that closes the key file; `status` shows it as a notice."""
    bundle = Enrolment(HeadOffice()).bundle()
    place = JoinHome(home, bundle)
    place.make()
    place.finish(place.prepare(), certificate="")
    (home / "device.key").chmod(0o644)
    assert main.run(["run", "--home", str(home)]) == 1
    assert "chmod 600" in capsys.readouterr().err
    assert main.run(["status", "--home", str(home)]) == 0
    assert "chmod 600" in capsys.readouterr().err


def test_a_client_certificate_lies_beside_the_key(home: Path) -> None:
    """Where HQ sends one; the next joining without one takes it away again."""
    bundle = Enrolment(HeadOffice()).bundle(ca="CA\n")
    place = JoinHome(home, bundle)
    place.make()
    place.finish(place.prepare(), certificate="CERTIFICATE\n")
    tls = tls_settings(home)
    assert tls is not None
    assert tls.certificate_file is not None
    assert tls.certificate_file.read_text() == "CERTIFICATE\n"
    assert tls.key_file is not None
    assert stat.S_IMODE(tls.key_file.stat().st_mode) == 0o600
    assert b"BEGIN PRIVATE KEY" in tls.key_file.read_bytes()
    place = JoinHome(home, Enrolment(HeadOffice()).bundle(2))
    place.finish(place.prepare(), certificate="")
    assert tls_settings(home) is None
    assert not list(home.glob("client.*"))


def test_an_old_bundle_does_not_lead_back_to_a_stolen_key(home: Path) -> None:
    """What the device has learned of a recovery counts, unless HQ has another recovery key now."""
    office = HeadOffice()
    before = Enrolment(office).bundle()
    place = JoinHome(home, before)
    place.make()
    place.finish(place.prepare(), certificate="")
    recovered = Trusted(
        recovery=before.trust.recovery, epoch=7, number=1, keys=[hq_key(5).public.text]
    )
    with open_agent_database(database_path(home)) as database, database.write():
        Memory(database).keep_trust(recovered)
    again = JoinHome(home, Enrolment(office).bundle(2))
    assert again.trust == recovered
    joining = Joining(again.bundle, again.prepare(), new_id=lambda: ids("e", 1), trust=again.trust)
    joining.ask()
    stolen = office.lay(joining.topic, Joined(nonce=ids("e", 1), verdict="accepted"))
    assert joining.hear(stolen.topic, stolen.payload) is None
    again.finish(again.prepare(), certificate="")
    assert read_key(home, ME, TOPICS.root).trust == recovered
    other = msgspec.structs.replace(before.trust, recovery=hq_key(9).public.text)
    assert JoinHome(home, Enrolment(office).bundle(3, trust=other)).trust == other


def test_a_broken_key_file_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a file, or another device's, is one line with a hint."""
    place = JoinHome(home, Enrolment(HeadOffice()).bundle())
    place.make()
    place.finish(place.prepare(), certificate="")
    whole = (home / "device.key").read_bytes()
    for content, cause in (
        (whole[:50], "is no key file"),
        (whole.replace(b'"format": 1', b'"format": 2'), "has format 2"),
        (whole.replace(b"till-1", b"till-2"), "is the key of S017.till-2"),
    ):
        (home / "device.key").write_bytes(content)
        assert main.run(["run", "--home", str(home)]) == 1
        assert cause in capsys.readouterr().err
