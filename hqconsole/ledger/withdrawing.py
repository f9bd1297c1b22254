"""Withdrawing a directive, for good or because another one takes its place.

Owns the table `cancel`: a withdrawal is kept for ever, also of a directive that was never sent, or
that this ledger does not know. It wins whenever it comes.
"""

import sqlite3
from collections.abc import Callable

from buswire.messages import HQ_KINDS, Cancel, decode_data, encode_data
from buswire.states import State
from hqconsole.ledger import archived, channels, deliveries, reach, steps
from hqconsole.ledger.deliveries import STATE_CODES
from hqconsole.lifecycle import Action, DirectiveState, moved
from hqconsole.organisation import Mailbox, Organisation

NewId = Callable[[], str]

WITHDRAWN = frozenset({DirectiveState.CANCELLED, DirectiveState.SUPERSEDED})


def cancel(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    reason: str,
    by: str,
    organisation: Organisation,
    at: float,
    new_id: NewId,
    superseded_by: str = "",
) -> int:
    """Withdraw a directive. Returns how many open deliveries that closed.

    Args:
        connection: With a write transaction open.
        directive_no: Which.
        reason: The stores see it.
        by: Who withdraws it.
        organisation: Today's.
        at: Unix time.
        new_id: A random 128-bit id in hex.
        superseded_by: The id of the directive that stands in for it, if one does.

    Raises:
        LifecycleError: It is withdrawn already.
    """
    directive_id, state = connection.execute(
        "SELECT id, state FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    # A withdrawal is for ever: it is not written before it is sure that it can be.
    moved(DirectiveState(state), Action.SUPERSEDE if superseded_by else Action.CANCEL)
    document = Cancel(
        directive=directive_id,
        reason=reason,
        cancelled_at=at,
        cancelled_by=by,
        superseded_by=superseded_by,
    )
    doc_no = channels.add_doc(connection, "cancel", encode_data(document))
    _keep(connection, directive_id, doc_no, at)
    return carry_out(
        connection,
        directive_no,
        document,
        doc_no,
        organisation=organisation,
        at=at,
        new_id=new_id,
    )


def _keep(connection: sqlite3.Connection, directive_id: str, doc_no: int, at: float) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO cancel (directive_id, doc_no, cancelled_at) VALUES (?, ?, ?)",
        (directive_id, doc_no, at),
    )


def carry_out(
    connection: sqlite3.Connection,
    directive_no: int,
    document: Cancel,
    doc_no: int,
    *,
    organisation: Organisation,
    at: float,
    new_id: NewId,
) -> int:
    """Let a withdrawal that is kept take effect on a directive that is here.

    One that is withdrawn already stays as it is; deliveries that came to light since are closed.
    """
    action = Action.SUPERSEDE if document.superseded_by else Action.CANCEL
    if steps.state_of(connection, directive_no) not in WITHDRAWN:
        steps.move(
            connection, directive_no, action, at=at, by=document.cancelled_by, note=document.reason
        )
    if document.superseded_by:
        connection.execute(
            "UPDATE directive SET superseded_by_no = (SELECT no FROM directive WHERE id = ?)"
            " WHERE no = ?",
            (document.superseded_by, directive_no),
        )
    closed = deliveries.close_open(connection, directive_no, State.CANCELLED, at=at)
    uses = reach.cover_of_audience(connection, directive_no, organisation)
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    return closed


def withdraw_the_former(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    at: float,
    new_id: NewId,
    organisation: Callable[[], Organisation],
) -> None:
    """Withdraw the directive that this one supersedes, now that all of it has gone out."""
    row = connection.execute(
        "SELECT directive.id, former.no, directive.issued_by, former.state FROM directive"
        " JOIN directive AS former ON former.no = directive.supersedes_no WHERE directive.no = ?",
        (directive_no,),
    ).fetchone()
    if row is None or row[3] in WITHDRAWN:
        return
    directive_id, former_no, by, _ = row
    cancel(
        connection,
        former_no,
        reason="",
        by=by,
        superseded_by=directive_id,
        organisation=organisation(),
        at=at,
        new_id=new_id,
    )


def require_withdrawn(connection: sqlite3.Connection, directive_no: int) -> None:
    """Make sure that there is something to be undone.

    Raises:
        HqError: It is not withdrawn.
    """
    steps.require(
        connection, directive_no, WITHDRAWN, "only what was withdrawn is there to be undone"
    )


def done_before(connection: sqlite3.Connection, directive_no: int) -> set[Mailbox]:
    """Who had done a directive before it was withdrawn, and may have something to undo.

    Raises:
        HqError: It is not withdrawn.
    """
    require_withdrawn(connection, directive_no)
    done = STATE_CODES[State.DONE]
    return archived.mailboxes(connection, directive_no, State.DONE) | {
        Mailbox(*row)
        for row in connection.execute(
            "SELECT store.id, role FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
            " JOIN store ON store.no = store_no"
            " WHERE directive_no = ? AND ? IN (delivery.state, delivery.was)",
            (directive_no, done),
        )
    }


def kept(connection: sqlite3.Connection, directive_id: str) -> tuple[Cancel, int] | None:
    """The withdrawal of this directive and the number of its document, if there is one."""
    row = connection.execute(
        "SELECT data, doc_no FROM cancel JOIN doc ON doc.no = doc_no WHERE directive_id = ?",
        (directive_id,),
    ).fetchone()
    return None if row is None else (decode_data("cancel", bytes(row[0]), HQ_KINDS), int(row[1]))


def adopt_cancel(
    connection: sqlite3.Connection,
    data: bytes,
    document: Cancel,
    *,
    seal: str,
    organisation: Organisation,
    at: float,
    new_id: NewId,
) -> bool:
    """Take back a withdrawal that this ledger has forgotten. Idempotent; True when it was new."""
    if connection.execute(
        "SELECT 1 FROM cancel WHERE directive_id = ?", (document.directive,)
    ).fetchone():
        return False
    doc_no = channels.add_doc(connection, "cancel", data, seal=seal)
    _keep(connection, document.directive, doc_no, document.cancelled_at or at)
    row = connection.execute(
        "SELECT no FROM directive WHERE id = ?", (document.directive,)
    ).fetchone()
    if row is not None:
        carry_out(
            connection,
            row[0],
            document,
            doc_no,
            organisation=organisation,
            at=at,
            new_id=new_id,
        )
    return True
