"""What `operators.toml` means: `[operators.NAME]` with what that operator may.

Owns its fields and the words for what is wrong in it, down to the line. Must not know files or
rights beyond their names. Pure: bytes in, operators out.
"""

import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from buswire.names import shown
from hqconsole.operators import (
    FILE_NAME,
    HINT_CHECK,
    PRESETS,
    RIGHTS,
    Operator,
    OperatorsError,
    folded,
)
from hqconsole.suggestions import close_names

_EVERY = "*"
_FIELDS = (
    "display_name",
    "department",
    "may",
    "kinds",
    "regions",
    "manages",
    "email",
    "phone",
)


def parse(content: bytes, file: str = FILE_NAME) -> dict[str, Operator]:
    """Understand the content of a file of operators.

    Args:
        content: The bytes.
        file: What errors call it.

    Raises:
        OperatorsError: It cannot be understood; names the line, and what to write.
    """
    try:
        text = content.decode("utf-8-sig")
        raw = tomllib.loads(text)
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise OperatorsError(f"{file}, line {number}: this is not UTF-8", hint=HINT_CHECK) from None
    except tomllib.TOMLDecodeError as error:
        raise OperatorsError(f"{file} is not valid TOML: {error}", hint=HINT_CHECK) from error
    try:
        return dict(_operators(raw))
    except _SlipError as slip:
        line = _line_of(text, slip.path)
        where = "" if line is None else f", line {line}"
        raise OperatorsError(f"{file}{where}: {slip}", hint=f"{slip.hint}; {HINT_CHECK}") from None


class _SlipError(Exception):
    """Something in the file that cannot be; `path` is the keys that lead to it."""

    def __init__(self, message: str, hint: str, *path: str) -> None:
        super().__init__(message)
        self.hint = hint
        self.path = path


def _operators(raw: Mapping[str, Any]) -> Iterator[tuple[str, Operator]]:
    for name in raw:
        if name != "operators":
            raise _SlipError(
                f"there is no {shown(name)} here", "each is a table [operators.NAME]", name
            )
    tables = raw.get("operators", {})
    if not isinstance(tables, Mapping) or not tables:
        raise _SlipError(
            "it names no operator", "write [operators.NAME] and what they may", "operators"
        )
    spelt: dict[str, str] = {}
    for name, table in tables.items():
        path = ("operators", name)
        if not isinstance(table, Mapping):
            raise _SlipError(f"{shown(name)} is no table", f"write [operators.{name}]", *path)
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise _SlipError(f"{shown(name)} is no name", "at most 100 plain characters", *path)
        twin = spelt.setdefault(folded(name), name)
        if twin != name:
            raise _SlipError(f"{name} and {twin} are too alike", "one name for one person", *path)
        found = _operator(unicodedata.normalize("NFC", name), table)
        yield found.name, found


def _operator(name: str, table: Mapping[str, Any]) -> Operator:
    for one in table:
        if one not in _FIELDS:
            near = close_names(one, _FIELDS)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_FIELDS)}"
            raise _SlipError(f"{name} has no {shown(one)}", hint, "operators", name, one)
    if "may" not in table:
        hint = f'such as may = "operator"; there are {", ".join(PRESETS)}'
        raise _SlipError(f"it is not said what {name} may", hint, "operators", name)

    def text(key: str) -> str:
        value = table.get(key, "")
        if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
            raise _SlipError(
                f"{key} of {name} must be a line of text", f'{key} = "..."', "operators", name, key
            )
        return value.strip()

    def names(key: str) -> tuple[str, ...]:
        value = table[key]
        many = [value] if isinstance(value, str) else value
        if not isinstance(many, list) or not all(isinstance(one, str) and one for one in many):
            raise _SlipError(
                f"{key} of {name} must be a list of texts",
                f'{key} = ["...", "..."]',
                "operators",
                name,
                key,
            )
        return tuple(dict.fromkeys(unicodedata.normalize("NFC", one) for one in many))

    def scope(key: str) -> tuple[str, ...] | None:
        found = names(key) if key in table else (_EVERY,)
        if _EVERY not in found:
            return found
        if len(found) > 1:
            raise _SlipError(
                f'{key} of {name}: "*" is everything already',
                "leave the others out, or it",
                "operators",
                name,
                key,
            )
        return None

    return Operator(
        name=name,
        display_name=text("display_name"),
        department=text("department"),
        rights=_rights(name, names("may")),
        kinds=scope("kinds"),
        regions=scope("regions"),
        manages=names("manages") if "manages" in table else (),
        email=text("email"),
        phone=text("phone"),
    )


def _rights(name: str, words: Sequence[str]) -> frozenset[str]:
    rights: set[str] = set()
    for word in words:
        if word in PRESETS:
            rights.update(PRESETS[word])
        elif word in RIGHTS:
            rights.add(word)
        else:
            known = (*PRESETS, *RIGHTS)
            near = close_names(word, known)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise _SlipError(
                f"{name} may {shown(word)}: no such right", hint, "operators", name, "may"
            )
    return frozenset(rights)


def _line_of(text: str, path: Sequence[str]) -> int | None:
    """Where in the text the last of these keys stands, or else its table; the reader says none."""
    table: tuple[str, ...] = ()
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        keys = _keys(line)
        if keys is None:
            continue
        header = line.lstrip().startswith("[")
        table, here = (keys, keys) if header else (table, (*table, *keys))
        depth = len(here)
        if here == tuple(path[:depth]) and (best is None or depth > best[0]):
            best = (depth, number)
    return None if best is None else best[1]


def _keys(line: str) -> tuple[str, ...] | None:
    """The keys that a line begins a table or a value with; None where it does neither."""
    stripped = line.strip()
    head, equals, _ = stripped.partition("=")
    try:
        found: Any = tomllib.loads(stripped if stripped.startswith("[") else f"{head}{equals}0")
    except tomllib.TOMLDecodeError:
        return None
    keys = []
    while isinstance(found, Mapping) and found:
        ((key, found),) = found.items()
        keys.append(key)
    return tuple(keys) or None
