"""What the hub does of itself: joiners, lateness, outages, and plans that make it fail."""

from collections.abc import Iterator

import pytest
from msgspec import Raw

from buskit.database import DatabaseFull
from buswire.cursors import START
from buswire.messages import Bye, Receipt, Record, Records, encode_data
from buswire.states import State
from hqconsole.attending import AGAIN_SECONDS, NO_JOINERS
from hqconsole.desk import Linked, Unlinked
from hqconsole.errors import HqError
from hqconsole.hearing import Hearing
from hqconsole.ledger import lifecycles, steps
from hqconsole.ledger.arrivals import DEFECT
from hqconsole.lifecycle import DirectiveState
from hqconsole.rollout import Gate
from hqconsole.selector import Selector
from hqconsole.timing import DeskTiming
from tests.hq_desk.office import RUN, new_id
from tests.hq_desk.rollouts import Rollouts

HOUR = 3600.0
SETTLING_SECONDS = DeskTiming().settling_seconds


@pytest.fixture
def hq() -> Iterator[Rollouts]:
    """Head office with four stores, whose hub was heard for long."""
    hq = Rollouts()
    hq.later(SETTLING_SECONDS)
    yield hq
    hq.ledger.close()


# --- what a command began ------------------------------------------------------------------------


def test_the_hub_goes_on_with_what_a_command_began(hq: Rollouts) -> None:
    """No store says anything, and yet the next slice goes and the gate's time runs out."""
    slow = hq.out(rate_per_hour=1.0)
    gated = hq.out(pilot=["S1"], gate=Gate(within_seconds=HOUR))
    hq.later(HOUR)
    assert len(hq.sent(slow)) == 2
    assert hq.state(gated) is DirectiveState.PAUSED
    ((why,),) = hq.rows("SELECT paused_why FROM plan WHERE directive_no = ?", gated)
    assert why == "0 of 1 done, 0 cannot when its time was over: 100 % were asked for"


def test_the_hub_wakes_when_the_next_thing_is_due(hq: Rollouts) -> None:
    """It need not be asked: what it says of the next time is that of the directive."""
    hq.out(starts="in 2 minutes")
    hq.tick()
    assert hq.desk.next_at(hq.now) <= hq.now + 120
    hq.desk.timing = hq.timing
    no = hq.out(rate_per_hour=60.0)
    hq.later(60)
    assert len(hq.sent(no)) == 2


def test_a_wave_that_was_held_up_does_not_fall_on_the_stores_at_once(hq: Rollouts) -> None:
    """Neither after an outage of twelve hours nor after a pause: the rate goes on from there."""
    no = hq.out(rate_per_hour=1.0)
    hq.let_pass(12 * HOUR)
    hq.restart()
    assert len(hq.sent(no)) == 2
    hq.pause(no)
    hq.later(12 * HOUR)
    assert hq.resume(no) is DirectiveState.ROLLING
    hq.tick()
    assert len(hq.sent(no)) == 3
    hq.later(HOUR)
    assert hq.state(no) is DirectiveState.ISSUED


def test_reasons_are_grouped_when_a_wave_pauses(hq: Rollouts) -> None:
    """The operator sees why, and resuming goes past that wave and not past the next."""
    no = hq.out(pilot=["S1", "S2"], percents=[50], gate=Gate(100, 50))
    hq.answer(no, "S1", State.CANNOT, code="material", reason="no poster came")
    hq.answer(no, "S2", State.CANNOT, reason="too late")
    assert hq.state(no) is DirectiveState.PAUSED
    ((why,),) = hq.rows("SELECT paused_why FROM plan")
    assert why.startswith("0 of 2 done, 2 cannot: more than 50 % cannot; ")
    assert set(why.partition("; ")[2].split(", ")) == {"material (1)", "too late (1)"}
    assert hq.resume(no) is DirectiveState.ROLLING
    hq.tick()
    assert len(hq.sent(no)) == 3
    assert hq.state(no) is DirectiveState.ROLLING


def test_after_a_pause_by_hand_the_gate_is_asked_as_usual(hq: Rollouts) -> None:
    """Resuming goes past a gate only where that is what paused it."""
    no = hq.out(pilot=["S1"])
    hq.pause(no)
    hq.answer(no, "S1", State.READ)
    assert hq.resume(no) is DirectiveState.ROLLING
    hq.tick()
    assert hq.sent(no).keys() == {"S1"}
    hq.answer(no, "S1", State.DONE)
    assert hq.state(no) is DirectiveState.ISSUED


@pytest.mark.parametrize("by", ["hand", "gate"])
def test_what_is_late_is_told_while_it_is_paused(hq: Rollouts, by: str) -> None:
    """Those who have it have it, whatever the others wait for."""
    no = hq.out(pilot=["S1"], due="in 1 hour", escalate=["1h late: region manager"])
    if by == "hand":
        hq.pause(no)
    else:
        with hq.ledger.write() as connection:
            connection.execute("UPDATE plan SET gate = ?", (Gate(within_seconds=60).to_json(),))
        hq.restart()
        hq.later(2 * 300)
    assert by == "hand" or hq.state(no) is DirectiveState.PAUSED
    hq.later(2 * HOUR)
    assert hq.rows("SELECT mailboxes FROM escalation") == [(1,)]


def test_what_is_over_never_goes_out(hq: Rollouts) -> None:
    """After an outage across its start and its end, and when it was approved too late."""
    no = hq.write(starts="in 1 hour", expires="in 3 hours")
    hq.start(no)
    waiting = hq.write(expires="in 3 hours")
    hq.submit(waiting)
    hq.let_pass(12 * HOUR)
    hq.restart()
    assert hq.state(no) is DirectiveState.EXPIRED
    assert not hq.sent(no)
    with pytest.raises(HqError, match="its time was over"):
        hq.approve(waiting)
    assert hq.rows("SELECT count(*) FROM channel_log") == [(0,)]
    hq.check(no)


# --- outages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hub", "link"])
def test_answers_on_their_way_are_waited_for_after_an_outage(hq: Rollouts, how: str) -> None:
    """What stores did in twelve hours of silence counts before a gate shuts or lateness is told."""
    no = hq.out(
        pilot=["S1"],
        gate=Gate(within_seconds=4 * HOUR),
        due="in 2 hours",
        escalate=["1h late: region manager"],
    )
    done_at = hq.at + HOUR
    if how == "link":
        hq.tick(Unlinked())
        hq.later(6 * HOUR)
        hq.later(6 * HOUR)
        hq.tick(Linked())
    else:
        hq.let_pass(12 * HOUR)
        hq.restart()
    hq.later(SETTLING_SECONDS / 2)
    hq.answer(no, "S1", State.DONE, at=done_at)
    assert hq.state(no) is DirectiveState.ISSUED
    hq.later(SETTLING_SECONDS)
    assert hq.rows("SELECT mailboxes FROM escalation") == [(3,)], "the others got it after due"


def test_an_outage_makes_no_burst(hq: Rollouts) -> None:
    """Of several rules that came meanwhile the latest is told, once for each zone and region."""
    hq.people("S1", "S2", "S3", "S4", zones={"S1": "Asia/Tokyo", "S2": "Europe/Lisbon"})
    no = hq.out(
        due="2027-01-16 18:00",
        expires="in 30 days",
        escalate=["1h late: region manager", "4h late: region manager", "90h late: region manager"],
    )
    hq.later(24 * HOUR)
    assert hq.rows("SELECT count(*) FROM escalation") == [(0,)]
    hq.let_pass(48 * HOUR)
    for _ in range(3):
        hq.restart()
        hq.later(SETTLING_SECONDS)
    found = hq.rows("SELECT timezone, rule, mailboxes FROM escalation ORDER BY timezone")
    assert found == [("Asia/Tokyo", 1, 1), ("Europe/Lisbon", 1, 1), ("UTC", 1, 2)]
    hq.answer(no, "S3", State.DONE)
    hq.later(90 * HOUR)
    assert hq.rows("SELECT timezone, mailboxes FROM escalation WHERE rule = 2 ORDER BY 1") == [
        ("Asia/Tokyo", 1),
        ("Europe/Lisbon", 1),
        ("UTC", 1),
    ]


def test_a_link_that_comes_and_goes_does_not_put_lateness_off(hq: Rollouts) -> None:
    """Only a silence in which nobody could answer does."""
    hq.out(due="in 1 hour", escalate=["1h late: region manager"])
    hq.later(2 * HOUR - 10)
    for _ in range(4):
        hq.tick(Unlinked())
        hq.later(5)
        hq.tick(Linked())
    assert hq.rows("SELECT mailboxes FROM escalation") == [(4,)]


# --- continuous audiences ------------------------------------------------------------------------


def test_who_joins_a_continuous_audience_gets_it_and_is_counted_apart(hq: Rollouts) -> None:
    """Once, whatever the roster does and however often the hub dies; it stays open for others."""
    no = hq.out(continuous=True)
    for store in hq.sent(no):
        hq.answer(no, store, State.DONE)
    assert hq.state(no) is DirectiveState.ISSUED, "somebody may join"
    hq.new_records(no)
    for _ in range(2):
        hq.people("S1", "S2", "S3", "S4", "S5")
        hq.restart()
        hq.people("S1", "S2", "S3", "S4")
        hq.tick()
    assert hq.sent(no)["S5"] is State.PENDING
    assert hq.rows("SELECT count(*) FROM delivery WHERE joined_at IS NOT NULL") == [(1,)]
    assert len(hq.new_records(no)) <= 1
    hq.check(no)


def test_who_joined_while_it_went_out_gets_it_behind_the_others(hq: Rollouts) -> None:
    """Nobody is ahead of the pilot, and nobody is forgotten; a draft takes them in when it goes."""
    no = hq.out(continuous=True, pilot=["S1"])
    draft = hq.write(continuous=True)
    hq.people("S1", "S2", "S3", "S4", "S5")
    hq.tick()
    assert hq.sent(no).keys() == {"S1"}
    hq.answer(no, "S1", State.DONE)
    assert hq.sent(no).keys() == {"S1", "S2", "S3", "S4", "S5"}
    hq.start(draft)
    hq.tick()
    assert "S5" in hq.sent(draft)
    hq.check(no)
    hq.check(draft)


def test_who_joins_after_a_stop_gets_nothing(hq: Rollouts) -> None:
    """Stopped is stopped, and it comes to its end."""
    no = hq.out(continuous=True, pilot=["S1"])
    assert hq.stop(no) == 3
    hq.people("S1", "S2", "S3", "S4", "S5")
    hq.restart()
    assert hq.sent(no).keys() == {"S1"}
    hq.answer(no, "S1", State.DONE)
    assert hq.state(no) is DirectiveState.COMPLETED
    hq.check(no)


def test_an_audience_that_cannot_be_judged_any_more_stops_nothing(hq: Rollouts) -> None:
    """The roster lost the column: it is told once, and the hub goes on."""
    no = hq.out(continuous=True, to=Selector(everyone=True))
    with hq.ledger.write() as connection:
        connection.execute(
            "UPDATE plan SET selector = ?", ('{"everyone":true,"where":"area_sqm>800"}',)
        )
    plain = hq.out(pilot=["S1"])
    hq.people("S1", "S2", "S3", "S4", "S5")
    hq.restart()
    assert hq.incidents() == [NO_JOINERS]
    hq.answer(plain, "S1", State.DONE)
    assert hq.sent(plain).keys() == {"S1", "S2", "S3", "S4"}
    hq.answer(no, "S1", State.DONE)
    assert hq.sent(no)["S1"] is State.DONE


# --- plans that make it fail ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE plan SET gate = '{' WHERE directive_no = 1",
        "UPDATE plan SET gate = '{\"never\": 1}' WHERE directive_no = 1",
        "UPDATE plan SET escalate = '[{}]' WHERE directive_no = 1",
        "UPDATE plan SET selector = 'x' WHERE directive_no = 1",
        "UPDATE plan SET rate_per_hour = 'x' WHERE directive_no = 1",
        "DELETE FROM plan WHERE directive_no = 1",
    ],
)
def test_one_bad_plan_stops_no_other(hq: Rollouts, damage: str) -> None:
    """What is due for others is done, what stores say of both is taken, and an operator is told."""
    wish = {"pilot": ["S1"], "due": "in 1 hour", "escalate": ["1h late: region manager"]}
    bad, good = hq.out(continuous=True, **wish), hq.out(expires="in 3 hours", **wish)
    with hq.ledger.write() as connection:
        connection.execute(damage)
    hq.restart()
    for no in (bad, good):
        hq.answer(no, "S1", State.DONE)
        assert hq.sent(no)["S1"] is State.DONE
    assert hq.sent(good).keys() == {"S1", "S2", "S3", "S4"}
    hq.later(4 * HOUR)
    assert hq.state(good) is DirectiveState.EXPIRED
    hq.later(AGAIN_SECONDS)
    told = set(hq.incidents())
    assert told <= {DEFECT, NO_JOINERS}
    assert hq.desk.next_at(hq.now) > hq.now, "it does not spin"


def test_what_failed_is_tried_again(hq: Rollouts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer program may be able to, or whatever it was has passed; nothing was done in part."""
    no = hq.out(starts="in 1 hour")
    move = steps.move

    def fail(*values: object, **more: object) -> None:
        raise KeyError("as planned")

    monkeypatch.setattr(steps, "move", fail)
    hq.later(HOUR)
    hq.later(1)
    assert hq.incidents() == [DEFECT]
    assert not hq.sent(no)
    assert hq.state(no) is DirectiveState.SCHEDULED
    monkeypatch.setattr(steps, "move", move)
    hq.later(AGAIN_SECONDS)
    assert hq.state(no) is DirectiveState.ISSUED
    assert hq.rows("SELECT count(*) FROM channel_log") == [(1,)]


@pytest.mark.parametrize("error", [DatabaseFull("no space", hint=""), KeyError("as planned")])
def test_a_batch_that_was_undone_is_done_again(
    hq: Rollouts, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Who joined, what was touched and what was left from before is not forgotten with it."""
    continuous = hq.out(continuous=True)
    no = hq.out(pilot=["S1"])
    hq.people("S1", "S2", "S3", "S4", "S5")
    hq.desk = hq.another_desk()
    attend = hq.desk._timekeeping.attend

    def fail(_: object) -> None:
        monkeypatch.setattr(hq.desk._timekeeping, "attend", attend)
        raise error

    monkeypatch.setattr(hq.desk._timekeeping, "attend", fail)
    try:
        hq.answer(no, "S1", State.DONE)
    except DatabaseFull:
        assert "S5" not in hq.sent(continuous)
        hq.cursors.clear()
        hq.answer(no, "S1", State.DONE)
    hq.tick()
    assert "S5" in hq.sent(continuous)
    assert hq.sent(no).keys() == {"S1", "S2", "S3", "S4"}


def test_what_was_touched_in_a_bad_batch_is_looked_at_in_the_next(
    hq: Rollouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message on which the program fails costs those beside it no completion."""
    no = hq.out(to=Selector(stores=("S1",)))
    hear = Hearing.hear

    def fail(hearing: Hearing, batch: object, event: object) -> None:
        if b'"bye"' in event.payload:  # type: ignore[attr-defined]
            raise KeyError("as planned")
        hear(hearing, batch, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Hearing, "hear", fail)
    said = Receipt(directive=hq.id_of(no), role="any", state=State.DONE)
    done = Record(id=new_id(), kind="receipt", at=hq.at, data=Raw(encode_data(said)))
    hq.hear(Records(log="act", after=START, records=[done]), Bye(run=RUN))
    assert hq.sent(no)["S1"] is State.DONE
    assert hq.state(no) is DirectiveState.COMPLETED


# --- approval ------------------------------------------------------------------------------------


def test_what_goes_out_is_what_was_approved(hq: Rollouts) -> None:
    """Text and audience have one digest; only the time and the channels are added."""
    no = hq.write("Approved", pilot=["S1"])
    hq.submit(no)
    with hq.ledger.read() as connection:
        approved = lifecycles.fingerprint(connection, no)
    assert hq.approve(no) is DirectiveState.ROLLING
    digests = {step.digest for step in steps.steps(hq.ledger.connection, no) if step.digest}
    assert digests == {approved}
    with hq.ledger.read() as connection:
        assert lifecycles.fingerprint(connection, no) == approved
    hq.answer(no, "S1", State.DONE)
    with hq.ledger.read() as connection:
        assert lifecycles.fingerprint(connection, no) == approved


def test_what_was_revised_needs_approval_anew(hq: Rollouts) -> None:
    """Whoever wrote on it is known, also who changed a draft; a scheduled one does not go out."""
    import msgspec

    no = hq.write("First words", starts="in 1 hour", author="ana")
    hq.submit(no)
    hq.approve(no, by="bob")
    assert hq.state(no) is DirectiveState.SCHEDULED
    with hq.ledger.write() as connection:
        for by, title in (("cem", "Other words"), ("dan", "Last words")):
            lifecycles.revise(
                connection,
                no,
                lambda one: msgspec.structs.replace(one, title=title),  # noqa: B023
                by=by,
                at=hq.at,
            )
        assert lifecycles.writers(connection, no) == {"ana", "cem", "dan"}
    hq.later(2 * HOUR)
    assert hq.state(no) is DirectiveState.DRAFT
    assert not hq.sent(no)
    with pytest.raises(HqError, match="only what waits for approval"):
        hq.approve(no)
    hq.submit(no)
    assert hq.approve(no, by="bob") is DirectiveState.ISSUED
    digests = [step.digest for step in steps.steps(hq.ledger.connection, no) if step.digest]
    assert len(set(digests)) == 2
    hq.check(no)
