"""`hq archive`: finished directives leave for a file, and everybody is still told right."""

import json
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from msgspec import Raw

from buskit.database import DatabaseError, DatabaseFull
from buskit.row_sums import row_sum
from buswire.messages import Alert, Receipt, Record, Reply, Withdrawn, Work, encode_data
from buswire.states import State
from hqconsole import evidence_check
from hqconsole.answering import Answering
from hqconsole.commands import archive as command
from hqconsole.commands.main import main
from hqconsole.keyring import Keyring
from hqconsole.ledger import (
    archive_files,
    archive_removal,
    archived,
    archiving,
    deliveries,
    directives,
    reach,
    steps,
    verification,
    views,
)
from hqconsole.ledger.opening import FILE_NAME, open_ledger
from hqconsole.ledger.organisation import organisation
from hqconsole.lifecycle import Action
from tests.hq_console.conftest import STORES, Run
from tests.hq_console.field import KINDS, Field, new_id

DAYS = 86_400.0
TABLES = ("delivery", "arrival", "directive_step", "plan", "wave", "planned", "escalation")
KINDS[Withdrawn] = "withdrawn"


def later(days: float) -> Any:
    """Let the command believe that it is so many days later, and waste no time in pauses."""
    clock = SimpleNamespace(
        time=lambda: time.time() + days * DAYS, sleep=lambda _: None, monotonic=time.monotonic
    )
    return mock.patch.object(command, "time", clock)


def hq(*words: str) -> None:
    """Run a command that must not fail."""
    assert main.run(list(words), "hq") == 0, words


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Field:
    """Three finished directives, one that is open, and answers to all of them in one log."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("past")
        patch.setenv("STOREBUS_HQ_HOME", str(folder / "hq"))
        (folder / "stores.csv").write_text(STORES, encoding="utf-8")
        hq("init")
        hq("roster", "import", str(folder / "stores.csv"))
        both = ("--store", "S1", "--store", "S2", "--needs", "done")
        hq("publish", "Pull lot 2231", *both)
        hq("publish", "Paint the doors", *both)
        hq("publish", "Count stock", "--all", "--needs", "done")
        field = Field(folder / "hq")
        pull, paint, count = ids(field)
        for store in ("S1", "S2"):
            field.device(store)
        field.receipt(pull, "S1", State.DELIVERED)
        field.say(
            "S1",
            Receipt(directive=pull, role="any", state=State.DONE, by="Mio"),
            Reply(directive=pull, role="any", text="the shelves are empty now"),
        )
        # One message about two directives, of which one stays.
        field.say(
            "S2",
            Receipt(directive=pull, role="any", state=State.CANNOT, reason="no freezer"),
            Receipt(directive=count, role="any", state=State.READ),
            Alert(alert="incident", fields={"what": "leak"}),
        )
        field.receipt(paint, "S1", State.READ)
        hq("cancel", paint, "--reason", "wrong colour")
        field.hub()
        field.say("S1", Withdrawn(directive=paint, role="any", was=State.READ))
        field.say("S2", Withdrawn(directive=paint, role="any", was=State.PENDING))
        field.receipt(count, "S1", State.DONE)
        field.receipt(count, "S1", State.DONE)
        hq("publish", "Later", "--store", "S3")
        field.receipt(ids(field)[3], "S3", State.DELIVERED)
        field.hub()
    return field


def ids(field: Field) -> list[str]:
    """The ids of all directives, the oldest first."""
    with open_ledger(field.home) as ledger:
        return [one for (one,) in ledger.connection.execute("SELECT id FROM directive ORDER BY no")]


@pytest.fixture
def field(run: Run, past: Field, tmp_path: Path) -> Field:
    """That past in a home of the test's own."""
    shutil.copytree(past.home, tmp_path / "hq")
    return past.copy(tmp_path / "hq")


def archive(run: Run, *more: str, days: float = 500) -> dict[str, Any]:
    """What `hq archive --json` says, so many days later."""
    with later(days):
        code, out, errors = run("archive", "--older-than", "400d", *more, "--json")
    assert code == 0, errors
    found: dict[str, Any] = json.loads(out)
    return found


def verified(run: Run, *more: str) -> dict[str, Any]:
    """What `hq verify --json` says of what is whole."""
    code, out, errors = run("verify", *more, "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 0, (found, errors)
    return found


def rows(field: Field, directive: str) -> dict[str, int]:
    """How many rows the ledger has of a directive, by table."""
    with open_ledger(field.home) as ledger:
        no = directives.find(ledger.connection, directive)
        return {table: count(ledger.connection, table, no) for table in TABLES}


def count(connection: sqlite3.Connection, table: str, no: int) -> int:
    """How many rows of a table are a directive's."""
    found = connection.execute(f"SELECT count(*) FROM {table} WHERE directive_no = ?", (no,))
    return int(found.fetchone()[0])


def everything(field: Field) -> dict[str, list[Any]]:
    """All rows that can leave, and the marks that they leave."""
    tables = (*TABLES, "message", "archived", "archived_run", "archive")
    with open_ledger(field.home) as ledger:
        return {
            table: ledger.connection.execute(f"SELECT * FROM {table}").fetchall()
            for table in tables
        }


def test_what_is_finished_leaves_and_all_still_fits(run: Run, field: Field) -> None:
    """Counts, audience and signatures hold in both places; what is open is untouched."""
    pull, paint, open_one, later_one = ids(field)
    before = {one: json.loads(run("status", one, "--json")[1]) for one in (pull, paint, open_one)}
    untouched = rows(field, open_one), rows(field, later_one)
    kept = sum(row["kept_bytes"] for row in json.loads(run("device", "list", "--json")[1]))
    found = archive(run)
    assert [one["id"] for one in found["directives"]] == [pull, paint]
    assert (rows(field, open_one), rows(field, later_one)) == untouched
    assert not any(rows(field, pull).values())
    assert not any(rows(field, paint).values())
    whole = verified(run)
    assert whole["archived"] == 2
    part = verified(run, "--archive", found["file"])
    assert (part["directives"], part["deliveries"], part["cancels"]) == (2, 4, 1)
    assert part["records"] == 7
    for one in (pull, paint):
        now = json.loads(run("status", one, "--json")[1])
        same = ("states", "met", "open", "complete", "digest", "state", "title", "body")
        assert {name: now[name] for name in same} == {name: before[one][name] for name in same}
        assert now["withdrawal"] == before[one]["withdrawal"]
        assert now["archived"]["file"] == found["file"]
        again = json.loads(run("status", one, "--archive", found["file"], "--json")[1])
        assert {**again, "drift": None} == {**before[one], "drift": None}
    assert json.loads(run("status", open_one, "--json")[1]) == before[open_one]
    less = sum(row["kept_bytes"] for row in json.loads(run("device", "list", "--json")[1]))
    assert 0 < less < kept


def test_the_file_is_its_owners_summed_and_in_the_audit(run: Run, field: Field) -> None:
    """`sha256sum -c` agrees with what the command says, and the ledger with both."""
    found = archive(run)
    path = Path(found["file"])
    assert path.parent == field.home / "archive"
    assert path.stat().st_mode & 0o377 == 0
    beside = path.with_name(path.name + ".sha256").read_text(encoding="utf-8")
    assert beside == f"{found['sha256']}  {path.name}\n"
    assert archive_files.sum_of(path) == found["sha256"]
    (row,) = json.loads(run("audit", "--action", "archive", "--json")[1])
    assert row["detail"]["sha256"] == found["sha256"]
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, f"{path.name}.sha256"]
    with archive_files.reading(path) as connection:
        assert connection.execute("SELECT max(token_hash) FROM device").fetchone() == ("",)
    assert run("restore", str(path), "--yes")[0] == 1


def test_evidence_is_as_good_from_the_archive(run: Run, field: Field) -> None:
    """The same answers, which anybody can check; without `--archive` the file is named."""
    pull = ids(field)[0]
    before = json.loads(run("evidence", pull, "-o", "-")[1])
    file = archive(run)["file"]
    code, _, errors = run("evidence", pull, "-o", "-")
    assert code == 1
    assert f"hq evidence {pull} --archive {file}" in errors
    after = json.loads(run("evidence", pull, "--archive", file, "-o", "-")[1])
    same = ("directive", "mailboxes", "devices", "messages", "answers")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert any("4 answers" in line for line in evidence_check.check(after, None))


@pytest.mark.parametrize(
    "words",
    [
        ("who", "--state", "cannot", "--json"),
        ("cannot", "--json"),
        ("export deliveries", "--format", "jsonl"),
        ("status", "--by", "region", "--json"),
    ],
    ids=lambda words: words[0],
)
def test_what_is_asked_of_the_file_is_as_it_was(run: Run, field: Field, words: Any) -> None:
    """And without the file the verb says where it is."""
    pull = ids(field)[0]
    verb, more = words[0].split(), words[1:]
    before = run(*verb, pull, *more)
    file = archive(run)["file"]
    code, _, errors = run(*verb, pull, *more)
    assert code == 1
    assert f"--archive {file}" in errors
    after = run(*verb, pull, *more, "--archive", file)
    assert after[0] == before[0] == 0

    def steady(text: str) -> str:
        return text.replace('"online":true', '"online":false').replace("true", "false")

    assert steady(after[1]) == steady(before[1])
    assert before[1].strip() not in {"", "[]"}


def test_why_answers_from_what_stays_and_names_the_file(run: Run, field: Field) -> None:
    """How it ended in that store; the whole chain is in the file."""
    pull, paint = ids(field)[:2]
    chain = json.loads(run("why", "S2", pull, "--json")[1])[0]["links"]
    file = archive(run)["file"]
    (one,) = json.loads(run("why", "S2", pull, "--json")[1])
    assert (one["state"], one["missing"], one["links"]) == ("cannot", None, [])
    assert file in one["verdict"]
    assert "ended as cannot" in run("why", "S2", pull)[1]
    assert json.loads(run("why", "S3", paint, "--json")[1])[0]["state"] is None
    (again,) = json.loads(run("why", "S2", pull, "--archive", file, "--json")[1])
    # Whether a device is there was another matter then.
    assert [one for one in again["links"] if one["link"] != "device"] == [
        one for one in chain if one["link"] != "device"
    ]


def test_search_still_finds_what_left(run: Run, field: Field) -> None:
    """Directives with their text; answers and decisions by their words, with the file's name."""
    pull = ids(field)[0]
    name = Path(archive(run)["file"]).name
    (hit,) = json.loads(run("search", "shelves", "--json")[1])
    assert (hit["kind"], hit["directive"], hit["store"]) == ("reply", pull, "S1")
    assert hit["excerpt"] == f"archived in {name}"
    assert json.loads(run("search", "freezer", "--store", "S2", "--json")[1])[0]["kind"] == "cannot"
    assert json.loads(run("search", "freezer", "--store", "S1", "--json")[1]) == []
    found = json.loads(run("search", "lot 2231", "--store", "S2", "--json")[1])
    assert [one["kind"] for one in found] == ["directive"]
    assert json.loads(run("search", "lot 2231", "--store", "S3", "--json")[1]) == []
    (decision,) = json.loads(run("search", "colour", "--json")[1])
    assert decision["kind"] == "decision"
    run("search", "--rebuild")
    assert json.loads(run("search", "lot", "--json")[1])[0]["directive"] == pull


def test_nothing_young_leaves(run: Run, field: Field) -> None:
    """Below 90 days it is refused with the reason; by the latest thing that happened to each."""
    code, _, errors = run("archive", "--older-than", "89d")
    assert code == 2
    assert "30 days" in errors
    found = archive(run, days=399)
    assert (found["directives"], found["young"], found["file"]) == ([], 2, None)
    assert not (field.home / "archive").exists()


def test_a_dry_run_changes_nothing(run: Run, field: Field) -> None:
    """It names what would leave."""
    before = everything(field)
    found = archive(run, "--dry-run")
    assert [one["title"] for one in found["directives"]] == ["Pull lot 2231", "Paint the doors"]
    assert everything(field) == before
    assert not (field.home / "archive").exists()


def test_the_latest_answer_stays(run: Run, field: Field) -> None:
    """Else its number would be given away again, and `hq tail` would miss who gets it."""
    later_one = ids(field)[3]
    run("cancel", later_one)
    field.hub()
    field.receipt(ids(field)[2], "S1", State.DONE)
    field.say("S3", Reply(directive=later_one, role="any", text="why?"))
    found = archive(run)
    assert (len(found["directives"]), found["latest"]) == (2, 1)
    assert rows(field, later_one)["arrival"] == 2


def test_a_device_from_an_old_copy_is_told_how_its_work_ended(run: Run, field: Field) -> None:
    """Each mailbox in its own way; who had none there is told that it is not counted."""
    pull, paint = ids(field)[:2]
    archive(run)
    with open_ledger(field.home) as ledger, ledger.write() as connection:

        def told(store: str, directive: str) -> tuple[str, State]:
            device = mock.Mock()
            device.identity.store = store
            device.mailbox_roles = ("any",)
            (device.place.store_no,) = connection.execute(
                "SELECT no FROM store WHERE id = ?", (store,)
            ).fetchone()
            answering = Answering.__new__(Answering)
            answering._connection, answering._device, answering._at = connection, device, 1.0
            answering._new_id = new_id
            answer = answering._answer(Work(directive, "any"))
            return answer.verdict, answer.state

        assert told("S1", pull) == ("gone", State.DONE)
        assert told("S2", pull) == ("gone", State.CANNOT)
        assert told("S2", paint) == ("gone", State.CANCELLED)
        assert told("S3", pull) == ("gone", State.REMOVED)
        no = directives.find(connection, pull)
        named = reach.cover_of_audience(connection, no, organisation(connection))
        assert list(map(str, named)) == ["region/east/any"]


def test_an_answer_that_comes_again_moves_nothing(run: Run, field: Field) -> None:
    """A device from a copy that is older than all that it kept sends it as new."""
    pull = ids(field)[0]
    states = json.loads(run("status", pull, "--json")[1])["states"]
    archive(run)
    field.receipt(pull, "S2", State.DONE)
    field.say("S1", Withdrawn(directive=pull, role="any", was=State.DONE))
    assert json.loads(run("status", pull, "--json")[1])["states"] == states
    with open_ledger(field.home) as ledger:
        said = ledger.connection.execute(
            "SELECT outcome FROM arrival ORDER BY no DESC LIMIT 2"
        ).fetchall()
    assert said == [(archived.OUTCOME,), (archived.OUTCOME,)]
    verified(run)


def test_it_can_still_be_withdrawn_and_undone(run: Run, field: Field) -> None:
    """The same stores hear of it, and who had done it is asked to undo it."""
    pull = ids(field)[0]
    archive(run)
    run("cancel", pull, "--reason", "it was the wrong lot")
    field.hub()
    verified(run)
    undo = json.loads(run("publish", "Undo it", "--undo", pull, "--json")[1])
    assert undo["mailboxes"] == 1
    assert json.loads(run("status", pull, "--json")[1])["state"] == "cancelled"


def test_a_second_run_takes_the_rest_and_logs_stay_dense(run: Run, field: Field) -> None:
    """A message whose records leave in two runs goes with the last; nothing is taken twice."""
    count_one, later_one = ids(field)[2:]
    first = archive(run)
    runs = len(everything(field)["archived_run"])
    run("cancel", count_one)
    run("publish", "Latest", "--store", "S3")
    field.hub()
    field.say("S1", Receipt(directive=later_one, role="any", state=State.READ))
    second = archive(run, days=1000)
    assert [one["id"] for one in second["directives"]] == [count_one]
    assert second["file"] != first["file"]
    assert len(everything(field)["archived_run"]) <= runs + 2
    verified(run)
    for found in (first, second):
        verified(run, "--archive", found["file"])
    assert archive(run, days=1000)["directives"] == []
    # The message of S2 had an alert in it, which stays: so does the message.
    with open_ledger(field.home) as ledger:
        left = ledger.connection.execute("SELECT archived, records FROM message WHERE archived > 0")
        assert left.fetchall() == [(2, 3)]


def test_a_denied_draft_leaves_with_its_audience(run: Run, field: Field) -> None:
    """It can be taken back no longer, and says why; who it was for is in the file."""
    draft = json.loads(run("publish", "Never", "--all", "--draft", "--json")[1])["id"]
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        no = directives.find(connection, draft)
        steps.move(connection, no, Action.SUBMIT, at=time.time())
        steps.move(connection, no, Action.DENY, at=time.time(), by="Bo", note="no")
    run("publish", "Latest", "--store", "S3")
    field.say("S3", Alert(alert="incident", fields={"what": "smoke"}))
    found = archive(run)
    assert draft in [one["id"] for one in found["directives"]]
    code, _, errors = run("revise", draft, "--title", "Now")
    assert code == 1
    assert "archived" in errors
    assert not any(rows(field, draft).values())
    planned = run("who", draft, "--archive", found["file"], "--json")[1]
    assert len(json.loads(planned)) == 5
    verified(run)


def test_an_archive_of_another_ledger_is_left_alone(run: Run, field: Field, tmp_path: Path) -> None:
    """Somebody put it into the folder: it is named, nothing of it is believed, nothing changed."""
    file = Path(archive(run)["file"])
    damage(file, "UPDATE meta SET value = 'another' WHERE key IN ('hub_id', 'archive_id')")
    there = file.rename(tmp_path / file.name)
    before = everything(field)
    with later(500):
        code, _, errors = run("archive", "--older-than", "400d", "--to", str(tmp_path))
    assert code == 0
    assert "another ledger" in errors
    assert there.exists()
    assert everything(field) == before


class Killed(BaseException):
    """A process that ends here."""


def test_killed_anywhere_nothing_is_in_neither_place(
    run: Run, past: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each file and each transaction in turn; the next run goes on, and the end is the same."""
    monkeypatch.setattr(archive_removal, "PIECE_ROWS", 3)
    place = passed = 0
    ends = ends_of(past)

    def passing(*_: Any) -> None:
        nonlocal passed
        passed += 1
        if passed > place:
            raise Killed

    def point(side: str, what: str) -> None:
        if what.startswith("file") or (side, what) == ("after", "commit"):
            passing()

    while place == 0 or passed >= place:
        field = past.copy(tmp_path / str(place))
        shutil.copytree(past.home, field.home)
        monkeypatch.setenv("STOREBUS_HQ_HOME", str(field.home))
        passed = 0
        with (
            mock.patch("buskit.database.crash_point", point),
            mock.patch("buskit.files.crash_point", point),
            mock.patch("hqconsole.ledger.archive_files.sync_file", passing),
            later(500),
            suppress(Killed),
        ):
            run("archive", "--older-than", "400d")
        assert whole(field) == (), place
        assert ends_of(field) == ends, place
        archive(run)
        everyone = everything(field)
        assert len(everyone["archived"]) == 2, place
        assert [row[-1] is not None for row in everyone["archive"]] == [True], place
        assert not any(rows(field, ids(field)[0]).values()), place
        assert whole(field) == (), place
        assert ends_of(field) == ends, place
        (path,) = archive_files.found_in(field.home / "archive")
        assert {one.name for one in path.parent.iterdir()} == {path.name, f"{path.name}.sha256"}
        place += 1
    assert place > 10


def whole(field: Field) -> tuple[Any, ...]:
    """What `hq verify` finds amiss."""
    keyring = Keyring.load(field.home)
    with open_ledger(field.home) as ledger, ledger.read() as connection:
        report = verification.verify(connection, entries=keyring.entries, recovery=keyring.recovery)
    return () if report.problem is None else (report.problem,)


def ends_of(field: Field) -> list[Any]:
    """How all deliveries stand, wherever they are."""
    with open_ledger(field.home) as ledger, ledger.read() as connection:
        return [row["states"] for row in views.latest_directives(connection, 10)]


def test_a_full_disk_loses_nothing(run: Run, field: Field) -> None:
    """It says so, leaves no piece of a file behind, and the ledger is as it was."""
    before = everything(field)
    full = DatabaseFull("no room left for the archive", hint="free space on that disk")
    with (
        mock.patch.object(archive_files, "sync_file", mock.Mock(side_effect=OSError(28, "full"))),
        later(500),
    ):
        code, _, errors = run("archive", "--older-than", "400d")
    assert code == 1
    assert str(full) in errors
    assert everything(field) == before
    assert list((field.home / "archive").iterdir()) == []


def test_an_older_ledger_put_back_takes_up_the_newer_archive(
    run: Run, field: Field, tmp_path: Path
) -> None:
    """What the file and the ledger both have is harmless: the next run recognizes it."""
    run("backup", str(tmp_path / "backup.db"))
    first = archive(run)
    assert run("restore", str(tmp_path / "backup.db"), "--yes")[0] == 0
    field.hub()  # proves the keys anew
    assert rows(field, ids(field)[0])["arrival"] == 4
    verified(run)
    again = archive(run)
    assert again["finished"] == [first["file"]]
    assert again["directives"] == []
    assert rows(field, ids(field)[0])["arrival"] == 0
    verified(run)
    verified(run, "--archive", first["file"])


def test_what_changed_since_the_file_was_written_stays(run: Run, field: Field) -> None:
    """An answer came in between: that directive is left whole, and the next file has it."""
    pull, paint = ids(field)[:2]

    def examined(path: Path, expected_sum: str | None = None) -> archiving.File:
        field.say("S1", Reply(directive=pull, role="any", text="one more word"))
        field.say("S3", Alert(alert="incident", fields={"what": "smoke"}))
        return examine(path, expected_sum)

    examine = archiving.examine
    with mock.patch.object(archiving, "examine", examined):
        found = archive(run)
    assert [one["id"] for one in found["directives"]] == [paint]
    assert rows(field, pull)["arrival"] == 5
    verified(run)
    verified(run, "--archive", found["file"])
    assert [one["id"] for one in archive(run, days=501)["directives"]] == [pull]
    verified(run)


def damage(path: Path, statement: str) -> None:
    """Change an archive as somebody with the file could, with sums that fit."""
    path.chmod(0o600)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.create_function("row_sum", -1, row_sum)
        assert connection.execute(statement).rowcount > 0


def test_an_altered_archive_is_told(run: Run, field: Field) -> None:
    """By its sum against the ledger; and by the signatures in it where the ledger knows no sum."""
    file = Path(archive(run)["file"])
    whole = file.read_bytes()
    damage(file, "UPDATE arrival SET said_at = said_at + 1 WHERE kind = 'receipt'")
    code, _, errors = run("verify", "--archive", str(file))
    assert code == 1
    assert "SHA-256" in errors
    with mock.patch.object(archiving, "recorded_sum", return_value=None):
        found = json.loads(run("verify", "--archive", str(file), "--json")[1])
    assert found["problem"]["kind"] == "arrival"
    file.write_bytes(whole[:-4096])
    assert run("verify", "--archive", str(file))[0] == 1
    assert run("verify", "--archive", str(field.home / FILE_NAME))[0] == 1
    assert run("verify", "--archive", str(field.home / "none.db"))[0] == 1


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM archived WHERE directive_no = 1", "record"),
        ("UPDATE archived SET counts = replace(counts, '\"done\": 1', '\"done\": 2')", "archive"),
        (
            "UPDATE archived SET ends = (SELECT ends FROM archived WHERE directive_no = 2)",
            "archive",
        ),
        ("UPDATE archive SET sha256 = 'x'", "archive"),
        ("DELETE FROM archived_run", "gap"),
        ("UPDATE archived_run SET through_seq = through_seq + 1", "fork"),
    ],
)
def test_the_ledger_notices_what_is_altered_about_archives(
    run: Run, field: Field, statement: str, kind: str
) -> None:
    """What stands for a directive is held against its sealed document and the audit."""
    archive(run)
    with closing(sqlite3.connect(field.home / FILE_NAME)) as connection, connection:
        assert connection.execute(statement).rowcount > 0
    code, out, _ = run("verify", "--json")
    assert code == 1
    assert json.loads(out)["problem"]["kind"] == kind


def test_ends_are_packed_without_loss() -> None:
    """Whatever the numbers and states; and garbage is damage, not an error of this program."""
    found = [(3, 5, None, None, 0), (4, 4, 2, 1.0, 0), (70_000, 0, None, None, 1)]
    ends = archived.unpack(archived.pack(found))
    assert [(e.mailbox_no, e.state, e.was, e.joined, e.sent) for e in ends] == [
        (3, State.DONE, None, False, True),
        (4, State.CANNOT, State.READ, True, True),
        (70_000, State.PENDING, None, False, False),
    ]
    assert archived.unpack(archived.pack([])) == []
    many = [(no, 5, None, None, 0) for no in range(1, 100_000)]
    assert len(archived.pack(many)) < 2000
    for garbage in (b"", b"x", archived.pack(found)[:-1]):
        with pytest.raises(DatabaseError):
            archived.unpack(garbage)
    assert deliveries.STATE_OF[5] is State.DONE


def test_a_record_that_was_sent_twice_is_no_obstacle(run: Run, field: Field) -> None:
    """A message with a record that an earlier one had brought already stays, and all fits."""
    count_one = ids(field)[2]
    device = next(one for one in field.devices.values() if one.identity.store == "S1")
    done = encode_data(Receipt(directive=count_one, role="any", state=State.DONE))
    again = Record(id="b" * 32, kind="receipt", at=1.0, data=Raw(done))
    field.send(device, "act", [again])
    field.send(device, "act", [again])
    archive(run)
    verified(run)
