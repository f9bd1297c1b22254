"""Finished directives leave the ledger: what an archive has word for word is removed here.

Invariants:
- Only what a recorded archive has word for word is removed.
- Each directive leaves in one transaction, in which `archived` begins to stand for it; its answers
  follow in small ones, and a message goes with the last of its records. Whatever is interrupted
  anywhere is gone on with by the next call: at no moment is something in neither place.
- A transaction is short, and there is a pause behind it, so that a hub gets its turn.
- The places in the devices' logs that messages leave empty are remembered (`archived_run`), so that
  the logs can still be seen to be dense.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from buskit.database import Database
from buswire import frame
from buswire.messages import Records
from hqconsole.ledger import archive_files, archived, breakdowns, views
from hqconsole.ledger.archiving import OWN_TABLES, PIECE_ROWS, Advance
from hqconsole.ledger.evidence import MESSAGE_OVERHEAD_BYTES
from hqconsole.ledger.search_index import Source

_WORDS = f"({Source.REPLY:d}, {Source.NOTE:d}, {Source.CANNOT:d})"
# What a row shows that is cheap to look at: if it is the same, the directive is as it was.
_STAND = (
    "SELECT state, closed_at, (SELECT count(*) FROM {of}delivery WHERE directive_no = ?1),"
    " (SELECT total(mix) FROM {of}delivery WHERE directive_no = ?1),"
    " (SELECT total(was) FROM {of}delivery WHERE directive_no = ?1),"
    " (SELECT count(*) FROM {of}arrival WHERE directive_no = ?1),"
    " (SELECT max(no) FROM {of}arrival WHERE directive_no = ?1),"
    " (SELECT count(*) FROM {of}directive_step WHERE directive_no = ?1),"
    " (SELECT count(*) FROM {of}planned WHERE directive_no = ?1) FROM {of}directive WHERE no = ?1"
)


class Left(NamedTuple):
    """What a run took out of the ledger."""

    archive_no: int
    directives: list[int]
    changed: int
    """How many stay, because they are not as the file has them any more."""


def take_out(
    ledger: Database,
    archive_no: int,
    path: Path,
    *,
    at: float,
    advance: Advance,
    pause: Callable[[], None],
) -> Left:
    """Remove from the ledger what a recorded archive has word for word. Idempotent.

    Whatever ends it, what is not removed yet is removed by the next call.

    Args:
        ledger: Of a file, with no transaction open.
        archive_no: Which archive.
        path: Where it is now; the caller has compared its SHA-256.
        at: Unix time.
        advance: Told the rows that were compared, and again that were removed.
        pause: Called between transactions, so that others get their turn.

    Raises:
        DatabaseError: The archive cannot be read, or the ledger not be written.
    """
    assert ledger.path is not None  # as in `write`
    gone: list[int] = []
    changed = 0
    with archive_files.reading(path) as connection:
        archive_files.attach(connection, ledger.path)
        for directive_no, rows in _directives_in(connection):
            owner = _archive_of(ledger.connection, directive_no)
            if owner is None and _is_same(connection, directive_no):
                owner = _leave(ledger, connection, directive_no, archive_no, at)
                pause()
            if owner == archive_no:
                gone.append(directive_no)
            changed += owner is None
            advance(rows)
        connection.execute("DETACH ledger")
        with _unreferenced(ledger.connection):
            _sweep(ledger, connection, frozenset(gone), advance, pause)
    with ledger.write() as writing:
        writing.execute("UPDATE archive SET swept_at = ? WHERE no = ?", (at, archive_no))
    return Left(archive_no, gone, changed)


def _directives_in(archive: sqlite3.Connection) -> Iterator[tuple[int, int]]:
    for (no,) in archive.execute("SELECT no FROM main.directive ORDER BY no").fetchall():
        counts = archive.execute(
            "SELECT (SELECT count(*) FROM main.delivery WHERE directive_no = ?1),"
            " (SELECT count(*) FROM main.arrival WHERE directive_no = ?1)",
            (no,),
        ).fetchone()
        yield no, 1 + sum(counts)


def _archive_of(connection: sqlite3.Connection, directive_no: int) -> int | None:
    row = connection.execute(
        "SELECT archive_no FROM archived WHERE directive_no = ?", (directive_no,)
    ).fetchone()
    return None if row is None else int(row[0])


def _is_same(archive: sqlite3.Connection, directive_no: int) -> bool:
    """Whether the ledger beside an archive has the same of a directive, word for word."""
    archive.execute("BEGIN")
    try:
        if _stand(archive, directive_no, "main.") != _stand(archive, directive_no, "ledger."):
            return False
        if archive.execute(_OTHER_DOC, (directive_no,)).fetchone() is not None:
            return False
        return not any(
            archive.execute(_other(archive, table, key), (directive_no,)).fetchone()
            for table, key in {**OWN_TABLES, "message": ("no",)}.items()
        )
    finally:
        archive.execute("ROLLBACK")


_OTHER_DOC = (
    "SELECT 1 FROM main.directive AS kept JOIN main.doc AS said ON said.no = kept.doc_no"
    " LEFT JOIN ledger.directive AS here ON here.no = kept.no"
    " LEFT JOIN ledger.doc AS told ON told.no = here.doc_no WHERE kept.no = ?"
    " AND (here.id IS NOT kept.id OR told.data IS NOT said.data)"
)


def _other(archive: sqlite3.Connection, table: str, key: Sequence[str]) -> str:
    """The query for a row of a directive that the ledger has otherwise, or not."""
    columns = [str(row[1]) for row in archive.execute(f"PRAGMA main.table_info({table})")]
    differs = " OR ".join(
        f"kept.{name} IS NOT here.{name}" for name in columns if name != "archived"
    )
    same = " AND ".join(f"here.{name} = kept.{name}" for name in key)
    whose = "kept.directive_no = ?1"
    if table == "message":
        whose = "kept.no IN (SELECT message_no FROM main.arrival WHERE directive_no = ?1)"
    return (
        f"SELECT 1 FROM main.{table} AS kept LEFT JOIN ledger.{table} AS here ON {same}"
        f" WHERE {whose} AND ({differs}) LIMIT 1"
    )


def _stand(connection: sqlite3.Connection, directive_no: int, of: str = "") -> Any:
    return connection.execute(_STAND.format(of=of), (directive_no,)).fetchone()


def _leave(
    ledger: Database, archive: sqlite3.Connection, directive_no: int, archive_no: int, at: float
) -> int | None:
    """Let one directive leave; the number of the archive, or None if it changed meanwhile."""
    with ledger.read() as connection:
        stand = _stand(connection, directive_no)
        counts = views.counts_of(connection, directive_no)
        del counts["state"]
        proof = breakdowns.proof(connection, directive_no)
        ends = archived.pack(
            connection.execute(
                "SELECT mailbox_no, state, was, joined_at, 0 FROM delivery WHERE directive_no = ?1"
                " UNION ALL SELECT mailbox_no, 0, NULL, NULL, 1 FROM planned"
                " WHERE directive_no = ?1 ORDER BY mailbox_no",
                (directive_no,),
            )
        )
    if stand != _stand(archive, directive_no, "main."):
        return None
    with ledger.write() as connection:
        if stand != _stand(connection, directive_no):
            return None
        archived.save(
            connection,
            directive_no,
            archive_no,
            counts=counts,
            proof=proof,
            ends=ends,
            at=at,
        )
        connection.execute(
            f"UPDATE searched SET directive_no = ?1 WHERE source = {Source.STEP:d} AND source_no IN"
            " (SELECT no FROM directive_step WHERE directive_no = ?1)",
            (directive_no,),
        )
        for table in OWN_TABLES:
            if table != "arrival":  # of which there can be many, so they follow by and by
                connection.execute(f"DELETE FROM {table} WHERE directive_no = ?", (directive_no,))
    return archive_no


_ANSWERS = (
    "SELECT no, device_no, id, directive_no, message_no FROM main.arrival WHERE no > ?"
    " ORDER BY no LIMIT ?"
)
# Of what came before messages were signed, the log's first message may go on from it.
_REMOVE = (
    "DELETE FROM arrival WHERE no = ?1 AND device_no = ?2 AND id = ?3 AND directive_no = ?4"
    " AND (message_no IS NOT NULL OR (lower(hex(id)) NOT IN"
    " (SELECT after_id FROM message WHERE device_no = ?2)"
    " AND lower(hex(id)) NOT IN (SELECT after_id FROM archived_run WHERE device_no = ?2)"
    " AND lower(hex(id)) NOT IN (SELECT id FROM uplink WHERE device_no = ?2)))"
)


def _sweep(
    ledger: Database,
    archive: sqlite3.Connection,
    gone: frozenset[int],
    advance: Advance,
    pause: Callable[[], None],
) -> None:
    """Remove the answers of directives that have left, and messages that brought nothing else."""
    after = 0
    while rows := archive.execute(_ANSWERS, (after, PIECE_ROWS)).fetchall():
        after = rows[-1][0]
        leaving = [row for row in rows if row[3] in gone]
        if leaving:
            with ledger.write() as connection:
                _remove(connection, leaving)
            pause()
        advance(len(rows))


@contextmanager
def _unreferenced(connection: sqlite3.Connection) -> Iterator[None]:
    """Let SQLite not look for arrivals that refer to a message which is removed.

    It would read all of them for each message. That there are none is what `message.archived` says.
    """
    connection.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        connection.execute("PRAGMA foreign_keys = ON")


def _remove(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
    emptied: dict[int, int] = {}
    for no, device_no, record_id, directive_no, message_no in rows:
        removed = connection.execute(_REMOVE, (no, device_no, record_id, directive_no)).rowcount
        if not removed:
            continue
        if message_no is not None:
            emptied[message_no] = emptied.get(message_no, 0) + 1
        connection.execute(
            f"UPDATE searched SET directive_no = ?, device_no = ? WHERE source_no = ?"
            f" AND source IN {_WORDS}",
            (directive_no, device_no, no),
        )
    for message_no, records in sorted(emptied.items()):
        left, count = connection.execute(
            "UPDATE message SET archived = archived + ? WHERE no = ? RETURNING archived, records",
            (records, message_no),
        ).fetchone()
        if left >= count:
            _remove_message(connection, message_no)


def _remove_message(connection: sqlite3.Connection, message_no: int) -> None:
    """Remove a message of which nothing is left, and remember its place in its log."""
    device_no, log, after_seq, after_id, text = connection.execute(
        "DELETE FROM message WHERE no = ? RETURNING device_no, log, after_seq, after_id, text",
        (message_no,),
    ).fetchone()
    message = frame.decode_text(bytes(text))
    assert isinstance(message, Records)  # nothing else is kept
    connection.execute(
        "UPDATE device SET kept_bytes = max(0, kept_bytes - ?) WHERE no = ?",
        (len(text) + MESSAGE_OVERHEAD_BYTES, device_no),
    )
    end_seq, end_id = after_seq + len(message.records), message.records[-1].id
    run = _Run(message_no, message_no, after_seq, after_id, end_seq, end_id, 1)
    place = (device_no, log)
    for before in (True, False):
        neighbour = _neighbour(connection, place, message_no, before=before)
        if neighbour is not None:
            connection.execute(
                "DELETE FROM archived_run WHERE device_no = ? AND log = ? AND first_no = ?",
                (*place, neighbour.first_no),
            )
            first, last = (neighbour, run) if before else (run, neighbour)
            run = _Run(
                first.first_no,
                last.last_no,
                *(first.after_seq, first.after_id, last.through_seq, last.through_id),
                first.messages + last.messages,
            )
    connection.execute(
        "INSERT INTO archived_run (device_no, log, first_no, last_no, after_seq, after_id,"
        " through_seq, through_id, messages) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*place, *run),
    )


class _Run(NamedTuple):
    """A row of `archived_run` without its place."""

    first_no: int
    last_no: int
    after_seq: int
    after_id: str
    through_seq: int
    through_id: str
    messages: int


def _neighbour(
    connection: sqlite3.Connection, place: tuple[int, str], message_no: int, *, before: bool
) -> _Run | None:
    """The run next to a place in a log, if no kept message is between."""
    than, order = ("<", "DESC") if before else (">", "ASC")
    row = connection.execute(
        "SELECT first_no, last_no, after_seq, after_id, through_seq, through_id, messages"
        f" FROM archived_run WHERE device_no = ? AND log = ? AND first_no {than} ?"
        f" ORDER BY first_no {order} LIMIT 1",
        (*place, message_no),
    ).fetchone()
    if row is None:
        return None
    run = _Run(*row)
    between = (run.last_no, message_no) if before else (message_no, run.first_no)
    kept = connection.execute(
        "SELECT 1 FROM message WHERE device_no = ? AND log = ? AND no > ? AND no < ? LIMIT 1",
        (*place, *between),
    ).fetchone()
    return None if kept is not None else run
