"""Power cuts: worlds that live through them, and stories of single files."""

from __future__ import annotations

from random import Random

from tests.disk import files
from tests.disk.databases import FileDisks
from tests.disk.power_world import POWER_CUTS, PowerWorld
from tests.disk.shim import Op, Shim
from tests.faults.rows import Row
from tests.simulation.world import World

MOST_FAILURES = 100
"""With more the suite ends: a world that cannot even begin has no faults to count."""
CUTS = 5_200
"""So many times some machine loses its power in the whole suite."""
_IMAGES_SHARE = 0.1
_STORY_IMAGES = 110
"""So many images of each story are judged at most."""
_ALL_STORIES_FROM = 0.05
"""With less than this share of the whole, only some of the stories are lived through."""
_SYNCHRONOUS = {"normal": "NORMAL", "off": "OFF"}


def power(shim: Shim, seed: int, share: float, sabotage: str = "") -> Row:
    """Cut the power again and again.

    Args:
        shim: What this process runs on.
        seed: Of everything.
        share: How much of the whole.
        sabotage: `normal`, `off` (SQLite's synchronous) or `lie` (syncs do nothing).
    """
    row = Row("power cut")
    images = worlds = 0
    while row.times < CUTS * share:
        world_seed = seed + worlds
        disks = FileDisks(
            shim,
            Random(f"disks of {world_seed}"),
            images_share=0.0 if sabotage else _IMAGES_SHARE,
            synchronous=_SYNCHRONOUS.get(sabotage),
            syncs_lie=sabotage == "lie",
        )
        try:
            world = PowerWorld(POWER_CUTS, world_seed, disks)
            live(world, row, f"seed {world_seed}")
            row.wrong += [f"seed {world_seed}: {one}" for one in disks.faults]
        finally:
            disks.close()
        row.times += disks.counts["power cuts"] + disks.counts["power cuts while opening"]
        images += disks.counts["images"]
        worlds += 1
        if len(row.failures) > (0 if sabotage else MOST_FAILURES):
            break
    if not sabotage:
        before = row.times
        names = list(files.STORIES)
        if share < _ALL_STORIES_FROM:
            names = Random(seed).sample(names, 4)
        for name in names:
            files.cut_power_in(
                shim,
                name,
                Random(f"{name} {seed}"),
                each=4 if share > 0.5 else 1,
                row=row,
                most=max(4, round(_STORY_IMAGES * share)),
            )
        row.note = (
            f"{worlds} worlds; {images:,} images of databases, {row.times - before:,} of files"
        )
    if not shim.seen[Op.SYNC]:
        row.wrong.append("the shim saw no sync: SQLite is not on it")
    return row


def live(world: World, row: Row, name: str) -> None:
    """Let a world run, and add what came of it to the row."""
    try:
        world.run()
    except Exception as error:  # noqa: BLE001, RUF100 - the suite goes on with the next world
        found = world.oracle.faults or [f"{type(error).__name__}: {error}"]
        for fault in found:
            kind = row.lost if fault.endswith(("is lost", "vanished")) else row.wrong
            if any(words in fault for words in (" times", "twice", "a second time")):
                kind = row.twice
            kind.append(f"{name}: {fault}")
    journal = world.journal
    row.accepted += len(journal.entries) + len(journal.directives)
    row.accepted += sum(one.cancelled_at is not None for one in journal.directives.values())
