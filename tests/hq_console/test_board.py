"""`hq board`: numbers that are those of the ledger, on a screen of any size."""

import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from buskit.terminal import display_width
from buswire.messages import Alert, Reply
from buswire.states import State
from hqconsole.board import HEIGHT_LEAST, WIDTH_LEAST, picture, plain
from hqconsole.ledger import directives, views
from hqconsole.ledger.board import Board
from hqconsole.ledger.opening import open_ledger
from tests.helpers.waiting import wait_until
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field

HUB = {"running": True, "connected": True, "since_at": 0.0, "failure": ""}


def issue(run: Run, title: str, *more: str) -> str:
    """The id of a directive to everyone that needs doing."""
    code, out, errors = run("publish", title, "--all", "--needs", "done", *more, "--json")
    assert code == 0, errors
    return str(json.loads(out)["id"])


def test_the_picture_shows_every_part_and_fits_any_screen() -> None:
    """With nothing at all, and with more of everything than there is room for."""
    seed = int(os.environ.get("STOREBUS_TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    draw = random.Random(seed)
    evil = "促销\x1b[2J\n" * 30
    for _ in range(30):
        many = draw.choice((0, 1, 3, 40))
        states = dict.fromkeys((state.value for state in State), 0)
        view: dict[str, Any] = {
            "at": 1e9,
            "stores": many * 9,
            "stores_there": many * 8,
            "live": many,
            "unsent": {"draft": 0, "waiting_for_approval": many, "scheduled": 0},
            "regions": [
                {"region": f"r{number}", "name": evil, "stores": 9, "there": draw.randrange(10)}
                for number in range(many)
            ],
            "directives": [
                {
                    "short_id": "0123abcd",
                    "title": evil,
                    "priority": "urgent",
                    "planned": 0,
                    "state": draw.choice(("issued", "paused")),
                    "states": states,
                    "met": 5,
                    "mailboxes": draw.choice((0, 25_000)),
                    "open": 20,
                    "cannot": number,
                    "overdue": draw.choice((0, 25_000)),
                }
                for number in range(many)
            ],
            "unread": [
                {
                    "short_id": "0123abcd",
                    "title": evil,
                    "since_at": 0.0,
                    "mailboxes": 7,
                    "by": [evil],
                }
                for _ in range(many)
            ],
            "incoming": [
                {"kind": "alert", "received_at": 1e9, "store": "S1", "by": evil, "text": evil}
                for _ in range(many)
            ],
            "escalations": many,
            "unseen": [{"region": "r1", "short_id": "0123abcd"}] * min(many, 3),
            "incidents": many,
            "behind": many,
            "hub": draw.choice((HUB, {**HUB, "running": False}, {**HUB, "connected": False})),
        }
        width, height = draw.choice(((80, 24), (10, 3), (200, 70), (draw.randrange(20, 150), 30)))
        lines = picture(view, width, height)
        text = plain(lines)
        assert len(lines) <= max(height, HEIGHT_LEAST)
        assert all(display_width(one) <= max(width, WIDTH_LEAST) for one in text.split("\n"))
        assert "\x1b" not in text
        for title in ("DIRECTIVES", "OLDEST UNREAD", "COMING IN", "STORES"):
            assert title in text, text
        assert ("ESCALATIONS" in text) == bool(many)
        if many == 40:
            assert len(lines) == max(height, HEIGHT_LEAST)


def test_the_numbers_are_those_of_the_ledger_whatever_changes(run: Run, field: Field) -> None:
    """Counted anew where somebody spoke, and none of it later than the budget lets it be."""
    old = issue(run, "Old", "--due", "2027-01-01 08:00")
    new = issue(run, "New", "--priority", "urgent")
    board = Board(time.monotonic)

    def look(**more: Any) -> dict[str, Any]:
        with open_ledger(field.home) as ledger, ledger.read() as connection:
            return board.refresh(connection, now_at=time.time(), **more)

    def shown(directive: str, view: dict[str, Any]) -> dict[str, Any]:
        (one,) = [one for one in view["directives"] if one["id"] == directive]
        return one

    view = look(budget_seconds=0.0)
    assert (len(view["directives"]), view["behind"]) == (1, 1)
    view = look(budget_seconds=0.0)
    assert ([one["id"] for one in view["directives"]], view["behind"]) == ([new, old], 0)
    field.receipt(old, "S1", State.DONE)
    field.receipt(old, "S4", State.CANNOT, reason="locked")
    field.receipt(new, "S2", State.READ)
    field.say(
        "S1", Alert(alert="incident", note="a leak"), Reply(directive=old, role="any", text="ok")
    )
    view = look()
    with open_ledger(field.home) as ledger:
        for directive in (old, new):
            counts = views.counts_of(
                ledger.connection, directives.find(ledger.connection, directive)
            )
            assert shown(directive, view)["states"] == counts["states"]
    assert (shown(old, view)["cannot"], shown(old, view)["open"]) == (1, 3)
    assert [one["text"] for one in view["incoming"]] == ["ok", "incident a leak"]
    assert view["stores"] == 5
    assert [(one["id"], one["mailboxes"]) for one in view["unread"]] == [(old, 3), (new, 4)]
    assert run("cancel", new, "--reason", "x")[0] == 0
    view = look()
    assert [one["id"] for one in view["directives"]] == [old]
    with open_ledger(field.home) as ledger, ledger.read() as connection:
        board._others_due_at = 0.0
        late = board.refresh(connection, now_at=1_830_000_000.0)
    assert shown(old, late)["overdue"] == 3


def test_one_picture_or_one_line_of_json(run: Run, field: Field) -> None:
    """For a pipe: all of it counted, the state of the hub beside it."""
    directive = issue(run, "Pull it")
    code, out, _ = run("board", "--once")
    assert code == 0
    for words in (
        "no hub is running",
        directive[:8],
        "Pull it",
        "5 open",
        "0 of 5 there",
        "west 0/3",
    ):
        assert words in out
    assert run("board")[1].splitlines()[1:] == out.splitlines()[1:]
    view = json.loads(run("board", "--once", "--json")[1])
    assert (view["hub"]["running"], view["live"], view["behind"]) == (False, 1, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_live_screen_shows_what_comes_in_and_ends_with_ctrl_c(run: Run, field: Field) -> None:
    """On a terminal of 80 columns by 24 lines, as one process."""
    issue(run, "Pull it")
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    # A shell starts what runs in the background with Ctrl-C ignored; that would be passed on.
    awake = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    board = "from hqconsole.commands.main import main; main(['board'])"
    command = [sys.executable, "-c", awake + board]
    seen = bytearray()

    def shows(words: bytes) -> bool:
        while select.select([leader], [], [], 0)[0]:
            seen.extend(os.read(leader, 65_536))
        return words in seen

    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=subprocess.PIPE, env=environment
    ) as process:
        try:
            wait_until(lambda: shows(b"Pull it"), seconds=20, what="the first picture")
            field.say("S1", Alert(alert="incident", note="water everywhere"))
            wait_until(lambda: shows(b"water everywhere"), seconds=20, what="the alert on it")
            process.send_signal(signal.SIGINT)
            wait_until(lambda: shows(b"\x1b[?1049l"), seconds=20, what="the old screen")
            assert process.wait(20) == 130
        finally:
            process.kill()
    os.close(leader)
    os.close(follower)
