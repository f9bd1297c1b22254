"""`verify`: walk the whole ledger, and name the first thing in it that does not fit."""

import time
from pathlib import Path

import click

from buskit.cli import home_option, json_option
from buskit.terminal import Column, Sheet, narrate
from hqconsole.commands.common import progress
from hqconsole.home import read_hq_settings
from hqconsole.ledger import verification
from hqconsole.ledger.opening import open_ledger
from hqconsole.ledger.soundness import require_sound

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
)


@click.command()
@home_option("hq")
@json_option
def verify(home: Path, as_json: bool) -> int:
    """Check every signature and seal, that nothing was taken out, put in or altered.

    Walks keys, messages, entries, logs, directives, audiences, states and the audit, and names the
    first thing that does not fit. Exit status 1 if there is one. The hub may go on meanwhile.

    Whoever can write the ledger could write the end of the audit anew; keep the hash that this
    prints somewhere else, and look it up in hq audit --json later.

    \b
    Examples:
      hq verify
      hq verify --json | jq .problem
    """  # noqa: D301 - click reads \b as: leave the lines as they are
    from hqconsole.keyring import Keyring  # noqa: PLC0415 - cryptography, which help does not need

    read_hq_settings(home)  # says how to make a home where there is none
    keyring = Keyring.load(home)
    began = time.monotonic()
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
