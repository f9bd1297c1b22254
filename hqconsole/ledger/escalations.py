"""Escalations in the ledger: who was told of work that is late, and whether they have seen it.

Owns the table `escalation`: one row for each directive, rule, time zone and region, raised once
however often the hub comes to it. Must not know when one falls due (the hub's schedule) or who
manages a region (`hqconsole.operators`). What is still open is counted when somebody looks.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

UNSEEN = (
    "SELECT escalation.no, escalation.at, directive.id, directive.title, directive.kind,"
    " directive.state, directive.due, escalation.region, coalesce(region.name, escalation.region),"
    " escalation.timezone, escalation.rule, plan.escalate, escalation.mailboxes,"
    " escalation.seen_at, escalation.seen_by, escalation.directive_no"
    " FROM escalation JOIN directive ON directive.no = escalation.directive_no"
    " LEFT JOIN region ON region.slug = escalation.region"
    " LEFT JOIN plan ON plan.directive_no = escalation.directive_no"
    " WHERE escalation.seen_at IS {seen} {where} ORDER BY escalation.no DESC LIMIT ?"
)
OPEN = (
    "SELECT store.region, store.timezone, count(*) FROM delivery INDEXED BY delivery_open_of"
    " JOIN mailbox ON mailbox.no = delivery.mailbox_no JOIN store ON store.no = mailbox.store_no"
    " WHERE delivery.directive_no = ? AND delivery.open = 1"
    " GROUP BY store.region, store.timezone"
)
_NAMES = (
    *("no", "at", "directive", "title", "kind", "state", "due", "region", "region_name"),
    *("timezone", "rule", "escalate", "mailboxes", "seen_at", "seen_by", "directive_no"),
)


def raise_(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    rule: int,
    timezone: str,
    region: str,
    mailboxes: int,
    at: float,
) -> bool:
    """Record that a region's work on a directive is late; idempotent.

    Args:
        connection: With a write transaction open.
        directive_no: Which.
        rule: The place of the rule in the directive's plan, from 0.
        timezone: Of the stores, because each zone is late at a moment of its own.
        region: Their region.
        mailboxes: How many had not answered then.
        at: Unix time.

    Returns:
        Whether it was new; what was raised before stays as it was.
    """
    made = connection.execute(
        "INSERT INTO escalation (directive_no, rule, timezone, region, mailboxes, at)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (directive_no, rule, timezone, region) DO NOTHING",
        (directive_no, rule, timezone, region, mailboxes, at),
    )
    return made.rowcount == 1


def listed(
    connection: sqlite3.Connection,
    *,
    regions: Collection[str] | None = None,
    seen: bool = False,
    most: int,
) -> list[dict[str, Any]]:
    """Escalations as `hq escalations --json` shows them but for the managers.

    What nobody has seen comes first, in each part the latest first.

    Args:
        connection: Reads the ledger.
        regions: Only of these; None for all.
        seen: Also those that were seen.
        most: At most so many.
    """
    found: list[dict[str, Any]] = []
    where, values = _in_regions(regions)
    for is_null in ("NULL", "NOT NULL") if seen else ("NULL",):
        query = UNSEEN.format(seen=is_null, where=where)
        rows = connection.execute(query, (*values, most - len(found))).fetchall()
        found += [dict(zip(_NAMES, row, strict=True)) for row in rows]
    counts = {no: _open_now(connection, no) for no in {row["directive_no"] for row in found}}
    for row in found:
        row["late_seconds"] = _late_seconds(row.pop("escalate"), row["rule"])
        row["open"] = counts[row.pop("directive_no")].get((row["region"], row["timezone"]), 0)
    return found


def _in_regions(regions: Collection[str] | None) -> tuple[str, list[str]]:
    if regions is None:
        return "", []
    return f"AND escalation.region IN ({', '.join('?' * len(regions))})", sorted(regions)


def _open_now(connection: sqlite3.Connection, directive_no: int) -> dict[tuple[str, str], int]:
    return {
        (region, timezone): count
        for region, timezone, count in connection.execute(OPEN, (directive_no,))
    }


def _late_seconds(rules: str | None, rule: int) -> float | None:
    """How late the rule says; None where the plan is not known any more."""
    known: Sequence[Any] = json.loads(rules or "[]")
    return float(known[rule]["late_seconds"]) if rule < len(known) else None


def regions_of_unseen(
    connection: sqlite3.Connection, numbers: Iterable[int] | None
) -> dict[int, str]:
    """The region of each of these escalations that nobody has seen; None for all of them."""
    rows = connection.execute("SELECT no, region FROM escalation WHERE seen_at IS NULL")
    wanted = None if numbers is None else set(numbers)
    return {no: region for no, region in rows if wanted is None or no in wanted}


def mark_seen(
    connection: sqlite3.Connection, numbers: Iterable[int], *, at: float, by: str
) -> list[int]:
    """Note that somebody has seen these; idempotent: who saw one first stays.

    Args:
        connection: With a write transaction open.
        numbers: Of escalations; those that were seen, or never were, are left out.
        at: Unix time.
        by: The operator.

    Returns:
        Those that nobody had seen before.
    """
    now_seen = []
    for no in sorted(set(numbers)):
        changed = connection.execute(
            "UPDATE escalation SET seen_at = ?, seen_by = ? WHERE no = ? AND seen_at IS NULL",
            (at, by, no),
        )
        if changed.rowcount:
            now_seen.append(no)
    return now_seen
