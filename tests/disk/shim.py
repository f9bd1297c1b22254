"""The shim from Python's side: built by a C compiler at first use, and asked through ctypes.

Owns the library and which operation belongs to which volume. Must not know what a volume makes of
an operation.
"""

import ctypes
import enum
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]
_SOURCE = Path(__file__).with_name("shim.c")
_HOOK = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_void_p,
)

GO_ON = 0
PRETEND = -1
"""What a hook answers, besides an errno: go on; or say that it is done, and do nothing."""


class Op(enum.IntEnum):
    """What a program asks of its disk, as in shim.c."""

    OPEN = 0
    OPENED = 1
    CLOSE = 2
    READ = 3
    WRITE = 4
    TRUNCATE = 5
    SYNC = 6
    UNLINK = 7
    RENAME = 8
    LINK = 9
    MKDIR = 10
    RMDIR = 11
    LOCK = 12


_OPS = {op.value: op for op in Op}


class NoCompiler(RuntimeError):  # noqa: N818 - it names what was found
    """The shim cannot be built on this machine."""


class Watcher(Protocol):
    """Who is shown the operations below one folder; paths are relative to it."""

    def opening(self, path: str, flags: int) -> int:
        """A file is about to be opened: go on, or an errno."""

    def opened(self, path: str, flags: int) -> object:
        """It was; what stands for it in `done_to`."""

    def done_to(self, file: object, op: Op, offset: int, length: int, data: int | None) -> int:
        """Something is about to be done to an open file."""

    def closed(self, file: object) -> None:
        """It is closed."""

    def named(self, op: Op, path: str, other: str) -> int:
        """A name is about to be made, moved or removed."""


def library() -> Path:
    """The shim, built if it is not there.

    Raises:
        NoCompiler: There is none here, with what to do.
    """
    stamp = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    built = ROOT / "build" / f"disk-shim-{stamp}.so"
    if not built.exists():
        compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
        if compiler is None:
            raise NoCompiler(
                "the tests of power cuts and I/O errors need a C compiler;"
                " as root: sh tools/compiler.sh, or: apt-get install gcc libc6-dev"
            )
        built.parent.mkdir(exist_ok=True)
        unfinished = built.with_suffix(f".{os.getpid()}")
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", unfinished, _SOURCE, "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        unfinished.replace(built)
    return built


def environment() -> Mapping[str, str]:
    """What a process needs to run on the shim."""
    return os.environ | {"LD_PRELOAD": str(library()), "MALLOC_ARENA_MAX": "2"}


class Shim:
    """The shim that this process runs on; there is one."""

    def __init__(self, root: Path) -> None:
        """Watch what happens below `root`.

        Raises:
            RuntimeError: This process was not started on the shim.
        """
        self.root = root
        self.seen: dict[Op, int] = dict.fromkeys(Op, 0)
        """How many operations of each kind it was shown."""
        self._volumes: dict[str, Watcher] = {}
        self._files: dict[int, tuple[Watcher, object]] = {}
        self._library = ctypes.CDLL(None)
        try:
            watch = self._library.shim_watch
        except AttributeError:
            raise RuntimeError(f"{sys.executable} was not started on {library()}") from None
        self._hook = _HOOK(self._heard)
        self._error: BaseException | None = None
        watch(self._hook, os.fsencode(root), 0)

    def show_reads(self, *, wanted: bool) -> None:
        """Show reads as well; they are many."""
        self._library.shim_reads(int(wanted))

    def close(self) -> None:
        """Watch nothing any more."""
        self._library.shim_watch(_HOOK(0), os.fsencode(self.root), 0)

    def add(self, name: str, volume: Watcher) -> None:
        """Show this volume what happens in the folder `name` of the root."""
        self._volumes[name] = volume

    def remove(self, name: str) -> None:
        """Show it nothing more, of what is open there either."""
        gone = self._volumes.pop(name, None)
        self._files = {fd: known for fd, known in self._files.items() if known[0] is not gone}

    def check(self) -> None:
        """Raise what went wrong inside the hook, which cannot raise by itself."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _heard(  # noqa: PLR0917 - as C calls it
        self,
        op: int,
        fd: int,
        path: bytes | None,
        other: bytes | None,
        offset: int,
        length: int,
        data: int | None,
    ) -> int:
        try:
            return self._ask(_OPS[op], fd, path, other, offset, length, data)
        except BaseException as error:  # noqa: BLE001, RUF100 - ctypes would print and forget it
            self._error = self._error or error
            return GO_ON

    def _ask(  # noqa: PLR0917 - likewise
        self,
        op: Op,
        fd: int,
        path: bytes | None,
        other: bytes | None,
        offset: int,
        length: int,
        data: int | None,
    ) -> int:
        self.seen[op] += 1
        if path is None:
            known = self._files.get(fd)
            if known is None:
                return GO_ON
            volume, file = known
            if op is Op.CLOSE:
                del self._files[fd]
                volume.closed(file)
                return GO_ON
            return volume.done_to(file, op, offset, length, data)
        name, rest = self._split(path)
        found = self._volumes.get(name)
        if found is None:
            return GO_ON
        if op is Op.OPEN:
            return found.opening(rest, offset)
        if op is Op.OPENED:
            self._files[fd] = found, found.opened(rest, offset)
            return GO_ON
        return found.named(op, rest, "" if other is None else self._split(other)[1])

    def _split(self, path: bytes) -> tuple[str, str]:
        below = os.path.normpath(os.fsdecode(path))[len(str(self.root)) + 1 :]
        name, _, rest = below.partition("/")
        return name, rest
