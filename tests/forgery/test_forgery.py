"""Nothing is believed that its sender did not say for this place; what was said may be said again.

The whole of it, with several seeds, is in `make faults`.
"""

import contextlib
from collections import Counter
from collections.abc import Callable
from random import Random
from unittest import mock

import pytest

from tests.faults.seeds import seed_of_this_run
from tests.forgery import story
from tests.forgery.bus import Delivery
from tests.forgery.forger import Forger
from tests.forgery.watch import BelievedError, Watch

MOST = 4
"""So many messages of a kind are forged, of each topic and receiver; that makes over 20,000."""


def watched(seed: int, *, most: int, impatient: bool = False) -> Watch:
    """Tell the story with its forgeries."""
    theirs: list[Delivery] = []
    other = story.begin("theirs")
    story.past(other)
    other.after = theirs.append
    story.tell(other)
    bus = story.begin("ours")
    past = story.past(bus)
    watch = Watch(bus, Forger(Random(seed), bus, theirs, past), most=most, impatient=impatient)
    bus.before, bus.after = watch.before, watch.after
    story.tell(bus)
    return watch


def test_nothing_is_believed_that_nobody_said() -> None:
    """20,000 forgeries of every kind, each where the genuine message takes effect: none does."""
    watch = watched(seed_of_this_run(), most=MOST)
    print(f"{watch.forged.total()} forgeries: {dict(watch.forged)}")
    assert not watch.believed, "\n".join(watch.believed[:10])
    assert watch.forged.total() >= 20_000
    assert set(watch.forged) == story.KINDS
    assert watch.effective == story.KINDS
    _assert_bounded(watch)


def _assert_bounded(watch: Watch) -> None:
    """What was refused takes a bounded place, at HQ and at every device."""
    ledger = watch.bus.ledger.connection
    kept = Counter(kind for (kind,) in ledger.execute("SELECT kind FROM incident"))
    devices = len(watch.bus.tills)
    assert kept["forged"] + kept["not a device"] + kept["revoked device speaks"] <= 200, kept
    assert kept["device trouble"] <= 100 * devices, kept
    ((rows,),) = ledger.execute("SELECT count(*) FROM quarantine").fetchall()
    assert rows <= 200
    for till in watch.bus.tills.values():
        connection = till.database.connection
        ((asides,),) = connection.execute("SELECT count(*) FROM aside").fetchall()
        query = "SELECT count(*) FROM act WHERE kind = 'trouble'"
        ((troubles,),) = connection.execute(query).fetchall()
        assert asides <= 100, till.name
        assert troubles <= 150, till.name


REPLAYS: dict[str, tuple[str, set[str], set[str]]] = {
    # What is said again byte for byte: why that does no harm, what it may change, what it may
    # have said. Whatever is not here may do neither.
    "hello": (
        "dropped, or the device is asked to prove that it is there",
        set(),
        {"nudge", "welcome later"},
    ),
    "records act": ("the device is told again how far HQ is", set(), {"ack"}),
    "records bulk": ("the device is told again how far HQ is", set(), {"ack"}),
    "bye": ("of the run that spoke last: it is shown as gone, until its beat", {"device"}, set()),
    "join": ("the same key gets the same answer", set(), {"joined"}),
    "joined": ("the same answer to the same question", {"joined"}, set()),
    "heads": ("those of earlier make the device ask", set(), {"hello"}),
    "hub": ("that HQ comes or goes makes the device ask", set(), {"hello"}),
    "nudge": ("makes the device ask", set(), {"hello"}),
    "records on down": ("known ones are dropped, a gap makes the device ask", set(), {"hello"}),
    "records on to": ("known ones are dropped, a gap makes the device ask", set(), {"hello"}),
}
_WITH_THE_TIME = {"heads", "hub"}
"""What HQ says when its time has come, whatever it hears."""


def test_what_was_said_may_be_said_again() -> None:
    """At once, at the end, backwards, and to a new hub: genuine bytes change nothing twice."""
    bus = story.begin("ours")
    story.past(bus)
    watch = Watch(bus, mock.create_autospec(Forger))
    said: list[Delivery] = []
    wrong: list[str] = []

    def again(delivery: Delivery, when: str) -> None:
        seen = watch.picture(delivery.to)
        answers = {one.kind for one in bus.deliver(delivery, carry_on=False)}
        now = watch.picture(delivery.to)
        tables = {table for table, rows in seen.items() if now[table] != rows}
        _, may_change, may_say = REPLAYS.get(delivery.kind, ("", set(), set()))
        if not tables <= may_change or not answers - _WITH_THE_TIME <= may_say:
            wrong.append(f"{delivery.kind} again {when}: {tables} changed, {answers} said")

    def after(delivery: Delivery) -> None:
        said.append(delivery)
        again(delivery, "at once")

    bus.after = after
    story.tell(bus)
    for delivery in said:
        again(delivery, "at the end")
    for delivery in reversed(said):
        again(delivery, "backwards")
    bus.after = lambda delivery: None
    bus.hub_up()
    for delivery in said:
        if delivery.to == "hq":
            again(delivery, "to a new hub")
    assert {one.kind for one in said} | {"welcome later"} == story.KINDS
    assert not wrong, "\n".join(wrong[:10])


def _verify_nothing(*_: object) -> None:
    """Believe everybody."""


def _sign_without_topic(topic: str, text: bytes) -> bytes:
    """Leave out for whom it is."""
    return b"storebus/1\n" + text


@pytest.mark.parametrize(
    ("places", "instead"),
    [
        (["buswire.frame.verify"], _verify_nothing),
        (
            ["buswire.frame.message_bytes", "tests.forgery.forger.message_bytes"],
            _sign_without_topic,
        ),
        (["buswire.signing.PublicKey.verifies"], lambda *_: True),
    ],
    ids=["nothing is verified", "topics are not signed", "every signature holds"],
)
def test_a_bus_that_believes_too_much_is_noticed(
    places: list[str], instead: Callable[..., object]
) -> None:
    """The suite can fail: with a rule left out, some forgery is believed."""
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(mock.patch(place, instead))
        with pytest.raises(BelievedError):
            watched(1, most=1, impatient=True)
