"""Taking back a directive that this ledger has forgotten, from a device that kept it.

The ledger is an older copy then. It may know nothing of the directive, or only that it was planned,
or that it went to fewer than it did. In each case the stores are right: what they have was sent.
"""

import sqlite3
from collections.abc import Collection, Iterable

from buswire.errors import WireError
from buswire.messages import Audience, Directive, StateChange, encode_data
from buswire.states import State
from buswire.topics import ALL_PLACE, Channel
from hqconsole.audience import Mailbox, Organisation, cover
from hqconsole.ledger import (
    archived,
    channels,
    deliveries,
    directives,
    steps,
    waves,
    withdrawing,
)
from hqconsole.ledger.directives import NewId
from hqconsole.ledger.organisation import mailbox_numbers
from hqconsole.ledger.steps import ADOPT
from hqconsole.lifecycle import UNSENT, Action, DirectiveState

MAILBOX_NO = (
    "SELECT mailbox.no FROM mailbox JOIN store ON store.no = store_no"
    " WHERE store.id = ? AND role = ?"
)


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
    """Take back a directive that this ledger does not know to have been sent.

    The audience is put together from the channels that the directive names, under today's roster,
    and from the mailbox that sent it. It is issued again on those channels: whoever has it drops
    it by its id, and whoever was not reached before is reached now. What was planned for others
    goes on by its plan. A withdrawal that came back first takes effect at once.

    Returns:
        The directive's number. Idempotent.
    """
    known = directives.number_of(connection, document.id)
    if known is not None:
        row = connection.execute(MAILBOX_NO, sender).fetchone()
        if row is not None:
            count_in(connection, known, row[0], at=at, new_id=new_id)
        return known
    numbers = mailbox_numbers(connection)
    audience = document.audience or Audience(mailboxes=0, digest="")
    reached = set(_mailboxes_in(audience.channels, organisation))
    if sender in numbers:
        reached.add(sender)
    doc_no = channels.add_doc(connection, "directive", data, seal=seal)
    planned_no = connection.execute(
        "SELECT no FROM directive WHERE id = ?", (document.id,)
    ).fetchone()
    wanted = sorted(numbers[mailbox] for mailbox in reached)
    if planned_no is None:
        no = directives.insert(connection, document, doc_no, DirectiveState.ISSUED, adopted_at=at)
        deliveries.add(connection, no, wanted)
        steps.record(connection, no, ADOPT, DirectiveState.ISSUED, at=at)
    else:
        (no,) = planned_no
        _take_over(connection, no, wanted, doc_no, document, at=at)
    present = {mailbox for mailbox in reached if organisation.has(mailbox)}
    uses = [use.channel for use in cover(present, organisation)]
    channels.append(connection, uses, doc_no, at=at, new_id=new_id)
    tombstone = withdrawing.kept(connection, document.id)
    if tombstone is not None:
        withdrawing.carry_out(
            connection, no, *tombstone, organisation=organisation, at=at, new_id=new_id
        )
    return no


def _take_over(
    connection: sqlite3.Connection,
    directive_no: int,
    mailbox_nos: Collection[int],
    doc_no: int,
    document: Directive,
    *,
    at: float,
) -> None:
    """A directive that is only planned here has been sent: stores have it. Go on from there.

    Args:
        connection: With a write transaction open.
        directive_no: Which.
        mailbox_nos: Who has it, or was meant to have it by its document.
        doc_no: The document as it was sent.
        document: The same, read.
        at: Unix time.
    """
    archived.forget(connection, directive_no)
    row = directives.row_of(document) | {"doc_no": doc_no}
    connection.execute(
        f"UPDATE directive SET {', '.join(f'{name} = ?' for name in row)} WHERE no = ?",
        (*row.values(), directive_no),
    )
    waves.take(connection, directive_no, mailbox_nos)
    state = steps.state_of(connection, directive_no)
    if state in UNSENT or state is DirectiveState.EXPIRED:
        # One that expired here before it went out has a time of its own: the hub ends it again.
        more = waves.is_planned(connection, directive_no)
        state = DirectiveState.ROLLING if more else DirectiveState.ISSUED
        connection.execute(
            "UPDATE directive SET state = ?, closed_at = NULL WHERE no = ?",
            (state.value, directive_no),
        )
        connection.execute(
            "UPDATE wave SET began_at = coalesce(began_at, ?1), sent_at = ?1"
            " WHERE directive_no = ?2 AND NOT EXISTS (SELECT 1 FROM planned"
            " WHERE planned.directive_no = ?2 AND planned.wave_no = wave.no)",
            (at, directive_no),
        )
        waves.look_again(connection, directive_no, at)
    steps.record(connection, directive_no, ADOPT, state, at=at)


def count_in(
    connection: sqlite3.Connection, directive_no: int, mailbox_no: int, *, at: float, new_id: NewId
) -> bool:
    """Count a mailbox in that proves to have the directive, where HQ forgot that it sent it there.

    Its store's devices are told, as not all of them need to have it: one may have lost its disk.
    Idempotent.

    Returns:
        Whether it was counted in just now; never where HQ knows the audience itself, nor when the
        directive has left for an archive.
    """
    if archived.is_archived(connection, directive_no):
        return False
    directive_id, doc_no, state, closed_at, adopted_at = connection.execute(
        "SELECT id, doc_no, state, closed_at, adopted_at FROM directive WHERE no = ?",
        (directive_no,),
    ).fetchone()
    if deliveries.exists(connection, directive_no, mailbox_no):
        return False
    if not waves.take(connection, directive_no, [mailbox_no]):
        if adopted_at is None:
            return False
        deliveries.add(connection, directive_no, [mailbox_no])
    match DirectiveState(state):
        case DirectiveState.CANCELLED | DirectiveState.SUPERSEDED:
            deliveries.close_open(connection, directive_no, State.CANCELLED, at=closed_at)
            tombstone = withdrawing.kept(connection, directive_id)
            assert tombstone is not None  # nothing else leads to these states
            doc_no = tombstone[1]
        case DirectiveState.EXPIRED:
            deliveries.close_open(connection, directive_no, State.EXPIRED, at=closed_at)
            change = StateChange(directive=directive_id, state=State.EXPIRED, changed_at=closed_at)
            doc_no = channels.add_doc(connection, "state", encode_data(change))
        case DirectiveState.COMPLETED:
            steps.move(connection, directive_no, Action.REOPEN, at=at)
        case _:
            pass
    store_id, role = connection.execute(
        "SELECT store.id, role FROM mailbox JOIN store ON store.no = store_no WHERE mailbox.no = ?",
        (mailbox_no,),
    ).fetchone()
    place = Channel.of_store(store_id, role)
    channels.append(connection, (place,), doc_no, at=at, new_id=new_id)
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
