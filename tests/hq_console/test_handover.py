"""`hq handover`: a seat's work and history stay when people leave."""

import json
from typing import Any

from buskit.terminal import display_width
from buswire.messages import Alert, Receipt, Reply
from buswire.states import State
from hqconsole.handover import HISTORY_MOST, page
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def issue(run: Run, title: str, *more: str) -> str:
    """The id of a directive."""
    code, out, errors = run("publish", title, *more, "--needs", "done", "--json")
    assert code == 0, errors
    return str(json.loads(out)["id"])


def test_the_next_manager_sees_what_is_open_and_what_others_did(run: Run, field: Field) -> None:
    """Of this seat and of the store as a whole; not what is another role's or another store's."""
    recall = issue(run, "Recall", "--all", "--role", "manager", "--body", "All *of* it\n# now")
    windows = issue(run, "Windows", "--store", "S1", "--priority", "urgent")
    shelf = issue(run, "Shelf", "--store", "S1", "--role", "manager")
    issue(run, "Others", "--store", "S1", "--role", "clerk")
    issue(run, "Elsewhere", "--store", "S2")
    field.device("S1")
    field.say(
        "S1",
        Receipt(directive=recall, role="manager", state=State.READ, by="Mio"),
        Reply(directive=recall, role="manager", text="only 3 of 5 found", by="Mio"),
        Receipt(
            directive=shelf,
            role="manager",
            state=State.CANNOT,
            code="no_key",
            reason="locked",
            note="ask Ken",
            by="Ken",
        ),
        Alert(alert="incident", note="a leak", by="Ken"),
    )
    field.say("S2", Alert(alert="incident", note="a fire"))
    code, out, errors = run("handover", "s1", "manager", "--json")
    assert code == 0, errors
    seat: dict[str, Any] = json.loads(out)
    assert [(one["title"], one["role"], one["state"]) for one in seat["open"]] == [
        ("Windows", "any", "pending"),
        ("Recall", "manager", "read"),
    ]
    assert [(one["title"], one["state"], one["code"], one["note"]) for one in seat["closed"]] == [
        ("Shelf", "cannot", "no_key", "ask Ken")
    ]
    assert sorted((one["name"], one["times"]) for one in seat["people"]) == [("Ken", 2), ("Mio", 2)]
    assert [one["note"] for one in seat["alerts"]] == ["a leak"]
    assert [one["text"] for one in seat["said"] if one["kind"] == "reply"] == ["only 3 of 5 found"]
    assert seat["devices"][0]["device"] == "till-1"
    text = run("handover", "S1", "manager")[1]
    for words in ("[urgent] Windows", "no_key; locked; ask Ken", "Mio on", "only 3 of 5", "a leak"):
        assert words in text
    for words in ("Others", "Elsewhere", "a fire"):
        assert words not in text
    markdown = run("handover", "S1", "manager", "--markdown")[1]
    assert "# S1 One: manager\n" in markdown
    assert "  > All \\*of\\* it\n  > \\# now" in markdown
    assert windows[:8] in markdown
    assert (
        json.loads(run("handover", "S1", "manager", "--since", "2030-01-01", "--json")[1])["said"]
        == []
    )
    assert [one["title"] for one in json.loads(run("handover", "S1", "--json")[1])["open"]] == [
        "Windows"
    ]


def test_what_is_not_there_is_said_with_what_is(run: Run, field: Field) -> None:
    """A slip in the store or the role; and a seat without any history is a page too."""
    code, _, errors = run("handover", "S1", "managr")
    assert (code, "manager, clerk, any" in errors) == (1, True)
    assert run("handover", "S77", "manager")[0] == 1
    assert run("handover", "S1", "--json", "--markdown")[0] == 2
    code, out, _ = run("handover", "S5", "clerk")
    assert (code, "No device serves this seat" in out, "Open work: 0" in out) == (0, True, True)


def test_a_long_history_is_cut_on_the_page_and_says_so() -> None:
    """And nothing of it moves a cursor."""
    seat = {
        "store": "S1",
        "name": "One\x1b[2J",
        "role": "manager",
        "role_name": "",
        "city": "X",
        "region_name": "",
        "timezone": "UTC",
        "at": 0.0,
        "since_at": 0.0,
        "closed_at": 5.0,
        "devices": [],
        "open": [],
        "coming": [],
        "people": [],
        "closed": [],
        "alerts": [],
    }
    reply = {
        "kind": "reply",
        "received_at": 0.0,
        "by": "",
        "device": "till-1",
        "short_id": None,
        "title": None,
    }
    seat["said"] = [{**reply, "text": f"number {number}."} for number in range(HISTORY_MOST + 1)]
    text = page(seat)
    assert "\x1b" not in text
    assert f"Replies: {HISTORY_MOST + 1}" in text
    assert "number 0." not in text
    assert f"number {HISTORY_MOST}." in text
    assert max(map(display_width, text.splitlines())) < 100
