"""Disks whose power goes, and disks that fail: `tests.disk`, each in a process on the shim."""

import json
import subprocess
import sys

from tests.disk.shim import ROOT, environment
from tests.faults.rows import Row


def power(seed: int, share: float) -> Row:
    """The power goes at any write or sync of a database, and while files are written."""
    return on_the_shim("power", seed, share)


def errors(seed: int, share: float) -> Row:
    """Any call to the disk fails, once, a few times, or until somebody mends it."""
    return on_the_shim("errors", seed, share)


def on_the_shim(name: str, seed: int, share: float, sabotage: str = "") -> Row:
    """Run one of `tests.disk`'s suites.

    Raises:
        NoCompiler: The shim cannot be built here.
    """
    words = [name, str(seed), str(share), *([sabotage] if sabotage else [])]
    done = subprocess.run(
        [sys.executable, "-m", "tests.disk", *words],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return Row(name, wrong=[f"ended with {done.returncode}: {done.stderr[-4000:]}"])
    return Row(**json.loads(done.stdout.splitlines()[-1]))
