"""Directives: issuing, cancelling, expiring, and adopting one that HQ had forgotten.

Each function writes everything that belongs together in the caller's transaction: the directive,
its deliveries, and the records in the channel logs from which the hub publishes.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from buswire.errors import WireError
from buswire.messages import (
    DIRECTIVE_BYTES_LIMIT,
    Audience,
    Cancel,
    Directive,
    StateChange,
    encode_data,
)
from buswire.states import Needs, State
from buswire.topics import ALL_PLACE, Channel
from hqconsole.audience import Mailbox, Organisation, cover, digest
from hqconsole.errors import HqError
from hqconsole.ledger import channels, deliveries
from hqconsole.ledger.organisation import mailbox_numbers

NewId = Callable[[], str]

_COVER_IN_DIRECTIVE = 400
"""With more channels than this the directive does not carry their list."""
_PREFIX = 4


@dataclass(frozen=True, slots=True)
class Draft:
    """What the operator wrote."""

    title: str
    body: str = ""
    kind: str = "notice"
    needs: Needs = Needs.READ
    priority: str = "normal"
    due: str | None = None
    expires_at: float | None = None
    issued_by: str = ""


class Issued(NamedTuple):
    """What came of it."""

    no: int
    id: str
    mailboxes: int
    channels: tuple[Channel, ...]
    digest: str


def issue(
    connection: sqlite3.Connection,
    draft: Draft,
    mailboxes: Collection[Mailbox],
    organisation: Organisation,
    *,
    at: float,
    new_id: NewId,
) -> Issued:
    """Issue a directive to these mailboxes: frozen now, published by the hub after the commit.

    Raises:
        HqError: It is too large, or a text is too long for its field.
    """
    directive_id = new_id()
    uses = tuple(use.channel for use in cover(mailboxes, organisation))
    fingerprint = digest(mailboxes)
    named = [str(channel) for channel in uses] if len(uses) <= _COVER_IN_DIRECTIVE else []
    document = Directive(
        id=directive_id,
        title=draft.title,
        body=draft.body,
        kind=draft.kind,
        needs=draft.needs,
        priority=draft.priority,  # type: ignore[arg-type]
        due=draft.due,
        expires_at=draft.expires_at,
        issued_at=at,
        issued_by=draft.issued_by,
        audience=Audience(mailboxes=len(mailboxes), digest=fingerprint, channels=named),
    )
    data = _encode(document)
    doc_no = channels.add_doc(connection, "directive", data)
    no = _insert(connection, document, doc_no, mailboxes=len(mailboxes), digest=fingerprint)
    numbers = mailbox_numbers(connection)
    deliveries.add(connection, no, sorted(numbers[mailbox] for mailbox in mailboxes))
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    return Issued(no, directive_id, len(mailboxes), uses, fingerprint)


def _encode(document: Directive) -> bytes:
    try:
        data = encode_data(document)
    except WireError as error:
        raise HqError(str(error), hint="shorten the text") from error
    if len(data) > DIRECTIVE_BYTES_LIMIT:
        raise HqError(
            f"the directive takes {len(data)} bytes and {DIRECTIVE_BYTES_LIMIT} are the most",
            hint="shorten the text",
        )
    return data


def _insert(
    connection: sqlite3.Connection,
    document: Directive,
    doc_no: int,
    *,
    mailboxes: int,
    digest: str,
    adopted_at: float | None = None,
) -> int:
    cursor = connection.execute(
        "INSERT INTO directive (id, doc_no, title, kind, needs, priority, due, expires_at,"
        " issued_at, issued_by, state, mailboxes, digest, adopted_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'issued', ?, ?, ?)",
        (
            document.id,
            doc_no,
            document.title,
            document.kind,
            document.needs.value,
            document.priority,
            document.due,
            document.expires_at,
            document.issued_at,
            document.issued_by,
            mailboxes,
            digest,
            adopted_at,
        ),
    )
    return int(cursor.lastrowid or 0)


def find(connection: sqlite3.Connection, text: str) -> int:
    """The number of the directive whose id begins so.

    Raises:
        HqError: None does, or several do.
    """
    prefix = text.strip().lower()
    if len(prefix) < _PREFIX or not set(prefix) <= set("0123456789abcdef"):
        raise HqError(
            f"{text!r} is not the id of a directive",
            hint=f"give at least its first {_PREFIX} characters; hq status lists them",
        )
    found = connection.execute(
        "SELECT no FROM directive WHERE id >= ? AND id < ? LIMIT 2", (prefix, prefix + "g")
    ).fetchall()
    if len(found) != 1:
        raise HqError(
            f"{'no directive' if not found else 'more than one directive'} begins with {text}",
            hint="hq status lists them",
        )
    return int(found[0][0])


def _cover_of_audience(
    connection: sqlite3.Connection, directive_no: int, organisation: Organisation
) -> tuple[Channel, ...]:
    """The cheapest channels that reach the directive's mailboxes under today's roster."""
    mailboxes = {
        mailbox
        for store_id, role in connection.execute(
            "SELECT store.id, role FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
            " JOIN store ON store.no = store_no WHERE directive_no = ?",
            (directive_no,),
        )
        if organisation.has(mailbox := Mailbox(store_id, role))
    }
    return tuple(use.channel for use in cover(mailboxes, organisation))


def cancel(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    reason: str,
    by: str,
    organisation: Organisation,
    at: float,
    new_id: NewId,
) -> int:
    """Withdraw a directive. Returns how many open deliveries that closed.

    Raises:
        HqError: It is cancelled already.
    """
    directive_id, state = connection.execute(
        "SELECT id, state FROM directive WHERE no = ?", (directive_no,)
    ).fetchone()
    if state == "cancelled":
        raise HqError(f"directive {directive_id[:8]} is cancelled already")
    document = Cancel(directive=directive_id, reason=reason, cancelled_at=at, cancelled_by=by)
    doc_no = channels.add_doc(connection, "cancel", encode_data(document))
    _keep_cancel(connection, directive_id, doc_no, at)
    return _carry_out_cancel(
        connection, directive_no, doc_no, organisation=organisation, at=at, new_id=new_id
    )


def _keep_cancel(connection: sqlite3.Connection, directive_id: str, doc_no: int, at: float) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO cancel (directive_id, doc_no, cancelled_at) VALUES (?, ?, ?)",
        (directive_id, doc_no, at),
    )


def _carry_out_cancel(
    connection: sqlite3.Connection,
    directive_no: int,
    doc_no: int,
    *,
    organisation: Organisation,
    at: float,
    new_id: NewId,
) -> int:
    connection.execute(
        "UPDATE directive SET state = 'cancelled', closed_at = ? WHERE no = ?", (at, directive_no)
    )
    closed = deliveries.close_open(connection, directive_no, State.CANCELLED, at=at)
    uses = _cover_of_audience(connection, directive_no, organisation)
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    return closed


def expire_due(
    connection: sqlite3.Connection,
    *,
    organisation: Callable[[], Organisation],
    at: float,
    new_id: NewId,
) -> int:
    """Close every directive whose time is over. Returns how many that were."""
    over = connection.execute(
        "SELECT no, id FROM directive WHERE state = 'issued' AND expires_at IS NOT NULL"
        " AND expires_at <= ? ORDER BY expires_at LIMIT 100",
        (at,),
    ).fetchall()
    for directive_no, directive_id in over:
        connection.execute(
            "UPDATE directive SET state = 'expired', closed_at = ? WHERE no = ?",
            (at, directive_no),
        )
        if deliveries.close_open(connection, directive_no, State.EXPIRED, at=at):
            change = StateChange(directive=directive_id, state=State.EXPIRED, changed_at=at)
            doc_no = channels.add_doc(connection, "state", encode_data(change))
            uses = _cover_of_audience(connection, directive_no, organisation())
            channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    return len(over)


def next_expiry(connection: sqlite3.Connection) -> float | None:
    """When the next directive expires, in Unix time."""
    row = connection.execute(
        "SELECT min(expires_at) FROM directive WHERE state = 'issued' AND expires_at IS NOT NULL"
    ).fetchone()
    return None if row is None else row[0]


def tell_siblings(
    connection: sqlite3.Connection,
    directive_id: str,
    store_id: str,
    role: str,
    state: State,
    *,
    by: str,
    at: float,
    new_id: NewId,
) -> None:
    """Let a store's other devices know what one of them said."""
    change = StateChange(directive=directive_id, state=state, changed_at=at, changed_by=by)
    doc_no = channels.add_doc(connection, "state", encode_data(change))
    channels.append(connection, (Channel.of_store(store_id, role),), doc_no, at=at, new_id=new_id)


def number_of(connection: sqlite3.Connection, directive_id: str) -> int | None:
    """The number of a directive that HQ knows."""
    row = connection.execute("SELECT no FROM directive WHERE id = ?", (directive_id,)).fetchone()
    return None if row is None else int(row[0])


def is_here(connection: sqlite3.Connection, document: Directive | Cancel, data: bytes) -> bool:
    """Whether HQ has this very document, byte by byte."""
    if isinstance(document, Cancel):
        table, key, directive = "cancel", "directive_id", document.directive
    else:
        table, key, directive = "directive", "id", document.id
    row = connection.execute(
        f"SELECT data FROM {table} JOIN doc ON doc.no = doc_no WHERE {key} = ?",
        (directive,),
    ).fetchone()
    return row is not None and bytes(row[0]) == data


def adopt(
    connection: sqlite3.Connection,
    data: bytes,
    document: Directive,
    sender: Mailbox,
    *,
    seal: str,
    organisation: Organisation,
    at: float,
    new_id: NewId,
) -> int:
    """Take back a directive that this ledger has forgotten, from a device that kept it.

    The audience is put together from the channels that the directive names, under today's roster,
    and from the mailbox that sent it. It is issued again on those channels: whoever has it drops
    it by its id, and whoever was not reached before is reached now. A cancel that came back first
    takes effect at once.

    Returns:
        The directive's number. Idempotent.
    """
    numbers = mailbox_numbers(connection)
    known = number_of(connection, document.id)
    if known is not None:
        if sender in numbers:
            add_to_adopted(connection, known, numbers[sender], at=at, new_id=new_id)
        return known
    audience = document.audience or Audience(mailboxes=0, digest="")
    reached = set(_mailboxes_in(audience.channels, organisation))
    if sender in numbers:
        reached.add(sender)
    doc_no = channels.add_doc(connection, "directive", data, seal=seal)
    no = _insert(
        connection,
        document,
        doc_no,
        mailboxes=audience.mailboxes,
        digest=audience.digest,
        adopted_at=at,
    )
    deliveries.add(connection, no, sorted(numbers[mailbox] for mailbox in reached))
    present = {mailbox for mailbox in reached if organisation.has(mailbox)}
    uses = [use.channel for use in cover(present, organisation)]
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    tombstone = connection.execute(
        "SELECT doc_no FROM cancel WHERE directive_id = ?", (document.id,)
    ).fetchone()
    if tombstone is not None:
        _carry_out_cancel(
            connection, no, tombstone[0], organisation=organisation, at=at, new_id=new_id
        )
    return no


def add_to_adopted(
    connection: sqlite3.Connection, directive_no: int, mailbox_no: int, *, at: float, new_id: NewId
) -> bool:
    """Count a mailbox in that proves to have been in the audience of an adopted directive.

    Its store's devices are told, as not all of them need to have it: one may have lost its disk.
    Idempotent.

    Returns:
        Whether it was counted in just now; never where HQ knows the audience itself.
    """
    directive_id, doc_no, state, closed_at, adopted_at = connection.execute(
        "SELECT id, doc_no, state, closed_at, adopted_at FROM directive WHERE no = ?",
        (directive_no,),
    ).fetchone()
    if adopted_at is None or deliveries.exists(connection, directive_no, mailbox_no):
        return False
    deliveries.add(connection, directive_no, [mailbox_no])
    if state == "cancelled":
        deliveries.close_open(connection, directive_no, State.CANCELLED, at=closed_at)
        (doc_no,) = connection.execute(
            "SELECT doc_no FROM cancel WHERE directive_id = ?", (directive_id,)
        ).fetchone()
    elif state == "expired":
        deliveries.close_open(connection, directive_no, State.EXPIRED, at=closed_at)
        change = StateChange(directive=directive_id, state=State.EXPIRED, changed_at=closed_at)
        doc_no = channels.add_doc(connection, "state", encode_data(change))
    store_id, role = connection.execute(
        "SELECT store.id, role FROM mailbox JOIN store ON store.no = store_no WHERE mailbox.no = ?",
        (mailbox_no,),
    ).fetchone()
    place = Channel.of_store(store_id, role)
    channels.append(connection, (place,), doc_no, at=at, new_id=new_id)
    return True


def adopt_cancel(
    connection: sqlite3.Connection,
    data: bytes,
    document: Cancel,
    *,
    seal: str,
    organisation: Organisation,
    at: float,
    new_id: NewId,
) -> bool:
    """Take back a cancel that this ledger has forgotten. Idempotent; True when it was new."""
    if connection.execute(
        "SELECT 1 FROM cancel WHERE directive_id = ?", (document.directive,)
    ).fetchone():
        return False
    doc_no = channels.add_doc(connection, "cancel", data, seal=seal)
    _keep_cancel(connection, document.directive, doc_no, document.cancelled_at or at)
    no = number_of(connection, document.directive)
    if no is not None:
        _carry_out_cancel(connection, no, doc_no, organisation=organisation, at=at, new_id=new_id)
    return True


def _mailboxes_in(names: Iterable[str], organisation: Organisation) -> Iterable[Mailbox]:
    for name in names:
        try:
            channel = Channel.parse(name)
        except WireError:
            continue
        if channel.place == ALL_PLACE:
            stores: Collection[str] = organisation.stores.keys()
        else:
            kind, _, place = channel.place.partition("/")
            stores = (place,) if kind == "store" else organisation.regions.get(place, ())
        for store_id in stores:
            mailbox = Mailbox(store_id, channel.role)
            if organisation.has(mailbox):
                yield mailbox
