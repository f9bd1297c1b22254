"""Checks an evidence file of storebus, on its own: Python 3.11 and `cryptography` are all it needs.

    python evidence_check.py FILE [--recovery-key TEXT]

Copy this file to whoever is to judge. It says what was asked of whom, who answered what and when,
and whether each signature holds; it ends with exit status 1 at the first thing that does not hold.

What it checks, and why that proves it:

- HQ's keys are announced one by one, from the recovery key on. Give the recovery key that HQ told
  you by another way (`hq key list` shows it): without it you only know that the file agrees with
  itself.
- A thief of HQ's key can leave out of the chain what came after it: compare the newest key in the
  file with what `hq key list` shows, too.
- The directive, its withdrawal and the whole file bear HQ's seal: HQ cannot deny them. The
  mailboxes are those that the directive names by their SHA-256.
- Each answer lies in a message that was signed, for the topic of that device alone, with the
  device's own key; HQ signed whose key it is when the device joined.
- When an answer arrived, and that no answer is left out, is HQ's word (its seal on the file). When
  it was said is the word of the device and its clock.

All signatures are Ed25519 (RFC 8032); a key's id is the first half of its SHA-256, in hex.
"""

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "storebus evidence 1"


class EvidenceError(Exception):
    """Something in the file does not hold; the text says what."""


class HqKeys(NamedTuple):
    """HQ's keys by their ids: all that were ever announced, and those that are trusted now."""

    announced: dict[str, bytes]
    trusted: tuple[str, ...]
    stolen: frozenset[str]


class Device(NamedTuple):
    """Whose key it is."""

    store: str
    name: str
    key: bytes


class Message(NamedTuple):
    """A message whose signature holds."""

    device: Device
    records: dict[str, dict[str, Any]]


def check(document: Any, recovery_key: str | None = None) -> Iterator[str]:
    """Check everything, and say what holds, line by line.

    Args:
        document: The file, read as JSON.
        recovery_key: HQ's recovery key or its fingerprint, as HQ told it by another way.

    Raises:
        EvidenceError: At the first thing that does not hold.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise EvidenceError(f"this is no evidence file of the format {FORMAT!r}")
    try:
        yield from _check(document, recovery_key)
    except (
        *(KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError),
    ) as error:
        raise EvidenceError(f"the file does not have its form: {error!r}") from error


def _check(document: dict[str, Any], recovery_key: str | None) -> Iterator[str]:
    hq = document["hq"]
    _check_recovery_key(hq["recovery"], recovery_key)
    keys = _hq_keys(hq)
    sealed = {name: value for name, value in document.items() if name != "seal"}
    whole = json.dumps(
        sealed, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
    by = _check_seal(keys, "evidence", whole, document["seal"], "the whole file")
    if by not in keys.trusted:
        raise EvidenceError(f"the file is sealed with the key {by[:8]}, which was replaced")
    yield f"head office: {hq['name']}, recovery key {_fingerprint(_raw(hq['recovery']))}"
    newest = keys.trusted[-1]
    yield (
        f"sealed while its newest key was {_fingerprint(keys.announced[newest])}: if head office"
        " has declared that one stolen since, this proves nothing"
    )
    yield f"the file: made {_clock(document['made_at'])} by {document['made_by']}, its seal holds"
    yield from _check_hq_documents(document, keys)
    devices = [_device(one, keys) for one in document["devices"]]
    messages = [_message(one, devices) for one in document["messages"]]
    directive_id = _read(_bytes(document["directive"]))["id"]
    unsigned = 0
    for answer in document["answers"]:
        unsigned += answer["message"] is None
        yield _answer(answer, messages, directive_id)
    for one in document["devices"]:
        if one["joined"]["key"] in keys.stolen:
            yield (
                f"! the key of {one['store']}.{one['device']} was let in with a key of head"
                " office's that was stolen later; only the seal of this file says whose it is"
            )
    signed = len(document["answers"]) - unsigned
    yield f"{signed} answers, each signature holds"
    if unsigned:
        yield f"! {unsigned} answers are unsigned, from before: nothing but head office's word"
    if recovery_key is None:
        yield (
            "! the recovery key was taken from the file itself: compare it with what head office"
            " says, and give it with --recovery-key"
        )


# --- head office ---------------------------------------------------------------------------------


def _check_recovery_key(text: str, expected: str | None) -> None:
    if expected is None:
        return
    wanted = "".join(expected.split())
    if wanted != text and wanted.lower() != _key_id(_raw(text)):
        raise EvidenceError(
            "the recovery key in the file is not the one given: this is another head office"
        )


def _hq_keys(hq: dict[str, Any]) -> HqKeys:
    """Follow HQ's chain of keys from the recovery key on."""
    recovery = _raw(hq["recovery"])
    announced: dict[str, bytes] = {}
    trusted: list[str] = []
    epoch = number = 0
    for entry in hq["keys"]:
        here = f"{entry['epoch']}.{entry['number']}"
        signers: dict[str, bytes] = {}
        if entry["epoch"] > epoch:
            signers = {_key_id(recovery): recovery}
            trusted = []
        elif entry["epoch"] == epoch and entry["number"] == number + 1:
            signers = {known: announced[known] for known in trusted}
        signer = signers.get(entry["by"])
        signed = f"storebus/1 key\n{entry['epoch']} {entry['number']} {entry['key']}".encode()
        if signer is None or not _verifies(signer, entry["signature"], signed):
            raise EvidenceError(f"head office's key {here} was not announced by one before it")
        key = _raw(entry["key"])
        announced[_key_id(key)] = key
        trusted = [*trusted[-1:], _key_id(key)]
        epoch, number = entry["epoch"], entry["number"]
    stolen = frozenset(hq["stolen"])
    if not stolen <= announced.keys():
        raise EvidenceError("a key is called stolen that was never announced")
    return HqKeys(announced, tuple(trusted), stolen)


def _check_seal(keys: HqKeys, kind: str, data: bytes, seal: str, what: str) -> str:
    """Returns the id of the key that sealed it."""
    by, _, signature = seal.partition(" ")
    key = keys.announced.get(by)
    if key is None:
        raise EvidenceError(f"{what} is not sealed by a key of head office's")
    if by in keys.stolen:
        raise EvidenceError(f"{what} is sealed with the key {by[:8]}, which was declared stolen")
    if not _verifies(key, signature, b"storebus/1 seal\n" + kind.encode() + b"\n" + data):
        raise EvidenceError(f"the seal of {what} does not hold: it was altered")
    return by


def _check_hq_documents(document: dict[str, Any], keys: HqKeys) -> Iterator[str]:
    data = _bytes(document["directive"])
    by = _check_seal(keys, "directive", data, document["directive"]["seal"], "the directive")
    directive = _read(data)
    yield (
        f"the directive {directive['id'][:8]}: {directive['title']!r}, issued"
        f" {_clock(directive.get('issued_at', 0.0))} by {directive.get('issued_by') or '?'},"
        f" its seal holds (key {by[:8]})"
    )
    mailboxes = document["mailboxes"]
    audience = directive.get("audience") or {"mailboxes": 0, "digest": ""}
    lines = "".join(f"{mailbox}\n" for mailbox in sorted(set(mailboxes)))
    if len(mailboxes) != len(set(mailboxes)) or not all(isinstance(one, str) for one in mailboxes):
        raise EvidenceError("the list of mailboxes has one twice")
    if hashlib.sha256(lines.encode()).hexdigest() == audience["digest"]:
        yield f"its audience: {len(mailboxes)} mailboxes, as it was frozen when it was issued"
    elif len(mailboxes) != audience["mailboxes"]:
        yield (
            f"! its audience: frozen for {audience['mailboxes']} mailboxes, of which head office"
            f" knows {len(mailboxes)} since its ledger was put back from a backup"
        )
    else:
        raise EvidenceError("the mailboxes are not those that the directive was frozen for")
    if document["cancel"] is not None:
        data = _bytes(document["cancel"])
        by = _check_seal(keys, "cancel", data, document["cancel"]["seal"], "the withdrawal")
        cancel = _read(data)
        if cancel["directive"] != directive["id"]:
            raise EvidenceError("the withdrawal is that of another directive")
        yield (
            f"withdrawn {_clock(cancel.get('cancelled_at', 0.0))} by"
            f" {cancel.get('cancelled_by') or '?'}: {cancel.get('reason', '')!r}, its seal holds"
            f" (key {by[:8]})"
        )


# --- stores --------------------------------------------------------------------------------------


def _device(one: dict[str, Any], keys: HqKeys) -> Device:
    """Make sure that HQ said whose key it is."""
    name = f"{one['store']}.{one['device']}"
    key = _raw(one["public"])
    if _key_id(key) != one["key"]:
        raise EvidenceError(f"the key of {name} does not have the id that is given")
    joined = one["joined"]
    text = _bytes(joined)
    by = keys.announced.get(joined["key"])
    if by is None or not _verifies(by, joined["signature"], _message_bytes(joined["topic"], text)):
        raise EvidenceError(f"head office did not sign that this is the key of {name}")
    said = _read(text)
    expected = ("joined", "accepted", one["store"], one["device"], one["key"])
    if tuple(said.get(n) for n in ("kind", "verdict", "store", "device", "key")) != expected:
        raise EvidenceError(f"what head office signed about the key of {name} says something else")
    return Device(one["store"], one["device"], key)


def _message(one: dict[str, Any], devices: Sequence[Device]) -> Message:
    """Make sure that the device signed it."""
    device = devices[_index(one["device"])]
    text = _bytes(one)
    if not one["topic"].endswith(f"/from/{device.store}/{device.name}"):
        raise EvidenceError(f"a message of {device.store}.{device.name} is on another topic")
    if not _verifies(device.key, one["signature"], _message_bytes(one["topic"], text)):
        raise EvidenceError(
            f"{device.store}.{device.name} did not sign a message of its own so: it was altered"
        )
    said = _read(text)
    if said["kind"] != "records":
        raise EvidenceError(f"a message of {device.store}.{device.name} is a {said['kind']}")
    # Of two records with one id head office takes the first.
    return Message(device, {record["id"]: record for record in reversed(said["records"])})


def _answer(answer: dict[str, Any], messages: Sequence[Message], directive_id: str) -> str:
    """One answer in words, from what was signed."""
    if answer["message"] is None:
        store, name, kind, at = (answer[n] for n in ("store", "device", "kind", "said_at"))
        said, proof = _read(_bytes(answer)), "unsigned, from before"
    else:
        message = messages[_index(answer["message"])]
        store, name = message.device.store, message.device.name
        record = message.records.get(answer["record"])
        if record is None:
            raise EvidenceError(f"an answer of {store}.{name} is not in the message it names")
        kind, at, said, proof = record["kind"], record["at"], record["data"], "signature holds"
    if kind not in {"receipt", "reply"} or said["directive"] != directive_id:
        raise EvidenceError(f"an answer of {store}.{name} is about something else")
    what = f"replies {said['text']!r}" if kind == "reply" else str(said["state"])
    why = said.get("reason") or said.get("note") or ""
    words = [
        f"{store}/{said['role']}",
        f"on {name}",
        what,
        f"by {said['by']}" if said.get("by") else "",
        f"({why})" if why else "",
        f"said {_clock(at)}, arrived {_clock(answer['received_at'])}",
        f"[{answer['outcome']}]" if answer["outcome"] else "",
        f"- {proof}",
    ]
    return " ".join(filter(None, words))


# --- signatures and texts ------------------------------------------------------------------------


def _index(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no place in a list")
    return value


def _message_bytes(topic: str, text: bytes) -> bytes:
    return b"storebus/1\n" + topic.encode() + b"\n" + text


def _read(text: bytes) -> Any:
    """What was signed, read as its receiver has read it, whatever else a device has put into it."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 20_000))
    try:
        as_text = text.decode("utf-8", "surrogateescape")
        return json.loads(as_text, parse_int=_number, strict=False)
    finally:
        sys.setrecursionlimit(limit)


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) < 400 else digits


def _bytes(holder: dict[str, Any]) -> bytes:
    if "text" in holder:
        return str(holder["text"]).encode()
    return base64.b64decode(holder["base64"], validate=True)


def _raw(text: str) -> bytes:
    """Read base64url without padding, in its one spelling."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("not base64url")
    return raw


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:32]


def _fingerprint(key: bytes) -> str:
    return " ".join(_key_id(key)[start : start + 4] for start in range(0, 32, 4))


def _verifies(key: bytes, signature: str, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(_raw(signature), data)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def _clock(at: float) -> str:
    """A moment, in UTC so that everybody reads the same."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):  # a clock in a store may say anything
        return f"at {at!r}"


def _say(stream: TextIO, text: str) -> None:
    """One line, with nothing in it that a terminal would obey."""
    harmless = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
    encoding = stream.encoding or "ascii"
    stream.write(harmless.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a file and print what holds; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", help="what hq evidence has written; - is standard input")
    parser.add_argument(
        "--recovery-key",
        metavar="TEXT",
        help="HQ's recovery key or its fingerprint, as HQ told you by another way",
    )
    given = parser.parse_args(arguments)
    try:
        content = sys.stdin.buffer.read() if given.file == "-" else Path(given.file).read_bytes()
        document = json.loads(content, object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        _say(sys.stderr, f"error: {given.file}: {error}")
        return 1
    try:
        for line in check(document, given.recovery_key):
            _say(sys.stdout, line)
    except EvidenceError as error:
        sys.stdout.flush()
        _say(sys.stderr, f"does not hold: {error}")
        return 1
    return 0


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """No name twice: a reader could see one value while the other is checked."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


if __name__ == "__main__":
    sys.exit(main())
