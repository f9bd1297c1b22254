"""`hq publish`, `cancel`, `status`, `who`: from the audience to who has not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buskit.locks import FileLock
from buswire.states import State
from hqconsole.home import HUB_LOCK_NAME
from hqconsole.ledger.opening import open_ledger
from tests.helpers.waiting import wait_until
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def publish(run: Run, *words: str) -> dict[str, object]:
    """Issue a directive; what the command says of it."""
    code, out, errors = run("publish", *words, "--json")
    assert code == 0, errors
    found: dict[str, object] = json.loads(out)
    return found


def status_of(run: Run, directive: object) -> dict[str, object]:
    """What `hq status ID --json` says."""
    found: dict[str, object] = json.loads(run("status", str(directive), "--json")[1])
    return found


def test_what_was_published_stands_in_status_with_its_denominator(run: Run, home: Path) -> None:
    """Title, audience, channels and counts, with the hub down."""
    issued = publish(
        run,
        "Golden Week",
        *("--region", "East", "--role", "Manager", "--kind", "task", "--due", "in 2 days"),
        *("--expires", "in 3 days", "--priority", "high", "--body", "Set it up."),
    )
    assert issued["channels"] == ["region/east/manager"]
    assert (issued["mailboxes"], issued["needs"]) == (2, "done")
    assert issued["hub_running"] is False
    found = status_of(run, issued["short_id"])
    assert found["title"] == "Golden Week"
    assert found["body"] == "Set it up."
    assert found["issued_by"] == "Ana"
    assert found["mailboxes"] == found["known"] == found["open"] == 2
    assert found["states"] == {state.value: 2 if state is State.PENDING else 0 for state in State}
    assert found["digest"] == issued["digest"]
    assert found["due"] == issued["due"]
    listed = json.loads(run("status", "--json")[1])
    assert [one["id"] for one in listed["directives"]] == [issued["id"]]


def test_publishing_says_whether_a_hub_takes_it_from_here(run: Run, home: Path) -> None:
    """With the hub down it waits in the ledger, and the person is told so."""
    assert "no hub is running" in run("publish", "Hello", "--all")[2]
    lock = FileLock(home / HUB_LOCK_NAME)
    with lock:
        assert "no hub is running" not in run("publish", "Hello", "--all")[2]
        assert publish(run, "Hello", "--all")["hub_running"] is True
    lock.close()


def test_a_dry_run_names_whom_no_device_serves_and_issues_nothing(run: Run, field: Field) -> None:
    """A device that serves other roles, or was only assigned, does not serve the mailbox."""
    field.device("S1", roles=("manager",))
    field.device("S2", roles=("clerk",))
    run("roster", "assign", "S3", "office", "--role", "manager")
    found = publish(run, "Plan", "--all", "--role", "manager", "--dry-run")
    assert found["mailboxes"] == 4
    assert found["unserved_mailboxes"] == ["S2/manager", "S3/manager", "S4/manager"]
    assert "id" not in found
    assert json.loads(run("status", "--json")[1])["directives"] == []
    code, out, errors = run("publish", "Plan", "--all", "--role", "manager", "--dry-run")
    assert code == 0
    assert "3 mailboxes that no device was ever heard to serve: S2/manager" in out
    assert "nothing was issued" in errors


def test_a_named_store_that_lacks_the_role_is_told(run: Run, home: Path) -> None:
    """It is left out, and not in silence."""
    code, _, errors = run(
        "publish", "x", "--store", "S5", "--store", "S1", "--role", "manager", "--dry-run"
    )
    assert code == 0
    assert "store S5 was named and is left out" in errors


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x"], "nobody was named"),
        (["x", "--region", "eats"], "did you mean east"),
        (["x", "--all", "--region", "east"], "contradict"),
        (["x", "--all", "--due", "someday"], "no time"),
        (["x", "--all", "--expires", "2020-01-01 10:00"], "past"),
        ([" ", "--all"], "the title is empty"),
        (["x" * 201, "--all"], "201 characters"),
        (["x", "--all", "--body", "a", "-f", "b"], "contradict"),
        (["x", "--all", "--priority", "very"], "very"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_issued(
    run: Run, home: Path, words: list[str], says: str
) -> None:
    """Wrong use, with the cause in words."""
    code, out, errors = run("publish", *words)
    assert (code, out) == (2, "")
    assert says in errors
    assert json.loads(run("status", "--json")[1])["directives"] == []


def test_a_body_comes_from_a_file_and_must_be_text_that_fits(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """UTF-8 of any script; other bytes and long texts are refused before anything is issued."""
    file = tmp_path / "body.md"
    file.write_bytes("\ufeffEine Größe\r\n两行\r\n".encode())
    issued = publish(run, "x", "--all", "-f", str(file))
    assert status_of(run, issued["id"])["body"] == "Eine Größe\n两行\n"
    for data, says in ((b"\xff\xfe\x00", "not UTF-8"), (b"a" * 70_000, "longer than")):
        file.write_bytes(data)
        code, _, errors = run("publish", "x", "--all", "-f", str(file))
        assert code == 1
        assert says in errors
    assert run("publish", "x", "--all", "-f", str(tmp_path / "none"))[0] == 1
    assert len(json.loads(run("status", "--json")[1])["directives"]) == 1


def test_counts_follow_what_stores_say(run: Run, field: Field) -> None:
    """As asked, on the way, cannot: each delivery is counted once."""
    issued = str(publish(run, "Do it", "--all", "--kind", "task")["id"])
    field.receipt(issued, "S1", State.DONE)
    field.receipt(issued, "S2", State.READ)
    field.receipt(issued, "S3", State.CANNOT, reason="no ladder", by="Rui")
    found = status_of(run, issued)
    states = found["states"]
    assert isinstance(states, dict)
    assert (states["done"], states["read"], states["cannot"], states["pending"]) == (1, 1, 1, 2)
    assert (found["met"], found["open"], found["complete"]) == (1, 3, False)
    line = run("status")[1].splitlines()[1]
    assert "1 of 5 done" in line
    assert {"#", "+", "!", "."} <= set(line)


def test_reading_is_enough_where_reading_is_asked(run: Run, field: Field) -> None:
    """What goes beyond what was asked counts as asked."""
    issued = str(publish(run, "Read it", "--store", "S1", "--store", "S2")["id"])
    field.receipt(issued, "S1", State.READ)
    field.receipt(issued, "S2", State.DONE)
    found = status_of(run, issued)
    assert (found["met"], found["open"], found["complete"]) == (2, 0, True)


def test_who_names_those_who_have_not_and_why(run: Run, field: Field) -> None:
    """By default everyone still open; a state asks for just those, with the words they said."""
    issued = str(publish(run, "Do it", "--all", "--role", "manager", "--kind", "task")["id"])
    field.device("S1", roles=("manager",))
    field.device("S2", roles=("clerk",))
    field.receipt(issued, "S1", State.READ, role="manager")
    field.receipt(issued, "S3", State.CANNOT, role="manager", reason="no ladder", by="Rui")
    who = json.loads(run("who", issued[:8], "--json")[1])
    assert [(one["store"], one["state"], one["online"], one["devices"]) for one in who] == [
        ("S1", "read", True, 1),
        ("S2", "pending", False, 0),
        ("S4", "pending", False, 0),
    ]
    assert who[0]["since"] is not None
    assert who[1]["last_heard_at"] is None
    words = ("--state", "cannot", "--state", "read")
    said = json.loads(run("who", issued, *words, "--json")[1])
    assert [(one["store"], one["reason"], one["by"]) for one in said] == [
        ("S1", "", ""),
        ("S3", "no ladder", "Rui"),
    ]
    code, out, errors = run("who", issued, "--state", "cannot")
    assert code == 0
    assert "Rui: no ladder" in out
    assert "1 cannot" in errors
    assert run("who", issued, "--state", "lost")[0] == 2


def test_who_knows_the_same_of_many_stores_as_of_few(
    run: Run, field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking all devices up at once is only quicker."""
    issued = str(publish(run, "Do it", "--all", "--role", "manager", "--role", "clerk")["id"])
    field.device("S1", "office", roles=("manager",))
    field.device("S1", "till-1", roles=("clerk",))
    field.device("S4", "till-1")
    few = json.loads(run("who", issued, "--json")[1])
    monkeypatch.setattr("hqconsole.ledger.presence._FEW_STORES", 0)
    assert json.loads(run("who", issued, "--json")[1]) == few
    there = {(one["store"], one["role"]): one["devices"] for one in few if one["online"]}
    assert there == {
        ("S1", "manager"): 1,
        ("S1", "clerk"): 1,
        ("S4", "manager"): 1,
        ("S4", "clerk"): 1,
    }


def test_an_id_is_found_by_its_beginning_or_refused(run: Run, home: Path) -> None:
    """Unknown ones and such as are none get a hint."""
    for verb in (("who",), ("status",), ("cancel",), ("replies",)):
        for directive in ("abcdef12", "xyz", "ab"):
            code, out, errors = run(*verb, directive)
            assert (code, out) == (1, "")
            assert "hint:" in errors


def test_a_cancelled_directive_closes_what_was_open_and_says_why(run: Run, field: Field) -> None:
    """What was done stays done; cancelling twice is refused."""
    issued = str(publish(run, "Do it", "--all", "--kind", "task")["id"])
    field.receipt(issued, "S1", State.DONE)
    code, _, errors = run("cancel", issued[:6], "--reason", "wrong lot")
    assert code == 0
    assert "4 deliveries" in errors
    found = status_of(run, issued)
    assert (found["state"], found["cancel_reason"], found["cancelled_by"]) == (
        "cancelled",
        "wrong lot",
        "Ana",
    )
    states = found["states"]
    assert isinstance(states, dict)
    assert (states["done"], states["cancelled"], found["complete"]) == (1, 4, True)
    assert "wrong lot" in run("status", issued)[1]
    assert run("cancel", issued)[0] == 1
    assert json.loads(run("who", issued, "--json")[1]) == []


def test_status_says_what_is_still_asked_after_a_restore(run: Run, field: Field) -> None:
    """A statement about a directive that the ledger does not know waits, and is shown."""
    forgotten = "ab" * 16
    from buswire.messages import Receipt

    field.say("S1", Receipt(directive=forgotten, role="any", state=State.DONE))
    asking = json.loads(run("status", "--json")[1])["asking"]
    assert asking["statements"] == 1
    assert [one["id"] for one in asking["directives"]] == [forgotten]
    errors = run("status")[2]
    assert "1 directives that this ledger does not know" in errors
    assert forgotten[:8] in errors


def test_what_comes_from_a_store_cannot_drive_the_terminal(run: Run, field: Field) -> None:
    """Escapes are made visible, in tables, texts and JSON alike."""
    issued = str(publish(run, "Do it", "--all", "--body", "a\x1b[2Jb", "--kind", "task")["id"])
    field.receipt(issued, "S1", State.CANNOT, reason="\x1b]0;owned\x07", by="\x9bM\u202e")
    for words in (
        ("who", issued, "--state", "cannot"),
        ("who", issued, "--state", "cannot", "--json"),
        ("status", issued),
        ("status", issued, "--json"),
        ("tail", "--no-follow"),
        ("tail", "--no-follow", "--json"),
    ):
        _, out, errors = run(*words)
        assert out
        assert not set(out + errors) & set("\x1b\x07\x9b\u202e"), words


def test_watch_writes_a_line_for_each_change_and_ends_when_complete(run: Run, field: Field) -> None:
    """In a pipe; nothing is repeated while nothing changes."""
    issued = str(publish(run, "Do it", "--store", "S1", "--store", "S2", "--kind", "task")["id"])
    command = [sys.executable, "-m", "hqconsole.commands.main", "status", issued, "--watch"]
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, env=os.environ.copy()
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        field.receipt(issued, "S1", State.DELIVERED)
        second = json.loads(process.stdout.readline())
        field.receipt(issued, "S1", State.DONE)
        field.receipt(issued, "S2", State.DONE)
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    assert (first["states"]["pending"], second["states"]["delivered"]) == (2, 1)
    assert rest[-1]["complete"] is True
    assert rest[-1]["met"] == 2
    assert run("status", "--watch")[0] == 2


def test_watch_holds_no_read_transaction_open(run: Run, field: Field) -> None:
    """The write-ahead log can be emptied while somebody watches."""
    issued = str(publish(run, "Do it", "--all")["id"])
    command = [sys.executable, "-m", "hqconsole.commands.main", "status", issued, "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ.copy()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with open_ledger(field.home) as ledger:
            log = field.home / "ledger.db-wal"

            def emptied() -> bool:
                ledger.checkpoint()
                return log.stat().st_size == 0

            wait_until(emptied, what="the log to be emptied beside a watcher")
        process.terminate()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals in Python")
def test_on_a_terminal_watch_is_a_live_picture_that_ends_when_complete(
    run: Run, field: Field
) -> None:
    """A title in brackets is a title, not a colour."""
    import pty

    issued = publish(run, "Golden [bold]Week[/]", "--store", "S1")["id"]
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "hqconsole.commands.main", "status", str(issued), "--watch"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        seen = b""
        while b"1 pending" not in seen:
            seen += os.read(ours, 65536)
        field.receipt(str(issued), "S1", State.READ)
        while b"1 read" not in seen:
            seen += os.read(ours, 65536)
        assert process.wait(20) == 0
    os.close(ours)
    assert b"Golden [bold]Week[/]" in seen
