"""`hq evidence`: one directive proved to a third party, who needs one file to check it."""

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from buswire.messages import Receipt, Record, Reply, encode_data
from buswire.signing import PublicKey, fingerprint
from buswire.states import State
from hqconsole import evidence as composing
from hqconsole import evidence_check
from hqconsole.keyring import Keyring
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field

Document = dict[str, Any]


@pytest.fixture
def recall(run: Run, field: Field) -> str:
    """A withdrawn directive with answers from two stores; its id."""
    directive = str(json.loads(run("publish", "Pull lot 2231", "--all", "--json")[1])["id"])
    for store in ("S1", "S2"):
        field.device(store)
    field.receipt(directive, "S1", State.DELIVERED)
    field.say(
        "S1",
        Receipt(directive=directive, role="any", state=State.DONE, by="Mio"),
        Reply(directive=directive, role="any", text="all \x1b[2J pulled"),
    )
    field.receipt(directive, "S2", State.CANNOT, reason="no key")
    assert run("cancel", directive, "--reason", "wrong lot")[0] == 0
    field.hub()
    return directive


def exported(run: Run, directive: str) -> Document:
    """What `hq evidence` writes."""
    code, out, errors = run("evidence", directive, "-o", "-")
    assert code == 0, errors
    found: Document = json.loads(out)
    return found


def lines(document: Document, recovery: str | None = None) -> list[str]:
    """What the check says of a document that holds."""
    return list(evidence_check.check(document, recovery))


def holds(document: Any, recovery: str | None = None) -> bool:
    """Whether the check finds nothing."""
    try:
        lines(document, recovery)
    except evidence_check.EvidenceError:
        return False
    return True


def test_the_file_says_who_answered_what_and_when(run: Run, recall: str, tmp_path: Path) -> None:
    """Written to a file of its owner's, checked by the command, in words."""
    file = tmp_path / "recall.json"
    code, out, errors = run("evidence", recall[:8], "-o", str(file))
    assert (code, out) == (0, "")
    assert "4 answers from 2 devices" in errors
    assert file.stat().st_mode & 0o077 == 0
    code, out, _ = run("evidence", "--check", str(file))
    assert code == 0
    said = out.splitlines()
    assert any("Pull lot 2231" in line and "seal holds" in line for line in said)
    assert any("withdrawn" in line and "wrong lot" in line for line in said)
    assert any(line.startswith("its audience: 5 mailboxes") for line in said)
    assert any(line.startswith("S1/any on till-1 done by Mio said 20") for line in said)
    assert any(line.startswith("S2/any on till-1 cannot (no key)") for line in said)
    assert sum("signature holds" in line for line in said) == 5
    assert "\x1b" not in out
    assert "4 answers, each signature holds" in said


def test_a_stranger_checks_it_with_one_file(run: Run, recall: str, tmp_path: Path) -> None:
    """Copied alone into another folder, it needs nothing of ours."""
    run("evidence", recall, "-o", str(tmp_path / "recall.json"))
    shutil.copy(evidence_check.__file__, tmp_path / "evidence_check.py")
    blocked = "import sys; sys.modules['buswire'] = sys.modules['hqconsole'] = None;"
    runner = f"{blocked} import evidence_check; sys.exit(evidence_check.main(['recall.json']))"
    for words in (["evidence_check.py", "recall.json"], ["-c", runner]):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "each signature holds" in done.stdout


@pytest.mark.parametrize(
    "beside",
    [
        b'{"a":%b}' % (b"9" * 5000),
        b"[" * 900 + b"]" * 900,
        b'"a line\\u2028 and a tab\\t"',
        b'"\\ud800"',
        b'{"directive":"caf\xe9"}',
        b"[NaN]",
    ],
    ids=["digits", "depth", "odd letters", "half a pair", "no UTF-8", "no number"],
)
def test_what_a_device_sends_beside_does_not_spoil_the_evidence(
    run: Run, field: Field, beside: bytes
) -> None:
    """Else one till could make the answers of all others uncheckable."""
    directive = str(json.loads(run("publish", "Pull", "--all", "--json")[1])["id"])
    done = Receipt(directive=directive, role="any", state=State.DONE)
    field.say_raw("S1", ("odd", beside), ("receipt", encode_data(done)))
    field.receipt(directive, "S2", State.DONE)
    assert "2 answers, each signature holds" in lines(exported(run, directive))
    assert run("verify")[0] == 0


def test_of_two_records_with_one_id_the_first_was_said(run: Run, field: Field) -> None:
    """Head office counted that one: what is shown is what was counted."""
    directive = str(json.loads(run("publish", "Pull", "--all", "--json")[1])["id"])
    device = field.device("S1")
    records = [
        Record(
            id="a" * 32,
            kind="receipt",
            at=1.0,
            data=Raw(encode_data(Receipt(directive=directive, role="any", state=state))),
        )
        for state in (State.DONE, State.CANNOT)
    ]
    field.send(device, "act", records)
    said = lines(exported(run, directive))
    assert any(line.startswith("S1/any on till-1 done") for line in said)
    assert not any("cannot" in line for line in said)
    assert run("verify")[0] == 0


def test_the_recovery_key_told_by_another_way_is_compared(
    run: Run, recall: str, tmp_path: Path, home: Path
) -> None:
    """Its text or its fingerprint; without it the reader is told what is missing."""
    document = exported(run, recall)
    listed = json.loads(run("key", "list", "--json")[1])
    for text in (listed["recovery_key"], listed["recovery_fingerprint"]):
        assert holds(document, text)
        assert holds(document, text + " ")
    other = PublicKey(bytes(31) + b"\x01")
    for text in (other.text, fingerprint(other), "", "nonsense"):
        assert not holds(document, text), text
    assert any("compare it" in line for line in lines(document))
    assert not any("compare it" in line for line in lines(document, listed["recovery_key"]))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document that holds a plain value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))
    else:
        yield path


def altered(value: Any) -> list[Any]:
    """Other values in its place."""
    if isinstance(value, str):
        changed = value[:-1] + ("A" if value[-1:] != "A" else "B")
        first = ("x" if value[:1] != "x" else "y") + value[1:]
        return [changed, first, "", None]
    if isinstance(value, bool | None):
        return [0, "x"]
    return [value + 1, -1, None]


def put(document: Document, path: tuple[Any, ...], value: Any) -> Document:
    """The document with another value at one place."""
    changed = copy.deepcopy(document)
    holder: Any = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return changed


def test_every_field_is_under_the_seal_of_the_file(run: Run, recall: str) -> None:
    """Whatever is altered anywhere, the check says no, and never breaks."""
    document = exported(run, recall)
    tried = 0
    for path in places(document):
        value: Any = document
        for step in path:
            value = value[step]
        for other in altered(value):
            assert not holds(put(document, path, other)), (path, other)
            tried += 1
    assert tried > 200


def test_what_is_taken_out_or_doubled_shows(run: Run, recall: str) -> None:
    """Each name of the file and each entry of its lists."""
    document = exported(run, recall)
    for name in document:
        assert not holds({key: value for key, value in document.items() if key != name}), name
    for name in ("answers", "messages", "devices", "mailboxes"):
        for index in range(len(document[name])):
            rest = document[name][:index] + document[name][index + 1 :]
            assert not holds({**document, name: rest}), name
        assert not holds({**document, name: [*document[name], document[name][0]]}), name


def resealed(document: Document, home: Path, **changes: Any) -> Document:
    """What a head office could write that alters what it has and seals that anew."""
    keyring = Keyring.load(home)
    return composing.seal({**copy.deepcopy(document), **changes}, keyring.signing(2e9))


def test_head_office_itself_cannot_alter_what_devices_signed(
    run: Run, recall: str, home: Path
) -> None:
    """Every field that somebody else vouches for is checked against that, whatever seal is new."""
    document = exported(run, recall)
    assert holds(resealed(document, home))
    free = {"format", "made_at", "made_by", "name", "received_at", "outcome", "seal"}
    tried = 0
    for path in places(document):
        if path[-1] in free and path[0] != "directive" and path[0] != "cancel":
            continue
        if path[:2] == ("hq", "stolen"):
            continue
        value: Any = document
        for step in path:
            value = value[step]
        for other in altered(value):
            changed = resealed(put(document, path, other), home)
            if path[0] == "answers" and path[-1] in {"message", "record"}:
                # Another answer of the same message is an answer, too.
                continue
            if path == ("cancel",):
                continue
            assert not holds(changed), (path, other)
            tried += 1
    assert tried > 100


def test_an_answer_moved_to_another_store_or_directive_does_not_hold(
    run: Run, recall: str, field: Field, home: Path
) -> None:
    """A device's key is good for its own topic; an answer for its own directive."""
    other = str(json.loads(run("publish", "Other", "--all", "--json")[1])["id"])
    field.receipt(other, "S1", State.DONE)
    field.hub()
    one, two = exported(run, recall), exported(run, other)
    assert holds(two)
    mixed = resealed(one, home, answers=[{**two["answers"][0], "message": 0}])
    assert not holds(mixed)
    foreign = resealed(one, home, messages=two["messages"], answers=two["answers"])
    assert not holds(foreign)
    exchanged = copy.deepcopy(one["messages"])
    exchanged[0]["device"], exchanged[-1]["device"] = 1, 0
    assert not holds(resealed(one, home, messages=exchanged))
    swapped = copy.deepcopy(one["devices"])
    swapped[0]["public"], swapped[1]["public"] = swapped[1]["public"], swapped[0]["public"]
    assert not holds(resealed(one, home, devices=swapped))
    renamed = copy.deepcopy(one["devices"])
    renamed[0]["joined"] = renamed[1]["joined"]
    assert not holds(resealed(one, home, devices=renamed))


def test_another_head_office_cannot_pose_as_this_one(
    run: Run, recall: str, home: Path, tmp_path: Path
) -> None:
    """With keys of its own it makes another chain; the recovery key tells them apart."""
    from hqconsole import keyring

    document = exported(run, recall)
    other = keyring.create(_folder(tmp_path / "other"), at=1.0)
    theirs = composing.seal(
        {
            **document,
            "hq": {
                **document["hq"],
                "recovery": other.recovery,
                "keys": [composing._entry(entry) for entry in other.entries],
            },
        },
        other.signing(2e9),
    )
    assert not holds(theirs)  # the directive's seal is not theirs
    mixed = composing.seal(document, other.signing(2e9))
    assert not holds(mixed)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_keys_that_were_replaced_prove_and_stolen_ones_do_not(
    run: Run, recall: str, field: Field, home: Path
) -> None:
    """After a rotation the old seals hold; after a theft the hub has sealed anew."""
    run("key", "rotate", "--overlap", "0")
    document = exported(run, recall)
    assert holds(document)
    assert document["seal"][:32] != document["directive"]["seal"][:32]
    recovery = str(home / "keys" / "recovery.key")
    run("key", "recover", "--recovery-key", recovery, "--stolen")
    assert not holds(exported(run, recall))
    field.hub()
    renewed = exported(run, recall)
    assert holds(renewed)
    assert any("stolen later" in line for line in lines(renewed))
    # Whoever has the stolen key seals as before the theft; who knows of it refuses that.
    assert not holds({**document, "hq": renewed["hq"]})


def test_answers_from_before_signing_are_called_so(run: Run, recall: str, field: Field) -> None:
    """They are in the file, as head office's word."""
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        connection.execute(
            "INSERT INTO arrival (no, device_no, id, kind, said_at, received_at, data,"
            " directive_no, mailbox_no) VALUES (0, 1, zeroblob(16), 'receipt', 1.0, 1.0, ?, 1, 1)",
            (encode_data(Receipt(directive=recall, role="any", state=State.READ)),),
        )
    document = exported(run, recall)
    said = lines(document)
    assert sum("unsigned, from before" in line for line in said) == 2
    assert any(line.startswith("! 1 answers are unsigned") for line in said)


def test_it_waits_for_the_hub_to_seal(run: Run, home: Path) -> None:
    """With the command that mends it."""
    directive = json.loads(run("publish", "Now", "--all", "--json")[1])["id"]
    code, out, errors = run("evidence", directive)
    assert (code, out) == (1, "")
    assert "not sealed yet" in errors
    assert "hint: the hub" in errors


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b"\xff",
        b'{"format": "storebus evidence 1"}',
        b'{"format": "storebus evidence 1", "hq": []}',
        b'{"format": "storebus evidence 2"}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_evidence_is_refused(run: Run, tmp_path: Path, content: bytes) -> None:
    """Exit code 1 and a line; never a stack trace."""
    (tmp_path / "file").write_bytes(content)
    code, out, errors = run("evidence", "--check", str(tmp_path / "file"))
    assert (code, out) == (1, "")
    assert errors.count("\n") == 1


def test_a_name_that_stands_twice_is_refused(run: Run, recall: str, tmp_path: Path) -> None:
    """Otherwise a reader could be shown one value and the check another."""
    text = json.dumps(exported(run, recall))
    doubled = text.replace('"made_by"', '"made_by": "somebody else", "made_by"', 1)
    (tmp_path / "file").write_text(doubled, encoding="utf-8")
    code, _, errors = run("evidence", "--check", str(tmp_path / "file"))
    assert code == 1
    assert "twice" in errors


def test_wrong_words_are_wrong_use(run: Run, home: Path) -> None:
    """Exit code 2."""
    for words in ((), ("abcd1234", "--check", "x"), ("abcd1234", "--recovery-key", "x")):
        assert run("evidence", *words)[0] == 2, words
    assert run("evidence", "abcd1234")[0] == 1
    assert run("evidence", "--check", "no-such-file")[0] == 1
