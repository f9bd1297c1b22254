"""The evidence file: one directive with everything that proves it, for who trusts neither side.

Owns the form of the file. It is JSON, laid out for the eye; what is sealed is the same JSON without
the seal, with sorted keys and no blanks (`sealed_bytes`). What was signed by devices and sealed by
HQ stands in it byte by byte, as text where it is text.

- What a device said, the device's own signature proves.
- Whose key that is, HQ's signed word from the day the device joined proves.
- What was asked of whom, HQ's seal on the directive proves.
- When an answer arrived, and that the list is complete, HQ's seal on the whole file says: it is
  HQ's word, which HQ cannot take back.

`evidence_check` reads it, and shares no code with this on purpose: it is handed to others.
"""

import base64
import json
from typing import Any

from buswire import signing
from buswire.signing import PublicKey, SigningKey
from buswire.trust import KeyEntry
from hqconsole.keyring import Keyring
from hqconsole.ledger.evidence_views import Answer, DeviceKey, DirectiveEvidence, SignedMessage

FORMAT = "storebus evidence 1"
SEAL_KIND = "evidence"


def compose(
    found: DirectiveEvidence, keyring: Keyring, *, name: str, made_at: float, made_by: str
) -> dict[str, Any]:
    """Lay out the file, with HQ's seal on all of it.

    Args:
        found: From the ledger.
        keyring: HQ's keys; the one that signs at `made_at` seals.
        name: What head office is called.
        made_at: Unix time.
        made_by: Who makes it.
    """
    key_numbers = {no: index for index, no in enumerate(found.device_keys)}
    numbers = {no: index for index, no in enumerate(found.messages)}
    document: dict[str, Any] = {
        "format": FORMAT,
        "made_at": made_at,
        "made_by": made_by.encode("utf-8", "backslashreplace").decode(),
        "hq": {
            "name": name,
            "recovery": keyring.recovery,
            "keys": [_entry(entry) for entry in keyring.entries],
            "stolen": sorted(keyring.stolen),
        },
        "directive": {**_bytes(found.directive.data), "seal": found.directive.seal},
        "cancel": None
        if found.cancel is None
        else {**_bytes(found.cancel.data), "seal": found.cancel.seal},
        "mailboxes": found.mailboxes,
        "devices": [_device(key) for key in found.device_keys.values()],
        "messages": [
            _message(message, key_numbers[message.key_no]) for message in found.messages.values()
        ],
        "answers": [_answer(answer, numbers) for answer in found.answers],
    }
    return seal(document, keyring.signing(made_at))


def seal(document: dict[str, Any], key: SigningKey) -> dict[str, Any]:
    """The document with the key's seal on all of it."""
    return {**document, "seal": signing.seal(key, SEAL_KIND, sealed_bytes(document))}


def sealed_bytes(document: dict[str, Any]) -> bytes:
    """What the seal of the file is over."""
    rest = {name: value for name, value in document.items() if name != "seal"}
    return json.dumps(
        rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def written(document: dict[str, Any]) -> bytes:
    """The content of the file."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _bytes(data: bytes) -> dict[str, str]:
    """Exact bytes: as text where they are text, so that a reader can read them."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:  # beside what matters, a device may have sent anything
        return {"base64": base64.b64encode(data).decode()}


def _entry(entry: KeyEntry) -> dict[str, Any]:
    return {
        "epoch": entry.epoch,
        "number": entry.number,
        "key": entry.key,
        "by": entry.by,
        "signature": entry.signature,
    }


def _device(key: DeviceKey) -> dict[str, Any]:
    return {
        "store": key.store,
        "device": key.device,
        "key": key.key_id,
        "public": PublicKey(key.public).text,
        "joined": {
            "topic": key.joined_topic,
            **_bytes(key.joined_text),
            "key": key.joined_key,
            "signature": key.joined_signature,
        },
    }


def _message(message: SignedMessage, device: int) -> dict[str, Any]:
    return {
        "device": device,
        "topic": message.topic,
        **_bytes(message.text),
        "signature": message.signature,
    }


def _answer(answer: Answer, numbers: dict[int, int]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "message": None if answer.message_no is None else numbers[answer.message_no],
        "record": answer.record,
        "received_at": answer.received_at,
        "outcome": answer.outcome,
    }
    if answer.message_no is None:
        shown |= {
            "kind": answer.kind,
            "store": answer.store,
            "device": answer.device,
            "said_at": answer.said_at,
            **_bytes(answer.data),
        }
    return shown
