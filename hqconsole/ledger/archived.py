"""What the ledger still knows of a directive that left for an archive.

Owns the table `archived`: which file it is in, how its deliveries were counted, and how each
mailbox ended. That is little, and enough to count, to answer a device that comes back from an old
copy, to reach the same stores again, and to hold the audience against the sealed document. The
directive's row, its document, its withdrawal and its records in the channels never leave. How it
leaves is `archiving`.

`archived.ends` is zlib over, little-endian: how many; the numbers of the mailboxes, rising, each as
the difference to the one before (4 bytes); a byte each for the code of the state, for `was` (255
for none), and for how it was part of it: 0 of the frozen audience, 1 taken in later, 2 of the
frozen audience and never sent. What most mailboxes have in common takes nothing: some bytes a
mailbox at worst, where a row of `delivery` takes forty.
"""

import json
import sqlite3
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from buskit.database import DatabaseDamaged
from buswire.states import State
from hqconsole.errors import HqError
from hqconsole.ledger.deliveries import STATE_OF
from hqconsole.ledger.opening import damaged
from hqconsole.organisation import Mailbox

OUTCOME = "archived"
"""The outcome of an arrival that spoke of a directive when that had left."""
_NONE = 255
_JOINED, _NEVER_SENT = 1, 2
STUB = (
    "SELECT archived.archive_no, archive.file, archived.archived_at, archived.counts FROM archived"
    " JOIN archive ON archive.no = archived.archive_no WHERE directive_no = ?"
)


class Stub(NamedTuple):
    """What stays of a directive.

    Attributes:
        archive_no: Which archive it is in.
        file: Where that was put.
        archived_at: Since when it is nowhere else.
        counts: As `views.counts_of` had them, without the state, which can still change.
        proof: As `breakdowns.proof` had it.
    """

    archive_no: int
    file: str
    archived_at: float
    counts: dict[str, Any]
    proof: dict[str, Any]


class End(NamedTuple):
    """How one mailbox ended."""

    mailbox_no: int
    state: State
    was: State | None
    """In which state a device says that it took the withdrawal."""
    joined: bool
    """Whether it was taken in later, and is not of the frozen audience."""
    sent: bool
    """Whether it went out to it at all."""


def is_archived(connection: sqlite3.Connection, directive_no: int) -> bool:
    """Whether its deliveries have left."""
    row = connection.execute("SELECT 1 FROM archived WHERE directive_no = ?", (directive_no,))
    return row.fetchone() is not None


def stub(connection: sqlite3.Connection, directive_no: int) -> Stub | None:
    """What stays of a directive; None while all of it is here."""
    row = connection.execute(STUB, (directive_no,)).fetchone()
    if row is None:
        return None
    kept = json.loads(row[3])
    return Stub(row[0], row[1], row[2], kept["counts"], kept["proof"])


def require_here(connection: sqlite3.Connection, directive_no: int, command: str) -> None:
    """Make sure that the deliveries and answers of a directive are in this ledger.

    Args:
        connection: Of the ledger.
        directive_no: Which.
        command: What was asked for; the same can be asked of the archive.

    Raises:
        HqError: They left; says for which file.
    """
    found = stub(connection, directive_no)
    if found is not None:
        raise HqError(
            f"it was archived: its deliveries and answers are in {found.file}",
            hint=f"{command} --archive {found.file}",
        )


def save(
    connection: sqlite3.Connection,
    directive_no: int,
    archive_no: int,
    *,
    counts: dict[str, Any],
    proof: dict[str, Any],
    ends: bytes,
    at: float,
) -> None:
    """Let this stand for a directive, in the transaction in which its deliveries leave."""
    connection.execute(
        "INSERT INTO archived (directive_no, archive_no, archived_at, counts, ends)"
        " VALUES (?, ?, ?, ?, ?)",
        (directive_no, archive_no, at, json.dumps({"counts": counts, "proof": proof}), ends),
    )


def forget(connection: sqlite3.Connection, directive_no: int) -> None:
    """Let nothing stand for a directive any more that turns out to be anything but finished."""
    connection.execute("DELETE FROM archived WHERE directive_no = ?", (directive_no,))


def pack(rows: Iterable[Sequence[Any]]) -> bytes:
    """Ends as they are kept.

    Args:
        rows: Number of the mailbox, rising; code of the state; code of `was` or None; `joined_at`;
            whether it was only planned.
    """
    found = [tuple(row) for row in rows]
    numbers = [row[0] for row in found]
    steps = [number - before for number, before in zip(numbers, [0, *numbers], strict=False)]
    return zlib.compress(
        struct.pack(f"<{len(found) + 1}I", len(found), *steps)
        + bytes(row[1] for row in found)
        + bytes(_NONE if row[2] is None else row[2] for row in found)
        + bytes(_NEVER_SENT if row[4] else int(row[3] is not None) for row in found)
    )


class _Columns(NamedTuple):
    """The ends, column by column: who asks for one of a hundred thousand need not make them all."""

    numbers: list[int]
    states: bytes
    was: bytes
    parts: bytes


def _columns(packed: bytes) -> _Columns:
    try:
        data = zlib.decompress(packed)
        (count,) = struct.unpack_from("<I", data)
        numbers = list(accumulate(struct.unpack_from(f"<{count}I", data, 4)))
    except (zlib.error, struct.error) as error:
        raise _damaged() from error
    rest = data[4 + 4 * count :]
    if len(rest) != 3 * count:
        raise _damaged()
    return _Columns(numbers, rest[:count], rest[count : 2 * count], rest[2 * count :])


def _damaged() -> DatabaseDamaged:
    return damaged("a row of its table archived is not as it was written")


def unpack(packed: bytes) -> list[End]:
    """The ends, by the numbers of their mailboxes.

    Raises:
        DatabaseDamaged: They are not as they were written.
    """
    try:
        return [
            End(
                number,
                STATE_OF[state],
                None if was == _NONE else STATE_OF[was],
                part == _JOINED,
                part != _NEVER_SENT,
            )
            for number, state, was, part in zip(*_columns(packed), strict=True)
        ]
    except IndexError as error:
        raise _damaged() from error


def _packed(connection: sqlite3.Connection, directive_no: int) -> bytes | None:
    row = connection.execute(
        "SELECT ends FROM archived WHERE directive_no = ?", (directive_no,)
    ).fetchone()
    return None if row is None else bytes(row[0])


def ends(connection: sqlite3.Connection, directive_no: int) -> list[End]:
    """How each mailbox of a directive that left ended; none while it is here.

    Raises:
        DatabaseDamaged: They are not as they were written.
    """
    packed = _packed(connection, directive_no)
    return [] if packed is None else unpack(packed)


def mailboxes(
    connection: sqlite3.Connection, directive_no: int, having: State | None = None
) -> set[Mailbox]:
    """Those that a directive which left was sent to, or that ended so; none while it is here.

    Args:
        connection: Of the ledger.
        directive_no: Which.
        having: Only where it ended in this state, or a device took the withdrawal in it.
    """
    return {
        Mailbox(*row)
        for end in ends(connection, directive_no)
        if end.sent and having in {None, end.state, end.was}
        for row in connection.execute(
            "SELECT store.id, role FROM mailbox JOIN store ON store.no = store_no"
            " WHERE mailbox.no = ?",
            (end.mailbox_no,),
        )
    }


def end_of(
    connection: sqlite3.Connection, directive_no: int, store: str, role: str
) -> State | None:
    """How one mailbox of a directive that left ended; None where it had none there."""
    packed = _packed(connection, directive_no)
    row = connection.execute(
        "SELECT mailbox.no FROM mailbox JOIN store ON store.no = store_no"
        " WHERE store.id = ? AND role = ?",
        (store, role),
    ).fetchone()
    if packed is None or row is None:
        return None
    columns = _columns(packed)
    place = bisect_left(columns.numbers, row[0])
    if columns.numbers[place : place + 1] != [row[0]] or columns.parts[place] == _NEVER_SENT:
        return None
    return STATE_OF[columns.states[place]]


def roles_with_it(connection: sqlite3.Connection, directive_no: int, store: str) -> list[str]:
    """The roles of a store to which a directive that left was sent."""
    numbers = {end.mailbox_no for end in ends(connection, directive_no) if end.sent}
    return [
        role
        for no, role in connection.execute(
            "SELECT mailbox.no, role FROM mailbox JOIN store ON store.no = store_no"
            " WHERE store.id = ? ORDER BY role",
            (store,),
        )
        if no in numbers
    ]


def reached(
    connection: sqlite3.Connection, directive_no: int, store: str | None, region: str | None
) -> bool:
    """Whether a directive that left went, or was to go, to such a store."""
    packed = _packed(connection, directive_no)
    if packed is None:
        return False
    numbers = set(_columns(packed).numbers)
    return any(
        no in numbers
        for (no,) in connection.execute(
            "SELECT mailbox.no FROM store CROSS JOIN mailbox ON mailbox.store_no = store.no"
            " WHERE (?1 IS NULL OR store.id = ?1) AND (?2 IS NULL OR store.region = ?2)",
            (store, region),
        )
    )
