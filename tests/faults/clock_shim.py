"""A time of day that can be set, for one process each: a library that is loaded before all others.

Only what says the time of day is shifted: CLOCK_REALTIME, gettimeofday, time. Monotonic time, and
the times of files, stay true, as they do on a real machine whose clock is set by hand.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from unittest import mock

from tests.processes import chain as processes
from tests.processes.chain import Chain

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *ahead;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIFTED_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) ahead = found;
    close(file);
}

int clock_gettime(clockid_t which, struct timespec *to) {
    int failed = syscall(SYS_clock_gettime, which, to);
    if (!failed && ahead && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        to->tv_sec += *ahead;
    return failed;
}

int gettimeofday(struct timeval *to, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    to->tv_sec = now.tv_sec;
    to->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
"""


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


class Shim:
    """The library, and how far off each daemon's clock is."""

    def __init__(self, folder: Path) -> None:
        """Make the library.

        Raises:
            RuntimeError: There is no C compiler.
        """
        found = compiler()
        if found is None:
            raise RuntimeError("a C compiler is needed to shift clocks: apt-get install gcc")
        self._folder = folder
        self._library = folder / "clock.so"
        source = folder / "clock.c"
        source.write_text(_SOURCE)
        subprocess.run([found, "-O1", "-shared", "-fPIC", "-o", self._library, source], check=True)

    def set(self, name: str, ahead_seconds: float) -> None:
        """Set the clock of the daemon of this name so far ahead of the true time."""
        with self._file(name).open("r+b") as file:
            file.write(struct.pack("=q", round(ahead_seconds)))

    def chain(self, folder: Path, stores: Sequence[str]) -> "ShiftedChain":
        """A chain whose daemons go by shifted clocks."""
        return ShiftedChain(self, folder, stores)

    def environment(self, name: str) -> dict[str, str]:
        """What a daemon's environment has besides."""
        file = self._file(name)
        if not file.exists():
            file.write_bytes(struct.pack("=q", 0))
        return {"LD_PRELOAD": str(self._library), "SHIFTED_CLOCK_FILE": str(file)}

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.clock"


class ShiftedChain(Chain):
    """A chain; its hub and its agents are started with the library."""

    def __init__(self, shim: Shim, folder: Path, stores: Sequence[str]) -> None:
        super().__init__(folder, stores)
        self._shim = shim
        self._start = processes.Daemon.start
        self._patch = mock.patch.object(processes.Daemon, "start", self._start_shifted())

    def __enter__(self) -> Self:
        self._patch.start()
        try:
            return super().__enter__()
        except BaseException:
            self._patch.stop()
            raise

    def __exit__(self, *error: object) -> None:
        try:
            super().__exit__(*error)  # type: ignore[arg-type]
        finally:
            self._patch.stop()

    def _start_shifted(self) -> object:
        shim, start = self._shim, self._start

        def started(daemon: processes.Daemon) -> None:
            with mock.patch.dict(os.environ, shim.environment(daemon.name)):
                start(daemon)

        return started
