"""Directives: their rows and their documents, and how one is written down, issued and expired.

Each function writes everything that belongs together in the caller's transaction: the directive,
its deliveries, and the records in the channel logs from which the hub publishes. What goes out in
parts, later, or after somebody's approval is written as a draft here and sent by `waves`.
"""

import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from buswire.errors import WireError
from buswire.messages import (
    DIRECTIVE_BYTES_LIMIT,
    Audience,
    Cancel,
    Directive,
    Reason,
    Reminder,
    StateChange,
    encode_data,
)
from buswire.states import Needs, State
from buswire.topics import Channel
from hqconsole.audience import Mailbox, Organisation, cover, digest
from hqconsole.errors import HqError
from hqconsole.ledger import channels, deliveries, reach, steps, withdrawing
from hqconsole.ledger.opening import require_sum
from hqconsole.ledger.organisation import MailboxNumbers
from hqconsole.ledger.steps import LIVE_STATES
from hqconsole.lifecycle import Action, DirectiveState
from hqconsole.rollout import Gate

NewId = Callable[[], str]

WRITE = "write"
"""What `directive_step` calls the first step, which leads to no state from any other."""
_COVER_IN_DIRECTIVE = 400
"""With more channels than this the directive does not carry their list."""
_PREFIX = 4


@dataclass(frozen=True, slots=True)
class Draft:
    """What the operator wrote: all that the stores will see."""

    title: str
    body: str = ""
    kind: str = "notice"
    needs: Needs = Needs.READ
    priority: str = "normal"
    due: str | None = None
    expires_at: float | None = None
    issued_by: str = ""
    forced_from: str | None = None
    reasons: tuple[Reason, ...] = ()
    remind: tuple[Reminder, ...] = ()
    supersedes: str = ""
    undoes: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How it goes out, which is no store's business.

    Attributes:
        author: The operator who wrote it; '' stands for who it is issued by.
        selector: JSON of the audience as it was asked for.
        continuous: Whether stores that join later are taken in.
        starts: The moment at which it goes out, as `hqconsole.moments` writes it; None at once.
        gate: What one wave must show before the next.
        rate_per_hour: How many mailboxes an hour of each wave; None without limit.
        escalate: JSON of the rules by which lateness is told.
    """

    author: str = ""
    selector: str = ""
    continuous: bool = False
    starts: str | None = None
    gate: Gate | None = None
    rate_per_hour: float | None = None
    escalate: str = "[]"


class Written(NamedTuple):
    """What came of writing one down."""

    no: int
    id: str
    mailboxes: int
    digest: str


class Issued(NamedTuple):
    """What came of issuing one."""

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
    plan: Plan | None = None,
) -> Issued:
    """Issue a directive to these mailboxes: frozen now, published by the hub after the commit.

    Raises:
        HqError: It is too large, or a text is too long for its field.
    """
    plan = plan or Plan()
    uses = tuple(use.channel for use in cover(mailboxes, organisation))
    fingerprint = digest(mailboxes)
    audience = Audience(
        mailboxes=len(mailboxes), digest=fingerprint, channels=_named(uses, plan.continuous)
    )
    document = _document(draft, new_id(), issued_at=at, audience=audience)
    doc_no = channels.add_doc(connection, "directive", encode(document))
    no = insert(connection, document, doc_no, DirectiveState.ISSUED)
    deliveries.add(connection, no, MailboxNumbers(connection).of(mailboxes))
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    author = _save_plan(connection, no, draft, plan, at=at)
    steps.record(connection, no, WRITE, DirectiveState.DRAFT, at=at, by=author)
    steps.record(connection, no, Action.ISSUE, DirectiveState.ISSUED, at=at, by=author)
    if draft.supersedes:
        withdrawing.withdraw_the_former(
            connection, no, at=at, new_id=new_id, organisation=lambda: organisation
        )
    return Issued(no, document.id, len(mailboxes), uses, fingerprint)


class Wave(NamedTuple):
    """A part of an audience that goes out together; its label is for people."""

    label: str
    mailboxes: Collection[Mailbox]
    not_before: float | None = None


def write(
    connection: sqlite3.Connection,
    draft: Draft,
    plan: Plan,
    waves: Collection[Wave],
    *,
    at: float,
    new_id: NewId,
) -> Written:
    """Write a directive down as a draft, with its audience frozen; no store hears of it.

    Args:
        connection: With a write transaction open.
        draft: What the stores will see.
        plan: How it goes out.
        waves: In their order, at least one; no mailbox is in two of them.
        at: Unix time.
        new_id: A random 128-bit id in hex.

    Raises:
        HqError: It is too large, or a text is too long for its field.
    """
    mailboxes = [mailbox for wave in waves for mailbox in wave.mailboxes]
    audience = Audience(mailboxes=len(mailboxes), digest=digest(mailboxes))
    document = _document(draft, new_id(), issued_at=0.0, audience=audience)
    doc_no = channels.add_doc(connection, "draft", encode(document))
    no = insert(connection, document, doc_no, DirectiveState.DRAFT)
    numbers = MailboxNumbers(connection)
    for wave_no, wave in enumerate(waves, 1):
        connection.execute(
            "INSERT INTO wave (directive_no, no, label, mailboxes, not_before)"
            " VALUES (?, ?, ?, ?, ?)",
            (no, wave_no, wave.label, len(wave.mailboxes), wave.not_before),
        )
        connection.executemany(
            "INSERT INTO planned (directive_no, wave_no, mailbox_no) VALUES (?, ?, ?)",
            [(no, wave_no, number) for number in numbers.of(wave.mailboxes)],
        )
    author = _save_plan(connection, no, draft, plan, at=at)
    steps.record(connection, no, WRITE, DirectiveState.DRAFT, at=at, by=author)
    return Written(no, document.id, len(mailboxes), audience.digest)


def _save_plan(
    connection: sqlite3.Connection, no: int, draft: Draft, plan: Plan, *, at: float
) -> str:
    author = plan.author or draft.issued_by
    # A directive with rules is looked at at once: that says when to look at it again.
    look_at = at if plan.escalate != "[]" else None
    connection.execute(
        "INSERT INTO plan (directive_no, selector, continuous, author, written_at, starts, gate,"
        " rate_per_hour, escalate, look_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            no,
            plan.selector,
            int(plan.continuous),
            author,
            at,
            plan.starts,
            None if plan.gate is None else plan.gate.to_json(),
            plan.rate_per_hour,
            plan.escalate,
            look_at,
        ),
    )
    for column, other in (("supersedes_no", draft.supersedes), ("undoes_no", draft.undoes)):
        if other:
            connection.execute(
                f"UPDATE directive SET {column} = (SELECT no FROM directive WHERE id = ?)"
                " WHERE no = ?",
                (other, no),
            )
    return author


def _named(uses: Collection[Channel], in_parts: bool) -> list[str]:
    """The channels that a directive names, for whoever has to adopt it.

    One that goes out in parts names none: HQ would send it on all of them.
    """
    return [] if in_parts or len(uses) > _COVER_IN_DIRECTIVE else [str(one) for one in uses]


def sent_document(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    at: float,
    uses: Collection[Channel],
    in_parts: bool,
) -> int:
    """Make what the stores will see of a draft, as it goes out for the first time.

    Returns:
        The number of the document.

    Raises:
        DatabaseDamaged: The draft is not as it was written, or as it was approved.
    """
    total, *row = connection.execute(
        "SELECT sum, no, kind, data, seal FROM doc"
        " WHERE no = (SELECT doc_no FROM directive WHERE no = ?)",
        (directive_no,),
    ).fetchone()
    require_sum("doc", total, *row)
    draft = read(bytes(row[2]))
    audience = draft.audience or Audience(mailboxes=0, digest="")
    document = msgspec.structs.replace(
        draft,
        issued_at=at,
        audience=msgspec.structs.replace(audience, channels=_named(uses, in_parts)),
    )
    doc_no = channels.add_doc(connection, "directive", encode(document))
    connection.execute(
        "UPDATE directive SET doc_no = ?, issued_at = ? WHERE no = ?", (doc_no, at, directive_no)
    )
    return doc_no


def _document(
    draft: Draft, directive_id: str, *, issued_at: float, audience: Audience
) -> Directive:
    return Directive(
        id=directive_id,
        title=draft.title,
        body=draft.body,
        kind=draft.kind,
        needs=draft.needs,
        priority=draft.priority,  # type: ignore[arg-type]
        due=draft.due,
        expires_at=draft.expires_at,
        issued_at=issued_at,
        issued_by=draft.issued_by,
        audience=audience,
        forced_from=draft.forced_from,
        reasons=list(draft.reasons),
        remind=list(draft.remind),
        supersedes=draft.supersedes,
        undoes=draft.undoes,
    )


def as_written(document: Directive) -> Directive:
    """What was sent as it was before: without its time and the channels that it went to."""
    audience = document.audience
    if audience is not None:
        audience = msgspec.structs.replace(audience, channels=[])
    return msgspec.structs.replace(document, issued_at=0.0, audience=audience)


def read(data: bytes) -> Directive:
    """A directive that HQ wrote itself."""
    return msgspec.json.decode(data, type=Directive)


def encode(document: Directive) -> bytes:
    """The bytes of a directive.

    Raises:
        HqError: It is too large, or a text is too long for its field.
    """
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


def insert(
    connection: sqlite3.Connection,
    document: Directive,
    doc_no: int,
    state: DirectiveState,
    *,
    adopted_at: float | None = None,
) -> int:
    """Insert the row of a directive. Returns its number."""
    audience = document.audience or Audience(mailboxes=0, digest="")
    row = row_of(document) | {
        "doc_no": doc_no,
        "state": state.value,
        "mailboxes": audience.mailboxes,
        "digest": audience.digest,
        "adopted_at": adopted_at,
    }
    cursor = connection.execute(
        f"INSERT INTO directive ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
        list(row.values()),
    )
    return int(cursor.lastrowid or 0)


def row_of(document: Directive) -> dict[str, Any]:
    """What the row of a directive says of its document."""
    return {
        "id": document.id,
        "title": document.title,
        "kind": document.kind,
        "needs": document.needs.value,
        "priority": document.priority,
        "due": document.due,
        "expires_at": document.expires_at,
        "issued_at": document.issued_at,
        "issued_by": document.issued_by,
        "forced_from": document.forced_from,
    }


def may_be_id(text: str) -> bool:
    """Whether it could be how the id of a directive begins."""
    prefix = text.strip().lower()
    return len(prefix) >= _PREFIX and set(prefix) <= set("0123456789abcdef")


def find(connection: sqlite3.Connection, text: str) -> int:
    """The number of the directive whose id begins so.

    Raises:
        HqError: None does, or several do.
    """
    prefix = text.strip().lower()
    if not may_be_id(text):
        raise HqError(
            f"{text!r} is not the id of a directive",
            hint=f"give at least its first {_PREFIX} characters; hq status lists them,"
            " hq search finds one by its words",
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


EXPIRING = (
    f"SELECT no FROM directive WHERE state IN {LIVE_STATES} AND expires_at IS NOT NULL"
    " AND expires_at <= ? ORDER BY expires_at LIMIT ?"
)


def expiring(connection: sqlite3.Connection, at: float, *, most: int) -> list[int]:
    """Those whose time is over and that are not expired yet, the longest over first."""
    return [no for (no,) in connection.execute(EXPIRING, (at, most))]


def expire(
    connection: sqlite3.Connection,
    directive_no: int,
    *,
    organisation: Callable[[], Organisation],
    at: float,
    new_id: NewId,
) -> None:
    """Close a directive whose time is over."""
    steps.move(connection, directive_no, Action.EXPIRE, at=at)
    if deliveries.close_open(connection, directive_no, State.EXPIRED, at=at):
        change = StateChange(
            directive=id_of(connection, directive_no), state=State.EXPIRED, changed_at=at
        )
        doc_no = channels.add_doc(connection, "state", encode_data(change))
        uses = reach.cover_of_audience(connection, directive_no, organisation())
        channels.append(connection, uses, doc_no, at=at, new_id=new_id)


NEXT_EXPIRY = (
    f"SELECT min(expires_at) FROM directive WHERE state IN {LIVE_STATES} AND expires_at IS NOT NULL"
)


def next_expiry(connection: sqlite3.Connection) -> float | None:
    """When the next directive expires, in Unix time."""
    row = connection.execute(NEXT_EXPIRY).fetchone()
    return None if row is None else row[0]


def tell_siblings(
    connection: sqlite3.Connection,
    directive_id: str,
    store_id: str,
    role: str,
    state: State,
    *,
    by: str,
    reason: str = "",
    code: str = "",
    at: float,
    new_id: NewId,
) -> None:
    """Let a store's other devices know what one of them said."""
    change = StateChange(
        directive=directive_id,
        state=state,
        changed_at=at,
        changed_by=by,
        reason=reason,
        code=code,
    )
    doc_no = channels.add_doc(connection, "state", encode_data(change))
    channels.append(connection, (Channel.of_store(store_id, role),), doc_no, at=at, new_id=new_id)


def id_of(connection: sqlite3.Connection, directive_no: int) -> str:
    """The id of a directive."""
    row = connection.execute("SELECT id FROM directive WHERE no = ?", (directive_no,)).fetchone()
    return str(row[0])


def number_of(connection: sqlite3.Connection, directive_id: str) -> int | None:
    """The number of a directive that HQ knows to have sent.

    A store that speaks of one that this ledger has only planned knows better: it is an older copy.
    """
    row = connection.execute(
        "SELECT no FROM directive WHERE id = ? AND issued_at > 0", (directive_id,)
    ).fetchone()
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
