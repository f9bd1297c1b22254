"""Files that are there completely or not at all, and stay there when the power goes."""

import contextlib
import os
import re
import time
from pathlib import Path

from buskit.crash_points import crash_point

_UNFINISHED = re.compile(
    r"\.(?P<target>.+)\.(?P<pid>[0-9]{1,10})\.[0-9a-f]{8}\.unfinished(-wal|-shm|-journal)?"
)
_ABANDONED_SECONDS = 600.0
"""Who writes touches the file more often than that."""


def write_atomically(
    path: str | Path, data: bytes, *, mode: int = 0o600, durable: bool = True
) -> None:
    """Put `data` into the file `path`, so that a reader sees the old content or all of the new.

    The folder must exist.

    Args:
        path: The file; replaced if it is there.
        data: Its whole new content.
        mode: The access rights it gets.
        durable: Return only when it would survive a power cut.

    Raises:
        OSError: It cannot be written; the old content is still there.
    """
    target = Path(path)
    unfinished = unfinished_name(target)
    try:
        descriptor = os.open(
            unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), mode
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        replace(unfinished, target, durable=durable)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(target.parent)


def make_folder(path: Path, *, mode: int = 0o700) -> None:
    """Make a folder, and those above it that are missing; there also after a power cut. Idempotent.

    Args:
        path: The folder.
        mode: The access rights it gets where it is made; those above it get the usual ones.

    Raises:
        OSError: It cannot be made, or something else has the name.
    """
    missing = [path, *(above for above in path.parents if not above.exists())]
    for folder in reversed(missing):
        folder.mkdir(mode=mode if folder is path else 0o777, exist_ok=True)
        # Also where it was there: it may have been made by a process that came no further.
        with contextlib.suppress(PermissionError):  # we may enter the one above, and not read it
            sync_folder(folder.parent)


def replace(source: Path, target: Path, *, durable: bool = True) -> None:
    """Rename `source` to `target`, replacing what is there; patient where others look at it.

    Args:
        source: The file as it is called now.
        target: Its name from then on.
        durable: Whether anybody relies on it after a crash; what is only shown needs no test of it.

    Raises:
        OSError: It cannot be done; both files are as they were.
    """
    if durable:
        crash_point("before", f"file {target.name}")
    _replace_patiently(source, target)
    if durable:
        crash_point("after", f"file {target.name}")


def _replace_patiently(source: Path, target: Path) -> None:
    # Windows refuses while another process has the target open, even if only for reading.
    patience = 100 if os.name == "nt" else 0
    for _ in range(patience):
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(0.01)
        else:
            return
    source.replace(target)


def unfinished_name(target: Path) -> Path:
    """Return the name under which `target` is written before it takes its place."""
    return target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}.unfinished")


def remove_unfinished(folder: Path, *, now_at: float, target: Path | None = None) -> int:
    """Remove what processes that died in the middle left in a folder under unfinished names.

    What may still be written is left alone: that of a process of this machine which runs, and, as
    others may write there as well (a shared folder, another container), what was touched of late.
    Call it before this process writes there: its own number may have been a dead one's.

    Args:
        folder: Where to look, not below it.
        now_at: Unix time as files have it.
        target: What is about to be written by the only one who writes it: unfinished ones of it are
            removed however new they are, unless their process runs.

    Returns:
        How many files were removed.
    """
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _UNFINISHED.fullmatch(entry.name)
            if match is None or _runs(int(match["pid"])):
                continue
            with contextlib.suppress(OSError):
                own = target is not None and match["target"] == target.name
                touched_seconds_ago = abs(now_at - entry.stat(follow_symlinks=False).st_mtime)
                if own or touched_seconds_ago >= _ABANDONED_SECONDS:
                    Path(entry.path).unlink()
                    removed += 1
    return removed


def _runs(pid: int) -> bool:
    """Whether another process of that number runs here, as far as the system tells."""
    if os.name != "posix" or pid == os.getpid():
        return False  # Windows refuses to remove what somebody has open
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def sync_file(path: Path) -> None:
    """Make the content of a closed file durable."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make a rename durable, where the system lets a folder be opened (Windows does not)."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
