"""The language that staff read: which one it is, and what a phrase is called in it.

Owns the choice of the language, and the catalogues in `languages/` (GNU gettext). Must not know
commands, nor what is said. English needs no catalogue: it is what the phrases are.

Only what a person reads goes through `say`. JSON, logs, records and exit codes are the same in
every language.

Invariants:
- Nothing is chosen or loaded before the first `say`: a script that raises an alert never pays.
- What a catalogue lacks, or cannot be put together by it, is said in English and never lost.
"""

import contextlib
import gettext
import os
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from buswire.phrases import Phrase
from storeagent.limits import SETTINGS_NAME

DOMAIN = "storeagent"
FOLDER = Path(__file__).with_name("languages")
LANGUAGES = ("en", "zh")
"""What staff can read; all variants of a language are one, such as zh_CN and zh_TW."""

_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""Where a locale is named, the first that is set decides (POSIX.1-2017, section 8.2)."""


class Speaker:
    """Says phrases in one language."""

    def __init__(self, language: str) -> None:
        """Load the catalogue of one of `LANGUAGES`."""
        self.language = language
        self._catalogue: gettext.NullTranslations = gettext.NullTranslations()
        if language != "en":
            # A catalogue that is missing or broken must not cost the message.
            with contextlib.suppress(OSError, ValueError, struct.error):
                self._catalogue = gettext.translation(DOMAIN, FOLDER, [language])

    def say(self, text: str) -> str:
        """Return a phrase in this language; any other text as it is."""
        if not isinstance(text, Phrase) or self.language == "en":
            return text
        if text.many:
            template = self._catalogue.ngettext(text.template, text.many, text.number)
        elif text.context:
            template = self._catalogue.pgettext(text.context, text.template)
        else:
            template = self._catalogue.gettext(text.template)
        values = {name: self._value(value) for name, value in text.values.items()}
        try:
            return template.format_map(values)
        except (LookupError, ValueError, AttributeError):  # a defect of the catalogue
            return text

    def known(self, text: str) -> str:
        """Return what the catalogue has for a whole text that is no phrase, such as help."""
        return self._catalogue.gettext(text) if text else text

    def _value(self, value: Any) -> Any:
        return self.say(value) if isinstance(value, Phrase) else value


_ENGLISH = Speaker("en")
_choose: ContextVar[Callable[[], Speaker] | None] = ContextVar("choose", default=None)


def speaker() -> Speaker:
    """Who speaks at present: English, where nobody was asked to."""
    choose = _choose.get()
    return _ENGLISH if choose is None else choose()


def say(text: str) -> str:
    """Return a phrase in the language of whoever reads; any other text as it is."""
    return speaker().say(text)


@contextlib.contextmanager
def speaking(language: Callable[[], str]) -> Iterator[None]:
    """Speak the language that `language` names, which is asked at the first word and not before."""
    made: list[Speaker] = []

    def choose() -> Speaker:
        if not made:
            made.append(Speaker(language()))
        return made[0]

    token = _choose.set(choose)
    try:
        yield
    finally:
        _choose.reset(token)


def known_language(tag: str) -> str | None:
    """The one of `LANGUAGES` that a locale or a language tag means, or None.

    Args:
        tag: Such as zh_CN.UTF-8, zh-TW, en or C.
    """
    primary = tag.strip().lower().replace("-", "_").split(".")[0].split("@")[0].split("_")[0]
    return primary if primary in LANGUAGES else None


def chosen_language(
    setting: str, environment: Mapping[str, str], *, system: Callable[[], str] = lambda: ""
) -> str:
    """Which language staff read.

    Args:
        setting: What the device's settings say; it goes before the locale.
        environment: With the locale.
        system: What the system's own settings say, where it has no locale in the environment.
    """
    for tag in (setting, *(environment.get(name, "") for name in _VARIABLES)):
        if tag:
            return known_language(tag) or "en"
    return known_language(system()) or "en"


def language_here(home: Path | None) -> str:
    """Which language staff read at this device, as far as this output can be written in it.

    Args:
        home: The device's; its settings may name a language. None where it is not known.
    """
    language = chosen_language(_setting(home), os.environ, system=_system_language)
    for stream in (sys.stdout, sys.stderr):
        try:
            "店".encode(getattr(stream, "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            return "en"
    return language


def _setting(home: Path | None) -> str:
    """The language of a home's settings; whoever needs the rest of them says what is wrong there.

    Most homes name none, and then the file is not even parsed.
    """
    if home is None:
        return ""
    try:
        content = (home / SETTINGS_NAME).read_bytes()
        if b"language" not in content:
            return ""
        import tomllib  # noqa: PLC0415 - costs 10 ms

        found = tomllib.loads(content.decode()).get("language")
    except (OSError, ValueError):
        return ""
    return found if isinstance(found, str) else ""


def _system_language() -> str:
    if sys.platform != "win32":
        return ""
    import ctypes  # noqa: PLC0415 - only where there is no locale in the environment
    import locale  # noqa: PLC0415

    number = ctypes.windll.kernel32.GetUserDefaultUILanguage()
    return locale.windows_locale.get(number, "")
