"""Sending what was written down: in one go or in waves, at its time, and no faster than asked.

Owns the tables `wave` and `planned`, and that a mailbox leaves `planned` in the same transaction in
which its delivery begins. Whether a gate is open is `rollout`'s to say; what calls `advance`, and
when again, is the hub's.

Invariants:
- A mailbox of the frozen audience is in `planned` or in `delivery`, and never in both.
- `advance` can be called at any time, any number of times, by any hub: it goes on from what the
  ledger says.
- What HQ closed at a store is not shown there again by a later wave.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from buswire.states import CLOSED_BY_HQ, Needs, State, is_open
from buswire.topics import Channel
from hqconsole.audience import Mailbox, Organisation, cover, digest
from hqconsole.errors import HqError
from hqconsole.ledger import channels, deliveries, directives, evidence, reach, steps, withdrawing
from hqconsole.ledger.deliveries import STATE_CODES, STATE_OF
from hqconsole.ledger.directives import NewId
from hqconsole.ledger.opening import damaged
from hqconsole.lifecycle import UNSENT, Action, DirectiveState
from hqconsole.rollout import Gate, Pace, Progress, Verdict, judge

PLANNED_IN = (
    "SELECT wave.no FROM wave CROSS JOIN planned ON planned.directive_no = wave.directive_no"
    " AND planned.wave_no = wave.no AND planned.mailbox_no = ?2 WHERE wave.directive_no = ?1"
)
MAILBOXES = (
    "SELECT store.id, role FROM json_each(?) CROSS JOIN mailbox ON mailbox.no = value"
    " JOIN store ON store.no = store_no"
)
_REASONS_NAMED = 3
_GOING = UNSENT | {DirectiveState.ROLLING}
FROZEN = tuple(
    f"SELECT store.id, role FROM {table} CROSS JOIN mailbox ON mailbox.no = mailbox_no"
    f" CROSS JOIN store ON store.no = store_no WHERE directive_no = ?{also}"
    for table, also in (("delivery", " AND joined_at IS NULL"), ("planned", ""))
)
_NEXT_WAVE = (
    "SELECT no, label, mailboxes, not_before, began_at FROM wave"
    " WHERE directive_no = ? AND sent_at IS NULL ORDER BY no LIMIT 1"
)


class _Next(NamedTuple):
    """The wave that is to go, or is going."""

    no: int
    label: str
    mailboxes: int
    not_before: float | None
    began_at: float | None


def take(
    connection: sqlite3.Connection,
    directive_no: int,
    mailbox_nos: Iterable[int],
    wave_no: int | None = None,
) -> int:
    """Make deliveries of these mailboxes, as far as they are planned. Returns how many were."""
    by_wave: dict[int, list[int]] = {}
    if wave_no is None:
        for number in mailbox_nos:
            for (wave,) in connection.execute(PLANNED_IN, (directive_no, number)):
                by_wave.setdefault(wave, []).append(number)
    else:
        by_wave[wave_no] = list(mailbox_nos)
    for wave, numbers in by_wave.items():
        deliveries.add(connection, directive_no, numbers, wave)
        connection.executemany(
            "DELETE FROM planned WHERE directive_no = ? AND wave_no = ? AND mailbox_no = ?",
            [(directive_no, wave, number) for number in numbers],
        )
    return sum(map(len, by_wave.values()))


def is_planned(connection: sqlite3.Connection, directive_no: int) -> bool:
    """Whether somebody is still to get it."""
    row = connection.execute(
        "SELECT 1 FROM planned WHERE directive_no = ? LIMIT 1", (directive_no,)
    ).fetchone()
    return row is not None


def look_again(connection: sqlite3.Connection, directive_no: int, at: float | None) -> None:
    """Set when the hub is to look at it; None for never, unless something happens."""
    connection.execute("UPDATE plan SET look_at = ? WHERE directive_no = ?", (at, directive_no))


def next_look(connection: sqlite3.Connection, directive_no: int) -> float | None:
    """When the hub is to look at it, in Unix time."""
    row = connection.execute(
        "SELECT look_at FROM plan WHERE directive_no = ?", (directive_no,)
    ).fetchone()
    return None if row is None else row[0]


def begin(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    by: str,
    at: float,
    new_id: NewId,
    organisation: Callable[[], Organisation],
    note: str = "",
    digest: str = "",
) -> DirectiveState:
    """Let a directive go that nothing holds back: at once, or when its time has come.

    Args:
        connection: With a write transaction open.
        directive_no: A draft, or one that was approved just now.
        by: Who lets it go.
        at: Unix time.
        new_id: A random 128-bit id in hex.
        organisation: Today's.
        note: For its history.
        digest: Of what was approved.

    Returns:
        Where it stands: scheduled, rolling or issued.

    Raises:
        LifecycleError: It is neither.
        HqError: Its time was over meanwhile.
    """
    (expires_at,) = connection.execute(
        "SELECT expires_at FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    if expires_at is not None and expires_at <= at:
        raise HqError(
            "its time was over before it could go out", hint="hq cancel ID, and write it anew"
        )
    row = _next_wave(connection, directive_no)
    assert row is not None  # `directives.write` takes at least one
    if row.not_before is not None and row.not_before > at:
        state = steps.move(
            connection, directive_no, Action.SCHEDULE, at=at, by=by, note=note, digest=digest
        )
        look_again(connection, directive_no, row.not_before)
        return state
    advance(
        connection,
        directive_no,
        at=at,
        new_id=new_id,
        organisation=organisation,
        by=by,
        note=note,
        digest=digest,
    )
    return steps.state_of(connection, directive_no)


def advance(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    at: float,
    new_id: NewId,
    organisation: Callable[[], Organisation],
    by: str = "",
    note: str = "",
    digest: str = "",
    past_gate: bool = False,
    settled_at: float = 0.0,
) -> float | None:
    """Send what may go by now of a directive that nothing holds back; pause it if it must not.

    Args:
        connection: With a write transaction open.
        directive_no: A draft or approved one, scheduled or rolling; nothing happens to others.
        at: Unix time.
        new_id: A random 128-bit id in hex.
        organisation: Today's.
        by: Who lets it go, in its history; '' is the hub.
        note: For its history.
        digest: Of what was approved.
        past_gate: Send the next wave whatever the one before shows: an operator says so.
        settled_at: From when on something can be late: see `rollout.judge`.

    Returns:
        When to call it again, if nothing else happens.
    """
    gate, pace = _plan(connection, directive_no)
    state = steps.state_of(connection, directive_no)
    while state in _GOING and (wave := _next_wave(connection, directive_no)):
        if wave.not_before is not None and wave.not_before > at:
            return wave.not_before
        if wave.began_at is None and gate is not None and wave.no > 1 and not past_gate:
            judged = judge(
                gate, progress(connection, directive_no, wave.no - 1), at, settled_at=settled_at
            )
            if judged.verdict is Verdict.WAIT:
                return judged.look_at
            if judged.verdict is Verdict.SHUT:
                why = judged.why + _grouped(connection, directive_no, wave.no - 1)
                pause(connection, directive_no, why=why, at=at)
                return None
        past_gate = False
        more_at = _send(
            connection, directive_no, wave, pace, at=at, new_id=new_id, organisation=organisation
        )
        last = more_at is None and _next_wave(connection, directive_no) is None
        action = Action.ISSUE if last else Action.ROLL
        if last or state in UNSENT:
            state = steps.move(
                connection, directive_no, action, at=at, by=by, note=note, digest=digest
            )
            by = note = digest = ""
        if last:
            withdrawing.withdraw_the_former(
                connection, directive_no, at=at, new_id=new_id, organisation=organisation
            )
        if more_at is not None:
            return more_at
    return None


def _next_wave(connection: sqlite3.Connection, directive_no: int) -> _Next | None:
    row = connection.execute(_NEXT_WAVE, (directive_no,)).fetchone()
    return None if row is None else _Next(*row)


def _plan(connection: sqlite3.Connection, directive_no: int) -> tuple[Gate | None, Pace | None]:
    gate, rate = connection.execute(
        "SELECT gate, rate_per_hour FROM plan WHERE directive_no = ?", (directive_no,)
    ).fetchone()
    return None if gate is None else Gate.from_json(gate), None if rate is None else Pace(rate)


def _send(
    connection: sqlite3.Connection,
    directive_no: int,
    wave: _Next,
    pace: Pace | None,
    *,
    at: float,
    new_id: NewId,
    organisation: Callable[[], Organisation],
) -> float | None:
    """Send as much of a wave as may go; when the next slice may, or None when all of it went."""
    (left,) = connection.execute(
        "SELECT count(*) FROM planned WHERE directive_no = ? AND wave_no = ?",
        (directive_no, wave.no),
    ).fetchone()
    may, start = left, at
    if pace is not None:
        (used_until,) = connection.execute(
            "SELECT rate_used_until FROM plan WHERE directive_no = ?", (directive_no,)
        ).fetchone()
        may, start = pace.slice(used_until, at)
    numbers = [
        number
        for (number,) in connection.execute(
            "SELECT mailbox_no FROM planned WHERE directive_no = ? AND wave_no = ?"
            " ORDER BY mailbox_no LIMIT ?",
            (directive_no, wave.no, may),
        )
    ]
    all_of_it = len(numbers) == left
    if wave.began_at is None:
        _require_frozen(connection, directive_no)
    if numbers:
        _put_out(
            connection, directive_no, wave.no, numbers, at=at, new_id=new_id, there=organisation()
        )
    # Begun also where none of it may go yet: its gate is not asked again.
    connection.execute(
        "UPDATE wave SET began_at = coalesce(began_at, ?), sent_at = ?"
        " WHERE directive_no = ? AND no = ?",
        (at, at if all_of_it else None, directive_no, wave.no),
    )
    if pace is None:
        return None
    used_until = pace.used_until(start, len(numbers))
    connection.execute(
        "UPDATE plan SET rate_used_until = ? WHERE directive_no = ?", (used_until, directive_no)
    )
    return None if all_of_it else pace.next_at(used_until)


def _require_frozen(connection: sqlite3.Connection, directive_no: int) -> None:
    """Make sure that nobody gets a directive who was not in its frozen audience.

    Raises:
        DatabaseDamaged: Its mailboxes are not those of its digest.
    """
    mailboxes = [row for query in FROZEN for row in connection.execute(query, (directive_no,))]
    (frozen,) = connection.execute(
        "SELECT digest FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    if digest(mailboxes) != frozen:
        raise damaged("the audience of a directive is not the one that was frozen")


def _put_out(
    connection: sqlite3.Connection,
    directive_no: int,
    wave_no: int,
    numbers: Sequence[int],
    *,
    at: float,
    new_id: NewId,
    there: Organisation,
) -> None:
    """Begin these deliveries, and append the directive to the channels that reach them."""
    mailboxes = _mailboxes(connection, numbers, there)
    take(connection, directive_no, numbers, wave_no)
    uses = tuple(use.channel for use in cover(mailboxes, there))
    doc_no, issued_at, in_parts = connection.execute(
        "SELECT doc_no, issued_at, continuous OR EXISTS"
        " (SELECT 1 FROM planned WHERE planned.directive_no = ?1)"
        " FROM directive JOIN plan ON plan.directive_no = directive.no WHERE directive.no = ?1",
        (directive_no,),
    ).fetchone()
    if not issued_at:
        doc_no = directives.sent_document(
            connection, directive_no, at=at, uses=uses, in_parts=bool(in_parts)
        )
    elif len(uses) > 1 and not in_parts and not _any_closed(connection, directive_no):
        # Who has it drops it by its id, so the last of it may go where all of it would. But a
        # device that was set up after the work was closed does not know it, and would show it.
        wide = reach.cover_of_audience(connection, directive_no, there)
        if len(wide) < len(uses):
            uses = wide
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    # The hub finds out when the next of it is due, or these are late.
    look_again(connection, directive_no, at)


def _mailboxes(
    connection: sqlite3.Connection, numbers: Sequence[int], there: Organisation
) -> set[Mailbox]:
    """These mailboxes, without those that no channel reaches today.

    They are counted all the same, and get their work when their store has the role again.
    """
    rows = connection.execute(MAILBOXES, (json.dumps(list(numbers)),))
    return {mailbox for row in rows if there.has(mailbox := Mailbox(*row))}


def _any_closed(connection: sqlite3.Connection, directive_no: int) -> bool:
    row = connection.execute(
        "SELECT 1 FROM delivery WHERE directive_no = ? AND open = 0 LIMIT 1", (directive_no,)
    ).fetchone()
    return row is not None


def join(
    connection: sqlite3.Connection,
    directive_no: int,
    mailbox_nos: Sequence[int],
    *,
    at: float,
    new_id: NewId,
    organisation: Organisation,
) -> int:
    """Take mailboxes in that were not in the frozen audience. Idempotent; how many were new."""
    new = [
        number for number in mailbox_nos if not deliveries.exists(connection, directive_no, number)
    ]
    deliveries.add(connection, directive_no, new)
    connection.executemany(
        "UPDATE delivery SET joined_at = ? WHERE directive_no = ? AND mailbox_no = ?",
        [(at, directive_no, number) for number in new],
    )
    (doc_no,) = connection.execute(
        "SELECT doc_no FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    uses = [Channel.of_store(*one) for one in _mailboxes(connection, new, organisation)]
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    look_again(connection, directive_no, at)  # they may be in a time zone of their own
    return len(new)


def pause(
    connection: sqlite3.Connection, directive_no: int, *, why: str, at: float, by: str = ""
) -> None:
    """Let no more of it go out before somebody says so.

    Raises:
        LifecycleError: Nothing of it is going out.
    """
    steps.move(connection, directive_no, Action.PAUSE, at=at, by=by, note=why)
    connection.execute("UPDATE plan SET paused_why = ? WHERE directive_no = ?", (why, directive_no))
    look_again(connection, directive_no, at)  # what is late is told of all the same


def resume(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    at: float,
    by: str,
    new_id: NewId,
    organisation: Callable[[], Organisation],
) -> DirectiveState:
    """Go on with one that was paused; past the gate, where that is what paused it.

    Raises:
        LifecycleError: It is not paused.
    """
    (paused_by,) = connection.execute(
        "SELECT by FROM directive_step WHERE directive_no = ? AND action = ?"
        " ORDER BY no DESC LIMIT 1",
        (directive_no, Action.PAUSE.value),
    ).fetchone() or ("",)
    steps.move(connection, directive_no, Action.RESUME, at=at, by=by)
    connection.execute("UPDATE plan SET paused_why = '' WHERE directive_no = ?", (directive_no,))
    advance(
        connection,
        directive_no,
        at=at,
        new_id=new_id,
        organisation=organisation,
        past_gate=not paused_by,
    )
    look_again(connection, directive_no, at)
    return steps.state_of(connection, directive_no)


def stop(connection: sqlite3.Connection, directive_no: int, *, at: float, by: str) -> int:
    """Send it to nobody else; who has it keeps it. Returns how many will not get it.

    Nobody who joins gets it either: it is continuous no longer.

    Raises:
        LifecycleError: It is not going out.
    """
    (left,) = connection.execute(
        "SELECT count(*) FROM planned WHERE directive_no = ?", (directive_no,)
    ).fetchone()
    steps.move(connection, directive_no, Action.STOP, at=at, by=by, note=f"{left:,} not sent")
    connection.execute("UPDATE plan SET continuous = 0 WHERE directive_no = ?", (directive_no,))
    look_again(connection, directive_no, at)
    return int(left)


def progress(connection: sqlite3.Connection, directive_no: int, wave_no: int) -> Progress:
    """How a wave that went out stands."""
    needs, sent_at = connection.execute(
        "SELECT needs, coalesce(sent_at, began_at, 0) FROM directive, wave"
        " WHERE directive.no = ?1 AND directive_no = ?1 AND wave.no = ?2",
        (directive_no, wave_no),
    ).fetchone()
    counts: Counter[State] = Counter()
    for code, count in connection.execute(
        "SELECT state, count(*) FROM delivery WHERE directive_no = ? AND wave_no = ?"
        " GROUP BY state",
        (directive_no, wave_no),
    ):
        counts[STATE_OF[code]] += count
    done = sum(
        count
        for state, count in counts.items()
        if state not in CLOSED_BY_HQ
        and state is not State.CANNOT
        and not is_open(state, Needs(needs))
    )
    mailboxes = counts.total() - counts[State.REMOVED]
    return Progress(mailboxes, done, counts[State.CANNOT], sent_at)


def _grouped(connection: sqlite3.Connection, directive_no: int, wave_no: int) -> str:
    """Why the stores of a wave cannot, in a few words."""
    counts: Counter[str] = Counter()
    for (data,) in connection.execute(
        f"SELECT {evidence.DATA} FROM delivery JOIN arrival ON arrival.no = delivery.arrival_no"
        " WHERE delivery.directive_no = ? AND wave_no = ? AND delivery.state = ?",
        (directive_no, wave_no, STATE_CODES[State.CANNOT]),
    ):
        said: dict[str, Any] = json.loads(bytes(data))
        counts[said.get("code") or said.get("reason") or "no reason given"] += 1
    if not counts:
        return ""
    named = [f"{text[:60]} ({count:,})" for text, count in counts.most_common(_REASONS_NAMED)]
    more = len(counts) - len(named)
    return "; " + ", ".join(named) + (f" and {more:,} more reasons" if more else "")
