"""The device's machine, event by event: which answers count, and what is asked when."""

from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pytest
from msgspec import Raw

from buswire.cursors import START, Cursor
from buswire.device import (
    DeviceMachine,
    Effect,
    Learn,
    Listen,
    Process,
    Reset,
    Saved,
    Send,
    Strange,
    Take,
    Timing,
)
from buswire.messages import (
    BATCH_RECORDS,
    UNSURE_LIMIT,
    Ack,
    Answer,
    AnyMessage,
    Backlog,
    Bye,
    Heads,
    Hello,
    Hub,
    Log,
    Nudge,
    Records,
    Snapshot,
    SnapshotItem,
    StoreFacts,
    Welcome,
    Work,
)
from buswire.states import State
from buswire.topics import Channel
from buswire.uplink import Settled
from tests.wire.words import ListDesk, cursor, id_of, records

ALL = Channel("all", "any")
OWN = Channel("store/S1", "any")
VERSION = Cursor(3, id_of(300))
RUN = id_of(900)
OTHER_RUN = id_of(901)
FACTS = StoreFacts(name="One", region="east")
TIMING = Timing()


class Device:
    """A machine with its list of a database, and a clock that the test moves."""

    def __init__(
        self,
        *,
        cursors: dict[Channel, Cursor] | None = None,
        set_version: Cursor = VERSION,
        acked: dict[Log, tuple[Cursor, int]] | None = None,
        draw: float = 0.5,
    ) -> None:
        self.desk = ListDesk()
        self.now = 1000.0
        numbers = iter(range(10_000, 100_000))
        self.machine = DeviceMachine(
            Saved(
                install=id_of(1),
                set_version=set_version,
                cursors={ALL: cursor(5), OWN: START} if cursors is None else cursors,
                acked=acked or {},
                region="east",
            ),
            self.desk,
            process=Process(run=id_of(2), start=4, machine="TILL-1"),
            hq_key=lambda: "ab" * 16,
            draw=lambda: draw,
            new_id=lambda: id_of(next(numbers)),
            wall_clock=lambda: 1.7e9,
            roles=["manager"],
            timing=TIMING,
        )

    def hear(self, message: AnyMessage) -> list[Effect]:
        """One message of HQ's."""
        return self.machine.heard(message, self.now)

    def wait(self, seconds: float) -> list[Effect]:
        """Let time pass, with a tick whenever one is due."""
        end, effects = self.now + seconds, []
        for _ in range(10_000):
            due = self.machine.next_at()
            if due is None or due > end:
                self.now = end
                return effects
            self.now = max(self.now, due)
            effects += self.machine.tick(self.now)
        raise AssertionError("the machine asks for ticks without end")

    def hello(self, within: float = 10.0) -> Hello:
        """The next hello, which must come within so many seconds."""
        end = self.now + within
        while (due := self.machine.next_at()) is not None and due <= end:
            self.now = max(self.now, due)
            for hello in hellos(self.machine.tick(self.now)):
                return hello
        raise AssertionError(f"no hello within {within} s")

    def connect(self) -> Hello:
        """Link up and say hello."""
        self.machine.linked(self.now)
        return self.hello()

    def settle(self) -> None:
        """Connect and be told that all is as it should be."""
        self.hear(welcome(self.connect()))
        self.wait(5.0)  # the one look for unsure work
        assert self.machine.welcomed


def hellos(effects: Iterable[Effect]) -> list[Hello]:
    """The hellos among what is sent."""
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Hello)]


def sent(effects: Iterable[Effect]) -> list[tuple[str, list[int]]]:
    """The records that are sent: log and ids."""
    return [
        (e.message.log, [int(record.id, 16) for record in e.message.records])
        for e in effects
        if isinstance(e, Send) and isinstance(e.message, Records)
    ]


def only(effects: Iterable[Effect], kind: type) -> list[Effect]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def welcome(hello: Hello, mode: str = "replay", **more: object) -> Welcome:
    """An answer to that hello by which all is as it should be, unless `more` says otherwise."""
    fields: dict[str, object] = {
        "nonce": hello.nonce,
        "run": RUN,
        "at": 1.7e9,
        "mode": mode,
        "set_version": VERSION,
        "heads": {str(ALL): cursor(5), str(OWN): START},
        "through": {str(ALL): cursor(5), str(OWN): START} if mode == "replay" else {},
        "store": FACTS,
    }
    return Welcome(**{**fields, **more})


def news(after: Cursor, numbers: Iterable[int], channel: Channel = ALL) -> Records:
    """Records of a channel."""
    return Records(log=str(channel), after=after, records=records(numbers))


def page(hello: Hello, number: int, pages: int, *items: int) -> Snapshot:
    """A page of a snapshot."""
    made = [SnapshotItem(role="any", state=State.PENDING, data=Raw(b"%d" % n)) for n in items]
    return Snapshot(nonce=hello.nonce, page=number, pages=pages, items=made)


# --- connecting and hello ------------------------------------------------------------------------


def test_a_link_makes_it_subscribe_and_say_where_it_stands() -> None:
    """The subscriptions are those saved, and the hello says all that HQ needs to judge."""
    device = Device()
    device.desk.add("act", 1, 2)
    effects = device.machine.linked(device.now)
    assert effects == [Listen("east", (ALL, OWN))]
    hello = device.hello(within=TIMING.connect_jitter_seconds)
    assert hello.set_version == VERSION
    assert hello.cursors == {"all/any": cursor(5), "store/S1/any": START}
    assert hello.roles == ["manager"]
    assert hello.install == id_of(1)
    assert hello.run == id_of(2)
    assert hello.uplink["act"].pending == 2
    assert hello.uplink["bulk"].pending == 0


def test_without_a_link_nothing_is_due_and_nothing_is_sent() -> None:
    """A night without a network costs nothing."""
    device = Device()
    device.desk.add("act", 1)
    assert device.machine.next_at() is None
    assert device.machine.tick(device.now) == []
    device.settle()
    device.machine.unlinked()
    assert device.machine.next_at() is None
    assert device.machine.tick(device.now + 1e6) == []
    assert device.hear(Nudge()) == []


def test_an_unanswered_hello_is_repeated_with_backoff_and_jitter() -> None:
    """Longer and longer up to the limit, never in step, always with a new nonce."""
    device = Device(draw=0.0)
    seen = [device.connect()]
    times = [device.now]
    for _ in range(8):
        seen.append(device.hello(within=200.0))
        times.append(device.now)
    waits = [later - earlier for earlier, later in pairwise(times)]
    first, most = TIMING.retry_first_seconds, TIMING.retry_most_seconds
    assert waits == [0.5 * min(most, first * 2**n) for n in range(8)]
    assert len({hello.nonce for hello in seen}) == len(seen)
    jittered = Device(draw=0.999)
    jittered.connect()
    before = jittered.now
    jittered.hello(within=200.0)
    assert jittered.now - before > 0.99 * first


def test_a_beat_is_said_when_nothing_happens() -> None:
    """About every five minutes, and only then."""
    device = Device()
    device.settle()
    assert not hellos(device.wait(0.75 * TIMING.beat_seconds))
    assert device.hello(within=0.5 * TIMING.beat_seconds).reason == "beat"


def test_a_nudge_is_answered_with_a_hello_and_many_with_one() -> None:
    """A hundred nudges at once are one request."""
    device = Device()
    device.settle()
    for _ in range(100):
        assert not hellos(device.hear(Nudge(reason="not receipted")))
    found = hellos(device.wait(2.0))
    assert [hello.reason for hello in found] == ["not receipted"]


# --- which answers count -------------------------------------------------------------------------


def test_only_the_welcome_to_the_latest_nonce_counts() -> None:
    """A late answer to an earlier question says nothing of now; a second answer says nothing."""
    device = Device()
    first = device.connect()
    second = device.hello(within=200.0)
    assert only(device.hear(welcome(first)), Learn) == []
    assert not device.machine.welcomed
    assert only(device.hear(welcome(second)), Learn)
    assert device.machine.welcomed
    assert device.hear(welcome(second)) == []


def test_a_link_that_broke_takes_its_question_along() -> None:
    """The answer to a hello of the connection before is not the answer to this one's."""
    device = Device()
    before = device.connect()
    device.machine.unlinked()
    device.machine.linked(device.now)
    assert only(device.hear(welcome(before)), Learn) == []
    assert not device.machine.welcomed


def test_later_is_obeyed_with_jitter_and_meanwhile_nothing_is_asked() -> None:
    """A hub that has too much to do is left alone so long, whatever else happens."""
    device = Device()
    device.hear(welcome(device.connect(), "later", later_seconds=40.0))
    assert not device.machine.welcomed
    assert device.machine.last_welcome_at is None, "who is put off for ever is to notice"
    device.hear(Nudge())
    device.hear(news(cursor(9), [10]))
    device.hear(Hub(run=OTHER_RUN, up=True))
    assert not hellos(device.wait(40.0))
    hello = device.hello(within=45.0)
    device.hear(welcome(hello))
    assert device.machine.welcomed
    assert device.machine.last_welcome_at is not None
    assert device.hello(within=3.0), "what happened meanwhile is asked about afterwards"


def test_what_a_welcome_says_is_passed_on() -> None:
    """Answers, wants, losses and the store's facts reach the database with the first effect."""
    device = Device()
    answers = [Answer(work=Work(id_of(7), "any"), verdict="open")]
    hello = device.connect()
    said = {"answers": answers, "want": [id_of(8)], "lost": {"act": 4}, "forgot": True}
    effects = device.hear(welcome(hello, **said))
    assert only(effects, Learn) == [Learn(answers, [id_of(8)], FACTS, {"act": 4}, forgot=True)]
    assert device.machine.last_welcome_at == device.now


def test_a_welcome_that_cannot_be_read_is_kept_aside_and_asked_for_again() -> None:
    """A channel that is none takes nothing down."""
    device = Device()
    effects = device.hear(welcome(device.connect(), heads={"nonsense": START}))
    assert len(only(effects, Strange)) == 1
    assert not device.machine.welcomed
    assert device.hello(within=TIMING.retry_first_seconds)


def test_what_only_devices_say_is_strange_from_hq() -> None:
    """A hello or a bye on a topic of HQ's is kept aside."""
    device = Device()
    device.settle()
    hello = Hello(nonce=id_of(1), run=id_of(2), install=id_of(3))
    for message in (hello, Bye(run=id_of(2))):
        assert len(only(device.hear(message), Strange)) == 1


# --- records of channels -------------------------------------------------------------------------


def test_what_follows_the_cursor_is_taken_and_duplicates_are_not() -> None:
    """Each record once, with the cursor behind it."""
    device = Device()
    device.settle()
    taken = only(device.hear(news(cursor(5), [6, 7])), Take)
    assert taken == [Take(ALL, records([6, 7]), cursor(7))]
    assert device.hear(news(cursor(5), [6, 7])) == []
    overlapping = only(device.hear(news(cursor(6), [7, 8])), Take)
    assert overlapping == [Take(ALL, records([8]), cursor(8))]


@pytest.mark.parametrize(
    "message",
    [
        news(cursor(7), [8]),
        news(Cursor(5, id_of(55)), [6]),
        news(cursor(4), [55]),
        news(cursor(3), [4, 55, 6]),
    ],
    ids=["missing", "other history", "other history at the end", "other history inside"],
)
def test_a_gap_is_asked_about_and_nothing_is_taken(message: Records) -> None:
    """Missing records and a log of another history both end in one hello."""
    device = Device()
    device.settle()
    assert only(device.hear(message), Take) == []
    found = device.hello(within=TIMING.gap_jitter_seconds + TIMING.spacing_seconds)
    assert found.reason == "a gap in all/any"
    assert found.cursors["all/any"] == cursor(5)


def test_a_channel_that_is_not_its_own_is_passed_over() -> None:
    """Subscriptions of before may linger; what comes through them means nothing."""
    device = Device()
    device.settle()
    assert device.hear(news(START, [1], Channel.of_region("west", "any"))) == []
    strange = device.hear(Records(log="nonsense", after=START, records=[]))
    assert len(only(strange, Strange)) == 1
    assert not hellos(device.wait(10.0))


def test_a_replay_is_an_answer_only_when_all_of_it_has_come() -> None:
    """A lost piece is asked for again although the welcome came."""
    device = Device()
    hello = device.connect()
    ahead = {str(ALL): cursor(8), str(OWN): START}
    device.hear(welcome(hello, heads=ahead, through=ahead))
    device.hear(news(cursor(5), [6]))
    again = device.hello(within=2 * TIMING.retry_first_seconds)
    assert again.cursors["all/any"] == cursor(6)
    device.hear(welcome(again, heads=ahead, through=ahead))
    device.hear(news(cursor(6), [7, 8]))
    assert not hellos(device.wait(60.0))


def test_news_elsewhere_do_not_put_off_asking_for_a_lost_replay() -> None:
    """A busy channel beside the lagging one is no progress of the replay."""
    device = Device()
    ahead = {str(ALL): cursor(8), str(OWN): START}
    device.hear(welcome(device.connect(), heads=ahead, through=ahead))
    found: list[Hello] = []
    for number in range(1, 40):
        found += hellos(device.hear(news(cursor(number - 1), [number], OWN)))
        found += hellos(device.wait(1.0))
    assert found


def test_a_replay_in_portions_goes_on_at_once() -> None:
    """While HQ has more, the next hello waits for no spacing and no beat."""
    device = Device()
    hello = device.connect()
    heads = {str(ALL): cursor(9), str(OWN): START}
    through = {str(ALL): cursor(7), str(OWN): START}
    device.hear(welcome(hello, heads=heads, through=through))
    effects = device.hear(news(cursor(5), [6, 7]))
    (again,) = hellos(effects)
    assert (again.reason, again.cursors["all/any"]) == ("more to come", cursor(7))


def test_a_gap_while_asking_is_asked_about_after_the_answer() -> None:
    """The answer may have been made before the missing record was."""
    device = Device()
    hello = device.connect()
    device.hear(news(cursor(8), [9]))
    device.hear(welcome(hello))
    assert device.hello(within=5.0).reason == "a gap while asking"


@pytest.mark.parametrize("head", [cursor(6), cursor(4), Cursor(5, id_of(55))])
def test_heads_that_differ_make_it_ask(head: Cursor) -> None:
    """Ahead, behind or of another history: all are found within a beat of the heads."""
    device = Device()
    device.settle()
    device.hear(Heads(run=RUN, heads={"all/any": head, "region/east/any": cursor(3)}))
    reach = TIMING.heads_jitter_seconds + TIMING.spacing_seconds
    assert device.hello(within=reach).reason == "behind in all/any"


def test_heads_that_agree_cost_nothing() -> None:
    """Every thirty seconds, from HQ to all: no answer."""
    device = Device()
    device.settle()
    assert device.hear(Heads(run=RUN, heads={"all/any": cursor(5)})) == []
    assert not hellos(device.wait(20.0))
    assert len(only(device.hear(Heads(run=RUN, heads={"x": START})), Strange)) == 1


# --- runs of the hub -----------------------------------------------------------------------------


def test_a_new_run_is_greeted_over_the_time_that_it_asks_for() -> None:
    """A restarted hub may stand on an older ledger, and is not run over by its devices."""
    device = Device()
    device.settle()
    device.hear(Hub(run=OTHER_RUN, up=True, spread_seconds=20.0))
    assert not hellos(device.wait(9.0))
    hello = device.hello(within=11.0)
    assert hello.reason == "a new run of HQ"
    device.hear(welcome(hello, run=OTHER_RUN))
    assert not hellos(device.wait(20.0))


def test_heads_of_a_new_run_show_it_too() -> None:
    """Even when the word that the hub is up was lost."""
    device = Device()
    device.settle()
    device.hear(Heads(run=OTHER_RUN, heads={}))
    assert device.hello(within=10.0).reason == "a new run of HQ"


def test_a_hub_that_goes_changes_nothing() -> None:
    """Its will may be late: silence from HQ alone never closes a link."""
    device = Device()
    device.settle()
    assert device.hear(Hub(run=RUN, up=False)) == []
    assert device.hear(Hub(run=RUN, up=True)) == []
    assert not hellos(device.wait(20.0))


def test_a_lost_word_of_the_new_hub_is_no_endless_question() -> None:
    """Having heard only of the old run, a device asks the new one once more and no oftener."""
    device = Device()
    device.hear(Hub(run=RUN, up=True))
    hello = device.connect()
    device.hear(Hub(run=RUN, up=True))
    device.hear(welcome(hello, run=OTHER_RUN))
    count = 0
    for _ in range(30):
        for hello in hellos(device.wait(2.0)):
            count += 1
            device.hear(welcome(hello, run=OTHER_RUN))
    assert count <= 1


def test_who_asked_in_vain_asks_anew_when_hq_comes() -> None:
    """It waits as after a first hello, spread as HQ says, and not as long as it had learnt to."""
    device = Device()
    device.connect()
    while not (device.hello(within=TIMING.retry_most_seconds).number >= 4):
        pass
    device.hear(Hub(run=RUN, up=True, spread_seconds=4.0))
    assert not hellos(device.wait(TIMING.retry_first_seconds * 0.5))
    device.hello(within=TIMING.retry_first_seconds * 0.5 + 4.0)


def test_who_has_just_asked_is_not_hurried_by_hq() -> None:
    """The broker's copy of HQ's word comes with each connection, and its answer is under way."""
    device = Device()
    device.connect()
    due = device.machine.next_at()
    device.hear(Hub(run=RUN, up=True))
    assert device.machine.next_at() == due


# --- snapshots -----------------------------------------------------------------------------------


def snapshot_welcome(hello: Hello, pages: int, **more: object) -> Welcome:
    """A welcome that announces a snapshot at other heads."""
    heads = {str(ALL): cursor(50), str(OWN): cursor(20)}
    version = Cursor(4, id_of(400))
    return welcome(hello, "snapshot", pages=pages, heads=heads, set_version=version, **more)


@pytest.mark.parametrize("order", ["W12", "1W2", "21W", "2W1", "112W"])
def test_pages_and_welcome_in_any_order_make_one_snapshot(order: str) -> None:
    """All of it or nothing, in page order, once."""
    device = Device()
    hello = device.connect()
    effects: list[Effect] = []
    for step in order:
        message: AnyMessage = snapshot_welcome(hello, 2)
        if step != "W":
            message = page(hello, int(step), 2, int(step))
        assert not only(effects, Reset)
        effects += device.hear(message)
    (reset,) = only(effects, Reset)
    assert isinstance(reset, Reset)
    assert [bytes(item.data) for item in reset.items] == [b"1", b"2"]
    assert reset.cursors == {ALL: cursor(50), OWN: cursor(20)}
    assert reset.set_version == device.machine.set_version == Cursor(4, id_of(400))
    assert only(device.hear(news(cursor(50), [51])), Take)


def test_a_missing_page_is_asked_for_with_a_new_hello() -> None:
    """Half a snapshot changes nothing, and what comes late of it neither."""
    device = Device()
    hello = device.connect()
    effects = device.hear(snapshot_welcome(hello, 3))
    effects += device.hear(page(hello, 1, 3, 1)) + device.hear(page(hello, 3, 3, 3))
    assert not only(effects, Reset)
    again = device.hello(within=3 * TIMING.retry_first_seconds)
    assert again.set_version == VERSION
    assert device.hear(page(hello, 2, 3, 2)) == []
    effects = device.hear(snapshot_welcome(again, 1)) + device.hear(page(again, 1, 1, 9))
    assert len(only(effects, Reset)) == 1


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_a_link_too_slow_for_the_first_patience_brings_the_snapshot_all_the_same(
    draw: float,
) -> None:
    """At 64 kbit/s a page takes twelve seconds; asking again makes the pages under way void.

    The queue of the link is never longer than what the hellos before the first page brought in.
    """
    pages = 8
    device = Device(draw=draw)
    free_at = begin = device.now
    under_way: list[tuple[float, AnyMessage]] = []
    said = [device.connect()]
    count = 1
    while device.now < begin + 600.0:
        for hello in said:  # answered at once, behind all that is still under way
            free_at = max(free_at, device.now)
            answer: list[AnyMessage] = [snapshot_welcome(hello, pages)]
            answer += [page(hello, n, pages, n) for n in range(1, pages + 1)]
            for message in answer:
                free_at += 12.0 if isinstance(message, Snapshot) else 0.2
                under_way.append((free_at, message))
        at, message = under_way.pop(0)
        said = hellos(device.wait(at - device.now))
        effects = device.hear(message)
        said += hellos(effects)
        count += len(said)
        if only(effects, Reset):
            assert count <= 4
            return
    raise AssertionError("never answered")


def test_parts_of_an_earlier_answer_put_off_asking_once_each() -> None:
    """Whoever plays an old page again and again does not keep the device from asking."""
    device = Device()
    first = device.connect()
    device.hello(within=10.0)
    begin = device.now
    for _ in range(1000):
        device.hear(page(first, 1, 2, 7))
        if hellos(device.wait(0.5)):
            break
    assert device.now - begin < 40.0


def test_a_page_of_an_earlier_answer_does_not_complete_a_later_one() -> None:
    """What was open a minute ago is not mixed with what is open now."""
    device = Device()
    first = device.connect()
    second = device.hello(within=10.0)
    assert device.hear(page(first, 1, 1, 7)) == []
    assert not only(device.hear(snapshot_welcome(second, 1)), Reset)
    assert device.hear(page(first, 1, 1, 7)) == []
    assert len(only(device.hear(page(second, 1, 1, 8)), Reset)) == 1


def test_pages_of_two_answers_to_one_hello_do_not_make_one_snapshot() -> None:
    """A doubled hello is answered at two moments; open work must not fall between them."""
    device = Device()
    hello = device.connect()
    earlier = msgspec.structs.replace(page(hello, 1, 1, 7), answer=id_of(1))
    later = msgspec.structs.replace(page(hello, 1, 1, 7, 8), answer=id_of(2))
    assert device.hear(earlier) == []
    effects = device.hear(msgspec.structs.replace(snapshot_welcome(hello, 1), answer=id_of(2)))
    assert not only(effects, Reset)
    (reset,) = only(device.hear(later), Reset)
    assert isinstance(reset, Reset)
    assert [bytes(item.data) for item in reset.items] == [b"7", b"8"]


def test_an_empty_snapshot_is_whole_with_its_welcome() -> None:
    """A store without open work, or one that closed."""
    device = Device()
    hello = device.connect()
    facts = StoreFacts(name="One", region="")
    effects = device.hear(welcome(hello, "snapshot", heads={}, store=facts))
    assert [type(e) for e in effects if not isinstance(e, Settled | Learn)] == [Reset, Listen]
    assert only(effects, Listen) == [Listen("", ())]


def test_new_channels_are_subscribed_and_asked_about_once_more() -> None:
    """What was published between the snapshot and the subscription must not be missed."""
    device = Device()
    hello = device.connect()
    west = Channel.of_region("west", "any")
    facts = StoreFacts(name="One", region="west")
    heads = {str(ALL): cursor(5), str(west): cursor(2)}
    effects = device.hear(welcome(hello, "snapshot", heads=heads, store=facts))
    assert only(effects, Listen) == [Listen("west", (ALL, west))]
    assert device.hello(within=5.0).reason == "new channels"


def test_a_replay_for_another_channel_set_is_not_believed() -> None:
    """A store that went to another region and back missed what was issued meanwhile."""
    device = Device()
    hello = device.connect()
    effects = device.hear(welcome(hello, set_version=Cursor(9, id_of(1))))
    (again,) = hellos(effects)
    assert again.set_version == START, "it asks for a snapshot"
    assert device.hear(news(cursor(5), [6])) == [], "and takes nothing meanwhile"
    effects = device.hear(welcome(again, "snapshot"))
    assert only(effects, Reset)
    assert only(device.hear(news(cursor(5), [6])), Take)


def test_an_uplink_cursor_of_another_history_makes_all_beliefs_doubtful() -> None:
    """This database may be an older image: everything goes up again, and a snapshot is asked."""
    device = Device(acked={"act": (cursor(2), 2)})
    device.desk.add("act", 1, 2, 3)
    hello = device.connect()
    effects = device.hear(welcome(hello, uplink={"act": Cursor(9, id_of(99))}))
    assert Settled("act", Cursor(9, id_of(99)), 0) in effects
    assert sent(effects) == [("act", [1, 2, 3])]
    (again,) = hellos(effects)
    assert again.set_version == START
    effects = device.hear(welcome(again, "snapshot", uplink={"act": Cursor(9, id_of(99))}))
    assert only(effects, Reset)
    assert not hellos(effects)


# --- records going up ----------------------------------------------------------------------------


def test_records_go_up_only_after_a_welcome() -> None:
    """Their numbers follow from HQ's cursor in it; a new connection waits for its own."""
    device = Device()
    device.desk.add("act", 1)
    hello = device.connect()
    assert sent(device.machine.tick(device.now)) == []
    assert sent(device.hear(welcome(hello))) == [("act", [1])]
    device.machine.unlinked()
    device.machine.linked(device.now)
    device.desk.add("act", 2)
    assert sent(device.machine.tick(device.now)) == []


def test_alerts_go_before_figures() -> None:
    """However many figures wait, what somebody waits for is sent first."""
    device = Device()
    device.desk.add("bulk", *range(100, 2100))
    device.desk.add("act", 1)
    effects = device.hear(welcome(device.connect()))
    logs = [log for log, _ in sent(effects)]
    assert logs == ["act", "bulk", "bulk"], "and figures only as far as their window goes"
    device.desk.add("act", 2)
    assert sent(device.machine.tick(device.now)) == [("act", [2])]


def test_figures_wait_while_alerts_fill_their_window() -> None:
    """A backlog of what somebody waits for drains first; only its tail goes beside figures."""
    device = Device()
    device.desk.add("bulk", *range(100_000, 100_100))
    device.desk.add("act", *range(1, 9 * BATCH_RECORDS + 1))
    effects = device.hear(welcome(device.connect()))
    assert [log for log, _ in sent(effects)] == ["act"] * 8
    effects = device.hear(Ack(run=RUN, log="act", cursor=cursor(BATCH_RECORDS)))
    assert [log for log, _ in sent(effects)] == ["act", "bulk"]


def test_what_is_acknowledged_is_settled_and_makes_room() -> None:
    """In HQ's numbers and the outbox's position; another run's word does not count."""
    device = Device()
    device.settle()
    device.desk.add("act", 1, 2)
    assert sent(device.machine.tick(device.now)) == [("act", [1, 2])]
    assert device.hear(Ack(run=OTHER_RUN, log="act", cursor=cursor(2))) == []
    assert device.hear(Ack(run=RUN, log="act", cursor=cursor(2))) == [Settled("act", cursor(2), 2)]
    assert not hellos(device.wait(2 * TIMING.ack_seconds))


def test_records_that_nobody_acknowledges_make_it_ask() -> None:
    """After the timeout the welcome tells what arrived, and the rest is sent again."""
    device = Device()
    device.settle()
    device.desk.add("act", 1, 2)
    device.machine.tick(device.now)
    hello = device.hello(within=TIMING.ack_seconds + 3.0)
    assert hello.reason == "records unacknowledged"
    effects = device.hear(welcome(hello, uplink={"act": cursor(1)}))
    assert sent(effects) == [("act", [2])]


def test_a_hello_that_falls_together_with_an_acknowledgement_counts_right() -> None:
    """What is acknowledged and not yet saved is not pending: HQ would miss it by the next hello."""
    device = Device()
    device.settle()
    device.desk.add("act", 1, 2, 3)
    device.machine.tick(device.now)
    device.machine.wonder(device.now, "a beat")
    device.now += 100.0
    (hello,) = hellos(device.hear(Ack(run=RUN, log="act", cursor=cursor(2))))
    assert hello.uplink["act"] == Backlog(acked=cursor(2), pending=1)


def test_what_was_let_go_is_not_pending() -> None:
    """HQ's ledger is new and asks for all: all that is kept."""
    device = Device(acked={"act": (cursor(2), 2)})
    device.desk.add("act", 1, 2, 3)
    device.desk.rows["act"][0] = None
    device.machine.linked(device.now)
    device.machine.writers["act"].rebase(START, device.desk)
    assert device.hello().uplink["act"] == Backlog(acked=START, pending=2)


def test_an_acknowledgement_that_cannot_be_makes_it_ask() -> None:
    """HQ says it has what was never sent: one of the two is of another history."""
    device = Device()
    device.settle()
    assert device.hear(Ack(run=RUN, log="act", cursor=cursor(7))) == []
    assert device.hello(within=5.0).reason == "an acknowledgement that does not fit"


# --- unsure work ---------------------------------------------------------------------------------


def test_unsure_work_is_asked_about_until_it_is_answered() -> None:
    """With growing waits; what is asked about is bounded; when none is left, nothing is asked."""
    device = Device()
    device.settle()
    device.desk.unsure_work = [Work(id_of(n), "any") for n in range(UNSURE_LIMIT + 50)]
    hello = device.connect()
    assert len(hello.unsure) == UNSURE_LIMIT
    device.hear(welcome(hello))
    times = []
    for _ in range(6):
        hello = device.hello(within=2 * TIMING.unsure_most_seconds)
        assert hello.reason == "unsure work"
        times.append(device.now)
        device.hear(welcome(hello))
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == sorted(waits)
    device.desk.unsure_work = []
    assert not hellos(device.wait(TIMING.beat_seconds * 0.5))


# --- storms --------------------------------------------------------------------------------------


def test_hellos_keep_their_distance_whatever_happens() -> None:
    """Gaps, nudges, foreign runs and bad acknowledgements, ten a second: one hello a second."""
    device = Device()
    device.settle()
    noise: list[AnyMessage] = [
        news(cursor(90), [91]),
        Nudge(),
        Heads(run=OTHER_RUN, heads={}),
        Ack(run=RUN, log="act", cursor=cursor(9)),
        Hub(run=OTHER_RUN, up=True),
    ]
    count = 0
    for step in range(600):
        found = hellos(device.hear(noise[step % len(noise)])) + hellos(device.wait(0.1))
        count += len(found)
        for hello in found:
            device.hear(welcome(hello))
    assert 10 <= count <= 61


def test_a_machine_is_due_in_the_future_after_each_tick() -> None:
    """Nobody who calls it when it says so is made to spin."""
    device = Device()
    device.desk.unsure_work = [Work(id_of(1), "any")]
    device.desk.add("act", *range(1, 20))
    device.connect()
    for _ in range(200):
        device.machine.tick(device.now)
        due = device.machine.next_at()
        assert due is not None
        assert due > device.now
        device.now = due


def test_each_hello_of_a_run_has_the_next_number() -> None:
    """HQ can tell one that comes again, also after a machine was made anew in the process."""
    device = Device()
    first = device.connect()
    device.wait(20.0)
    device.machine.unlinked()
    second = device.connect()
    assert (first.run, first.start, first.number) == (id_of(2), 4, 1)
    assert second.number > first.number
    assert (second.machine, second.hq_key) == ("TILL-1", "ab" * 16)


def test_a_challenge_is_said_again_at_once_until_a_welcome_comes() -> None:
    """HQ does not answer the hello that is under way before it knows that somebody is there."""
    device = Device()
    device.connect()
    device.hear(Nudge(challenge=id_of(77)))
    proof = device.hello(within=2.0)
    assert proof.challenge == id_of(77)
    assert device.hello(within=20.0).challenge == id_of(77)
    device.hear(Nudge(challenge=id_of(78)))
    proof = device.hello(within=2.0)
    device.hear(welcome(proof))
    device.wait(5.0)
    device.hear(Nudge(reason="work without a receipt"))
    assert device.hello(within=5.0).challenge == ""


def test_nudges_without_end_do_not_make_hellos_without_end() -> None:
    """Whoever can repeat a nudge gets one hello a second at most."""
    device = Device()
    device.connect()
    said = 0
    for number in range(200):
        device.hear(Nudge(challenge=id_of(number)))
        device.now += 0.05
        said += len(hellos(device.machine.tick(device.now)))
    assert said <= 11
