"""`demo`: a small chain on this machine, from the first directive to the proof."""

import shutil
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import click

from buskit.terminal import Sheet, narrate


@click.command()
@click.option(
    "--roster",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A store list of yours instead of the sample.",
)
@click.option(
    "--map",
    "mappings",
    multiple=True,
    metavar="OURS=THEIRS ...",
    help="As for hq roster import.",
)
@click.option("--timezone", metavar="ZONE", help="As for hq roster import.")
@click.option("--keep", is_flag=True, help="Leave the folder with ledger, homes and logs.")
@click.argument("more_mappings", nargs=-1, metavar="")
def demo(
    *,
    roster: Path | None,
    mappings: Sequence[str],
    more_mappings: Sequence[str],
    timezone: str | None,
    keep: bool,
) -> int:
    """See all of it at work: directives, receipts, alerts, a dead broker, a store that was away.

    Everything runs on this machine's loopback, in a folder of its own that is removed at the end.
    Exit status 0 means: nothing lost, nothing twice.

    \b
    Examples:
      hq demo
      hq demo --roster stores.csv --map store_id="Store Number" region=Country
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from hqconsole.demo.chain import Chain  # noqa: PLC0415 - only who runs the demo pays for it
    from hqconsole.demo.story import Story, show  # noqa: PLC0415

    folder = Path(tempfile.mkdtemp(prefix="storebus-demo-"))
    words: list[str] = []
    for mapping in (*mappings, *more_mappings):
        words += ["--map", mapping]
    if timezone:
        words += ["--timezone", timezone]
    sample = Path(str(files("hqconsole") / "sample" / "stores.csv"))
    ended_well = False
    try:
        with Chain(folder) as chain:
            proof = Story(chain, roster or sample, words).tell()
            show(proof, Sheet())
        ended_well = not (proof.lost or proof.twice)
        return 0 if ended_well else 1
    finally:
        if keep or not ended_well:
            narrate(f"everything is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
