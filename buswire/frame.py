"""How a message is laid in an MQTT payload: a header line, then the JSON text.

The header is `storebus/1`, the id of the sender's key and the signature, separated by blanks. The
bytes behind the first line feed are what was signed, together with the topic (`signing`): they can
be kept as evidence and checked again without being encoded anew.

A payload is verified before anything in it is read: `verify`, then `decode_text`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from buswire.errors import WireError
from buswire.messages import (
    MESSAGE_BYTES_LIMIT,
    MESSAGE_KINDS,
    AnyMessage,
    UnknownKindError,
)
from buswire.signing import (
    ForgeryError,
    PublicKey,
    SigningKey,
    UnknownKeyError,
    message_bytes,
    parse_signature,
    signature_text,
)
from buswire.unreadable import records_around

VERSION = b"storebus/1"

KeyOf = Callable[[str], PublicKey | None]
"""Gives the key of an id, where it may speak on the topic in question; None where it may not."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyMessage)
_KEY_CHARACTERS = frozenset(b"0123456789abcdef")


class _Kind(msgspec.Struct):
    kind: str


class Envelope(NamedTuple):
    """A payload taken apart, not yet believed."""

    key_id: str
    signature: str
    text: bytes


def encode(message: AnyMessage, topic: str, key: SigningKey) -> bytes:
    """Lay a message in a payload for this topic, signed.

    Raises:
        WireError: It would be larger than `MESSAGE_BYTES_LIMIT`; writers cut their batches well
            below it, so this is a fault of the caller.
    """
    text = _encoder.encode(message)
    signature = signature_text(key.sign(message_bytes(topic, text)))
    payload = b"%b %b %b\n%b" % (VERSION, key.id.encode(), signature.encode(), text)
    if len(payload) > MESSAGE_BYTES_LIMIT:
        raise WireError(f"a {type(message).__name__} of {len(payload)} bytes is over the limit")
    return payload


def take_apart(payload: bytes) -> Envelope:
    """Find header and text of a payload; nothing is believed yet.

    Raises:
        ForgeryError: It is not signed.
        WireError: It is not a message of this version.
    """
    if len(payload) > MESSAGE_BYTES_LIMIT:
        raise WireError(f"{len(payload)} bytes are over the limit of {MESSAGE_BYTES_LIMIT}")
    header, line_feed, text = payload.partition(b"\n")
    version, *rest = header.split(b" ")
    if not line_feed or version != VERSION:
        if version.startswith(b"storebus/") and line_feed:
            shown = version[:40].decode("ascii", "replace")
            raise WireError(f"a message of version {shown!r}", hint="bring both sides up to date")
        raise WireError("not a message of storebus")
    if len(rest) != 2 or len(rest[0]) != 32 or not _KEY_CHARACTERS.issuperset(rest[0]):
        raise ForgeryError("a message without a signature")
    return Envelope(rest[0].decode(), rest[1].decode("ascii", "replace"), text)


def verify(envelope: Envelope, topic: str, key_of: KeyOf) -> None:
    """Make sure that the message was signed for this topic with a key that may speak there.

    Raises:
        UnknownKeyError: The key is not one of those.
        ForgeryError: The signature is not of that key over this text for this topic.
    """
    key = key_of(envelope.key_id)
    if key is None:
        raise UnknownKeyError(envelope.key_id)
    signature = parse_signature(envelope.signature)
    # With a line feed in the topic, other bytes of the text could have been signed as part of it.
    if "\n" in topic or not key.verifies(signature, message_bytes(topic, envelope.text)):
        raise ForgeryError(
            f"a message on this topic that the key {envelope.key_id[:8]} did not sign so"
        )


def decode_text(text: bytes) -> AnyMessage:
    """Read the text of a message that was verified.

    Records whose data nobody can read are among the others as they came (`unreadable`);
    `decode_data` refuses them.

    Raises:
        UnknownKindError: A well-formed message of a kind that this version does not know.
        WireError: Anything else that is not a message of this version.
    """
    try:
        text.decode()  # the decoder passes over what it need not read, whatever is in it
        message: AnyMessage = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            kind = msgspec.json.decode(text, type=_Kind).kind
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = None
        if kind is not None and kind not in MESSAGE_KINDS:
            raise UnknownKindError(f"unknown message kind {kind[:40]!r}") from error
        records = records_around(text)
        if records is not None:
            return records
        raise WireError(f"a message that does not fit the contract: {error}") from error
    return message


def read(payload: bytes, topic: str, key_of: KeyOf) -> AnyMessage:
    """Verify a payload and read it.

    Raises:
        ForgeryError: Not signed, or not by a key that may speak on this topic, or altered.
        UnknownKindError: A well-formed message of a kind that this version does not know.
        WireError: Anything else that is not a message of this version.
    """
    envelope = take_apart(payload)
    verify(envelope, topic, key_of)
    return decode_text(envelope.text)
