"""What an operator asks for when naming an audience, as data: options, JSON, and words.

Owns the fields of a selector, their JSON form (a directive's plan and a saved audience keep it) and
how a selector reads as options of a command line. What a selector means is in `audience`.

Invariants:
- A selector with its definitions is whole: what it means then depends on the roster alone, and not
  on whether somebody has since saved another audience under the same name.
- `selector_from_json(selector_to_json(s)) == s`. What a newer program wrote is refused and never
  read in part: a restriction that is left out would send to more stores than were meant.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from hqconsole.errors import HqError


class AudienceError(HqError):
    """A selector that names something unknown, or nobody."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Selector:
    """What the operator asked for, as typed: identifiers, or display names of regions and roles.

    Attributes:
        regions: Places: every store of these.
        stores: Places: these stores.
        roles: Mailboxes of these roles; without any, the store as a whole.
        tags: Only stores with all of these tags.
        everyone: Every store, said aloud.
        where: Only stores of which this expression is true; see `where`.
        audiences: Places: saved audiences, by name.
        excluded_regions: Taken away last: the stores of these regions.
        excluded_stores: Taken away last: these stores.
        excluded_tags: Taken away last: stores with any of these tags.
        definitions: What the saved audiences meant when the selector was made whole: each that it
            names, and those that these name in turn, by name. They have no definitions themselves.
    """

    regions: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    everyone: bool = False
    where: str = ""
    audiences: tuple[str, ...] = ()
    excluded_regions: tuple[str, ...] = ()
    excluded_stores: tuple[str, ...] = ()
    excluded_tags: tuple[str, ...] = ()
    definitions: tuple[tuple[str, "Selector"], ...] = ()


_OPTIONS: Mapping[str, str] = {
    "everyone": "--all",
    "regions": "--region",
    "stores": "--store",
    "audiences": "--audience",
    "tags": "--tag",
    "where": "--where",
    "excluded_regions": "--exclude-region",
    "excluded_stores": "--exclude-store",
    "excluded_tags": "--exclude-tag",
    "roles": "--role",
}
"""Field to option, in the order in which people read them."""

_DEFINITIONS = "definitions"
_LISTS = frozenset(_OPTIONS) - {"everyone", "where"}


def in_words(selector: Selector) -> str:
    """Return the options that say the same, as they could be typed in a shell."""
    return " ".join(_words(selector))


def _words(selector: Selector) -> Iterator[str]:
    for name, option in _OPTIONS.items():
        value = getattr(selector, name)
        if value is True:
            yield option
        elif isinstance(value, str) and value:
            yield f"{option} {shlex.quote(value)}"
        elif isinstance(value, tuple):
            yield from (f"{option} {shlex.quote(text)}" for text in value)


def selector_to_json(selector: Selector) -> str:
    """Return the selector as JSON: what it says, nothing for what it leaves unsaid."""
    return json.dumps(_as_dict(selector), ensure_ascii=False, separators=(",", ":"))


def selector_from_json(text: str) -> Selector:
    """Return the selector that `selector_to_json` wrote.

    Raises:
        AudienceError: A newer program wrote it, or it is none.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    selector = _from_dict(value)
    if selector is None:
        raise AudienceError(
            "a saved selector says what this program does not understand",
            hint="a newer program wrote it: install that version, or ask for the audience again",
        )
    return selector


def _as_dict(selector: Selector) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for field in fields(selector):
        value = getattr(selector, field.name)
        if value and field.name == _DEFINITIONS:
            said[field.name] = {name: _as_dict(one) for name, one in value}
        elif value:
            said[field.name] = list(value) if isinstance(value, tuple) else value
    return said


def _from_dict(value: object, *, inside: bool = False) -> Selector | None:
    if not isinstance(value, dict):
        return None
    found: dict[str, Any] = {}
    for name, said in value.items():
        if name in _LISTS and isinstance(said, list) and all(isinstance(t, str) for t in said):
            found[name] = tuple(said)
        elif (name == "everyone" and said is True) or (name == "where" and isinstance(said, str)):
            found[name] = said
        elif name == _DEFINITIONS and isinstance(said, dict) and not inside:
            pairs = [(one, _from_dict(text, inside=True)) for one, text in said.items()]
            if any(selector is None for _, selector in pairs):
                return None
            found[name] = tuple(pairs)
        else:
            return None
    return Selector(**found)
