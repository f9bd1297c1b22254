"""What one `storeagent alert` costs a till as a process of its own, above an empty Python."""

import subprocess
import sys
import time
from collections.abc import Sequence

from bench.figures import Aim, Figure, Setting, median
from bench.processes import command


def run(setting: Setting) -> Sequence[Figure]:
    """Measure both in turns."""
    home = str(setting.folder / "agent")
    command("storeagent", "init", "--home", home, "--store", "S1", "--device", "d1")
    fields = ("--sku", "6901234", "--on-hand", "3", "--reorder-point", "12")
    ours: list[float] = []
    empty: list[float] = []
    for _ in range(setting.pick(25, 5)):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        empty.append(time.perf_counter() - began)
        ours.append(command("storeagent", "alert", "replenishment", *fields, "--home", home))
    above = (median(ours) - median(empty)) * 1000
    return [
        Figure(
            "alert-command",
            "storeagent alert, above python -c pass",
            above,
            "ms",
            aim=Aim("figure", "at most", 100, "ms"),
            detail={
                "alert_ms": round(median(ours) * 1000, 1),
                "python_ms": round(median(empty) * 1000, 1),
            },
        )
    ]
