"""The organisation as a list of stores that another system wrote: read, checked, explained.

Owns every check of a store's fields and what is assumed where the list says nothing. Pure: bytes
in, rows and problems out; what to do about problems is the caller's decision, and so is where the
rows are kept. The table itself is read by `csv_table`, the columns are found by `roster_columns`,
time zones by `zones`; what a store is, and how two rosters differ, is in `store_row` and given here
too.

Invariants of what `read_stores` gives:

* store identifiers are unique and can stand in a topic; so can the identifiers of regions and
  roles, which are made from their display names, and each identifier has one display name;
* time zones are IANA names that this machine knows;
* no cell has a control character in it; everything is in Unicode normal form C;
* a row with anything wrong in it is in `problems` and not in `stores`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from buswire.errors import WireError
from buswire.names import new_identifier, shown, slug
from hqconsole.csv_table import Problem, Table, TableError, read_table
from hqconsole.errors import HqError
from hqconsole.roster_columns import Columns, MappingError, parse_mapping, resolve_columns
from hqconsole.store_row import RosterDifference, StoreChange, StoreRow, difference
from hqconsole.zones import ZoneError, time_zone

__all__ = [
    "MappingError",
    "Problem",
    "RosterDifference",
    "RosterError",
    "RosterRead",
    "StoreChange",
    "StoreRow",
    "TableError",
    "ZoneError",
    "difference",
    "parse_mapping",
    "read_stores",
    "time_zone",
]

DEFAULT_ROLES = ("manager", "clerk")
DEFAULT_TIMEZONE = "UTC"

MAX_NAME_CHARACTERS = 200
MAX_PLACE_CHARACTERS = 100
MAX_EXTRA_CHARACTERS = 2_000
MAX_ROLES = 32
MAX_TAGS = 64

_BETWEEN = re.compile(r"[;|,]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class RosterError(HqError):
    """A store list that cannot be read at all, or an argument that no row could satisfy."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class RosterRead:
    """What came of reading a list.

    Attributes:
        stores: The good rows, in the order of the list.
        problems: What is wrong, by line; all or nothing is for the caller to decide.
        notices: What was guessed or assumed, one sentence each, for the person who imports.
        columns: Our fields to the columns (or `=constant`) they were read from.
    """

    stores: list[StoreRow]
    problems: list[Problem]
    notices: list[str]
    columns: Mapping[str, str]


def read_stores(
    data: bytes,
    mapping: Mapping[str, str] | None = None,
    *,
    default_roles: Sequence[str] = DEFAULT_ROLES,
    default_timezone: str | None = None,
) -> RosterRead:
    """Read a store list that another system wrote.

    Args:
        data: The file, whole.
        mapping: Ours to theirs, as `parse_mapping` gives it; what is not mapped is looked for.
        default_roles: Display names of the roles of every store when the list has no role column.
        default_timezone: The time zone of stores for which the list says none. Without it a list
            that has no such column gets UTC and a notice, and an empty cell is a problem.

    Raises:
        TableError: Not a table: encoding, kind of file, nothing in it.
        MappingError: Required columns are missing, or mapped ones are not there.
        ZoneError: The default time zone is none.
        RosterError: A default or a constant is wrong, or there is no store in the list.
    """
    zone = None if default_timezone is None else time_zone(default_timezone)
    table = read_table(data)
    columns = resolve_columns(table.header, mapping or {})
    reader = _Reader(columns, tuple(default_roles), zone)
    return reader.read(table)


class _RefusedError(Exception):
    """One cell cannot be taken; the reason is its only argument."""


class _Reader:
    """One pass over a list; remembers what each text of a cell came to, as most come many times."""

    def __init__(
        self, columns: Columns, default_roles: tuple[str, ...], default_timezone: str | None
    ) -> None:
        self._columns = columns
        self._default_timezone = default_timezone
        self._line = 0
        self._first_line: dict[str, int] = {}
        self._names: dict[tuple[str, str], tuple[str, int]] = {}  # (what, identifier): name, line
        self._merged: dict[tuple[str, str], str] = {}
        self._without_role = 0
        parsers: dict[str, Callable[[str], object]] = {
            "region": self._region,
            "timezone": self._timezone,
            "roles": self._roles,
            "tags": self._tags,
            "city": lambda cell: _text(cell, MAX_PLACE_CHARACTERS),
            "country": lambda cell: _text(cell, MAX_PLACE_CHARACTERS),
        }
        self._fields = {ours: _Field(parse) for ours, parse in parsers.items()}
        # What stands for every store is read once, and is the caller's mistake if it is wrong.
        self._constants: dict[str, object] = {}
        for ours, text in columns.constants.items():
            self._constants[ours] = self._constant(ours, text)
        if "roles" not in columns.theirs:
            self._constants["roles"] = self._constant("roles", ";".join(default_roles))
        if "timezone" not in columns.theirs:
            self._constants["timezone"] = default_timezone or DEFAULT_TIMEZONE

    def read(self, table: Table) -> RosterRead:
        stores: list[StoreRow] = []
        problems = list(table.problems)
        if not table.rows and not problems:
            raise RosterError(
                "the list names its columns and no store", hint="is it the right file?"
            )
        for line, cells in table.rows:
            self._line = line
            row = self._row(cells, problems)
            if row is not None:
                stores.append(row)
        problems.sort(key=lambda problem: problem.line)
        return RosterRead(stores, problems, self._notices(table, stores), self._columns.theirs)

    def _row(self, cells: list[str], problems: list[Problem]) -> StoreRow | None:
        before = len(problems)
        values: dict[str, object] = dict(self._constants)
        store_id = self._try("store_id", self._store_id, cells, problems)
        for ours, known in self._fields.items():
            if ours in self._columns.index:
                values[ours] = self._try(ours, known, cells, problems)
        if "name" in self._columns.index:
            values["name"] = self._try(
                "name", lambda cell: _text(cell, MAX_NAME_CHARACTERS), cells, problems
            )
        extra: dict[str, str] = {}
        for position, column in self._columns.extra:
            if cell := cells[position]:
                try:
                    extra[column] = cell if _is_plain(cell) else _text(cell, MAX_EXTRA_CHARACTERS)
                except _RefusedError as refusal:
                    problems.append(Problem(self._line, column, str(refusal)))
        if len(problems) > before:
            return None
        region, roles, tags = values["region"], values["roles"], values.get("tags", ())
        assert isinstance(store_id, str)
        assert isinstance(region, str)
        assert isinstance(roles, tuple)
        assert isinstance(tags, tuple)
        self._without_role += not roles
        return StoreRow(
            store_id=store_id,
            name=str(values.get("name") or store_id),
            region=region,
            region_name=self._names["region", region][0],
            city=str(values.get("city") or ""),
            country=str(values.get("country") or ""),
            timezone=str(values["timezone"]),
            roles=roles,
            role_names=tuple([self._names["role", role][0] for role in roles]),
            tags=tags,
            extra=extra,
        )

    def _try(
        self, ours: str, parse: Callable[[str], object], cells: list[str], problems: list[Problem]
    ) -> object:
        try:
            return parse(cells[self._columns.index[ours]])
        except _RefusedError as refusal:
            problems.append(Problem(self._line, self._columns.theirs[ours], str(refusal)))
            return None

    def _constant(self, ours: str, text: str) -> object:
        try:
            if ours == "name":
                return _text(text, MAX_NAME_CHARACTERS)
            return self._fields[ours](text)
        except _RefusedError as refusal:
            raise RosterError(
                f"{ours} {shown(text)} for every store: {refusal}",
                hint=f"give another one: --map {ours}==TEXT",
            ) from None

    def _store_id(self, cell: str) -> str:
        if not cell:
            raise _RefusedError("the store has no identifier")
        try:
            store_id = new_identifier(cell, "store")
        except WireError as error:
            raise _RefusedError(_with_hint(error)) from None
        first = self._first_line.setdefault(store_id, self._line)
        if first != self._line:
            raise _RefusedError(f"store {store_id} is on line {first} and on line {self._line}")
        return store_id

    def _region(self, cell: str) -> str:
        name = _text(cell, MAX_PLACE_CHARACTERS)
        if not name:
            raise _RefusedError("the store has no region; every store is in one")
        return self._named("region", name)

    def _named(self, what: str, name: str) -> str:
        """Return the identifier of a region or role and see to it that it has one display name."""
        try:
            key = (what, slug(name, what))
        except WireError as error:
            raise _RefusedError(_with_hint(error)) from None
        known, line = self._names.setdefault(key, (name, self._line))
        if known != name:
            if what == "region" and _folded(known) != _folded(name):
                raise _RefusedError(
                    f"region {shown(name)} would be {key[1]} in topics, and so is region "
                    f"{shown(known)} on line {line}; spell them alike, or tell them apart by more "
                    "than spaces and signs"
                )
            self._merged[what, name] = known
        return key[1]

    def _timezone(self, cell: str) -> str:
        if cell:
            try:
                return time_zone(cell)
            except ZoneError as error:
                raise _RefusedError(_with_hint(error)) from None
        if self._default_timezone is None:
            raise _RefusedError(
                "the store has no time zone; fill it in, or give one for all that have none: "
                "--timezone Europe/Paris"
            )
        return self._default_timezone

    def _roles(self, cell: str) -> tuple[str, ...]:
        return self._several(cell, "role", MAX_ROLES)

    def _tags(self, cell: str) -> tuple[str, ...]:
        return self._several(cell, "tag", MAX_TAGS)

    def _several(self, cell: str, what: str, limit: int) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for part in _BETWEEN.split(cell):
            name = _text(part, MAX_PLACE_CHARACTERS)
            if not name:
                continue
            if what == "role":
                found[self._named("role", name)] = None
                continue
            try:
                found[slug(name, what)] = None
            except WireError as error:
                raise _RefusedError(_with_hint(error)) from None
        if len(found) > limit:
            raise _RefusedError(f"{len(found)} {what}s are more than the {limit} a store can have")
        return tuple(found)

    def _notices(self, table: Table, stores: list[StoreRow]) -> list[str]:
        theirs = self._columns.theirs
        notices = [
            f"{ours} is read from column {shown(theirs[ours])}" for ours in self._columns.guessed
        ]
        if "name" not in theirs:
            notices.append("no column for name: the store identifiers stand in for it")
        if "roles" not in theirs:
            roles = self._constants["roles"]
            assert isinstance(roles, tuple)
            notices.append(
                f"no column for roles: every store gets {' and '.join(roles) or 'none'}; "
                'others with --map roles=COLUMN or --map "roles==manager;clerk;warehouse"'
            )
        if "timezone" not in theirs:
            zone = self._constants["timezone"]
            warning = (
                "; due times are meant in each store's own time zone, so give it: "
                "--map timezone=COLUMN or --timezone Europe/Paris"
            )
            notices.append(
                f"no column for timezone: every store is in {zone}"
                + (warning if self._default_timezone is None else "")
            )
        notices += (
            f"{what} {shown(name)} is taken for {shown(known)}"
            for (what, name), known in self._merged.items()
        )
        notices += _letter_case(stores)
        if self._without_role and "roles" in self._columns.index:
            notices.append(
                f"stores without any role: {self._without_role}; only what goes to the store as a "
                "whole reaches them"
            )
        if table.blank_rows:
            notices.append(f"empty rows passed over: {table.blank_rows}")
        if self._columns.extra:
            notices.append(
                "kept under their own names: "
                + ", ".join(shown(name) for _, name in self._columns.extra)
            )
        return notices


class _Field:
    """A parser that remembers; a list of 25,000 stores has a dozen regions and time zones."""

    def __init__(self, parse: Callable[[str], object]) -> None:
        self._parse = parse
        self._values: dict[str, object] = {}
        self._refusals: dict[str, str] = {}

    def __call__(self, cell: str) -> object:
        if cell in self._values:
            return self._values[cell]
        if cell in self._refusals:
            raise _RefusedError(self._refusals[cell])
        try:
            value = self._values[cell] = self._parse(cell)
        except _RefusedError as refusal:
            self._refusals[cell] = str(refusal)
            raise
        return value


def _text(cell: str, limit: int) -> str:
    """Return free text on one line in normal form C."""
    text = unicodedata.normalize("NFC", " ".join(cell.split()))
    if len(text) > limit:
        raise _RefusedError(f"{len(text)} characters are more than the {limit} allowed here")
    if control := _CONTROL.search(text):
        raise _RefusedError(
            f"{shown(text)} has the control character U+{ord(control[0]):04X} in it"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _RefusedError(f"{shown(text)} was decoded wrongly: it has half a character") from None
    return text


def _is_plain(cell: str) -> bool:
    return len(cell) <= MAX_EXTRA_CHARACTERS and cell.isascii() and cell.isprintable()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _with_hint(error: HqError | WireError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)


def _letter_case(stores: Iterable[StoreRow]) -> list[str]:
    by_folded: dict[str, str] = {}
    notices = []
    for store in stores:
        other = by_folded.setdefault(store.store_id.casefold(), store.store_id)
        if other != store.store_id:
            notices.append(f"stores {other} and {store.store_id} differ in letter case only")
    return notices
