"""What scripts say: alerts and reports, each once under its caller's key, all or nothing.

Owns the ids of such records and that nothing is accepted that cannot be kept. Must not know the
inbox, MQTT, or whether a daemon runs: the daemon sends what it finds in the outbox.

Everything a method has accepted is durable when it returns. A till may raise an alert every second
as a process of its own, so nothing here is imported that an alert does not need.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from buskit.database import Database
from buswire.phrases import phrase
from storeagent.alerts import check_alert, encode_alert
from storeagent.errors import InvalidEntry
from storeagent.limits import Limits
from storeagent.outbox import Outbox

if TYPE_CHECKING:
    from storeagent.reports import Table

_KEY_CHARACTERS = 128
_LINE_CHARACTERS = 500


class Recorded(NamedTuple):
    """An entry of a script's, or the parts of a report."""

    id: str
    """Of the record; of a report, its key."""
    new: bool
    """Whether anything was recorded; if not, it was recorded before under the same key."""
    parts: int = 1
    rows: int = 0


def random_id() -> str:
    """A new 128-bit id in hex."""
    return os.urandom(16).hex()


def derived_id(kind: str, key: str, part: int | None = None) -> str:
    """The id of a record whose caller has a key of its own, the same whenever it is retried."""
    import hashlib  # noqa: PLC0415 - loads OpenSSL, which an alert without a key does not need

    text = "\0".join([kind, key] if part is None else [kind, key, str(part)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Scripts:
    """Says things on behalf of the scripts at one device."""

    def __init__(
        self,
        database: Database,
        *,
        wall_clock: Callable[[], float],
        new_id: Callable[[], str] = random_id,
        limits: Limits | None = None,
    ) -> None:
        """Work on this database, which the caller opens and closes.

        Args:
            database: Open.
            wall_clock: Unix time as this device believes it.
            new_id: A random 128-bit id in hex.
            limits: What may be kept.
        """
        self._database = database
        self._wall_clock = wall_clock
        self._new_id = new_id
        self.outbox = Outbox(database, limits)

    def alert(
        self,
        kind: str,
        fields: Mapping[str, object],
        *,
        key: str | None = None,
        note: str = "",
        by: str = "",
    ) -> Recorded:
        """Raise an alert; with a key, idempotent.

        Args:
            kind: One of `alerts.KINDS`.
            fields: What the kind demands.
            key: The caller's own name for it: said again with the same key, it is not new.
            note: Free text.
            by: Who says it.

        Raises:
            InvalidEntry: It does not fit its kind. Nothing was recorded.
            OutboxFull: Too much waits for HQ. Nothing was recorded.
            DatabaseError: See `Database.write`. Nothing was recorded, except perhaps after
                `DatabaseFailed`.
        """
        checked = check_alert(kind, fields)
        check_line(phrase("the name of who says it"), by)
        data = encode_alert(kind, checked, note=note, by=by)
        if key is None:
            record_id = self._new_id()
        else:
            check_key(key)
            record_id = derived_id(f"alert/{kind}", key)
        with self._database.write():
            self.outbox.refuse_when_disk_low()
            added = self.outbox.add("act", record_id, "alert", data, said_at=self._wall_clock())
        return Recorded(record_id, added.new)

    def report(self, name: str, table: "Table", *, key: str) -> Recorded:
        """Record a table of figures, all of it or nothing; idempotent by name and key.

        Args:
            name: What the report is called, such as daily-sales.
            table: The figures.
            key: Which report it is; `reports.content_key` unless the caller has a better one.

        Raises:
            InvalidEntry: It cannot be sent. Nothing was recorded.
            OutboxFull: Too much waits for HQ. Nothing was recorded.
            DatabaseError: See `Database.write`. Nothing was recorded, except perhaps after
                `DatabaseFailed`.
        """
        from storeagent.reports import check_report_name, cut, encode_part  # noqa: PLC0415 - see top

        check_report_name(name)
        check_key(key)
        parts = cut(name, key, table)
        entries = [
            (derived_id(f"report/{name}", key, part.part), encode_part(part)) for part in parts
        ]
        new = False
        with self._database.write():
            self.outbox.refuse_when_disk_low()
            said_at = self._wall_clock()
            for record_id, data in entries:
                added = self.outbox.add("bulk", record_id, "report", data, said_at=said_at)
                if not added.new:
                    break  # the parts of a report are all there or none is
                new = True
        return Recorded(key, new, len(parts), len(table.rows))


def check_key(key: str) -> None:
    """Refuse what cannot be a caller's own name for an entry.

    Raises:
        InvalidEntry: It is empty or too long.
    """
    if not key.strip() or len(key) > _KEY_CHARACTERS:
        raise InvalidEntry(
            f"the id {key[:60]!r} is empty or longer than {_KEY_CHARACTERS} characters",
            hint="any text that is the same when the script is run again",
        )


def check_line(what: str, text: str) -> None:
    """Refuse what is longer than the contract's lines.

    Raises:
        InvalidEntry: It is.
    """
    if len(text) > _LINE_CHARACTERS:
        raise InvalidEntry(
            phrase(
                "{what} has {n} characters, {most} are the most",
                what=what,
                n=len(text),
                most=_LINE_CHARACTERS,
            )
        )
