"""The long suites run, and say when something is wrong; how long they run is not tested here."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import suites
from tests.faults.__main__ import main
from tests.faults.rows import Row, Suite

ROOT = Path(__file__).parents[2]


def test_the_suites_are_listed_and_others_refused(capsys: pytest.CaptureFixture) -> None:
    """Asking for one that is not there names those that are."""
    with pytest.raises(SystemExit) as ended:
        main(["earthquake"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    for name in suites.SUITES:
        assert name in said


def test_every_suite_is_there() -> None:
    """What is listed can be imported, in a process of its own: some need one."""
    looks = "; ".join(
        f"import tests.faults.{module} as m; assert callable(m.{name})"
        for module, _, name in (suite.where.partition(":") for suite in suites.SUITES.values())
    )
    done = subprocess.run([sys.executable, "-c", looks], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_growing_memory_is_wrong() -> None:
    """A process that keeps more and more is noticed, one that settles is not."""
    grows, settles = Row("a", memory=[30.0, 60.0, 90.0]), Row("b", memory=[30.0, 42.0, 38.0])
    for row in (grows, settles):
        row.look_at_memory()
    assert grows.failures
    assert not settles.failures


def fails(seed: int, share: float) -> Row:
    """A suite that finds something."""
    return Row("broken", 7, 7, lost=["a leak"], note=f"{seed} {share}")


def test_too_few_is_wrong() -> None:
    """A suite that did less than it must has failed."""
    assert "wrong: 7 times; it must be 10" in Suite("test_faults:fails", 10).run(1, 1.0).failures
    assert Suite("test_faults:fails", 10).run(1, 0.5).failures == ["lost: a leak"]


def test_what_is_wrong_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A suite that finds something, or dies, makes the whole fail, and the table says which."""
    monkeypatch.setattr(
        "tests.faults.__main__._run_apart", lambda name, seed, share: fails(seed, share)
    )
    assert main(["isolation"]) == 1
    shown = capsys.readouterr()
    assert "lost: a leak" in shown.err
    assert "broken" in shown.out
    assert "seed" in shown.out


def test_one_that_dies_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last words are shown."""
    from tests.faults.__main__ import _run_apart

    row = _run_apart("earthquake", 1, 1.0)
    assert "there is no suite 'earthquake'" in row.failures[0]
