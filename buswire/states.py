"""The states of a delivery, and who may move it where.

A store sets its own states and only ever moves up; HQ sets its own. The rank makes events that
come late, twice or out of order harmless: a delivery never moves backwards.
"""

import enum


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


STORE_RANK: dict[State, int] = {
    State.PENDING: 0,
    State.DELIVERED: 1,
    State.READ: 2,
    State.IN_PROGRESS: 3,
    State.CANNOT: 4,
    State.DONE: 5,
}
"""What a store may say, in the order in which one outranks the other."""

SAYABLE = frozenset(STORE_RANK) - {State.PENDING}
"""What a receipt may say."""

CLOSED_BY_HQ = frozenset({State.EXPIRED, State.CANCELLED, State.REMOVED})

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
    if state in CLOSED_BY_HQ:
        if is_open(said, needs) or state is State.REMOVED:
            return Verdict.NOTHING
        in_time = closed_at is None or said_at <= closed_at
        return Verdict.MOVES_LATE if in_time else Verdict.TOO_LATE
    return Verdict.MOVES if STORE_RANK[said] > STORE_RANK[state] else Verdict.NOTHING
