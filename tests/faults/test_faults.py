"""The long suites run, and say when something is wrong; how long they run is not tested here."""

import subprocess
import sys

import pytest

from tests.faults import suites
from tests.malformed.target import ROOT


def test_the_suites_are_listed_and_others_refused() -> None:
    """Asking for one that is not there names those that are."""
    words = [sys.executable, "-m", "tests.faults", "earthquake"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for name in suites.SUITES:
        assert name in done.stderr


def test_growing_memory_is_wrong() -> None:
    """A broker that keeps more and more is noticed, one that settles is not."""
    assert suites._grown([30.0, 60.0, 90.0])
    assert not suites._grown([30.0, 42.0, 38.0])


def test_what_is_wrong_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A suite that finds something makes the whole fail, and the table says which."""
    from tests.faults.__main__ import main

    monkeypatch.setattr(
        suites, "SUITES", {"broken": lambda seed, share: suites.Row("broken", 7, ["a leak"])}
    )
    monkeypatch.setattr("tests.faults.__main__.SUITES", suites.SUITES)
    monkeypatch.setattr(sys, "argv", ["faults"])
    assert main() == 1
    shown = capsys.readouterr()
    assert "a leak" in shown.err
    assert "broken" in shown.out
    assert "seed" in shown.out
