"""The databases of a simulated world as real files on volumes whose power can go.

Owns what happens to a database when its volume loses power: everything fails from that operation
on, the process is dead, and the product opens what was on the disk. And that each image of a disk,
taken at any moment, is the database before or after the transaction at work, whole.
"""

from __future__ import annotations

import gc
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar

from buskit.database import Database
from hqconsole.ledger.opening import FILE_NAME as LEDGER_NAME
from hqconsole.ledger.opening import open_ledger
from storeagent.database import FILE_NAME as DEVICE_NAME
from storeagent.database import open_agent_database
from tests.disk.shim import GO_ON, Op, Shim
from tests.disk.volume import Image, Volume, write_image
from tests.simulation.disks import Disk, Disks, Killed

T = TypeVar("T")
State = dict[str, list[tuple[object, ...]]]

_AUTOCHECKPOINT_PAGES = (1000, 12, 40)
_AGAIN = 0.15
"""How likely the power goes again while the database is opened after a cut."""
_IMAGES_MOST = 12
"""Of one transaction."""


def content(database: Database) -> State:
    """Everything in a database."""
    connection = database.connection
    names = [
        row[0]
        for row in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
    ]
    return {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}


def soundness(database: Database) -> list[str]:
    """What SQLite finds wrong in it."""
    found = [str(row[0]) for row in database.connection.execute("PRAGMA integrity_check(5)")]
    broken = database.connection.execute("PRAGMA foreign_key_check").fetchall()
    return [one for one in found if one != "ok"] + [f"foreign key of {row[0]}" for row in broken]


class FileDisk(Disk):
    """One database in a file of its own volume."""

    def __init__(self, disks: FileDisks, name: str, image: bytes, kind: Kind) -> None:
        self._disks = disks
        self._name = name
        self._kind = kind
        self._generation = 0
        self._after: Image | None = None
        self._cut_in: int | None = None
        self._pages = disks.random.choice(_AUTOCHECKPOINT_PAGES)
        self._committed = False
        super().__init__(self._mount({kind.file_name: image}))

    # --- its volume ------------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        """The folder that it is in at present."""
        return self._disks.shim.root / f"{self._name}.{self._generation}"

    def _mount(self, image: Image) -> Database:
        """Put an image in the place of what there was, and open it as the product does."""
        disks = self._disks
        while True:
            self._generation += 1
            write_image(image, self.home)
            self.volume = Volume(self.home, disks.random)
            self.volume.syncs_lie = disks.syncs_lie
            self.volume.watch = self._watch
            disks.shim.add(self.home.name, self.volume)
            if self._generation > 1 and disks.random.random() < _AGAIN:
                self._cut_in = disks.random.randint(1, 12)
            try:
                database = self._kind.open(self.home)
            except Exception:
                if self.volume.on:
                    raise
                disks.counts["power cuts while opening"] += 1
                image = self._unmount()
                continue
            if not self.volume.on:
                disks.counts["power cuts while opening"] += 1
                image = self._unmount(database)
                continue
            self._cut_in = None
            disks.sabotage(database)
            database.connection.execute(f"PRAGMA wal_autocheckpoint = {self._pages}")
            return database

    def _unmount(self, database: Database | None = None) -> Image:
        """What the power cut left; the process that had it open is gone."""
        image = self._after
        assert image is not None
        self._after = None
        self._disks.shim.remove(self.home.name)
        if database is not None:
            database.close()
        shutil.rmtree(self.home)
        return image

    # --- power cuts ------------------------------------------------------------------------------

    def cut_power(self, operations: int) -> None:
        """The power goes at so many changes of the disk from now."""
        self._cut_in = operations

    @property
    def lost_power(self) -> bool:
        """Whether it has."""
        return not self.volume.on

    def _watch(self, op: Op, name: str) -> int:
        """Behind each change, and before each sync."""
        if self._images is not None and len(self._images) < _IMAGES_MOST:
            self._images.append((self.volume.crash(self._disks.random), self._committed))
        if self._cut_in is not None:
            self._cut_in -= 1
            if self._cut_in <= 0:
                self._cut_in = None
                self._disks.counts["power cuts"] += 1
                self._disks.counts[f"power cuts at {op.name.lower()}"] += 1
                self._after = self.volume.cut(self._disks.random)
        return GO_ON

    def be_well(self) -> None:
        """The power is back, if it was gone."""
        super().be_well()
        self._cut_in = None
        if self.lost_power:
            image = self._unmount(self.database)
            self.take(self._mount(image))
            self._disks.judge_opened(self)

    def run(self, do: Callable[[], T]) -> T:
        """Do something as the daemon does it; the process is dead once the power is gone."""
        return self._guarded(do)

    def quietly(self, do: Callable[[], T]) -> T:
        """Do something as a command does it."""
        self._disks.command_on = self
        try:
            result = super().quietly(lambda: self._guarded(do))
        except Killed:
            self.died()
            raise
        finally:
            self._disks.command_on = None
        return result

    def _guarded(self, do: Callable[[], T]) -> T:
        try:
            result = self._observed(do)
        except Exception:
            self._disks.shim.check()
            if self.lost_power:
                raise Killed from None
            raise
        self._disks.shim.check()
        if self.lost_power:
            raise Killed
        return result

    # --- images ----------------------------------------------------------------------------------

    _images: list[tuple[Image, bool]] | None = None

    def _observed(self, do: Callable[[], T]) -> T:
        """Do it, and maybe judge what a power cut at each of its steps would have left."""
        disks = self._disks
        if self._cut_in is not None or disks.random.random() >= disks.images_share:
            return do()
        before = content(self.database)
        self._images, self._committed = [], False
        try:
            result = do()
        finally:
            images, self._images = self._images, None
        after = content(self.database)
        for image, committed in images:
            disks.judge(self._name, self._kind, image, [after] if committed else [before, after])
        return result

    def _end(self, error: BaseException | None) -> None:
        super()._end(error)
        self._committed = error is None


class Kind:
    """A kind of database: what its file is called, and how the product opens it."""

    def __init__(self, file_name: str, opened: Callable[[Path], Database]) -> None:
        self.file_name = file_name
        self.open = opened


DEVICE = Kind(DEVICE_NAME, lambda home: open_agent_database(home / DEVICE_NAME))
LEDGER = Kind(LEDGER_NAME, open_ledger)


class FileDisks(Disks):
    """Where the databases of a world are: in files."""

    def __init__(
        self,
        shim: Shim,
        random: Random,
        *,
        images_share: float = 0.0,
        synchronous: str | None = None,
        syncs_lie: bool = False,
    ) -> None:
        """Begin with none.

        Args:
            shim: What shows the operations.
            random: What becomes of each disk.
            images_share: At so many of the transactions the disk is looked at step by step.
            synchronous: Another setting than the product's; a sabotage.
            syncs_lie: Syncs do nothing; a sabotage.
        """
        self.shim = shim
        self.random = random
        self.images_share = images_share
        self.syncs_lie = syncs_lie
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.command_on: FileDisk | None = None
        self.all: list[FileDisk] = []
        self._synchronous = synchronous
        self._seen: set[int] = set()

    def device(self, name: str, image: bytes) -> FileDisk:
        """The disk of a device, which begins as this image."""
        return self._made(name, image, DEVICE)

    def ledger(self, image: bytes) -> FileDisk:
        """HQ's disk."""
        return self._made("hq", image, LEDGER)

    def _made(self, name: str, image: bytes, kind: Kind) -> FileDisk:
        disk = FileDisk(self, f"{name}-{len(self.all)}", image, kind)
        self.all.append(disk)
        return disk

    def sabotage(self, database: Database) -> None:
        """Spoil what was opened, if that is wanted."""
        if self._synchronous is not None:
            database.connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def close(self) -> None:
        """Close all."""
        for disk in self.all:
            self.shim.remove(disk.home.name)
            disk.database.close()
            shutil.rmtree(disk.home)
        gc.collect()

    def judge_opened(self, disk: FileDisk) -> None:
        """What came back after a power cut must be sound."""
        self.faults += [
            f"{disk._name} after a power cut: {one}" for one in soundness(disk.database)
        ]

    def judge(self, name: str, kind: Kind, image: Image, possible: list[State]) -> None:
        """Open an image as the product does: it must be one of these states."""
        key = hash(tuple(sorted((one, what) for one, what in image.items())))
        if key in self._seen:
            return
        self._seen.add(key)
        self.counts["images"] += 1
        folder = self.shim.root / "judged"
        write_image(image, folder)
        try:
            with kind.open(folder) as database:
                faults = soundness(database)
                found = content(database)
        except Exception as error:  # noqa: BLE001, RUF100 - whatever it is, it must not be
            faults, found = [f"{type(error).__name__}: {error}"], possible[-1]
        finally:
            shutil.rmtree(folder)
        if not faults and found not in possible:
            tables = [one for one in found if found[one] != possible[-1].get(one)]
            faults = [f"neither before nor after the transaction, in {', '.join(tables)}"]
        self.faults += [f"{name}, an image: {one}" for one in faults]
