"""Deliveries: one directive for one mailbox, with its state in the row.

A state is kept as a small integer (`STATE_CODES`), `open` beside it, so that "what is this mailbox
still to do" is a partial index and a delivery takes some tens of bytes.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import Raw

from buswire.messages import Answer, SnapshotItem, Work
from buswire.states import CLOSED_BY_HQ, Needs, State, Verdict, is_open, judge_receipt
from hqconsole.ledger.opening import damaged, require_sum
from hqconsole.ledger.schema import MIX

_MIX = "(" + MIX.replace("state", "delivery.state") + ")"

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
        "INSERT OR IGNORE INTO delivery (directive_no, mailbox_no, state, open, mix)"
        f" VALUES (?1, ?2, {PENDING}, 1, ?1 * 1009 + ?2 * 31 + {PENDING} * 7 + 3)",
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
        f"SELECT delivery.state, needs, changed_at, mix = {_MIX} FROM delivery"
        " JOIN directive ON directive.no = directive_no"
        " WHERE directive_no = ? AND mailbox_no = ?",
        (directive_no, mailbox_no),
    ).fetchone()
    if row is None:
        return None
    _require_mix(row[3])
    state, needs = STATE_OF[row[0]], Needs(row[1])
    closed_at = row[2] if state in CLOSED_BY_HQ else None
    verdict = judge_receipt(state, said, said_at=said_at, closed_at=closed_at, needs=needs)
    if verdict in {Verdict.NOTHING, Verdict.TOO_LATE}:
        return Moved(verdict, state)
    late = 1 if verdict is Verdict.MOVES_LATE else None
    connection.execute(
        "UPDATE delivery SET state = ?1, open = ?2, changed_at = ?3, late = ?4, arrival_no = ?5,"
        " mix = directive_no * 1009 + mailbox_no * 31 + ?1 * 7 + ?2 * 3 + ?5 * 10007"
        " WHERE directive_no = ?6 AND mailbox_no = ?7",
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
        "UPDATE delivery SET state = ?1, open = 0, changed_at = ?2,"
        " mix = mix + (?1 - state) * 7 - 3 WHERE directive_no = ?3 AND open = 1",
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
            for no, state, data, seal in _sound(
                connection.execute(
                    "SELECT directive_no, delivery.state, doc.data, doc.seal,"
                    f" mix = {_MIX}, doc.no, doc.kind, doc.sum, directive.id FROM delivery"
                    " JOIN directive ON directive.no = directive_no"
                    " JOIN doc ON doc.no = directive.doc_no"
                    " WHERE mailbox_no = ? AND open = 1",
                    (mailbox_no,),
                )
            )
        ]
    items.sort(key=lambda item: item[0])
    return [item for _, item in items]


def _sound(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[int, int, bytes, str | None]]:
    """Rows of `open_work` without what only shows that they are as they were written.

    Raises:
        DatabaseDamaged: One is not.
    """
    for no, state, data, seal, fits, doc_no, kind, total, directive_id in rows:
        _require_mix(fits)
        require_sum("doc", total, doc_no, kind, data, seal)
        if directive_id.encode() not in bytes(data):
            raise damaged("a directive has the text of another one")
        yield no, state, data, seal


def _require_mix(fits: int | None) -> None:
    if not fits:
        raise damaged("a row of its table delivery is not as it was written")


def wrong_rows(connection: sqlite3.Connection) -> int:
    """How many deliveries are not as they were written; reads all of them."""
    found = connection.execute(f"SELECT count(*) FROM delivery WHERE mix IS NOT {_MIX}").fetchone()
    return int(found[0])


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
        f"SELECT delivery.state, open, mix = {_MIX} FROM delivery"
        " JOIN mailbox ON mailbox.no = mailbox_no"
        " WHERE directive_no = ? AND store_no = ? AND role = ?",
        (directive[0], store_no, work.role),
    ).fetchone()
    if row is None:
        # An adopted directive's audience is put together from those who have it.
        return None if directive[1] and work.role in roles else Answer(work=work, verdict="gone")
    _require_mix(row[2])
    if not row[1]:
        return Answer(work=work, verdict="gone", state=STATE_OF[row[0]])
    if work.role not in roles:
        return Answer(work=work, verdict="gone")
    return Answer(work=work, verdict="open")
