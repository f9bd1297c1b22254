"""What of a folder would be there if the power went now.

Owns the difference between what was written and what is on the disk: content becomes durable by a
sync of its file, a name by a sync of its folder, and of the rest any part may be there or not: any
subset, in pieces, in any order. The `-shm` file of SQLite is memory that happens to have a name.

A sync that failed leaves the disk without what it should have written, and later ones say that all
is well: what Linux does to dirty pages that could not be written.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.disk.shim import GO_ON, PRETEND, Op

SECTOR_BYTES = 512
_FORGOTTEN = ("-shm", ".lock")
"""Files whose content means nothing after a power cut."""

Decide = Callable[[Op, str], int]


@dataclass(slots=True, eq=False)
class File:
    """An inode: what of it is durable, and what was done to it since its last sync."""

    durable: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)
    kept: bool = True
    name: str = ""


@dataclass(slots=True, eq=False)
class Folder:
    """Names as they are, and as they are on the disk."""

    live: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)
    name: str = ""


@dataclass(slots=True, eq=False)
class Change:
    """A write, or a truncation if `data` is None."""

    number: int
    file: File
    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        """Do it to this content."""
        if self.data is None:
            if len(content) > self.offset:
                del content[self.offset :]
            else:
                content.extend(bytes(self.offset - len(content)))
            return
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.data)] = self.data

    def pieces(self) -> Iterator[Change]:
        """The sectors that it consists of."""
        if self.data is None:
            yield self
            return
        at = 0
        while at < len(self.data):
            length = SECTOR_BYTES - (self.offset + at) % SECTOR_BYTES
            piece = self.data[at : at + length]
            yield Change(self.number, self.file, self.offset + at, piece)
            at += length


@dataclass(slots=True, eq=False)
class Naming:
    """Names that change together."""

    number: int
    names: list[tuple[Folder, str, File | Folder | None]]


Image = dict[str, bytes | None]
"""A folder: content by relative path, None for a folder in it."""


class Volume:
    """One folder, seen as a disk; give it to `Shim.add`."""

    def __init__(self, path: Path, random: Random) -> None:
        """Begin with what is in the folder, all of it durable."""
        self.path = path
        self.random = random
        self.on = True
        self.operations = 0
        self.syncs_lie = False
        """Whether syncs are said to be done and are not; a sabotage."""
        self.decide: Decide | None = None
        """Asked before each operation: go on, or an errno."""
        self.watch: Decide | None = None
        """Told behind each operation that changed something, or made it durable."""
        self._number = 0
        self._namings: list[Naming] = []
        self._root = self._scan(path)

    def _scan(self, path: Path) -> Folder:
        folder = Folder(name=path.name)
        for one in sorted(path.iterdir()):
            node: File | Folder
            if one.is_dir():
                node = self._scan(one)
            else:
                node = File(bytearray(one.read_bytes()), name=one.name)
                node.kept = not one.name.endswith(_FORGOTTEN)
            folder.live[one.name] = folder.durable[one.name] = node
        return folder

    # --- what the shim shows ---------------------------------------------------------------------

    def opening(self, path: str, flags: int) -> int:
        """A file is about to be opened."""
        return self._ask(Op.OPEN, path)

    def opened(self, path: str, flags: int) -> File | Folder:
        """It was."""
        folder, name = self._find(path)
        node = folder.live.get(name) if name else folder
        if node is None:
            node = File(kept=not name.endswith(_FORGOTTEN), name=name)
            self._name([(folder, name, node)])
            self._tell(Op.OPEN, path)
        elif isinstance(node, File) and flags & os.O_TRUNC:
            self._change(node, 0, None)
            self._tell(Op.TRUNCATE, path)
        return node

    def closed(self, file: object) -> None:
        """Closing makes nothing durable."""

    def done_to(self, file: object, op: Op, offset: int, length: int, data: int | None) -> int:
        """Something is about to be done to an open file."""
        assert isinstance(file, File | Folder)
        said = self._ask(op, file.name)
        if said:
            if op is Op.SYNC and isinstance(file, File) and self.on:
                self._lose(file)
            return said
        if isinstance(file, File) and not file.kept:
            return GO_ON
        if op is Op.SYNC:
            if self.syncs_lie:
                return PRETEND
            if self.watch is not None:
                self.watch(Op.SYNC, file.name)
            self._sync(file)
            self._tell(op, file.name)
        elif isinstance(file, File) and op is Op.WRITE:
            assert data is not None
            self._change(file, offset, ctypes.string_at(data, length))
            self._tell(op, file.name)
        elif isinstance(file, File) and op is Op.TRUNCATE:
            self._change(file, length, None)
            self._tell(op, file.name)
        return GO_ON

    def named(self, op: Op, path: str, other: str) -> int:
        """A name is about to be made, moved or removed."""
        said = self._ask(op, path)
        if said or not path:
            return said
        folder, name = self._find(path)
        node = folder.live.get(name)
        if op is Op.MKDIR and node is None:
            self._name([(folder, name, Folder(name=name))])
        elif op in {Op.UNLINK, Op.RMDIR} and node is not None:
            self._name([(folder, name, None)])
        elif op in {Op.RENAME, Op.LINK} and node is not None:
            target, called = self._find(other)
            node.name = called
            changes: list[tuple[Folder, str, File | Folder | None]] = [(target, called, node)]
            if op is Op.RENAME:
                changes.append((folder, name, None))
            self._name(changes)
        else:
            return GO_ON
        self._tell(op, path)
        return GO_ON

    # --- inside ----------------------------------------------------------------------------------

    def _ask(self, op: Op, name: str) -> int:
        if not self.on:
            # Locks are memory; without one SQLite would wait, and there is nobody to wait any more.
            return GO_ON if op is Op.LOCK else errno.EIO
        self.operations += 1
        return GO_ON if self.decide is None else self.decide(op, name)

    def _tell(self, op: Op, name: str) -> None:
        if self.watch is not None:
            self.watch(op, name)

    def _find(self, path: str) -> tuple[Folder, str]:
        *above, name = path.split("/")
        folder = self._root
        for one in above:
            found = folder.live[one]
            assert isinstance(found, Folder)
            folder = found
        return folder, name

    def _change(self, file: File, offset: int, data: bytes | None) -> None:
        if file.kept:
            self._number += 1
            file.changes.append(Change(self._number, file, offset, data))

    def _name(self, names: list[tuple[Folder, str, File | Folder | None]]) -> None:
        self._number += 1
        for folder, name, node in names:
            _set(folder.live, name, node)
        self._namings.append(Naming(self._number, names))

    def _sync(self, node: File | Folder) -> None:
        if isinstance(node, File):
            for change in node.changes:
                change.apply(node.durable)
            node.changes.clear()
            return
        waiting = []
        for naming in self._namings:
            if any(folder is node for folder, _, _ in naming.names):
                for folder, name, one in naming.names:
                    _set(folder.durable, name, one)
            else:
                waiting.append(naming)
        self._namings = waiting

    def _lose(self, file: File) -> None:
        """A sync failed: part of what it was for is on the disk, the rest will never be."""
        for change in file.changes:
            for piece in change.pieces():
                if self.random.random() < 0.3:
                    piece.apply(file.durable)
        file.changes.clear()

    # --- when the power goes ---------------------------------------------------------------------

    def crash(self, random: Random) -> Image:
        """What is there if the power goes now; each call draws anew what of the rest is there."""
        changes = [change for file in self._files() for change in file.changes]
        drawn: dict[int, list[Change]] = {}
        namings = self._draw_namings(random)
        for change in _draw(random, sorted(changes, key=lambda one: one.number)):
            drawn.setdefault(id(change.file), []).append(change)
        longer = random.random() < 0.1  # sizes are on the disk, and the content is not
        names: dict[int, dict[str, File | Folder]] = {}

        def of(folder: Folder) -> dict[str, File | Folder]:
            return names.setdefault(id(folder), dict(folder.durable))

        for naming in namings:
            for folder, name, node in naming.names:
                _set(of(folder), name, node)
        image: Image = {}

        def render(folder: Folder, prefix: str) -> None:
            for name, node in of(folder).items():
                if isinstance(node, Folder):
                    image[prefix + name] = None
                    render(node, f"{prefix}{name}/")
                elif node.kept:
                    content = bytearray(node.durable)
                    for change in drawn.get(id(node), ()):
                        change.apply(content)
                    if longer:
                        _lengthen(content, node, random)
                    image[prefix + name] = bytes(content)

        render(self._root, "")
        if random.random() < 0.2:  # whatever lay in memory is of no use, and must not be believed
            for name in [one for one in image if one.endswith("-wal")]:
                image[name.removesuffix("-wal") + "-shm"] = random.randbytes(32768)
        return image

    def cut(self, random: Random) -> Image:
        """The power goes: what is there; every operation fails from now on."""
        self.on = False
        return self.crash(random)

    def _files(self) -> Iterator[File]:
        seen: set[int] = set()

        def below(folder: Folder) -> Iterator[File]:
            for node in [*folder.live.values(), *folder.durable.values()]:
                if id(node) in seen:
                    continue
                seen.add(id(node))
                if isinstance(node, Folder):
                    yield from below(node)
                else:
                    yield node

        yield from below(self._root)

    def _draw_namings(self, random: Random) -> list[Naming]:
        if random.random() < 0.6:  # journals of file systems keep their order
            return self._namings[: random.randint(0, len(self._namings))]
        share = random.random()
        return [one for one in self._namings if random.random() < share]


def write_image(image: Image, path: Path) -> None:
    """Make a folder that has this in it; the folder above must exist."""
    path.mkdir()
    for name, content in image.items():
        if content is None:
            (path / name).mkdir(mode=0o700)
        else:
            (path / name).write_bytes(content)
            (path / name).chmod(0o600)


def _set(names: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _draw(random: Random, changes: list[Change]) -> list[Change]:
    """Which of the changes that nobody made durable are on the disk."""
    match random.choices(range(7), (2, 2, 4, 4, 4, 2, 2))[0]:
        case 0:
            return []
        case 1:
            return changes
        case 2:  # in order, up to somewhere in the middle of one
            count = random.randint(0, len(changes))
            found = changes[:count]
            if count < len(changes) and changes[count].data is not None:
                found = [*found, _torn(random, changes[count])]
            return found
        case 3:
            share = random.random()
            return [one for one in changes if random.random() < share]
        case 4:
            share = random.choice((0.1, 0.5, 0.9))
            pieces = [piece for one in changes for piece in one.pieces()]
            return [piece for piece in pieces if random.random() < share]
        case 5:  # the last ones first
            return changes[random.randint(0, len(changes)) :]
        case _:  # all of one file, and nothing of the others
            chosen = random.choice(changes).file if changes else None
            return [one for one in changes if one.file is chosen]


def _torn(random: Random, change: Change) -> Change:
    assert change.data is not None
    length = random.randint(0, len(change.data))
    if random.random() < 0.7:
        length -= length % SECTOR_BYTES
    return Change(change.number, change.file, change.offset, change.data[:length])


def _lengthen(content: bytearray, file: File, random: Random) -> None:
    ends = [one.offset + len(one.data) for one in file.changes if one.data is not None]
    missing = max(ends, default=0) - len(content)
    if missing > 0:
        content.extend(random.choice((bytes(missing), random.randbytes(missing))))
