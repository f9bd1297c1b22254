"""`verify`: walk the whole ledger, and name the first thing in it that does not fit."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, narrate
from hqconsole.commands.archive_option import archive_option
from hqconsole.commands.common import progress
from hqconsole.home import read_hq_settings
from hqconsole.ledger import archive_files, archiving, verification
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.soundness import require_sound
from hqconsole.ledger.verification_context import Report

if TYPE_CHECKING:
    from hqconsole.keyring import Keyring

_COUNTED = (
    ("messages", "messages that devices signed"),
    ("records", "entries in them"),
    ("unsigned", "entries unsigned, from before"),
    ("device_keys", "keys of devices"),
    ("directives", "directives"),
    ("cancels", "withdrawals"),
    ("deliveries", "deliveries"),
    ("hq_keys", "keys of head office"),
    ("audit_rows", "rows of the audit"),
    ("archived", "directives that left for archives"),
)


@click.command()
@archive_option
@home_option("hq")
@json_option
def verify(archive_file: Path | None, home: Path, as_json: bool) -> int:
    """Check every signature and seal, that nothing was taken out, put in or altered.

    Walks keys, messages, entries, logs, directives, audiences, states and the audit, and names the
    first thing that does not fit. Exit status 1 if there is one. The hub may go on meanwhile.

    Whoever can write the ledger could write the end of the audit anew; keep the hash that this
    prints somewhere else, and look it up in hq audit --json later.

    With --archive, the same of an archive: its SHA-256 as it was recorded, and every signature and
    seal in it.

    \b
    Examples:
      hq verify
      hq verify --json | jq .problem
      hq verify --archive archive/archive-20260930-020000-6513270e.db
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from hqconsole.keyring import Keyring  # noqa: PLC0415 - cryptography, which help does not need

    read_hq_settings(home)  # says how to make a home where there is none
    keyring = Keyring.load(home)
    began = time.monotonic()
    if archive_file is not None:
        report = _verify_archive(archive_file, home, keyring)
    else:
        with (
            open_ledger(home) as ledger,
            ledger.read() as connection,
            progress(verification.size(connection), "verifying") as advance,
        ):
            report = verification.verify(
                connection,
                entries=keyring.entries,
                recovery=keyring.recovery,
                stolen=keyring.stolen,
                advance=advance,
            )
            if report.problem is None:
                require_sound(ledger, thoroughly=True)
    took = time.monotonic() - began
    if as_json:
        Sheet().json(report.as_row())
        return 0 if report.problem is None else 1
    if report.problem is not None:
        words = {"what": report.problem.what, "problem": report.problem.meaning}
        Sheet().show_one(words, [Column(key, key) for key in words], as_json=False)
        narrate("everything before it fits; it was not looked at what comes after it")
        return 1
    rows = [{"count": report.counts[name], "what": words} for name, words in _COUNTED]
    columns = [
        Column("count", "count", right=True, text=lambda count: f"{count:,}"),
        Column("what", "of"),
    ]
    Sheet().show(rows, columns, as_json=False, empty="")
    _narrate_pending(report.counts)
    narrate(f"everything fits ({took:.1f} s)")
    if report.audit_head:
        narrate(f"the audit ends with {report.audit_head}")
    return 0


def _verify_archive(path: Path, home: Path, keyring: "Keyring") -> Report:
    """Look at all of an archive: its sum, its form, and what is signed and sealed in it.

    Raises:
        HqError: It is not as it was when it was recorded.
        DatabaseError: It is damaged, or no archive.
    """
    from buswire.signing import PublicKey, fingerprint  # noqa: PLC0415 - as above

    archive_id = archiving.id_of(path)
    with open_ledger(home) as ledger:
        recorded = archiving.recorded_sum(ledger.connection, archive_id, path)
    found = archiving.examine(path, recorded)
    if recorded is None:
        narrate(f"! this ledger knows no archive {archive_id[:8]}: nobody recorded its sum here")
    with archive_files.reading(path) as connection:
        archive_files.require_whole(connection, path)
        chain = archiving.head_office_of(connection)
        if chain.recovery != keyring.recovery:
            whose = fingerprint(PublicKey.parse(chain.recovery))
            narrate(f"! it was sealed under another recovery key than this head office's: {whose}")
        with progress(verification.size(connection), "verifying") as advance:
            report = verification.verify_archive(
                connection,
                entries=keyring.entries if chain.recovery == keyring.recovery else chain.keys,
                recovery=chain.recovery,
                stolen=keyring.stolen | set(chain.stolen),
                advance=advance,
            )
    narrate(f"its SHA-256 is {found.sha256}" + ("" if recorded is None else ", as recorded"))
    return report


def _narrate_pending(counts: dict[str, int]) -> None:
    if counts["unsealed"]:
        narrate(
            f"{counts['unsealed']:,} documents are not sealed yet; the hub does it when it runs"
        )
    if counts["unproved"]:
        narrate(f"{counts['unproved']:,} keys were let in and have head office's word to come")
    if counts["stolen_seals"]:
        narrate(
            f"! {counts['stolen_seals']:,} documents bear only a seal of a key that was declared"
            " stolen; the hub seals them anew when it runs"
        )
    if counts["adopted"]:
        narrate(f"{counts['adopted']:,} directives came back from stores after a restore")
