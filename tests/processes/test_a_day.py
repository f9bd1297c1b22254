"""A day of a small chain, from both ends: each paragraph of what people can do, by real commands.

One chain runs for all of it: a broker, the hub, and five devices in four stores. Each test has
directives of its own and leaves the others' alone.
"""

# ruff: noqa: RUF001 - Chinese has commas and brackets of its own

import csv
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.processes.chain import ROLE
from tests.processes.day import SHOPS, Day, past_in_shanghai, some_day, soon

OPERATORS = """
[operators.ana]
department = "Operations"
may = "operator"
kinds = ["notice", "task"]
regions = ["east"]
manages = ["east"]

[operators.root]
may = "admin"
"""


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """The chain, all of it there; S001 has two devices."""
    with Day(tmp_path_factory.mktemp("day")) as chain:
        chain.add_till("S001", "till-2").start()
        chain.wait_online()
        yield chain


def test_states_say_who_when_and_how_late(day: Day) -> None:
    """Read, started and done have a name and a clock; what was done in time offline counts."""
    withdrawn = day.to_stores("Take the sign in", "S003")
    late = day.to_stores("Set up the display", "S001", words=("--due", past_in_shanghai()))
    day.wait_states(withdrawn, S003="delivered")
    day.wait_states(late, S001="delivered")
    expiring = day.to_stores("Count the carts", "S003", words=("--expires", soon(10)))
    day.wait_states(expiring, S003="delivered")
    with day.away(day.till("S003")):
        day.staff("S003", "done", withdrawn[:8], expiring[:8], "--by", "Carla")
        day.told("cancel", withdrawn)
        day.staff("S001", "read", late[:8], "--by", "Ana")
        day.staff("S001", "start", late[:8], "--by", "Ana")
        day.staff("S001", "done", late[:8], "--by", "Ben", "--note", "two tables")
        said = day.staff("S001", "read", late[:8], "--by", "Ana", device="till-2")
        assert "head office hears of it" not in said, "what is done is not read again"
        day.wait_directive(late, "completed")
        day.wait_directive(expiring, "expired")
        assert day.states(withdrawn) == {("S003", ROLE): "cancelled"}
        assert day.states(expiring) == {("S003", ROLE): "expired"}
    chain = day.why("S001", late)
    links = chain["links"]
    assert chain["missing"] is None
    assert [links[name]["by"] for name in ("read", "started", "answered")] == ["Ana", "Ana", "Ben"]
    for name in ("saved", "read", "started", "answered"):
        assert links[name]["device"] in ({"till-1", "till-2"} if name == "saved" else {"till-1"})
        assert abs(links[name]["at"] - links[name]["said_at"]) < 60
        assert abs(links[name]["clock_offset_seconds"]) < 60
    assert "two tables, late: it was due" in links["answered"]["words"]
    assert day.who(late, "--state", "done")["S001"]["done_late"]
    for directive, state in ((withdrawn, "cancelled"), (expiring, "expired")):
        day.wait_states(directive, S003="done")
        found = day.status(directive)
        assert (found["state"], found["late"], found["done_late"]) == (state, 1, 0)
        assert found["states"]["done"] == 1


def test_an_audience_is_exact_frozen_and_can_be_checked(day: Day) -> None:
    """By columns, under a name, with exclusions; its digest is anybody's to compute."""
    day.told("audience", "save", "flagships", "--where", "format=flagship and area_sqm>800")
    words = ("--audience", "flagships", "--store", "S004", "--exclude-region", "west")
    words += ("--role", ROLE, "--role", "clerk")
    asked = day.hq_json("publish", "New lamps", *words, "--dry-run")
    assert asked["unserved_mailboxes"] == ["S001/clerk", "S004/clerk"]
    issued = day.issue_to("New lamps", *words)
    rows = day.hq_json("who", issued)
    lines = [f"{row['store']}/{row['role']}\n" for row in rows]
    assert set(lines) == {
        f"{store}/{role}\n" for store in ("S001", "S004") for role in (ROLE, "clerk")
    }
    summed = subprocess.run(
        "LC_ALL=C sort | sha256sum",
        shell=True,
        input="".join(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    assert day.status(issued)["digest"] == summed.stdout.split()[0] == asked["digest"]
    alone = day.hq_json("who", issued, "--no-device")
    assert [(row["store"], row["role"]) for row in alone] == [("S001", "clerk"), ("S004", "clerk")]

    words = ("--audience", "flagships", "--continuous")
    asked = day.hq_json("publish", "House rules", *words)
    growing = asked["id"]
    day.shops["S005"] = "south,Asia/Tokyo,flagship,1000"
    day.import_roster()
    try:
        day.wait_states(growing, S005="pending")
        after = day.status(growing)
        assert (after["mailboxes"], after["digest"]) == (2, asked["digest"])
        assert after["joined"]["mailboxes"] == 1
        assert (after["drift"]["joined"], after["drift"]["taken_in"]) == (
            ["S005/any"],
            ["S005/any"],
        )
        assert day.who(growing)["S005"]["joined_at"] > after["issued_at"]
    finally:
        del day.shops["S005"]
        day.import_roster()


def test_due_is_on_each_store_s_own_clock_and_a_schedule_can_be_changed(day: Day) -> None:
    """One `Friday 18:00` is three moments; nobody hears of what was withdrawn before its time."""
    six, eight = some_day("18:00"), some_day("20:00")
    words = ("--due", six, "--forced-from", eight)
    issued = day.to_stores("Golden Week", "S001", "S003", "S004", words=words)
    day.wait_states(issued, S001="delivered", S003="delivered", S004="delivered")
    moments = set()
    rows = day.who(issued)
    for store, zone in (
        ("S001", "Asia/Shanghai"),
        ("S003", "America/New_York"),
        ("S004", "Europe/Paris"),
    ):
        (row,) = day.on_the_list(store, issued)
        local = datetime.fromtimestamp(row["due_at"], ZoneInfo(zone))
        assert f"{local:%A %H:%M}" == six
        assert rows[store]["due_at"] == row["due_at"]
        assert rows[store]["due_local"] == row["due"] == f"{local:%Y-%m-%dT%H:%M}"
        assert row["forced_at"] - row["due_at"] == 7200
        moments.add(row["due_at"])
    assert len(moments) == 3

    planned = day.to_stores(
        "Price labels", "S001", "S003", "S004", words=("--at", some_day("06:00"), "--local")
    )
    found = day.status(planned)
    assert found["state"] == "scheduled"
    assert [(wave["label"], wave["mailboxes"]) for wave in found["waves"]] == [
        ("Asia/Shanghai", 1),
        ("Europe/Paris", 1),
        ("America/New_York", 1),
    ]
    at_once = day.to_stores("Open the doors", "S004", words=("--at", soon(3600)))
    seven = some_day("07:00")
    day.told("schedule", planned, seven)
    day.told("schedule", at_once, soon(8))
    (wave,) = day.status(planned)["waves"]
    assert f"{datetime.fromtimestamp(wave['not_before_at'], UTC):%A %H:%M}" == seven
    day.told("cancel", planned, "--reason", "next year")
    day.wait_states(at_once, S004="delivered")
    found = day.status(at_once)
    assert found["issued_at"] >= datetime.fromisoformat(found["starts"]).timestamp()
    found = day.status(planned)
    assert (found["state"], found["issued_at"]) == ("cancelled", None)
    assert found["withdrawal"]["never_sent"] == 3
    assert day.on_the_list("S004", planned) == []


def test_only_those_who_have_not_are_reminded_and_lateness_goes_to_the_region(day: Day) -> None:
    """By hand to the open ones; by the device itself with no broker; late in one region only."""
    issued = day.to_stores("Check the fridges", "S001", "S003")
    day.wait_states(issued, S001="delivered", S003="delivered")
    day.staff("S001", "done", issued[:8])
    day.wait_states(issued, S001="done")
    assert "1 mailbox" in day.told("remind", issued, "--text", "The auditor comes.")
    assert "no oftener than every 5 minutes" in day.hq("remind", issued, code=1)
    day.wait_here(day.till("S003"), issued, lambda item: item["reminded"])
    (row,) = day.on_the_list("S003", issued)
    assert row["reminder"] == "The auditor comes."
    (row,) = day.on_the_list("S001", issued)
    assert (row["reminded"], row["reminder"]) == (False, "")

    late = day.to_stores(
        "Enter the temperatures",
        *("S001", "S003"),
        words=("--due", past_in_shanghai(), "--escalate", "1h late: region manager"),
    )
    query = "SELECT 1 FROM escalation JOIN directive ON directive.no = directive_no WHERE id = ?"
    day.wait(lambda: day.rows(query, late), "the escalation")
    told = [row for row in day.hq_json("escalations") if row["directive"] == late]
    assert [(row["region"], row["mailboxes"], row["late_seconds"]) for row in told] == [
        ("east", 1, 3600)
    ]
    assert set(day.who(late, "--overdue")) == {"S001"}
    day.told("escalations", "--seen", str(told[0]["no"]))
    assert late not in {row["directive"] for row in day.hq_json("escalations")}


def test_a_device_reminds_by_itself_while_the_broker_is_dead(day: Day) -> None:
    """The hook rings at the due time, although nothing can be heard."""
    till = day.till("S004")
    rung = day.folder / "rung"
    identity = ("--store", till.store, "--device", till.device)
    with day.away(till):
        hook = f'echo "$STOREBUS_EVENT $STOREBUS_TITLE" >> "{rung}"'
        day.staff("S004", "init", *identity, "--hook", hook)
    words = ("--due", soon(10), "--remind", "at due")
    issued = day.to_stores("Count the till", "S004", words=words)
    day.wait(lambda: rung.exists() and "arrival Count the till" in rung.read_text(), "the arrival")
    day.bus.kill()
    try:
        day.wait(lambda: "reminder Count the till" in rung.read_text(), "the reminder")
        (row,) = day.on_the_list("S004", issued)
        assert row["reminded"]
        assert row["overdue"]
    finally:
        day.bus.start()
    assert rung.read_text().count("Count the till") == 2
    day.wait_online()


def test_a_withdrawal_is_proved_store_by_store(day: Day) -> None:
    """Never seen, read, started, done: each store says how far it was; what was done is undone."""
    issued = day.to_stores("Paint it red", "S001", "S002", "S003")
    day.wait_states(issued, S001="delivered", S002="delivered", S003="delivered")
    day.staff("S001", "done", issued[:8])
    day.staff("S002", "start", issued[:8])
    day.staff("S003", "read", issued[:8])
    day.wait_states(issued, S001="done", S002="in_progress", S003="read")
    with day.away(day.till("S004")):
        unseen = day.to_stores("Paint it green", "S004", "S003")
        day.wait_states(unseen, S003="delivered")
        told = day.told("cancel", issued, "--reason", "it was a joke")
        assert f"--undo {issued[:8]}" in told
        day.told("cancel", unseen)
    for directive, count in ((issued, 3), (unseen, 2)):
        day.wait_proofs(directive, count)
    proof = day.status(issued)["withdrawal"]
    was = {state: count for state, count in proof["was"].items() if count}
    assert was == {"done": 1, "in_progress": 1, "read": 1}
    assert (proof["confirmed"], proof["unconfirmed"]) == (3, 0)
    was = {store: row["was"] for store, row in day.who(unseen, "--state", "cancelled").items()}
    assert was["S003"] == "delivered"
    assert was["S004"] in {"pending", "delivered"}, "in one message with its withdrawal, or not"
    assert [row["state"] for row in day.on_the_list("S004", unseen)] in ([], ["cancelled"])
    undo = day.issue_to("Paint it white again", "--undo", issued, "--kind", "task")
    day.wait_states(undo, S001="delivered")
    assert [row["undoes"] for row in day.on_the_list("S001", undo)] == [issued]
    assert set(day.states(undo)) == {("S001", ROLE)}
    assert [one["id"] for one in day.status(issued)["undone_by"]] == [undo]


def test_versions_of_a_directive_are_one_chain(day: Day) -> None:
    """What stands in for another goes to the same stores, and both ends know the chain."""
    first = day.to_stores("Plan 7", "S002", "S003")
    day.wait_states(first, S002="delivered", S003="delivered")
    second = day.issue_to("Plan 8", "--supersedes", first, "--kind", "task")
    third = day.issue_to("Plan 9", "--supersedes", second[:8], "--kind", "task")
    day.wait_states(third, S002="delivered", S003="delivered")
    found = day.status(second)
    assert found["state"] == "superseded"
    assert (found["supersedes"], found["superseded_by"]) == (first, third)
    assert [one["id"] for one in found["versions"]] == [first, second, third]
    assert [one["this"] for one in found["versions"]] == [False, True, False]
    day.wait_here(day.till("S002"), first, lambda item: item["state"] == "cancelled")
    shown = {row["directive"]: row for row in day.on_the_list("S002", first, second, third)}
    assert shown[first]["superseded_by"] == second
    assert (shown[third]["todo"], shown[third]["supersedes"]) == (True, second)
    assert not shown[first]["todo"]


def test_waves_go_on_over_the_dead_bodies_of_hubs(day: Day) -> None:
    """Pilot, gate, reasons, resume: the hub is killed between any two steps, and none is lost."""
    words = ("--pilot", "S001", "--waves", "50", "--cannot-percent", "40")
    issued = day.to_stores("New till software", *SHOPS, words=words)
    day.wait_states(issued, S001="delivered")
    found = day.status(issued)
    assert (found["state"], found["planned"], found["mailboxes"]) == ("rolling", 3, 4)
    day.hub.kill()
    day.staff("S001", "done", issued[:8])
    day.hub.start()
    day.wait(lambda: len(day.states(issued)) == 3, "the second wave")
    able, unable = sorted({store for store, _ in day.states(issued)} - {"S001"})
    (left,) = SHOPS.keys() - {"S001", able, unable}
    day.wait_states(issued, **{able: "delivered", unable: "delivered"})
    day.hub.kill()
    day.staff(unable, "cannot", issued[:8], "--code", "no-staff")
    day.hub.start()
    day.wait_directive(issued, "paused")
    found = day.status(issued)
    assert "more than 40 % cannot; no-staff (1)" in found["paused_why"]
    assert set(day.who(issued, "--state", "planned")) == {left}
    assert day.why(left, issued)["missing"] == "wave"
    day.hub.kill()
    day.told("resume", issued)
    day.hub.start()
    day.wait_states(issued, **{left: "delivered"})
    rows = day.hq_json("status", issued, "--by", "wave")
    assert {(row["name"], row["mailboxes"]) for row in rows} == {
        ("pilot", 1),
        ("up to 50 %", 2),
        ("the rest", 1),
    }
    day.wait_online()

    by_hand = day.to_stores("Another one", "S002", "S003", words=("--pilot", "S002"))
    day.told("pause", by_hand, "--reason", "wait for the truck")
    day.wait_states(by_hand, S002="delivered")
    day.staff("S002", "done", by_hand[:8])
    assert "1 mailbox" in day.told("stop", by_hand)
    day.wait_directive(by_hand, "completed")
    assert day.states(by_hand) == {("S002", ROLE): "done"}


def test_what_needs_approval_has_four_eyes(day: Day) -> None:
    """Its author cannot approve it; what was denied and written anew needs a yes of its own."""
    with day.operator("ana"):
        recall = day.issue_to(
            "Pull lot 2231", "--store", "S002", "--kind", "recall", "--role", ROLE
        )
        assert "wrote it" in day.hq("approve", recall, code=1)
    with day.operator("bo"):
        day.told("deny", recall, "--reason", "which shelf?")
    with day.operator("ana"):
        day.told("revise", recall, "--body", "Shelf 4, and the cellar.")
        assert "somebody else runs" in day.told("submit", recall)
    assert day.why("S002", recall)["missing"] == "approved"
    assert day.on_the_list("S002", recall) == []
    with day.operator("bo"):
        day.told("approve", recall, "--note", "go")
    day.wait_states(recall, S002="delivered")
    shown = json.loads(day.staff("S002", "show", recall[:8], "--json"))
    assert shown["body"] == "Shelf 4, and the cellar."
    found = day.status(recall)
    assert found["author"] == "ana"
    assert [step["by"] for step in found["steps"] if step["action"] == "approve"] == ["bo"]
    links = day.why("S002", recall)["links"]
    assert (links["written"]["by"], links["approved"]["by"]) == ("ana", "bo")


def test_operators_do_what_they_may_and_the_audit_knows_who_tried_more(day: Day) -> None:
    """A kind, a region, a name that is not listed: refused, and written down."""
    listed = day.home / "operators.toml"
    listed.write_text(OPERATORS)
    try:
        with day.operator("ana"):
            words = ("--store", "S003", "--kind", "task")
            assert "west" in day.hq("publish", "Not mine", *words, code=1)
            words = ("--store", "S002", "--kind", "recall")
            assert "recall" in day.hq("publish", "Not my kind", *words, code=1)
            allowed = day.issue_to("Mine", "--store", "S002", "--kind", "task")
        with day.operator("zed"):
            assert "zed" in day.hq("cancel", allowed, code=1)
    finally:
        listed.unlink()
    refused = [row for row in day.hq_json("audit") if row["action"] == "refused"][-3:]
    assert [(row["operator"], row["detail"]["command"]) for row in refused] == [
        ("ana", "publish"),
        ("ana", "publish"),
        ("zed", "cancel"),
    ]
    assert refused[0]["detail"]["regions"] == ["west"]
    assert refused[1]["detail"]["kind"] == "recall"
    assert refused[0]["detail"]["department"] == "Operations"


def test_everything_can_be_seen(day: Day) -> None:
    """The board, the breakdowns, the reasons, the missing link, the history and the seat."""
    with day.away(day.till("S002")):
        issued = day.to_stores("国庆陈列 display", "S001", "S002", "S003")
        day.wait_states(issued, S001="delivered", S003="delivered")
        day.staff("S001", "reply", issued[:8], "Which", "shelf?", "--by", "Ana")
        code = ("--code", "no-material", "--reason", "海报没有随货到", "--by", "王芳")
        day.staff("S003", "cannot", issued[:8], *code)
        day.wait_states(issued, S003="cannot")
        day.wait_published()
        chain = day.why("S002", issued)
        assert chain["missing"] == "saved"
        assert "till-1" in chain["verdict"]
        assert "storeagent status" in {one["command"] for one in chain["todo"]}
        by_region = {row["group"]: row for row in day.hq_json("status", issued, "--by", "region")}
        assert (by_region["east"]["mailboxes"], by_region["east"]["open"]) == (2, 2)
        assert by_region["west"]["states"]["cannot"] == 1
        rows = day.who(issued)
        assert {store: (row["state"], row["online"]) for store, row in rows.items()} == {
            "S001": ("delivered", True),
            "S002": ("pending", False),
        }
        board = day.hq_json("board", "--once")
        (line,) = [one for one in board["directives"] if one["id"] == issued]
        assert (line["mailboxes"], line["open"], line["cannot"]) == (3, 2, 1)
        assert board["stores"] - board["stores_there"] == 1
        assert "Which shelf?" in {one["text"] for one in board["incoming"]}
    (reason,) = day.hq_json("cannot", issued)
    assert (reason["code"], reason["by"], reason["stores"]) == (
        "no-material",
        {"west": 1},
        ["S003"],
    )
    assert [one["text"] for one in reason["wordings"]] == ["海报没有随货到"]
    day.wait(
        lambda: [
            one
            for one in day.hq_json("search", "海报")
            if (one["directive"], one["by"]) == (issued, "王芳")
        ],
        "the index",
    )
    table = list(csv.DictReader(day.hq("export", "deliveries", issued).splitlines()))
    assert {(row["store"], row["code"]) for row in table} == {
        ("S001", ""),
        ("S002", ""),
        ("S003", "no-material"),
    }
    seat = day.hq_json("handover", "S001", ROLE)
    assert issued in {one["directive"] for one in seat["open"]}
    assert "Which shelf?" in {one["text"] for one in seat["said"]}
    assert "Ana" in {one["name"] for one in seat["people"]}
    assert {one["device"] for one in seat["devices"]} == {"till-1", "till-2"}


def test_staff_see_what_presses_and_their_devices_agree(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overdue, urgent, the rest; what is said on one till is so on the other, in Chinese, too."""
    rest = day.to_stores("三 rest", "S001")
    urgent = day.to_stores("二 urgent", "S001", words=("--priority", "urgent"))
    overdue = day.to_stores("一 overdue", "S001", words=("--due", past_in_shanghai()))
    for directive in (rest, urgent, overdue):
        for device in ("till-1", "till-2"):
            day.wait_here(day.tills[f"S001.{device}"], directive, lambda _: True)
    rows = day.on_the_list("S001", rest, urgent, overdue)
    assert [row["directive"] for row in rows] == [overdue, urgent, rest]
    day.staff("S001", "cannot", overdue[:8], "--code", "no-staff", "--by", "Ana")
    day.wait_here(day.tills["S001.till-2"], overdue, lambda item: item["state"] == "cannot")
    (row,) = day.on_the_list("S001", overdue, device="till-2")
    assert (row["changed_by"], row["code"]) == ("Ana, till-1", "no-staff")
    with day.away(day.tills["S001.till-2"]):
        day.staff("S001", "done", urgent[:8], "--by", "Ben", device="till-2")
        day.staff("S001", "start", urgent[:8], "--by", "Ana")
        day.wait_states(urgent, S001="in_progress")
    day.wait_states(urgent, S001="done")
    day.wait_here(day.tills["S001.till-1"], urgent, lambda item: item["state"] == "done")
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    screen = day.staff("S001", "inbox")
    assert "待办" in screen
    assert "三 rest" in screen
    assert "已完成；联网后会告知总部" in day.staff("S001", "done", rest[:8], "--by", "王芳")
