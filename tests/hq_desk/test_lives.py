"""The lives of directives and deliveries, in every order in which things can happen."""

import itertools
from collections.abc import Iterator

import pytest

from buswire.states import SAYABLE, STORE_RANK, Needs, State, is_open
from hqconsole.kinds import Kind
from hqconsole.ledger import deliveries, directives, steps, withdrawing
from hqconsole.ledger.deliveries import ARRIVED_LATE, DONE_AFTER_DUE
from hqconsole.lifecycle import (
    LIVE,
    MACHINE,
    UNFINISHED,
    UNSENT,
    Action,
    DirectiveState,
    LifecycleError,
    moved,
)
from tests.hq_desk.office import AT, SIBLING, new_id
from tests.hq_desk.rollouts import Rollouts

CLOSED_AT = AT + 100
DUE_AT = AT + 50


@pytest.fixture
def hq() -> Iterator[Rollouts]:
    """Head office with four stores."""
    hq = Rollouts()
    yield hq
    hq.ledger.close()


def test_nothing_leaves_a_withdrawal_and_only_what_was_sent_is_live() -> None:
    """What the names of the sets say is what the machine has."""
    states = set(DirectiveState)
    assert {state for state in states if not MACHINE[state]} == {
        DirectiveState.SUPERSEDED,
        DirectiveState.CANCELLED,
    }
    for state in states - {DirectiveState.SUPERSEDED, DirectiveState.CANCELLED}:
        assert MACHINE[state][Action.CANCEL] is DirectiveState.CANCELLED
        assert MACHINE[state][Action.SUPERSEDE] is DirectiveState.SUPERSEDED
    assert not LIVE & UNSENT
    for state in UNSENT:
        assert state is DirectiveState.DRAFT or Action.REVISE in MACHINE[state]
    for state in states - UNSENT:
        assert not set(MACHINE[state].values()) & UNSENT, "what was sent is never unsent"
    with pytest.raises(LifecycleError, match="it is denied: stop is not possible"):
        moved(DirectiveState.DENIED, Action.STOP)


def test_states_in_queries_are_those_of_the_code() -> None:
    """SQL cannot name an enum."""
    assert set(steps.LIVE_STATES.strip("()").replace("'", "").split(", ")) == set(LIVE)
    ended = set(deliveries.ENDED_BY_HQ.strip("()").replace("'", "").split(", "))
    assert ended == withdrawing.WITHDRAWN | {DirectiveState.EXPIRED}
    assert set(DirectiveState) - UNFINISHED >= ended


Said = tuple[State, float]
POOLS: tuple[tuple[Said, ...], ...] = (
    (
        (State.DELIVERED, AT + 10),
        (State.READ, AT + 40),
        (State.CANNOT, AT + 60),
        (State.DONE, AT + 70),
    ),
    (
        (State.READ, AT + 20),
        (State.IN_PROGRESS, AT + 30),
        (State.DONE, AT + 120),
        (State.READ, AT + 20),
    ),
    (
        (State.READ, AT + 20),
        (State.DONE, AT + 30),
        (State.CANNOT, AT + 130),
        (State.DONE, AT + 140),
    ),
    ((State.DELIVERED, AT + 20), (State.READ, AT + 110), (State.CANNOT, AT + 120)),
)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("needs", Needs)
@pytest.mark.parametrize("end", ["expire", "cancel"])
def test_the_order_in_which_words_arrive_changes_nothing(
    needs: Needs, pool: tuple[Said, ...], end: str
) -> None:
    """Of several devices, twice, before or after HQ's end: it is the best of what was in time."""
    orders = [
        (order, split)
        for order in sorted(set(itertools.permutations(pool)))
        for split in range(len(pool) + 1)
        if all(at <= CLOSED_AT for _, at in order[:split])  # nobody says it before it is
    ]
    stores = [f"S{number}" for number in range(len(orders))]
    hq = Rollouts()
    hq.roster(*stores)
    no = hq.out(kind=Kind("x", needs=needs), due="in 1 hour")
    numbers = [row[0] for row in hq.rows("SELECT mailbox_no FROM delivery ORDER BY mailbox_no")]
    in_time = [state for state, at in pool if at <= CLOSED_AT]
    best = max(in_time, key=STORE_RANK.__getitem__)
    hq_state = State.EXPIRED if end == "expire" else State.CANCELLED
    with hq.ledger.write() as connection:

        def hear(mailbox_no: int, said: Said) -> None:
            before = hq.code(no, mailbox_no)
            deliveries.move(
                connection,
                no,
                mailbox_no,
                said[0],
                said_at=said[1],
                arrival_no=1,
                at=said[1],
                due_at=lambda _: DUE_AT,
            )
            after = hq.code(no, mailbox_no)
            ranks = [STORE_RANK.get(state, -1) for state in (before, after)]
            assert ranks[0] <= ranks[1], "it went backwards"

        for mailbox_no, (order, split) in zip(numbers, orders, strict=True):
            for said in order[:split]:
                hear(mailbox_no, said)
        there = hq.there()
        if end == "expire":
            directives.expire(
                connection, no, organisation=lambda: there, at=CLOSED_AT, new_id=new_id
            )
        else:
            withdrawing.cancel(
                connection, no, reason="", by="", organisation=there, at=CLOSED_AT, new_id=new_id
            )
        for mailbox_no, (order, split) in zip(numbers, orders, strict=True):
            for said in order[split:]:
                hear(mailbox_no, said)
    for mailbox_no, (order, split) in zip(numbers, orders, strict=True):
        heard_before = [state for state, _ in order[:split]]
        best_before = max(heard_before, key=STORE_RANK.__getitem__, default=State.PENDING)
        state = hq.code(no, mailbox_no)
        assert state is (hq_state if is_open(best, needs) else best), (order, split)
        ((late, before_hq),) = hq.rows(
            "SELECT ifnull(late, 0), before_hq FROM delivery WHERE mailbox_no = ?", mailbox_no
        )
        closed_by_hq = is_open(best_before, needs)
        assert (before_hq is not None) is closed_by_hq, "what HQ closed it says"
        if closed_by_hq:
            assert deliveries.STATE_OF[before_hq] is best_before
        came_late = state in SAYABLE and STORE_RANK[best_before] < STORE_RANK[best]
        assert bool(late & ARRIVED_LATE) is came_late, (order, split)
    hq.ledger.close()


def test_done_after_due_goes_by_the_clock_of_the_store() -> None:
    """The same minute is late in Tokyo and in time in Lisbon; in summer time, too."""
    zones = {"S1": "Asia/Tokyo", "S2": "Europe/Lisbon"}
    hq = Rollouts(["S1", "S2"], zones=zones, at=1_806_105_600.0)  # 2027-03-27 00:00 UTC
    no = hq.out(due="2027-03-28 18:00")  # Lisbon is an hour ahead of UTC from that morning on
    hq.let_pass(41 * 3600 - 10)  # 17:00 UTC, but for ten seconds
    for store in ("S1", "S2"):
        hq.answer(no, store, State.DONE)
    assert (hq.late(no, "S1"), hq.late(no, "S2")) == (DONE_AFTER_DUE, 0)
    hq.ledger.close()


def test_hq_alone_expires_and_says_so_once(hq: Rollouts) -> None:
    """A store's word never expires anything; one record tells all, and none to those who did it."""
    no = hq.out(expires="in 2 hours")
    hq.answer(no, "S1", State.DONE)
    hq.answer(no, "S2", State.EXPIRED)
    assert hq.sent(no)["S2"] is State.PENDING
    hq.later(7201)
    assert hq.state(no) is DirectiveState.EXPIRED
    assert hq.sent(no) == dict.fromkeys(("S2", "S3", "S4"), State.EXPIRED) | {"S1": State.DONE}
    hq.later(7200)
    assert hq.actions(no).count("expire") == 1
    hq.check(no)


def test_a_cancel_is_proved_per_store(hq: Rollouts) -> None:
    """Never seen, read, started and done stand apart; of two devices the one further counts."""
    no = hq.out()
    hq.enrol(SIBLING)
    hq.answer(no, "S1", State.READ)
    hq.answer(no, "S2", State.DONE)
    hq.cancel(no)
    for store, was, device in (
        ("S1", State.IN_PROGRESS, "till-2"),
        ("S1", State.READ, "till-1"),
        ("S3", State.PENDING, "till-1"),
        ("S1", State.READ, "till-1"),
    ):
        hq.withdrawn(no, store, was, device=device)
    found = hq.rows(
        "SELECT store.id, before_hq, was FROM delivery"
        " JOIN mailbox ON mailbox.no = mailbox_no JOIN store ON store.no = store_no"
    )
    code = deliveries.STATE_CODES
    assert sorted(found) == [
        ("S1", code[State.READ], code[State.IN_PROGRESS]),
        ("S2", None, None),
        ("S3", code[State.PENDING], code[State.PENDING]),
        ("S4", code[State.PENDING], None),
    ]
    with hq.ledger.read() as connection:
        assert {one.store for one in withdrawing.done_before(connection, no)} == {"S2"}
    with pytest.raises(LifecycleError, match="it is cancelled: cancel is not possible"):
        hq.cancel(no)
    assert hq.rows("SELECT count(*) FROM cancel") == [(1,)]


def test_a_newer_version_withdraws_the_former_once_all_of_it_is_out(hq: Rollouts) -> None:
    """Whoever is to get the new one later keeps the old one as long."""
    old = hq.out("Version 1")
    new = hq.out("Version 2", supersedes=hq.id_of(old), percents=[50])
    assert hq.state(old) is DirectiveState.ISSUED
    for store in hq.sent(new):
        hq.answer(new, store, State.DONE)
    hq.tick()
    assert not hq.planned(new)
    assert hq.state(old) is DirectiveState.SUPERSEDED
    assert hq.rows("SELECT superseded_by_no FROM directive WHERE no = ?", old) == [(new,)]


@pytest.mark.parametrize("form", ["draft", "waiting", "denied", "scheduled"])
def test_a_newer_version_withdraws_one_that_never_went_out(hq: Rollouts, form: str) -> None:
    """The hub does not stumble over it, and it never goes out."""
    old = hq.write("Version 1", starts="in 2 hours")
    if form == "scheduled":
        hq.start(old)
    elif form != "draft":
        hq.submit(old)
    if form == "denied":
        hq.deny(old)
    new = hq.write("Version 2", starts="in 1 hour", supersedes=hq.id_of(old))
    hq.start(new)
    hq.later(3 * 3600)
    assert hq.state(new) is DirectiveState.ISSUED
    assert hq.state(old) is DirectiveState.SUPERSEDED
    assert not hq.sent(old)
    assert hq.incidents() == []
    hq.check(old)


def test_removed_stores_are_counted_apart_and_never_get_it(hq: Rollouts) -> None:
    """Also one that a later wave would have reached; what is left completes the directive."""
    no = hq.out(pilot=["S1"])
    assert hq.sent(no).keys() == {"S1"}
    hq.new_records(no)
    assert hq.remove(no, "S1", "S4") == 2
    assert hq.remove(no, "S4", "S9") == 0
    hq.tick()
    assert hq.sent(no).keys() == {"S1", "S2", "S3", "S4"}
    assert set().union(*hq.new_records(no)) == {"S2", "S3"}
    for store in ("S2", "S3"):
        hq.answer(no, store, State.DONE)
    assert hq.state(no) is DirectiveState.COMPLETED
    hq.check(no)


def test_reminding_by_hand_keeps_its_distance_and_goes_to_the_open_ones(hq: Rollouts) -> None:
    """Not oftener than every five minutes, also when the clock was put back in between."""
    no = hq.out()
    hq.answer(no, "S1", State.DONE)
    assert hq.remind(no) == 3
    assert set().union(*hq.new_records(no, "remind")) == {"S2", "S3", "S4"}
    with pytest.raises(Exception, match="all were reminded 0 seconds ago"):
        hq.remind(no)
    hq.at -= 86_400
    assert hq.remind(no) == 3
