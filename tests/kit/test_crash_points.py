"""The switch that lets a process die at a commit: where exactly it dies, and that it is off."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from buskit.crash_points import VARIABLE
from tests.kit.test_database import open_notebook, texts

ROOT = Path(__file__).parents[2]
STORY = """
import sys
from pathlib import Path
from buskit.files import write_atomically
from tests.kit.test_database import add, open_notebook
with open_notebook(sys.argv[1]) as notebook:
    add(notebook, "one")
    add(notebook, "two")
write_atomically(sys.argv[2], b"whole")
write_atomically(sys.argv[2] + ".shown", b"", durable=False)
"""
POINTS = [
    f"{side} {what}"
    for what in ("migration", "commit", "commit", "close", "file written")
    for side in ("before", "after")
]


def _run(folder: Path, switch: Path | None) -> int:
    named = {} if switch is None else {VARIABLE: str(switch)}
    done = subprocess.run(
        [sys.executable, "-c", STORY, folder / "notebook.db", folder / "written"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != VARIABLE} | named,
        check=False,
    )
    return done.returncode


def test_without_the_switch_nothing_dies_or_is_written(tmp_path: Path) -> None:
    """Neither without the variable nor while its file is not there."""
    assert _run(tmp_path, None) == 0
    assert _run(tmp_path, tmp_path / "switch") == 0
    assert not (tmp_path / "switch").exists()


def test_every_point_of_a_story_is_counted(tmp_path: Path) -> None:
    """Both sides of each commit, of the close and of a file that takes its name; no others."""
    switch = tmp_path / "switch"
    switch.write_text("0\n")
    assert _run(tmp_path, switch) == 0
    assert switch.read_text().splitlines() == ["0", *POINTS]


@pytest.mark.parametrize("number", [1, 3, 4, 5, 6, 9, 10])
def test_the_process_dies_at_the_point_named(number: int, tmp_path: Path) -> None:
    """Before a commit nothing of it is there, after it all of it."""
    switch = tmp_path / "switch"
    switch.write_text(f"{number}\n")
    assert _run(tmp_path, switch) == -signal.SIGKILL
    passed = switch.read_text().splitlines()[1:]
    assert passed == POINTS[:number]
    with open_notebook(tmp_path / "notebook.db") as notebook:
        assert texts(notebook) == ["one", "two"][: passed.count("after commit")]
    assert (tmp_path / "written").exists() == ("after file written" in passed)
