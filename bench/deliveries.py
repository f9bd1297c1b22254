"""One command that issues 125,000 deliveries: 25,000 stores with five mailboxes each.

The bytes are what the ledger's file grows by, page by page, so everything counts that was written.
"""

import time
from collections.abc import Sequence

from bench.chain import ROLES, head_office, roster
from bench.figures import Aim, Figure, Setting, median
from bench.processes import command
from buskit.database import Database

_STORES = 25_000


def run(setting: Setting) -> Sequence[Figure]:
    """Run `hq publish` for every role, as a process of its own, several times."""
    home = setting.folder / "hq"
    mailboxes = _STORES * (len(ROLES) + 1)
    setting.say(f"a roster of {_STORES:,} stores")
    ledger = head_office(home, roster(_STORES))
    roles = [word for role in ("any", *ROLES) for word in ("--role", role)]
    seconds: list[float] = []
    grown: list[float] = []
    began = time.perf_counter()
    command("hq", "--help")
    empty = time.perf_counter() - began
    try:
        for number in range(setting.pick(5, 1)):
            before = _file_bytes(ledger)
            seconds.append(
                command(
                    "hq", "publish", f"Directive {number}", "--all", *roles, "--home", str(home)
                )
            )
            grown.append((_file_bytes(ledger) - before) / mailboxes)
        (found,) = ledger.connection.execute("SELECT max(mailboxes) FROM directive").fetchone()
    finally:
        ledger.close()
    if found != mailboxes:
        raise RuntimeError(f"the directive went to {found} mailboxes and not to {mailboxes}")
    return [
        Figure(
            "deliveries.time",
            f"hq publish to {mailboxes:,} mailboxes, the whole process",
            median(seconds),
            "s",
            aim=Aim("figure", "at most", 3, "s"),
            detail={"command_alone_seconds": round(empty, 3)},
        ),
        Figure(
            "deliveries.size",
            "growth of the ledger, each delivery",
            median(grown),
            "bytes",
            aim=Aim("figure", "at most", 60, "bytes"),
        ),
    ]


def _file_bytes(ledger: Database) -> int:
    pages = int(ledger.connection.execute("PRAGMA page_count").fetchone()[0])
    return pages * int(ledger.connection.execute("PRAGMA page_size").fetchone()[0])
