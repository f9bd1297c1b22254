"""I/O errors: worlds whose disks fail calls, once or until they are mended."""

from __future__ import annotations

from random import Random

from tests.disk.failing_disk import FailingDisks
from tests.disk.failing_world import IO_ERRORS, FailingWorld
from tests.disk.power import MOST_FAILURES, live
from tests.disk.shim import Shim
from tests.faults.rows import Row

ERRORS = 5_200
"""So many times a disk begins to fail in the whole suite."""


def errors(shim: Shim, seed: int, share: float, sabotage: str = "") -> Row:
    """Let disks fail again and again.

    Args:
        shim: What this process runs on.
        seed: Of everything.
        share: How much of the whole.
        sabotage: `unnoticed` (calls that fail are said to have succeeded).
    """
    row = Row("I/O errors")
    shim.show_reads(wanted=True)
    worlds = calls = refused = broken = adopted = cuts = 0
    while row.times < ERRORS * share:
        world_seed = seed + worlds
        disks = FailingDisks(shim, Random(f"disks of {world_seed}"))
        disks.unnoticed = sabotage == "unnoticed"
        try:
            world = FailingWorld(IO_ERRORS, world_seed, disks)
            live(world, row, f"seed {world_seed}")
            row.wrong += [f"seed {world_seed}: {one}" for one in disks.faults]
            if world.worst_recovery_seconds is not None:
                row.recovered(world.worst_recovery_seconds)
        finally:
            disks.close()
        worlds += 1
        counts = disks.counts
        row.times += counts["I/O errors"]
        calls += counts["failing calls"]
        refused += counts["commands refused"]
        broken += counts["disks that stayed broken"]
        cuts += counts["power cuts"]
        adopted += world.counts["unanswered and done"]
        if len(row.failures) > (0 if sabotage else MOST_FAILURES):
            break
    row.note = (
        f"{worlds} worlds; {calls:,} calls failed, {broken:,} disks stayed broken, {cuts:,} power"
        f" cuts besides; {refused:,} commands refused, {adopted} of them had an effect all the same"
    )
    return row
