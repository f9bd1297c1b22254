"""The states of a delivery, and who may move it where.

A store sets its own states and only ever moves up; HQ sets its own. `MACHINE` is the whole of it:
what it does not name cannot happen, so events that come late, twice or out of order are harmless,
and a delivery never moves backwards.
"""

import enum
from typing import NamedTuple


class State(enum.StrEnum):
    """Where one delivery stands."""

    PENDING = "pending"
    """HQ has issued it; no device of the mailbox has said that it saved it."""
    DELIVERED = "delivered"
    """A device of the mailbox has it on disk."""
    READ = "read"
    """Somebody opened it."""
    IN_PROGRESS = "in_progress"
    """Somebody started the work."""
    CANNOT = "cannot"
    """The store says that it cannot, and why."""
    DONE = "done"
    """The store says that it is done."""
    EXPIRED = "expired"
    """HQ closed it because its time was over."""
    CANCELLED = "cancelled"
    """HQ withdrew the directive."""
    REMOVED = "removed"
    """HQ does not count this mailbox any longer: the store closed, or was never in the audience."""


class Needs(enum.StrEnum):
    """What a directive asks of a mailbox; reaching it closes the delivery."""

    DELIVERED = "delivered"
    READ = "read"
    DONE = "done"


class Moves(NamedTuple):
    """Where a delivery may go from one state."""

    by_store: frozenset[State]
    """Where a store's word takes it, whenever that word arrives."""
    by_hq: frozenset[State]
    """Where HQ may take it as long as it is open."""
    said_before: frozenset[State]
    """Where a store's word takes it that was said before HQ closed it, if HQ needs no more."""


def _moves(by_store: str, *, by_hq: bool = True, said_before: str = "") -> Moves:
    return Moves(
        frozenset(map(State, by_store.split())),
        frozenset({State.EXPIRED, State.CANCELLED, State.REMOVED} if by_hq else ()),
        frozenset(map(State, said_before.split())),
    )


MACHINE: dict[State, Moves] = {
    State.PENDING: _moves("delivered read in_progress cannot done"),
    State.DELIVERED: _moves("read in_progress cannot done"),
    State.READ: _moves("in_progress cannot done"),
    State.IN_PROGRESS: _moves("cannot done"),
    State.CANNOT: _moves("done", by_hq=False),
    State.DONE: _moves("", by_hq=False),
    State.EXPIRED: _moves("", by_hq=False, said_before="delivered read in_progress cannot done"),
    State.CANCELLED: _moves("", by_hq=False, said_before="delivered read in_progress cannot done"),
    State.REMOVED: _moves("", by_hq=False),
}
"""The machine of a delivery: everything that may ever happen to one."""

CLOSED_BY_HQ = frozenset({State.EXPIRED, State.CANCELLED, State.REMOVED})

STORE_RANK: dict[State, int] = {
    state: len(MACHINE[State.PENDING].by_store) - len(moves.by_store)
    for state, moves in MACHINE.items()
    if state not in CLOSED_BY_HQ
}
"""What a store may say, in the order in which one outranks the other."""

SAYABLE = frozenset(STORE_RANK) - {State.PENDING}
"""What a receipt may say."""

_REACHED = {
    Needs.DELIVERED: STORE_RANK[State.DELIVERED],
    Needs.READ: STORE_RANK[State.READ],
    Needs.DONE: STORE_RANK[State.CANNOT],
}


def is_open(state: State, needs: Needs) -> bool:
    """Whether HQ still waits for the mailbox."""
    return state not in CLOSED_BY_HQ and STORE_RANK[state] < _REACHED[needs]


def higher(mine: State, other: State) -> State:
    """The one of two store-side states that outranks the other."""
    return mine if STORE_RANK[mine] >= STORE_RANK[other] else other


class Verdict(enum.Enum):
    """What a receipt does to a delivery."""

    MOVES = "moves"
    """The delivery takes the state that the receipt says."""
    MOVES_LATE = "moves_late"
    """It was said before HQ closed the delivery and arrived after: it counts, marked late."""
    NOTHING = "nothing"
    """The delivery is already as far; the receipt is kept as evidence."""
    TOO_LATE = "too_late"
    """It was said after HQ closed the delivery; kept as evidence, and HQ's closing stands."""


def judge_receipt(
    state: State,
    said: State,
    *,
    said_at: float,
    closed_at: float | None,
    needs: Needs = Needs.DONE,
) -> Verdict:
    """Decide what a store's statement does to a delivery.

    Args:
        state: The delivery's state.
        said: What the store said, one of `SAYABLE`.
        said_at: When, by the store's clock corrected with its measured offset.
        closed_at: When HQ closed the delivery, if it did.
        needs: What the directive asks for: who reached that in time has done what was asked.
    """
    moves = MACHINE[state]
    if said in moves.by_store:
        return Verdict.MOVES
    if said not in moves.said_before or is_open(said, needs):
        return Verdict.NOTHING
    in_time = closed_at is None or said_at <= closed_at
    return Verdict.MOVES_LATE if in_time else Verdict.TOO_LATE
