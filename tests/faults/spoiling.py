"""Ways in which a disk spoils a database: bytes flipped, zeroed, cut off, files gone."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

SECTOR_BYTES = 512
PAGE_BYTES = 4096

Spoil = Callable[[Path, random.Random], bool]
"""Does it to a database that nobody has open; False where there was nothing to spoil."""


def wal_of(path: Path) -> Path:
    """Its write-ahead log."""
    return path.with_name(path.name + "-wal")


def flip(path: Path, draw: random.Random) -> bool:
    """One byte becomes another one, anywhere."""
    bits = draw.randint(1, 255)
    return _write(path, draw.randrange, lambda old: bytes([old[0] ^ bits]), 1)


def flip_one_bit(path: Path, draw: random.Random) -> bool:
    """One bit."""
    bit = 1 << draw.randrange(8)
    return _write(path, draw.randrange, lambda old: bytes([old[0] ^ bit]), 1)


def flip_some(path: Path, draw: random.Random) -> bool:
    """Up to twenty bytes, anywhere."""
    return all(flip(path, draw) for _ in range(draw.randint(2, 20)))


def flip_at_the_begin(path: Path, draw: random.Random) -> bool:
    """One byte of what tells SQLite and us what it is."""
    bits = draw.randint(1, 255)
    where = draw.randrange(100)
    return _write(path, lambda size: min(size - 1, where), lambda old: bytes([old[0] ^ bits]), 1)


def zero_sectors(path: Path, draw: random.Random) -> bool:
    """Some sectors are read as nothing."""
    length = SECTOR_BYTES * draw.choice((1, 1, 2, 8))
    return _write(path, _at_sector(draw), lambda old: bytes(len(old)), length)


def garble_sectors(path: Path, draw: random.Random) -> bool:
    """Some sectors are what another file has there."""
    length = SECTOR_BYTES * draw.choice((1, 1, 2, 8))
    return _write(path, _at_sector(draw), lambda old: draw.randbytes(len(old)), length)


def cut_off(path: Path, draw: random.Random) -> bool:
    """The end is missing."""
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return False
    kept = draw.randrange(size)
    if draw.random() < 0.5:
        kept -= kept % PAGE_BYTES
    with path.open("r+b") as file:
        file.truncate(kept)
    return True


def take_away(path: Path, draw: random.Random) -> bool:
    """The file is gone."""
    del draw
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def in_log(spoil: Spoil) -> Spoil:
    """The same, done to the write-ahead log."""
    return lambda path, draw: spoil(wal_of(path), draw)


IN_FILE: Mapping[str, Spoil] = {
    "byte": flip,
    "bit": flip_one_bit,
    "bytes": flip_some,
    "header": flip_at_the_begin,
    "zeroed": zero_sectors,
    "garbled": garble_sectors,
    "cut off": cut_off,
}
IN_LOG: Mapping[str, Spoil] = {
    "log flipped": in_log(flip),
    "log cut off": in_log(cut_off),
    "log gone": in_log(take_away),
}


def _at_sector(draw: random.Random) -> Callable[[int], int]:
    return lambda size: draw.randrange(-(-size // SECTOR_BYTES)) * SECTOR_BYTES


def _write(
    path: Path,
    where: Callable[[int], int],
    change: Callable[[bytes], bytes],
    length: int,
) -> bool:
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return False
    with path.open("r+b") as file:
        at = where(size)
        file.seek(at)
        old = file.read(length)
        file.seek(at)
        file.write(change(old))
    return True
