"""The life of a directive at head office: every state, and everything that may happen to it.

Owns `MACHINE`: what it does not name cannot happen. Must not know the ledger, deliveries or time.
What a store sees of it all is that a directive is there, or is withdrawn; the rest is HQ's own.
"""

import enum
from typing import Final

from hqconsole.errors import HqError


class DirectiveState(enum.StrEnum):
    """Where a directive stands."""

    DRAFT = "draft"
    """Written, and nobody was asked for anything yet."""
    WAITING = "waiting_for_approval"
    """Somebody else than its author is to look at it first."""
    DENIED = "denied"
    """Somebody looked at it and it is not to go out like this."""
    SCHEDULED = "scheduled"
    """It goes out at a time that is yet to come."""
    ROLLING = "rolling"
    """Some stores have it, others are to get it."""
    PAUSED = "paused"
    """Some stores have it; the others wait for an operator."""
    ISSUED = "issued"
    """It has gone out to its whole audience, and some of it is still open."""
    COMPLETED = "completed"
    """Nothing of it is open any more."""
    SUPERSEDED = "superseded"
    """Withdrawn, and another one stands in for it."""
    CANCELLED = "cancelled"
    """Withdrawn."""
    EXPIRED = "expired"
    """Its time was over before all was closed."""


class Action(enum.StrEnum):
    """What happens to a directive."""

    SUBMIT = "submit"
    """The author asks for approval."""
    DENY = "deny"
    """Somebody else says no."""
    REVISE = "revise"
    """The author takes it back to work on it."""
    SCHEDULE = "schedule"
    """It is given its time, or another one."""
    ROLL = "roll"
    """Its first wave goes out, and there are more."""
    PAUSE = "pause"
    """By hand, or because a wave was worse than it may be."""
    RESUME = "resume"
    """By hand."""
    STOP = "stop"
    """By hand: who has it keeps it, nobody else gets it."""
    ISSUE = "issue"
    """The last of it goes out, which may be all of it."""
    COMPLETE = "complete"
    """The last open delivery is closed."""
    REOPEN = "reopen"
    """A store joined, or proved to have been in the audience."""
    SUPERSEDE = "supersede"
    """Another directive takes its place."""
    CANCEL = "cancel"
    """It is withdrawn."""
    EXPIRE = "expire"
    """Its time is over."""


_S, _A = DirectiveState, Action
_ENDING: Final = {_A.CANCEL: _S.CANCELLED, _A.SUPERSEDE: _S.SUPERSEDED}
_OUT: Final = {**_ENDING, _A.EXPIRE: _S.EXPIRED}
_GOING_OUT: Final = {_A.SCHEDULE: _S.SCHEDULED, _A.ROLL: _S.ROLLING, _A.ISSUE: _S.ISSUED}

MACHINE: Final[dict[DirectiveState, dict[Action, DirectiveState]]] = {
    _S.DRAFT: {
        _A.SUBMIT: _S.WAITING,
        **_GOING_OUT,
        **_ENDING,
    },
    _S.WAITING: {
        _A.DENY: _S.DENIED,
        _A.REVISE: _S.DRAFT,
        **_GOING_OUT,
        **_ENDING,
    },
    _S.DENIED: {_A.REVISE: _S.DRAFT, **_ENDING},
    # It expires there only when head office was not at work for so long: it never goes out then.
    _S.SCHEDULED: {_A.REVISE: _S.DRAFT, **_GOING_OUT, **_OUT},
    _S.ROLLING: {
        _A.PAUSE: _S.PAUSED,
        _A.STOP: _S.ISSUED,
        _A.ISSUE: _S.ISSUED,
        **_OUT,
    },
    _S.PAUSED: {
        _A.RESUME: _S.ROLLING,
        _A.STOP: _S.ISSUED,
        **_OUT,
    },
    _S.ISSUED: {_A.COMPLETE: _S.COMPLETED, **_OUT},
    _S.COMPLETED: {_A.REOPEN: _S.ISSUED, **_ENDING},
    # A withdrawal that HQ had forgotten comes back from the stores, whatever happened meanwhile.
    _S.EXPIRED: dict(_ENDING),
    _S.SUPERSEDED: {},
    _S.CANCELLED: {},
}
"""The whole machine. A withdrawal ends everything; nothing leaves `superseded` or `cancelled`."""

UNSENT: Final = frozenset({_S.DRAFT, _S.WAITING, _S.DENIED, _S.SCHEDULED})
"""No store has ever heard of it."""
LIVE: Final = frozenset({_S.ROLLING, _S.PAUSED, _S.ISSUED})
"""Stores have it and HQ waits for some of them, or has more to send."""
UNFINISHED: Final = LIVE | {_S.DRAFT, _S.WAITING, _S.SCHEDULED}
"""Something is still to happen."""
_VERBS: Final = {
    _A.SUBMIT: "submit",
    _A.DENY: "deny",
    _A.REVISE: "revise",
    _A.SCHEDULE: "schedule",
    _A.PAUSE: "pause",
    _A.RESUME: "resume",
    _A.STOP: "stop",
    _A.CANCEL: "cancel",
    _A.SUPERSEDE: "publish --supersedes",
}
"""What a person says for an action; the others happen by themselves, or by another verb."""


class LifecycleError(HqError):
    """What was asked cannot happen to a directive as it stands."""


def moved(state: DirectiveState, action: Action) -> DirectiveState:
    """Where an action takes a directive.

    Raises:
        LifecycleError: It cannot happen in that state; the message says what can.
    """
    try:
        return MACHINE[state][action]
    except KeyError:
        able = ", ".join(
            f"hq {verb}" for action, verb in _VERBS.items() if action in MACHINE[state]
        )
        if state is DirectiveState.WAITING:
            able = f"hq approve, {able}"
        raise LifecycleError(
            f"it is {words(state)}: {action.value} is not possible",
            hint=f"what is possible: {able}" if able else "nothing happens to it any more",
        ) from None


def words(state: DirectiveState) -> str:
    """The state as people read it."""
    return state.value.replace("_", " ")
