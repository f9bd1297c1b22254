"""Stores behind a link of 64 kbit/s, with the waits of the product and nothing quickened.

One has figures to send that take minutes, and alerts in between; another one is set up anew and has
much open work to fetch. Both go on until all is there.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

from buswire.messages import BATCH_BYTES
from buswire.states import Needs
from hqconsole.audience import Selector, select
from hqconsole.home import new_id
from hqconsole.ledger import directives, organisation
from hqconsole.ledger.opening import open_ledger
from tests.faults.network import BITS_64K
from tests.faults.rows import Row
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.net.proxy import Lane, Proxy
from tests.net.reach import ReachedChain

_ROWS = 40_000
"""Of figures: about 700 KB, a minute and a half."""
_BODY_BYTES = 3_000
_WORK = 60
"""Open directives: about 200 KB, of which 64 kbit/s take half a minute."""
_ALERTS = 4
ALERT_MOST_SECONDS = 2 * BATCH_BYTES / BITS_64K + 8.0
"""Two messages of figures may be on their way already, each of 96 KiB, and what frames add."""
WORK_MOST_SECONDS = 240.0


def slow(seed: int, share: float) -> Row:
    """Urgent things overtake figures, and what is long arrives all the same; nothing is drawn."""
    del seed
    row = Row("slow link")
    rate = BITS_64K / min(1.0, max(share, 0.02))
    lane = Lane(bytes_per_second=rate)
    with (
        tempfile.TemporaryDirectory() as folder,
        ReachedChain(
            Path(folder), ("S001", "S002"), quick=False, new_proxy=partial(Proxy, narrow=True)
        ) as chain,
    ):
        teller, hearer = chain.till("S001"), chain.till("S002")
        hearer.stop()
        work = _issue(chain, "S002")
        hearer.wipe()
        hearer.join(chain.bundle(hearer.name))
        chain.proxies[hearer.name].close()
        chain.redirect(hearer.name, hearer.home / "agent.toml")
        for till in (teller, hearer):
            chain.proxies[till.name].change(up=lane, down=lane)
        report = chain.report(teller, _ROWS)
        hearer.start()
        began_at = time.monotonic()
        overtook = 0
        try:
            for _ in range(_ALERTS):
                # Said while figures are on their way, at any moment of a message's life.
                time.sleep(5.0 * BITS_64K / rate)
                said_at = time.monotonic()
                number = chain.alert(teller)
                chain.wait_arrived("S001", number, seconds=4 * ALERT_MOST_SECONDS)
                row.recovered(time.monotonic() - said_at)
                overtook += not _complete(chain, report)
                row.times += 1
            wait_until(
                lambda: len(hearer.inbox()) >= work,
                seconds=WORK_MOST_SECONDS,
                what="the open work of a device set up anew",
                poll_seconds=0.2,
            )
            row.times += work
            work_seconds = time.monotonic() - began_at
            chain.wait_settled(seconds=4 * WORK_MOST_SECONDS)
        except AssertionError as error:
            row.wrong.append(str(error))
            return row
        worst = row.recovery_seconds or 0.0
        if worst > ALERT_MOST_SECONDS * TIME_SCALE:
            row.wrong.append(f"an alert took {worst:.1f} s past figures")
        if not overtook:
            row.wrong.append("no alert came before the figures that were there before it")
        account = chain.account()
        row.lost, row.twice = account.lost, account.twice
        row.accepted = chain.journal.accepted
    row.note = (
        f"at {rate * 8 / 1000:.0f} kbit/s an alert arrives within {worst:.1f} s past 700 KB of"
        f" figures ({overtook} of {_ALERTS} overtook them), {work} pieces of open work (200 KB)"
        f" within {work_seconds:.0f} s"
    )
    return row


def _complete(chain: ReachedChain, report: str) -> bool:
    return bool(
        chain.rows("SELECT 1 FROM report WHERE key = ? AND complete_at IS NOT NULL", report)
    )


def _issue(chain: ReachedChain, store: str) -> int:
    """Issue much work to one store; how much."""
    with open_ledger(chain.home) as ledger, ledger.write() as connection:
        there = organisation.organisation(connection)
        for number in range(_WORK):
            issued = directives.issue(
                connection,
                directives.Draft(title=f"long {number}", body="b" * _BODY_BYTES, needs=Needs.DONE),
                select(Selector(stores=(store,)), there),
                there,
                at=time.time(),
                new_id=new_id,
            )
            chain.note_directive(issued.id, (store,), "any")
    return _WORK
