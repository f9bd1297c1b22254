"""`--where`: how an expression is read, and what it is true of."""

import os
import random
from datetime import date

import pytest

from hqconsole import where_cells
from hqconsole.organisation import Cells
from hqconsole.where import (
    MAX_CHARACTERS,
    And,
    Comparison,
    Expression,
    Not,
    Or,
    Value,
    WhereError,
    parse,
    written,
)
from hqconsole.where_columns import columns
from hqconsole.where_match import Match, column_names, matching

STORES: dict[str, Cells] = {
    "S1": {
        "id": "S1",
        "region": "north-east",
        "region_name": "North East",
        "city": "上海",
        "roles": ("manager", "store-clerk", "Manager", "Store Clerk"),
        "tags": ("24h", "drive-thru"),
        "format": "Flagship",
        "area_sqm": "8,200",
        "opened": "2009-09-18",
        "Area m2": "1",
        "postcode": "01234",
        "门店类型": "旗舰店",
        "services": "pharmacy; parking",
    },
    "S2": {
        "id": "S2",
        "region": "west",
        "region_name": "Far West",
        "city": "Saint-Denis",
        "roles": ("manager",),
        "tags": (),
        "format": "express",
        "area_sqm": "420.5",
        "opened": "2016/3/5",
        "postcode": "1234",
        "extra.name": "x",
    },
    "S3": {
        "id": "S3",
        "region": "west",
        "region_name": "Far West",
        "city": "New  York",
        "roles": (),
        "tags": ("24h",),
        "area_sqm": "n/a",
        "opened": "18.09.2009",
        "Area m2": "3",
        "Area M2.": "4",
    },
}


def true_of(text: str) -> str:
    """The stores of which an expression is true, as words."""
    return " ".join(sorted(matching(text, STORES, STORES).stores))


@pytest.mark.parametrize(
    ("text", "stores"),
    [
        # Numbers are compared as numbers, however their thousands are grouped.
        ("area_sqm > 800", "S1"),
        ("area_sqm >= 420.5 and area_sqm<8_200", "S2"),
        ("area_sqm = 8200", "S1"),
        ("area_sqm = '8200'", ""),
        ("area_sqm > '8 199'", "S1"),
        # A cell that is none is on no side; negation is still negation.
        ("area_sqm < 0 or area_sqm >= 0", "S1 S2"),
        ("not area_sqm > 800", "S2 S3"),
        # Dates are, too.
        ("opened < 2010-01-01", "S1"),
        ("opened = 2016-03-05", "S2"),
        ("opened > 2009-09-18T23:00", "S2"),
        # Texts: letter case, width and spaces between do not matter; a code is no number.
        ("format=FLAGSHIP", "S1"),
        ("city = 'new york'", "S3"),
        ('postcode = "1234"', "S2"),
        ("postcode = 1234", "S2"),
        ("postcode = 01234", "S1"),
        # Nothing there: other than everything, and found by its own word.
        ("format != flagship", "S2 S3"),
        ("format is empty", "S3"),
        ("format = ''", "S3"),
        ("tags is not empty", "S1 S3"),
        # in, contains, has.
        ("format in (express, flagship)", "S1 S2"),
        ("format not in (express)", "S1 S3"),
        ("city contains DENIS", "S2"),
        ("city ~ york", "S3"),
        ("city not ~ york", "S1 S2"),
        ("tags has 24H", "S1 S3"),
        ("tags has 'Drive Thru'", "S1"),
        ("tags contains driv", "S1"),
        ("roles has 'store clerk' and roles has manager", "S1"),
        ("services has parking", "S1"),
        # A region by what it is called or how it is written down.
        ("region = 'North East' or region = west", "S1 S2 S3"),
        ("region != 'far west'", "S1"),
        # Names of columns as people write them, ours as other systems call them.
        ('"AREA SQM" > 800', "S1"),
        ("Area-Sqm>800", "S1"),
        ("ORT = 上海", "S1"),
        ("store_id = S2", "S2"),
        ("门店类型 = 旗舰店", "S1"),
        ('"Area m2" = 1', "S1"),
        ("extra.name = x", "S2"),
        # What a Chinese keyboard types; typographic quotes; other signs.
        ("（format＝flagship）and area_sqm＞８００", "S1"),  # noqa: RUF001 - full-width on purpose
        ("city = “Saint-Denis” or city == „上海“", "S1 S2"),
        ("area_sqm ≥ 420.5 and format <> express", "S1"),
        # "and" binds closer than "or", "not" closest; words in any letter case; line breaks.
        ("format=express or format=flagship and area_sqm<5", "S2"),
        ("(format=express or format=flagship) and area_sqm<5", ""),
        ("NOT format=express AND not\n\tcity=上海", "S3"),
        ("city = O'Hare or city = Val-d'Isère or id=S1", "S1"),
    ],
)
def test_what_an_expression_is_true_of(text: str, stores: str) -> None:
    """Each rule of the language by an example, and each survives being written down again."""
    assert true_of(text) == stores
    assert true_of(written(parse(text))) == stores


@pytest.mark.parametrize(
    ("text", "problem", "at"),
    [
        ("", "is empty", 0),
        ("   ", "is empty", 3),
        ("format=", "expected a value behind =", 7),
        ("format= and id=1", 'expected a value behind =; "and" in quotes', 8),
        ("format", "expected =, !=, <, <=, >, >=, in, contains, has or is empty", 6),
        ("Area m2 > 5", 'in quotes: "Area m2"', 5),
        ("city = New York", 'in quotes: "New York"', 11),
        ("id=1 && id=2", "expected and, or, or the end", 5),
        ("1 < area_sqm < 5", "expected and, or, or the end", 13),
        ("id=1)", "this ) has no (", 4),
        ("((id=1)", "the ( is not closed", 7),
        ("id in S1", "expected ( behind in", 6),
        ("id in ()", "expected a value behind (", 7),
        ("id in (a b)", "expected , or )", 9),
        ("id not = 3", "expected in, contains or has behind not", 7),
        ("id is S1", "expected empty or not empty", 6),
        ("id='S1", "' is missing", 3),
        ("not", "expected the name of a column", 3),
        ("id ! S1", "! stands only in !=", 3),
        ("'id=S1 and id=S2'", "if the quotes are around a whole expression", 17),
        ("'id=S1", "this quote is not closed", 0),
        # What this roster has no answer to.
        ("id=1 or formt=1", "no column 'formt', did you mean format?", 8),
        ("areaM2=1", "more than one column", 0),
        ("'\x1b[2J'=1", "no column '\\x1b[2J'", 0),
        ("roles = manager", "roles is a list; write roles has manager", 8),
        ("tags > 5", "tags is a list", 7),
        ("opened < 18.09.2009", "expected a number such as 800 or a date such as 2026-05-01", 9),
        ("opened < 2026-02-30", "expected a number", 9),
        ("city ~ ''", "every text contains nothing", 7),
    ],
)
def test_an_error_points_at_its_place(text: str, problem: str, at: int) -> None:
    """The caret is below the place, and the words say what was expected there."""
    with pytest.raises(WhereError) as caught:
        matching(text, STORES, STORES)
    assert problem in caught.value.problem
    assert caught.value.at == at
    assert caught.value.exit_code == 2
    assert caught.value.hint
    lines = str(caught.value).split("\n")
    assert lines[-1].strip() == "^"
    assert "\x1b" not in "".join(lines[1:])


def test_the_caret_stands_below_wide_letters_and_in_long_texts() -> None:
    """Where an ideograph takes two columns, so does the way to the caret; far text is cut."""
    with pytest.raises(WhereError) as caught:
        parse("门店类型 = 旗舰店 旗舰店")
    assert str(caught.value).split("\n")[1:] == ["  门店类型 = 旗舰店 旗舰店", " " * 20 + "^"]
    with pytest.raises(WhereError) as caught:
        parse("id=1 or " * 90 + "id")
    shown = str(caught.value).split("\n")
    assert shown[1].startswith("  …")
    assert shown[2].index("^") == len(shown[1])


@pytest.mark.parametrize(
    "text",
    [
        "(" * 9_000 + "id=1" + ")" * 9_000,
        "not " * 4_000 + "id=1",
        "id=1 or " * 2_000 + "id=1",
        "x" * 100_000,
        "id in (" + "1," * 60_000 + "1)",
        '"' * 9_999,
        "(" * 20_000,
    ],
)
def test_a_hostile_expression_is_refused(text: str) -> None:
    """Depth, length and number have their limits, told in a line that fits on a screen."""
    with pytest.raises(WhereError) as caught:
        parse(text)
    assert len(str(caught.value)) < 400
    assert MAX_CHARACTERS >= 5_000  # a few hundred stores by name still fit


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("8200", 8200),
        ("8,200", 8200),
        ("8 200", 8200),
        ("8\u202f200.25", 8200.25),
        ("1'234'567", 1234567),
        ("\uff18\uff12\uff10\uff10", 8200),
        ("-3.5", -3.5),
        ("\N{MINUS SIGN}3", -3),
        ("0", 0),
        ("0.5", 0.5),
        ("8.200", 8.2),
        (" 7 ", 7),
        ("123456789012345678", 123456789012345678),
        *((text, None) for text in ("8,2", "8,2000", "1,234 567", "007", "8200 m2", "5%", "1e5")),
        *(
            (text, None)
            for text in ("", "-", ".", "8\u00b2", "nan", "inf", "٣", "²", "9" * 5_000, "2026-1-1")
        ),
    ],
)
def test_what_is_a_number(cell: str, number: float | None) -> None:
    """What could be read in two ways is read in neither."""
    assert where_cells.number(cell) == number


def test_what_is_a_date() -> None:
    """Year, month, day in this order, and a day that there is."""
    days = ("2026-05-01", "2026/5/1", "2026.5.1", "2026-05-01T08:00Z", "\uff12026-05-01")
    assert {where_cells.day(text) for text in days} == {date(2026, 5, 1)}
    none = ("2026-02-30", "01.05.2026", "2026-5/1", "20260501", "2026-05", "", "0000-01-01")
    assert {where_cells.day(text) for text in none} == {None}


def test_what_could_not_be_compared_is_told() -> None:
    """Cells that are neither number nor date are counted, empty ones apart."""
    there = STORES | {"S4": {"id": "S4"}}
    notes = matching("area_sqm > 5 or area_sqm < 3", there, there).notes
    assert notes == [
        "1 of 4 stores have no number in area_sqm ('n/a' in S3): no < or > is true of them",
        "1 of 4 stores have nothing in area_sqm: no < or > is true of them",
    ]
    assert matching("area_sqm > 5", ["S1", "S2"], there).notes == []


def test_values_that_no_store_has_are_told_with_what_may_have_been_meant() -> None:
    """A slip in a value is not silently nobody, nor, behind a not, everybody."""
    assert matching("format != flagshp", STORES, STORES).notes == [
        "no store has format 'flagshp', did you mean 'Flagship'?"
    ]
    assert matching("format in (flagship, expres)", STORES, STORES).notes == [
        "no store has format 'expres', did you mean 'express'?"
    ]
    assert matching("format = express", ["S1"], STORES).notes == []  # S2 has it
    assert matching("region = 'Far West' and tags has 24h", STORES, STORES).notes == []
    many = ",".join(f"x{n}" for n in range(50))
    assert matching(f"id in ({many})", STORES, STORES).notes[-1].startswith("nor 47 more")


SEED = int(os.environ.get("STOREBUS_TEST_SEED", "0")) or random.randrange(1 << 32)
COLUMNS = ("id", "format", "area_sqm", "opened", "门店类型", "Area m2", "and", "odd'\"name ")
VALUES = ("flagship", "420.5", "8200", "2009-09-18", "旗舰店", "not", "a b", "", "O'Hare", '"')


def some_tree(rng: random.Random, depth: int) -> Expression:
    """Any tree that a text can mean, of at most this depth."""
    kind = rng.choice(("leaf", "not", "and", "or")) if depth else "leaf"
    if kind == "not":
        return Not(some_tree(rng, depth - 1))
    if kind in {"and", "or"}:
        parts = tuple(some_tree(rng, depth - 1) for _ in range(rng.randint(2, 3)))
        return And(parts) if kind == "and" else Or(parts)
    operator = rng.choice(("=", "<", "<=", ">", ">=", "in", "contains", "has", "empty"))
    count = {"empty": 0, "in": rng.randint(1, 3)}.get(operator, 1)
    values = tuple(some_value(rng) for _ in range(count))
    negated = rng.random() < 0.3 and operator not in {"<", "<=", ">", ">="}
    return Comparison(rng.choice(COLUMNS), operator, values, negated)


def some_value(rng: random.Random) -> Value:
    """Any value; what is no word of its own is in quotes."""
    text = rng.choice(VALUES)
    return Value(text, quoted=rng.random() < 0.3 or text in {"not", "a b", "", '"'})


def test_a_tree_that_is_written_down_reads_as_itself() -> None:
    """Whatever the tree: names that are words of the grammar, quotes in quotes, nesting."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    for _ in range(300):
        tree = some_tree(rng, rng.randint(0, 4))
        assert parse(written(tree)) == tree, written(tree)


def judged(tree: Expression, cells: Cells) -> bool:
    """What a tree says of a store: its comparisons from the program, the rest from Python."""
    if isinstance(tree, Not):
        return not judged(tree.part, cells)
    if isinstance(tree, And):
        return all(judged(part, cells) for part in tree.parts)
    if isinstance(tree, Or):
        return any(judged(part, cells) for part in tree.parts)
    return Match(written(tree), column_names(STORES.values()))(cells)


def mirrored(tree: Expression) -> Expression:
    """The negation of a tree by De Morgan's laws: no Not but at its leaves."""
    if isinstance(tree, Not):
        return tree.part
    if isinstance(tree, And | Or):
        parts = tuple(mirrored(part) for part in tree.parts)
        return Or(parts) if isinstance(tree, And) else And(parts)
    return Not(tree)


def test_the_laws_of_logic_hold_for_every_cell() -> None:
    """De Morgan's, negation as the complement: empty cells and cells that are no number, too."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    there = column_names(STORES.values())
    done = 0
    while done < 60:
        tree = some_tree(rng, 2)
        text = written(tree)
        try:
            match = Match(text, there)
        except WhereError:  # a column that these stores have not, text on a side, ...
            continue
        done += 1
        negation = Match(written(mirrored(tree)), there)
        for cells in STORES.values():
            assert match(cells) is judged(tree, cells), text
            assert match(cells) is not negation(cells), text


def test_any_text_is_read_or_refused() -> None:
    """Pieces of the grammar in any order never give anything but a tree or a `WhereError`."""
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    pieces = (*"()=<>!~,'\"„”«", " ", "and ", " or ", "not ", "in", "is", "empty", "id", "旗", "\0")
    read = 0
    for _ in range(1_500):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        try:
            tree = parse(text)
        except WhereError:
            continue
        read += 1
        assert parse(written(tree)) == tree, text
    assert read > 0


def test_25000_stores_are_asked() -> None:
    """An expression is read once and asked of the biggest chain."""
    formats = ("flagship", "express", "outlet", "")
    there: dict[str, Cells] = {
        f"S{n:05}": {"id": f"S{n:05}", "format": formats[n % 4], "area_sqm": str(n % 2_000)}
        for n in range(25_000)
    }
    found = matching("format=flagship and area_sqm>800", there, there)
    assert len(found.stores) == sum(n % 4 == 0 and n % 2_000 > 800 for n in range(25_000))
    assert found.notes == []


def test_columns_tell_what_can_be_asked() -> None:
    """Kinds, ranges, examples, how a name is typed, and how many cells are otherwise."""
    found = {column["column"]: column for column in columns(STORES.values())}
    assert list(found)[:4] == ["id", "region", "region_name", "city"]
    area = found["area_sqm"]
    assert (area["kind"], area["least"], area["most"], area["other"]) == ("number", 420.5, 8200, 1)
    opened = found["opened"]
    assert (opened["kind"], opened["least"], opened["other"]) == ("date", "2009-09-18", 1)
    assert found["Area m2"]["written"] == '"Area m2"'
    assert found["tags"]["kind"] == "list"
    assert found["tags"]["examples"][0] == {"value": "24h", "stores": 2}
    assert (found["format"]["stores"], found["format"]["empty"]) == (2, 1)
    for name in found:
        assert parse(f"{found[name]['written']} is empty")
