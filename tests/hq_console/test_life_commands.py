"""Commands over the life of a directive: drafts, approval, schedules, waves, withdrawing."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from buswire.states import State
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def publish(run: Run, *words: str) -> dict[str, Any]:
    """Write a directive; what the command says of it."""
    code, out, errors = run("publish", *words, "--json")
    assert code == 0, errors
    found: dict[str, Any] = json.loads(out)
    return found


def status(run: Run, directive: str) -> dict[str, Any]:
    """What `hq status ID --json` says."""
    found: dict[str, Any] = json.loads(run("status", directive, "--json")[1])
    return found


def sent(run: Run, directive: str) -> int:
    """How many mailboxes it has gone out to."""
    return sum(wave["mailboxes"] - wave["planned"] for wave in status(run, directive)["waves"])


def ok(run: Run, *words: str) -> str:
    """Run it; what it narrates."""
    code, _, errors = run(*words)
    assert code == 0, errors
    return errors


def refused(run: Run, *words: str, code: int = 1) -> str:
    """Run it; why it was not done."""
    found, out, errors = run(*words)
    assert (found, out) == (code, ""), errors
    return errors


@pytest.fixture
def as_(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says who works at the command line from now on."""
    return lambda name: monkeypatch.setenv("STOREBUS_OPERATOR", name)


@pytest.fixture
def approving(home: Path) -> Path:
    """A home in which a recall, and more than four mailboxes, take a second pair of eyes."""
    with (home / "hq.toml").open("a", encoding="utf-8") as file:
        file.write('\n[approval]\nabove_mailboxes = 4\nkinds = ["recall"]\n')
    return home


WAVES = ("--pilot", "S1", "--waves", "50", "--done-percent", "90", "--within", "24h")


def test_every_option_of_publish_is_in_what_goes_out(run: Run, home: Path) -> None:
    """What is said reaches the document; what is not said is the kind's."""
    ok(run, "publish", "The first version", "--region", "west", "--kind", "task")
    former = json.loads(run("status", "--json")[1])["directives"][0]["id"]
    found = publish(
        run,
        "Everything",
        *("--region", "West", "--kind", "task", "--body", "All of it.", "--needs", "read"),
        *("--due", "in 2 days", "--forced-from", "in 1 day", "--expires", "in 3 days"),
        *("--priority", "urgent", "--remind", "2h before due", "--remind", "every 4h after due"),
        *("--escalate", "24h late: region manager", "--continuous", "--supersedes", former[:8]),
    )
    assert found["state"] == "issued"
    assert found["forced_from"] < found["due"]
    with open_ledger(home) as ledger:
        (data,) = ledger.connection.execute(
            "SELECT data FROM doc JOIN directive ON doc_no = doc.no WHERE id = ?", (found["id"],)
        ).fetchone()
        document = json.loads(bytes(data))
        plan = ledger.connection.execute(
            "SELECT continuous, author <> '', escalate FROM plan ORDER BY directive_no DESC LIMIT 1"
        ).fetchone()
    assert (found["needs"], document["priority"], document["body"]) == (
        "read",
        "urgent",
        "All of it.",
    )
    assert len(document["remind"]) == 2
    assert document["reasons"], "of the kind task"
    assert document["supersedes"] == former
    assert plan[:2] == (1, 1)
    assert json.loads(plan[2])[0]["late_seconds"] == 86_400
    assert status(run, former)["state"] == "superseded"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--pilot", "S9"), 1, "none of the pilot stores is meant: S9"),
        (("--waves", "50,10"), 1, "must rise"),
        (("--waves", "ten"), 2, "are no shares; write 10,50"),
        (("--done-percent", "90"), 1, "a gate needs waves"),
        ((*WAVES, "--cannot-percent", "101"), 1, "from 0 to 100"),
        ((*WAVES, "--within", "soon"), 2, "is no span of time"),
        (("--rate", "fast"), 2, "is no rate; write 500/h"),
        (("--rate", "0/h"), 2, "is no rate"),
        (("--at", "in 2 hours", "--local"), 1, "one instant for all stores"),
        (("--at", "2020-01-01 10:00"), 2, "past"),
        ((*WAVES, "--at", "tomorrow 06:00", "--local"), 1, "contradict each other"),
        (("--at", "in 2 hours", "--expires", "in 1 hour"), 1, "expire before it goes out"),
        (("--at", "in 2 days", "--expires", "in 1 hour"), 1, "expire before it goes out"),
        (("--remind", "2h before due"), 1, "say --due as well"),
        (("--escalate", "24h late: region manager"), 1, "say --due as well"),
        (("--remind", "often", "--due", "in 2 days"), 2, "often"),
        (("--kind", "tusk", "--due", "someday"), 2, "no time"),
        (("--supersedes", "abcd"), 1, "no directive begins with abcd"),
        (("--supersedes", "x"), 1, "is not the id of a directive"),
        (("--undo", "abcd"), 1, "no directive begins with abcd"),
    ],
)
def test_what_contradicts_itself_is_refused(
    run: Run, home: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    """With the cause, and what to say instead; nothing is written down."""
    errors = refused(run, "publish", "x", "--all", *words, code=code)
    assert says in errors
    assert json.loads(run("status", "--json")[1])["directives"] == []


def test_a_dry_run_shows_waves_and_approval_and_writes_nothing(run: Run, approving: Path) -> None:
    """The same words, without the id."""
    code, out, errors = run("publish", "x", "--all", *WAVES, "--rate", "20/min", "--dry-run")
    assert code == 0
    assert "3: pilot (1), up to 50 % (2), the rest (2)" in out
    assert "it is for 5 mailboxes: above 4 needs approval" in out
    assert "nothing was issued" in errors
    assert json.loads(run("status", "--json")[1])["directives"] == []


def test_a_draft_is_submitted_denied_revised_and_approved_by_another(
    run: Run, approving: Path, as_: Any
) -> None:
    """Neither who wrote it nor who revised it; what goes out is what was approved last."""
    as_("ana")
    one = publish(run, "First words", "--all", "--draft")["short_id"]
    assert status(run, one)["state"] == "draft"
    assert f"hq approve {one}" in ok(run, "submit", one)
    assert "somebody else has to approve it" in refused(run, "approve", one)
    assert "only a draft can be submitted" in refused(run, "submit", one)
    as_("bob")
    assert f"hq revise {one}" in ok(run, "deny", one, "--reason", "wrong words")
    assert "only what waits for approval" in refused(run, "approve", one)
    assert "by bob: wrong words" in run("status", one)[1]
    as_("cem")
    ok(run, "revise", one, "--title", "Second words", "--body", "Better.")
    ok(run, "revise", one, "--body", "Best.", "--due", "2037-01-01 12:00", "--priority", "high")
    found = status(run, one)
    assert (found["due"], found["priority"]) == ("2037-01-01T12:00", "high")
    ok(run, "submit", one)
    for who in ("ana", "ANA", "cem"):
        as_(who)
        assert "somebody else has to approve it" in refused(run, "approve", one)
    as_("bob")
    assert "approved; it is out" in ok(run, "approve", one, "--note", "fine")
    assert "by bob: fine" in run("status", one)[1]
    found = status(run, one)
    assert (found["state"], found["title"], found["body"]) == ("issued", "Second words", "Best.")
    assert "it is issued" in refused(run, "revise", one, "--title", "Too late")
    actions = [line["action"] for line in json.loads(run("audit", "--json")[1])]
    assert {"publish", "submit", "deny", "revise", "approve", "refused"} <= set(actions)


def test_a_kind_that_needs_approval_waits_at_once(run: Run, approving: Path, as_: Any) -> None:
    """Also for one store; its waves and its time begin with the approval."""
    as_("ana")
    found = publish(run, "Pull lot 2231", "--store", "S1", "--kind", "recall")
    assert (found["state"], found["approval"]) == (
        "waiting_for_approval",
        "every recall needs approval",
    )
    later = publish(run, "x", "--all", "--at", "in 2 hours")["short_id"]
    as_("bob")
    assert "it goes out at its time" in ok(run, "approve", later)
    assert status(run, later)["state"] == "scheduled"


def test_a_schedule_is_changed_and_withdrawn_before_it_goes_out(run: Run, field: Field) -> None:
    """On head office's clock or on each store's; back again it is one wave."""
    one = publish(run, "x", "--all", "--at", "in 2 hours", "--expires", "in 90 days")
    short = one["short_id"]
    assert one["state"] == "scheduled"
    assert "would expire before" in refused(run, "schedule", short, "in 91 days")
    assert "local, in the first stores at" in ok(
        run, "schedule", short, "tomorrow 06:00", "--local"
    )
    labels = [wave["label"] for wave in status(run, short)["waves"]]
    assert labels == ["Asia/Tokyo", "Europe/Lisbon"]
    ok(run, "schedule", short, "in 3 hours")
    assert [wave["mailboxes"] for wave in status(run, short)["waves"]] == [5]
    assert "one instant" in refused(run, "schedule", short, "in 3 hours", "--local", code=2)
    assert "is past" in refused(run, "schedule", short, "2020-01-01 10:00", code=2)
    field.hub()
    assert sent(run, short) == 0
    ok(run, "cancel", short, "--reason", "not needed")
    assert status(run, short)["state"] == "cancelled"
    waves = publish(run, "x", "--all", *WAVES, "--draft")["short_id"]
    assert "cannot go by each store's" in refused(run, "schedule", waves, "18:00", "--local")
    out = publish(run, "y", "--all")["short_id"]
    assert "it is issued" in refused(run, "schedule", out, "in 3 hours")


def test_waves_are_paused_resumed_and_stopped_by_hand(run: Run, field: Field) -> None:
    """Who has it keeps it; the hub sends the others only when it may."""
    one = publish(run, "x", "--all", "--kind", "task", *WAVES)["short_id"]
    assert status(run, one)["state"] == "rolling"
    ok(run, "pause", one, "--reason", "wait for the poster")
    field.receipt(one, "S1", State.DONE)
    found = status(run, one)
    assert (found["state"], sent(run, one)) == ("paused", 1)
    assert "it is paused: pause is not possible" in refused(run, "pause", one)
    assert "resumed" in ok(run, "resume", one)
    assert sent(run, one) == 3
    assert "2 mailboxes do not get it" in ok(run, "stop", one)
    assert "not possible" in refused(run, "resume", one)
    assert status(run, one)["state"] == "issued"


def test_a_gate_pauses_with_the_reasons_and_resuming_goes_past_it(run: Run, field: Field) -> None:
    """The reasons are grouped, and the operator decides."""
    one = publish(run, "x", "--all", "--kind", "task", *WAVES)["short_id"]
    field.receipt(one, "S1", State.CANNOT, code="material", reason="no poster")
    found = status(run, one)
    assert found["state"] == "paused"
    assert found["paused_why"] == "0 of 1 done, 1 cannot: more than 0 % cannot; material (1)"
    assert "hq status" in ok(run, "resume", one)
    assert sent(run, one) == 3


def test_reminding_and_removing_are_about_the_open_ones(run: Run, field: Field) -> None:
    """They are counted; twice within five minutes is refused."""
    one = publish(run, "x", "--all", "--kind", "task")["short_id"]
    field.receipt(one, "S1", State.DONE)
    assert "4 mailboxes are reminded" in ok(run, "remind", one, "--text", "Please")
    assert "no oftener than every 5 minutes" in refused(run, "remind", one)
    assert "501 characters" in refused(run, "remind", one, "--text", "x" * 501, code=2)
    assert "1 of 2 were open" in ok(run, "remove", one, "--store", "S1", "--store", "S2")
    found = status(run, one)
    assert (found["states"]["removed"], found["mailboxes"]) == (1, 5)


def test_what_was_done_is_offered_to_be_undone(run: Run, field: Field) -> None:
    """The undo task goes to those who had done it, and only to what was withdrawn."""
    one = publish(run, "x", "--all", "--kind", "task")["short_id"]
    field.receipt(one, "S1", State.DONE)
    field.receipt(one, "S2", State.READ)
    assert "only what was withdrawn" in refused(run, "publish", "Undo", "--undo", one)
    assert "only what was withdrawn" in refused(run, "publish", "Undo", "--undo", one, "--all")
    assert f"--undo {one}" in ok(run, "cancel", one, "--reason", "A mistake")
    assert "it is cancelled" in refused(run, "cancel", one)
    undo = publish(run, "Undo it", "--undo", one, "--kind", "task")
    assert undo["mailboxes"] == 1
    assert [row["store"] for row in json.loads(run("who", undo["id"], "--json")[1])] == ["S1"]
    assert "nothing can stand in" in refused(run, "publish", "x", "--supersedes", one)


def test_a_newer_version_goes_to_whom_the_former_went(
    run: Run, field: Field, as_: Any, home: Path
) -> None:
    """Withdrawing the former takes the right to withdraw it, in all of its regions."""
    one = publish(run, "Version 1", "--region", "east")["short_id"]
    (home / "operators.toml").write_text(
        '[operators.ana]\nmay = "operator"\nregions = ["east"]\n'
        '[operators.eve]\nmay = ["publish"]\n'
        '[operators.root]\nmay = "admin"\n',
        encoding="utf-8",
    )
    as_("eve")
    assert "does not have the right cancel" in refused(
        run, "publish", "Version 2", "--supersedes", one
    )
    as_("ana")
    two = publish(run, "Version 2", "--supersedes", one)
    assert two["mailboxes"] == 2
    assert status(run, one)["state"] == "superseded"
    as_("root")
    everywhere = publish(run, "Everywhere", "--all")["short_id"]
    as_("ana")
    errors = refused(run, "publish", "x", "--store", "S1", "--supersedes", everywhere)
    assert "not in west" in errors
    assert "not in west" in refused(run, "cancel", everywhere)


def test_stores_see_the_operators_name(
    run: Run, home: Path, as_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people call the operator; without a file, who is at work; never the machine's user."""
    monkeypatch.delenv("STOREBUS_BY")
    as_("mei")
    assert status(run, publish(run, "One", "--all")["id"])["issued_by"] == "mei"
    names = '[operators.mei]\nmay = "admin"\ndisplay_name = "Mei Chen"\n'
    (home / "operators.toml").write_text(names, encoding="utf-8")
    two = publish(run, "Two", "--all")["id"]
    assert status(run, two)["issued_by"] == "Mei Chen"
    ok(run, "cancel", two)
    assert status(run, two)["cancelled_by"] == "Mei Chen"
    assert status(run, publish(run, "3", "--all", "--by", "Ben")["id"])["issued_by"] == "Ben"


def test_what_is_past_due_at_once_is_told(run: Run, home: Path) -> None:
    """Before it is sent: a time of today may be over where the day began long ago."""
    past = (datetime.now(UTC) - timedelta(hours=11)).strftime("%Y-%m-%d %H:%M")
    told = ok(run, "publish", "x", "--all", "--due", past, "--dry-run")
    assert "it is past due already in" in told
    told = ok(run, "publish", "x", "--all", "--due", "in 2 h", "--dry-run")
    assert "past due" not in told


def test_a_refused_move_names_commands_that_there_are(run: Run, home: Path) -> None:
    """Whatever state it is in, the hint is something that can be typed."""
    one = publish(run, "x", "--all", "--draft")["id"]
    hint = refused(run, "pause", one)
    assert "hq submit, hq schedule, hq cancel, hq publish --supersedes" in hint
    assert "no store had heard of it" in ok(run, "cancel", one)
    assert "0 of 5" in run("status", one)[1]
    assert "never sent" in run("status", one)[1]
    assert "yet to get it" not in run("who", one)[2]


def test_what_stands_in_for_another_tells_where_the_audience_differs(run: Run, home: Path) -> None:
    """A role alone means every store: that is said before it is too late."""
    old = publish(run, "Plan 7", "--region", "east", "--role", "manager")["short_id"]
    again = ("publish", "Plan 8", "--supersedes", old, "--dry-run")
    assert "mailboxes" not in ok(run, *again)
    told = ok(run, *again, "--role", "manager")
    assert "2 of these mailboxes did not have" in told
    told = ok(run, *again, "--store", "S1", "--role", "manager")
    assert "from 1 mailboxes the other one is taken" in told
