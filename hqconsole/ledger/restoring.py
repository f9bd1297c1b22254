"""A copy of the ledger put in the place of the present one.

The caller holds the hub's lock, so that no hub works meanwhile. Commands may: what they wrote up to
the swap is kept beside, and whoever had the old file open is refused when it writes again.

Invariants:
- Nothing is touched before the copy has been read whole and found to be a ledger that this program
  understands.
- There is a whole ledger under its name at every moment, the old one or the new one.
- No write-ahead log of the old file is ever beside the new one: SQLite would replay it into it.
"""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from buskit.database import Database, DatabaseError, DatabaseMissing
from buskit.database_copy import copy_database
from buskit.database_errors import translate
from buskit.database_opening import Terms, connect, identify
from buskit.files import replace, sync_folder
from buskit.locks import FileLock
from hqconsole.errors import HqError
from hqconsole.ledger import access
from hqconsole.ledger.carrying import Carried, Identities, carry_identities, read_identities
from hqconsole.ledger.opening import FILE_NAME, open_ledger
from hqconsole.ledger.schema import APPLICATION_ID, MIGRATIONS
from hqconsole.ledger.troubles import record_incident

RESTORED = "restored"
"""The kind of the incident that stands in a ledger that was put back."""
_WORKSHOP = "restoring"
_COMPANIONS = ("-wal", "-shm")
_BUSY_SECONDS = 10.0


class Restored(NamedTuple):
    """What became of the ledger that was there."""

    kept: Path | None
    """Where it is; None if there was none."""
    carried: Carried | None
    """What of it is in force as before; None if it could not be read."""


def restore_ledger(
    home: Path,
    copy: Path,
    *,
    at: float,
    by: str = "",
    new_id: Callable[[], str],
    recovery_key: str = "",
    record: Callable[[sqlite3.Connection], None] = lambda _: None,
) -> Restored:
    """Put a copy of the ledger in its place; durable when it returns.

    Who is let in and who is out stays as it is in the ledger that was there (`carrying`).

    Args:
        home: HQ's home; the caller holds its hub's lock.
        copy: What `hq backup` wrote, or any other copy of a ledger.
        at: The present time.
        by: Who does it.
        new_id: A random 128-bit id.
        recovery_key: Of the keys in the home, whose ledger it is from now on; empty without keys.
        record: Writes into the ledger that is put in place what else is to stand there.

    Returns:
        Where the ledger that was there is kept, and what was taken over from it.

    Raises:
        DatabaseError: The copy is missing, no ledger, newer than this program, or damaged.
        HqError: Somebody goes on reading the present ledger.
    """
    workshop = home / _WORKSHOP
    shutil.rmtree(workshop, ignore_errors=True)  # of a restore that was killed
    workshop.mkdir(mode=0o700)
    carried: Carried | None = None

    def complete(connection: sqlite3.Connection) -> None:
        nonlocal carried
        if identities is not None:
            carried = carry_identities(connection, identities, new_id=new_id)
        access.belong_to(connection, recovery_key)
        record(connection)

    identities = _identities_of(home)
    try:
        try:
            prepared = _prepare(workshop, copy, at=at, by=by, complete=complete)
        except (sqlite3.IntegrityError, ValueError, TypeError):
            if identities is None:
                raise
            identities = None  # what was read of a damaged ledger can be no identities at all
            shutil.rmtree(workshop)
            workshop.mkdir(mode=0o700)
            prepared = _prepare(workshop, copy, at=at, by=by, complete=complete)
        return Restored(_swap(home, prepared), carried)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _identities_of(home: Path) -> Identities | None:
    """Who is let in by the present ledger; None where it cannot be read."""
    if not (home / FILE_NAME).exists():
        return None
    try:
        with open_ledger(home) as ledger, ledger.read() as connection:
            return read_identities(connection)
    except (DatabaseError, sqlite3.Error):
        return None  # damaged, or not ours: whoever restores it is told


def _prepare(
    workshop: Path,
    copy: Path,
    *,
    at: float,
    by: str,
    complete: Callable[[sqlite3.Connection], None],
) -> Path:
    """Copy the copy, so that it is never changed; check it, and bring it up to date."""
    if not copy.is_file():
        raise DatabaseMissing(
            f"there is no file {copy}", hint="name a file that hq backup has written"
        )
    what = "the copy"
    terms = Terms(MIGRATIONS, APPLICATION_ID, what, "hq backup FILE", create=False, busy_seconds=0)
    target = workshop / FILE_NAME
    try:
        # Without a write-ahead log the file is all there is, and looking at it as one that cannot
        # change leaves nothing beside it.
        how = "mode=ro" if _log_bytes(copy) else "immutable=1"
        source = connect(f"{copy.absolute().as_uri()}?{how}", busy_seconds=5, any_thread=False)
        with contextlib.closing(source):
            identify(source, copy, terms)
            copy_database(source, target)
    except sqlite3.Error as error:
        translate(error, what, copy)
    with open_ledger(workshop) as ledger:
        ledger.check()
        with ledger.write() as connection:
            record_incident(
                connection, RESTORED, at=at, device_no=None, copy=str(copy.absolute()), by=by
            )
            complete(connection)
        ledger.checkpoint()
    return target


def _swap(home: Path, prepared: Path) -> Path | None:
    present = home / FILE_NAME
    kept = _free_name(present)
    if not present.exists():
        _put_in_place(prepared, present)
        return None
    with contextlib.ExitStack() as stack:
        try:
            ledger = open_ledger(home)
        except DatabaseError:
            # It is damaged or not ours: keep it as it lies, its write-ahead log with it.
            stack.enter_context(_locked(present))
            _keep_as_it_lies(present, kept)
        else:
            _empty_log(ledger)
            # Between the end of one lock and the next a command may write: look again under it.
            stack.enter_context(_locked(present))
            if _log_bytes(present):
                raise HqError("the ledger was written to at this very moment", hint="try again")
            _link_or_copy(present, kept)
        _put_in_place(prepared, present)
    return kept


def _empty_log(ledger: Database) -> None:
    """Move all of the write-ahead log into the file and close it."""
    deadline = time.monotonic() + _BUSY_SECONDS
    try:
        while True:
            ledger.checkpoint()
            if ledger.path is not None and not _log_bytes(ledger.path):
                return
            if time.monotonic() > deadline:
                raise HqError(
                    "another program keeps reading the present ledger",
                    hint="end hq tail, hq status --watch and the like, and try again",
                )
            time.sleep(0.05)
    finally:
        ledger.close()


def _log_bytes(present: Path) -> int:
    try:
        return present.with_name(present.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _keep_as_it_lies(present: Path, kept: Path) -> None:
    for suffix in ("", "-wal"):
        source = present.with_name(present.name + suffix)
        if source.exists():
            _link_or_copy(source, kept.with_name(kept.name + suffix))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _put_in_place(prepared: Path, present: Path) -> None:
    for suffix in _COMPANIONS:
        present.with_name(present.name + suffix).unlink(missing_ok=True)
    sync_folder(present.parent)  # or a power cut could leave the old log beside the new file
    replace(prepared, present)
    sync_folder(present.parent)


@contextlib.contextmanager
def _locked(present: Path) -> Iterator[None]:
    lock = FileLock(f"{present}.lock")
    lock.acquire(_BUSY_SECONDS)
    try:
        yield
    finally:
        lock.release()
        lock.close()


def _free_name(present: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        name = f"{present.name}.before-restore-{stamp}" + (f"-{number}" if number else "")
        if not (found := present.with_name(name)).exists():
            return found
    raise HqError("too many ledgers are kept in this home", hint="move some of them away")
