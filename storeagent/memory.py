"""What a device remembers besides its work and its words: the protocol's place, and days.

Owns the rows of `meta`, `cursor` and `day`. Must not know what the protocol does with them.

Days are counted by HQ's clock, which comes with every welcome: a till that woke up in 1970, or in
2050, must not throw away what HQ may ask for.

Every method that changes something must run inside `Database.write()`.
"""

from collections.abc import Mapping

import msgspec

from buskit.database import Database
from buskit.row_sums import row_sum
from buswire.cursors import START, Cursor
from buswire.messages import LOGS, Log, StoreFacts
from buswire.topics import Channel
from buswire.trust import Trusted
from storeagent.database import require_sum

DAY_SECONDS = 86_400.0
ASK_ANEW = "ask_anew"
"""Whose value is not 0 when HQ is to be asked for all open work."""


class Lost(msgspec.Struct, frozen=True):
    """HQ's word that entries of this device may have died with an earlier disk."""

    log: Log
    entries: int
    heard_at: float


class Memory:
    """The small things that one open database remembers."""

    def __init__(self, database: Database) -> None:
        """Work on this database, which the caller opens and closes."""
        self._connection = database.connection

    # --- numbers and texts -----------------------------------------------------------------------

    def text(self, key: str, default: str = "") -> str:
        """The text kept under this key."""
        row = self._get(key)
        return default if row is None else str(row)

    def number(self, key: str) -> int:
        """The number kept under this key, 0 when there is none."""
        row = self._get(key)
        return 0 if row is None else int(str(row))

    def keep(self, key: str, value: str | float) -> None:
        """Keep a value under this key."""
        self._connection.execute(
            "INSERT INTO meta (key, value, sum) VALUES (?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value, sum = excluded.sum",
            (key, value, row_sum(key, value)),
        )

    def count(self, key: str) -> int:
        """Count one more under this key, and return the new count."""
        number = self.number(key) + 1
        self.keep(key, number)
        return number

    # --- the protocol's place --------------------------------------------------------------------

    def set_version(self) -> Cursor:
        """The version of the channel set that the cursors belong to."""
        kept = self.text("set_version")
        return msgspec.json.decode(kept, type=Cursor) if kept else START

    def cursors(self) -> dict[Channel, Cursor]:
        """How far each channel was taken."""
        found = {}
        for channel, seq, id_, total in self._connection.execute(
            "SELECT channel, seq, id, sum FROM cursor ORDER BY channel"
        ):
            require_sum("cursor", total, channel, seq, id_)
            found[Channel.parse(channel)] = Cursor(seq, id_)
        return found

    def keep_cursor(self, channel: Channel, cursor: Cursor) -> None:
        """Save how far one channel was taken."""
        name = str(channel)
        self._connection.execute(
            "UPDATE cursor SET seq = ?, id = ?, sum = ? WHERE channel = ?",
            (cursor.seq, cursor.id, row_sum(name, cursor.seq, cursor.id), name),
        )

    def keep_set(self, set_version: Cursor, cursors: Mapping[Channel, Cursor]) -> None:
        """Replace the channel set: its version, the channels, and where each stands."""
        self.keep("set_version", msgspec.json.encode(set_version).decode())
        self._connection.execute("DELETE FROM cursor")
        rows = [(str(channel), cursor.seq, cursor.id) for channel, cursor in cursors.items()]
        self._connection.executemany(
            "INSERT INTO cursor (channel, seq, id, sum) VALUES (?, ?, ?, ?)",
            [(*row, row_sum(*row)) for row in rows],
        )

    def doubt_set(self) -> None:
        """Save that the set is not to be trusted: HQ answers such a version with a snapshot."""
        self.keep("set_version", msgspec.json.encode(START).decode())

    def facts(self) -> StoreFacts:
        """What HQ says about this store."""
        kept = self.text("facts")
        return msgspec.json.decode(kept, type=StoreFacts) if kept else StoreFacts()

    def keep_facts(self, facts: StoreFacts) -> None:
        """Save what HQ says about this store."""
        self.keep("facts", msgspec.json.encode(facts).decode())

    def lost(self) -> list[Lost]:
        """What HQ said may be lost, for each log the latest word."""
        found = (self.text(f"lost {log}") for log in LOGS)
        return [msgspec.json.decode(kept, type=Lost) for kept in found if kept]

    def keep_lost(self, lost: Lost) -> None:
        """Save HQ's word about lost entries."""
        self.keep(f"lost {lost.log}", msgspec.json.encode(lost).decode())

    # --- HQ ---------------------------------------------------------------------------------------

    def welcome_at(self) -> float | None:
        """About when HQ last answered, by this device's clock; None if it never did.

        Only about, because a device that has nothing else to save does not write for it.
        """
        row = self._get("welcome_at")
        return None if row is None else float(str(row))

    def trust(self) -> Trusted | None:
        """HQ's keys as this device has learned them since it joined; None where it has not."""
        kept = self.text("trust")
        return msgspec.json.decode(kept, type=Trusted) if kept else None

    def keep_trust(self, trusted: Trusted | None) -> None:
        """Save HQ's keys, or that only those of the joining count."""
        self.keep("trust", "" if trusted is None else msgspec.json.encode(trusted).decode())

    # --- days ------------------------------------------------------------------------------------

    @property
    def today(self) -> int:
        """The number of the latest day, 0 before HQ was ever heard."""
        row = self._connection.execute("SELECT max(day) FROM day").fetchone()
        return int(row[0] or 0)

    def is_new_day(self, hq_at: float) -> bool:
        """Whether, by HQ's clock, another day should begin."""
        row = self._connection.execute(
            "SELECT began_at FROM day ORDER BY day DESC LIMIT 1"
        ).fetchone()
        return row is None or not row[0] - 60.0 <= hq_at < row[0] + DAY_SECONDS

    def begin_day(self, hq_at: float, heads: Mapping[Log, int]) -> None:
        """Begin another day; where HQ's clock went back, no earlier day stays in the future."""
        self._connection.execute("UPDATE day SET began_at = ?1 WHERE began_at > ?1", (hq_at,))
        self._connection.execute(
            "INSERT INTO day (began_at, act, bulk) VALUES (?, ?, ?)",
            (hq_at, heads["act"], heads["bulk"]),
        )

    def day_before(self, hq_at: float, days: int) -> tuple[int, dict[Log, int]] | None:
        """The latest day that began at least so many days ago, and the logs' heads then.

        Days on which HQ was not heard do not count: by its clock alone, a year set in error would
        make everything old at once.
        """
        row = self._connection.execute(
            "SELECT day, act, bulk FROM day WHERE began_at <= ?"
            " AND day <= (SELECT max(day) FROM day) - ? ORDER BY day DESC LIMIT 1",
            (hq_at - days * DAY_SECONDS, days),
        ).fetchone()
        return None if row is None else (row[0], {"act": row[1], "bulk": row[2]})

    def forget_days(self, *, before_day: int) -> None:
        """Forget days that nothing refers to any more."""
        self._connection.execute("DELETE FROM day WHERE day < ?", (before_day,))

    def _get(self, key: str) -> object:
        row = self._connection.execute(
            "SELECT value, sum FROM meta WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        require_sum("meta", row[1], key, row[0])
        return row[0]
