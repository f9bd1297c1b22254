"""Runs one of our programs under a clock that a file sets: what it says, in seconds, is added.

As a program: `clock.py FILE PROGRAM WORD...`. Whoever moves the clock replaces the file at one
blow. Only `time.time` is moved; waits go on by the monotonic clock, as they do on a machine whose
date was changed.
"""

import importlib
import sys
import time
from pathlib import Path

_LOOK_SECONDS = 0.05
_PROGRAMS = {"hq": "hqconsole.commands.main", "storeagent": "storeagent.main"}


def set_clock(path: Path, ahead_seconds: float) -> None:
    """Move the clock of all who run under this file."""
    new = path.with_suffix(".new")
    new.write_text(str(ahead_seconds))
    new.replace(path)


def _move(path: Path) -> None:
    true_time = time.time
    looked_at, ahead_seconds = -1.0, 0.0

    def moved() -> float:
        nonlocal looked_at, ahead_seconds
        now = time.monotonic()
        if now - looked_at > _LOOK_SECONDS or looked_at < 0:
            looked_at, ahead_seconds = now, float(path.read_text())
        return true_time() + ahead_seconds

    time.time = moved


if __name__ == "__main__":
    _, file, program, *words = sys.argv
    _move(Path(file))  # before anything of ours is imported and takes hold of the clock
    sys.argv = [program, *words]
    importlib.import_module(_PROGRAMS[program]).main()
