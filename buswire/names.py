"""What may be an identifier in a topic: stores, devices, regions and roles.

Owns the rule and the words that explain a refusal. Knows nothing of rosters or topics: who may be
called what, and whether a name is taken, is decided elsewhere.

The rule: letters, combining marks and digits of any script, `-` and `_`; the first character is a
letter or a digit; at most 64 characters and 128 bytes of UTF-8; Unicode normal form C. So no name
can hold what means something in a topic (`/`, `+`, `#`, a leading `$`), nothing invisible, and two
spellings that look the same compare equal byte for byte.

Reserved, in any letter case (`RESERVED`):

* role `any` is the store as a whole. It stands in topics, but no role of a roster may be called so.
* place `all` is everyone. No store, region or role may be called so: `all/manager` would read both
  as a channel and as the manager of a store.

The words `region` and `store` stand only where no identifier does and are free.

Invariants: `identifier(identifier(x)) == identifier(x)` and the same for `slug`; whatever `slug`
gives, `identifier` accepts. Which characters are letters is the Unicode table of the running
Python; a letter that only a newer table knows is refused by an older one.
"""

import re
import unicodedata
from collections.abc import Mapping

from buswire.errors import WireError

ANY_ROLE = "any"
ALL_PLACE = "all"

MAX_CHARACTERS = 64
MAX_UTF8_BYTES = 128

RESERVED: Mapping[str, frozenset[str]] = {
    "store": frozenset({ALL_PLACE}),
    "region": frozenset({ALL_PLACE}),
    "role": frozenset({ALL_PLACE, ANY_ROLE}),
}

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)

_LETTER_OR_DIGIT = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nd"})
_MARK = frozenset({"Mn", "Mc"})  # vowel signs of Devanagari, Thai, Arabic: no word without them

# Letters and marks by category, yet nothing is seen of them: joiners, fillers, selectors.
_INVISIBLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)

_MEANINGS = {
    "/": "which separates the levels of a topic",
    "+": "which is a wildcard in MQTT topic filters",
    "#": "which is a wildcard in MQTT topic filters",
    "$": "which marks the broker's own topics",
    ".": "which separates store and device in an identity (and topic levels on NATS)",
}

_RULE = (
    "use letters and digits of any script, - and _, beginning with a letter or digit, "
    f"at most {MAX_CHARACTERS} characters"
)


def identifier(text: str, what: str) -> str:
    """Return `text` as it stands in a topic, in Unicode normal form C.

    The reserved words pass, because `any` does stand in topics; a name that is being given to
    something new goes through `new_identifier`.

    Args:
        text: The candidate, exactly as typed: surrounding spaces are refused, not removed.
        what: What it names (`store`, `device`, `region`, `role`), for the error.

    Raises:
        WireError: It cannot be an identifier; the hint says what to write instead.
    """
    if _PLAIN.fullmatch(text):
        return text
    name = unicodedata.normalize("NFC", text)
    if not name:
        raise WireError(f"the {what} identifier is empty", hint=_RULE)
    if len(name) > 4 * MAX_CHARACTERS:
        # Nothing below need look at a megabyte of it.
        raise _too_long(name, what, f"{len(name)} characters, {MAX_CHARACTERS} are allowed")
    for position, character in enumerate(name, start=1):
        if not _allowed(character):
            raise WireError(
                f"{what} identifier {shown(text)} has {_described(character)} "
                f"as character {position}",
                hint=_suggestion(name, what),
            )
    if unicodedata.category(name[0]) not in _LETTER_OR_DIGIT:
        raise WireError(
            f"{what} identifier {shown(text)} begins with {_described(name[0])}, "
            "not with a letter or digit",
            hint=_suggestion(name, what),
        )
    if len(name) > MAX_CHARACTERS:
        raise _too_long(name, what, f"{len(name)} characters, {MAX_CHARACTERS} are allowed")
    size_bytes = len(name.encode("utf-8"))
    if size_bytes > MAX_UTF8_BYTES:
        raise _too_long(
            name, what, f"{size_bytes} bytes long in UTF-8, {MAX_UTF8_BYTES} are allowed"
        )
    return name


def new_identifier(text: str, what: str) -> str:
    """Return `text` as the identifier of something that is being named; reserved words are refused.

    Raises:
        WireError: As `identifier`, or the word is reserved for this kind of thing.
    """
    name = identifier(text, what)
    if is_reserved(name, what):
        meaning = (
            "means the store as a whole" if name.casefold() == ANY_ROLE else "means every store"
        )
        raise WireError(
            f"{shown(name)} {meaning} and cannot be the name of a {what}",
            hint=f"give the {what} another name, for instance {name}-{what}",
        )
    return name


def is_reserved(name: str, what: str) -> bool:
    """Tell whether `name`, in any letter case, has a meaning of its own as a `what`."""
    return name.casefold() in RESERVED.get(what, frozenset())


def slug(text: str, what: str) -> str:
    """Return the identifier made from a display name: "Île-de-France & Nord" is île-de-france-nord.

    Compatibility forms are folded (NFKC: full-width letters, ligatures, ①), letter case is folded,
    and every run of anything else becomes one `-`. Safe for names that people read and never type
    into topics, such as regions and roles; the display name is kept beside it.

    Raises:
        WireError: No letter or digit is left, the result is too long, or it is a reserved word.
    """
    return new_identifier(_slugged(text, what), what)


def shown(text: str, limit: int = 40) -> str:
    """Return `text` quoted for a message: control characters escaped, cut after `limit`."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


def _slugged(text: str, what: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    # The dotted capital I of Turkish folds to i and a dot of its own that nobody could type.
    folded = unicodedata.normalize("NFKC", folded.replace("i\u0307", "i"))
    pieces: list[str] = []
    gap = False
    for character in folded:
        category = unicodedata.category(character)
        if category == "Cf" or character in _INVISIBLE:
            continue  # soft hyphens and joiners are inside words; all else separates words
        if category in _LETTER_OR_DIGIT or (character == "_" and pieces):
            if gap and pieces:
                pieces.append("-")
            pieces.append(character)
            gap = False
        elif category in _MARK and pieces and not gap:
            pieces.append(character)
        else:
            gap = True
    name = "".join(pieces).rstrip("_-")
    if not name:
        raise WireError(
            f"the {what} name {shown(text)} has no letter or digit an identifier could be made of",
            hint=f"give the {what} a name with at least one letter or digit",
        )
    return unicodedata.normalize("NFC", name)


def _allowed(character: str) -> bool:
    if character in "-_":
        return True
    category = unicodedata.category(character)
    return (category in _LETTER_OR_DIGIT or category in _MARK) and character not in _INVISIBLE


def _described(character: str) -> str:
    if character == " ":
        return "a space"
    if character in _MEANINGS:
        return f"{character!r}, {_MEANINGS[character]},"
    category = unicodedata.category(character)
    code = f"U+{ord(character):04X}"
    if category == "Cc":
        return f"the control character {code}"
    if category == "Cs":
        return f"the lone surrogate {code} (text that was decoded wrongly)"
    if category[0] in "ZC" or character in _INVISIBLE:
        return f"the invisible character {code} ({unicodedata.name(character, 'unnamed')})"
    if category[0] == "M":
        return f"the combining mark {code}"
    return f"{character!r}"


def _suggestion(name: str, what: str) -> str:
    """A rule is good, the very word to type is better; letter case is kept."""
    pieces = [c if _allowed(c) else "-" for c in name.strip()]
    proposal = re.sub("-{2,}", "-", "".join(pieces)).strip("-_")
    if not proposal or unicodedata.category(proposal[0]) not in _LETTER_OR_DIGIT:
        return _RULE
    try:
        return f"write {identifier(proposal, what)}, for instance: {_RULE}"
    except WireError:
        return _RULE


def _too_long(name: str, what: str, measure: str) -> WireError:
    return WireError(f"{what} identifier {shown(name)} is {measure}", hint=f"shorten it; {_RULE}")
