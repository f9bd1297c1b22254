"""Identifiers: what may stand in a topic, and what people are told when something may not."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buswire.errors import WireError
from buswire.names import (
    ALL_PLACE,
    ANY_ROLE,
    identifier,
    is_reserved,
    new_identifier,
    shown,
    slug,
)


@pytest.mark.parametrize(
    "name",
    [
        "S017",
        "a",
        "7",
        "east-2",
        "till_1",
        "上海-01",
        "東京",
        "München",
        "دبي",
        "हिन्दी",
        "กรุงเทพ",
        "٣٤",
    ],
)
def test_letters_and_digits_of_any_script_are_identifiers(name: str) -> None:
    """A store may be called what its people call it, in their script."""
    assert identifier(name, "store") == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a/b", "separates the levels"),
        ("a+b", "wildcard"),
        ("a#", "wildcard"),
        ("$SYS", "broker's own"),
        ("a.b", "NATS"),
        ("a b", "a space"),
        (" a", "a space"),
        ("a\n", "control character U+000A"),
        ("a\x00", "control character U+0000"),
        ("a\x1b[31m", "control character U+001B"),
        ("a\u200bb", "invisible character U+200B"),
        ("a\u202eb", "invisible character U+202E"),
        ("a\ufe0f", "invisible character U+FE0F"),
        ("\u3164", "invisible character U+3164"),
        ("a\ud800", "lone surrogate U+D800"),
        ("a\u00a0b", "invisible character U+00A0"),
        ("a*b", "'*'"),
        ("🏬", "'🏬'"),
        ("①", "'①'"),
        ("", "empty"),
        ("-a", "begins with '-'"),
        ("_a", "begins with '_'"),
        ("\u0301a", "begins with the combining mark"),
    ],
)
def test_what_means_something_in_a_topic_is_refused_by_name(name: str, told: str) -> None:
    """The refusal says which character is wrong, and there is always a hint."""
    with pytest.raises(WireError) as caught:
        identifier(name, "store")
    assert told in str(caught.value)
    assert "store" in str(caught.value)
    assert caught.value.hint
    assert str(caught.value).isprintable(), "text from outside reaches a terminal escaped"


def test_the_hint_of_a_refusal_is_the_word_to_type() -> None:
    """A store called a/b is told that a-b would do."""
    with pytest.raises(WireError) as caught:
        identifier("North / 7", "store")
    assert caught.value.hint is not None
    assert "write North-7," in caught.value.hint


def test_length_is_limited_in_characters_and_in_bytes() -> None:
    """64 letters pass and 65 do not; 128 bytes of UTF-8 pass and more do not."""
    assert identifier("a" * 64, "store") == "a" * 64
    assert identifier("é" * 64, "store") == "é" * 64
    assert identifier("東" * 42, "store") == "東" * 42
    for name, told in (("a" * 65, "65 characters"), ("東" * 43, "129 bytes"), ("é" * 65, "65")):
        with pytest.raises(WireError, match=told):
            identifier(name, "store")
    with pytest.raises(WireError, match="1000000 characters") as caught:
        identifier("/" * 1_000_000, "store")
    assert len(str(caught.value)) < 200


def test_two_spellings_of_one_name_are_one_identifier() -> None:
    """Composed and decomposed letters give the same bytes on the wire."""
    decomposed = "Mu\u0308nchen"
    assert identifier(decomposed, "store") == "M\u00fcnchen"
    assert identifier("u\u0308" * 64, "store") == "\u00fc" * 64


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("East", "east"),
        ("Île-de-France & Nord", "île-de-france-nord"),
        ("  Gulf  /  Levant ", "gulf-levant"),
        ("Straße", "strasse"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full-width"),  # noqa: RUF001 - full-width letters are the point
        ("Zone ①", "zone-1"),
        ("store_manager", "store_manager"),
        ("華東", "華東"),
        ("العربية", "العربية"),
        ("İstanbul", "istanbul"),
        ("soft\u00adware", "software"),
        ("a - \u0301b", "a-b"),
        ("🏬 shop 🏬", "shop"),
    ],
)
def test_display_names_become_identifiers(name: str, expected: str) -> None:
    """Regions and roles keep the name people know and get one that can stand in a topic."""
    assert slug(name, "region") == expected


@pytest.mark.parametrize("name", ["", "   ", "---", "&/+#", "🏬", "\u200d", "_"])
def test_a_name_without_a_letter_has_no_slug(name: str) -> None:
    """Nothing is left: refused with a hint, never an empty topic level."""
    with pytest.raises(WireError, match="no letter or digit") as caught:
        slug(name, "region")
    assert caught.value.hint


def test_words_with_a_meaning_cannot_name_something_new() -> None:
    """`any` is no role's name and `all` no store's, region's or role's; in topics `any` stands."""
    assert identifier(ANY_ROLE, "role") == "any"
    for name, what in (("any", "role"), ("Any", "role"), ("all", "store"), ("ALL", "region")):
        with pytest.raises(WireError, match="cannot be the name") as caught:
            new_identifier(name, what)
        assert caught.value.hint
        with pytest.raises(WireError, match="cannot be the name"):
            slug(name, what)
    assert is_reserved(ALL_PLACE, "role")
    assert not is_reserved("any", "store")
    assert new_identifier("region", "region") == "region"
    assert new_identifier("store", "role") == "store"
    assert new_identifier("all", "device") == "all"


def test_a_name_shown_in_a_message_is_escaped_and_cut() -> None:
    """What came from outside can neither move the cursor nor fill the screen."""
    assert shown("\x1b[2J") == "'\\x1b[2J'"
    assert len(shown("x" * 10_000)) < 60


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_either_a_clean_identifier_or_a_clear_refusal(text: str) -> None:
    """Nothing but WireError comes out, and what is accepted keeps every promise of the rule."""
    for make in (identifier, slug):
        refusal = None
        try:
            name = make(text, "device")
        except WireError as error:
            refusal = error
        if refusal is not None:
            assert refusal.hint
            assert str(refusal).isprintable()
            continue
        assert make(name, "device") == name
        assert identifier(name, "device") == name
        assert 1 <= len(name) <= 64
        assert len(name.encode()) <= 128
        assert not set(name) & set("/+#$. \x00")
        assert unicodedata.is_normalized("NFC", name)
