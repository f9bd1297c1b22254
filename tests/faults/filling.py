"""An outbox filled while there is no link, and its journal held against the ledger in the end.

Owns what was accepted: every entry has a number of its own, which is in its content, and the
journal says in which log it is. The ledger is read table by table and never asked through our own
queries.
"""

import contextlib
import json
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buswire.messages import Log
from storeagent.alerts import check_alert, encode_alert
from storeagent.database import database_path, open_agent_database
from storeagent.errors import OutboxFull
from storeagent.limits import read_limits
from storeagent.outbox import Outbox
from storeagent.reports import cut, encode_part, make_table
from storeagent.scripts import derived_id, random_id

REPORT = "till-figures"
_AT_ONCE = 10_000
"""So many entries go into one transaction: what a script that brings in a file would do."""


@dataclass
class Accepted:
    """The journal: what a call said that it had taken, and what it refused."""

    alerts: int = 0
    """Those are number 0 and on, without a gap."""
    reports: int = 0
    urgent: dict[str, float] = field(default_factory=dict)
    """By its words: when it was accepted."""
    refused: int = 0

    @property
    def total(self) -> int:
        """How many entries were taken."""
        return self.alerts + self.reports + len(self.urgent)


def fill(home: Path, journal: Accepted, log: Log, count: int) -> None:
    """Put so many more entries into a log, through the outbox; only what is durable counts.

    Raises:
        OutboxFull: No more has room; all of that batch is refused.
    """
    with open_agent_database(database_path(home)) as database:
        outbox = Outbox(database, read_limits(home))
        while count:
            size = min(_AT_ONCE, count)
            first = journal.alerts if log == "act" else journal.reports
            try:
                with database.write():
                    outbox.refuse_when_disk_low()
                    for number in range(first, first + size):
                        record_id, kind, data = (_alert if log == "act" else _report)(number)
                        added = outbox.add(log, record_id, kind, data, said_at=time.time())
                        assert added.new
            except OutboxFull:
                journal.refused += size
                raise
            if log == "act":
                journal.alerts += size
            else:
                journal.reports += size
            count -= size


def _alert(number: int) -> tuple[str, str, bytes]:
    fields = check_alert("incident", {"what": f"entry {number}"})
    return random_id(), "alert", encode_alert("incident", fields, note="", by="")


def _report(number: int) -> tuple[str, str, bytes]:
    key = f"entry {number}"
    (part,) = cut(REPORT, key, make_table([{"sku": f"{number:07}", "sold": 3, "on_hand": 12}]))
    return derived_id(f"report/{REPORT}", key, 1), "report", encode_part(part)


@dataclass
class Account:
    """What the ledger has, counted."""

    alerts: Counter[str]
    rows: Counter[str]
    """Rows of figures in complete reports, by key."""
    overtook: int
    """Reports that arrived before the last of the alerts that were there before the link was."""

    def lost(self, journal: Accepted) -> list[str]:
        """What was accepted and is not in effect."""
        wanted = [*(f"entry {number}" for number in range(journal.alerts)), *journal.urgent]
        missing = [f"alert {one}" for one in wanted if not self.alerts[one]]
        keys = (f"entry {number}" for number in range(journal.reports))
        return missing + [f"report {key}" for key in keys if not self.rows[key]]

    def twice(self, journal: Accepted) -> list[str]:
        """What is in effect more than once, or without having been accepted."""
        more = [f"alert {one}" for one, times in self.alerts.items() if times > 1]
        more += [f"report {one}" for one, times in self.rows.items() if times > 1]
        known = journal.alerts + len(journal.urgent)
        if len(self.alerts) > known or len(self.rows) > journal.reports:
            more.append("something that nobody said")
        return more

    def order(self, *, most: int) -> list[str]:
        """What is wrong where more figures than this came before the last of the alerts."""
        if self.overtook <= most:
            return []
        return [f"{self.overtook:,} reports came before the last alert"]


def take_account(ledger: Path) -> Account:
    """Read from the ledger what has arrived and what effect it had."""
    with contextlib.closing(sqlite3.connect(ledger)) as connection:
        alerts: Counter[str] = Counter()
        last_alert_no = 0
        for no, said in _said(connection, "alert"):
            what = str(said["fields"]["what"])
            alerts[what] += 1
            if what.startswith("entry "):
                last_alert_no = max(last_alert_no, no)
        rows: Counter[str] = Counter()
        for key, count, parts, parts_here, complete_at in connection.execute(
            "SELECT key, rows, parts, parts_here, complete_at FROM report"
        ):
            if complete_at is not None and parts == parts_here:
                rows[key] += count
        (arrived,) = connection.execute(
            "SELECT count(*) FROM arrival WHERE kind = 'report'"
        ).fetchone()
        rows["a report without effect"] += max(0, arrived - rows.total()) * 2
        rows += Counter()
        (overtook,) = connection.execute(
            "SELECT count(*) FROM arrival WHERE kind = 'report' AND no < ?", (last_alert_no,)
        ).fetchone()
    return Account(alerts, rows, overtook)


def _said(connection: sqlite3.Connection, kind: str) -> Any:
    """Number and content of every arrival of a kind, in the order of saving."""
    message_no, text = None, b""
    for no, in_message, at, size_bytes, data in connection.execute(
        "SELECT no, message_no, data_at, data_bytes, data FROM arrival WHERE kind = ? ORDER BY no",
        (kind,),
    ):
        if in_message is None:
            yield no, json.loads(data)
            continue
        if in_message != message_no:
            message_no = in_message
            (text,) = connection.execute(
                "SELECT text FROM message WHERE no = ?", (message_no,)
            ).fetchone()
        yield no, json.loads(text[at : at + size_bytes])
