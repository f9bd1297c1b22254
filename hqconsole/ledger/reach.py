"""Which channels reach those that have a directive."""

import sqlite3

from buswire.topics import Channel
from hqconsole.cover import cover
from hqconsole.ledger import archived
from hqconsole.organisation import Mailbox, Organisation


def cover_of_audience(
    connection: sqlite3.Connection, directive_no: int, organisation: Organisation
) -> tuple[Channel, ...]:
    """The cheapest channels that reach whom it was sent to, under today's roster."""
    mailboxes = {
        mailbox
        for store_id, role in connection.execute(
            "SELECT store.id, role FROM delivery JOIN mailbox ON mailbox.no = mailbox_no"
            " JOIN store ON store.no = store_no WHERE directive_no = ?",
            (directive_no,),
        )
        if organisation.has(mailbox := Mailbox(store_id, role))
    }
    mailboxes |= {
        mailbox
        for mailbox in archived.mailboxes(connection, directive_no)
        if organisation.has(mailbox)
    }
    return tuple(use.channel for use in cover(mailboxes, organisation))
