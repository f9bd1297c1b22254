"""What is on the screen of a store: the list, what is said about it, and why something cannot be.

Reasons, reminders and replacements come as head office's records bring them.
"""

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buskit.database import Database, DatabaseFull
from buswire.messages import Cancel, Reason, Remind
from buswire.states import Needs, State
from storeagent import Agent
from tests.agent.words import ALL_ANY, ALL_MANAGER, STORE_ANY, Bench, ids
from tests.staff.conftest import Run

REASONS = [
    Reason(code="no-stock", text="no stock", texts={"zh": "没有库存"}),
    Reason(code="no-ladder", text="no ladder here"),
]
PAST, FUTURE = "2020-01-01T09:00", "2099-12-31T09:00"


class Terminal(io.StringIO):
    """A stream that says that a person sits there."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def _person(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Let a person sit at this terminal, who types this."""
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")


def _numbers(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines()[1:]]


# --- the list ------------------------------------------------------------------------------------


def test_what_matters_now_comes_first_and_is_counted(run: Run, bench: Bench) -> None:
    """Forced, overdue, urgent, reminded of, new, then by due time; each is counted once."""
    words = bench.words
    bench.take(
        ALL_ANY,
        words.issue(1, title="due some day", due=FUTURE),
        words.issue(2, title="new"),
        words.issue(3, title="reminded of"),
        words.issue(4, title="urgent", priority="urgent"),
        words.issue(5, title="overdue", due=PAST),
        words.issue(6, title="forced and overdue", due=PAST, forced_from=PAST),
        words.issue(7, title="forced later", due=FUTURE, forced_from=FUTURE),
    )
    bench.statements.start(ids("d", 1), "any", by="Ana")
    bench.now_at += 60
    bench.take(ALL_ANY, words.record("remind", Remind(directive=ids("d", 3), text="please")))
    code, out, err = run("inbox")
    assert code == 0
    assert _numbers(out) == ["6", "5", "4", "3", "7", "2", "1"]
    assert err.splitlines()[-1] == (
        "7 to do: 1 that must be done now, 1 overdue, 1 urgent, 1 reminded of, 2 new, 1 in progress"
    )
    assert "must be done now, overdue" in out
    assert "in progress by Ana" in out
    shown = run("show", "3")[1]
    assert re.search(r"reminded +today \d\d:\d\d: please|reminded +yesterday \d\d:\d\d: p", shown)
    rows = {row["number"]: row for row in json.loads(run("inbox", "--json")[1])}
    assert rows[6]["forced"]
    assert not rows[7]["forced"]
    assert rows[7]["forced_at"] == pytest.approx(4102387200.0)
    assert rows[3]["reminded"]


def test_a_reminder_is_answered_by_any_word(run: Run, bench: Bench) -> None:
    """Who has begun is not told again that there was a reminder, until the next one."""
    bench.take(ALL_ANY, bench.words.issue(1))
    bench.now_at += 60
    bench.take(ALL_ANY, bench.words.record("remind", Remind(directive=ids("d", 1))))
    assert "1 reminded of" in run("inbox")[2]
    assert run("start", "1")[0] == 0
    assert "1 in progress" in run("inbox")[2]


def test_a_new_manager_finds_all_of_the_work(run: Run, bench: Bench) -> None:
    """Work belongs to the mailbox: who began it is named, and whoever sits there goes on."""
    bench.take(ALL_MANAGER, bench.words.issue(1, title="Count the cellar"))
    bench.take(ALL_MANAGER, bench.words.issue(2, title="Read this", needs=Needs.READ))
    run("start", "1", "--by", "Ana")
    run("read", "2", "--by", "Ana")
    assert "in progress by Ana" in run("inbox")[1]
    assert "done" in run("done", "1", "--by", "Bo")[2]
    assert "done by Bo" in run("inbox", "--all")[1]
    assert "read by Ana" in run("inbox", "--all")[1]


# --- what was closed by others -------------------------------------------------------------------


def test_what_others_closed_is_told_once(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Withdrawn, replaced, expired, done on another device: a line each, to a person, once."""
    words = bench.words
    bench.take(ALL_ANY, *(words.issue(number) for number in range(1, 7)))
    bench.take(ALL_ANY, words.issue(7, title="Better", supersedes=ids("d", 2)))
    bench.now_at += 60
    bench.take(
        ALL_ANY,
        words.cancel(1, reason="a mistake"),
        words.record("cancel", Cancel(directive=ids("d", 2), superseded_by=ids("d", 7))),
    )
    bench.take(STORE_ANY, words.change(State.EXPIRED, 3), words.change(State.DONE, 4, "Bo, till-2"))
    bench.statements.done(ids("d", 5), "any", by="Ana")
    expected = {
        "* 1 Directive 1: withdrawn by head office: a mistake",
        "* 2 Directive 2: replaced by 7 Better",
        "* 3 Directive 3: closed by head office, its time is over",
        "* 4 Directive 4: done by Bo, till-2",
    }
    for _ in range(2):
        told = {line for line in run("inbox")[2].splitlines() if line.startswith("*")}
        assert told == expected, "nobody has seen it while no terminal is there"
    assert run("inbox", "--json")[2] == ""
    with monkeypatch.context() as patch:
        _person(patch, "")
        assert "replaced by 7 Better" in run("inbox")[2]
        assert "* " not in run("inbox")[2]
    shown = run("show", "2")[1]
    assert re.search(r"replaced by +7 Better", shown)
    assert re.search(r"replaces +2 Directive 2", run("show", "7")[1])
    bench.take(ALL_ANY, words.issue(3))
    bench.now_at += 60
    bench.take(STORE_ANY, words.change(State.EXPIRED, 3))
    assert "* 3 Directive 3" in run("inbox")[2], "it was open again, and closed again"


def test_what_nobody_can_have_seen_is_no_news(run: Run, bench: Bench) -> None:
    """A withdrawal that came first, and work that was closed before this version."""
    bench.take(ALL_ANY, bench.words.cancel(1), bench.words.issue(1))
    assert "*" not in run("inbox")[2]


def test_a_full_disk_does_not_hide_the_list(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told cannot be noted then; it is told again."""
    bench.take(ALL_ANY, bench.words.issue(1), bench.words.issue(2))
    bench.now_at += 60
    bench.take(ALL_ANY, bench.words.cancel(1))

    def full(_: Database) -> None:
        raise DatabaseFull("no room")

    _person(monkeypatch, "")
    monkeypatch.setattr(Database, "write", full)
    code, out, err = run("inbox")
    assert code == 0
    assert "* 1 Directive 1" in err
    assert _numbers(out) == ["2"]


def test_many_closings_are_told_in_a_few_lines(run: Run, bench: Bench) -> None:
    """After a long absence the list is still on the screen."""
    bench.take(ALL_ANY, *(bench.words.issue(number) for number in range(1, 31)))
    bench.now_at += 60
    bench.take(ALL_ANY, *(bench.words.cancel(number) for number in range(1, 31)))
    told = [line for line in run("inbox")[2].splitlines() if line.startswith("*")]
    assert len(told) == 9
    assert told[-1] == "* 22 more were closed: storeagent inbox --all"


def test_news_that_changed_meanwhile_stays_news(bench: Bench, home: Path) -> None:
    """Only what was shown is noted as told, though more has happened since."""
    bench.take(ALL_ANY, bench.words.issue(1), bench.words.issue(2))
    bench.now_at += 60
    bench.take(ALL_ANY, bench.words.cancel(1))
    with Agent(home) as agent:
        news = agent.news()
        bench.take(ALL_ANY, bench.words.cancel(2))
        agent.tell(news)
        assert [row["number"] for row in agent.news()] == [2]


# --- short commands ------------------------------------------------------------------------------


def test_several_numbers_are_said_at_once_or_not_at_all(run: Run, bench: Bench) -> None:
    """A number that does not exist stops all of it before anything is recorded."""
    bench.take(ALL_ANY, *(bench.words.issue(number) for number in (1, 2, 3)))
    code, _, err = run("done", "1", "99", "3")
    assert code == 1
    assert "no work '99'" in err
    assert bench.state(1) is State.DELIVERED
    code, _, err = run("done", "1", "3", "1", "--by", "Ana")
    assert code == 0
    assert err.splitlines() == [
        f"{number} Directive {number}: done; head office hears of it as soon as there is a "
        "connection"
        for number in (1, 3)
    ]
    assert bench.receipts(1).count("done") == 1


def test_show_names_the_next_step_and_marks_nothing(run: Run, bench: Bench) -> None:
    """The commands that make sense for how far it is; none for what is finished."""
    bench.take(ALL_ANY, bench.words.issue(1, reasons=REASONS))
    bench.take(ALL_ANY, bench.words.issue(2, needs=Needs.READ))
    _, out, err = run("show", "1")
    assert "next: storeagent read 1, storeagent start 1, storeagent done 1" in err
    assert "  no-stock   no stock" in out
    assert "next: storeagent read 2\n" in run("show", "2")[2]
    assert bench.state(1) is State.DELIVERED
    run("start", "1")
    assert "next: storeagent done 1, storeagent cannot 1\n" in run("show", "1")[2]
    run("done", "1")
    assert run("show", "1")[2] == ""


# --- cannot --------------------------------------------------------------------------------------


def test_a_person_chooses_a_reason_from_a_list(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbered, in their language; nonsense is asked again; words of their own may follow."""
    bench.take(ALL_ANY, bench.words.issue(1, reasons=REASONS))
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    _person(monkeypatch, "\n7\nx\n1\n下周到货\n")
    code, _, err = run("cannot", "1", "--by", "王芳")
    assert code == 0
    assert "1  没有库存 (no-stock)" in err
    assert "2  no ladder here (no-ladder)" in err
    (said,) = [data for kind, data in bench.sent() if data.get("state") == "cannot"]
    assert (said["code"], said["reason"], said["by"]) == ("no-stock", "下周到货", "王芳")
    assert "没有库存" in run("show", "1")[1]


def test_without_reasons_of_head_office_a_person_is_asked_for_words(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line; an empty one is no reason."""
    bench.take(ALL_ANY, bench.words.issue(1))
    _person(monkeypatch, "\n \nno ladder\n")
    assert run("cannot", "1")[0] == 0
    assert bench.row(1).reason == "no ladder"


def test_who_gives_up_has_said_nothing(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the input while a reason is asked for: nothing was recorded, for none of them."""
    bench.take(ALL_ANY, *(bench.words.issue(number, reasons=REASONS) for number in (1, 2)))
    _person(monkeypatch, "1\n\n")
    assert run("cannot", "1", "2")[0] == 130
    assert bench.state(1) is bench.state(2) is State.DELIVERED


@pytest.mark.parametrize(
    ("words", "cause", "hint"),
    [
        (("1",), "1 Directive 1 needs one of head office's reasons", "no-stock | no-ladder"),
        (("1", "--reason", "x"), "needs one of head office's reasons", "no-stock | no-ladder"),
        (("1", "--code", "odd"), "'odd' is none of head office's reasons", "no-stock | no-ladder"),
        (("2",), "a reason is needed", "--reason TEXT"),
        (("2", "--code", "odd"), "head office offers no reasons for 2", "--reason TEXT"),
    ],
)
def test_where_nobody_can_be_asked_the_reasons_are_listed(
    *, run: Run, bench: Bench, words: tuple[str, ...], cause: str, hint: str
) -> None:
    """A script hears which codes there are; nothing is recorded."""
    bench.take(ALL_ANY, bench.words.issue(1, reasons=REASONS), bench.words.issue(2))
    code, _, err = run("cannot", *words)
    assert code == 2
    assert cause in err
    assert hint in err
    assert bench.state(1) is bench.state(2) is State.DELIVERED


def test_one_code_is_said_of_several(run: Run, bench: Bench) -> None:
    """With words of one's own beside it."""
    bench.take(ALL_ANY, *(bench.words.issue(number, reasons=REASONS) for number in (1, 2)))
    assert run("cannot", "1", "2", "--code", "no-stock", "--reason", "till Friday")[0] == 0
    rows = json.loads(run("inbox", "--all", "--json")[1])
    assert {(row["state"], row["code"], row["reason"]) for row in rows} == {
        ("cannot", "no-stock", "till Friday")
    }


def test_text_of_head_office_cannot_touch_the_terminal(run: Run, bench: Bench) -> None:
    """Titles and reasons with escapes and line breaks are shown and not obeyed."""
    odd = "A\x1b[2J\nB"
    bench.take(ALL_ANY, bench.words.issue(1, title=odd), bench.words.issue(2, title=odd))
    bench.now_at += 60
    bench.take(ALL_ANY, bench.words.cancel(2, reason=odd))
    said = "".join(run("inbox")[1:] + run("show", "1")[1:] + run("read", "1")[1:])
    assert "\x1b" not in said
    assert "\nB" not in said


# --- a real terminal -----------------------------------------------------------------------------


def test_a_person_at_a_real_terminal(home: Path, bench: Bench) -> None:
    """Colours, the list in columns, and a question that waits for an answer, in Chinese."""
    bench.take(ALL_ANY, bench.words.issue(1, title="冷藏柜清洁", due=PAST, reasons=REASONS))
    bench.database.close()
    command = f"{Path(sys.executable).parent / 'storeagent'}"
    environment = {
        **os.environ,
        "LC_ALL": "zh_CN.UTF-8",
        "TERM": "xterm-256color",
        "COLUMNS": "100",
    }
    environment.pop("NO_COLOR", None)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"{command} inbox; {command} cannot 1"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        close_fds=True,
    )
    os.close(slave)
    seen = _read_until(master, "原因编号")
    os.write(master, b"2\n")
    seen += _read_until(master, "补充说明")
    os.write(master, b"\n")
    seen += _read_until(master, None)
    assert process.wait(30) == 0
    os.close(master)
    assert "待办 1 项：1 项逾期" in seen  # noqa: RUF001 - as Chinese has it
    assert re.search(r"\x1b\[1;31m[^\x1b]*冷藏柜清洁", seen), "overdue is red"
    assert "1 冷藏柜清洁：无法完成" in seen  # noqa: RUF001 - likewise


def _read_until(master: int, word: str | None) -> str:
    """What comes until that word, or until the end."""
    seen = b""
    end_at = time.monotonic() + 60
    while time.monotonic() < end_at:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux's word for: the other end is closed
            break
        if not piece:
            break
        seen += piece
        if word is not None and word.encode() in seen:
            break
    text = seen.decode()
    assert word is None or word in text, text
    return text
