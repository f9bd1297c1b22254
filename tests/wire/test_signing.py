"""Keys, signatures and seals: each counts for what it was made for and for nothing else."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buswire.errors import WireError
from buswire.signing import (
    ForgeryError,
    PublicKey,
    SigningKey,
    check_seal,
    fingerprint,
    key_of_seal,
    message_bytes,
    parse_signature,
    proof_bytes,
    seal,
    signature_text,
)

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))

# RFC 8032, section 7.1, test 2.
RFC_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_it_is_the_ed25519_of_the_standard() -> None:
    """A vector of RFC 8032: other implementations of the contract will agree."""
    key = SigningKey(RFC_SEED)
    assert key.public.raw == RFC_PUBLIC
    assert key.sign(b"\x72") == RFC_SIGNATURE
    assert PublicKey(RFC_PUBLIC).verifies(RFC_SIGNATURE, b"\x72")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_one_changed_byte_of_a_signature_or_a_text_is_noticed(
    data: bytes, place: int, change: int
) -> None:
    """Nothing but the very bytes verifies."""
    signature = bytearray(KEY.sign(data))
    signature[place % 64] ^= change
    assert not KEY.public.verifies(bytes(signature), data)
    if data:
        altered = bytearray(data)
        altered[place % len(data)] ^= change
        assert not KEY.public.verifies(KEY.sign(data), bytes(altered))


def test_a_signature_of_one_use_never_counts_for_another() -> None:
    """The bytes under a message, a seal and a proof cannot be made equal."""
    texts = ["", "x", "x\ny", " seal\nx\ny", " proof\nx y", "storebus/1 seal\nx\ny"]
    made = [message_bytes(topic, text.encode()) for topic in texts for text in texts]
    assert len(set(made)) == len([(a, b) for a in texts for b in texts]) - _equal_by_line_feed(
        texts
    )
    for one in made:
        assert not one.startswith((b"storebus/1 seal\n", b"storebus/1 proof\n"))
    assert proof_bytes("b", "t").startswith(b"storebus/1 proof\n")


def _equal_by_line_feed(texts: list[str]) -> int:
    """Pairs that only differ in where a line feed belongs; no topic name of ours has one."""
    whole = [f"{topic}\n{text}" for topic in texts for text in texts]
    return len(whole) - len(set(whole))


def test_a_seal_holds_for_its_kind_and_its_bytes_alone() -> None:
    """A cancel's seal is none for a directive, and no other key can have made it."""
    made = seal(KEY, "directive", b'{"id":1}')
    check_seal(KEY.public, "directive", b'{"id":1}', made)
    assert key_of_seal(made) == KEY.id
    for key, kind, data, one in [
        (KEY.public, "cancel", b'{"id":1}', made),
        (KEY.public, "directive", b'{"id":2}', made),
        (OTHER.public, "directive", b'{"id":1}', made),
        (KEY.public, "directive", b'{"id":1}', seal(OTHER, "directive", b'{"id":1}')),
        (KEY.public, "directive", b'{"id":1}', ""),
        (KEY.public, "directive", b'{"id":1}', KEY.id),
        (KEY.public, "directive", b'{"id":1}', f"{KEY.id} short"),
        (KEY.public, "directive", b'{"id":1}', made.replace(KEY.id, OTHER.id)),
    ]:
        with pytest.raises(ForgeryError):
            check_seal(key, kind, data, one)


def test_a_text_has_one_spelling() -> None:
    """The unused bits of the last character must be zero, and padding and blanks are refused."""
    text = KEY.public.text
    assert PublicKey.parse(text) == KEY.public
    last = chr(ord(text[-1]) + 1)
    for wrong in (text[:-1] + last, text + "=", text + " ", text[:-1], "", text + "A", "ä" * 43):
        with pytest.raises(WireError):
            PublicKey.parse(wrong)
    signature = signature_text(KEY.sign(b""))
    assert parse_signature(signature) == KEY.sign(b"")
    for wrong in (signature + "=", signature[:-1], signature + "\n", "", "\0" * 86, "é" * 86):
        with pytest.raises(ForgeryError):
            parse_signature(wrong)


def test_garbage_is_no_key_and_raises_nothing_but_wire_error() -> None:
    """Seeds and keys of the wrong length, texts of any kind."""
    draw = random.Random(7)
    for length in (0, 1, 31, 33, 64):
        with pytest.raises(WireError):
            SigningKey(bytes(length))
        with pytest.raises(WireError):
            PublicKey(bytes(length))
    for _ in range(200):
        text = "".join(chr(draw.randrange(1, 500)) for _ in range(43))
        with pytest.raises(WireError):
            PublicKey.parse(text)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x01" + bytes(31),
        bytes(32),
        bytes(31) + b"\x80",
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    ],
)
def test_a_key_that_proves_nothing_is_none(raw: bytes) -> None:
    """Of a point of small order anybody can write signatures, so its owner could deny his own."""
    with pytest.raises(WireError, match="prove nothing"):
        PublicKey(raw)


def test_no_secret_shows_in_a_representation() -> None:
    """A key in a traceback names its public half."""
    assert repr(KEY) == f"SigningKey({KEY.id[:8]})"
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.public) == f"PublicKey({KEY.id[:8]})"


def test_a_fingerprint_is_the_whole_id_in_groups() -> None:
    """Two people compare 128 bits."""
    assert fingerprint(KEY.public).replace(" ", "") == KEY.id
    assert len(fingerprint(KEY.public).split()) == 8
