"""`restore`: put a copy of the ledger back."""

import sys
import time
from pathlib import Path

import click

from buskit.cli import home_option
from buskit.locks import FileLock
from buskit.terminal import narrate
from hqconsole.commands.common import acting, by_option, said_by, write_audit
from hqconsole.errors import HqError
from hqconsole.home import HUB_LOCK_NAME, new_id, read_hq_settings
from hqconsole.keyring import recovery_of
from hqconsole.ledger.carrying import Carried
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
    acting(home, "upkeep")
    by = said_by(by, home)
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
        kept, carried = restore_ledger(
            home,
            file,
            at=time.time(),
            by=by,
            new_id=new_id,
            recovery_key=recovery_of(home),
            record=lambda connection: write_audit(
                connection, "restore", file=str(file.absolute()), by=by
            ),
        )
    finally:
        lock.close()
    narrate(f"the ledger is as it was in {file}")
    if kept is not None:
        narrate(f"the one that was there is kept as {kept}")
    narrate(_about_identities(carried))
    narrate(
        "start the hub now: what the stores know and this ledger has forgotten comes back from\n"
        "them, directives and answers alike; hq status says what is still being asked for"
    )


def _about_identities(carried: Carried | None) -> str:
    if carried is None:
        return (
            "! who is let in is as it was in that file too, since no other ledger could be read:\n"
            "  revoke again who was revoked since (hq device revoke), and make new bundles for\n"
            "  devices that joined since (hq device rotate)"
        )
    words = "who is let in and who is shut out stays as it was until now"
    if carried.left_out:
        named = ", ".join(carried.left_out[:5]) + (" ..." if len(carried.left_out) > 5 else "")
        words += (
            f"\n! {len(carried.left_out)} devices are left out, the file does not have their"
            f" stores: {named}\n  import the roster, then: hq device add STORE DEVICE"
        )
    return words
