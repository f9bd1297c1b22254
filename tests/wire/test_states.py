"""States: every move that there is, as a table; none of them goes back."""

from itertools import permutations

import pytest

from buswire.states import (
    CLOSED_BY_HQ,
    SAYABLE,
    STORE_RANK,
    Needs,
    State,
    Verdict,
    higher,
    is_open,
    judge_receipt,
)

BY_RANK = ["pending", "delivered", "read", "in_progress", "cannot", "done"]

OPEN = {
    Needs.DELIVERED: {"pending"},
    Needs.READ: {"pending", "delivered"},
    Needs.DONE: {"pending", "delivered", "read", "in_progress"},
}


def test_every_state_is_of_the_store_or_of_hq() -> None:
    """No state is both, none is neither."""
    assert sorted(STORE_RANK, key=STORE_RANK.__getitem__) == BY_RANK
    assert set(STORE_RANK) | CLOSED_BY_HQ == set(State)
    assert not set(STORE_RANK) & CLOSED_BY_HQ
    assert set(STORE_RANK) - {State.PENDING} == SAYABLE


@pytest.mark.parametrize("needs", list(Needs))
def test_hq_waits_until_what_it_needs_is_reached(needs: Needs) -> None:
    """Cannot closes a task as done does, and what HQ closed waits for nobody."""
    assert {state.value for state in State if is_open(state, needs)} == OPEN[needs]


def test_a_receipt_moves_up_or_not_at_all() -> None:
    """Every pair of store states: it moves exactly where what is said ranks higher."""
    for state in STORE_RANK:
        for said in SAYABLE:
            verdict = judge_receipt(state, said, said_at=5.0, closed_at=None)
            rises = STORE_RANK[said] > STORE_RANK[state]
            assert verdict is (Verdict.MOVES if rises else Verdict.NOTHING)


@pytest.mark.parametrize("state", sorted(CLOSED_BY_HQ))
@pytest.mark.parametrize("needs", list(Needs))
@pytest.mark.parametrize("said", sorted(SAYABLE))
@pytest.mark.parametrize("said_at", [9.0, 10.0, 11.0])
def test_what_hq_closed_only_what_was_asked_and_said_in_time_opens(
    state: State, needs: Needs, said: State, said_at: float
) -> None:
    """Reached before the closing it counts, late; after it, it is kept as evidence."""
    verdict = judge_receipt(state, said, said_at=said_at, closed_at=10.0, needs=needs)
    if state is State.REMOVED or said.value in OPEN[needs]:
        assert verdict is Verdict.NOTHING
    else:
        assert verdict is (Verdict.MOVES_LATE if said_at <= 10.0 else Verdict.TOO_LATE)


def test_the_order_in_which_receipts_come_does_not_matter() -> None:
    """Delivered, read, in progress and done in any order, twice each: it ends as done."""
    said = [State.DELIVERED, State.READ, State.IN_PROGRESS, State.DONE]
    for order in permutations(said):
        state = State.PENDING
        for word in (*order, *order):
            before = STORE_RANK[state]
            if judge_receipt(state, word, said_at=1.0, closed_at=None) is Verdict.MOVES:
                state = word
            assert STORE_RANK[state] >= before
        assert state is State.DONE


def test_the_higher_of_two_is_the_same_from_either_side() -> None:
    """Two devices of a store agree, whoever hears of the other first."""
    for one in STORE_RANK:
        for other in STORE_RANK:
            assert higher(one, other) is higher(other, one)
            assert STORE_RANK[higher(one, other)] == max(STORE_RANK[one], STORE_RANK[other])
