"""What the columns of the roster hold, for a person who is about to write an expression.

Pure; reads cells as `where_match` does, so that what is a number here is one there.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from hqconsole import where_cells
from hqconsole.organisation import Cells
from hqconsole.where import column_written
from hqconsole.where_match import LISTS, column_names

_EXAMPLES = 4
_EXAMPLE_CHARACTERS = 40


def columns(stores: Collection[Cells]) -> list[dict[str, Any]]:
    """Return what each column holds, with the names that `--json` shows; ours come first.

    Args:
        stores: What the roster says of each open store.
    """
    own = ("id", "name", "region", "region_name", "city", "country", "timezone", "roles", "tags")
    names = column_names(stores)
    ordered = [name for name in own if name in names] + [name for name in names if name not in own]
    return [_column(name, stores) for name in ordered]


def _column(name: str, stores: Collection[Cells]) -> dict[str, Any]:
    cells = Counter(row.get(name, "") or "" for row in stores)
    empty = cells.pop("", 0)
    texts = {cell: count for cell, count in cells.items() if isinstance(cell, str)}
    numbers = {cell: n for cell in texts if (n := where_cells.number(cell)) is not None}
    days = {cell: day for cell in texts if (day := where_cells.day(cell)) is not None}
    filled = cells.total()
    number_cells, day_cells = (sum(texts[cell] for cell in some) for some in (numbers, days))
    if name in LISTS:
        kind = "list"
    elif filled and number_cells * 2 > filled:
        kind = "number"
    elif filled and day_cells * 2 > filled:
        kind = "date"
    else:
        kind = "text"
    least: int | float | str | None = None
    most: int | float | str | None = None
    if kind == "number":
        least, most = min(numbers.values()), max(numbers.values())
    elif kind == "date":
        least, most = str(min(days.values())), str(max(days.values()))
    entries = Counter[str]()
    for cell, count in cells.items():
        for text in _different(cell):
            entries[text] += count
    return {
        "column": name,
        "written": column_written(name),
        "kind": kind,
        "stores": filled,
        "empty": empty,
        "other": {"number": filled - number_cells, "date": filled - day_cells}.get(kind, 0),
        "different": len(entries),
        "least": least,
        "most": most,
        "examples": [
            {"value": text[:_EXAMPLE_CHARACTERS], "stores": count}
            for text, count in sorted(entries.items(), key=lambda one: (-one[1], one[0]))[
                :_EXAMPLES
            ]
        ],
    }


def _different(cell: str | tuple[str, ...]) -> Iterator[str]:
    """A cell, or the entries of a list; an entry and the same in other letters is one."""
    if isinstance(cell, str):
        yield cell
        return
    seen: set[str] = set()
    for text in cell:
        if where_cells.folded(text) not in seen:
            seen.add(where_cells.folded(text))
            yield text
