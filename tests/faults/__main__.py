"""`python -m tests.faults [NAME...]`: run the long suites, and print one table.

The seed is printed; STOREBUS_FAULTS_SEED plays a run again. Exit code 1 if anything was wrong.
"""

import argparse
import logging
import sys

from tests.faults.seeds import seed_of_this_run
from tests.faults.suites import SUITES, Row, run

_SHOWN = 10


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SUITES))
    parser.add_argument("--share", type=float, default=1.0, help="so much of it only, such as 0.1")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(SUITES)):
        parser.error(f"there is no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    logging.disable(logging.CRITICAL)  # what is refused is refused by the thousand
    seed = seed_of_this_run()
    rows = []
    for name in options.names or SUITES:
        row = run(name, seed, options.share)
        rows.append(row)
        print(f"{name}: {row.cases} cases in {row.seconds:.0f} s", file=sys.stderr, flush=True)
        for wrong in row.wrong[:_SHOWN]:
            print(f"  {wrong}", file=sys.stderr)
    _print_table(rows, seed)
    return 1 if any(row.wrong for row in rows) else 0


def _print_table(rows: list[Row], seed: int) -> None:
    lines = [("what", "cases", "wrong", "seconds", "memory MiB", "note")]
    for row in rows:
        memory = ""
        if row.memory:
            memory = f"{row.memory[0]:.1f} > {max(row.memory):.1f} > {row.memory[-1]:.1f}"
        figures = (f"{row.cases:,}", str(len(row.wrong)), f"{row.seconds:.0f}")
        lines.append((row.what, *figures, memory, row.note))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        shown = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(shown).rstrip())
    print(f"seed {seed}; memory of the broker: first sample > highest > last")


if __name__ == "__main__":
    sys.exit(main())
