"""The join bundle: what a device is handed so that it can become one, once.

Owns the format. A bundle is a secret until it is used: whoever holds it first becomes the device.
It carries no key that outlives the joining: the device draws its own.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from buswire.errors import WireError
from buswire.signing import KeyText
from buswire.trust import Trusted

FORMAT = 1


class Bundle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that a device needs to find HQ, to know it, and to ask to be let in."""

    format: int = FORMAT
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    root: str
    store: str
    device: str
    roles: list[str] = []
    brokers: list[str]
    ca: str = ""
    """The certificate of the private CA that signed the broker's, PEM; empty without one."""
    trust: Trusted
    """HQ's keys, pinned from here on."""
    token: str
    """The password for the broker, good for nothing but this joining."""
    invite: KeyText
    """The seed of the key that signs the request, base64url."""
    expires_at: float = 0.0
    """By HQ's clock, which alone decides; here for people."""


_decoder = msgspec.json.Decoder(Bundle)


def encode_bundle(bundle: Bundle) -> bytes:
    """Write it down, indented: people look into such files."""
    return msgspec.json.format(msgspec.json.encode(bundle)) + b"\n"


def decode_bundle(content: bytes) -> Bundle:
    """Read what `encode_bundle` wrote.

    Raises:
        WireError: It is no join bundle of this format.
    """
    hint = "ask head office for another one: hq device add STORE DEVICE"
    try:
        bundle = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a join bundle: {error}", hint=hint) from error
    if bundle.format != FORMAT:
        raise WireError(f"a join bundle of format {bundle.format}", hint="bring both up to date")
    return bundle
