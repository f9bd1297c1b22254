"""Gathers what the ledger knows of one directive for one mailbox; `hqconsole.custody` judges it.

Reading only. Call it in one read transaction, so that all of it is of one moment.
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from buswire.names import ANY_ROLE
from buswire.signing import key_of_seal
from buswire.states import Needs, State
from buswire.topics import ALL_PLACE, Channel
from hqconsole.audience import AudienceError, Mailbox
from hqconsole.custody_facts import (
    Delivery,
    DeviceFact,
    Facts,
    Hub,
    Logged,
    Statement,
    Step,
    Wave,
)
from hqconsole.errors import HqError
from hqconsole.ledger.deliveries import ARRIVED_LATE, DONE_AFTER_DUE, STATE_OF
from hqconsole.ledger.evidence import DATA
from hqconsole.ledger.organisation import organisation
from hqconsole.ledger.presence import serves
from hqconsole.ledger.progress import published_no
from hqconsole.ledger.views import loaded
from hqconsole.lifecycle import DirectiveState
from hqconsole.membership import why_not
from hqconsole.selector import Selector, in_words, selector_from_json
from hqconsole.store_times import StoreTimes, wall

ROLES_WITH_IT = (
    "SELECT mailbox.role FROM mailbox WHERE mailbox.store_no = ?2 AND ("
    "EXISTS (SELECT 1 FROM delivery WHERE directive_no = ?1 AND mailbox_no = mailbox.no)"
    " OR EXISTS (SELECT 1 FROM wave JOIN planned ON planned.directive_no = wave.directive_no"
    " AND planned.wave_no = wave.no"
    " WHERE wave.directive_no = ?1 AND planned.mailbox_no = mailbox.no)) ORDER BY mailbox.role"
)
PLANNED = (
    "SELECT wave.no FROM wave CROSS JOIN planned ON planned.directive_no = wave.directive_no"
    " AND planned.wave_no = wave.no WHERE wave.directive_no = ? AND planned.mailbox_no = ?"
)
STATEMENTS = (
    "SELECT arrival.kind, device.name, arrival.said_at, arrival.received_at,"
    f" arrival.offset_seconds, arrival.outcome, {DATA} FROM arrival"
    " CROSS JOIN device ON device.no = arrival.device_no"
    " WHERE arrival.directive_no = ? AND arrival.mailbox_no = ? ORDER BY arrival.no"
)
LOGGED = (
    "SELECT channel.name, channel_log.seq, channel_log.id, channel_log.at, channel_log.no"
    " FROM channel CROSS JOIN channel_log ON channel_log.channel_no = channel.no"
    " WHERE channel.name IN (?, ?, ?) AND channel_log.doc_no = ? ORDER BY channel_log.no"
)
DEVICES = (
    "SELECT name, state, roles, online, last_heard_at FROM device WHERE store_no = ? ORDER BY name"
)


def mailboxes(
    connection: sqlite3.Connection, directive_no: int, store_id: str, role: str | None
) -> list[str]:
    """The roles of a store whose chain is to be shown: those that have the directive.

    Args:
        connection: Of the ledger.
        directive_no: Which.
        store_id: Which store.
        role: Only this one, whether it has the directive or not.

    Returns:
        At least one; where none has it, the store as a whole.

    Raises:
        HqError: There is no such store, or it never had the role.
    """
    store_no = _store_no(connection, store_id)
    if role is not None:
        known = [
            one
            for (one,) in connection.execute(
                "SELECT role FROM mailbox WHERE store_no = ? ORDER BY role", (store_no,)
            )
        ]
        if role not in known:
            raise HqError(f"store {store_id} has no role {role}", hint=f"it has {', '.join(known)}")
        return [role]
    found = connection.execute(ROLES_WITH_IT, (directive_no, store_no)).fetchall()
    return [one for (one,) in found] or [ANY_ROLE]


def place(connection: sqlite3.Connection, store_id: str) -> tuple[str, str, str]:
    """Name, region and time zone of a store that the roster has or had."""
    row = connection.execute(
        "SELECT name, region, timezone FROM store WHERE id = ?", (store_id,)
    ).fetchone()
    return str(row[0]), str(row[1]), str(row[2])


def _store_no(connection: sqlite3.Connection, store_id: str) -> int:
    row = connection.execute("SELECT no FROM store WHERE id = ?", (store_id,)).fetchone()
    if row is None:
        raise HqError(f"there is no store {store_id}", hint="hq roster show lists them")
    return int(row[0])


def gather(
    connection: sqlite3.Connection, directive_no: int, store_id: str, role: str, hub: Hub
) -> Facts:
    """All that is known of a directive for one mailbox.

    Args:
        connection: In a read transaction.
        directive_no: Which.
        store_id: A store that the roster has or had.
        role: A role that it has or had, or `any`.
        hub: How head office itself stands, which is not in the ledger.
    """
    store = connection.execute(
        "SELECT no, name, region, timezone, roles, closed_at FROM store WHERE id = ?", (store_id,)
    ).fetchone()
    store_no, store_name, region, timezone, roles, store_closed_at = store
    mailbox_no = connection.execute(
        "SELECT no FROM mailbox WHERE store_no = ? AND role = ?", (store_no, role)
    ).fetchone()[0]
    directive = connection.execute(
        "SELECT id, title, directive.state, needs, issued_at, issued_by, adopted_at, closed_at,"
        " due, doc_no, author, written_at, selector, continuous, paused_why, seal FROM directive"
        " JOIN doc ON doc.no = doc_no LEFT JOIN plan ON plan.directive_no = directive.no"
        " WHERE directive.no = ?",
        (directive_no,),
    ).fetchone()
    delivery, wave_no = _delivery(connection, directive_no, mailbox_no)
    row = connection.execute(PLANNED, (directive_no, mailbox_no)).fetchone()
    selector = _selector(directive[12])
    continuous = bool(directive[13])
    due_at = StoreTimes(directive[8]).at(timezone)
    reason = ""
    if delivery is None and row is None:
        there = organisation(connection)
        reason = why_not(selector, Mailbox(store_id, role), there, continuous=continuous)
    return Facts(
        id=directive[0],
        title=directive[1],
        state=DirectiveState(directive[2]),
        needs=Needs(directive[3]),
        issued_at=directive[4] or None,
        issued_by=directive[5],
        adopted_at=directive[6],
        closed_at=directive[7],
        due_at=due_at,
        due_local=wall(due_at, timezone),
        author=directive[10] or "",
        written_at=directive[11],
        asked="" if selector is None else in_words(selector),
        continuous=continuous,
        paused_why=directive[14] or "",
        seal_key=key_of_seal(directive[15] or ""),
        store=store_id,
        store_name=store_name,
        region=region,
        timezone=timezone,
        role=role,
        store_closed_at=store_closed_at,
        has_role=role == ANY_ROLE or role in json.loads(roles),
        why_not=reason,
        steps=_steps(connection, directive_no),
        wave=_wave(connection, directive_no, row[0] if row else wave_no),
        planned=row is not None,
        delivery=delivery,
        logged=_logged(connection, directive[9], (store_id, region, role), delivery),
        statements=_statements(connection, directive_no, mailbox_no),
        devices=_devices(connection, store_no, role),
        hub=hub,
        **_withdrawal(connection, directive[0]),
    )


def _selector(text: str | None) -> Selector | None:
    try:
        return selector_from_json(text) if text else None
    except AudienceError:
        return None


def _delivery(
    connection: sqlite3.Connection, directive_no: int, mailbox_no: int
) -> tuple[Delivery | None, int | None]:
    row = connection.execute(
        "SELECT state, open, changed_at, late, joined_at, before_hq, was, wave_no FROM delivery"
        " WHERE directive_no = ? AND mailbox_no = ?",
        (directive_no, mailbox_no),
    ).fetchone()
    if row is None:
        return None, None
    state, is_open, changed_at, late, joined_at, before_hq, was, wave_no = row
    delivery = Delivery(
        state=STATE_OF[state],
        open=bool(is_open),
        changed_at=changed_at,
        arrived_late=bool((late or 0) & ARRIVED_LATE),
        done_late=bool((late or 0) & DONE_AFTER_DUE),
        joined_at=joined_at,
        before_hq=_state(before_hq),
        was=_state(was),
    )
    return delivery, wave_no


def _state(code: int | None) -> State | None:
    return None if code is None else STATE_OF[code]


def _wave(connection: sqlite3.Connection, directive_no: int, wave_no: int | None) -> Wave | None:
    if wave_no is None:
        return None
    (count,) = connection.execute(
        "SELECT count(*) FROM wave WHERE directive_no = ?", (directive_no,)
    ).fetchone()
    row = connection.execute(
        "SELECT label, not_before, began_at, sent_at, (SELECT not_before FROM wave AS first"
        " WHERE first.directive_no = wave.directive_no AND first.no = 1)"
        " FROM wave WHERE directive_no = ? AND no = ?",
        (directive_no, wave_no),
    ).fetchone()
    return None if row is None else Wave(wave_no, count, *row)


def _steps(connection: sqlite3.Connection, directive_no: int) -> Sequence[Step]:
    return [
        Step(*row)
        for row in connection.execute(
            "SELECT at, action, state, by, note FROM directive_step WHERE directive_no = ?"
            " ORDER BY no",
            (directive_no,),
        )
    ]


def _logged(
    connection: sqlite3.Connection,
    doc_no: int,
    place: tuple[str, str, str],
    delivery: Delivery | None,
) -> Logged | None:
    """The record by which the store's devices hear it, as far as the store is where it was."""
    if delivery is None:
        return None
    store_id, region, role = place
    names = (
        str(Channel(ALL_PLACE, role)),
        str(Channel.of_region(region, role)),
        str(Channel.of_store(store_id, role)),
    )
    rows = connection.execute(LOGGED, (*names, doc_no)).fetchall()
    # Who was taken in later had a record of its own then; others go by the first.
    rows = [row for row in rows if row[3] >= (delivery.joined_at or 0.0)] or rows
    if not rows:
        return None
    name, seq, record_id, at, no = rows[0]
    published = no <= published_no(connection)
    return Logged(name, seq, bytes(record_id).hex(), at, published)


def _statements(
    connection: sqlite3.Connection, directive_no: int, mailbox_no: int
) -> Sequence[Statement]:
    return [
        Statement(kind, device, said_at, received_at, offset_seconds, outcome, loaded(data))
        for kind, device, said_at, received_at, offset_seconds, outcome, data in connection.execute(
            STATEMENTS, (directive_no, mailbox_no)
        )
    ]


def _devices(connection: sqlite3.Connection, store_no: int, role: str) -> Sequence[DeviceFact]:
    return [
        DeviceFact(name, state, serves(roles, role), bool(online), last_heard_at or None)
        for name, state, roles, online, last_heard_at in connection.execute(DEVICES, (store_no,))
    ]


def _withdrawal(connection: sqlite3.Connection, directive_id: str) -> dict[str, Any]:
    row = connection.execute(
        "SELECT doc.data FROM cancel JOIN doc ON doc.no = doc_no WHERE directive_id = ?",
        (directive_id,),
    ).fetchone()
    said = loaded(row[0]) if row else {}
    return {
        "withdrawn_by": said.get("cancelled_by", ""),
        "withdrawn_why": said.get("reason", ""),
        "superseded_by": said.get("superseded_by", ""),
    }
