"""`restore`: put a copy of the ledger back."""

import sys
import time
from pathlib import Path

import click

from buskit.cli import home_option
from buskit.locks import FileLock
from buskit.terminal import narrate
from hqconsole.commands.common import by_option, write_audit
from hqconsole.errors import HqError
from hqconsole.home import HUB_LOCK_NAME, read_hq_settings
from hqconsole.ledger.opening import FILE_NAME
from hqconsole.ledger.restoring import restore_ledger


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@by_option
@home_option("hq")
def restore(file: Path, yes: bool, by: str, home: Path) -> None:
    """Put FILE, which hq backup wrote, in the place of the ledger. The hub must be stopped.

    The ledger that is there is kept beside. What it knew and FILE does not comes back from the
    stores when the hub runs again: they keep what they sent for 30 days.
    """
    read_hq_settings(home)
    lock = FileLock(home / HUB_LOCK_NAME)
    if not lock.try_acquire():
        pid = lock.holder()
        lock.close()
        raise HqError(
            "the hub is running" + ("" if pid is None else f" (process {pid})"),
            hint="stop it first (hq up or hq hub), then restore",
        )
    try:
        if not yes and (home / FILE_NAME).exists():
            if not sys.stdin.isatty():
                raise click.UsageError(
                    "this replaces the ledger; say --yes where nobody can be asked"
                )
            click.confirm(f"put {file} in the place of the ledger in {home}?", abort=True, err=True)
        kept = restore_ledger(
            home,
            file,
            at=time.time(),
            by=by,
            record=lambda connection: write_audit(
                connection, "restore", file=str(file.absolute()), by=by
            ),
        )
    finally:
        lock.close()
    narrate(f"the ledger is as it was in {file}")
    if kept is not None:
        narrate(f"the one that was there is kept as {kept}")
    narrate(
        "start the hub now: what the stores know and this ledger has forgotten comes back from\n"
        "them, directives and answers alike; hq status says what is still being asked for"
    )
