"""Finished directives leave the ledger for a file: which of them, and what is written there.

What leaves: deliveries, answers (receipts, replies, withdrawals that were taken), steps, plans,
waves, escalations, and each signed message whose records have all left. What stays: see `archived`.
What the file has besides is all that proves them: the documents with their seals, the records in
the channels, the devices with their keys and head office's word for each, and its chain of keys.
How the file comes to be is `archive_files`; how the rows leave is `archive_removal`.

Invariants:
- The ledger is only read, one directive at a time; it has no word of the file before that is
  complete, durable and read back. Then it records it by its SHA-256.
- Nothing leaves that anything of the last `YOUNGEST_SECONDS` belongs to: devices send again what
  they keep for 30 days, and a receipt that had left would count as a new one. What comes after
  that all the same, from a device that is put back from a very old copy, moves nothing.
- The latest answer and the latest step stay: their numbers are not given away again.
- Memory does not grow with deliveries and answers.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from buskit.database import Database, DatabaseDamaged
from buswire.signing import KeyText
from buswire.trust import KeyEntry
from hqconsole.errors import HqError
from hqconsole.ledger import access, archive_files, progress
from hqconsole.lifecycle import UNFINISHED, DirectiveState

DAY_SECONDS = 86_400.0
YOUNGEST_SECONDS = 90 * DAY_SECONDS
PIECE_ROWS = 500
"""So many are read, or removed, at once."""
_FINISHED = ", ".join(f"'{state.value}'" for state in DirectiveState if state not in UNFINISHED)

# The last of anything that belongs to it. What older programs completed has no time of its own.
ENDED = (
    "SELECT no, id, title, state, max(issued_at, coalesce(closed_at, 0),"
    " coalesce((SELECT written_at FROM plan WHERE directive_no = directive.no), 0),"
    " coalesce((SELECT received_at FROM arrival WHERE directive_no = directive.no"
    " ORDER BY arrival.no DESC LIMIT 1), 0),"
    " coalesce((SELECT at FROM directive_step WHERE directive_no = directive.no"
    " ORDER BY directive_step.no DESC LIMIT 1), 0)) AS ended_at FROM directive"
    f" WHERE no > ? AND state IN ({_FINISHED})"
    " AND NOT EXISTS (SELECT 1 FROM archived WHERE directive_no = directive.no)"
    " ORDER BY no LIMIT ?"
)
_UNFIT = (
    "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_open_of"
    " WHERE directive_no = ?1 AND open = 1),"
    " EXISTS (SELECT 1 FROM directive JOIN doc ON doc.no = doc_no WHERE directive.no = ?1"
    " AND issued_at > 0 AND seal IS NULL) OR EXISTS (SELECT 1 FROM directive"
    " JOIN cancel ON cancel.directive_id = directive.id JOIN doc ON doc.no = cancel.doc_no"
    " WHERE directive.no = ?1 AND seal IS NULL)"
)
_LATEST = (
    "SELECT (SELECT directive_no FROM arrival ORDER BY no DESC LIMIT 1),"
    " (SELECT directive_no FROM directive_step ORDER BY no DESC LIMIT 1)"
)
_ROWS = (
    "SELECT (SELECT count(*) FROM delivery WHERE directive_no = ?1),"
    " (SELECT count(*) FROM arrival WHERE directive_no = ?1)"
)
OWN_TABLES = {
    "delivery": ("directive_no", "mailbox_no"),
    "arrival": ("no",),
    "directive_step": ("no",),
    "plan": ("directive_no",),
    "wave": ("directive_no", "no"),
    "planned": ("directive_no", "wave_no", "mailbox_no"),
    "escalation": ("no",),
}
"""The tables whose rows belong to one directive and leave with it, and their keys."""
Advance = Callable[[int], None]


class Leaving(NamedTuple):
    """A directive that may leave."""

    no: int
    id: str
    title: str
    state: str
    ended_at: float
    """When anything of it happened last."""
    deliveries: int
    arrivals: int

    @property
    def rows(self) -> int:
        """About how much work it is."""
        return 1 + self.deliveries + self.arrivals


class Choice(NamedTuple):
    """What is to leave, and what of the finished ones is not."""

    leaving: list[Leaving]
    young: int
    """How many ended later."""
    latest: int
    """How many have the latest answer or step of all."""
    unsealed: int
    """For how many the hub has yet to seal a document."""

    @property
    def rows(self) -> int:
        """About how much work it is."""
        return sum(one.rows for one in self.leaving)


class About(NamedTuple):
    """What is written into a file besides rows."""

    id: str
    at: float
    by: str
    before_at: float
    head_office: "HeadOffice"


class File(NamedTuple):
    """A complete archive, as it was found."""

    path: Path
    id: str
    hub_id: str
    made_at: float
    sha256: str
    bytes: int
    directives: int
    deliveries: int
    arrivals: int
    messages: int

    @property
    def rows(self) -> int:
        """About how much work it is."""
        return self.directives + self.deliveries + self.arrivals


def choose(connection: sqlite3.Connection, before_at: float) -> Choice:
    """The finished directives of which nothing happened since `before_at`.

    Args:
        connection: In a read transaction.
        before_at: Unix time; the caller sees to it that it is `YOUNGEST_SECONDS` ago.
    """
    newest = set(connection.execute(_LATEST).fetchone())
    leaving: list[Leaving] = []
    young = latest = unsealed = after = 0
    while rows := connection.execute(ENDED, (after, PIECE_ROWS)).fetchall():
        after = rows[-1][0]
        for no, directive_id, title, state, ended_at in rows:
            if ended_at >= before_at:
                young += 1
                continue
            is_open, lacks_seal = connection.execute(_UNFIT, (no,)).fetchone()
            if no in newest:
                latest += 1
            elif lacks_seal:
                unsealed += 1
            elif not is_open:
                counts = connection.execute(_ROWS, (no,)).fetchone()
                leaving.append(Leaving(no, directive_id, title, state, ended_at, *counts))
    return Choice(leaving, young, latest, unsealed)


def write(
    ledger: Database, target: Path, leaving: Sequence[Leaving], about: About, advance: Advance
) -> None:
    """Write these directives into a new archive: complete and durable when it returns.

    The ledger is only read, a directive at a time.

    Args:
        ledger: Of a file.
        target: The archive; its folder is made where it is missing.
        leaving: At least one.
        about: What else stands in it.
        advance: Told the rows that were written.

    Raises:
        DatabaseFull: There is no room for it; nothing is left of it.
        DatabaseError: It cannot be written, or the ledger not read.
    """
    assert ledger.path is not None  # a ledger in memory has nothing beside it
    with archive_files.making(target, ledger.path) as connection:
        for one in leaving:
            connection.execute("BEGIN")
            for statement in _COPYOWN_TABLES:
                connection.execute(statement, (one.no,))
            connection.execute("COMMIT")
            advance(one.rows)
        connection.execute("BEGIN")
        for statement in _COPY_SHARED:
            connection.execute(statement)
        known = {
            "archive_id": about.id,
            "made_at": about.at,
            "made_by": about.by,
            "before_at": about.before_at,
            "head_office": msgspec.json.encode(about.head_office).decode(),
            "hub_id": access.hub_id(ledger.connection),
            "published_no": progress.published_no(ledger.connection),
        }
        connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", known.items())
        connection.execute("COMMIT")


def _copy(table: str, where: str) -> str:
    return f"INSERT INTO main.{table} SELECT * FROM ledger.{table} WHERE {where}"


_COPYOWN_TABLES = (
    _copy("directive", "no = ?1"),
    *(_copy(table, "directive_no = ?1") for table in OWN_TABLES),
    _copy(
        "message",
        "no IN (SELECT message_no FROM main.arrival WHERE directive_no = ?1)"
        " AND no NOT IN (SELECT no FROM main.message)",
    ),
)
_STORES = (
    "no IN (SELECT store_no FROM ledger.mailbox WHERE no IN (SELECT mailbox_no FROM main.delivery)"
    " UNION SELECT store_no FROM ledger.mailbox WHERE no IN (SELECT mailbox_no FROM main.planned)"
    " UNION SELECT store_no FROM ledger.mailbox WHERE no IN (SELECT mailbox_no FROM main.arrival)"
    " UNION SELECT store_no FROM ledger.device WHERE no IN (SELECT device_no FROM main.arrival)"
    " UNION SELECT store_no FROM ledger.device WHERE no IN (SELECT device_no FROM main.message))"
)
_OF_STORES = "store_no IN (SELECT no FROM main.store)"
_COPY_SHARED = (
    _copy("cancel", "directive_id IN (SELECT id FROM main.directive)"),
    _copy(
        "doc",
        "no IN (SELECT doc_no FROM main.directive UNION SELECT doc_no FROM main.cancel)",
    ),
    _copy("channel_log", "doc_no IN (SELECT no FROM main.doc)"),
    _copy("channel", "no IN (SELECT channel_no FROM main.channel_log)"),
    _copy("store", _STORES),
    _copy("region", "slug IN (SELECT region FROM main.store)"),
    _copy("mailbox", _OF_STORES),
    _copy("device", _OF_STORES),
    _copy("device_key", "device_no IN (SELECT no FROM main.device)"),
    # What lets a device in is nothing that an archive should hold.
    "UPDATE main.device SET token_hash = '', online = 0",
    "UPDATE main.message SET archived = 0",
)


def examine(path: Path, expected_sum: str | None = None) -> File:
    """Say what a complete archive is and holds; reads all of it.

    Args:
        path: The file.
        expected_sum: The SHA-256 that was recorded of it, if one was.

    Raises:
        HqError: It is another one than was recorded.
        DatabaseError: It is none, or cannot be read.
    """
    total = archive_files.sum_of(path)
    if expected_sum not in {None, total}:
        raise HqError(
            f"{path} is not as it was when it was recorded: its SHA-256 is another one",
            hint="put that one back from a copy of yours",
        )
    with archive_files.reading(path) as connection:
        meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM directive), (SELECT count(*) FROM delivery),"
            " (SELECT count(*) FROM arrival), (SELECT count(*) FROM message)"
        ).fetchone()
    try:
        known = str(meta["archive_id"]), str(meta["hub_id"]), float(meta["made_at"])
    except (KeyError, TypeError, ValueError) as error:
        raise DatabaseDamaged(
            f"the archive {path} does not say what it is", hint="put it back from a copy of yours"
        ) from error
    return File(path, *known, total, path.stat().st_size, *counts)


def id_of(path: Path) -> str:
    """The id of a complete archive, without reading all of it.

    Raises:
        DatabaseError: It is none, or cannot be read.
    """
    with archive_files.reading(path) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = 'archive_id'").fetchone()
    return "" if row is None else str(row[0])


class HeadOffice(msgspec.Struct, frozen=True, kw_only=True):
    """Who sealed what is in an archive, as the file says: whose it is, the recovery key tells."""

    name: str
    recovery: KeyText
    keys: list[KeyEntry]
    stolen: list[str]


def head_office_of(archive: sqlite3.Connection) -> HeadOffice:
    """The chain of keys that stands in an archive.

    Raises:
        HqError: None that can be read.
    """
    row = archive.execute("SELECT value FROM meta WHERE key = 'head_office'").fetchone()
    try:
        return msgspec.json.decode(row[0] if row else "", type=HeadOffice)
    except (msgspec.DecodeError, TypeError) as error:
        raise HqError(
            "the archive does not say whose it is", hint="put it back from a copy of yours"
        ) from error


def known(connection: sqlite3.Connection, archive_id: str) -> bool:
    """Whether this ledger has recorded an archive."""
    row = connection.execute("SELECT 1 FROM archive WHERE id = ?", (archive_id,)).fetchone()
    return row is not None


def recorded_sum(connection: sqlite3.Connection, archive_id: str, path: Path) -> str | None:
    """The SHA-256 that this ledger has recorded of an archive, by its id or else by its place."""
    row = connection.execute(
        "SELECT sha256 FROM archive WHERE id = ?1 OR file = ?2 ORDER BY id = ?1 DESC LIMIT 1",
        (archive_id, str(path.absolute())),
    ).fetchone()
    return None if row is None else str(row[0])


def unswept(connection: sqlite3.Connection) -> list[tuple[int, Path, str]]:
    """The archives of which not all has left yet: number, where they were put, and SHA-256."""
    return [
        (no, Path(file), total)
        for no, file, total in connection.execute(
            "SELECT no, file, sha256 FROM archive WHERE swept_at IS NULL ORDER BY no"
        )
    ]


def require_own(connection: sqlite3.Connection, file: File) -> None:
    """Make sure that an archive is of this ledger, or of one that it was put back from.

    Raises:
        HqError: It is of another one.
    """
    if file.hub_id != access.hub_id(connection):
        raise HqError("it is an archive of another ledger", hint="move it out of this folder")


def record(connection: sqlite3.Connection, file: File, *, at: float, by: str) -> int:
    """Record a complete archive of this ledger, in the caller's transaction.

    Returns:
        Its number.
    """
    cursor = connection.execute(
        "INSERT INTO archive (id, file, file_bytes, sha256, made_at, recorded_at, recorded_by,"
        " directives, deliveries, arrivals, messages) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            file.id,
            str(file.path.absolute()),
            file.bytes,
            file.sha256,
            file.made_at,
            at,
            by,
            *(file.directives, file.deliveries, file.arrivals, file.messages),
        ),
    )
    return int(cursor.lastrowid or 0)
