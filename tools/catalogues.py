"""Keeps the catalogues of what staff read in step with the source.

    python -m tools.catalogues update     take what is new in the source into the .po files
    python -m tools.catalogues compile    make the .mo files, which are what programs read

After `update`, translate what is empty in `storeagent/languages/*/LC_MESSAGES/storeagent.po`, then
`compile`. The tests refuse a catalogue that lacks something, and an .mo that is not its .po.
"""

# ruff: noqa: INP001 - run from the root of the project, and part of no package

import ast
import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from babel.messages import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from storeagent.commands.speaking import paragraphs
from storeagent.language import DOMAIN, FOLDER, LANGUAGES
from storeagent.main import main as storeagent

ROOT = Path(__file__).parent.parent
PACKAGES = ("buswire", "buskit", "storeagent")

CLICK = (
    "Usage:",
    "Options",
    "Commands",
    "Show this message and exit.",
    "default: {default}",
    "env var: {var}",
    "Missing argument",
    "Missing option",
    "Missing command.",
    "Invalid value: {message}",
    "Invalid value for {param_hint}: {message}",
    "No such option {name!r}.",
    "No such option: {name}",
    "Option {name!r} does not take a value.",
    "Option {name!r} requires an argument.",
    ("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})"),
    ("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)"),
)
"""What click says by itself to whoever uses the verbs of staff; some of it by its version."""


def wanted() -> Catalog:
    """What the source and the help of the commands say, without translations."""
    catalogue = Catalog(fuzzy=False)
    for path in _sources():
        shown = path.relative_to(ROOT).as_posix()
        for context, key in said_in(path):
            # No line numbers: they would change with every line of code.
            catalogue.add(key, locations=[(shown, None)], context=context)
    for where, text in _helps():
        catalogue.add(text, auto_comments=[where])
    for text in CLICK:
        catalogue.add(text, auto_comments=["click"])
    return catalogue


def said_in(path: Path) -> Iterator[tuple[str | None, str | tuple[str, str]]]:
    """The context and the key of each phrase in a file, wherever it stands.

    Babel's own reader passes over a call within a call, so the tree is read here.

    Raises:
        ValueError: A key is not written out.
    """
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        count = {"phrase": 1, "phrase_in": 2, "phrases": 2}.get(name)
        if count is None:
            continue
        words = [getattr(one, "value", None) for one in node.args[:count]]
        if len(words) != count or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{path}, line {node.lineno}: the text of a phrase is not written out")
        match name:
            case "phrase":
                yield None, words[0]
            case "phrase_in":
                yield words[0], words[1]
            case _:
                yield None, (words[0], words[1])


def po_path(language: str) -> Path:
    """The catalogue that people write."""
    return FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def read(language: str) -> Catalog:
    """The catalogue of a language as it stands."""
    with po_path(language).open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalogue: Catalog) -> bytes:
    """The .mo of a catalogue."""
    made = io.BytesIO()
    write_mo(made, catalogue)
    return made.getvalue()


def _begun(language: str) -> Catalog:
    return Catalog(
        locale=language,
        fuzzy=False,
        domain=DOMAIN,
        project="storebus",
        version="1",
        copyright_holder="the storebus maintainers",
        msgid_bugs_address="maintainers",
        last_translator="the storebus maintainers",
        language_team=language,
        revision_date=datetime.now(UTC),
        header_comment="# What staff of stores read. Made by: python -m tools.catalogues update",
    )


def _sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def _helps() -> Iterator[tuple[str, str]]:
    """Where a text of a help stands, and the text."""
    for paragraph in paragraphs(storeagent.help or ""):
        yield "storeagent --help", paragraph
    for title, commands in storeagent.sections.items():
        yield "storeagent --help", title
        for _, line in commands.values():
            yield "storeagent --help", line
    for name in sorted(storeagent.staff):
        command = storeagent.get_command(click.Context(storeagent), name)
        assert command is not None
        where = f"storeagent {name} --help"
        for paragraph in paragraphs(command.help or ""):
            yield where, paragraph
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield where, parameter.help or ""
                if isinstance(parameter.show_default, str):
                    yield where, parameter.show_default


def main() -> None:
    """Do what the first word says."""
    for language in LANGUAGES[1:]:
        path = po_path(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        if sys.argv[1:] == ["update"]:
            old = read(language) if path.exists() else _begun(language)
            old.update(wanted(), no_fuzzy_matching=True, update_creation_date=False)
            old.obsolete.clear()
            with path.open("wb") as file:
                write_po(file, old, sort_output=True, include_lineno=False, width=98)
        elif sys.argv[1:] == ["compile"]:
            path.with_suffix(".mo").write_bytes(compiled(read(language)))
        else:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
