"""Deliveries: one directive for one mailbox, with its state in the row.

A state is kept as a small integer (`STATE_CODES`), `open` beside it, so that "what is this mailbox
still to do" is a partial index and a delivery takes some tens of bytes.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Raw

from buswire.messages import Answer, SnapshotItem, Work
from buswire.states import CLOSED_BY_HQ, Needs, State, Verdict, is_open, judge_receipt

STATE_OF: tuple[State, ...] = (
    State.PENDING,
    State.DELIVERED,
    State.READ,
    State.IN_PROGRESS,
    State.CANNOT,
    State.DONE,
    State.EXPIRED,
    State.CANCELLED,
    State.REMOVED,
)
"""The state of each code, as `delivery.state` holds it; only ever added to."""
STATE_CODES: dict[State, int] = {state: code for code, state in enumerate(STATE_OF)}
PENDING = STATE_CODES[State.PENDING]


class Moved(NamedTuple):
    """What a receipt did to its delivery."""

    verdict: Verdict
    state: State


def add(connection: sqlite3.Connection, directive_no: int, mailbox_nos: Iterable[int]) -> None:
    """Add pending deliveries; those that are there already stay as they are."""
    connection.executemany(
        "INSERT OR IGNORE INTO delivery (directive_no, mailbox_no, state, open)"
        f" VALUES (?, ?, {PENDING}, 1)",
        [(directive_no, mailbox_no) for mailbox_no in mailbox_nos],
    )


def exists(connection: sqlite3.Connection, directive_no: int, mailbox_no: int) -> bool:
    """Whether the mailbox is in the directive's audience."""
    return (
        connection.execute(
            "SELECT 1 FROM delivery WHERE directive_no = ? AND mailbox_no = ?",
            (directive_no, mailbox_no),
        ).fetchone()
        is not None
    )


def move(
    connection: sqlite3.Connection,
    directive_no: int,
    mailbox_no: int,
    said: State,
    *,
    said_at: float,
    arrival_no: int,
    at: float,
) -> Moved | None:
    """Apply a receipt; None when the mailbox is not in the audience.

    Idempotent: the same receipt again moves nothing.
    """
    row = connection.execute(
        "SELECT delivery.state, needs, changed_at FROM delivery"
        " JOIN directive ON directive.no = directive_no"
        " WHERE directive_no = ? AND mailbox_no = ?",
        (directive_no, mailbox_no),
    ).fetchone()
    if row is None:
        return None
    state, needs = STATE_OF[row[0]], Needs(row[1])
    closed_at = row[2] if state in CLOSED_BY_HQ else None
    verdict = judge_receipt(state, said, said_at=said_at, closed_at=closed_at, needs=needs)
    if verdict in {Verdict.NOTHING, Verdict.TOO_LATE}:
        return Moved(verdict, state)
    late = 1 if verdict is Verdict.MOVES_LATE else None
    connection.execute(
        "UPDATE delivery SET state = ?, open = ?, changed_at = ?, late = ?, arrival_no = ?"
        " WHERE directive_no = ? AND mailbox_no = ?",
        (
            STATE_CODES[said],
            int(is_open(said, needs)),
            at,
            late,
            arrival_no,
            directive_no,
            mailbox_no,
        ),
    )
    return Moved(verdict, said)


def close_open(
    connection: sqlite3.Connection, directive_no: int, state: State, *, at: float
) -> int:
    """Close what is still open of a directive. Returns how many deliveries that were."""
    return connection.execute(
        "UPDATE delivery SET state = ?, open = 0, changed_at = ?"
        " WHERE directive_no = ? AND open = 1",
        (STATE_CODES[state], at, directive_no),
    ).rowcount


def mailboxes_of(
    connection: sqlite3.Connection, store_no: int, roles: Sequence[str]
) -> dict[int, str]:
    """The numbers of a store's mailboxes for these roles."""
    marks = ",".join("?" * len(roles))
    return dict(
        connection.execute(
            f"SELECT no, role FROM mailbox WHERE store_no = ? AND role IN ({marks})",
            (store_no, *roles),
        ).fetchall()
    )


def open_work(connection: sqlite3.Connection, mailboxes: dict[int, str]) -> list[SnapshotItem]:
    """Every open delivery of these mailboxes, with its directive, the oldest first."""
    items: list[tuple[int, SnapshotItem]] = []
    for mailbox_no, role in mailboxes.items():
        items += [
            (
                no,
                SnapshotItem(role=role, state=STATE_OF[state], data=Raw(data), seal=seal or ""),
            )
            for no, state, data, seal in connection.execute(
                "SELECT directive_no, delivery.state, doc.data, doc.seal FROM delivery"
                " JOIN directive ON directive.no = directive_no"
                " JOIN doc ON doc.no = directive.doc_no"
                " WHERE mailbox_no = ? AND open = 1",
                (mailbox_no,),
            )
        ]
    items.sort(key=lambda item: item[0])
    return [item for _, item in items]


def answer(
    connection: sqlite3.Connection, work: Work, store_no: int, roles: Sequence[str]
) -> Answer | None:
    """What HQ knows of work that a device is unsure about; None when HQ does not know it at all."""
    directive = connection.execute(
        "SELECT no, adopted_at IS NOT NULL FROM directive WHERE id = ?", (work.directive,)
    ).fetchone()
    if directive is None:
        return None
    row = connection.execute(
        "SELECT delivery.state, open FROM delivery"
        " JOIN mailbox ON mailbox.no = mailbox_no"
        " WHERE directive_no = ? AND store_no = ? AND role = ?",
        (directive[0], store_no, work.role),
    ).fetchone()
    if row is None:
        # An adopted directive's audience is put together from those who have it.
        return None if directive[1] and work.role in roles else Answer(work=work, verdict="gone")
    if not row[1]:
        return Answer(work=work, verdict="gone", state=STATE_OF[row[0]])
    if work.role not in roles:
        return Answer(work=work, verdict="gone")
    return Answer(work=work, verdict="open")
