"""The benchmarks are there and can be named; what they measure is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m bench` as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_benchmark_is_listed() -> None:
    """What the project promises to measure is what `python -m bench` can measure."""
    listed = json.loads(bench("--list", "--json").stdout)
    assert {one["name"] for one in listed} == {
        "outbox",
        "alert-command",
        "console",
        "broker",
        "directive",
        "idle-agent",
        "deliveries",
        "hub",
        "latency",
        "security",
        "sums",
    }
    assert all(one["what"] for one in listed)


def test_every_benchmark_can_be_loaded() -> None:
    """No name of the list stands for a module or function that is not there."""
    from bench.catalogue import BENCHMARKS

    assert all(callable(one.load()) for one in BENCHMARKS)


def test_an_unknown_name_is_a_usage_error() -> None:
    """A slip in a name measures nothing and says which names there are."""
    done = bench("outbocks")
    assert done.returncode == 2
    assert "outbocks" in done.stderr
    assert "outbox" in done.stderr
    assert not done.stdout


def test_one_benchmark_runs_to_its_table(tmp_path: Path) -> None:
    """A quick run gives figures with their ratio and aim, as JSON and without a crash."""
    done = bench("outbox", "--quick", "--json", "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (figure,) = json.loads(done.stdout)
    assert figure["name"] == "outbox"
    assert figure["figure"] > 0
    assert figure["ratio"] > 0
    assert figure["met"] in {True, False}
    assert list(tmp_path.iterdir()) == []
