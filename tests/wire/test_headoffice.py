"""HQ's decisions: replay or snapshot, and what may have died with a disk."""

from collections.abc import Mapping

import pytest

from buswire.cursors import START, Cursor
from buswire.headoffice import Renew, Replay, entries_lost, has_forgotten, judge
from buswire.messages import Backlog, Hello
from buswire.topics import Channel
from tests.wire.words import cursor, id_of

ALL = Channel("all", "any")
OWN = Channel("store/S1", "any")
VERSION = Cursor(3, id_of(300))
HEADS = {ALL: cursor(9), OWN: START}


class Logs:
    """Logs in which the id of each record is its number."""

    def __init__(self) -> None:
        self.looked = 0

    def id_at(self, channel: Channel, seq: int) -> str | None:
        """The id there."""
        self.looked += 1
        return id_of(seq) if 0 < seq <= HEADS[channel].seq else None


def _hello(cursors: Mapping[str, Cursor], set_version: Cursor = VERSION) -> Hello:
    return Hello(
        nonce=id_of(1),
        run=id_of(2),
        install=id_of(3),
        set_version=set_version,
        cursors=dict(cursors),
    )


def _judge(hello: Hello, most_records: int = 100) -> Replay | Renew:
    return judge(hello, set_version=VERSION, heads=HEADS, logs=Logs(), most_records=most_records)


@pytest.mark.parametrize("seq", [0, 1, 8, 9])
def test_cursors_that_stand_in_the_logs_are_replayed_from(seq: int) -> None:
    """From the beginning, from the middle and from the head."""
    found = _judge(_hello({"all/any": cursor(seq), "store/S1/any": START}))
    assert found == Replay({ALL: cursor(seq), OWN: START})


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (_hello({"all/any": cursor(9), "store/S1/any": START}, Cursor(2, id_of(200))), "set"),
        (_hello({"all/any": cursor(9), "store/S1/any": START}, Cursor(3, id_of(301))), "set"),
        (_hello({"all/any": cursor(9), "store/S1/any": START}, START), "set"),
        (_hello({"all/any": cursor(9)}), "other channels"),
        (_hello({"all/any": cursor(9), "store/S2/any": START}), "other channels"),
        (_hello({}), "other channels"),
        (_hello({"all/any": cursor(9), "nonsense": START}), "cannot be read"),
        (_hello({"all/any": cursor(10), "store/S1/any": START}), "ahead in all/any"),
        (_hello({"all/any": cursor(9), "store/S1/any": cursor(1)}), "ahead in store/S1/any"),
        (_hello({"all/any": Cursor(9, id_of(90)), "store/S1/any": START}), "another history"),
        (_hello({"all/any": Cursor(4, id_of(90)), "store/S1/any": START}), "another history"),
        (_hello({"all/any": Cursor(4, ""), "store/S1/any": START}), "another history"),
    ],
)
def test_anything_else_is_renewed_and_says_why(hello: Hello, reason: str) -> None:
    """Another version of the set (there and back), other channels, and logs of other histories."""
    found = _judge(hello)
    assert isinstance(found, Renew)
    assert reason in found.reason


def test_who_is_too_far_behind_is_renewed() -> None:
    """The bound counts the records of all channels together."""
    hello = _hello({"all/any": cursor(2), "store/S1/any": START})
    assert isinstance(_judge(hello, most_records=7), Replay)
    assert _judge(hello, most_records=6) == Renew("7 records behind")


def test_a_store_without_channels_is_replayed_nothing() -> None:
    """A closed store's device is answered, and has nothing to catch up with."""
    logs = Logs()
    found = judge(_hello({}), set_version=VERSION, heads={}, logs=logs, most_records=1)
    assert (found, logs.looked) == (Replay({}), 0)


@pytest.mark.parametrize(
    ("heard_head", "at", "backlog", "lost"),
    [
        (0, START, Backlog(), 0),
        (10, cursor(10), Backlog(acked=cursor(10)), 0),
        (10, cursor(7), Backlog(acked=cursor(7), pending=3), 0),
        (10, cursor(7), Backlog(acked=cursor(7), pending=9), 0),
        (10, cursor(7), Backlog(), 3),
        (10, cursor(7), Backlog(acked=cursor(7), pending=1), 2),
        (10, cursor(10), Backlog(), 0),
        (10, cursor(2), Backlog(acked=cursor(6), pending=4), 0),
    ],
)
def test_what_hq_heard_of_and_nobody_has_is_lost(
    heard_head: int, at: Cursor, backlog: Backlog, lost: int
) -> None:
    """The highest head ever heard, less what HQ has or the device still knows of."""
    assert entries_lost(heard_head=heard_head, cursor=at, backlog=backlog) == lost


def test_a_new_disk_has_none_of_what_was_heard_of() -> None:
    """What a device set up anew has to say does not stand in for what died with its old disk."""
    anew = Backlog(pending=5)
    assert entries_lost(heard_head=10, cursor=cursor(7), backlog=anew, new_disk=True) == 3
    assert entries_lost(heard_head=7, cursor=cursor(7), backlog=anew, new_disk=True) == 0


@pytest.mark.parametrize(
    ("cursors", "forgotten"),
    [
        ({}, False),
        ({"all/any": START}, False),
        ({"all/any": cursor(9)}, False),
        ({"all/any": cursor(3), "nonsense": cursor(4)}, False),
        ({"all/any": cursor(10)}, True),
        ({"all/any": Cursor(9, id_of(90))}, True),
        ({"nonsense": START, "store/S1/any": cursor(1)}, True),
    ],
)
def test_hq_knows_when_it_has_forgotten(cursors: dict[str, Cursor], forgotten: bool) -> None:
    """A record that a device has read and HQ's logs do not have was forgotten here."""
    assert has_forgotten(_hello(cursors), Logs()) is forgotten
