"""The files that HQ hands out: the access file and the join bundle come out as they went in."""

import hashlib

import pytest

from buswire.access import (
    AccessFile,
    DeviceAccess,
    HubAccess,
    JoinAccess,
    ToolAccess,
    decode_access,
    encode_access,
    token_hash,
)
from buswire.errors import WireError
from buswire.joining import Bundle, decode_bundle, encode_bundle
from buswire.signing import SigningKey
from buswire.trust import Trusted

HASH = token_hash("secret")
ACCESS = AccessFile(
    version=17,
    root="storebus/v1",
    mutual_tls=True,
    hubs={"hub/0123456789abcdef": HubAccess(tokens=[HASH])},
    devices={
        "S017.till-1": DeviceAccess(tokens=[HASH, HASH], region="east", roles=["manager"]),
        "S018.till-1": DeviceAccess(tokens=[]),
    },
    tools={"tool/board": ToolAccess(tokens=[HASH], reads=["storebus/v1/heads/+"])},
    joins={"join/5d2c1b0a99887766": JoinAccess(tokens=[HASH])},
)
KEY = SigningKey(bytes(32)).public
BUNDLE = Bundle(
    id="5d2c1b0a99887766",
    root="storebus/v1",
    store="S017",
    device="till-1",
    roles=["manager"],
    brokers=["mqtts://bus.example.com:8883"],
    ca="-----BEGIN CERTIFICATE-----\n",
    trust=Trusted(recovery=KEY.text, epoch=1, number=1, keys=[KEY.text]),
    token="a-token",
    invite=KEY.text,
    expires_at=1.8e9,
)


def test_what_is_written_is_read() -> None:
    """Both files, with everything in them."""
    assert decode_access(encode_access(ACCESS)) == ACCESS
    assert decode_bundle(encode_bundle(BUNDLE)) == BUNDLE


def test_a_token_is_kept_as_its_hash() -> None:
    """SHA-256 of the text, as other brokers' configurations can make it too."""
    assert token_hash("secret") == hashlib.sha256(b"secret").hexdigest()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"version":1}',
        b'{"version":-1,"root":"r"}',
        b'{"version":1,"root":"r","devices":{"a.b":{"tokens":["short"]}}}',
        b'{"version":1,"root":"r","devices":{"a.b":{"tokens":"x"}}}',
        b'{"version":1,"root":"r","hubs":[]}',
        b'{"format":2,"version":1,"root":"r"}',
        b"[" * 100_000,
    ],
)
def test_half_a_file_and_garbage_are_refused_with_a_hint(content: bytes) -> None:
    """A broker keeps what it had, a device asks for another bundle."""
    for decode in (decode_access, decode_bundle):
        with pytest.raises(WireError) as caught:
            decode(content)
        assert caught.value.hint


def test_a_file_cut_anywhere_is_refused() -> None:
    """None of its beginnings is a file."""
    whole = encode_access(ACCESS).rstrip()
    for end in range(0, len(whole) - 1, 7):
        with pytest.raises(WireError):
            decode_access(whole[:end])


def test_a_bundle_of_a_newer_format_says_what_mends_it() -> None:
    """The device is to be brought up to date."""
    with pytest.raises(WireError, match="format 9") as caught:
        decode_bundle(encode_bundle(BUNDLE).replace(b'"root"', b'"format": 9, "root"', 1))
    assert caught.value.hint
