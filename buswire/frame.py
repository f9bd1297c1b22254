"""How a message is laid in an MQTT payload: a header line, then the JSON text.

The header is `storebus/1`, and after it, separated by blanks, whatever a signature needs (key,
signature); readers that do not check one ignore it. The bytes behind the first line feed are
exactly what was signed, so that they can be kept as evidence and checked without being encoded
again.
"""

from typing import Any

import msgspec

from buswire.errors import WireError
from buswire.messages import (
    MESSAGE_BYTES_LIMIT,
    MESSAGE_KINDS,
    AnyMessage,
    UnknownKindError,
)

VERSION = b"storebus/1"

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyMessage)


class _Kind(msgspec.Struct):
    kind: str


def encode(message: AnyMessage) -> bytes:
    """Lay a message in a payload.

    Raises:
        WireError: It would be larger than `MESSAGE_BYTES_LIMIT`; writers cut their batches well
            below it, so this is a fault of the caller.
    """
    payload = VERSION + b"\n" + _encoder.encode(message)
    if len(payload) > MESSAGE_BYTES_LIMIT:
        raise WireError(f"a {type(message).__name__} of {len(payload)} bytes is over the limit")
    return payload


def decode(payload: bytes) -> AnyMessage:
    """Read a payload.

    Raises:
        UnknownKindError: A well-formed message of a kind that this version does not know.
        WireError: Anything else that is not a message of this version.
    """
    if len(payload) > MESSAGE_BYTES_LIMIT:
        raise WireError(f"{len(payload)} bytes are over the limit of {MESSAGE_BYTES_LIMIT}")
    header, line_feed, text = payload.partition(b"\n")
    version = header.split(b" ", 1)[0]
    if not line_feed or version != VERSION:
        if version.startswith(b"storebus/") and line_feed:
            shown = version[:40].decode("ascii", "replace")
            raise WireError(f"a message of version {shown!r}", hint="bring both sides up to date")
        raise WireError("not a message of storebus")
    try:
        message: AnyMessage = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            kind = msgspec.json.decode(text, type=_Kind).kind
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = None
        if kind is not None and kind not in MESSAGE_KINDS:
            raise UnknownKindError(f"unknown message kind {kind[:40]!r}") from error
        raise WireError(f"a message that does not fit the contract: {error}") from error
    return message
