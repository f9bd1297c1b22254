"""`hq audience`, `hq roster columns`, and the audience of a directive when the roster changes."""

import itertools
import json
import sqlite3
from pathlib import Path

import pytest

from hqconsole.audience import AudienceError, Mailbox, choose
from hqconsole.ledger import audiences
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.organisation import cells, mailbox_numbers, organisation, rows, save_roster
from hqconsole.selector import Selector, selector_to_json
from hqconsole.store_row import StoreRow
from tests.hq_console.conftest import Run

IDS = (f"{number:032x}" for number in itertools.count())


def shop(
    store_id: str, region: str = "east", roles: tuple[str, ...] = ("manager",), **extra: str
) -> StoreRow:
    """One row of the roster."""
    return StoreRow(
        store_id, f"Shop {store_id}", region, region.title(), "", "", "UTC", roles, roles, (), extra
    )


def save(connection: sqlite3.Connection, *shops: StoreRow) -> None:
    """Make the roster these stores."""
    save_roster(connection, shops, at=1.0, new_id=lambda: next(IDS))


def keep(connection: sqlite3.Connection, name: str, selector: Selector) -> bool:
    """Save an audience."""
    return audiences.save(connection, name, selector, at=1.0, by="ana")


def write_directive(
    connection: sqlite3.Connection,
    selector: Selector | None,
    *,
    sent: tuple[str, ...] = (),
    joined: tuple[str, ...] = (),
    planned: tuple[str, ...] = (),
    continuous: bool = False,
) -> int:
    """A directive whose audience is these stores' managers; its number."""
    doc_no = connection.execute("INSERT INTO doc (kind, data) VALUES ('draft', '')").lastrowid
    no = connection.execute(
        "INSERT INTO directive (id, doc_no, title, kind, needs, priority, issued_at, issued_by,"
        " state, mailboxes, digest) VALUES (?, ?, '', '', '', '', 0, '', 'rolling', 0, '')",
        (next(IDS), doc_no),
    ).lastrowid
    assert no is not None
    numbers = mailbox_numbers(connection)
    for store_id in (*sent, *joined):
        connection.execute(
            "INSERT INTO delivery (directive_no, mailbox_no, state, open, joined_at)"
            " VALUES (?, ?, 0, 1, ?)",
            (no, numbers[Mailbox(store_id, "manager")], 5.0 if store_id in joined else None),
        )
    for store_id in planned:
        connection.execute(
            "INSERT INTO planned VALUES (?, 2, ?)", (no, numbers[Mailbox(store_id, "manager")])
        )
    if selector is not None:
        connection.execute(
            "INSERT INTO plan (directive_no, selector, continuous, author, written_at)"
            " VALUES (?, ?, ?, 'ana', 1.0)",
            (no, selector_to_json(selector), continuous),
        )
    return no


def managers(*stores: str) -> set[Mailbox]:
    """Their mailboxes."""
    return {Mailbox(store_id, "manager") for store_id in stores}


def test_who_joined_and_who_left_since_a_directive_was_written() -> None:
    """Of what was sent and what waits in a later wave alike; who was taken in is said apart."""
    east = Selector(regions=("east",), roles=("manager",))
    with open_ledger(None, create=True) as ledger, ledger.write() as connection:
        save(connection, *(shop(f"S{n}") for n in range(1, 6)))
        no = write_directive(
            connection, east, sent=("S1", "S2"), joined=("S3",), planned=("S4",), continuous=True
        )
        unknown = write_directive(connection, None, sent=("S1", "S2"))
        save(
            connection,
            shop("S1", "west"),
            shop("S3"),
            shop("S4", roles=("clerk",)),
            *(shop(f"S{n}") for n in (5, 6)),
        )
        there = organisation(connection)
        found = audiences.drift_of(connection, no)
        assert found.frozen == 3
        assert found.asked == east
        assert found.joined == managers("S3", "S5", "S6")
        assert found.taken_in == managers("S3")
        assert found.left == managers("S2", "S4")
        numbers = mailbox_numbers(connection)
        to_come = sorted(numbers[mailbox] for mailbox in managers("S5", "S6"))
        assert audiences.joiners(connection, no, there) == to_come
        # What HQ does not know the question of has nobody to take in.
        assert audiences.joiners(connection, unknown, there) == []
        old = audiences.drift_of(connection, unknown, there)
        assert old.asked is None
        assert not old.joined
        assert old.left == managers("S2")


def test_what_a_directive_was_asked_for_stays_when_a_saved_audience_changes() -> None:
    """The plan has the meaning that was approved; saving or dropping the name changes nothing."""
    with open_ledger(None, create=True) as ledger, ledger.write() as connection:
        save(connection, shop("S1", format="big"), shop("S2", format="small"))
        keep(connection, "big", Selector(where="format=big", roles=("manager",)))
        keep(connection, "pilots", Selector(audiences=("big",)))
        whole = audiences.whole(connection, Selector(audiences=("pilots",)))
        assert [name for name, _ in whole.definitions] == ["big", "pilots"]
        no = write_directive(connection, whole, sent=("S1",), continuous=True)
        assert keep(connection, "big", Selector(everyone=True, roles=("manager",)))
        audiences.drop(connection, "pilots")
        save(connection, shop("S1", format="big"), shop("S2"), shop("S3", format="Big"))
        assert audiences.drift_of(connection, no).joined == managers("S3")
        # Without the column nobody can say who joins; that is an error and not everybody.
        save(connection, shop("S1"), shop("S2"), shop("S3"))
        with pytest.raises(AudienceError, match="no column 'format'"):
            audiences.joiners(connection, no, organisation(connection))


def test_audiences_that_lead_in_a_circle_or_too_deep_are_not_saved() -> None:
    """Whichever of them closes the circle, also when it was there before with another meaning."""
    with open_ledger(None, create=True) as ledger, ledger.write() as connection:
        save(connection, shop("S1"))
        keep(connection, "n0", Selector(everyone=True))
        for depth in range(1, 20):
            keep(connection, f"n{depth}", Selector(audiences=(f"n{depth - 1}",)))
        with pytest.raises(AudienceError, match="20 are the most"):
            keep(connection, "n20", Selector(audiences=("n19",)))
    with open_ledger(None, create=True) as ledger, ledger.write() as connection:
        save(connection, shop("S1"))
        with pytest.raises(AudienceError, match="no saved audience 'a'"):
            keep(connection, "a", Selector(audiences=("a",)))
        keep(connection, "a", Selector(everyone=True))
        keep(connection, "b", Selector(audiences=("a",)))
        with pytest.raises(AudienceError, match="a > b > a"):
            keep(connection, "a", Selector(audiences=("b",)))
        with pytest.raises(AudienceError, match="part of b") as caught:
            audiences.drop(connection, "a")
        assert "hq audience save b" in (caught.value.hint or "")


def test_the_roster_says_all_it_knows_of_a_store() -> None:
    """Every column, lists with what people call their entries, and none hidden behind ours."""
    with open_ledger(None, create=True) as ledger, ledger.write() as connection:
        row = StoreRow(
            *("S1", "One", "east", "East", "上海", "China", "Asia/Shanghai"),
            *(("clerk",), ("Clerk!",), ("24h",), {"name": "other", "面积": "8,200"}),
        )
        save(connection, row, shop("S2"))
        (found,) = (one for one in cells(connection).values() if one["id"] == "S1")
        assert found == {
            "id": "S1",
            "name": "One",
            "region": "east",
            "region_name": "East",
            "city": "上海",
            "country": "China",
            "timezone": "Asia/Shanghai",
            "roles": ("clerk", "Clerk!"),
            "tags": ("24h",),
            "面积": "8,200",
            "extra.name": "other",
        }
        assert rows(connection)["S1"].extra["name"] == "other"
        where = "面积 > 8000 and extra.name = other and roles has 'clerk!'"
        assert choose(Selector(where=where), organisation(connection)).mailboxes == {
            Mailbox("S1", "any")
        }


def test_an_audience_is_saved_shown_and_dropped(run: Run, home: Path) -> None:
    """It is the question that is kept: another roster, another answer."""
    words = ("--tag", "24h", "--where", "timezone ~ tokyo or region=west", "--role", "manager")
    code, _, told = run("audience", "save", "night", *words)
    assert code == 0, told
    assert "2 mailboxes in 2 stores" in told
    (saved,) = json.loads(run("audience", "list", "--json")[1])
    assert saved["options"] == "--tag 24h --where 'timezone ~ tokyo or region=west' --role manager"
    shown = json.loads(run("audience", "show", "night", "--mailboxes", "--json")[1])
    assert [row["store"] for row in shown["members"]] == ["S1", "S3"]
    assert "S3" in run("audience", "show", "night", "--mailboxes")[1]
    assert run("audience", "save", "more", "--audience", "night", "--store", "S5")[0] == 0
    assert json.loads(run("audience", "show", "night", "--json")[1])["part_of"] == ["more"]
    # Everybody in it closes: shown as nobody, and not an error until somebody sends to it.
    (home.parent / "list.csv").write_text("store_id,region\nS9,East\n", encoding="utf-8")
    assert run("roster", "import", str(home.parent / "list.csv"), "--closing")[0] == 0
    code, out, told = run("audience", "show", "more")
    assert (code, "0 mailboxes" in out) == (0, True)
    assert "there is no store 'S5' any longer" in told
    assert run("audience", "drop", "more")[0] == 0
    assert [row["action"] for row in json.loads(run("audit", "--json")[1])].count(
        "audience save"
    ) == 2


def test_mistakes_with_audiences_are_told_and_change_nothing(run: Run, home: Path) -> None:
    """A caret below the place, a near name, a hint; exit code 2 and nothing saved."""
    for words, told in {
        ("--where", "format = "): "expected a value behind =",
        ("--where", "tgas has 24h"): "did you mean tags?",
        ("--where", ""): "is empty",
        ("--where", "(" * 6_000): "nested more than",
        ("--exclude-region", "east"): "nobody was named",
        ("--all", "--exclude-store", "S11"): "did you mean S1",
        ("--audience", "nigth"): "no saved audience 'nigth'",
        ("--tag", "24h", "--where", "id=S2"): "no store is meant",
    }.items():
        code, out, errors = run("audience", "save", "night", *words)
        assert (code, out) == (2, ""), errors
        assert told in errors
        assert "hint:" in errors
    assert run("audience", "save", "late night", "--all")[0] == 2
    assert run("audience", "show", "night")[0] == 2
    assert run("audience", "drop", "night")[0] == 2
    assert json.loads(run("audience", "list", "--json")[1]) == []


def test_the_columns_of_the_roster_are_listed(run: Run, home: Path) -> None:
    """What a person needs to write an expression, and nothing but data on standard output."""
    code, out, told = run("roster", "columns")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["id", "name", "region"]
    assert "has" in told
    found = {row["column"]: row for row in json.loads(run("roster", "columns", "--json")[1])}
    assert found["tags"]["examples"] == [{"value": "24h", "stores": 2}]
    assert found["tags"]["empty"] == 3


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (audiences.FROZEN.format(table="delivery"), (1,)),
        (audiences.FROZEN.format(table="planned"), (1,)),
        (audiences.MAILBOX_NO, ("S1", "any")),
    ],
)
def test_an_audience_is_found_by_keys(query: str, values: tuple[object, ...]) -> None:
    """However many directives the ledger has, only this one's mailboxes are looked at."""
    with open_ledger(None, create=True) as ledger:
        plan = [row[3] for row in ledger.connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    assert not [step for step in plan if step.startswith("SCAN")], plan
