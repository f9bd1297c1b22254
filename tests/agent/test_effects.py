"""How HQ's words take effect, rule by rule."""

import random

import msgspec
import pytest

from buswire.messages import Directive, Record, encode_data
from buswire.states import CLOSED_BY_HQ, Needs, State
from storeagent.statements import Outcome
from tests.agent.words import (
    ALL_ANY,
    ALL_MANAGER,
    CHANNELS,
    STORE_ANY,
    STORE_MANAGER,
    Bench,
    directive,
    ids,
)


@pytest.fixture
def bench() -> Bench:
    """A device's tables in memory."""
    return Bench()


# --- directives ----------------------------------------------------------------------------------


def test_a_directive_is_saved_and_receipted_once(bench: Bench) -> None:
    """A new directive is delivered, with one receipt in the same transaction."""
    bench.take(ALL_ANY, bench.words.issue())
    assert bench.state() is State.DELIVERED
    assert bench.receipts() == ["delivered"]


def test_the_same_record_takes_effect_once(bench: Bench) -> None:
    """A record id that was taken is passed over, and the cursor moves all the same."""
    record = bench.words.issue()
    bench.take(ALL_ANY, record)
    bench.take(ALL_ANY, record)
    assert bench.receipts() == ["delivered"]
    assert bench.memory.cursors()[ALL_ANY].seq == 2


def test_one_directive_for_two_roles_is_two_deliveries_of_one_body(bench: Bench) -> None:
    """Deliveries are per mailbox, the body is kept once."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(ALL_MANAGER, bench.words.issue())
    assert [row.role for row in bench.inbox.deliveries(ids("d", 1))] == ["any", "manager"]
    assert bench.receipts() == ["delivered", "delivered"]


def test_the_bytes_are_kept_as_they_came(bench: Bench) -> None:
    """A directive is kept byte for byte, with fields that this version does not know."""
    raw = encode_data(directive())[:-1] + b' , "later_version": [1] }'
    bench.take(ALL_ANY, bench.words.record("directive", raw))
    assert bench.inbox.directive_data(ids("d", 1)) == raw
    bench.reset()
    bench.answer("unknown")
    original = bench.outbox.entries("act", after=1, most=1, most_bytes=1)[0].record
    assert raw in bytes(original.data)


def test_a_second_record_of_an_open_directive_changes_nothing(bench: Bench) -> None:
    """HQ may say it again; what is open and read stays read."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.statements.read(ids("d", 1), "any")
    bench.take(STORE_ANY, bench.words.issue())
    assert bench.state() is State.READ
    assert bench.receipts() == ["delivered", "read"]


@pytest.mark.parametrize("closing", sorted(CLOSED_BY_HQ - {State.CANCELLED}))
def test_a_new_record_reopens_what_hq_closed(bench: Bench, closing: State) -> None:
    """A new record id is a new word of HQ: open again, said delivered again, work again."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(STORE_ANY, bench.words.change(closing))
    assert not bench.row().todo
    bench.acknowledge()
    arrival = bench.row().arrival
    bench.take(ALL_ANY, bench.words.issue())
    assert bench.state() is State.DELIVERED
    assert bench.row().open
    assert bench.row().arrival > arrival
    assert bench.receipts() == ["delivered", "delivered"]


def test_what_this_device_finished_does_not_reopen(bench: Bench) -> None:
    """The device's own done is not undone by expiry, nor by a new record after it."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.statements.done(ids("d", 1), "any")
    bench.take(STORE_ANY, bench.words.change(State.EXPIRED))
    assert bench.state() is State.DONE
    bench.take(ALL_ANY, bench.words.issue())
    assert bench.state() is State.DONE


# --- withdrawals ---------------------------------------------------------------------------------


def test_a_withdrawal_covers_every_role(bench: Bench) -> None:
    """A cancel on one channel closes the deliveries of all roles, save what was finished here."""
    for number in (1, 2):
        bench.take(ALL_ANY, bench.words.issue(number))
        bench.take(ALL_MANAGER, bench.words.issue(number))
    bench.statements.done(ids("d", 2), "manager")
    bench.take(ALL_ANY, bench.words.cancel(1), bench.words.cancel(2))
    assert bench.state(1, "any") is State.CANCELLED
    assert bench.state(1, "manager") is State.CANCELLED
    assert bench.state(2, "any") is State.CANCELLED
    assert bench.state(2, "manager") is State.DONE


def test_a_withdrawal_leaves_what_another_device_finished(bench: Bench) -> None:
    """HQ counted it before it withdrew, so the list says done in whatever order the two came."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(STORE_ANY, bench.words.change(State.DONE))
    bench.take(ALL_ANY, bench.words.cancel())
    assert bench.state() is State.DONE


def test_a_withdrawal_that_comes_first_wins(bench: Bench) -> None:
    """A directive after its cancel is never shown as work, and HQ gets the cancel back."""
    bench.take(STORE_ANY, bench.words.cancel())
    bench.take(ALL_ANY, bench.words.issue())
    assert bench.state() is State.CANCELLED
    assert not bench.row().todo
    assert bench.receipts() == []
    assert bench.originals() == [("cancel", "any")]


def test_a_withdrawal_on_its_way_back_is_not_sent_twice(bench: Bench) -> None:
    """While the cancel waits in the outbox it is not sent again; when HQ had it and asks, it is."""
    bench.take(STORE_ANY, bench.words.cancel())
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(ALL_MANAGER, bench.words.issue())
    assert bench.originals() == [("cancel", "any")]
    bench.acknowledge()
    bench.reset(("any", State.PENDING, directive()))
    assert bench.originals() == [("cancel", "any"), ("cancel", "any")]


# --- changes of state ----------------------------------------------------------------------------


def test_what_another_device_said_moves_up_and_never_down(bench: Bench) -> None:
    """Store states merge by rank, in whatever order they come."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(STORE_ANY, bench.words.change(State.DONE), bench.words.change(State.READ))
    assert bench.state() is State.DONE
    assert bench.row().changed_by == "till-2"


def test_done_that_arrived_late_shows_after_hq_closed(bench: Bench) -> None:
    """HQ counts a done from before the expiry; a mere read does not open it again."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(STORE_ANY, bench.words.change(State.EXPIRED))
    bench.take(STORE_ANY, bench.words.change(State.READ))
    assert bench.state() is State.EXPIRED
    bench.take(STORE_ANY, bench.words.change(State.DONE))
    assert bench.state() is State.DONE
    assert not bench.row().open


def test_a_change_may_come_before_its_directive(bench: Bench) -> None:
    """Channels have no common order: what another device did first is not left as work here."""
    bench.take(STORE_ANY, bench.words.change(State.DONE))
    bench.take(ALL_ANY, bench.words.issue())
    assert bench.state() is State.DONE
    assert not bench.row().todo


def test_a_directive_behind_an_early_change_in_one_channel_is_younger(bench: Bench) -> None:
    """HQ closed a delivery and issued it anew on the same channel: it is work."""
    bench.take(STORE_ANY, bench.words.change(State.REMOVED), bench.words.issue())
    assert bench.state() is State.DELIVERED
    assert bench.row().open


def test_changes_are_for_the_role_of_their_channel(bench: Bench) -> None:
    """What the manager's mailbox did says nothing of the store's."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(ALL_MANAGER, bench.words.issue())
    bench.take(STORE_MANAGER, bench.words.change(State.DONE))
    assert bench.state(role="any") is State.DELIVERED
    assert bench.state(role="manager") is State.DONE


# --- snapshots -----------------------------------------------------------------------------------


def test_a_snapshot_replaces_cursors_and_facts(bench: Bench) -> None:
    """Set version, cursors and facts are the snapshot's."""
    bench.reset()
    assert bench.memory.set_version().seq == 2
    assert {cursor.seq for cursor in bench.memory.cursors().values()} == {9}
    assert bench.memory.facts().timezone == "Europe/Paris"


def test_open_work_that_a_snapshot_does_not_name_becomes_unsure(bench: Bench) -> None:
    """Unnamed open rows are asked about; named and closed ones are not."""
    for number in (1, 2, 3):
        bench.take(ALL_ANY, bench.words.issue(number))
    bench.statements.done(ids("d", 3), "any")
    bench.reset(("any", State.DELIVERED, directive(2)))
    assert [work.directive for work in bench.inbox.unsure(9)] == [ids("d", 1)]
    assert bench.state(1) is State.DELIVERED
    bench.reset(("any", State.DELIVERED, directive(1)), ("any", State.DELIVERED, directive(2)))
    assert bench.inbox.unsure(9) == []


def test_a_snapshot_item_that_is_not_there_is_inserted(bench: Bench) -> None:
    """Pending becomes delivered with a receipt; what the store said before is kept."""
    bench.reset(("any", State.PENDING, directive(1)), ("any", State.READ, directive(2)))
    assert bench.state(1) is State.DELIVERED
    assert bench.state(2) is State.READ
    assert bench.receipts(1) == ["delivered"]
    assert bench.receipts(2) == []


def test_a_snapshot_that_says_pending_gets_the_receipt_again(bench: Bench) -> None:
    """HQ lost the receipt: it is said again, unless it is still on its way."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.reset(("any", State.PENDING, directive()))
    assert bench.receipts() == ["delivered"]
    bench.acknowledge()
    bench.reset(("any", State.PENDING, directive()))
    assert bench.receipts() == ["delivered", "delivered"]


def test_a_snapshot_opens_what_was_closed_but_not_what_was_done_here(bench: Bench) -> None:
    """An item outranks what is saved, except the device's own word."""
    for number in (1, 2, 3):
        bench.take(ALL_ANY, bench.words.issue(number))
    bench.take(STORE_ANY, bench.words.change(State.EXPIRED, 1))
    bench.take(STORE_ANY, bench.words.change(State.DONE, 2))
    bench.statements.cannot(ids("d", 3), "any", reason="no ladder")
    bench.reset(*(("any", State.DELIVERED, directive(number)) for number in (1, 2, 3)))
    assert bench.state(1) is State.DELIVERED
    assert bench.state(2) is State.DELIVERED
    assert bench.state(3) is State.CANNOT


def test_a_snapshot_does_not_undo_a_withdrawal(bench: Bench) -> None:
    """HQ forgot that it withdrew: the row stays cancelled and the cancel goes up."""
    bench.take(ALL_ANY, bench.words.issue(), bench.words.cancel())
    bench.reset(("any", State.DELIVERED, directive()), ("manager", State.PENDING, directive()))
    assert bench.state(role="any") is State.CANCELLED
    assert bench.state(role="manager") is State.CANCELLED
    assert bench.originals() == [("cancel", "any")]


def test_a_snapshot_item_that_cannot_be_read_does_not_stop_the_others(bench: Bench) -> None:
    """Garbage in a snapshot is put aside and reported; the rest takes effect."""
    from buswire.cursors import Cursor
    from buswire.device import Reset
    from buswire.messages import SnapshotItem
    from tests.agent.words import FACTS

    items = [
        SnapshotItem(role="any", state=State.PENDING, data=msgspec.Raw(b'{"id": 7}')),
        SnapshotItem(role="any", state=State.PENDING, data=msgspec.Raw(encode_data(directive(2)))),
    ]
    with bench.database.write():
        bench.effects.reset(Reset(Cursor(2, ids("b")), {}, items, FACTS))
    assert bench.state(2) is State.DELIVERED
    assert bench.inbox.aside_count() == 1
    assert [kind for kind, _ in bench.sent()] == ["trouble", "receipt"]


def test_a_record_that_overtook_a_snapshot_counts_again(bench: Bench) -> None:
    """HQ closed a delivery after it had made the snapshot: the older snapshot does not undo that.

    The change is heard first, the snapshot takes the cursor back behind it, and the replay brings
    the very same record again.
    """
    bench.take(ALL_ANY, bench.words.issue())
    closing = bench.words.change(State.EXPIRED)
    for _ in range(9):
        bench.take(STORE_ANY, bench.words.change(State.READ, 77))
    bench.take(STORE_ANY, closing)
    assert bench.state() is State.EXPIRED
    bench.reset(("any", State.DELIVERED, directive()))
    assert bench.row().open
    assert bench.memory.cursors()[STORE_ANY].seq == 9
    bench.take(STORE_ANY, closing)
    assert bench.state() is State.EXPIRED


def test_a_new_word_outranks_an_answer_that_is_under_way(bench: Bench) -> None:
    """HQ answered gone, then issued the work anew, and the new record came first: it is work."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.reset()
    assert bench.row().unsure
    bench.take(STORE_ANY, bench.words.issue())
    assert not bench.row().unsure
    bench.answer("gone", state=State.EXPIRED)
    assert bench.row().open


def test_the_memory_of_records_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the latest ids are remembered; the cursor keeps the older ones away."""
    monkeypatch.setattr("storeagent.inbox_held.TAKEN_LIMIT", 50)
    for number in range(1, 121):
        bench.take(STORE_ANY, bench.words.change(State.READ, number))
    count = bench.database.connection.execute("SELECT count(*) FROM taken").fetchone()[0]
    assert count == 50


# --- answers -------------------------------------------------------------------------------------


@pytest.fixture
def unsure(bench: Bench) -> Bench:
    """A device with one piece of unsure work."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.acknowledge()
    bench.reset()
    assert bench.row().unsure
    return bench


def test_gone_closes_with_the_state_that_hq_says(unsure: Bench) -> None:
    """Gone work leaves the list."""
    unsure.answer("gone", state=State.EXPIRED)
    assert unsure.state() is State.EXPIRED
    assert not unsure.row().unsure
    assert not unsure.row().todo


def test_gone_because_another_device_did_it(unsure: Bench) -> None:
    """A store's state in the answer is shown as such."""
    unsure.answer("gone", state=State.DONE)
    assert unsure.state() is State.DONE
    assert not unsure.row().unsure


def test_gone_closes_even_when_the_state_would_not(unsure: Bench) -> None:
    """HQ's word that it does not wait for it counts, whatever this copy of the directive needs."""
    unsure.answer("gone", state=State.READ)
    assert not unsure.row().open


def test_open_work_is_sure_again(unsure: Bench) -> None:
    """Open means keep it."""
    unsure.answer("open")
    assert unsure.row().open
    assert not unsure.row().unsure


def test_unknown_work_goes_up_as_it_came_and_stays_unsure(unsure: Bench) -> None:
    """HQ forgot it: the original goes up once, and the work is asked about again."""
    unsure.answer("unknown")
    unsure.answer("unknown")
    assert unsure.originals() == [("directive", "any")]
    assert unsure.row().unsure
    unsure.acknowledge()
    unsure.answer("unknown")
    assert unsure.originals() == [("directive", "any"), ("directive", "any")]


def test_waiting_work_stays_unsure_without_a_word(unsure: Bench) -> None:
    """Another device was asked: nothing to send, ask again."""
    unsure.answer("wait")
    assert unsure.row().unsure
    assert unsure.originals() == []


def test_the_longest_unasked_comes_first(bench: Bench) -> None:
    """Answered work goes to the end of the queue, so that all of it is asked about."""
    for number in range(1, 6):
        bench.take(ALL_ANY, bench.words.issue(number))
    bench.reset()
    assert [w.directive for w in bench.inbox.unsure(2)] == [ids("d", 1), ids("d", 2)]
    bench.answer("wait", 1)
    bench.answer("wait", 2)
    assert [w.directive for w in bench.inbox.unsure(3)] == [ids("d", n) for n in (3, 4, 5)]
    for number in (3, 4, 5):
        bench.answer("wait", number)
    assert [w.directive for w in bench.inbox.unsure(2)] == [ids("d", 1), ids("d", 2)]


def test_an_answer_about_work_finished_here_changes_nothing(unsure: Bench) -> None:
    """Own done stays, whatever HQ answers."""
    unsure.statements.done(ids("d", 1), "any")
    unsure.answer("gone", state=State.EXPIRED)
    assert unsure.state() is State.DONE


def test_wanted_originals_go_up_for_each_role_with_the_cancel(bench: Bench) -> None:
    """HQ has receipts without the directive: it gets all that is held, once."""
    bench.take(ALL_ANY, bench.words.issue())
    bench.take(ALL_MANAGER, bench.words.issue(), bench.words.cancel())
    bench.learn(want=[ids("d", 1), ids("d", 7)])
    bench.learn(want=[ids("d", 1)])
    assert bench.originals() == [
        ("directive", "any"),
        ("directive", "manager"),
        ("cancel", "manager"),
    ]


# --- what cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("directive", b'{"id":"short","title":"x"}'),
        ("directive", b"[]"),
        ("state", b'{"directive":"' + b"d" * 32 + b'","state":"eaten"}'),
        ("recipe", b'{"of":"a later version"}'),
        ("directive", b'{"id":"' + b"d" * 32 + b'","title":"' + b"x" * 70_000 + b'"}'),
    ],
)
def test_a_record_that_cannot_be_used_is_put_aside_and_reported(
    bench: Bench, kind: str, raw: bytes
) -> None:
    """The cursor moves on, the good record behind it takes effect, HQ is told."""
    bench.take(ALL_ANY, bench.words.record(kind, raw), bench.words.issue())
    assert bench.state() is State.DELIVERED
    assert bench.inbox.aside_count() == 1
    assert [kind for kind, _ in bench.sent()] == ["trouble", "receipt"]
    assert bench.memory.cursors()[ALL_ANY].seq == 2


def test_what_is_aside_is_bounded_and_counted(bench: Bench) -> None:
    """The same garbage again is one row with a count; different garbage does not fill the disk."""
    with bench.database.write():
        for number in range(1_000):
            bench.effects.strange(f"garbage {number}", source="x")
            bench.effects.strange("the same", source="x")
    assert bench.inbox.aside_count() <= 500
    assert max(aside.times for aside in bench.inbox.asides(600)) == 1_000


# --- any order -----------------------------------------------------------------------------------


def _story(bench: Bench, rng: random.Random) -> list[tuple[int, Record]]:
    """What HQ says about three directives, each list in HQ's own order, by channel number."""
    said: list[tuple[int, Record]] = []
    for number in (1, 2, 3):
        needs = rng.choice(list(Needs))
        said.append((rng.choice([0, 2]), bench.words.issue(number, needs=needs)))
        for _ in range(rng.randrange(3)):
            state = rng.choice([State.READ, State.IN_PROGRESS, State.CANNOT, State.DONE])
            said.append((0, bench.words.change(state, number)))
        if rng.random() < 0.4:
            said.append((2, bench.words.cancel(number)))
        elif rng.random() < 0.4:
            said.append((0, bench.words.change(State.EXPIRED, number)))
    return said


def _outcome(bench: Bench) -> list[tuple[str, bool, bool]]:
    return sorted(
        (item.delivery.directive, item.delivery.open, item.delivery.state is State.CANCELLED)
        for item in bench.inbox.items(everything=True)
    )


@pytest.mark.parametrize("seed", range(60))
def test_two_devices_agree_whatever_the_order_across_channels(seed: int) -> None:
    """Channels interleave differently and records repeat: what is left to do is the same."""
    rng = random.Random(seed)
    first, second = Bench(seed=seed), Bench(seed=seed + 1)
    said = _story(first, rng)
    for bench in (first, second):
        queues = {number: [r for n, r in said if n == number] for number in (0, 2)}
        while any(queues.values()):
            number = rng.choice([n for n, queue in queues.items() if queue])
            cut = rng.randrange(1, len(queues[number]) + 1)
            records, queues[number] = queues[number][:cut], queues[number][cut:]
            bench.take(CHANNELS[number], *records)
            if rng.random() < 0.5:
                bench.take(CHANNELS[number], *records)
    assert _outcome(first) == _outcome(second), f"seed {seed}"
    for number in (1, 2, 3):
        assert len(first.receipts(number)) <= 1


@pytest.mark.parametrize("seed", range(30))
def test_what_staff_say_between_hqs_words_never_moves_back(seed: int) -> None:
    """A device's own done or cannot stays through records, snapshots and answers of any order."""
    rng = random.Random(seed)
    bench = Bench(seed=seed)
    bench.take(ALL_ANY, bench.words.issue())
    own: State | None = None
    for _ in range(40):
        match rng.randrange(7):
            case 0:
                bench.take(STORE_ANY, bench.words.change(rng.choice(list(State))))
            case 1:
                bench.take(ALL_ANY, bench.words.issue())
            case 2:
                bench.reset(("any", rng.choice([State.PENDING, State.READ]), directive()))
            case 3:
                bench.reset()
            case 4:
                verdict = rng.choice(["gone", "open", "unknown", "wait"])
                bench.answer(verdict, state=rng.choice(list(State)))
            case 5:
                said = bench.statements.cannot(ids("d", 1), "any", reason="so")
                if said.outcome is Outcome.SAID:
                    own = State.CANNOT
            case 6 if rng.random() < 0.3:
                said = bench.statements.done(ids("d", 1), "any")
                if said.outcome is Outcome.SAID:
                    own = State.DONE
        if own is State.DONE:
            assert bench.state() is State.DONE, f"seed {seed}"
        elif own is State.CANNOT:
            assert bench.state() in {State.CANNOT, State.DONE}, f"seed {seed}"


def test_numbers_are_short_and_find_the_work(bench: Bench) -> None:
    """The first delivery has number 1, and each number finds its own delivery."""
    for number in range(1, 4):
        bench.take(ALL_ANY, bench.words.issue(number))
    assert [bench.row(number).number for number in (1, 2, 3)] == [1, 2, 3]
    found: Directive = msgspec.json.decode(
        bench.inbox.directive_data(bench.statements.find("2").delivery.directive) or b"",
        type=Directive,
    )
    assert found.title == "Directive 2"
