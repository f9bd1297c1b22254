"""What operators do with a directive between its draft and its end.

Owns what belongs together at each turn of that life, in the caller's transaction. The moves are
`lifecycle.MACHINE`'s, made by `steps`; sending is `waves`', withdrawing `withdrawing`'s, and what
the hub does of itself `due`'s. Who may do what was asked before anybody comes here.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from buswire.messages import Directive, Remind, StateChange, encode_data
from buswire.reminding import SPACING_SECONDS
from buswire.states import State
from buswire.topics import Channel
from hqconsole.cover import cover
from hqconsole.errors import HqError
from hqconsole.ledger import archived, channels, deliveries, directives, steps, waves
from hqconsole.ledger.directives import NewId
from hqconsole.lifecycle import LIVE, Action, DirectiveState
from hqconsole.organisation import Mailbox, Organisation

APPROVE = "approve"
REMIND = "remind"
REWRITE = "rewrite"
"""What `directive_step` calls these: a yes, after which the next step follows; a
reminder; and that a draft has another text."""


class Author(NamedTuple):
    """Who wrote a directive, of which kind it is, and for how many."""

    name: str
    kind: str
    mailboxes: int


def author(connection: sqlite3.Connection, directive_no: int) -> Author:
    """Who wrote it; '' where this ledger does not know."""
    row = connection.execute(
        "SELECT coalesce(author, issued_by), kind, mailboxes FROM directive"
        " LEFT JOIN plan ON directive_no = no WHERE no = ?",
        (directive_no,),
    ).fetchone()
    return Author(*row)


def writers(connection: sqlite3.Connection, directive_no: int) -> set[str]:
    """Everybody who wrote any of it: none of them approves it."""
    found = {
        by
        for (by,) in connection.execute(
            "SELECT by FROM directive_step WHERE directive_no = ? AND action IN (?, ?)",
            (directive_no, Action.REVISE.value, REWRITE),
        )
    }
    return found | {author(connection, directive_no).name}


def regions(connection: sqlite3.Connection, directive_no: int) -> set[str]:
    """The regions in which it is, or is to be."""
    return {
        region
        for table in ("delivery", "planned")
        for (region,) in connection.execute(
            f"SELECT DISTINCT region FROM {table} CROSS JOIN mailbox ON mailbox.no = mailbox_no"
            " CROSS JOIN store ON store.no = store_no WHERE directive_no = ?",
            (directive_no,),
        )
    }


def fingerprint(connection: sqlite3.Connection, directive_no: int) -> str:
    """SHA-256 in hex over the text and the frozen audience: what somebody approves.

    It is the same once it has gone out: the time and the channels are left out of it.
    """
    data, audience = connection.execute(
        "SELECT data, digest FROM directive JOIN doc ON doc.no = doc_no WHERE directive.no = ?",
        (directive_no,),
    ).fetchone()
    text = directives.encode(directives.as_written(directives.read(bytes(data))))
    return hashlib.sha256(text + b"\n" + audience.encode()).hexdigest()


def submit(
    connection: sqlite3.Connection, directive_no: int, *, by: str, why: str, at: float
) -> None:
    """Ask for somebody else's approval.

    Raises:
        LifecycleError: It is no draft.
    """
    steps.move(
        connection,
        directive_no,
        Action.SUBMIT,
        at=at,
        by=by,
        note=why,
        digest=fingerprint(connection, directive_no),
    )


def approve(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    by: str,
    note: str = "",
    at: float,
    new_id: NewId,
    organisation: Callable[[], Organisation],
) -> DirectiveState:
    """Let it go, by somebody who did not write it. Returns where it stands then.

    Raises:
        HqError: It does not wait for approval.
    """
    steps.require(
        connection,
        directive_no,
        frozenset({DirectiveState.WAITING}),
        "only what waits for approval can be approved",
    )
    digest = fingerprint(connection, directive_no)
    steps.record(
        connection,
        directive_no,
        APPROVE,
        DirectiveState.WAITING,
        at=at,
        by=by,
        note=note,
        digest=digest,
    )
    return waves.begin(
        connection, directive_no, by=by, at=at, new_id=new_id, organisation=organisation
    )


def deny(
    connection: sqlite3.Connection, directive_no: int, *, by: str, why: str, at: float
) -> None:
    """Say no to it.

    Raises:
        LifecycleError: It does not wait for approval.
    """
    steps.move(connection, directive_no, Action.DENY, at=at, by=by, note=why)


def reschedule(
    connection: sqlite3.Connection,
    directive_no: int,
    starts: str,
    parts: Sequence[tuple[str, float, Collection[int] | None]],
    *,
    by: str,
    at: float,
) -> None:
    """Give one that was not sent yet another time.

    Args:
        connection: With a write transaction open.
        directive_no: Which.
        starts: The moment as it is kept.
        parts: Label, time and mailbox numbers of each wave; one part with None for the numbers
            keeps its waves, and the first of them has that time. Those that only stood for time
            zones are one then.
        by: Who does it.
        at: Unix time.

    Raises:
        HqError: It is out already, or over.
    """
    state = steps.require(
        connection,
        directive_no,
        frozenset({DirectiveState.DRAFT, DirectiveState.WAITING, DirectiveState.SCHEDULED}),
        "it has its time no longer before it",
    )
    expires_at, gate = connection.execute(
        "SELECT expires_at, gate FROM directive JOIN plan ON directive_no = no WHERE no = ?",
        (directive_no,),
    ).fetchone()
    if expires_at is not None and max(part[1] for part in parts) >= expires_at:
        raise HqError("it would expire before it goes out", hint="give it an earlier time")
    if gate is not None and parts[0][2] is not None:
        raise HqError(
            "it goes out in waves, and those cannot go by each store's own clock",
            hint="leave --local out",
        )
    steps.record(connection, directive_no, Action.SCHEDULE, state, at=at, by=by, note=starts)
    connection.execute("UPDATE plan SET starts = ? WHERE directive_no = ?", (starts, directive_no))
    if parts[0][2] is None and gate is None:
        by_zone = planned_by_zone(connection, directive_no)
        parts = [(parts[0][0], parts[0][1], [no for there in by_zone.values() for no in there])]
    if parts[0][2] is None:
        connection.execute(
            "UPDATE wave SET not_before = ? WHERE directive_no = ? AND no = 1",
            (parts[0][1], directive_no),
        )
    else:
        connection.execute("DELETE FROM planned WHERE directive_no = ?", (directive_no,))
        connection.execute("DELETE FROM wave WHERE directive_no = ?", (directive_no,))
        for no, (label, not_before, numbers) in enumerate(parts, 1):
            assert numbers is not None  # one part has them if all do
            connection.execute(
                "INSERT INTO wave (directive_no, no, label, mailboxes, not_before)"
                " VALUES (?, ?, ?, ?, ?)",
                (directive_no, no, label, len(numbers), not_before),
            )
            connection.executemany(
                "INSERT INTO planned (directive_no, wave_no, mailbox_no) VALUES (?, ?, ?)",
                [(directive_no, no, number) for number in sorted(numbers)],
            )
    if state is DirectiveState.SCHEDULED:
        waves.look_again(connection, directive_no, parts[0][1])


def planned_by_zone(connection: sqlite3.Connection, directive_no: int) -> dict[str, list[int]]:
    """The mailboxes that are still to get it, by the time zone of their stores."""
    found: dict[str, list[int]] = {}
    for number, zone in connection.execute(
        "SELECT mailbox_no, timezone FROM planned JOIN mailbox ON mailbox.no = mailbox_no"
        " JOIN store ON store.no = store_no WHERE directive_no = ?",
        (directive_no,),
    ):
        found.setdefault(zone, []).append(number)
    return found


def remove(
    connection: sqlite3.Connection,
    directive_no: int,
    mailboxes: Collection[Mailbox],
    *,
    by: str,
    reason: str,
    at: float,
    new_id: NewId,
) -> int:
    """Count these mailboxes no longer, and tell their stores. Returns how many were open.

    Those that a later wave would have reached do not get it.
    """
    (directive_id,) = connection.execute(
        "SELECT id FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    state = steps.state_of(connection, directive_no)
    removed = 0
    change = StateChange(directive=directive_id, state=State.REMOVED, changed_at=at, changed_by=by)
    doc_no = None
    for mailbox in sorted(mailboxes):
        row = connection.execute(
            "SELECT mailbox.no FROM mailbox JOIN store ON store.no = store_no"
            " WHERE store.id = ? AND role = ?",
            mailbox,
        ).fetchone()
        if row is None:
            continue
        unheard = state in LIVE and waves.take(connection, directive_no, [row[0]])
        if not deliveries.remove(connection, directive_no, row[0], at=at):
            continue
        removed += 1
        if unheard:
            continue  # a later wave would have brought it there
        if doc_no is None:
            doc_no = channels.add_doc(connection, "state", encode_data(change))
        place = Channel.of_store(mailbox.store, mailbox.role)
        channels.append(connection, (place,), doc_no, at=at, new_id=new_id)
    if removed:
        steps.record(
            connection,
            directive_no,
            "remove",
            state,
            at=at,
            by=by,
            note=f"{removed:,} mailboxes" + (f": {reason}" if reason else ""),
        )
        waves.look_again(connection, directive_no, at)
    return removed


def remind(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    text: str,
    by: str,
    at: float,
    new_id: NewId,
    organisation: Organisation,
) -> int:
    """Remind those of whom it is still open. Returns how many those are.

    Raises:
        HqError: It is not out, or everybody was reminded a moment ago.
    """
    state = steps.require(connection, directive_no, LIVE, "there is nobody to be reminded of it")
    last_at, directive_id = connection.execute(
        "SELECT (SELECT max(at) FROM directive_step"
        " WHERE directive_no = directive.no AND action = ?), id FROM directive WHERE no = ?",
        (REMIND, directive_no),
    ).fetchone()
    if last_at is not None and last_at <= at < last_at + SPACING_SECONDS:
        raise HqError(
            f"all were reminded {at - last_at:.0f} seconds ago",
            hint=f"no oftener than every {SPACING_SECONDS / 60:g} minutes",
        )
    waiting = {
        mailbox
        for store_id, role in connection.execute(
            "SELECT store.id, role FROM delivery INDEXED BY delivery_open_of"
            " CROSS JOIN mailbox ON mailbox.no = mailbox_no"
            " CROSS JOIN store ON store.no = store_no WHERE directive_no = ? AND open = 1",
            (directive_no,),
        )
        if organisation.has(mailbox := Mailbox(store_id, role))
    }
    if not waiting:
        return 0
    record = Remind(directive=directive_id, text=text, reminded_at=at, reminded_by=by)
    doc_no = channels.add_doc(connection, "remind", encode_data(record))
    uses = [use.channel for use in cover(waiting, organisation)]
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    note = f"{len(waiting):,} mailboxes" + (f": {text}" if text else "")
    steps.record(connection, directive_no, REMIND, state, at=at, by=by, note=note)
    return len(waiting)


def revise(
    connection: sqlite3.Connection,
    directive_no: int,
    change: Callable[[Directive], Directive],
    *,
    by: str,
    at: float,
) -> None:
    """Take one back that no store has heard of, and write it anew; its audience stays.

    Args:
        connection: With a write transaction open.
        directive_no: Which.
        change: Given the draft, gives the new one, of the same id and audience.
        by: Who does it.
        at: Unix time.

    Raises:
        LifecycleError: It is out already, or over.
        HqError: It is too large now, or it has left for an archive with its audience.
    """
    left = archived.stub(connection, directive_no)
    if left is not None:
        raise HqError(
            f"it was archived, and its audience is in {left.file}",
            hint="write it anew: hq publish",
        )
    if steps.state_of(connection, directive_no) is DirectiveState.DRAFT:
        steps.record(connection, directive_no, Action.REVISE, DirectiveState.DRAFT, at=at, by=by)
    else:
        steps.move(connection, directive_no, Action.REVISE, at=at, by=by)
    (data,) = connection.execute(
        "SELECT data FROM doc WHERE no = (SELECT doc_no FROM directive WHERE no = ?)",
        (directive_no,),
    ).fetchone()
    document = change(directives.read(bytes(data)))
    row = directives.row_of(document) | {
        "doc_no": channels.add_doc(connection, "draft", directives.encode(document))
    }
    connection.execute(
        f"UPDATE directive SET {', '.join(f'{name} = ?' for name in row)} WHERE no = ?",
        (*row.values(), directive_no),
    )
    waves.look_again(connection, directive_no, None)
