"""The catalogues have everything that staff read, and nothing in them can go wrong."""

import ast
import gettext
import io
import string
import unicodedata
from pathlib import Path

import pytest
from babel.messages import Message

from storeagent.language import DOMAIN, FOLDER, LANGUAGES, Speaker
from tools import catalogues

TRANSLATED = LANGUAGES[1:]
WANTED = catalogues.wanted()


WITHOUT_WORDS = {("", "{state} by {who}"), ("line", "id")}
"""English words for which Chinese has brackets, or the same letters."""


def _name(message: Message) -> tuple[str, str]:
    """What names a message in a catalogue."""
    key = message.id if isinstance(message.id, str) else message.id[0]
    return message.context or "", key


def _messages(language: str) -> dict[tuple[str, str], Message]:
    return {_name(one): one for one in catalogues.read(language) if one.id}


def _texts(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string)


def _fields(text: str) -> set[tuple[str, str, str]]:
    """What is put into a text, and how."""
    return {
        (name, spec or "", conversion or "")
        for _, name, spec, conversion in string.Formatter().parse(text)
        if name is not None
    }


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_catalogue_has_what_the_source_says_and_no_more(language: str) -> None:
    """Every phrase, every help of staff's verbs: `python -m tools.catalogues update` otherwise."""
    assert _messages(language).keys() == {_name(one) for one in WANTED if one.id}


@pytest.mark.parametrize("language", TRANSLATED)
def test_nothing_is_left_untranslated_or_doubtful(language: str) -> None:
    """Each text is there, finished, and in the other language."""
    found = catalogues.read(language)
    assert not found.fuzzy
    assert not found.obsolete
    for name, message in _messages(language).items():
        assert not message.fuzzy, name
        for text in _texts(message):
            assert text.strip() or not name[1].strip(), name
            has_words = any(letter.isalpha() for letter in _without_fields(name[1]))
            if has_words and name not in WITHOUT_WORDS:
                assert any(_is_chinese(letter) for letter in text), name


def _without_fields(text: str) -> str:
    return "".join(literal for literal, *_ in string.Formatter().parse(text))


def _is_chinese(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("CJK UNIFIED")


@pytest.mark.parametrize("language", TRANSLATED)
def test_placeholders_agree(language: str) -> None:
    """A translation puts in what the English text does, in the same form."""
    for name, message in _messages(language).items():
        keys = [message.id] if isinstance(message.id, str) else list(message.id)
        wanted = {field for key in keys for field in _fields(key)}
        for text in _texts(message):
            assert _fields(text) <= wanted, name
            assert {field[0] for field in _fields(text)} >= {
                field[0] for field in set.intersection(*map(_fields, keys))
            }, name


@pytest.mark.parametrize("language", TRANSLATED)
def test_what_programs_read_is_what_people_wrote(language: str) -> None:
    """The .mo has the messages of the .po: `python -m tools.catalogues compile` otherwise."""
    path = catalogues.po_path(language).with_suffix(".mo")
    with path.open("rb") as file:
        there = dict(gettext.GNUTranslations(file)._catalog)  # type: ignore[attr-defined]
    made = gettext.GNUTranslations(io.BytesIO(catalogues.compiled(catalogues.read(language))))
    compiled = dict(made._catalog)  # type: ignore[attr-defined]
    # The first entry is the header, in which the compiler names itself.
    assert {k: v for k, v in there.items() if k} == {k: v for k, v in compiled.items() if k}


def test_a_text_that_is_not_written_out_is_refused(tmp_path: Path) -> None:
    """A key that is put together while the program runs would be in no catalogue."""
    source = tmp_path / "odd.py"
    source.write_text('phrase(f"{x} things")\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 1"):
        list(catalogues.said_in(source))
    source.write_text('f(phrase("a", b=phrase_in("c", "d")), phrases("e", "f", 1))\n')
    assert set(catalogues.said_in(source)) == {(None, "a"), ("c", "d"), (None, ("e", "f"))}


def test_what_staffs_commands_narrate_goes_through_the_catalogues() -> None:
    """No command for staff writes a text with letters in it straight to the person."""
    root = catalogues.ROOT / "storeagent" / "commands"
    for name in ("look.py", "say.py"):
        for node in ast.walk(ast.parse((root / name).read_bytes())):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "narrate":
                continue
            bare = [
                one.value
                for argument in node.args
                for one in _outside_of_phrases(argument)
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            assert not any(letter.isalpha() for text in bare for letter in text), (name, bare)


def _outside_of_phrases(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Call) and getattr(node.func, "id", "").startswith("phrase"):
        return []
    if isinstance(node, ast.Subscript):
        return []
    found = [node]
    for child in ast.iter_child_nodes(node):
        found += _outside_of_phrases(child)
    return found


def test_a_broken_catalogue_costs_the_translation_and_not_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No catalogue, or one whose placeholders are wrong: English."""
    from babel.messages import Catalog

    from buswire.phrases import phrase

    monkeypatch.setattr("storeagent.language.FOLDER", tmp_path)
    said = phrase("{n} new", n=3)
    assert Speaker("zh").say(said) == "3 new"
    folder = tmp_path / "zh" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    wrong = Catalog(locale="zh")
    wrong.add("{n} new", "{m} 新")
    (folder / f"{DOMAIN}.mo").write_bytes(catalogues.compiled(wrong))
    gettext._translations.clear()  # type: ignore[attr-defined]
    try:
        assert Speaker("zh").say(said) == "3 new"
    finally:
        gettext._translations.clear()  # type: ignore[attr-defined]
    assert FOLDER.is_dir()
