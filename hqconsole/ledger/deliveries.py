"""Deliveries: one directive for one mailbox, with its state in the row.

A state is kept as a small integer (`STATE_CODES`), `open` beside it, so that "what is this mailbox
still to do" is a partial index and a delivery takes some tens of bytes.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
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


ENDED_BY_HQ = "('expired', 'cancelled', 'superseded')"
"""For a query: the states of a directive in which HQ closed what was open."""

ARRIVED_LATE = 1
"""Bit of `delivery.late`: said in time, and heard after HQ had closed it."""
DONE_AFTER_DUE = 2
"""Bit of `delivery.late`: done after it was due."""


class Moved(NamedTuple):
    """What a receipt did to its delivery."""

    verdict: Verdict
    state: State
    closes: bool = False
    """Whether HQ waited for it until now."""


def add(
    connection: sqlite3.Connection,
    directive_no: int,
    mailbox_nos: Iterable[int],
    wave_no: int | None = None,
) -> None:
    """Add pending deliveries; those that are there already stay as they are."""
    connection.executemany(
        "INSERT OR IGNORE INTO delivery (directive_no, mailbox_no, state, open, mix, wave_no)"
        f" VALUES (?1, ?2, {PENDING}, 1, ?1 * 1009 + ?2 * 31 + {PENDING} * 7 + 3, ?3)",
        [(directive_no, mailbox_no, wave_no) for mailbox_no in mailbox_nos],
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
    due_at: Callable[[str], float | None] = lambda _: None,
) -> Moved | None:
    """Apply a receipt; None when the mailbox is not in the audience.

    Idempotent: the same receipt again moves nothing.

    Args:
        connection: With a write transaction open.
        directive_no: Of which directive.
        mailbox_no: Of which mailbox.
        said: What the store says.
        said_at: When, by the store's clock, corrected.
        arrival_no: The receipt.
        at: Unix time.
        due_at: Given the directive's due moment as it is kept: when that is for this store.
    """
    row = connection.execute(
        f"SELECT delivery.state, needs, changed_at, mix = {_MIX}, due, delivery.open,"
        f" CASE WHEN directive.state IN {ENDED_BY_HQ} THEN closed_at END FROM delivery"
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
    if verdict is Verdict.MOVES and row[6] is not None:
        # A store that could not had closed it by itself. In whatever order its words arrive, what
        # counts is whether they were said before HQ ended the directive.
        verdict = Verdict.MOVES_LATE if said_at <= row[6] else Verdict.TOO_LATE
    if verdict in {Verdict.NOTHING, Verdict.TOO_LATE}:
        return Moved(verdict, state)
    late = ARRIVED_LATE if verdict is Verdict.MOVES_LATE else 0
    if said is State.DONE and row[4] is not None:
        over_at = due_at(row[4])
        late |= DONE_AFTER_DUE if over_at is not None and said_at > over_at else 0
    connection.execute(
        "UPDATE delivery SET state = ?1, open = ?2, changed_at = ?3, late = ?4, arrival_no = ?5,"
        " mix = directive_no * 1009 + mailbox_no * 31 + ?1 * 7 + ?2 * 3 + ?5 * 10007"
        " WHERE directive_no = ?6 AND mailbox_no = ?7",
        (
            STATE_CODES[said],
            int(is_open(said, needs)),
            at,
            late or None,
            arrival_no,
            directive_no,
            mailbox_no,
        ),
    )
    return Moved(verdict, said, closes=bool(row[5]) and not is_open(said, needs))


def close_open(
    connection: sqlite3.Connection, directive_no: int, state: State, *, at: float
) -> int:
    """Close what is still open of a directive. Returns how many deliveries that were."""
    return connection.execute(
        "UPDATE delivery SET before_hq = state, state = ?1, open = 0, changed_at = ?2,"
        " mix = mix + (?1 - state) * 7 - 3 WHERE directive_no = ?3 AND open = 1",
        (STATE_CODES[state], at, directive_no),
    ).rowcount


def remove(
    connection: sqlite3.Connection, directive_no: int, mailbox_no: int, *, at: float
) -> bool:
    """Count one open delivery no longer; whether there was one."""
    return bool(
        connection.execute(
            "UPDATE delivery SET before_hq = state, state = ?1, open = 0, changed_at = ?2,"
            " mix = mix + (?1 - state) * 7 - 3"
            " WHERE directive_no = ?3 AND mailbox_no = ?4 AND open = 1",
            (STATE_CODES[State.REMOVED], at, directive_no, mailbox_no),
        ).rowcount
    )


def note_withdrawn(
    connection: sqlite3.Connection, directive_no: int, mailbox_no: int, was: State
) -> bool:
    """Note that a device of the mailbox took the withdrawal, and how far the work was there.

    Of several devices the one that was furthest counts. Idempotent.

    Returns:
        Whether the mailbox was ever sent it.
    """
    return bool(
        connection.execute(
            "UPDATE delivery SET was = max(coalesce(was, 0), ?)"
            " WHERE directive_no = ? AND mailbox_no = ?",
            (STATE_CODES[was], directive_no, mailbox_no),
        ).rowcount
    )


# SQLite takes the whole directive's range for as good: it is not when almost all are done.
OPEN_OF = (
    "SELECT 1 FROM delivery INDEXED BY delivery_open_of WHERE directive_no = ? AND open = 1 LIMIT 1"
)


def any_open(connection: sqlite3.Connection, directive_no: int) -> bool:
    """Whether HQ waits for any mailbox of a directive."""
    return connection.execute(OPEN_OF, (directive_no,)).fetchone() is not None


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
        "SELECT no, adopted_at IS NOT NULL OR EXISTS"
        " (SELECT 1 FROM wave CROSS JOIN planned ON planned.directive_no = wave.directive_no"
        " AND planned.wave_no = wave.no AND planned.mailbox_no ="
        " (SELECT mailbox.no FROM mailbox WHERE store_no = ? AND role = ?)"
        " WHERE wave.directive_no = directive.no)"
        " FROM directive WHERE id = ? AND issued_at > 0",
        (store_no, work.role, work.directive),
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
        # An adopted directive's audience is put together from those who have it; and who has what
        # is only planned for it knows more of it than an older copy of the ledger.
        return None if directive[1] and work.role in roles else Answer(work=work, verdict="gone")
    _require_mix(row[2])
    if not row[1]:
        return Answer(work=work, verdict="gone", state=STATE_OF[row[0]])
    if work.role not in roles:
        return Answer(work=work, verdict="gone")
    return Answer(work=work, verdict="open")
