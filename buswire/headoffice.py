"""HQ's end of the protocol: what a hello is answered with, and what of a device's records is taken.

Owns the decisions only; reading the ledger, making the answer's messages and sending them is the
hub's. Knows no clock and no I/O: the ledger comes in as `ChannelLogs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from buswire.cursors import Cursor
from buswire.errors import WireError
from buswire.messages import Backlog, Hello
from buswire.topics import Channel


class ChannelLogs(Protocol):
    """What is read of the ledger's channel logs."""

    def id_at(self, channel: Channel, seq: int) -> str | None:
        """The id of that record, or None where the log has no such number."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The device's cursors all stand in HQ's logs: send on from them, densely."""

    after: Mapping[Channel, Cursor]


@dataclass(frozen=True, slots=True)
class Renew:
    """Replay would not do: send a snapshot."""

    reason: str


def judge(
    hello: Hello,
    *,
    set_version: Cursor,
    heads: Mapping[Channel, Cursor],
    logs: ChannelLogs,
    most_records: int,
) -> Replay | Renew:
    """Decide between replay and snapshot.

    Replay is right only where the device's channel set and every cursor are those of HQ's present
    history, by number and id. The version of the set is compared, not only the set: a store that
    went from east to west and back has missed what was issued to it in between.

    Args:
        hello: What the device says.
        set_version: The present version of the store's channel set.
        heads: The device's channels with their heads.
        logs: The ledger's logs.
        most_records: A device further behind than this gets a snapshot.
    """
    if hello.set_version != set_version:
        return Renew("another channel set")
    try:
        said = {Channel.parse(text): cursor for text, cursor in hello.cursors.items()}
    except WireError:
        return Renew("cursors that cannot be read")
    if said.keys() != heads.keys():
        return Renew("other channels")
    behind = 0
    for channel, cursor in said.items():
        head = heads[channel]
        if cursor.seq > head.seq:
            return Renew(f"ahead in {channel}")
        if cursor.seq and logs.id_at(channel, cursor.seq) != cursor.id:
            return Renew(f"of another history in {channel}")
        behind += head.seq - cursor.seq
    if behind > most_records:
        return Renew(f"{behind} records behind")
    return Replay(said)


def has_forgotten(hello: Hello, logs: ChannelLogs) -> bool:
    """Whether the device has read records that HQ's logs do not have any more.

    Then the ledger is an older copy, and what was said since it was made is to be had from devices
    only. (A device that is an older copy itself has read nothing that HQ does not have.)
    """
    for text, cursor in hello.cursors.items():
        try:
            channel = Channel.parse(text)
        except WireError:
            continue
        if cursor.seq and logs.id_at(channel, cursor.seq) != cursor.id:
            return True
    return False


def entries_lost(
    *, heard_head: int, cursor: Cursor, backlog: Backlog, new_disk: bool = False
) -> int:
    """How many entries of a log may have died with the device's disk; 0 when all is accounted for.

    HQ remembers the highest number that it heard the device's log reach. A device which now knows
    of fewer entries was wiped or put back from an older copy, and what lay between HQ's cursor and
    that number is not to be had any more.

    Args:
        heard_head: The highest head that HQ heard of, in HQ's numbers.
        cursor: HQ's cursor in the log.
        backlog: What the device says of the log now.
        new_disk: The device was set up anew: whatever is pending there is not what was heard of.
    """
    reaches = 0 if new_disk else backlog.acked.seq + backlog.pending
    return max(0, heard_head - max(reaches, cursor.seq))
