"""The files that finished directives leave for: how one is made, recognized and read.

An archive is itself a ledger, with the same tables and only the rows that finished directives are
made of, so whatever reads a ledger reads an archive. It is known by another number than a ledger
(`APPLICATION_ID`): no hub runs on it, and `hq restore` does not take it. What it holds and when it
is made is `archiving`.

Invariants:
- A file has its name only when it is complete and durable; before that it is called
  `.NAME...unfinished`.
- A file that has its name is never changed: it is opened as one that cannot change, so nothing is
  ever beside it, and one of an older version is read from a copy.
"""

import contextlib
import hashlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from buskit.database import DatabaseDamaged, DatabaseMissing, open_database
from buskit.database_check import first_damage
from buskit.database_errors import translate, translate_os
from buskit.database_opening import Terms, connect, identify
from buskit.files import (
    make_folder,
    replace,
    sync_file,
    sync_folder,
    unfinished_name,
    write_atomically,
)
from buskit.migrations import apply_migration
from hqconsole.ledger.schema import MIGRATIONS

APPLICATION_ID = 0x53424841  # "SBHA"
FOLDER_NAME = "archive"
"""In the home, unless somebody names another."""
WHAT = "the archive"
SUM_SUFFIX = ".sha256"
_HINT = "put it back from a copy of yours; hq verify --archive FILE looks at all of it"
_PIECE_BYTES = 1024 * 1024
_BUSY_SECONDS = 30.0

Advance = Callable[[int], None]


def new_name(archive_id: str, at: float) -> str:
    """How an archive made at this Unix time is called."""
    return f"archive-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(at))}-{archive_id[:8]}.db"


def found_in(folder: Path) -> list[Path]:
    """The archives in a folder, the oldest first by their names."""
    return sorted(folder.glob("archive-*.db"))


def remove_unfinished(folder: Path) -> int:
    """Remove what a run that was killed had begun, and say how much that was.

    The caller sees to it that no other run is at work.
    """
    found = list(folder.glob(".archive-*.unfinished*"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


@contextlib.contextmanager
def making(target: Path, ledger: Path) -> Iterator[sqlite3.Connection]:
    """Make an archive: gives a connection to an empty one, with the ledger beside it as `ledger`.

    When the block has ended, the file is complete and durable and has its name; when it raises,
    nothing is left of it. The ledger can only be read, and must be open here by other means too.

    Raises:
        DatabaseFull: There is no room for it.
        DatabaseFailed: It cannot be written.
        DatabaseDamaged: It cannot be read back as it was written.
    """
    unfinished = unfinished_name(target)
    try:
        make_folder(target.parent)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = _connected(f"{unfinished.absolute().as_uri()}?mode=rw")
        with contextlib.closing(connection):
            # Nobody sees it before it is complete, so nothing need be undone in it, nor be synced.
            connection.execute("PRAGMA journal_mode = OFF").fetchone()
            connection.execute("PRAGMA synchronous = OFF")
            for migration in MIGRATIONS:
                connection.execute("BEGIN")
                apply_migration(connection, migration)
                connection.execute("COMMIT")
            connection.execute("DELETE FROM meta")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            attach(connection, ledger)
            yield connection
            connection.execute("DETACH ledger")
        sync_file(unfinished)
        _require_as_written(unfinished)
        unfinished.chmod(0o400)
        replace(unfinished, target)
        sync_folder(target.parent)
    except sqlite3.Error as error:
        translate(error, WHAT, target)
    except OSError as error:
        translate_os(error, WHAT, target)
    finally:
        for suffix in ("", "-journal"):
            with contextlib.suppress(OSError):
                unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _require_as_written(path: Path) -> None:
    """Read back what was written.

    Raises:
        DatabaseDamaged: It is not as it should be: this disk is at fault, or the ledger.
    """
    try:
        with reading(path) as connection:
            require_whole(connection, path)
    except DatabaseDamaged as error:
        raise DatabaseDamaged(
            f"what was to be archived cannot be read back: {error}",
            hint="hq verify says whether it is the ledger that is damaged; nothing was removed",
        ) from error


def attach(connection: sqlite3.Connection, ledger: Path) -> None:
    """Put the ledger beside an archive as `ledger`, for reading."""
    connection.execute("ATTACH ? AS ledger", (f"{ledger.absolute().as_uri()}?mode=ro",))


def _connected(uri: str) -> sqlite3.Connection:
    return connect(uri, busy_seconds=_BUSY_SECONDS, any_thread=False)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an archive for reading; the file stays as it is.

    Raises:
        DatabaseMissing: There is no such file.
        DatabaseForeign: It is no archive.
        DatabaseNewer: A newer program has made it.
        DatabaseDamaged: It contradicts itself.
    """
    if not path.is_file():
        raise DatabaseMissing(f"there is no file {path}", hint="name one that hq archive has made")
    terms = Terms(MIGRATIONS, APPLICATION_ID, WHAT, "hq archive", False, 0.0, _HINT)
    try:
        with contextlib.ExitStack() as stack:
            connection = _connected(f"{path.absolute().as_uri()}?immutable=1")
            stack.enter_context(contextlib.closing(connection))
            identify(connection, path, terms)
            if connection.execute("PRAGMA user_version").fetchone()[0] < len(MIGRATIONS):
                connection = stack.enter_context(_brought_up_to_date(path))
            yield connection
    except sqlite3.Error as error:
        translate(error, WHAT, path, _HINT)


@contextlib.contextmanager
def _brought_up_to_date(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy of an archive with the tables of this program."""
    with tempfile.TemporaryDirectory(prefix="storebus-archive-") as folder:
        copy = Path(folder) / path.name
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            translate_os(error, "the copy of the archive", copy)
        with open_database(
            copy, MIGRATIONS, application_id=APPLICATION_ID, what=WHAT, hint_create="hq archive"
        ) as database:
            yield database.connection


def require_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Read all of an archive and compare it with itself: pages, tables, sums of rows.

    Raises:
        DatabaseDamaged: Something does not fit.
    """
    found = first_damage(connection, MIGRATIONS, ())
    if found:
        raise DatabaseDamaged(f"{WHAT} ({path}) is damaged: {found}", hint=_HINT)


def sum_of(path: Path, advance: Advance = lambda _: None) -> str:
    """The SHA-256 of a file in hex; `advance` is told the bytes that were read.

    No connection to it may be open here: reading a file past SQLite would end SQLite's locks.

    Raises:
        DatabaseFailed: It cannot be read.
    """
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                found.update(piece)
                advance(len(piece))
    except OSError as error:
        translate_os(error, WHAT, path)
    return found.hexdigest()


def write_sum(path: Path, total: str) -> None:
    """Put the SHA-256 of a file beside it, as `sha256sum -c` reads it.

    Raises:
        DatabaseFull: There is no room for it.
        DatabaseFailed: It cannot be written.
    """
    try:
        write_atomically(
            path.with_name(path.name + SUM_SUFFIX), f"{total}  {path.name}\n".encode(), mode=0o400
        )
    except OSError as error:
        translate_os(error, f"the sum of {WHAT}", path)
