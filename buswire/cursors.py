"""Logs and cursors: how a reader knows that what it was sent follows what it has.

A log is dense from 1, append-only and never restarted; each record has a number and an id that is
unique for ever. A reader keeps one cursor: number and id of the last record it saved without a gap.
The number finds the place; the id proves that both sides mean the same log, so that a database put
back from an older copy, on either side, shows at once.
"""

import enum
from collections.abc import Sequence
from typing import Annotated

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
CursorId = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Number and id of a record; also the version of a device's channel set, which is one too."""

    seq: Number
    id: CursorId


START = Cursor(0, "")


class Misfit(enum.Enum):
    """Why nothing of a message can be taken."""

    DUPLICATE = "all of it lies at or before the cursor"
    GAP = "it does not follow the cursor: something is missing, or one side is an older copy"


def fit(cursor: Cursor, after: Cursor, ids: Sequence[str]) -> int | Misfit:
    """How many leading records of a message the reader already has.

    The message's records are numbered on from `after`. The reader takes `ids[n:]` of them.

    Args:
        cursor: What the reader has.
        after: The record that the first one of the message follows, as the writer says.
        ids: The records' ids, in order.

    Returns:
        The number of leading records to pass over, or why none can be taken.
    """
    skip = cursor.seq - after.seq
    if skip < 0:
        return Misfit.GAP
    if skip >= len(ids) and (skip > len(ids) or not ids or ids[-1] == cursor.id):
        return Misfit.DUPLICATE
    known = after.id if skip == 0 else ids[skip - 1]
    if known != cursor.id:
        return Misfit.GAP
    return skip


def advance(after: Cursor, ids: Sequence[str]) -> Cursor:
    """The cursor behind these records."""
    return Cursor(after.seq + len(ids), ids[-1]) if ids else after
