"""Reminders at a device: by the clock without any link, once, by head office's time; the hook."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from buskit.database import Database, open_database
from buskit.row_sums import row_sum
from buswire import reminding
from buswire.messages import Remind, Reminder, StoreFacts, encode_data
from buswire.states import State
from storeagent.core import Linked
from storeagent.database import (
    APPLICATION_ID,
    MIGRATIONS,
    database_path,
    open_agent_database,
)
from storeagent.effects import CANNOT
from storeagent.hooks import Hooks
from storeagent.inbox import Inbox
from storeagent.memory import Memory
from storeagent.settings import HookSettings
from storeagent.store_clock import StoreClock
from tests.agent.device import Device
from tests.agent.head_office import HeadOffice, Rang, Unlinked
from tests.agent.processes import running_agent, set_up
from tests.agent.words import ALL_ANY, STORE_ANY, Bench, directive, ids
from tests.helpers.waiting import wait_until

HOUR = 3600.0
PARIS = ZoneInfo("Europe/Paris")
DUE = "2026-11-27T18:00"
DUE_AT = datetime(2026, 11, 27, 18, tzinfo=PARIS).timestamp()
RULES = [
    Reminder(from_due_seconds=-2 * HOUR),
    Reminder(from_due_seconds=4 * HOUR, every_seconds=4 * HOUR, window=(480, 1200)),
]
D1 = ids("d", 1)


def _device(begin_at: float, **changes: object) -> Device:
    """A device that heard of directive 1 at that time, and has no link since."""
    hq = HeadOffice()
    device = Device(hq, wall_at=begin_at - 100.0)
    hq.now_at = begin_at
    device.talk(Linked())
    device.handle(hq.issue(ALL_ANY, 1, **({"due": DUE, "remind": RULES} | changes)))
    device.talk()
    device.handle(Unlinked())
    return device


def _events(database: Database, since: int = 0) -> list[tuple[str, float]]:
    """What the hook is to hear of: the kind, and when."""
    return [(one.kind, one.at) for one in Inbox(database).events_since(since, 100)]


def _sleep_until(device: Device, at: float) -> list[float]:
    """Let time pass with all that is due in it; when somebody was reminded."""
    found: list[float] = []
    row = device.core.inbox.delivery(D1, "any")
    before = 0.0 if row is None else row.reminded_at
    for _ in range(6_000):
        next_at = device.core.next_at()
        wall_at = device.wall_at + device.now
        if next_at is None or wall_at + (next_at - device.now) > at:
            device.now += at - wall_at
            return found
        device.now = max(device.now, next_at)
        device.handle(Rang())
        row = device.core.inbox.delivery(D1, "any")
        assert row is not None
        if row.reminded_at != before:
            before = row.reminded_at
            found.append(before)
    raise AssertionError("it never rests")


# --- by the clock --------------------------------------------------------------------------------


def test_a_device_reminds_by_itself_without_a_link() -> None:
    """Two hours before due; four hours after it is night, so in the morning; until it is done."""
    device = _device(DUE_AT - 10 * HOUR)
    assert _sleep_until(device, DUE_AT + 19 * HOUR) == [
        DUE_AT - 2 * HOUR,
        DUE_AT + 14 * HOUR,  # 08:00 next day stands for the three of the night
        DUE_AT + 16 * HOUR,
    ]
    assert _events(device.database) == [("reminder", DUE_AT + 16 * HOUR)]
    device.statements.done(D1, "any")
    assert _sleep_until(device, DUE_AT + 90 * HOUR) == []
    assert device.core.inbox.next_remind_at() is None


def test_a_restart_repeats_nothing_and_loses_nothing() -> None:
    """Restarted right at, and right after, each reminder: each is said once."""
    device = _device(DUE_AT - 10 * HOUR)
    found: list[float] = []
    for at in (DUE_AT - 2 * HOUR - 1, DUE_AT - 2 * HOUR + 1, DUE_AT + 15 * HOUR):
        found += _sleep_until(device, at)
        device.open(device.database)
        device.handle(Rang())
    assert len(set(found)) == len(found) == 2


def test_after_an_outage_one_reminder_and_not_a_burst() -> None:
    """Off from before due until the next noon: the latest step once, and the next in its time."""
    device = _device(DUE_AT - 10 * HOUR)
    device.now += 28 * HOUR  # without a round: it was off
    device.open(device.database)
    at = device.wall_at + device.now
    assert _sleep_until(device, at + 1) == [at]
    assert _events(device.database) == [("reminder", at)]
    assert device.core.arrivals == 1  # whoever wakes the hook goes by it
    assert _sleep_until(device, at + 2.1 * HOUR) == [DUE_AT + 20 * HOUR]


def test_work_that_arrives_late_is_news_and_no_reminder() -> None:
    """The steps before it are passed over; the next one comes."""
    device = _device(DUE_AT + 15 * HOUR)
    assert _events(device.database) == []
    assert _sleep_until(device, DUE_AT + 17 * HOUR) == [DUE_AT + 16 * HOUR]


def test_forced_is_an_event_of_its_own_and_comes_once() -> None:
    """At its moment by the store's clock, or with the work where that has passed."""
    device = _device(DUE_AT - 10 * HOUR, remind=[], due=None, forced_from=DUE)
    _sleep_until(device, DUE_AT - 1)
    assert _events(device.database) == []
    _sleep_until(device, DUE_AT + 5 * HOUR)
    assert _events(device.database) == [("forced", DUE_AT)]
    device.open(device.database)
    _sleep_until(device, DUE_AT + 9 * HOUR)
    assert [kind for kind, _ in _events(device.database)] == ["forced"]
    late = _device(DUE_AT + 1, remind=[], due=None, forced_from=DUE)
    assert [kind for kind, _ in _events(late.database)] == ["forced"]
    (item,) = late.core.inbox.items()
    assert item.forced_from == DUE


def test_another_time_zone_plans_anew() -> None:
    """HQ had the store in the wrong zone: what is to come goes by the new one."""
    device = _device(DUE_AT - 11 * HOUR)
    hq = device.hq
    hq.facts = StoreFacts(name="Seventeen", region="east", timezone="Asia/Tokyo")
    hq.now_at = device.wall_at + device.now
    device.talk(Linked())
    device.handle(Unlinked())
    due_at = datetime(2026, 11, 27, 18, tzinfo=ZoneInfo("Asia/Tokyo")).timestamp()
    assert device.core.facts.timezone == "Asia/Tokyo"
    assert _sleep_until(device, due_at + 60) == [due_at - 2 * HOUR]


def test_work_of_a_program_without_reminders_is_planned_after_the_upgrade(tmp_path: Path) -> None:
    """What it had kept byte for byte has rules; what of them has passed is passed over."""
    path = tmp_path / "agent.db"
    raw = encode_data(directive(1, due=DUE, remind=RULES))
    document = (D1, "Directive 1", "notice", "normal", DUE, 0.0, "", raw, "")
    work = (D1, "any", 1, 1, "done", "delivered", "delivered", 0, 1, 1, 0, 0, 0, 0, 5.0, 5.0)
    work += ("", "", 1)
    before = open_database(
        path, MIGRATIONS[:3], application_id=APPLICATION_ID, what="", hint_create="", create=True
    )
    with before.write() as connection:
        for table, row in (("directive", document), ("delivery", work)):
            marks = ", ".join("?" * (len(row) + 1))
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", (*row, row_sum(*row)))
        Memory(before).keep_facts(StoreFacts(timezone="Europe/Paris"))
    before.close()
    device = Device(HeadOffice(), open_agent_database(path), wall_at=DUE_AT - HOUR)
    device.database.check()
    device.handle(Rang())
    assert _sleep_until(device, DUE_AT + 17 * HOUR) == [DUE_AT + 14 * HOUR, DUE_AT + 16 * HOUR]


def test_where_the_program_fails_on_one_the_others_are_reminded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has no reminders any more, is put aside, and HQ hears of it; the daemon goes on."""
    device = _device(DUE_AT - 10 * HOUR)
    device.talk(Linked())
    device.handle(device.hq.issue(ALL_ANY, 2, due=DUE, remind=[*RULES, RULES[0]]))
    device.talk()
    device.handle(Unlinked())
    real = reminding.judge

    def judge(schedule: reminding.Schedule, *more: object) -> reminding.Verdict:
        if len(schedule.rules) == 3:
            raise ZeroDivisionError("a defect")
        return real(schedule, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(reminding, "judge", judge)
    assert _sleep_until(device, DUE_AT) == [DUE_AT - 2 * HOUR]
    (aside,) = device.core.inbox.asides()
    assert CANNOT in aside.what
    device.talk(Linked())
    assert [CANNOT in str(one["what"]) for one in device.hq.said("trouble")] == [True]


def test_nothing_is_written_while_nothing_comes() -> None:
    """Looking at the clock each minute costs the disk nothing."""
    device = _device(DUE_AT - 10 * HOUR)
    device.handle(Rang())
    changes = device.database.connection.total_changes
    assert _sleep_until(device, DUE_AT - 3 * HOUR) == []
    assert device.database.connection.total_changes == changes


# --- which time ----------------------------------------------------------------------------------


def test_a_till_in_1970_reminds_by_head_offices_time() -> None:
    """Its own clock is wrong by decades, and HQ was heard once."""
    hq = HeadOffice()
    device = Device(hq, wall_at=0.0)
    hq.now_at = DUE_AT - 3 * HOUR
    device.talk(Linked())
    device.handle(hq.issue(ALL_ANY, 1, due=DUE, remind=RULES))
    device.handle(Unlinked())
    device.go_on(HOUR - 1)
    assert _events(device.database) == []
    device.go_on(120)
    ((kind, at),) = _events(device.database)
    assert (kind, round(at - (DUE_AT - 2 * HOUR))) == ("reminder", 0)


def test_a_clock_that_was_ahead_costs_no_reminder_once_head_office_is_heard() -> None:
    """A year ahead from its start and without a link: one false one, then all in their time."""
    device = _device(DUE_AT - 10 * HOUR)
    device.wall_at += 365 * 24 * HOUR
    device.open(device.database)
    device.handle(Rang())
    assert len(_events(device.database)) == 1
    device.hq.now_at = DUE_AT - 9 * HOUR
    device.talk(Linked())
    device.handle(Unlinked())
    device.now += 7 * HOUR - 1
    device.handle(Rang())
    assert _events(device.database, since=1) == []
    device.now += 2
    device.handle(Rang())
    ((_, at),) = _events(device.database, since=1)
    assert round(at - (DUE_AT - 2 * HOUR)) == 1


def test_the_clock_of_the_store() -> None:
    """Mended by HQ's, and never fooled by a clock that is put right or back while it runs."""
    clock = StoreClock()
    assert clock.at(500.0, 1.0) == 500.0
    assert not clock.is_true
    clock.heard(10_000.0, 500.0, 1.0)
    assert clock.is_true
    assert clock.at(600.0, 101.0) == 10_100.0  # its steady error is mended
    assert clock.at(10_100.0, 101.0) == 10_100.0  # somebody has put it right
    assert clock.at(100.0, 101.0) == 10_100.0  # set back
    assert clock.at(30_500.0, 101.0) == 40_000.0  # asleep, as far as anybody can know
    clock.heard(20_000.0, 20_001.0, 200.0)
    assert clock.ahead_seconds == 0.0  # a message's way
    assert StoreClock(-7_200.0).at(9_000.0, 1.0) == 1_800.0  # as measured before
    assert StoreClock(1.7e9).at(9_000.0, 1.0) == 9_000.0  # no steady error


# --- by hand -------------------------------------------------------------------------------------


def _remind(bench: Bench, text: str = "The lorry leaves at six.") -> None:
    bench.take(
        STORE_ANY,
        bench.words.record("remind", Remind(directive=D1, text=text, reminded_by="Mei")),
    )


def test_head_office_reminds_of_open_work_only() -> None:
    """It shows and calls while it is open, says nothing to HQ, and moves nothing."""
    bench = Bench()
    _remind(bench)  # of work that is not here
    bench.take(ALL_ANY, bench.words.issue(1))
    bench.statements.read(D1, "any")
    _remind(bench)
    row = bench.row()
    assert (row.reminder, row.reminded_by) == ("The lorry leaves at six.", "Mei")
    assert (row.reminded_at, row.state) == (bench.now_at, State.READ)
    assert _events(bench.database) == [("reminder", bench.now_at)]
    assert bench.inbox.items()[0].reminded_at == bench.now_at
    bench.statements.done(D1, "any")
    bench.now_at += HOUR
    _remind(bench, "again")
    assert bench.row().reminder == "The lorry leaves at six."
    assert bench.receipts() == ["delivered", "read", "done"]


def test_nobody_is_called_twice_within_five_minutes() -> None:
    """Two of HQ's, and one of a rule beside them: the words are kept, the bell rings once."""
    bench = Bench()
    bench.take(ALL_ANY, bench.words.issue(1, due="1970-01-01T00:18:00Z", remind=[_AT_DUE]))
    for text in ("one", "two"):
        bench.now_at += 50
        _remind(bench, text)
    assert bench.row().reminder == "two"
    bench.now_at = 1_100.0
    with bench.database.write():
        assert not bench.effects.reminders.look(bench.now_at, true_time=True)
    assert _events(bench.database) == [("reminder", 1_050.0)]
    bench.now_at = 1_351.0
    with bench.database.write():
        assert bench.effects.reminders.look(bench.now_at, true_time=True)
    assert _events(bench.database) == [("reminder", 1_351.0)]


_AT_DUE = Reminder(from_due_seconds=0.0)


# --- the hook ------------------------------------------------------------------------------------


def test_the_hook_is_told_which_event_it_is(tmp_path: Path) -> None:
    """Arrival first, then what was said since; for finished work nothing."""
    (tmp_path / "agent.toml").write_text("")
    with open_agent_database(database_path(tmp_path), create=True) as database:
        bench = Bench(database=database)
        for number in (1, 2):
            bench.take(ALL_ANY, bench.words.issue(number, forced_from="1970-01-01T00:00:00Z"))
        with database.write():
            bench.effects.reminders.look(bench.now_at, true_time=True)
        bench.now_at += 400
        _remind(bench)
        bench.statements.done(ids("d", 2), "any")
    out = tmp_path / "out"
    script = (
        "import os,sys; print(os.environ['STOREBUS_EVENT'], sys.stdin.read(), file=open(%r, 'a'))"
    )
    hooks = Hooks(tmp_path, HookSettings(command=(sys.executable, "-Sc", script % str(out))))
    hooks.start()
    try:
        wait_until(lambda: out.exists() and out.read_text().count("\n\n") >= 3, what="three runs")
    finally:
        hooks.stop()
    runs = [line.split(" ", 1) for line in out.read_text().splitlines() if line]
    assert [event for event, _ in runs] == ["arrival", "forced", "reminder"]
    told = [json.loads(text) for _, text in runs]
    assert {one["directive"] for one in told} == {D1}
    assert [one["event"] for one in told] == ["arrival", "forced", "reminder"]


def test_a_daemon_without_any_link_rings_the_hook(tmp_path: Path) -> None:
    """The real process, no broker: a step that comes while it runs reaches the store's command."""
    home, out = tmp_path / "till", tmp_path / "out"
    set_up(home, 1)  # nobody listens there
    due = datetime.fromtimestamp(time.time() + 2, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with open_agent_database(database_path(home)) as database:
        bench = Bench(database=database)
        bench.now_at = time.time()
        bench.take(ALL_ANY, bench.words.issue(1, due=due, remind=[_AT_DUE]))
    with (home / "agent.toml").open("a") as file:
        file.write(f'\n[hook]\ncommand = "echo $STOREBUS_EVENT >> {out}"\n')
    with running_agent(home) as agent:
        wait_until(
            lambda: out.exists() and out.read_text().split() == ["arrival", "reminder"],
            seconds=20,
            what="the reminder",
        )
        agent.stop()
    with open_agent_database(database_path(home)) as database:
        assert Bench(database=database).row().reminded_at > 0
