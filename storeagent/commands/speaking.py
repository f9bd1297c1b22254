"""Commands in the reader's language: their help, and the words that click itself says.

Owns how a command of click becomes one that speaks. Must not know any command, nor the languages.

Click puts its own words together with `gettext.gettext`, which asks the process's text domain and
the variable LANGUAGE. Both are ours for as long as a command runs that speaks, and are put back.
"""

import copy
import gettext
import inspect
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from buskit.cli import CommandGroup
from buskit.terminal import display_width
from storeagent.language import DOMAIN, FOLDER, Speaker, language_here, speaker, speaking

C = TypeVar("C", bound=click.Command)

_LANGUAGE = "LANGUAGE"
_COLUMNS = 74


class SpeakingGroup(CommandGroup):
    """A group whose own words, and those of the verbs that staff use, are in their language."""

    def __init__(self, *args: Any, staff: Sequence[str] = (), **more: Any) -> None:
        """Take what `CommandGroup` takes, and the names of the verbs that staff use."""
        super().__init__(*args, **more)
        self.staff = frozenset(staff)

    def run(
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **more: Any
    ) -> int:
        """Run the command line in the language of its reader; see `CommandGroup.run`."""
        given = sys.argv[1:] if args is None else list(args)
        with speaking(lambda: language_here(_home_of(given))), _click_put_back():
            return super().run(args, prog_name, **more)

    def words(self, text: str) -> str:
        """Return what is ours in the reader's language: a phrase, or a text of a help."""
        who = _ready()
        said = who.say(text)
        return who.known(text) if said is text else said

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, which speaks if it is one for staff."""
        command = super().get_command(ctx, cmd_name)
        if command is None or cmd_name not in self.staff or _ready().language == "en":
            return command
        return self._localized(command)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help in the reader's language."""
        known = self if _ready().language == "en" else self._localized(self)
        super(SpeakingGroup, known).format_help(ctx, formatter)

    def _localized(self, command: C) -> C:
        """A copy of a command with its help in the reader's language."""
        made = copy.copy(command)
        made.help = self._help(command.help or "")
        made.short_help = None
        made._help_option = None  # noqa: SLF001 - click keeps the option it made in English there
        made.params = [self._parameter(parameter) for parameter in command.params]
        return made

    def _help(self, text: str) -> str:
        """A help, paragraph by paragraph, in lines that fit, as click counts letters."""
        made = []
        for paragraph in paragraphs(text):
            said = self.words(paragraph)
            # click leaves the lines of a paragraph as they are behind this mark.
            made.append("\b\n" + (said if "\n" in said else "\n".join(_lines(said))))
        return "\n\n".join(made)

    def _parameter(self, parameter: click.Parameter) -> click.Parameter:
        if not isinstance(parameter, click.Option):
            return parameter
        made = copy.copy(parameter)
        made.help = self.words(parameter.help or "")
        if isinstance(made.show_default, str):
            made.show_default = self.words(made.show_default)
        return made


def paragraphs(text: str) -> list[str]:
    r"""The paragraphs of a help as catalogues have them.

    Those that click leaves as they are, behind a \b, keep their lines; the others are one line.
    """
    found = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b\n"):
            found.append(paragraph[2:].rstrip())
        elif paragraph.strip():
            found.append(" ".join(paragraph.split()))
    return found


def _lines(text: str) -> Iterator[str]:
    """Lines of a text that may have no spaces, by the columns that they take."""
    line = ""
    for piece in re.findall(r"[!-~]+|.", text):
        # No line begins with a comma or a closing bracket.
        ends = unicodedata.category(piece[0]) in {"Po", "Pe", "Pf"} and len(piece) == 1
        full = display_width(line + piece) > _COLUMNS and not ends
        if full and line.strip():
            yield line.rstrip()
            line = ""
        line += piece if line or piece != " " else ""
    yield line.rstrip()


def _ready() -> Speaker:
    """Who speaks, with click ready to speak so, too."""
    who = speaker()
    if who.language != "en":
        os.environ[_LANGUAGE] = who.language
        gettext.bindtextdomain(DOMAIN, FOLDER)
        gettext.textdomain(DOMAIN)
    return who


@contextmanager
def _click_put_back() -> Iterator[None]:
    domain, language = gettext.textdomain(), os.environ.get(_LANGUAGE)
    try:
        yield
    finally:
        gettext.textdomain(domain)
        if language is None:
            os.environ.pop(_LANGUAGE, None)
        else:
            os.environ[_LANGUAGE] = language


def _home_of(words: Sequence[str]) -> Path | None:
    """The home that a command line names, before it is read: errors in it are told as well."""
    for place, word in enumerate(words):
        if word == "--home" and place + 1 < len(words):
            return Path(words[place + 1])
        if word.startswith("--home="):
            return Path(word.removeprefix("--home="))
    from buskit.homes import default_home  # noqa: PLC0415 - unneeded where --home is given

    return default_home("agent")
