"""Whether the ledger's file is still what was written into it; signatures are `verification`'s.

What is sent is looked at each time, row by row (`channels`, `deliveries`). This looks at the rest,
before a hub begins and before a copy takes the place of a better one.
"""

from buskit.database import Database
from hqconsole.ledger import deliveries
from hqconsole.ledger.opening import damaged

_AT_EACH_START_BYTES = 1 << 30
"""A larger file is looked at when somebody asks: 8 ms for each MB are too much for each start."""


def require_sound(ledger: Database, *, thoroughly: bool = False) -> None:
    """Read the file and compare it with itself.

    Args:
        ledger: Open.
        thoroughly: Whatever its size, and the sums of the logs as well, 8 us for each row.

    Raises:
        DatabaseDamaged: Something does not fit; with the command that mends it.
    """
    large = ledger.path is not None and ledger.path.stat().st_size > _AT_EACH_START_BYTES
    if large and not thoroughly:
        return
    ledger.check(but_sums_of=() if thoroughly else ("doc", "channel_log"))
    wrong = deliveries.wrong_rows(ledger.connection)
    if wrong:
        raise damaged(f"{wrong} rows of its table delivery are not as they were written")
