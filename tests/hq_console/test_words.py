"""How texts are split into words, asked for, and shown: `hqconsole.words`."""

import os
import random
import sqlite3

import pytest

from hqconsole.words import QueryError, excerpt, for_index, parse


def finds(query: str, *texts: str) -> list[str]:
    """The texts that SQLite finds with this."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5 (text, content = '', tokenize = 'ascii')")
    for number, text in enumerate(texts):
        connection.execute("INSERT INTO t (rowid, text) VALUES (?, ?)", (number, for_index(text)))
    rows = connection.execute("SELECT rowid FROM t WHERE t MATCH ?", (parse(query).match,))
    found = [texts[row[0]] for row in rows]
    connection.close()
    return found


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("促销", "请补发促销价签"),
        ("销", "请补发促销价签"),
        ("冷", "ｱｲｽ 冷凍"),
        ("アイス", "ｱｲｽ 冷凍"),
        ("バス", "ﾊﾞｽ停"),
        ("매장", "우리매장입니다"),
        ("ร้าน", "ที่ร้านนี้"),
        ("creme brulee", "CRÈME brûlée"),
        ("hauptstrasse", "Hauptstraße 3"),
        ("STRASSE", "Hauptstr. Straße"),
        ("12kg", "\uff11\uff12\uff4b\uff47"),
        ("m2", "40 m²"),
        ("И", "и"),
        ("lot-2231", "LOT 2231"),
        ("sku_77", "sku-77"),
        ("freez*", "the freezer"),
        ("𠮷野", "在𠮷野家"),
        ('"price tags"', "more price tags"),
        ("“price tags”", "more price tags"),
        ("「价签」", "补发价签"),
        ("lot OR batch 7", "batch 7"),
        ("tags -printer", "tags"),
        ("café", "cafe\u0301"),
    ],
)
def test_what_a_person_means_is_found(query: str, text: str) -> None:
    """Any script and width, one character or more, with and without accents."""
    assert finds(query, text) == [text]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("促销", "促进销售"),
        ("销促", "促销"),
        ("バス", "ハス"),
        ("tag", "tags"),
        ('"tags price"', "price tags"),
        ("tags -printer", "tags for the printer"),
        ("lot OR batch 7", "lot 8"),
        ("-a b", "a b"),
    ],
)
def test_what_nobody_means_is_not_found(query: str, text: str) -> None:
    """Characters in another order or apart are another word."""
    assert finds(query, text) == []


@pytest.mark.parametrize("query", ["", " ", "-only", '"', "!!!", "-", "*", "OR -x", "a " * 51])
def test_what_names_no_word_is_refused_with_a_hint(query: str) -> None:
    """And so is a pasted page."""
    with pytest.raises(QueryError) as caught:
        parse(query)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_nothing_that_anybody_writes_is_an_error_of_the_index() -> None:
    """Queries of random pieces of its own language and of all scripts are found or refused."""
    seed = int(os.environ.get("STOREBUS_TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    draw = random.Random(seed)
    pieces = [
        *"\"*-^:(){}+\\\x00'",
        *"促销é½ﷺ\u0301\ud800\U0001f600ｱﾞ²",
        "AND",
        "OR",
        "NOT",
        "NEAR(",
        "a",
        " ",
    ]
    for _ in range(400):
        query = "".join(draw.choices(pieces, k=draw.randrange(1, 12)))
        text = "".join(draw.choices(pieces, k=20))
        try:
            terms = parse(query).terms
        except QueryError:
            continue
        found = finds(query, text)
        shown = excerpt(text, terms, columns=draw.randrange(1, 40))
        assert all(0 <= start < end <= len(shown.text) for start, end in shown.marks)
        if found and "-" not in query:
            whole = excerpt(text, terms, columns=1000)
            assert whole.marks, (query, text)


def test_an_excerpt_shows_where_most_of_the_words_are() -> None:
    """With the words before it, and each hit marked once."""
    text = "tags. " + "x " * 200 + "请补发促销价签 and price tags,\nplease " + "y " * 200
    shown = excerpt(text, parse('促销 "price tags" pric*').terms, columns=40)
    assert shown.marked().startswith("…")
    assert shown.marked().endswith("…")
    assert "[促销]价签 and [price tags], please" in shown.marked()
    assert excerpt("short", parse("other").terms, columns=40) == ("short", ())
