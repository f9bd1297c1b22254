"""Points at which tests let a process die: right before and right after what makes a change true.

Owns the one switch for it, and nothing else; off and free of cost unless a test sets it. What makes
a change true is the commit of a transaction, a checkpoint, the close of a database, or a file that
takes its name. All of them call `crash_point` on both sides, so that a test can count the points of
a story and let the process die at each of them in turn, instead of hoping to hit them by chance.

The switch is the environment variable STOREBUS_CRASH_FILE, the path of a file. While that file is
there, each point adds a line to it; its first line is the number of the point at which the process
dies, with 0 for none. Whoever can set another process's environment can end it in any case, so this
opens nothing.
"""

import contextlib
import os
from pathlib import Path

VARIABLE = "STOREBUS_CRASH_FILE"

_file = Path(named) if (named := os.environ.get(VARIABLE)) else None


def crash_point(side: str, what: str) -> None:
    """Die here if a test wants it; otherwise nothing.

    Args:
        side: `before` or `after`.
        what: What is about to become true, or just did.
    """
    if _file is None:
        return
    with contextlib.suppress(FileNotFoundError), _file.open("r+") as file:
        chosen, *passed = file.read().splitlines()
        file.write(f"{side} {what}\n")
        file.flush()
        if int(chosen) == len(passed) + 1:
            os.kill(os.getpid(), 9)  # SIGKILL; on Windows the end of the process as well
