"""The writing end of a device's log, against an outbox that is a list."""

import random

import pytest

from buswire.cursors import START, Cursor, Misfit, advance, fit
from buswire.messages import BATCH_BYTES, BATCH_RECORDS, Records
from buswire.uplink import Settled, UplinkWriter
from tests.wire.words import ListDesk, cursor, id_of


def _writer(desk: ListDesk, at: Cursor = START, *, window: int = 8) -> UplinkWriter:
    writer = UplinkWriter("act", START, 0, window=window)
    writer.rebase(at, desk)
    return writer


def _numbers(message: Records | None) -> list[int]:
    assert message is not None
    return [int(record.id, 16) for record in message.records]


def test_records_follow_the_cursor_that_hq_gave() -> None:
    """Numbers on the wire go on from HQ's, whatever the positions are."""
    desk = ListDesk()
    desk.add("act", 11, 12, 13)
    writer = UplinkWriter("act", START, 0, window=8)
    settled, known = writer.rebase(Cursor(40, id_of(11)), desk)
    assert (settled, known) == (Settled("act", Cursor(40, id_of(11)), 1), True)
    message = writer.next(desk)
    assert message is not None
    assert message.after == Cursor(40, id_of(11))
    assert _numbers(message) == [12, 13]
    assert writer.next(desk) is None


def test_a_cursor_that_is_not_known_sends_everything_again() -> None:
    """HQ or this device is an older copy: HQ drops what it has by id, and nothing is missed."""
    desk = ListDesk()
    desk.add("act", 1, 2, 3)
    writer = UplinkWriter("act", cursor(2), 2, window=8)
    settled, known = writer.rebase(Cursor(7, id_of(999)), desk)
    assert (settled, known) == (Settled("act", Cursor(7, id_of(999)), 0), False)
    message = writer.next(desk)
    assert message is not None
    assert message.after == Cursor(7, id_of(999))
    assert _numbers(message) == [1, 2, 3]
    settled, known = writer.rebase(Cursor(7, id_of(999)), desk)
    assert (settled.position, known) == (0, True), "what was saved of it is believed from then on"


def test_a_cursor_at_the_start_sends_everything_again_and_is_known() -> None:
    """A ledger that never heard of the device gets all that is kept."""
    desk = ListDesk()
    desk.add("act", 1, 2)
    writer = UplinkWriter("act", cursor(2), 2, window=8)
    assert writer.rebase(START, desk) == (Settled("act", START, 0), True)
    assert _numbers(writer.next(desk)) == [1, 2]


def test_the_cursor_as_it_was_costs_no_look_up() -> None:
    """A record that was let go since does not make the two strangers."""
    desk = ListDesk()
    desk.add("act", 1, 2, 3)
    desk.rows["act"][1] = None
    writer = UplinkWriter("act", cursor(2), 2, window=8)
    assert writer.rebase(cursor(2), desk) == (Settled("act", cursor(2), 2), True)
    assert _numbers(writer.next(desk)) == [3]


@pytest.mark.parametrize("later", [0, 5])
def test_an_outbox_without_what_was_acknowledged_is_an_older_copy(later: int) -> None:
    """Put together from files of two moments, it would take what is said next for acknowledged."""
    desk = ListDesk()
    desk.add("act", 1, 2, 3, *range(20, 20 + later))
    writer = UplinkWriter("act", cursor(7), 7, window=8)
    settled, known = writer.rebase(cursor(7), desk)
    assert (settled, known) == (Settled("act", cursor(7), 0), False)
    assert _numbers(writer.next(desk)) == [1, 2, 3, *range(20, 20 + later)]


def test_what_is_under_way_is_bounded_by_the_window() -> None:
    """So many messages and no more, each cut by rows and by bytes, none left out between them."""
    desk = ListDesk()
    desk.add("act", *range(1, 3 * BATCH_RECORDS + 1))
    writer = _writer(desk, window=2)
    assert _numbers(writer.next(desk)) == list(range(1, BATCH_RECORDS + 1))
    assert _numbers(writer.next(desk)) == list(range(BATCH_RECORDS + 1, 2 * BATCH_RECORDS + 1))
    assert writer.next(desk) is None
    assert not writer.idle
    assert writer.acknowledge(cursor(BATCH_RECORDS), desk)
    assert _numbers(writer.next(desk))[0] == 2 * BATCH_RECORDS + 1

    desk = ListDesk()
    desk.add("act", 1, 2, 3, data=b'"' + b"x" * (BATCH_BYTES // 2) + b'"')
    assert _numbers(_writer(desk).next(desk)) == [1]


def test_an_acknowledgement_inside_a_message_counts_that_far() -> None:
    """HQ may have taken a message that was cut elsewhere; the window opens when all of it is in."""
    desk = ListDesk()
    desk.add("act", 1, 2, 3)
    writer = _writer(desk, window=1)
    writer.next(desk)
    assert writer.acknowledge(cursor(2), desk) == Settled("act", cursor(2), 2)
    assert not writer.idle
    assert writer.next(desk) is None
    assert writer.acknowledge(cursor(3), desk) == Settled("act", cursor(3), 3)
    assert writer.idle


def test_an_old_acknowledgement_is_passed_over() -> None:
    """Twice or late: it makes sense and changes nothing."""
    desk = ListDesk()
    desk.add("act", 1, 2, 3)
    writer = _writer(desk)
    writer.next(desk)
    assert isinstance(writer.acknowledge(cursor(2), desk), Settled)
    assert writer.acknowledge(cursor(2), desk) is True
    assert writer.acknowledge(cursor(1), desk) is True
    assert writer.acked == cursor(2)


def test_an_impossible_acknowledgement_is_said_to_be_one() -> None:
    """Never sent, of an unknown id, or before anything was sent: nothing is settled by it."""
    desk = ListDesk()
    desk.add("act", 1, 2, 3)
    writer = _writer(desk)
    assert writer.acknowledge(cursor(1), desk) is False
    writer.next(desk)
    desk.add("act", 4)
    assert writer.acknowledge(cursor(4), desk) is False
    assert writer.acknowledge(Cursor(2, id_of(77)), desk) is False
    assert writer.acknowledge(Cursor(9, id_of(2)), desk) is False
    assert writer.acknowledge(Cursor(2, id_of(4)), desk) is False
    assert (writer.acked, writer.position) == (START, 0)


def test_a_rebase_forgets_what_was_under_way() -> None:
    """After a welcome all that HQ's cursor does not cover is sent again."""
    desk = ListDesk()
    desk.add("act", 1, 2)
    writer = _writer(desk)
    writer.next(desk)
    writer.rebase(cursor(1), desk)
    assert writer.idle
    assert _numbers(writer.next(desk)) == [2]


def test_whatever_is_lost_doubled_or_late_hq_has_each_record_once() -> None:
    """Random losses, repeats and welcomes, and now and then an older ledger: all arrive, once."""
    seed = random.randrange(2**32)
    for case in range(60):
        try:
            _run_badly(random.Random(seed + case))
        except Exception as error:
            raise AssertionError(f"seed {seed + case}") from error


def _run_badly(draw: random.Random) -> None:
    desk = ListDesk()
    total = draw.randrange(1, 30)
    writer = _writer(desk, window=2)
    ledger = (START, frozenset[str]())
    backup = ledger
    wire: list[Records] = []
    acks: list[Cursor] = []
    added = 0
    for step in range(4000):
        calm = step > 300
        if added < total and draw.random() < 0.3:
            added += 1
            desk.add("act", added)
        while (message := writer.next(desk)) is not None:
            wire += [message] * (1 if calm else draw.choice((0, 1, 1, 2)))
        if wire:
            message = wire.pop(0 if calm else draw.randrange(len(wire)))
            ids = [record.id for record in message.records]
            taken = fit(ledger[0], message.after, ids)
            if not isinstance(taken, Misfit):
                ledger = (advance(message.after, ids), ledger[1] | set(ids[taken:]))
            acks.append(ledger[0])
        if acks and (calm or draw.random() < 0.7):
            writer.acknowledge(acks.pop(0), desk)
        if not calm and draw.random() < 0.05:
            backup = ledger
        if not calm and draw.random() < 0.03:
            ledger = backup
        if draw.random() < 0.05:
            writer.rebase(ledger[0], desk)
        if calm and added == total and len(ledger[1]) == total and writer.acked == ledger[0]:
            return
    raise AssertionError(f"{len(ledger[1])} of {total} arrived")
