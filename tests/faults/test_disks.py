"""Power cuts and failing disks: a taste of the long suites, and proof that they can fail."""

import json
import subprocess
import sys

import pytest

from tests.disk.shim import ROOT, environment
from tests.faults.disks import errors, on_the_shim, power
from tests.faults.seeds import seed_of_this_run

_LOOK = """
import _sqlite3, json, re, sqlite3, sys
from random import Random
from pathlib import Path
from tests.disk.databases import FileDisks
from tests.disk.power_world import watched_folder
from tests.simulation.templates import device_image
with watched_folder() as shim:
    disks = FileDisks(shim, Random(1))
    disk = disks.device("till", device_image())
    before = dict(shim.seen)
    with disk.database.write() as connection:
        connection.execute("INSERT INTO meta (key, value) VALUES ('a', 'b')")
    changed = {op.name: shim.seen[op] - before[op] for op in shim.seen}
    disks.close()
maps = Path("/proc/self/maps").read_text()
json.dump({
    "changed": changed,
    "sqlite": sqlite3.sqlite_version,
    "libraries": sorted(set(re.findall(r"/\\S*sqlite3\\S*", maps))),
    "module": getattr(_sqlite3, "__file__", "built in"),
    "others": [name for name in sys.modules if name.startswith(("apsw", "pysqlite"))],
}, sys.stdout)
"""


def test_the_products_own_sqlite_is_on_the_shim() -> None:
    """One commit of the product shows its writes and its sync, and no other SQLite is there."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    look = "import _sqlite3, re; print(*sorted(set(re.findall(r'/\\S*sqlite3\\S*', "
    look += "open('/proc/self/maps').read()))))"
    without = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True
    )
    assert found["libraries"] == without.stdout.split()
    assert not found["others"]
    assert found["changed"]["WRITE"] >= 2
    assert found["changed"]["SYNC"] >= 1
    print(f"SQLite {found['sqlite']} of {found['libraries'] or found['module']}")


def test_power_cuts_lose_nothing() -> None:
    """Whatever was accepted before a cut is there after it, once, at HQ and on the devices."""
    row = power(seed_of_this_run(), 0.006)
    assert row.failures == []
    assert row.times >= 30
    assert row.accepted >= 10


@pytest.mark.parametrize("sabotage", ["normal", "off", "lie"])
def test_a_commit_that_is_not_on_the_disk_is_noticed(sabotage: str) -> None:
    """With less than full synchronization, or a disk that lies about it, things are lost."""
    row = on_the_shim("power", 1, 0.1, sabotage)
    assert row.failures, f"{row.times} cuts noticed nothing"


def test_failing_disks_lose_nothing() -> None:
    """What was accepted is there once, however reads, writes and syncs failed, for good even."""
    row = errors(seed_of_this_run(), 0.006)
    assert row.failures == []
    assert row.times >= 30
    assert row.accepted >= 7


def test_errors_that_nobody_is_told_of_are_noticed() -> None:
    """A disk that says it has done what it has not done spoils something."""
    row = on_the_shim("errors", 1, 0.1, "unnoticed")
    assert row.failures, f"{row.times} failures noticed nothing"
