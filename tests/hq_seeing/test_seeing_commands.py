"""`hq why`, `hq cannot`, `hq status` and `hq who`, after what stores have said."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from buswire.messages import Receipt, Withdrawn
from buswire.states import State
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.progress import save_published_no
from tests.contract.markdown import sections, words
from tests.hq_console import field as fields
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def read(run: Run, *words: str) -> Any:
    """What a command says as JSON."""
    code, out, errors = run(*words, "--json")
    assert code == 0, errors
    return json.loads(out)


def publish(run: Run, *words: str) -> str:
    """Issue a directive; its short id."""
    return str(read(run, "publish", *words)["short_id"])


def change(home: Path, sql: str, *values: Any) -> None:
    """Make the ledger what it would be after some time."""
    with open_ledger(home) as ledger, ledger.write() as connection:
        connection.execute(sql, values)


def test_why_goes_from_no_device_to_done(run: Run, field: Field) -> None:
    """At each step the first missing link is another one, and at the end there is none."""
    issued = publish(run, "Set it up", "--role", "manager", "--kind", "task")

    def missing() -> str:
        (found,) = read(run, "why", "S1", issued)
        assert (found["store"], found["role"]) == ("S1", "manager")
        return str(found["missing"])

    assert missing() == "sealed"
    field.hub()
    assert missing() == "sent"
    with open_ledger(field.home) as ledger, ledger.write() as connection:
        save_published_no(connection, 1)  # as the hub does once it is sure
    assert missing() == "device"
    field.device("S1", roles=("manager",))
    assert missing() == "saved"
    field.receipt(issued, "S1", State.DELIVERED, role="manager")
    assert missing() == "read"
    field.receipt(issued, "S1", State.READ, role="manager")
    assert missing() == "answered"
    field.receipt(issued, "S1", State.DONE, role="manager", by="Rui")
    assert missing() == "None"
    code, out, _ = run("why", "S1", issued[:6])
    assert code == 0
    assert "Rui at till-1" in out
    assert "Nothing is missing: it is done." in out


def test_why_says_the_clocks_error_and_names_the_hub(run: Run, field: Field) -> None:
    """A receipt of a device whose clock is three minutes slow; no hub runs."""
    issued = publish(run, "Set it up", "--store", "S1", "--kind", "task")
    field.receipt(issued, "S1", State.DELIVERED)
    change(field.home, "UPDATE arrival SET offset_seconds = 180, said_at = said_at - 180")
    code, out, _ = run("why", "S1", issued)
    assert code == 0
    assert "which was 3 min behind" in out
    assert "The hub is not running" in out
    assert "hq up" in out


def test_why_not_in_the_audience_says_why_not(run: Run, home: Path) -> None:
    """Another region, a tag, an exclusion, an expression, a role, a frozen audience."""
    cases = {
        ("--region", "east"): "none of these places",
        ("--tag", "24h"): "the tags of S4 are none",
        ("--all", "--exclude-store", "S4"): "S4 is excluded",
        ("--where", "id = S1"): "the expression is not true of S4",
        ("--all", "--role", "manager"): "that is manager, and not any",
    }
    for options, says in cases.items():
        issued = publish(run, "x", *options)
        (found,) = read(run, "why", "S4", issued, "--role", "any")
        assert (found["missing"], found["state"]) == ("audience", None)
        assert says in found["verdict"], options
    code, _, errors = run("why", "S4", issued, "--role", "pilot")
    assert (code, "no role pilot" in errors) == (1, True)
    assert run("why", "S9", issued)[0] == 1
    change(
        home,
        "DELETE FROM delivery WHERE mailbox_no IN"
        " (SELECT mailbox.no FROM mailbox JOIN store ON store.no = store_no WHERE id = 'S4')",
    )
    (late,) = read(run, "why", "S4", issued, "--role", "manager")
    assert "frozen before that" in late["verdict"]


def test_why_shows_every_mailbox_of_the_store(run: Run, home: Path) -> None:
    """Without --role each one that the directive is for."""
    issued = publish(run, "x", "--store", "S4", "--role", "manager", "--role", "clerk")
    assert [one["role"] for one in read(run, "why", "S4", issued)] == ["clerk", "manager"]


def test_the_same_reason_is_counted_once_with_its_regions(run: Run, field: Field) -> None:
    """Four stores, three wordings, two reasons; one gave a code that head office offers."""
    issued = publish(run, "Set it up", "--all", "--kind", "task")
    said = {"S1": "No ladder!", "S2": "we have no ladder here", "S3": "缺货", "S4": "店里缺货。"}
    for store, reason in said.items():
        field.receipt(issued, store, State.CANNOT, reason=reason)
    field.receipt(issued, "S5", State.CANNOT, code="stock", reason="")
    found = read(run, "cannot", issued)
    assert [(one["code"], one["count"]) for one in found] == [("", 4), ("stock", 1)]
    assert [(one["count"], one["stores"], one["by"]) for one in found[0]["wordings"]] == [
        (2, ["S1", "S2"], {"east": 2}),
        (2, ["S3", "S4"], {"west": 2}),
    ]
    code, out, errors = run("cannot", issued, "--by", "role")
    assert code == 0
    assert "No ladder!" in out
    assert "5 cannot" in errors


def test_status_is_split_up_and_honest_about_who_joined(run: Run, field: Field) -> None:
    """Each mailbox of the frozen audience in one group; who was taken in later is in none."""
    issued = publish(run, "x", "--all", "--kind", "task", "--due", "2030-01-01 18:00")
    field.receipt(issued, "S1", State.DONE)
    field.receipt(issued, "S3", State.CANNOT)
    change(
        field.home,
        "UPDATE delivery SET joined_at = ? WHERE mailbox_no ="
        " (SELECT mailbox.no FROM mailbox JOIN store ON store.no = store_no"
        " WHERE store.id = 'S5' AND role = 'any')",
        time.time(),
    )
    change(field.home, "UPDATE directive SET due = '2020-01-01T18:00', mailboxes = 4")
    rows = read(run, "status", issued, "--by", "region")
    assert [(one["group"], one["name"], one["mailboxes"]) for one in rows] == [
        ("west", "West", 2),
        ("east", "East", 2),
    ]
    assert [(one["met"], one["open"], one["overdue"]) for one in rows] == [(0, 1, 1), (1, 1, 1)]
    assert rows[0]["states"]["cannot"] == 1
    for grouping in ("role", "city", "country", "timezone", "wave"):
        split = read(run, "status", issued, "--by", grouping)
        assert sum(one["mailboxes"] for one in split) == 4
    assert "West" in run("status", issued, "--by", "region")[1]
    found = read(run, "status", issued)
    assert found["joined"] == {"mailboxes": 1, "met": 0, "open": 1}
    assert (found["known"], found["met"], found["open"], found["overdue"]) == (4, 1, 2, 3)
    assert "1 joined later" in run("status", issued)[1]
    assert run("status", "--by", "region")[0] == 2
    assert run("status", issued, "--state", "issued")[0] == 2


def test_waves_and_what_waits_for_them_are_shown(run: Run, field: Field) -> None:
    """The pilot has it, the rest is planned, and the directive says what it waits for."""
    issued = publish(run, "x", "--all", "--kind", "task", "--pilot", "S1")
    found = read(run, "status", issued)
    assert (found["state"], found["planned"], found["open"], found["known"]) == ("rolling", 4, 1, 5)
    assert [(one["mailboxes"], one["planned"]) for one in found["waves"]] == [(1, 0), (4, 4)]
    assert found["complete"] is False
    assert "wave 2 of 2" in found["next"][0]["words"]
    assert "_" in run("status")[1]
    assert [one["store"] for one in read(run, "who", issued)] == ["S1"]
    planned = read(run, "who", issued, "--state", "planned")
    assert {(one["state"], one["wave"], one["open"]) for one in planned} == {("planned", 2, False)}
    assert "4 more are yet to get it" in run("who", issued)[2]
    (why,) = read(run, "why", "S2", issued)
    assert (why["missing"], why["state"]) == ("wave", "planned")
    assert run("pause", issued, "--reason", "too hot")[0] == 0
    assert "too hot" in run("status", "--state", "paused")[1]
    assert read(run, "status", "--state", "issued")["directives"] == []
    (why,) = read(run, "why", "S2", issued)
    assert "too hot" in why["verdict"]
    draft = publish(run, "later", "--all", "--draft")
    assert {one["state"] for one in read(run, "who", draft)} == {"planned"}
    assert "hq submit" in run("status", draft)[2]


def test_a_withdrawal_proves_itself_per_store(
    run: Run, field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never seen, read, already done; two of three devices have said so."""
    monkeypatch.setitem(fields.KINDS, Withdrawn, "withdrawn")
    issued = publish(run, "x", "--region", "West", "--kind", "task")
    field.receipt(issued, "S3", State.READ)
    field.receipt(issued, "S4", State.DONE)
    field.device("S5")
    assert run("cancel", issued, "--reason", "wrong lot")[0] == 0
    (why,) = read(run, "why", "S3", issued)
    assert why["missing"] == "confirmed"
    whole = field.whole(issued)
    field.say("S3", Withdrawn(directive=whole, role="any", was=State.READ))
    field.say("S4", Withdrawn(directive=whole, role="any", was=State.DONE))
    found = read(run, "status", issued)
    proof = found["withdrawal"]
    counted = {state: count for state, count in proof["was"].items() if count}
    assert counted == {"pending": 1, "read": 1, "done": 1}
    assert (proof["confirmed"], proof["unconfirmed"], proof["never_sent"]) == (2, 1, 0)
    out, errors = run("status", issued)[1:]
    assert "1 never seen, 1 read, 1 already done; confirmed by 2 of 3" in out
    assert "--undo" in errors
    rows = read(run, "who", issued, "--state", "cancelled")
    assert [(one["store"], one["before_hq"], one["was"]) for one in rows] == [
        ("S3", "read", "read"),
        ("S5", "pending", None),
    ]
    (why,) = read(run, "why", "S3", issued)
    assert why["missing"] is None


def test_versions_are_shown_from_the_first_to_the_last(run: Run, home: Path) -> None:
    """Each of the chain shows all of it."""
    first = publish(run, "one", "--all")
    second = publish(run, "two", "--all", "--supersedes", first)
    third = publish(run, "three", "--all", "--supersedes", second)
    for one in (first, second, third):
        chain = read(run, "status", one)["versions"]
        assert [version["short_id"] for version in chain] == [first, second, third]
        assert [version["short_id"] for version in chain if version["this"]] == [one]
    assert f"[{second} (superseded)]" in run("status", second)[1]
    undo = publish(run, "undo", "--all", "--draft")
    change(
        home,
        "UPDATE directive SET undoes_no = (SELECT no FROM directive WHERE title = 'one')"
        " WHERE title = 'undo'",
    )
    assert [one["short_id"] for one in read(run, "status", first)["undone_by"]] == [undo]


def test_who_is_late_on_its_own_clock_and_who_has_no_device(run: Run, field: Field) -> None:
    """Due at the same wall time: nine hours apart, one store is late and the other is not."""
    issued = publish(run, "x", "--store", "S1", "--store", "S3", "--due", "2030-01-01 18:00")
    field.device("S1")
    now = time.gmtime(time.time() + 4 * 3600)  # past in Tokyo, ahead in Lisbon
    change(field.home, "UPDATE directive SET due = ?", time.strftime("%Y-%m-%dT%H:%M", now))
    tokyo, lisbon = read(run, "who", issued)
    assert (tokyo["overdue"], lisbon["overdue"]) == (True, False)
    assert tokyo["due_local"] == lisbon["due_local"]
    assert tokyo["due_at"] < lisbon["due_at"]
    assert [one["store"] for one in read(run, "who", issued, "--overdue")] == ["S1"]
    assert [one["store"] for one in read(run, "who", issued, "--no-device")] == ["S3"]
    assert [one["store"] for one in read(run, "who", issued, "--region", "west")] == ["S3"]
    _, out, errors = run("who", issued)
    assert "no device" in out
    assert "1 overdue, 1 without a device" in errors


def test_late_marks_are_counted_each_for_itself(run: Run, field: Field) -> None:
    """Heard late and done late are two things, and one delivery can be both."""
    issued = publish(run, "x", "--all", "--kind", "task")
    for store, late in (("S1", 1), ("S2", 2), ("S3", 3)):
        field.say(store, Receipt(directive=field.whole(issued), role="any", state=State.DONE))
        change(
            field.home,
            "UPDATE delivery SET late = ? WHERE mailbox_no IN (SELECT mailbox.no FROM mailbox"
            " JOIN store ON store.no = store_no WHERE store.id = ?)",
            *(late, store),
        )
    found = read(run, "status", issued)
    assert (found["late"], found["done_late"], found["met"]) == (2, 2, 3)
    rows = read(run, "who", issued, "--state", "done")
    assert [(one["late"], one["done_late"]) for one in rows] == [
        (True, False),
        (False, True),
        (True, True),
    ]
    assert "2 done late" in run("status")[1]


def test_what_stands_inside_a_field_is_described(run: Run, field: Field) -> None:
    """The page names every key of the lists and objects in `why`, `cannot` and `status ID`."""
    pages = sections("docs/cli-json.md", 2)

    def described(command: str, name: str, found: Any) -> None:
        (text,) = [what for key, what in pages[command].tables()[0][1:] if words(key) == [name]]
        one = found[name][0] if isinstance(found[name], list) else found[name]
        assert one.keys() <= {*words(text), *counts}, (command, name)

    counts = ("states", "planned", "known", "met", "open", "late", "done_late")
    issued = publish(run, "x", "--all", "--kind", "task", "--pilot", "S1", "--due", "in 2 days")
    field.receipt(issued, "S1", State.CANNOT, reason="no ladder")
    (why,) = read(run, "why", "S1", issued)
    for name in ("links", "record"):
        described("hq why", name, why)
    described("hq cannot", "wordings", read(run, "cannot", issued)[0])
    late = publish(run, "y", "--all", "--supersedes", publish(run, "z", "--all"), "--draft")
    change(field.home, "UPDATE directive SET undoes_no = 1 WHERE title = 'y'")
    status = read(run, "status", issued)
    for name in ("waves", "next", "steps", "drift", "undone_by"):
        described("hq status ID", name, status)
    described("hq status ID", "versions", read(run, "status", late))
    assert run("cancel", issued)[0] == 0
    described("hq status ID", "withdrawal", read(run, "status", issued))


def test_why_takes_its_two_words_in_either_order(run: Run, field: Field) -> None:
    """Every other verb has the directive first; whoever writes it so here is understood."""
    issued = publish(run, "Set it up", "--store", "S1", "--kind", "task")
    assert read(run, "why", issued, "S1") == read(run, "why", "S1", issued)
