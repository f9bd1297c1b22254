"""What killed processes left is removed, and nothing that somebody may still be writing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buskit.files import remove_unfinished, unfinished_name, write_atomically

NOW_AT = 1_700_000_000.0


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is gone."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def leave(folder: Path, target: str, pid: int, *, age_seconds: float, suffix: str = "") -> Path:
    """A file that a process left half-written."""
    path = folder / f".{target}.{pid}.0123abcd.unfinished{suffix}"
    path.write_bytes(b"half")
    os.utime(path, (NOW_AT - age_seconds, NOW_AT - age_seconds))
    return path


def test_names_are_recognized(tmp_path: Path) -> None:
    """What is removed is what this program leaves."""
    path = unfinished_name(tmp_path / "a.b.db")
    path.write_bytes(b"half")
    os.utime(path, (0, 0))
    assert remove_unfinished(tmp_path, now_at=NOW_AT) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_abandoned_goes_with_all_that_belongs_to_it(tmp_path: Path, dead: int) -> None:
    """Of whatever target, by a process of this number too, for that was another one."""
    for pid in (dead, os.getpid()):
        for suffix in ("", "-wal", "-shm", "-journal"):
            leave(tmp_path, "old.db", pid, age_seconds=601, suffix=suffix)
    leave(tmp_path, "from the future", dead, age_seconds=-601)
    assert remove_unfinished(tmp_path, now_at=NOW_AT) == 9
    assert remove_unfinished(tmp_path, now_at=NOW_AT) == 0


def test_what_may_be_at_work_stays(tmp_path: Path, dead: int) -> None:
    """A process that runs here; one that may run elsewhere; and what only looks alike."""
    running = os.getppid()
    stays = [
        leave(tmp_path, "old.db", running, age_seconds=1e6),
        leave(tmp_path, "new.db", running, age_seconds=1e6),
        leave(tmp_path, "old.db", dead, age_seconds=599),
        leave(tmp_path, "x" + "1" * 40, 9_999_999_999, age_seconds=1e6),
        leave(tmp_path, "y", dead, age_seconds=1e6, suffix=".txt"),
        tmp_path / "old.db",
        tmp_path / ".unfinished",
    ]
    for path in stays[-2:]:
        write_atomically(path, b"whole")
    assert remove_unfinished(tmp_path, now_at=NOW_AT, target=tmp_path / "new.db") == 0
    assert sorted(tmp_path.iterdir()) == sorted(stays)


def test_what_is_written_again_is_not_waited_for(tmp_path: Path, dead: int) -> None:
    """Of the target itself everything dead goes at once; of others nothing does."""
    own = leave(tmp_path, "new.db", dead, age_seconds=0)
    other = leave(tmp_path, "new.db.old", dead, age_seconds=0)
    assert remove_unfinished(tmp_path, now_at=NOW_AT, target=tmp_path / "new.db") == 1
    assert not own.exists()
    assert other.exists()


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    """Whoever writes there will say what is wrong."""
    assert remove_unfinished(tmp_path / "gone", now_at=time.time()) == 0
