"""`evidence`: a directive with all signed answers, for a third party; and checking such a file."""

import sqlite3
import sys
import time
from pathlib import Path

import click

from buskit.cli import home_option
from buskit.files import write_atomically
from buskit.terminal import narrate
from hqconsole.commands.archive_option import archive_option, find_here, reading
from hqconsole.commands.common import operator
from hqconsole.errors import HqError
from hqconsole.home import read_hq_settings
from hqconsole.ledger import evidence_views


@click.command()
@click.argument("directive", metavar="[ID]", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write it; - is standard output.  [default: evidence-ID.json]",
)
@click.option("--check", "checked", metavar="FILE", help="Check such a file; - is standard input.")
@click.option(
    "--recovery-key",
    metavar="TEXT",
    help="With --check: HQ's recovery key or its fingerprint, from hq key list.",
)
@archive_option
@home_option("hq")
def evidence(
    *,
    directive: str | None,
    output: str | None,
    checked: str | None,
    recovery_key: str | None,
    archive_file: Path | None,
    home: Path,
) -> int:
    """Write one file that proves a directive, whom it was for, and who answered what.

    It has the directive with HQ's seal, HQ's chain of keys, and for each receipt and reply the
    message that the device signed, with HQ's word whose key that is. Other entries in the same
    messages come along, because the signature is over all of a message.

    Whoever is to judge needs evidence_check.py of this program and nothing else of it.

    \b
    Examples:
      hq evidence 6513270e -o recall.json
      hq evidence 6513270e --archive archive/archive-20260930-020000-1d0f7f9c.db
      hq evidence --check recall.json
      python evidence_check.py recall.json --recovery-key "3f2a 91c4 ..."
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    if (directive is None) == (checked is None):
        raise click.UsageError("give the ID of a directive, or --check FILE")
    if checked is not None:
        from hqconsole import evidence_check  # noqa: PLC0415 - cryptography

        words = [checked] if recovery_key is None else [checked, "--recovery-key", recovery_key]
        return evidence_check.main(words)
    if recovery_key is not None:
        raise click.UsageError("--recovery-key goes with --check")
    assert directive is not None  # one of the two is there
    return _export(directive, output, archive_file, home)


def _require_own(archive: sqlite3.Connection, recovery: str) -> None:
    """Refuse what keys have sealed that head office has lost: no chain of its own proves them.

    Raises:
        HqError: They have.
    """
    from hqconsole.ledger.archiving import head_office_of  # noqa: PLC0415 - few read an archive

    if head_office_of(archive).recovery != recovery:
        raise HqError(
            "that archive was sealed under another recovery key than this head office has now",
            hint="put the folder keys/ of that time into a home of its own, and ask there",
        )


def _export(directive: str, output: str | None, archive_file: Path | None, home: Path) -> int:
    from hqconsole.evidence import compose, written  # noqa: PLC0415 - cryptography
    from hqconsole.keyring import Keyring  # noqa: PLC0415

    settings = read_hq_settings(home)
    keyring = Keyring.load(home)
    with reading(home, archive_file) as connection:
        no = find_here(connection, directive, f"hq evidence {directive}")
        found = evidence_views.gather(connection, no)
        if archive_file is not None:
            _require_own(connection, keyring.recovery)
    content = written(
        compose(found, keyring, name=settings.name, made_at=time.time(), made_by=operator())
    )
    if output == "-":
        sys.stdout.buffer.write(content)
        return 0
    file = Path(output or f"evidence-{found.id[:8]}.json")
    write_atomically(file, content)
    unsigned = sum(answer.message_no is None for answer in found.answers)
    narrate(
        f"{file}: {len(found.answers):,} answers from {len(found.device_keys):,} devices"
        + (f", {unsigned:,} of them unsigned, from before" if unsigned else "")
    )
    narrate(f"check it: hq evidence --check {file}")
    return 0
