"""The access file: what HQ's hub tells a broker about who may connect and who they are.

Owns the format and nothing that follows from it: the policy is the broker's (`broker/access.py`,
derived from `topics`), the content is HQ's. It holds hashes of tokens and no secret.

Names are identities as a client gives them, user name and client id alike:

- `<store>.<device>` for a device,
- `hub/<id>` for a hub; its client id has `/<run>` after it, so that two runs do not throw each
  other off for ever, and the older one can tell the younger to go,
- `tool/<name>` for a program that only listens,
- `join/<id>` for a device that has a join bundle and is nobody yet.

A device's name has no slash, so the kinds cannot be confused.
"""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from buswire.cursors import Number
from buswire.errors import WireError

FORMAT = 1
TOKEN_BYTES = 32
"""Tokens are random, so a plain hash is enough; a slow one would turn a reconnect storm into
minutes of processor time and buy nothing."""

HUB_PREFIX = "hub/"
TOOL_PREFIX = "tool/"
JOIN_PREFIX = "join/"

TokenHash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


def token_hash(token: str) -> str:
    """The hash under which a token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


class HubAccess(msgspec.Struct, frozen=True, kw_only=True):
    """A hub."""

    tokens: list[TokenHash]


class DeviceAccess(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device: more than one token only while one replaces another."""

    tokens: list[TokenHash]
    region: str = ""
    """Of its store; empty where the store is closed: then it has no channels."""
    roles: list[str] = []
    """What it serves, without `any`."""


class ToolAccess(msgspec.Struct, frozen=True, kw_only=True):
    """A program of the operators' that listens and says nothing."""

    tokens: list[TokenHash]
    reads: list[str]
    """Topic filters, root included: it may subscribe to these and to narrower ones."""


class JoinAccess(msgspec.Struct, frozen=True, kw_only=True):
    """A join bundle that was given out."""

    tokens: list[TokenHash]


class AccessFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole file; a broker takes a new one whole or not at all."""

    format: int = FORMAT
    version: Number
    """Rises with every change; a broker takes whatever file is there, for a ledger may come back
    from an older copy."""
    root: str
    mutual_tls: bool = False
    """Whether devices and hubs must show a certificate whose common name is their identity."""
    hubs: dict[str, HubAccess] = {}
    devices: dict[str, DeviceAccess] = {}
    tools: dict[str, ToolAccess] = {}
    joins: dict[str, JoinAccess] = {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AccessFile)


def encode_access(access: AccessFile) -> bytes:
    """Write it down."""
    return _encoder.encode(access) + b"\n"


def decode_access(content: bytes) -> AccessFile:
    """Read what `encode_access` wrote.

    Raises:
        WireError: It is no access file of this format.
    """
    try:
        access = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not an access file: {error}", hint="the hub writes it anew") from error
    if access.format != FORMAT:
        raise WireError(
            f"an access file of format {access.format}, and {FORMAT} is what is known here",
            hint="bring hub and broker to the same version",
        )
    return access
