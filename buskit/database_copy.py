"""A copy of a database, taken while others go on reading and writing."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from buskit.database_errors import translate, translate_os
from buskit.files import remove_unfinished, replace, sync_file, sync_folder, unfinished_name


def copy_database(source: sqlite3.Connection, target: Path) -> None:
    """Copy what `source` holds now into the one file `target`: complete and durable, or not at all.

    Half copies that killed processes left in that folder are removed first: each takes as much room
    as a whole one.

    Raises:
        DatabaseFull: There is no room for the copy.
        DatabaseFailed: It cannot be written.
    """
    remove_unfinished(target.parent, now_at=time.time(), target=target)
    unfinished = unfinished_name(target)
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        copy = sqlite3.connect(unfinished, isolation_level=None)
        try:
            source.backup(copy)
            # The copy inherits WAL mode; a backup should be one file without companions.
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        finally:
            copy.close()
        sync_file(unfinished)
        replace(unfinished, target)
        sync_folder(target.parent)
    except sqlite3.Error as error:
        translate(error, "the copy", target)
    except OSError as error:
        translate_os(error, "the copy", target)
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
