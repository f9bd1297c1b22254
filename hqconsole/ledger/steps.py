"""Every move of a directive, and who made it: the one way in which its state changes.

Owns `directive.state` and the table `directive_step`. What the moves are is `lifecycle.MACHINE`;
what goes with each of them (documents, deliveries) is its caller's, in the same transaction.
"""

import sqlite3
from typing import NamedTuple

from hqconsole.errors import HqError
from hqconsole.lifecycle import UNFINISHED, Action, DirectiveState, moved, words

LIVE_STATES = "('rolling', 'paused', 'issued')"
"""`lifecycle.LIVE` for a query; `test_steps` holds the two equal."""
ADOPT = "adopt"
"""What `directive_step` calls it that a directive came back from the stores."""
_ENDS = frozenset(DirectiveState) - UNFINISHED


class Step(NamedTuple):
    """One move."""

    at: float
    action: str
    state: str
    by: str
    note: str
    digest: str


def state_of(connection: sqlite3.Connection, directive_no: int) -> DirectiveState:
    """Where a directive stands."""
    (state,) = connection.execute(
        "SELECT state FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    return DirectiveState(state)


def move(
    connection: sqlite3.Connection,
    directive_no: int,
    action: Action,
    *,
    at: float,
    by: str = "",
    note: str = "",
    digest: str = "",
) -> DirectiveState:
    """Let this happen to a directive, and record it.

    Args:
        connection: With a write transaction open.
        directive_no: Which.
        action: What happens.
        at: Unix time.
        by: The operator; '' is the hub.
        note: A word about it.
        digest: Of what it was about: the text and the audience that somebody approved.

    Raises:
        LifecycleError: It cannot happen in the state that the directive is in.
    """
    state = moved(state_of(connection, directive_no), action)
    closed_at = at if state in _ENDS else None
    connection.execute(
        "UPDATE directive SET state = ?, closed_at = ? WHERE no = ?",
        (state.value, closed_at, directive_no),
    )
    record(connection, directive_no, action, state, at=at, by=by, note=note, digest=digest)
    return state


def record(
    connection: sqlite3.Connection,
    directive_no: int,
    action: str,
    state: DirectiveState,
    *,
    at: float,
    by: str = "",
    note: str = "",
    digest: str = "",
) -> None:
    """Record what happened to a directive whose row says so already."""
    connection.execute(
        "INSERT INTO directive_step (directive_no, at, action, state, by, note, digest)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (directive_no, at, str(action), state.value, by, note, digest),
    )


def steps(connection: sqlite3.Connection, directive_no: int) -> list[Step]:
    """All that happened to it, in order."""
    return [
        Step(*row)
        for row in connection.execute(
            "SELECT at, action, state, by, note, digest FROM directive_step"
            " WHERE directive_no = ? ORDER BY no",
            (directive_no,),
        )
    ]


def require(
    connection: sqlite3.Connection, directive_no: int, states: frozenset[DirectiveState], what: str
) -> DirectiveState:
    """The state, which must be one of these.

    Raises:
        HqError: It is another one.
    """
    state = state_of(connection, directive_no)
    if state not in states:
        raise HqError(f"it is {words(state)}: {what}", hint="hq status ID shows how it stands")
    return state
