"""What is due with directives by themselves: which the hub is to look at, and what it does then.

Owns completion, lateness, and what starts at its time; a wave is `waves`' to send. When the hub
comes here is `attending`'s business. Who looks twice does it once.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence

from hqconsole.ledger import deliveries, escalations, steps, waves
from hqconsole.ledger.directives import NewId
from hqconsole.lifecycle import LIVE, Action, DirectiveState
from hqconsole.moments import due_at
from hqconsole.organisation import Organisation

TO_LOOK_AT = "SELECT directive_no FROM plan WHERE look_at <= ? ORDER BY look_at LIMIT ?"
NEXT_LOOK = "SELECT min(look_at) FROM plan WHERE look_at IS NOT NULL"
LIVE_NOW = (
    "SELECT no FROM directive INDEXED BY directive_by_state WHERE state NOT IN"
    " ('denied', 'completed', 'superseded', 'cancelled', 'expired')"
)
TAKES_IN = (
    "SELECT 1 FROM directive JOIN plan ON directive_no = no"
    " WHERE no = ? AND continuous = 1 AND state = 'issued'"
)
_AT_ONCE = 50


def to_look_at(connection: sqlite3.Connection, at: float) -> list[int]:
    """The directives at which the hub wanted to look by now, some of them."""
    return [no for (no,) in connection.execute(TO_LOOK_AT, (at, _AT_ONCE))]


def next_look(connection: sqlite3.Connection) -> float | None:
    """When the hub wants to look at one again."""
    (at,) = connection.execute(NEXT_LOOK).fetchone()
    return None if at is None else float(at)


def unfinished(connection: sqlite3.Connection) -> list[int]:
    """Every directive to which something is still to happen."""
    return sorted(no for (no,) in connection.execute(LIVE_NOW))


def taking_in(connection: sqlite3.Connection, numbers: Iterable[int]) -> list[int]:
    """Those of them that take in stores that join, once all of their own audience has it."""
    return [
        no for no in sorted(numbers) if connection.execute(TAKES_IN, (no,)).fetchone() is not None
    ]


def look(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    at: float,
    new_id: NewId,
    organisation: Callable[[], Organisation],
    settled_at: float = 0.0,
    whole: bool = True,
) -> None:
    """Do what is due with a directive, and set when to look at it again. Idempotent.

    Args:
        connection: With a write transaction open.
        directive_no: Any.
        at: Unix time.
        new_id: A random 128-bit id in hex.
        organisation: Today's.
        settled_at: From when on something can be late: see `rollout.judge`.
        whole: Whether also at what only time can change, which takes longer: not needed when a
            store said something.
    """
    state, escalate, is_continuous, expires_at = connection.execute(
        "SELECT state, escalate, continuous, expires_at FROM directive"
        " LEFT JOIN plan ON directive_no = no WHERE no = ?",
        (directive_no,),
    ).fetchone()
    again_at: list[float | None] = []
    if state == DirectiveState.SCHEDULED and expires_at is not None and expires_at <= at:
        note = "before it went out"
        state = steps.move(connection, directive_no, Action.EXPIRE, at=at, note=note)
    if state in {DirectiveState.SCHEDULED, DirectiveState.ROLLING}:
        again_at.append(
            waves.advance(
                connection,
                directive_no,
                at=at,
                new_id=new_id,
                organisation=organisation,
                settled_at=settled_at,
            )
        )
        was, state = state, steps.state_of(connection, directive_no)
        whole = whole or state != was
    finished = not is_continuous and not deliveries.any_open(connection, directive_no)
    if state == DirectiveState.ISSUED and finished:
        state = steps.move(connection, directive_no, Action.COMPLETE, at=at)
    if not whole:
        again_at.append(waves.next_look(connection, directive_no))
    elif state in LIVE and escalate not in {None, "[]"}:
        again_at.append(
            _escalate(connection, directive_no, json.loads(escalate), at, settled_at=settled_at)
        )
    waves.look_again(
        connection, directive_no, min((one for one in again_at if one is not None), default=None)
    )


def _escalate(
    connection: sqlite3.Connection,
    directive_no: int,
    rules: Sequence[dict[str, float]],
    at: float,
    *,
    settled_at: float,
) -> float | None:
    """Tell of what is late, once for each rule and time zone; when the next is to be told.

    After an outage only the latest rule that has come is told of, not each that was missed.
    """
    (due,) = connection.execute(
        "SELECT due FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    if due is None:
        return None
    if at < settled_at:
        return settled_at
    again_at: list[float] = []
    for zone, region, count in connection.execute(
        "SELECT timezone, region, count(*) FROM delivery"
        " CROSS JOIN mailbox ON mailbox.no = mailbox_no CROSS JOIN store ON store.no = store_no"
        " WHERE directive_no = ? AND open = 1 GROUP BY timezone, region",
        (directive_no,),
    ).fetchall():
        over_at = due_at(due, zone)
        if over_at is None:
            continue
        times = sorted((over_at + rule["late_seconds"], no) for no, rule in enumerate(rules))
        come = [no for when, no in times if when <= at]
        again_at += [when for when, _ in times if when > at][:1]
        if come:
            escalations.raise_(
                connection,
                directive_no,
                rule=come[-1],
                timezone=zone,
                region=region,
                mailboxes=count,
                at=at,
            )
    return min(again_at, default=None)
