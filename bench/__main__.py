"""`python -m bench [NAME...]`: measure, and print one table."""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.catalogue import BENCHMARKS, Benchmark
from bench.figures import Figure, Setting, words
from buskit.terminal import Column, Sheet, narrate

_COLUMNS = (
    Column("name", "name"),
    Column("what", "what"),
    Column("shown", "figure", right=True),
    Column(
        "ratio", "ratio", right=True, text=lambda ratio: "" if ratio is None else f"{ratio:.2f}"
    ),
    Column("aim", "aim"),
    Column("met", "met", style=lambda row: {True: "green", False: "red", None: ""}[row.get("met")]),
)
_BUILD = Path(__file__).parents[1] / "build"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks named, or all; 0 whatever the figures are, 1 when one could not run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [one.name for one in BENCHMARKS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--list", action="store_true", help="say what there is, measure nothing")
    parser.add_argument("--quick", action="store_true", help="rough figures in half a minute")
    parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")
    parser.add_argument(
        "--folder",
        type=Path,
        default=_BUILD,
        help="where databases are made; on the disk that is to be measured (default: build)",
    )
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(names)):
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    chosen = [one for one in BENCHMARKS if not options.names or one.name in options.names]
    if options.list:
        listed = [{"name": one.name, "what": one.what} for one in chosen]
        columns = (Column("name", "name"), Column("what", "what"))
        Sheet().show(listed, columns, as_json=options.as_json, empty="")
        return 0
    rows: list[dict[str, Any]] = []
    failed = False
    for one in chosen:
        try:
            figures = _measure(one, options.folder, quick=options.quick)
        except Exception as error:  # the others are worth having all the same
            narrate(f"{one.name}: {type(error).__name__}: {error}")
            failed = True
            continue
        for figure in figures:
            row = figure.row()
            rows.append(row | {"shown": f"{words(figure.value)} {figure.unit}".strip()})
    if options.as_json:
        Sheet().json([{key: row[key] for key in row if key != "shown"} for row in rows])
    else:
        Sheet().show(rows, _COLUMNS, as_json=False, empty="nothing was measured")
    return int(failed)


def _measure(one: Benchmark, folder: Path, *, quick: bool) -> Sequence[Figure]:
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    narrate(f"{one.name}: {one.what}")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as own:
        setting = Setting(Path(own), quick, say=lambda text: narrate(f"  {text}"))
        figures = one.load()(setting)
    narrate(f"  took {time.monotonic() - began:.1f} s")
    return figures


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
