"""`hq backup` and `hq restore`: a copy taken in use, and put back without ever losing a ledger."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from buskit.crash_points import VARIABLE
from buskit.locks import FileLock
from buswire.messages import Alert
from hqconsole.home import HUB_LOCK_NAME
from hqconsole.ledger.opening import open_ledger
from tests.hq_console.conftest import Run
from tests.hq_console.field import Field


def titles(run: Run) -> list[str]:
    """The titles of all directives."""
    return [one["title"] for one in json.loads(run("status", "--json")[1])["directives"]]


def kept(home: Path) -> list[Path]:
    """The ledgers that restores kept."""
    return sorted(home.glob("ledger.db.before-restore-*"))


def snapshot(home: Path) -> dict[str, bytes]:
    """The files of a home that hold data."""
    return {
        path.name: path.read_bytes()
        for path in home.iterdir()
        if path.is_file() and not path.name.endswith((".lock", "-shm"))
    }


@pytest.fixture
def copy(run: Run, home: Path, tmp_path: Path) -> Path:
    """A backup with one directive; the ledger has gone on since."""
    run("publish", "before", "--all")
    assert run("backup", str(tmp_path / "copy.db"))[0] == 0
    run("publish", "after", "--all")
    return tmp_path / "copy.db"


def test_what_was_backed_up_comes_back_and_the_present_is_kept(
    run: Run, home: Path, copy: Path
) -> None:
    """The older state is in force; the newer one is a whole ledger beside it."""
    assert titles(run) == ["before", "after"]
    bytes_before = copy.read_bytes()
    code, _, errors = run("restore", str(copy), "--yes")
    assert code == 0, errors
    assert titles(run) == ["before"]
    assert copy.read_bytes() == bytes_before
    assert not copy.with_name("copy.db-wal").exists()
    (beside,) = kept(home)
    assert str(beside) in errors
    assert "start the hub now" in errors
    assert run("restore", str(beside), "--yes")[0] == 0
    assert titles(run) == ["before", "after"]
    assert len(kept(home)) == 2
    assert stat.S_IMODE((home / "ledger.db").stat().st_mode) == 0o600
    assert not (home / "restoring").exists()


def test_a_restore_is_an_incident_and_status_knows_of_it(run: Run, home: Path, copy: Path) -> None:
    """Who did it, when, and from which file."""
    run("restore", str(copy), "--yes")
    (one,) = json.loads(run("incidents", "--json")[1])
    assert one["kind"] == "restored"
    assert one["detail"] == {"copy": str(copy), "by": "Ana"}
    asking = json.loads(run("status", "--json")[1])["asking"]
    assert asking["restored_at"] == one["at"]


def test_the_ledger_goes_on_after_a_restore(run: Run, home: Path, copy: Path) -> None:
    """Nothing of the old write-ahead log gets into the new file."""
    reader = sqlite3.connect(home / "ledger.db")  # keeps the old companions alive
    reader.execute("SELECT count(*) FROM directive").fetchone()
    assert run("restore", str(copy), "--yes")[0] == 0
    run("publish", "later", "--all")
    reader.close()
    assert titles(run) == ["before", "later"]
    with open_ledger(home) as ledger:
        ledger.check()


def test_it_is_refused_while_a_hub_runs(run: Run, home: Path, copy: Path) -> None:
    """Nothing is touched."""
    lock = FileLock(home / HUB_LOCK_NAME)
    with lock:
        code, _, errors = run("restore", str(copy), "--yes")
    lock.close()
    assert code == 1
    assert f"process {os.getpid()}" in errors
    assert titles(run) == ["before", "after"]


def test_it_asks_before_it_replaces(run: Run, home: Path, copy: Path) -> None:
    """Where nobody can be asked it wants --yes."""
    assert run("restore", str(copy))[0] == 2
    assert titles(run) == ["before", "after"]


def make_text(path: Path) -> None:
    """Not a database."""
    path.write_text("store_id,name\n" * 1000)


def make_empty(path: Path) -> None:
    """Nothing at all."""
    path.write_bytes(b"")


def make_foreign(path: Path) -> None:
    """A database of another program."""
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (a)")
    other.close()


def make_newer(path: Path) -> None:
    """A ledger of a later version."""
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()


def make_torn(path: Path) -> None:
    """A ledger of which the tail is missing."""
    path.write_bytes(path.read_bytes()[:-8192])


def make_damaged(path: Path) -> None:
    """A ledger with garbage in the middle."""
    data = bytearray(path.read_bytes())
    data[8192 : 8192 + 40_000] = b"\xa5" * 40_000
    path.write_bytes(data)


def make_missing(path: Path) -> None:
    """No file."""
    path.unlink()


@pytest.mark.parametrize(
    "spoil",
    [make_text, make_empty, make_foreign, make_newer, make_torn, make_damaged, make_missing],
)
def test_a_copy_that_is_no_good_is_refused_before_anything_is_touched(
    run: Run, home: Path, copy: Path, spoil: object
) -> None:
    """The home is byte for byte as it was."""
    spoil(copy)  # type: ignore[operator]
    before = snapshot(home)
    code, out, errors = run("restore", str(copy), "--yes")
    assert (code, out) == (1, "")
    assert "hint:" in errors
    assert snapshot(home) == before
    assert titles(run) == ["before", "after"]


def test_a_damaged_ledger_can_be_replaced_and_is_kept(run: Run, home: Path, copy: Path) -> None:
    """That is when a backup is needed most."""
    make_text(home / "ledger.db")
    code, _, errors = run("restore", str(copy), "--yes")
    assert code == 0, errors
    assert titles(run) == ["before"]
    assert kept(home)[0].read_text().startswith("store_id,name")


def test_a_lost_ledger_can_be_put_back(run: Run, home: Path, copy: Path) -> None:
    """Nothing is kept, as nothing was there."""
    (home / "ledger.db").unlink()
    assert run("restore", str(copy), "--yes")[0] == 0
    assert titles(run) == ["before"]
    assert kept(home) == []


def test_a_plain_copy_of_the_files_with_its_log_is_as_good(
    run: Run, field: Field, tmp_path: Path
) -> None:
    """What stands only in the write-ahead log of the copy comes along."""
    with open_ledger(field.home) as held:  # keeps the log from being emptied
        held.connection.execute("SELECT 1").fetchone()
        field.say("S1", Alert(alert="incident", note="in the log"))
        for suffix in ("", "-wal"):
            shutil.copy(field.home / f"ledger.db{suffix}", tmp_path / f"files.db{suffix}")
    assert (tmp_path / "files.db-wal").stat().st_size > 0
    code, _, errors = run("restore", str(tmp_path / "files.db"), "--yes")
    assert code == 0, errors
    assert [row["note"] for row in json.loads(run("alerts", "--json")[1])] == ["in the log"]


def test_backup_refuses_the_ledger_itself_and_folders_that_are_not(
    run: Run, home: Path, tmp_path: Path
) -> None:
    """A copy over the ledger would be its end."""
    assert run("backup", str(home / "ledger.db"))[0] == 2
    assert run("backup", str(tmp_path / "none" / "copy.db"))[0] == 1
    (tmp_path / "link.db").symlink_to(home / "ledger.db")
    assert run("backup", str(tmp_path / "link.db"))[0] == 2


def test_a_backup_replaces_an_older_one(run: Run, home: Path, copy: Path) -> None:
    """The last one counts."""
    assert run("backup", str(copy))[0] == 0
    run("restore", str(copy), "--yes")
    assert titles(run) == ["before", "after"]


def test_what_killed_backups_left_is_removed(
    run: Run, home: Path, copy: Path, tmp_path: Path
) -> None:
    """Half copies take as much room as whole ones: the next one to that folder clears them away."""

    def left() -> list[str]:
        return sorted(path.name for path in tmp_path.glob(".*unfinished*"))

    switch = tmp_path / "switch"

    def die_in_backup(target: Path) -> None:
        words = ["backup", str(target), "--home", str(home)]
        code = f"from hqconsole.commands.main import main; main.run({words!r}, 'hq')"
        for chosen in (0, 1):
            at = f"before file {target.name}"
            passed = switch.read_text().splitlines() if chosen else []
            switch.write_text(f"{passed.index(at) if chosen else 0}\n")
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | {VARIABLE: str(switch)},
                capture_output=True,
                check=False,
            )
            assert done.returncode == (-9 if chosen else 0), done.stderr
        switch.unlink()

    die_in_backup(tmp_path / "copy.db")
    (of_copy,) = left()
    die_in_backup(tmp_path / "tuesday.db")
    assert len(left()) == 2
    assert run("backup", str(copy))[0] == 0
    (of_tuesday,) = left()
    assert of_tuesday != of_copy
    os.utime(tmp_path / of_tuesday, (1e9, 1e9))
    assert run("backup", str(tmp_path / "wednesday.db"))[0] == 0
    assert left() == []
    for path in (copy, tmp_path / "tuesday.db", tmp_path / "wednesday.db"):
        assert run("restore", str(path), "--yes")[0] == 0
