"""The kinds of alert and their fields, as data; command line, Python API and checks read this.

Owns what a field may hold, and how an alert is written. To add a kind, add a row.

An alert's JSON is written here without the contract's `Alert`, whose import takes longer than all
else that a script with one alert does; a test holds the two equal.
"""

import json
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from storeagent.errors import InvalidEntry

Value = str | int | float | bool | None

_MOST_CHARACTERS = 500
_NOTE_CHARACTERS = 10_000
"""So no alert comes near the limit of a record."""

_quoted = json.encoder.encode_basestring


class Field(NamedTuple):
    """One field of a kind of alert."""

    name: str
    type: Literal["text", "number", "choice"]
    help: str
    required: bool = True
    choices: tuple[str, ...] = ()


class AlertKind(NamedTuple):
    """A kind of alert."""

    name: str
    help: str
    fields: tuple[Field, ...]


KINDS: Mapping[str, AlertKind] = {
    kind.name: kind
    for kind in (
        AlertKind(
            "replenishment",
            "A product runs out and should be sent.",
            (
                Field("sku", "text", "Which product, as the chain numbers it."),
                Field("on_hand", "number", "How many are left."),
                Field("reorder_point", "number", "How many there should be at least."),
                Field("wanted", "number", "How many to send.", required=False),
            ),
        ),
        AlertKind(
            "incident",
            "Something happened that head office should know now.",
            (
                Field("what", "text", "What happened, in a line."),
                Field(
                    "severity",
                    "choice",
                    "How bad it is.",
                    required=False,
                    choices=("low", "high", "critical"),
                ),
            ),
        ),
        AlertKind(
            "equipment",
            "A till, cooler, scale or other device does not work.",
            (
                Field("unit", "text", "Which one."),
                Field("problem", "text", "What is wrong with it, in a line."),
            ),
        ),
    )
}


_FIELDS = {kind.name: {field.name: field for field in kind.fields} for kind in KINDS.values()}


def check_alert(kind: str, fields: Mapping[str, object]) -> dict[str, Value]:
    """Return the fields as they are sent: each of its type, optional ones that are None left out.

    Numbers may come as text, as from a command line or a CSV file.

    Raises:
        InvalidEntry: Unknown kind or field, a field missing, or a value of the wrong type.
    """
    known = KINDS.get(kind)
    if known is None:
        raise InvalidEntry(
            f"there is no alert kind {kind!r}", hint=_nearest(kind, KINDS, "the kinds are")
        )
    by_name = _FIELDS[kind]
    for name in fields:
        if name not in by_name:
            raise InvalidEntry(
                f"a {kind} alert has no field {name!r}",
                hint=_nearest(str(name), by_name, "its fields are"),
            )
    checked: dict[str, Value] = {}
    for field in known.fields:
        given = fields.get(field.name)
        if given is None:
            if field.required:
                raise InvalidEntry(f"a {kind} alert needs {field.name}", hint=field.help)
            continue
        # Most values are as they should be, and scripts raise alerts by the thousand.
        as_it_is = field.type == "number" and type(given) is int and -(2**53) <= given <= 2**53
        checked[field.name] = given if as_it_is else _value(kind, field, given)  # type: ignore[assignment]
    return checked


def encode_alert(kind: str, fields: Mapping[str, Value], *, note: str, by: str) -> bytes:
    """The exact bytes of an alert's record.

    Raises:
        InvalidEntry: The note is too long, or something is no text.
    """
    if len(note) > _NOTE_CHARACTERS:
        raise InvalidEntry(
            f"the note has {len(note)} characters, {_NOTE_CHARACTERS} are the most",
            hint="figures go into a report: storeagent report",
        )
    # By hand: json's encoder costs a tenth of the commit, mostly for setting itself up.
    listed = ",".join([f"{_quoted(name)}:{_written(value)}" for name, value in fields.items()])
    text = f'{{"alert":{_quoted(kind)},"fields":{{{listed}}}'
    if note:
        text += f',"note":{_quoted(note)}'
    if by:
        text += f',"by":{_quoted(by)}'
    try:
        return (text + "}").encode()
    except UnicodeEncodeError:
        raise InvalidEntry(
            "the text has characters that are no text", hint="it was decoded wrongly; use UTF-8"
        ) from None


def _written(value: Value) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return str(value) if type(value) is int else json.dumps(value)


def _value(kind: str, field: Field, given: object) -> Value:
    where = f"{field.name} of a {kind} alert"
    if field.type == "number":
        return _number(where, given)
    # A SKU read from JSON may be a number there; it names a product and is text here.
    text = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    if not isinstance(text, str) or not text.strip():
        raise InvalidEntry(f"{where} must be text and not empty, not {given!r}")
    if len(text) > _MOST_CHARACTERS:
        raise InvalidEntry(
            f"{where} has {len(text)} characters, {_MOST_CHARACTERS} are the most",
            hint="the rest can go into the note",
        )
    if field.type == "choice" and text not in field.choices:
        raise InvalidEntry(f"{where} cannot be {text!r}", hint="one of " + ", ".join(field.choices))
    return text


def _number(where: str, given: object) -> int | float:
    number: object = given
    if isinstance(given, str):
        try:
            number = int(given)
        except ValueError:
            try:
                number = float(given)
            except ValueError:
                number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InvalidEntry(f"{where} must be a number, not {given!r}")
    if not math.isfinite(number) or abs(number) > 2**53:
        raise InvalidEntry(f"{where} must be an ordinary number, not {given!r}")
    return number


def _nearest(word: str, known: Mapping[str, object], otherwise: str) -> str:
    import difflib  # noqa: PLC0415 - only a slip pays for it

    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"{otherwise} {', '.join(known)}"
