"""Old copies: devices and the ledger put back from copies, images of running machines, and clones.

All is settled before something is put back, so that nothing that was accepted may be missing; what
is said and not sent before a disk is replaced dies with it, and counts as that.
"""

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from buswire.errors import BusError
from tests.faults.hooked import Hooked, name_of
from tests.faults.network import work
from tests.faults.rows import Row
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes.chain import Chain, Till

STORES = ("S001", "S002", "S003")
PATIENCE_SECONDS = 60.0
RECOVERY_MOST_SECONDS = 20.0
CLOSED_SECONDS = 10.0
"""So long after all has arrived a device may take for open what it had closed before its copy."""
ROUNDS = 36
_CLOSED = {"done", "cannot", "cancelled", "expired"}
_COMPANIONS = ("", "-wal")


def copies(seed: int, share: float) -> Row:
    """Each kind of old copy by turns, under one journal."""
    row = Row("old copies")
    draw = Random(seed)
    with tempfile.TemporaryDirectory() as folder, Chain(Path(folder), STORES) as chain:
        story = Copies(chain, draw, row)
        kinds: list[Callable[[], None]] = []
        for _ in range(max(len(story.kinds), round(ROUNDS * share))):
            if not kinds:
                kinds = draw.sample(story.kinds, len(story.kinds))
            story.round(kinds.pop())
            if row.failures:
                break  # what comes after it would only say the same
        row.accepted = chain.journal.accepted
        chain.wait_online()
    row.note = ", ".join(f"{count} {kind}" for kind, count in sorted(story.counts.items()))
    return row


class Copies:
    """What is done to one chain, and what the journal says of it afterwards."""

    def __init__(self, chain: Chain, draw: Random, row: Row) -> None:
        self.chain = chain
        self.draw = draw
        self.row = row
        self.counts: Counter[str] = Counter()
        self._numbers = 0
        self._closed: dict[str, int] = {}
        """How often the hook had run for work that was closed when something was put back."""
        self.hooked = Hooked(chain.folder)
        for till in chain.tills.values():
            till.stop()
            self.hooked.install(till)
            till.start()
        self.kinds = [
            self.device_copy,
            self.device_image,
            self.device_twice,
            self.torn_image,
            self.clone,
            self.ledger,
            self.ledger_and_device,
        ]

    def round(self, kind: Callable[[], None]) -> None:
        """Some life, the fault with more of it, and the judgement."""
        for _ in range(3):
            work(self.chain, self.draw)
        self._settle()
        try:
            kind()
            self._heal()
        except (AssertionError, BusError) as error:
            self.row.wrong.append(f"{kind.__name__}: {error}")
        self.row.times += 1
        self.judge(kind.__name__.replace("_", " "))

    # --- the kinds -------------------------------------------------------------------------------

    def device_copy(self) -> None:
        """A device's home, copied while nothing ran, put back later."""
        till = self._anyone()
        till.stop()
        copy = self._copy(till)
        till.start()
        self._live()
        self._put_back(till, copy)
        self.counts["copies put back"] += 1

    def device_image(self) -> None:
        """An image of the running machine: all files at one moment, in the middle of its work."""
        till = self._anyone()
        copy = self._image(till)
        self._live()
        self._put_back(till, copy)
        self.counts["images of a running device"] += 1

    def device_twice(self) -> None:
        """The same old image is put back a second time, after more life."""
        till = self._anyone()
        copy = self._image(till)
        for _ in range(2):
            self._live()
            self._put_back(till, copy)
            self._heal()
            self.counts["put back twice"] += 1

    def torn_image(self) -> None:
        """Database and log copied at different moments: no copy at all, and not taken for one."""
        till = self._anyone()
        self.hooked.wait(till)
        copy = self._folder()
        shutil.copytree(till.home, copy)
        (copy / "agent.db-shm").unlink(missing_ok=True)
        self._busy(till, 300)
        late = self.draw.choice(_COMPANIONS)
        shutil.copy(till.home / f"agent.db{late}", copy / f"agent.db{late}")
        self._live()
        whole = _is_whole(copy / "agent.db")
        self._put_back(till, copy)
        self.counts["torn images" if whole else "torn images that are damaged"] += 1
        try:
            self._heal(till)
        except (AssertionError, BusError):
            # It has noticed: what it cannot take it refuses.
            if whole:
                raise
        if not whole:
            if "Traceback" in till.said():
                self.row.wrong.append(f"a torn copy: {till.said()[-1500:]}")
            till.end()
            till.wipe()
            till.join(self.chain.bundle(till.name))
            self.hooked.install(till)
            till.start()
            self.counts["set up anew for that"] += 1

    def clone(self) -> None:
        """An old image runs beside the device it is of, and both have things to say."""
        chain, till = self.chain, self._anyone()
        copy = self._image(till)
        self._live()
        twin = Till(chain.folder, till.store, till.device)
        twin.home, twin.log = copy, chain.folder / f"{till.name}.twin.log"
        twin.start()
        try:
            for _ in range(3):
                for one in (till, twin):
                    number = chain.alert(one)
                    chain.wait_arrived(till.store, number, seconds=PATIENCE_SECONDS)
            wait_until(
                lambda: not twin.unacknowledged() and not till.unacknowledged(),
                seconds=PATIENCE_SECONDS,
                what="both of one identity to be heard",
            )
            wait_until(
                lambda: chain.rows(
                    "SELECT 1 FROM incident JOIN device ON device.no = device_no"
                    " JOIN store ON store.no = store_no"
                    " WHERE kind = 'cloned device' AND store.id = ?",
                    till.store,
                ),
                seconds=PATIENCE_SECONDS,
                what="HQ to tell of the clone",
            )
        finally:
            twin.end()
        self.counts["clones"] += 1

    def ledger(self) -> None:
        """The ledger is put back from a backup, with stores ahead of it."""
        self._restore_ledger(self._backup())

    def ledger_and_device(self) -> None:
        """Both are old, and not of the same moment; the other stores know what was."""
        chain = self.chain
        till = self._anyone()
        image = self._image(till)
        self._live()
        backup = self._backup()
        self._restore_ledger(backup)
        self._settle()
        self._put_back(till, image)
        self.counts["ledger and device"] += 1
        assert chain.hub.returncode is None

    # --- what they are made of -------------------------------------------------------------------

    def _anyone(self) -> Till:
        return self.draw.choice(list(self.chain.tills.values()))

    def _folder(self) -> Path:
        self._numbers += 1
        return self.chain.folder / f"copy-{self._numbers}"

    def _copy(self, till: Till) -> Path:
        self.hooked.wait(till)
        return Path(shutil.copytree(till.home, self._folder()))

    def _image(self, till: Till) -> Path:
        """All files as they are at one moment, while the daemon has work."""
        self.hooked.wait(till)
        self._busy(till, 20)
        till.freeze()
        copy = Path(shutil.copytree(till.home, self._folder()))
        till.thaw()
        return copy

    def _busy(self, till: Till, count: int) -> None:
        for _ in range(count):
            self.chain.alert(till)

    def _live(self) -> None:
        """Life goes on behind the copy's back: work is done, closed and withdrawn."""
        chain = self.chain
        withdrawn = chain.issue()
        for _ in range(3):
            work(chain, self.draw)
        self._settle()
        chain.cancel(withdrawn)
        wait_until(
            lambda: all(
                not one["open"]
                for till in chain.tills.values()
                for one in till.inbox()
                if one["directive"] == withdrawn
            ),
            seconds=PATIENCE_SECONDS,
            what="the withdrawal everywhere",
        )
        self._settle()

    def _put_back(self, till: Till, copy: Path) -> None:
        """The disk gets an old content; what it had said and not sent dies with the one before."""
        chain = self.chain
        self.remember_closed()
        if self.draw.random() < 0.5:
            till.stop()
            number = chain.alert(till)
            chain.journal.said[till.store, "alert", number] -= 1
            self.counts["entries that died unsent"] += 1
        else:
            till.kill()
        till.wipe()
        shutil.copytree(copy, till.home)
        till.start()

    def remember_closed(self) -> None:
        """Note how often the hook ran for what is closed: it must not run for that again."""
        runs = self.hooked.runs()
        for till in self.chain.tills.values():
            for item in till.inbox():
                if not item["open"]:
                    name = name_of(till, item)
                    self._closed[name] = runs[name]

    def _backup(self) -> Path:
        path = self._folder()
        self.chain.hq("backup", str(path))
        return path

    def _restore_ledger(self, backup: Path) -> None:
        chain = self.chain
        self._live()
        self.remember_closed()
        chain.hub.stop()
        if self.draw.random() < 0.5:  # it has reached nobody: it is in the ledger kept beside only
            del chain.journal.directives[chain.issue()]
            self.counts["directives that died unsent"] += 1
        chain.hq("restore", str(backup), "--yes")
        chain.hub.start()
        self.counts["ledgers put back"] += 1

    # --- the judgement ---------------------------------------------------------------------------

    def _settle(self) -> None:
        """Wait until nothing is on its way; what a restored device need not know is not missed."""
        chain = self.chain
        wait_until(
            lambda: (
                not chain.undelivered()
                and not any(till.unacknowledged() for till in chain.tills.values())
                and not self._missing()
            ),
            seconds=PATIENCE_SECONDS,
            what=f"all to arrive, such as {self._missing()[:3]}",
            poll_seconds=0.1,
        )

    def _heal(self, *tills: Till) -> None:
        """The first thing that is said arrives; then all of it."""
        chain = self.chain
        began_at = time.monotonic()
        said = [(till, chain.alert(till)) for till in tills or chain.tills.values()]
        for till, number in said:
            wait_until(
                lambda till=till, number=number: (
                    till.returncode is not None or chain.has_arrived(till.store, number)
                ),
                seconds=PATIENCE_SECONDS,
                what=f"the alert {number!r} of {till.store}",
            )
            assert till.returncode is None, f"{till.name} has ended: {till.said()[-500:]}"
        seconds = time.monotonic() - began_at
        self.row.recovered(seconds)
        if seconds > RECOVERY_MOST_SECONDS * TIME_SCALE:
            self.row.wrong.append(f"{seconds:.1f} s until the first thing arrived")
        self._settle()

    def _missing(self) -> list[str]:
        """What HQ lacks, and open work that a device lacks."""
        chain = self.chain
        missing = [one for one in chain.account().lost if not one.endswith(tuple(chain.tills))]
        return missing + [f"{work} is not at {till.name}" for till, work in self._unequal("open")]

    def _unequal(self, which: str) -> list[tuple[Till, tuple[str, str]]]:
        """Work that is open at HQ and not at the store ("open"), or the other way round."""
        chain = self.chain
        found = []
        for till in chain.tills.values():
            here = {(one["directive"], one["role"]) for one in till.inbox() if one["open"]}
            there = {
                (directive, role)
                for directive in chain.journal.directives
                for (store, role), state in chain.states(directive).items()
                if store == till.store and state not in _CLOSED
            }
            found += [(till, one) for one in (there - here if which == "open" else here - there)]
        return found

    def judge(self, kind: str) -> None:
        """Nothing lost, nothing twice, nothing that was closed is open again, no bell for it."""
        chain, row = self.chain, self.row
        with contextlib.suppress(AssertionError):  # told below, work by work
            wait_until(
                lambda: not self._unequal("closed"),
                seconds=CLOSED_SECONDS,
                what="all to hear what is closed",
            )
        row.lost += [f"{kind}: {one}" for one in self._missing()]
        row.twice += [
            f"{kind}: {one}"
            for one in chain.account().twice
            if not one.startswith("an arrival")  # a disk that is replaced heard it once, and again
        ]
        row.twice += [
            f"{kind}: {work} is closed and open again at {till.name}"
            for till, work in self._unequal("closed")
        ]
        runs = self.hooked.runs()
        row.twice += [
            f"{kind}: the hook ran again for {work}, which was closed"
            for work, before in self._closed.items()
            if runs[work] > before
        ]
        self._closed.clear()


def _is_whole(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a copy of it."""
    with tempfile.TemporaryDirectory() as folder:
        for end in _COMPANIONS:
            if (part := Path(f"{path}{end}")).exists():
                shutil.copy(part, folder)
        try:
            with sqlite3.connect(Path(folder) / path.name) as connection:
                return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        except sqlite3.DatabaseError:
            return False
        finally:
            connection.close()
