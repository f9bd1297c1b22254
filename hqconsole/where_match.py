"""What an expression of `--where` says of the stores of a roster.

Owns which column a name means and what each comparison is true of. Pure; how expressions are
written is in `where`, what a cell says in `where_cells`.

A column is meant by its name; letter case, spaces and punctuation do not matter as long as one
column is meant, and the names by which `hq roster import` knows our own columns do, too (`Ort` is
city where the list has no Ort that was kept). An extra column that is called like one of ours is
`extra.NAME`.

What is true:

* `=`: the cell is the same text, or the same number or date. A value in quotes is only a text:
  `postcode = "01234"`. `region` is its identifier or what people call it. An empty cell is the same
  as "" and as nothing else. `in` is `=` with any of its values; `!=` and `not in` are true exactly
  where `=` and `in` are not, so also of empty cells.
* `<` and its like: the cell is a number, or a date, and so is the value. A cell that is neither, or
  empty, is on no side of anything; a note says how many stores that are.
* `contains`: the cell, or one entry of a list, has the text in it.
* `has`: one entry of the list is the text, or has it as its identifier. `roles` and `tags` are
  lists; of other columns the entries are between `;`, `,` and `|`, as in the list of stores.
* `is empty`: nothing is there.

Notes tell what a slip would look like otherwise: values that no open store has, and cells that
could not be compared.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from operator import ge, gt, le, lt
from typing import Any, NamedTuple

from buswire.errors import WireError
from buswire.names import shown, slug
from hqconsole import where_cells
from hqconsole.organisation import OWN_COLUMNS, Cells
from hqconsole.roster_columns import FIELDS, bare
from hqconsole.suggestions import close_names
from hqconsole.where import Comparison, Expression, Not, Or, Value, WhereError, parse

LISTS = frozenset({"roles", "tags"})
BETWEEN = (";", ",", "|")

_FIELD_OF = {"id": "store_id"}
_BESIDE = {"region": "region_name"}
"""Columns whose cells have a second spelling in another column."""
_SIDES: Mapping[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_LISTED = 60
_TOLD = 3
_MOST_TO_SEARCH = 5_000  # values among which close ones are looked for

Cell = str | tuple[str, ...]
Predicate = Callable[[Cells], bool]


class Matched(NamedTuple):
    """The stores of which an expression is true, and what whoever wrote it should hear."""

    stores: set[str]
    notes: list[str]


def matching(text: str, stores: Collection[str], cells: Mapping[str, Cells]) -> Matched:
    """Return those of the stores of which the expression is true.

    Args:
        text: The expression.
        stores: Whom to ask; all of them are in `cells`.
        cells: What the roster says of every open store; of our own columns it may leave out those
            that `own_columns` does not name.

    Raises:
        WhereError: It cannot be read, or names a column that the roster does not have.
    """
    match = Match(text, {*column_names(cells.values()), *OWN_COLUMNS})
    found = {store_id for store_id in stores if match(cells[store_id])}
    return Matched(found, match.notes(stores, cells))


def own_columns(text: str) -> frozenset[str]:
    """Return those of `OWN_COLUMNS` that an expression may mean, before the roster is read.

    Raises:
        WhereError: It cannot be read.
    """
    typed = {bare(name) for name in _columns(parse(text))}
    found = {
        own for own in OWN_COLUMNS if bare(own) in typed or not typed.isdisjoint(_foreign(own))
    }
    return frozenset(found | {_BESIDE[own] for own in found if own in _BESIDE})


def column_names(cells: Iterable[Cells]) -> tuple[str, ...]:
    """Return every column that at least one store has, in order."""
    return tuple(sorted(set[str]().union(*cells)))


def _columns(tree: Expression) -> Iterable[str]:
    if isinstance(tree, Comparison):
        yield tree.column
    else:
        for part in (tree.part,) if isinstance(tree, Not) else tree.parts:
            yield from _columns(part)


def _foreign(own: str) -> tuple[str, ...]:
    """What other systems call a column of ours."""
    return FIELDS.get(_FIELD_OF.get(own, own), ())


class Match:
    """An expression, ready to be asked of any number of stores."""

    def __init__(self, text: str, columns: Collection[str]) -> None:
        """Read an expression for a roster that has these columns.

        Raises:
            WhereError: It cannot be read, names an unknown column, or compares what cannot be.
        """
        self._text = text
        self._columns = columns
        self._read: dict[str, _Reader] = {}
        self._leaves: list[_Leaf] = []
        self._predicate = self._compiled(parse(text))

    def __call__(self, cells: Cells) -> bool:
        """Tell whether it is true of a store."""
        return self._predicate(cells)

    def notes(self, asked: Collection[str], cells: Mapping[str, Cells]) -> list[str]:
        """Return one sentence for each thing that may be a slip, each once."""
        notes: dict[str, None] = {}
        for leaf in self._leaves:
            if leaf.side:
                notes.update(dict.fromkeys(_not_compared(leaf, asked, cells)))
            elif leaf.values and not (len(leaf.values) == 1 and any(leaf.judged.values())):
                notes.update(dict.fromkeys(_nobody_has(leaf, cells)))
        return list(notes)

    def _compiled(self, tree: Expression) -> Predicate:
        if isinstance(tree, Comparison):
            return self._comparison(tree)
        if isinstance(tree, Not):
            part = self._compiled(tree.part)
            return lambda cells: not part(cells)
        parts = [self._compiled(part) for part in tree.parts]
        until = isinstance(tree, Or)

        def holds(cells: Cells) -> bool:
            for part in parts:  # a loop: `any` and `all` over a generator take twice as long
                if part(cells) is until:
                    return until
            return not until

        return holds

    def _comparison(self, tree: Comparison) -> Predicate:
        column = self._column(tree)
        reader = self._read.setdefault(column, _Reader(column))
        leaf = self._leaf(tree, reader)
        self._leaves.append(leaf)
        judge, negated, known = leaf.judge, tree.negated, leaf.judged
        beside = _BESIDE.get(column)

        def holds(cells: Cells) -> bool:
            cell = cells.get(column, "")
            found = known.get(cell)
            if found is None:
                found = known[cell] = judge(cell)
            if beside is not None and not found:
                found = judge(cells.get(beside, ""))
            return found is not negated

        return holds

    def _leaf(self, tree: Comparison, reader: "_Reader") -> "_Leaf":
        values, column = tree.values, reader.column
        if column in LISTS and tree.operator not in {"has", "contains", "empty"}:
            one = values[0].text
            raise WhereError(
                f"{column} is a list; write {column} has {one}", self._text, values[0].at
            )
        if tree.operator == "empty":
            return _Leaf(reader, lambda cell: not cell)
        if tree.operator in _SIDES:
            return self._side(tree, reader)
        if tree.operator == "contains":
            needle = where_cells.folded(values[0].text)
            if not needle:
                raise WhereError("every text contains nothing", self._text, values[0].at)
            return _Leaf(reader, lambda cell: any(needle in entry for entry in reader.texts(cell)))
        if tree.operator == "has":
            wanted = _spellings(values[0].text)
            return _Leaf(
                reader,
                lambda cell: not wanted.isdisjoint(reader.entries(cell)),
                dict.fromkeys(values, wanted),
                entries=True,
            )
        meant = {value: _meant(value) for value in values}
        every = frozenset[Any]().union(*meant.values())
        says = reader.says if any(not isinstance(one, str) for one in every) else reader.folded
        return _Leaf(reader, lambda cell: not every.isdisjoint(says(cell)), meant)

    def _side(self, tree: Comparison, reader: "_Reader") -> "_Leaf":
        (value,) = tree.values
        holds = _SIDES[tree.operator]
        limit: Any = where_cells.number(value.text)
        kind: Callable[[str], Any] = where_cells.number
        if limit is None:
            limit, kind = where_cells.day(value.text), where_cells.day
        if limit is None:
            raise WhereError(
                f"{tree.operator} compares numbers and dates: expected a number such as 800 or a "
                "date such as 2026-05-01",
                self._text,
                value.at,
            )

        def judge(cell: Cell) -> bool:
            found = kind(cell) if isinstance(cell, str) else None
            return found is not None and holds(found, limit)

        return _Leaf(reader, judge, side="number" if kind is where_cells.number else "date")

    def _column(self, tree: Comparison) -> str:
        name = tree.column
        if name in self._columns:
            return name
        wanted = bare(name)
        same = [column for column in self._columns if wanted and bare(column) == wanted]
        if len(same) > 1:
            raise WhereError(
                f"{shown(name)} is more than one column: {', '.join(map(shown, sorted(same)))}",
                self._text,
                tree.at,
            )
        if same:
            return same[0]
        for own in OWN_COLUMNS:
            if wanted in _foreign(own) and own in self._columns:
                return own
        near = close_names(name, self._columns)
        listed = ", ".join(sorted(self._columns)[:_LISTED])
        raise WhereError(
            f"there is no column {shown(name)}"
            + (f", did you mean {' or '.join(near)}?" if near else ""),
            self._text,
            tree.at,
            hint=f"the columns are {listed}; hq roster columns shows what is in them",
        )


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One comparison: what it is true of, and what its notes need.

    Attributes:
        reader: Of its column.
        judge: True of a cell?
        values: Each value of an equality with what a cell would have to say.
        entries: Whether that is compared with the entries of lists.
        side: What a cell must be for `<` and its like, otherwise nothing.
        judged: Every different cell that was asked about.
    """

    reader: "_Reader"
    judge: Callable[[Cell], bool]
    values: Mapping[Value, frozenset[Any]] | None = None
    entries: bool = False
    side: str = ""
    judged: dict[Cell, bool] = field(default_factory=dict)


class _Reader:
    """What the cells of one column say; each different cell is read once."""

    def __init__(self, column: str) -> None:
        self.column = column
        self._said: dict[Cell, frozenset[Any]] = {}

    def says(self, cell: Cell) -> frozenset[Any]:
        """What a cell is the same as: its text and, if it is one, its number or day."""
        said = self._said.get(cell)
        if said is None:
            said = self._said[cell] = frozenset(
                meaning
                for text in _texts(cell)
                for meaning in (where_cells.folded(text), *_numbers_and_days(text))
            )
        return said

    def texts(self, cell: Cell) -> Iterable[str]:
        """A cell's text, or the texts of its entries, as they are compared."""
        return map(where_cells.folded, _texts(cell))

    def folded(self, cell: Cell) -> tuple[str, ...]:
        """The texts alone, which is quicker where no number or day is asked for."""
        return tuple(self.texts(cell))

    def entries(self, cell: Cell) -> frozenset[str]:
        """The entries of a list; of a text, what stands between its separators."""
        said = self._said.get(("entries", *_texts(cell)))
        if said is None:
            texts = _texts(cell)
            if isinstance(cell, str):
                for separator in BETWEEN[1:]:
                    cell = cell.replace(separator, BETWEEN[0])
                texts = tuple(cell.split(BETWEEN[0]))
            entries = frozenset(filter(None, map(where_cells.folded, texts)))
            said = self._said["entries", *_texts(cell)] = entries
        return said


def _texts(cell: Cell) -> tuple[str, ...]:
    return (cell,) if isinstance(cell, str) else cell


def _numbers_and_days(text: str) -> tuple[int | float | date, ...]:
    found = (where_cells.number(text), where_cells.day(text))
    return tuple(one for one in found if one is not None)


def _meant(value: Value) -> frozenset[Any]:
    """What a cell must say to be the same as a value."""
    text = where_cells.folded(value.text)
    return frozenset({text} if value.quoted else {text, *_numbers_and_days(value.text)})


def _spellings(text: str) -> frozenset[str]:
    """What an entry of a list must be: the text, or the identifier made from it."""
    spellings = {where_cells.folded(text)}
    with contextlib.suppress(WireError):
        spellings.add(slug(text, "tag"))
    return frozenset(spellings)


def _nobody_has(leaf: _Leaf, cells: Mapping[str, Cells]) -> Iterable[str]:
    """Notes of the values that no open store has: likely slips, whatever is asked of them."""
    reader = leaf.reader
    columns = [reader.column, *filter(None, [_BESIDE.get(reader.column)])]
    different = {row.get(column, "") for row in cells.values() for column in columns}
    read = reader.entries if leaf.entries else reader.says
    there = frozenset[Any]().union(*map(read, different))
    strangers = [
        value.text
        for value, meant in (leaf.values or {}).items()
        if meant.isdisjoint(there) and value.text.strip()
    ]
    texts = [text for cell in different for text in _texts(cell)]
    for text in strangers[:_TOLD]:
        near = close_names(text, texts) if len(texts) <= _MOST_TO_SEARCH else []
        asked = f", did you mean {' or '.join(map(shown, near))}?" if near else ""
        yield f"no store has {reader.column} {shown(text)}{asked}"
    if len(strangers) > _TOLD:
        yield f"nor {len(strangers) - _TOLD:,} more of the values asked for"


def _not_compared(leaf: _Leaf, asked: Collection[str], cells: Mapping[str, Cells]) -> Iterable[str]:
    """A note of the cells that are on no side of a limit."""
    column = leaf.reader.column
    kind = where_cells.number if leaf.side == "number" else where_cells.day
    comparable: dict[Cell, bool] = {}
    empty = 0
    strange: list[str] = []
    for store_id in asked:
        cell = cells[store_id].get(column, "")
        if not cell:
            empty += 1
            continue
        if cell not in comparable:
            comparable[cell] = isinstance(cell, str) and kind(cell) is not None
        if not comparable[cell]:
            strange.append(store_id)
    if strange:
        first = min(strange)
        yield (
            f"{len(strange):,} of {len(asked):,} stores have no {leaf.side} in {column} "
            f"({shown(str(cells[first][column]))} in {first}): no < or > is true of them"
        )
    if empty:
        yield (
            f"{empty:,} of {len(asked):,} stores have nothing in {column}: "
            "no < or > is true of them"
        )
