"""`hq search`: what is found in the whole history, and an index that can always be made anew."""

import json
from pathlib import Path
from typing import Any

import pytest

from buswire.messages import Alert, Receipt, Reply
from buswire.states import State
from hqconsole.ledger import search_index
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def found(run: Run, *words: str) -> list[dict[str, Any]]:
    """The hits, as JSON has them."""
    code, out, errors = run("search", *words, "--json")
    assert code == 0, errors
    return list(json.loads(out))


def texts(run: Run, *words: str) -> list[str]:
    """What the hits say."""
    return [row["excerpt"] for row in found(run, *words)]


@pytest.fixture
def recall(run: Run, field: Field) -> str:
    """A directive with all that was said of it; its id."""
    code, out, errors = run(
        "publish",
        "Pull lot 2231",
        "--body",
        "下架洗发水, all of it",
        "--all",
        "--needs",
        "done",
        "--json",
    )
    assert code == 0, errors
    directive = str(json.loads(out)["id"])
    field.say(
        "S1",
        Reply(directive=directive, role="any", text="货架上没有价签 any more", by="Mio"),
        Receipt(directive=directive, role="any", state=State.READ, by="Mio"),
        Alert(alert="replenishment", fields={"sku": "6901-234", "on_hand": 2}, note="冰柜坏了"),
    )
    field.say(
        "S4",
        Receipt(
            directive=directive,
            role="any",
            state=State.CANNOT,
            code="no_key",
            reason="cage is locked",
        ),
    )
    field.receipt(directive, "S2", State.DONE, note="twelve crates went back")
    assert run("cancel", directive[:8], "--reason", "Supplier withdrew it")[0] == 0
    return directive


def test_everything_that_was_said_is_found_with_where_it_is_from(run: Run, recall: str) -> None:
    """Directives, replies, alerts, notes, reasons and decisions, also by one Chinese character."""
    for words, kind, store in (
        ("LOT 2231", "directive", None),
        ("洗发", "directive", None),
        ("价签", "reply", "S1"),
        ("签", "reply", "S1"),
        ("冰柜", "alert", "S1"),
        ("6901", "alert", "S1"),
        ("replenish*", "alert", "S1"),
        ("crates", "note", "S2"),
        ("no_key", "cannot", "S4"),
        ("cage locked", "cannot", "S4"),
        ("withdrew", "decision", None),
    ):
        (row,) = found(run, words)
        assert (row["kind"], row["store"]) == (kind, store), words
        assert row["directive"] == (None if kind == "alert" else recall), words
        assert row["marks"], words
    assert found(run, "Mio", "--kind", "reply")[0]["by"] == "Mio"
    code, out, _ = run("search", "价签")
    assert (code, "没有[价签]" in out) == (0, True)


def test_hits_are_narrowed_by_kind_store_region_and_time(run: Run, recall: str) -> None:
    """What head office said counts for the stores that it went to."""
    everything = "2231 OR 价签 OR 冰柜 OR crates OR cage"
    assert len(found(run, everything)) == 5
    assert {row["store"] for row in found(run, everything, "--store", "S1")} == {None, "S1"}
    assert {row["store"] for row in found(run, everything, "--region", "West")} == {None, "S4"}
    assert [row["kind"] for row in found(run, everything, "--kind", "cannot")] == ["cannot"]
    assert len(found(run, everything, "--since", "1h")) == 5
    assert found(run, everything, "--until", "1h") == []
    run("publish", "Only 2231", "--store", "S5")
    assert texts(run, "2231", "--store", "S1", "--kind", "directive") == [
        "Pull lot 2231: 下架洗发水, all of it"
    ]
    assert texts(run, "2231", "--region", "East") == ["Pull lot 2231: 下架洗发水, all of it"]
    for options in (("--store", "S9"), ("--region", "Nowhere"), ("--kind", "x"), ("--what",)):
        code, out, errors = run("search", "2231", *options)
        assert (code in {1, 2}, out) == (True, ""), errors


def test_the_index_is_made_anew_from_the_history(run: Run, home: Path, recall: str) -> None:
    """Whatever happened to it: the answers are the same, and pieces of any size add up."""
    words = "2231 OR 价签 OR 冰柜 OR crates OR cage OR withdrew"
    before = found(run, words)
    with open_ledger(home) as ledger:
        assert search_index.behind(ledger.connection) == 0
        with ledger.write() as connection:
            search_index.forget(connection)
        assert search_index.behind(ledger.connection) > 0
        with ledger.write() as connection:
            while search_index.catch_up(connection, 1):
                pass
        assert search_index.behind(ledger.connection) == 0
    assert found(run, words) == before
    assert run("search", "--rebuild")[0] == 0
    assert found(run, words) == before


def test_a_damaged_index_stops_nobody_and_is_mended(run: Run, home: Path, recall: str) -> None:
    """The command names what mends it; whoever indexes what is new begins it anew."""
    before = found(run, "2231 OR 价签")
    ruin = "UPDATE search_words_data SET block = x'ffffffffffff' WHERE id > 10"
    with open_ledger(home) as ledger, ledger.write() as connection:
        connection.execute(ruin)
    code, out, errors = run("search", "2231")
    assert (code, out) == (1, "")
    assert "hq search --rebuild" in errors
    assert run("search", "--rebuild")[0] == 0
    assert found(run, "2231 OR 价签") == before
    with open_ledger(home) as ledger, ledger.write() as connection:
        connection.execute("UPDATE search_words_data SET block = zeroblob(3)")
    run("publish", "Another 2231", "--all")
    assert len(found(run, "2231")) == 2


def test_a_text_that_changes_before_it_is_sent_is_found_as_it_is(run: Run, home: Path) -> None:
    """A draft's old words lead to nothing once it has others; sent, it is found once."""
    directive = str(json.loads(run("publish", "Dresscode", "--all", "--json")[1])["id"])
    with open_ledger(home) as ledger, ledger.write() as connection:
        connection.execute("UPDATE directive SET issued_at = 0")
    assert texts(run, "dresscode") == ["Dresscode"]
    with open_ledger(home) as ledger, ledger.write() as connection:
        connection.execute("UPDATE directive SET title = 'Uniforms'")
        connection.execute("UPDATE doc SET sum = sum + 1 WHERE kind = 'directive'")
    assert texts(run, "dresscode") == []
    assert texts(run, "uniforms") == ["Uniforms"]
    with open_ledger(home) as ledger, ledger.write() as connection:
        connection.execute("UPDATE directive SET issued_at = 5 WHERE id = ?", (directive,))
    assert [row["at"] for row in found(run, "uniforms")] == [5]


def test_what_fits_as_well_comes_in_the_order_of_newness(run: Run, field: Field) -> None:
    """And the best fit comes before what is only new."""
    for day in range(4):
        field.say(
            "S1", Alert(alert="incident", note=f"leak {day}" + " and more words" * (day == 3))
        )
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        connection.execute("UPDATE arrival SET received_at = received_at - 86400 * 90 * (6 - no)")
    found_texts = [text.split()[2] for text in texts(run, "leak")]
    assert found_texts[:3] in (["2", "1", "0"], ["2", "1", "3"], ["2", "3", "1"])
    assert run("search")[0] == 2
    assert run("search", "-leak")[0] == 2
