"""`backup`: copy the ledger while it is in use."""

from pathlib import Path

import click

from buskit.cli import home_option
from buskit.terminal import narrate
from hqconsole.commands.common import write_audit
from hqconsole.errors import HqError
from hqconsole.ledger.opening import FILE_NAME, open_ledger
from hqconsole.ledger.soundness import require_sound


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@home_option("hq")
def backup(file: Path, home: Path) -> None:
    """Copy the ledger into FILE, as it is now, while the hub and commands go on.

    FILE appears complete or not at all; an older one is replaced. hq restore FILE puts it back.
    A damaged ledger is not copied.
    """
    if file.absolute().resolve() == (home / FILE_NAME).absolute().resolve():
        raise click.UsageError("that is the ledger itself; name another file")
    if not file.absolute().parent.is_dir():
        raise HqError(f"there is no folder {file.absolute().parent}", hint="make it first")
    with open_ledger(home) as ledger:
        require_sound(ledger, thoroughly=True)  # an older copy that is whole is worth more
        ledger.backup(file)
        # Behind it, so that it tells of a copy that is there; the copy itself does not know of it.
        with ledger.write() as connection:
            write_audit(connection, "backup", file=str(file.absolute()))
    narrate(f"{file} holds the ledger, {file.stat().st_size:,} bytes")
