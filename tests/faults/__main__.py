"""`python -m tests.faults [NAME...]`: run the long suites, and print one table.

Each runs in a process of its own, two at a time where they bear it. The seed is printed;
STOREBUS_FAULTS_SEED plays a run again. Exit code 1 if anything was wrong.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from tests.faults.rows import Row
from tests.faults.seeds import VARIABLE, seed_of_this_run
from tests.faults.suites import SUITES

_SHOWN = 10
_ROOT = Path(__file__).parents[2]


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SUITES))
    parser.add_argument("--share", type=float, default=1.0, help="so much of it only, such as 0.1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at the same time")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if unknown := sorted(set(options.names) - set(SUITES)):
        parser.error(f"there is no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    if options.row:
        logging.disable(logging.CRITICAL)  # what is refused is refused by the thousand
        row = SUITES[options.names[0]].run(int(os.environ[VARIABLE]), options.share)
        print(json.dumps(asdict(row)))
        return 0
    names = options.names or [name for name, suite in SUITES.items() if not suite.demanded]
    seed = seed_of_this_run()
    rows: dict[str, Row] = {}
    together = [name for name in names if not SUITES[name].alone]
    for jobs, part in (
        (options.jobs, together),
        (1, [name for name in names if SUITES[name].alone]),
    ):
        for name, row in _run(part, jobs, seed, options.share):
            rows[name] = row
            print(
                f"{name}: {row.times:,} times in {row.seconds:.0f} s", file=sys.stderr, flush=True
            )
            for failure in row.failures[:_SHOWN]:
                print(f"  {failure}", file=sys.stderr, flush=True)
    _print_table([rows[name] for name in names], seed)
    return 1 if any(row.failures for row in rows.values()) else 0


def _run(names: Sequence[str], jobs: int, seed: int, share: float) -> Iterable[tuple[str, Row]]:
    with ThreadPoolExecutor(jobs) as pool:
        runs = {pool.submit(_run_apart, name, seed, share): name for name in names}
        for run in as_completed(runs):
            yield runs[run], run.result()


def _run_apart(name: str, seed: int, share: float) -> Row:
    """Run one suite in a process of its own; one that dies has failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", name, "--row", "--share", str(share)],
        cwd=_ROOT,
        env=os.environ | {VARIABLE: str(seed)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return Row(name, wrong=[f"ended with {done.returncode}: {done.stderr[-4000:]}"])
    return Row(**json.loads(lines[-1]))


def _print_table(rows: Sequence[Row], seed: int) -> None:
    lines: list[Sequence[str]] = [
        ("what", "times", "accepted", "lost", "twice", "wrong", "recovery", "time", "MiB", "note")
    ]
    for row in rows:
        recovery = "" if row.recovery_seconds is None else f"{row.recovery_seconds:.1f} s"
        memory = ""
        if row.memory:
            memory = f"{row.memory[0]:.0f} > {max(row.memory):.0f} > {row.memory[-1]:.0f}"
        counts = (row.times, row.accepted, len(row.lost), len(row.twice), len(row.wrong))
        figures = (*(f"{count:,}" for count in counts), recovery, f"{row.seconds:.0f} s", memory)
        lines.append((row.what, *figures, row.note))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        shown = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(shown).rstrip())
    print(f"seed {seed}; recovery: the worst; MiB: first sample > highest > last")


if __name__ == "__main__":
    sys.exit(main())
