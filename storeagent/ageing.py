"""What a device lets go when it is old: closed work, withdrawals, and entries that HQ has.

Owns what a new day does, by HQ's clock; how old is `limits`, and the rows are `inbox`, `outbox` and
`memory`. Runs inside a transaction that somebody else opens and commits.
"""

from buswire.messages import LOGS
from storeagent.inbox import Inbox
from storeagent.memory import Memory
from storeagent.outbox import Outbox


def grow_older(inbox: Inbox, outbox: Outbox, memory: Memory, hq_at: float) -> None:
    """Begin another day, and let go what is older than the limits say.

    Args:
        inbox: The deliveries.
        outbox: The uplink logs.
        memory: The days.
        hq_at: Unix time as HQ says it.
    """
    memory.begin_day(hq_at, {log: outbox.head(log) for log in LOGS})
    old = memory.day_before(hq_at, outbox.limits.kept_days)
    if old is not None:
        day, heads = old
        inbox.prune(before_day=day)
        for log in LOGS:
            while outbox.prune(log, before=heads[log]):
                pass
        memory.forget_days(before_day=day)
