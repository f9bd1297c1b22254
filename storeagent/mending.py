"""A damaged database set aside, and a new one begun with what could be saved from it.

Owns the files that this takes. What of their content is saved is `database_salvage`'s; when it is
done is the daemon's, which is the only one that does it. Identity, keys and settings lie in files
of their own, so the device stays who it is; work comes back from HQ by the ordinary hello.

Invariants:
- The damaged file, and its write-ahead log, are kept beside under a dated name as they were found.
- Under its name there is the damaged file with its log, or nothing, or the new one with all that
  was saved; never the damaged one without its log, which may look sound, and never the new one
  beside that log, which would be played into it. Where there is nothing, nothing can be accepted,
  and the new one lies ready: whoever mends next puts it in place.
- Whoever has the old file open is refused when it writes again, so nothing is accepted into it.
- What HQ should know of it is the first thing that the new database has to say.
"""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from buskit.database import LOOK_SECONDS, Database, DatabaseFailed
from buskit.database_errors import translate_os
from buskit.database_opening import connect
from buskit.files import replace, sync_file, sync_folder
from buskit.locks import FileLock, LockBusy
from buswire.messages import LOGS, Log, Trouble, encode_data
from buswire.phrases import Phrase, phrase
from storeagent.database import WHAT, database_path, open_agent_database
from storeagent.database_salvage import SavedLog, salvage
from storeagent.limits import Limits
from storeagent.memory import Memory
from storeagent.outbox import Outbox

SUSPECTED_NAME = "damage.suspected"
TROUBLE = "its database was damaged"
"""What HQ is told; the details say what was saved and what may be lost."""

_KEY = "mended"
_FILE = "file"
_WORKSHOP = "mending"
_COMPANIONS = ("-wal", "-shm")
_KEPT_MOST = 5
_BUSY_SECONDS = 30.0


class Mended(NamedTuple):
    """What became of a damaged database."""

    at: float
    kept: str
    """The name of the file that was set aside, in the same folder; empty where there was none."""
    why: str
    saved: dict[str, int]
    """For each log: entries that HQ had not acknowledged and that were saved."""
    lost: dict[str, int]
    """The same of those that could not be."""
    open_ended: bool
    """Whether more may be lost than is known of."""

    def words(self) -> Phrase:
        """It in a sentence or two."""
        what = phrase("the database was damaged")
        if self.kept:
            what = phrase("the database was damaged and is set aside as {file}", file=self.kept)
        text = phrase(
            "{what}; of the entries that waited for head office {saved} were saved and {lost} may "
            "be lost",
            what=what,
            saved=sum(self.saved.values()),
            lost=sum(self.lost.values()),
        )
        if self.open_ended:
            return phrase("{said}, or more: its end could not be read", said=text)
        return text

    def detail(self) -> str:
        """It for head office."""
        return f"{self.words()} ({self.why})"


def suspect(home: Path) -> None:
    """Tell the daemon that somebody found damage: it looks for itself."""
    with contextlib.suppress(OSError):
        (home / SUSPECTED_NAME).touch()


def is_suspected(home: Path) -> bool:
    """Whether somebody has found damage since the daemon last looked."""
    return (home / SUSPECTED_NAME).exists()


def clear_suspicion(home: Path) -> None:
    """Note that the daemon looks now."""
    with contextlib.suppress(OSError):
        (home / SUSPECTED_NAME).unlink(missing_ok=True)


def mended(home: Path, memory: Memory) -> Mended | None:
    """The latest mending, as long as what was set aside then has not been taken away."""
    found = _read(memory)
    return found if found is not None and (home / found.kept).is_file() else None


def _read(memory: Memory) -> Mended | None:
    text = memory.text(_KEY)
    return msgspec.json.decode(text, type=Mended) if text else None


def drop_unfinished(home: Path) -> None:
    """Remove what a mending left that was killed before it touched the database; the caller knows.

    It must not be called where there is no database under its name.
    """
    shutil.rmtree(home / _WORKSHOP, ignore_errors=True)


def file_id(memory: Memory) -> str:
    """Which file this is; a mending makes another one, whose logs are numbered anew."""
    return memory.text(_FILE)


def report(outbox: Outbox, what: str, detail: str, *, at: float, new_id: str) -> None:
    """Tell HQ of trouble at this device, in the caller's transaction.

    Raises:
        OutboxFull: Not even the reserve has room.
    """
    data = encode_data(Trouble(what=what[:500], detail=detail[:2000]))
    outbox.add("act", new_id, "trouble", data, said_at=at, reserve=True)


def mend(
    home: Path,
    *,
    limits: Limits,
    why: str,
    at: float,
    new_id: Callable[[], str],
    heads: Mapping[str, int] | None = None,
) -> Mended:
    """Set the database of a home aside and begin a new one; durable when it returns.

    Args:
        home: The caller is its only daemon, and has closed the database.
        limits: What may be kept.
        why: What was found.
        at: The present time.
        new_id: A random 128-bit id in hex.
        heads: How far the logs are known to have reached, from elsewhere.

    Raises:
        DatabaseFull: There is no room for it; nothing was changed.
        DatabaseError: It cannot be done now; say it again. Nothing was lost.
    """
    path = database_path(home)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(_BUSY_SECONDS)
        found = _mend_locked(path, limits, (why, at, heads or {}), new_id)
        # Who looked a moment ago whether the file is still the one it has open believes that for
        # as long as this, and must not write before.
        time.sleep(2 * LOOK_SECONDS)
    except LockBusy as busy:
        raise DatabaseFailed(f"{WHAT} cannot be set aside: {busy}", hint=busy.hint) from busy
    except OSError as error:
        translate_os(error, WHAT, path)
    finally:
        if path.exists():  # or the new one is still to be put in its place
            drop_unfinished(home)
        lock.close()
    return found


def _mend_locked(
    path: Path,
    limits: Limits,
    found: tuple[str, float, Mapping[str, int]],
    new_id: Callable[[], str],
) -> Mended:
    home = path.parent
    prepared = home / _WORKSHOP / path.name
    there = path.exists()
    if there or not prepared.exists():
        kept = _free_name(path, found[1])
        result = _prepare(prepared, limits, found, new_id, kept=kept.name if there else "")
        if there:
            _keep(path, kept)
    else:  # of a mending that was killed when it had gone that far
        with open_agent_database(prepared) as target:
            result = _read(Memory(target)) or Mended(
                found[1], "", found[0], {}, {}, open_ended=True
            )
    for suffix in _COMPANIONS:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    sync_folder(home)
    replace(prepared, path)
    sync_folder(home)
    _forget_oldest(path)
    return result


def _prepare(
    prepared: Path,
    limits: Limits,
    found: tuple[str, float, Mapping[str, int]],
    new_id: Callable[[], str],
    *,
    kept: str,
) -> Mended:
    """Make the new database, with what can be saved; once it has its name it is whole."""
    why, at, heads = found
    workshop = prepared.parent
    drop_unfinished(workshop.parent)
    workshop.mkdir(mode=0o700)
    copy = workshop / "damaged.db"
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(workshop.parent / f"{prepared.name}{suffix}", f"{copy}{suffix}")
    unfinished = workshop / "new.db"
    with open_agent_database(unfinished, create=True) as target:
        with target.write():
            logs = _salvaged(copy, target, heads)
            result = Mended(
                at,
                kept,
                why,
                {log: one.saved for log, one in logs.items()},
                {log: one.lost for log, one in logs.items()},
                any(one.open_ended for one in logs.values()),
            )
            memory = Memory(target)
            memory.keep(_KEY, msgspec.json.encode(result).decode())
            memory.keep(_FILE, new_id())
            report(Outbox(target, limits), TROUBLE, result.detail(), at=at, new_id=new_id())
        target.checkpoint()
    replace(unfinished, prepared)
    sync_folder(workshop)
    sync_folder(workshop.parent)
    return result


def _salvaged(copy: Path, target: Database, heads: Mapping[str, int]) -> dict[Log, SavedLog]:
    """What can be read of the copy; where nothing can, nothing is changed."""
    nothing = {log: SavedLog(0, 0, open_ended=True) for log in LOGS}
    if not copy.exists() or not copy.stat().st_size:
        return nothing
    source = connect(f"{copy.as_uri()}?mode=rw", busy_seconds=0, any_thread=False)
    try:
        return salvage(source, target, heads)
    except (sqlite3.Error, UnicodeDecodeError):
        return nothing
    finally:
        with contextlib.suppress(sqlite3.Error):
            source.close()


def _keep(path: Path, kept: Path) -> None:
    """Give the file and its log another name; the log has both, for as long as the file has one."""
    log = Path(f"{path}-wal")
    if log.exists():
        _link_or_copy(log, Path(f"{kept}-wal"))
    sync_folder(path.parent)
    replace(path, kept)
    sync_folder(path.parent)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
        sync_file(target)


def _free_name(path: Path, at: float) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(at))
    for number in range(1000):
        name = f"{path.name}.damaged-{stamp}" + (f"-{number}" if number else "")
        if not (found := path.with_name(name)).exists():
            return found
    raise DatabaseFailed(f"too many damaged files in {path.parent}", hint="take some away")


def _forget_oldest(path: Path) -> None:
    """A disk that fails again and again must not be filled with what it spoilt."""
    kept = [
        one
        for one in path.parent.glob(f"{path.name}.damaged-*")
        if not one.name.endswith(_COMPANIONS)
    ]
    for one in sorted(kept, key=lambda one: one.stat().st_mtime)[:-_KEPT_MOST]:
        for suffix in ("", *_COMPANIONS):
            with contextlib.suppress(OSError):
                one.with_name(one.name + suffix).unlink(missing_ok=True)
