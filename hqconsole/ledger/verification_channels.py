"""Checks HQ's own logs, the channels: dense to their heads, and every document in its place.

The channels are what devices are told from. What was sealed and issued stands in at least one; a
document that nothing refers to is one whose directive or withdrawal was taken out.
"""

import sqlite3

from hqconsole.ledger.verification_context import MisfitError

HEADS = (
    "SELECT name, head_seq, lower(head_id), entries, last, lower(hex(channel_log.id)) FROM channel"
    " LEFT JOIN (SELECT channel_no, count(*) AS entries, max(seq) AS last FROM channel_log"
    " GROUP BY channel_no) AS logs ON logs.channel_no = channel.no"
    " LEFT JOIN channel_log ON channel_log.channel_no = channel.no AND seq = head_seq"
)
STRAYS = (
    "SELECT doc.no, kind FROM doc"
    " WHERE kind = 'directive' AND no NOT IN (SELECT doc_no FROM directive)"
    " OR kind = 'cancel' AND no NOT IN (SELECT doc_no FROM cancel) LIMIT 1"
)
UNTOLD = (
    "SELECT id FROM directive WHERE adopted_at IS NULL AND mailboxes > 0 AND issued_at > 0"
    " AND no NOT IN (SELECT directive_no FROM wave)"
    " AND no NOT IN (SELECT directive_no FROM archived)"
    " AND doc_no NOT IN (SELECT doc_no FROM channel_log) LIMIT 1"
)


def check_channels(connection: sqlite3.Connection) -> None:
    """Look at all channels, and at all documents.

    Raises:
        MisfitError: Something was taken out or put in.
    """
    for name, head_seq, head_id, entries, last, last_id in connection.execute(HEADS):
        if not head_seq == entries == last or head_id != last_id:
            raise MisfitError(
                "channel",
                f"channel {name}",
                f"its head is at {head_seq} and it has {entries or 0} entries up to {last or 0}:"
                " some were taken out, put in or exchanged",
            )
    stray = connection.execute(STRAYS).fetchone()
    if stray is not None:
        raise MisfitError(
            "document",
            f"document {stray[0]}, a {stray[1]}",
            "nothing refers to it: what it was the text of was taken out",
        )
    untold = connection.execute(UNTOLD).fetchone()
    if untold is not None:
        raise MisfitError(
            "channel",
            f"directive {untold[0][:8]}",
            "it was issued and is on no channel: entries were taken out or exchanged",
        )
