"""What of the work here was closed by others since staff were last told of it, in SQL.

Owns the table `told`. News is work that vanished from the list without a word of this device:
withdrawn, replaced or expired at head office, or done on another device of the store. Must not know
in which words it is told.

Invariants:
- A closing is news until `tell` has been said of it; one that opens and closes again is news again.
- What was withdrawn as soon as it had come is no news: nobody can have seen it.
- No clock decides: the table has the closings that were told, not when somebody looked.
"""

from collections.abc import Iterable

from buskit.database import Database
from storeagent.delivery import Item
from storeagent.inbox import Inbox

_SEEN_SECONDS = 1.0
"""What was closed within so long of its coming was in no list."""

_NEWS = """
SELECT number FROM delivery
WHERE open = 0
    AND (closed_by_hq = 1 OR (state IN ('done', 'cannot') AND said != state))
    AND NOT (changed_at >= received_at AND changed_at - received_at < ? AND closed_by_hq = 1)
    AND NOT EXISTS (
        SELECT 1 FROM told
        WHERE told.directive = delivery.directive AND told.role = delivery.role
            AND told.changed_at = delivery.changed_at
    )
ORDER BY changed_at DESC LIMIT ?
"""


class News:
    """The closings of one open database."""

    def __init__(self, database: Database) -> None:
        """Work on this database, which the caller opens and closes."""
        self._database = database
        self._inbox = Inbox(database)

    def items(self, most: int = 1000) -> list[Item]:
        """What is news, the latest first."""
        rows = self._database.connection.execute(_NEWS, (_SEEN_SECONDS, most)).fetchall()
        return [item for (number,) in rows for item in self._inbox.items_with_number(number)]

    def tell(self, items: Iterable[Item]) -> None:
        """Note that staff were told of these; idempotent, must run inside `Database.write()`."""
        connection = self._database.connection
        connection.executemany(
            "INSERT INTO told (directive, role, changed_at) VALUES (?, ?, ?)"
            " ON CONFLICT (directive, role) DO UPDATE SET changed_at = excluded.changed_at",
            [(one.delivery.directive, one.delivery.role, one.delivery.changed_at) for one in items],
        )
        connection.execute(
            "DELETE FROM told WHERE NOT EXISTS (SELECT 1 FROM delivery"
            " WHERE delivery.directive = told.directive AND delivery.role = told.role)"
        )
