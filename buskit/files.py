"""Files that are there completely or not at all, and stay there when the power goes."""

import contextlib
import os
from pathlib import Path


def write_atomically(path: str | Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put `data` into the file `path`, so that a reader sees the old content or all of the new.

    Durable when it returns. The folder must exist.

    Args:
        path: The file; replaced if it is there.
        data: Its whole new content.
        mode: The access rights it gets.

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
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def unfinished_name(target: Path) -> Path:
    """Return the name under which `target` is written before it takes its place."""
    return target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}.unfinished")


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
