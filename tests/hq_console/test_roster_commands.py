"""`hq roster`: a list of stores taken over whole or not at all, with its difference shown."""

import json
from pathlib import Path

import pytest

from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import STORES, Run
from tests.hq_console.field import Field


def write(tmp_path: Path, text: str) -> str:
    """A list in a file; its name."""
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_foreign_list_is_mapped_as_people_write_it(run: Run, home: Path, tmp_path: Path) -> None:
    """Several words may follow one --map, before or after the file."""
    file = write(tmp_path, "Store Number,Country,Zone,x\nS1,FR,Europe/Paris,1\n")
    words = ("--closing", "--map", "store_id=Store Number", "region=Country", "timezone=Zone")
    for order in ((file, *words), (*words, file)):
        code, _, errors = run("roster", "import", *order)
        assert code == 0, errors
    shown = json.loads(run("roster", "show", "--json")[1])
    assert [(row["store"], row["region"], row["timezone"]) for row in shown] == [
        ("S1", "fr", "Europe/Paris")
    ]


def test_a_dry_run_shows_before_and_after_and_changes_nothing(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """What would be added, changed and closed is there; the ledger is as it was."""
    before = run("roster", "show", "--json")
    text = STORES.replace("S1,One", "S1,Uno").replace("S5,Five", "S6,Six")
    code, out, errors = run("roster", "import", write(tmp_path, text), "--dry-run", "--json")
    assert code == 0
    change = json.loads(out)
    assert change["added"] == ["S6"]
    assert change["closed"] == ["S5"]
    assert change["changed"] == {"S1": {"name": {"before": "One", "after": "Uno"}}}
    assert change["same"] == 3
    assert "nothing was changed" in errors
    assert run("roster", "show", "--json") == before
    plain = run("roster", "import", write(tmp_path, text), "--dry-run")[1]
    assert [line.split()[:2] for line in plain.splitlines()[1:]] == [
        ["closed", "S5"],
        ["changed", "S1"],
        ["added", "S6"],
    ]


def test_bad_rows_are_listed_and_nothing_is_imported(run: Run, home: Path, tmp_path: Path) -> None:
    """Each with line, column and reason; the good rows beside them wait."""
    text = STORES + "S1,Again,East,Asia/Tokyo,,\nS7,Seven,,Asia/Tokyo,,\nS8,Eight,East,Mars,,\n"
    code, out, errors = run("roster", "import", write(tmp_path, text), "--json")
    assert code == 1
    problems = json.loads(out)["problems"]
    assert [(one["line"], one["column"]) for one in problems] == [
        (7, "store_id"),
        (8, "region"),
        (9, "timezone"),
    ]
    assert all(one["reason"] for one in problems)
    assert "nothing was imported" in errors
    assert len(json.loads(run("roster", "show", "--json")[1])) == 5


def test_a_truncated_list_does_not_close_a_chain(run: Run, home: Path, tmp_path: Path) -> None:
    """More than a fifth is refused and undone, unless the person says that it is so."""
    shorter = "".join(STORES.splitlines(keepends=True)[:4])
    code, out, errors = run("roster", "import", write(tmp_path, shorter))
    assert (code, out) == (1, "")
    assert "closes 2 of 5" in errors
    assert "--closing" in errors
    assert len(json.loads(run("roster", "show", "--json")[1])) == 5
    assert "--closing" in run("roster", "import", write(tmp_path, shorter), "--dry-run")[2]
    assert run("roster", "import", write(tmp_path, shorter), "--closing")[0] == 0
    assert len(json.loads(run("roster", "show", "--json")[1])) == 3
    closed = json.loads(run("roster", "show", "--closed", "--json")[1])
    assert sum(row["closed_at"] is not None for row in closed) == 2


def test_one_fifth_exactly_may_close(run: Run, home: Path, tmp_path: Path) -> None:
    """The bound is more than a fifth."""
    shorter = "".join(STORES.splitlines(keepends=True)[:5])
    assert run("roster", "import", write(tmp_path, shorter))[0] == 0


@pytest.mark.parametrize(
    "words", [[], ["a.csv", "b.csv"], ["{list}", "--map", "nonsense=x"], ["{list}", "--map", "x"]]
)
def test_wrong_words_are_wrong_use(run: Run, home: Path, tmp_path: Path, words: list[str]) -> None:
    """Exit code 2, a cause and a hint."""
    file = write(tmp_path, STORES)
    code, out, errors = run("roster", "import", *(word.format(list=file) for word in words))
    assert (code, out) == (2, "")
    assert "hint:" in errors


def test_a_file_that_is_missing_is_named(run: Run, home: Path) -> None:
    """One line, no stack trace."""
    code, _, errors = run("roster", "import", "no-such.csv")
    assert code == 1
    assert "no-such.csv" in errors


def test_25000_stores_are_imported_shown_and_issued_to(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """A big chain is one command each."""
    rows = "".join(
        f"B{number:05},Store {number},Region {number % 40},UTC,manager;clerk,\n"
        for number in range(25_000)
    )
    header = STORES.splitlines(keepends=True)[0]
    code, out, _ = run("roster", "import", write(tmp_path, header + rows), "--closing", "--json")
    assert code == 0
    assert len(json.loads(out)["added"]) == 25_000
    code, out, _ = run("publish", "Everyone", "--all", "--role", "manager", "--json")
    assert code == 0
    issued = json.loads(out)
    assert issued["mailboxes"] == issued["stores"] == 25_000
    assert issued["channels"] == ["all/manager"]
    code, out, _ = run("who", issued["id"], "--json")
    assert code == 0
    assert len(json.loads(out)) == 25_000
    assert len(json.loads(run("stores", "--json")[1])) == 25_000
    assert "0 of 25,000" in run("status")[1]


def test_assign_changes_what_a_device_serves_that_was_added(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """It may be still to join; a role that its store lacks, or a stranger, is refused."""
    for store, device in (("S4", "office"), ("S1", "till-1")):
        assert run("device", "add", store, device, "-o", str(tmp_path / "bundle"))[0] == 0
    assert run("roster", "assign", "S4", "office", "--role", "manager", "--role", "clerk")[0] == 0
    assert run("roster", "assign", "S1", "till-1", "--all-roles")[0] == 0
    found = {row["store"]: row for row in json.loads(run("roster", "devices", "--json")[1])}
    assert found["S4"]["roles"] == ["clerk", "manager"]
    assert found["S1"]["all_roles"]
    assert found["S4"]["last_heard_at"] is None
    strangers = (("S5", "x", "--all-roles"), ("S99", "x", "--all-roles"))
    for words in (*strangers, ("S1", "till-1", "--role", "warehouse")):
        code, _, errors = run("roster", "assign", *words)
        assert code == 1
        assert "hint:" in errors
    for words in (("S1", "x"), ("S1", "x", "--role", "clerk", "--all-roles")):
        assert run("roster", "assign", *words)[0] == 2
    assert run("roster", "assign", "S1", "a/b", "--all-roles")[0] == 1


def test_show_and_devices_refuse_places_that_are_not_there(run: Run, field: Field) -> None:
    """With a near name where there is one."""
    field.device("S1")
    assert "did you mean east" in run("roster", "show", "--region", "eats")[2]
    assert run("roster", "devices", "--store", "S99")[0] == 1
    found = json.loads(run("roster", "devices", "--store", "S1", "--json")[1])
    assert [(row["device"], row["online"]) for row in found] == [("till-1", True)]


def test_an_import_that_fails_half_way_leaves_nothing(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All or nothing, whatever breaks."""
    import hqconsole.commands.roster_import as command

    def breaks(connection: object, stores: object, **more: object) -> None:
        connection.execute("UPDATE store SET name = 'half'")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device", "ledger.db")

    monkeypatch.setattr(command, "save_roster", breaks)
    assert run("roster", "import", write(tmp_path, STORES))[0] == 1
    with open_ledger(home) as ledger:
        names = ledger.connection.execute("SELECT count(*) FROM store WHERE name = 'half'")
        assert names.fetchone()[0] == 0
