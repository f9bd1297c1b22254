"""`hq device`: who is let in, with what, and who is shut out."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buskit.doorbell import Doorbell
from buswire import frame
from buswire.access import token_hash
from buswire.joining import Bundle, decode_bundle
from buswire.messages import Join, Joined
from buswire.signing import (
    PublicKey,
    SigningKey,
    fingerprint,
    proof_bytes,
    signature_text,
)
from buswire.topics import Identity, Topics
from buswire.trust import Trust, Trusted
from hqconsole.access_file import render
from hqconsole.desk import Heard
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import STORES, Run
from tests.hq_console.field import Field, new_id


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def listed(run: Run, *words: str) -> dict[str, dict[str, Any]]:
    """`hq device list`, by identity."""
    code, out, errors = run("device", "list", "--json", *words)
    assert code == 0, errors
    return {f"{row['store']}.{row['device']}": row for row in json.loads(out)}


def join(field: Field, bundle: Bundle, key: SigningKey, machine: str = "PC-1") -> Joined:
    """What a device that holds the bundle is answered."""
    from base64 import urlsafe_b64decode

    invite = SigningKey(urlsafe_b64decode(bundle.invite + "="))
    topic = Topics(bundle.root).join(bundle.id)
    hashed = token_hash("its own token")
    asked = Join(
        nonce=new_id(),
        device_key=key.public.text,
        token_hash=hashed,
        proof=signature_text(key.sign(proof_bytes(bundle.id, hashed))),
        machine=machine,
    )
    trust = Trust(bundle.trust)
    published = field.hub(Heard(topic, frame.encode(asked, topic, invite)))
    (answer,) = [one for one in published if one.topic == topic]
    joined = frame.read(answer.payload, topic, trust.key_of)
    assert isinstance(joined, Joined)
    return joined


def test_add_writes_a_bundle_that_lets_one_device_in(run: Run, field: Field, place: Path) -> None:
    """Its owner's file, with all that a device needs; the ledger keeps hashes of it only."""
    code, out, errors = run(
        *("device", "add", "S1", "till-1", "--roles", "manager,clerk", "--expires", "2d"),
        *("--broker", "mqtts://bus.example.com:8883"),
    )
    assert (code, out) == (0, ""), errors
    file = place / "S1.till-1.bundle"
    assert file.stat().st_mode & 0o777 == 0o600
    bundle = decode_bundle(file.read_bytes())
    assert (bundle.store, bundle.device, bundle.roles) == ("S1", "till-1", ["clerk", "manager"])
    assert bundle.brokers == ["mqtts://bus.example.com:8883"]
    assert bundle.root == "storebus/v1"
    with open_ledger(field.home) as ledger:
        image = ledger.serialize()
    assert bundle.token.encode() not in image
    assert bundle.invite.encode() not in image
    assert listed(run)["S1.till-1"]["state"] == "invited"
    key = SigningKey(b"k" * 32)
    assert join(field, bundle, key).verdict == "accepted"
    row = listed(run)["S1.till-1"]
    assert (row["state"], row["key"], row["roles"]) == (
        "active",
        key.public.id,
        ["clerk", "manager"],
    )
    assert join(field, bundle, SigningKey(b"x" * 32), "PC-9").verdict == "refused"
    shown = run("incidents")[1]
    assert "bundle used twice" in shown
    assert "PC-9" in shown


def test_a_bundle_goes_to_standard_output_alone(run: Run, home: Path, place: Path) -> None:
    """So that it can go through a pipe to the device without touching a disk."""
    code, out, _ = run("device", "add", "S1.till-1", "-o", "-")
    assert code == 0
    assert decode_bundle(out.encode()).device == "till-1"
    assert not list(place.iterdir())


def test_a_second_bundle_voids_the_first(run: Run, field: Field, place: Path) -> None:
    """Of two files that lie around only one counts."""
    first = decode_bundle(run("device", "add", "S1", "till-1", "-o", "-")[1].encode())
    second = decode_bundle(run("device", "add", "S1", "till-1", "-o", "-")[1].encode())
    key = SigningKey(b"k" * 32)
    assert join(field, first, key).verdict == "refused"
    assert join(field, second, key).verdict == "accepted"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("S1",), 2),
        ((), 2),
        (("S1", "a", "b"), 2),
        (("S99", "till-1"), 1),
        (("S1", "a/b"), 1),
        (("S5", "till-1", "--roles", "manager"), 1),
        (("S1", "till-1", "--expires", "soon"), 2),
        (("S1", "till-1", "--expires", "0"), 2),
        (("S1", "till-1", "--into", "x"), 2),
        (("S1", "till-1", "--broker", "http://x"), 2),
        (("S1", "till-1", "--broker", "mqtt://x:0"), 1),
        (("--all", "till-1"), 2),
        (("--all", "S1", "till-1", "--into", "x"), 2),
        (("--all", "till-1", "-o", "x"), 2),
        (("--all", "--region", "east", "till-1", "--into", "x"), 2),
        (("--region", "nowhere", "till-1", "--into", "x"), 1),
        (("S1", "till-1", "-o", "no-such-folder/x"), 1),
    ],
)
def test_what_cannot_be_is_refused_and_invites_nobody(
    run: Run, home: Path, place: Path, words: tuple[str, ...], code: int
) -> None:
    """A cause, and what mends it; nothing in the ledger, nothing on the disk."""
    found, out, errors = run("device", "add", *words)
    assert (found, out) == (code, ""), errors
    assert "error:" in errors
    assert listed(run) == {}
    assert not list(place.iterdir())
    assert "device add" not in run("audit")[1]


def test_a_device_that_is_in_is_not_added_but_rotated(run: Run, field: Field, place: Path) -> None:
    """The old key counts until the new bundle was used, and then no more; its roles stay."""
    device = field.device("S1", "till-1", ("clerk",))
    code, _, errors = run("device", "add", "S1", "till-1")
    assert code == 1
    assert "hq device rotate S1.till-1" in errors
    assert run("device", "rotate", "S1.till-1")[0] == 0
    field.hello(device)
    bundle = decode_bundle((place / "S1.till-1.bundle").read_bytes())
    assert bundle.roles == ["clerk"]
    key = SigningKey(b"k" * 32)
    assert join(field, bundle, key).verdict == "accepted"
    row = listed(run)["S1.till-1"]
    assert (row["key"], row["roles"], row["state"]) == (key.public.id, ["clerk"], "active")
    with pytest.raises(ValueError, match="unpack"):  # no welcome
        field.hello(device)
    assert run("device", "rotate", "S1.nobody")[0] == 1
    assert run("verify")[0] == 0


def test_a_whole_chain_is_invited_by_one_command(run: Run, field: Field, place: Path) -> None:
    """Said again it passes over who is in; stores without the role get none."""
    code, out, errors = run("device", "add", "--all", "till-1", "--roles", "clerk", "--into", "b")
    assert (code, out) == (0, "")
    assert "4 bundles" in errors
    assert "1 stores have none of these roles" in errors
    files = sorted((place / "b").iterdir())
    assert [file.name for file in files] == [f"S{no}.till-1.bundle" for no in (1, 2, 4, 5)]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert len({decode_bundle(file.read_bytes()).token for file in files}) == 4
    join(field, decode_bundle(files[0].read_bytes()), SigningKey(b"k" * 32))
    before = files[1].read_bytes()
    code, _, errors = run("device", "add", "--all", "till-1", "--roles", "clerk", "--into", "b")
    assert "3 bundles" in errors
    assert "1 devices are in already" in errors
    assert files[1].read_bytes() != before
    run("device", "add", "--region", "west", "office", "--into", "c")
    assert sorted(file.name for file in (place / "c").iterdir()) == [
        f"S{no}.office.bundle" for no in (3, 4, 5)
    ]
    (audited, *_) = json.loads(run("audit", "--action", "device add", "--json")[1])
    assert audited["detail"] == {
        "devices": 4,
        "first": "S1.till-1",
        "last": "S5.till-1",
        "roles": ["clerk"],
    }


@pytest.mark.parametrize(
    "content",
    [
        "store,device,roles\nS1,till-1,manager;clerk\nS2,till-1,\n",
        (
            '{"store": "S1", "device": "till-1", "roles": ["manager", "clerk"]}\n'
            '{"store": "S2", "device": "till-1"}\n'
        ),
    ],
)
def test_devices_come_from_a_list(run: Run, home: Path, place: Path, content: str) -> None:
    """CSV or JSON Lines; without roles a device serves all of its store."""
    (place / "list").write_text(content, encoding="utf-8")
    assert run("device", "add", "--list", "list", "--into", "b")[0] == 0
    found = listed(run)
    assert found["S1.till-1"]["roles"] == ["clerk", "manager"]
    assert not found["S1.till-1"]["all_roles"]
    assert found["S2.till-1"]["all_roles"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "shop,till\nS1,x\n",
        "store,device\nS1,a/b\n",
        "store,device\nS1,x\nS1,x\n",
        "store,device\nS99,x\n",
        "{nonsense\n",
        "store,device\n\udcff,x\n",
    ],
)
def test_a_list_that_cannot_be_is_refused_whole(
    run: Run, home: Path, place: Path, content: str
) -> None:
    """Nobody of it is invited."""
    (place / "list").write_bytes(content.encode("utf-8", "surrogateescape"))
    code, _, errors = run("device", "add", "--list", "list", "--into", "b")
    assert code == 1
    assert "error:" in errors
    assert listed(run) == {}


def test_a_fleet_is_let_in_with_keys_that_head_office_made(
    run: Run, field: Field, place: Path
) -> None:
    """For trials: a file with everything, its owner's; said plainly; hidden from the help."""
    code, _, errors = run("device", "add", "--all", "light", "--fleet", "keys")
    assert code == 0
    assert "for trials only" in errors
    assert (place / "keys").stat().st_mode & 0o777 == 0o600
    first, *devices = map(json.loads, (place / "keys").read_text().splitlines())
    assert len(Trusted(**first["trust"]).keys) == 1
    assert [one["store"] for one in devices] == ["S1", "S2", "S3", "S4", "S5"]
    assert {row["state"] for row in listed(run).values()} == {"active"}
    from base64 import urlsafe_b64decode

    from tests.hq_console.field import Device

    one = Device(Identity("S3", "light"))
    one.key = SigningKey(urlsafe_b64decode(devices[2]["seed"] + "="))
    field.devices[one.identity] = one
    field.hello(one)
    assert "--fleet" not in run("device", "add", "--help")[1]
    assert run("verify")[0] == 0


def test_a_waiting_key_is_let_in_by_its_fingerprint_only(
    run: Run, field: Field, place: Path
) -> None:
    """However it is spaced or written; another fingerprint is refused and nobody is let in."""
    settings = field.home / "hq.toml"
    settings.write_text(settings.read_text() + '\n[enrolment]\nactivation = "confirm"\n')
    run("device", "add", "S1", "till-1")
    bundle = decode_bundle((place / "S1.till-1.bundle").read_bytes())
    key = SigningKey(b"k" * 32)
    assert join(field, bundle, key).verdict == "waiting"
    row = listed(run, "--state", "waiting")["S1.till-1"]
    assert (row["waiting_key"], row["key"], row["machine"]) == (key.public.id, None, "PC-1")
    wrong = fingerprint(PublicKey(bytes(31) + b"\x01"))
    assert run("device", "confirm", "S1.till-1", wrong)[0] == 1
    assert listed(run)["S1.till-1"]["state"] == "waiting"
    spelt = fingerprint(key.public).upper().split()
    assert run("device", "confirm", "S1.till-1", *spelt)[0] == 0
    assert listed(run)["S1.till-1"]["state"] == "active"
    assert join(field, bundle, key).verdict == "accepted"
    assert run("device", "confirm", "S1.till-1", *spelt)[0] == 1
    assert run("device", "confirm", "nonsense", "x")[0] == 1
    assert "device confirm" in run("audit", "--action", "device confirm")[1]


def test_who_was_revoked_is_out_and_stays_out(run: Run, field: Field, place: Path) -> None:
    """Its key and its bundles count for nothing; its history stays; it may be invited again."""
    device = field.device("S1", "till-1")
    run("device", "rotate", "S1.till-1", "-o", "second")
    assert run("device", "revoke", "S1.till-1", "--why", "stolen")[0] == 0
    row = listed(run)["S1.till-1"]
    assert (row["state"], row["key"]) == ("revoked", None)
    assert row["revoked_at"] > 0
    with open_ledger(field.home) as ledger:
        rendered, _ = render(ledger, 2e9, root="storebus/v1")
    assert rendered.devices == {}
    assert rendered.joins == {}
    with pytest.raises(ValueError, match="unpack"):  # no welcome
        field.hello(device)
    bundle = decode_bundle((place / "second").read_bytes())
    assert join(field, bundle, SigningKey(b"k" * 32)).verdict == "refused"
    assert run("verify")[0] == 0
    assert run("device", "add", "S1", "till-1", "-o", "third")[0] == 0
    again = decode_bundle((place / "third").read_bytes())
    assert join(field, again, SigningKey(b"n" * 32)).verdict == "accepted"
    assert "why=stolen" in run("audit", "--action", "device revoke")[1]
    assert run("device", "revoke", "S1.nobody")[0] == 1


def test_allow_raises_what_is_kept_of_a_device(run: Run, field: Field) -> None:
    """The list shows the bound, and tells who is close to it."""
    field.device("S1")
    assert listed(run)["S1.till-1"]["allowed_bytes"] == 2 * 1024**3
    assert run("device", "allow", "S1.till-1", "--bytes", "1000")[0] == 0
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        connection.execute("UPDATE device SET kept_bytes = 950")
    assert listed(run)["S1.till-1"]["allowed_bytes"] == 1000
    assert "hq device allow S1.till-1" in run("device", "list")[2]
    assert run("device", "allow", "S1.till-1", "--bytes", "0")[0] == 0
    assert listed(run)["S1.till-1"]["allowed_bytes"] == 2 * 1024**3
    assert "hq device allow" not in run("device", "list")[2]


def test_every_change_rings_for_the_hub_and_says_when_there_is_none(
    run: Run, field: Field, place: Path
) -> None:
    """A revoked device must be out within moments, not at the hub's next look."""
    field.device("S2")
    changes = (
        ("device", "add", "S1", "till-1"),
        ("device", "add", "--all", "x", "--into", "b"),
        ("device", "rotate", "S2.till-1"),
        ("device", "allow", "S2.till-1", "--bytes", "5"),
        ("device", "revoke", "S2.till-1"),
        ("tool", "add", "t"),
        ("tool", "revoke", "t"),
        ("key", "rotate"),
        ("roster", "assign", "S1", "till-1", "--all-roles"),
    )
    with Doorbell.open(field.home) as bell:
        for words in changes:
            while bell.wait(0):
                pass
            code, _, errors = run(*words)
            assert code == 0, errors
            assert bell.wait(5), words
            if words[1] not in {"allow", "assign"}:
                assert "no hub is running" in errors, words


def test_list_is_for_people_too(run: Run, field: Field) -> None:
    """A line each; an unknown store is refused."""
    field.device("S1")
    out = run("device", "list", "S1")[1]
    key = listed(run)["S1.till-1"]["key"]
    assert f"{key[:4]} {key[4:8]}" in out
    assert "PC-1" in out
    assert run("device", "list", "S99")[0] == 1
    assert run("device", "list", "S2")[1] == ""
    assert "hq device add" in run("device", "list", "S2")[2]


def test_a_bar_shows_on_a_terminal_and_nowhere_else(
    run: Run, home: Path, place: Path, tmp_path: Path
) -> None:
    """Long work is seen to move by who looks on; a pipe gets nothing of it."""
    rows = "".join(f"B{number},X,East,UTC,clerk,\n" for number in range(25))
    (tmp_path / "more.csv").write_text(STORES + rows, encoding="utf-8")
    assert run("roster", "import", str(tmp_path / "more.csv"))[0] == 0
    command = [sys.executable, "-m", "hqconsole.commands.main"]
    words = ["device", "add", "--all", "till-1", "--into", "b"]
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(
        [*command, *words], stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 4096)
            except OSError:
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"bundles" in seen
    assert b"30/30" in seen
    piped = subprocess.run(
        [*command, *words[:-1], "c"], capture_output=True, env=environment, check=True
    )
    assert b"30/30" not in piped.stderr + piped.stdout
