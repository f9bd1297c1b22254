"""A ledger put back from an older copy while a directive was on its way: the stores heal it."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from msgspec import Raw

from buswire.messages import Original, Record, Work, encode_data
from buswire.states import State
from buswire.topics import Identity
from hqconsole.ledger.opening import ledger_from_bytes
from hqconsole.lifecycle import DirectiveState
from tests.hq_desk.office import new_id
from tests.hq_desk.rollouts import Rollouts

HOUR = 3600.0


class Kept(NamedTuple):
    """What devices hold of HQ's words about a directive: bytes and seal, by kind."""

    documents: dict[str, tuple[bytes, str]]

    def of(self, kind: str) -> Record:
        """What a device sends up."""
        data, seal = self.documents[kind]
        said = Original(kind=kind, role="any", data=Raw(data), seal=seal)  # type: ignore[arg-type]
        return Record(id=new_id(), kind="original", at=0.0, data=Raw(encode_data(said)))


@pytest.fixture
def hq() -> Iterator[Rollouts]:
    """Head office with four stores."""
    hq = Rollouts()
    yield hq
    hq.ledger.close()


def kept(hq: Rollouts, no: int) -> Kept:
    """What the stores were sent about it so far."""
    hq.tick()
    found = hq.rows(
        "SELECT DISTINCT kind, data, seal FROM doc JOIN channel_log ON doc_no = doc.no"
        " WHERE instr(data, ?) AND kind IN ('directive', 'cancel')",
        hq.id_of(no).encode(),
    )
    return Kept({kind: (bytes(data), seal) for kind, data, seal in found})


def put_back(hq: Rollouts, image: bytes) -> None:
    """The ledger is an older copy, and another hub works on it; the stores are as they were."""
    hq.ledger.close()
    hq.ledger = ledger_from_bytes(image)
    hq.cursors.clear()  # devices number on from where HQ says
    hq.logged_no = 0
    hq.restart()


def unsure(hq: Rollouts, no: int, store: str) -> str:
    """What HQ says of it to a device that is not sure of it."""
    welcome = hq.hello(identity=Identity(store, "till-1"), unsure=[Work(hq.id_of(no), "any")])
    return welcome.answers[0].verdict


@pytest.mark.parametrize("form", ["draft", "waiting", "denied", "scheduled"])
def test_what_the_copy_has_not_sent_was_sent(hq: Rollouts, form: str) -> None:
    """The first store that is heard brings it back, with all its audience, and nothing is lost."""
    no = hq.write(starts="in 1 hour")
    if form in {"waiting", "denied"}:
        hq.submit(no)
    if form == "denied":
        image_of_waiting = hq.ledger.serialize()
        hq.deny(no)
    if form == "scheduled":
        hq.start(no)
    image = hq.ledger.serialize()
    if form == "denied":
        hq.ledger.close()
        hq.ledger = ledger_from_bytes(image_of_waiting)
    if form in {"waiting", "denied"}:
        hq.approve(no)
    elif form == "draft":
        hq.start(no)
    hq.restart()
    hq.later(HOUR)
    assert hq.state(no) is DirectiveState.ISSUED
    original = kept(hq, no).of("directive")
    hq.at -= HOUR / 2
    put_back(hq, image)
    assert not hq.sent(no)

    hq.answer(no, "S2", State.DONE)
    assert unsure(hq, no, "S2") == "unknown"
    hq.say("S2", original)
    assert hq.state(no) is DirectiveState.ISSUED
    assert hq.sent(no).keys() == {"S1", "S2", "S3", "S4"}
    assert hq.sent(no)["S2"] is State.DONE, "what waited for it counts"
    assert unsure(hq, no, "S1") == "open"
    hq.later(HOUR)
    for store in ("S1", "S3", "S4"):
        hq.answer(no, store, State.DONE)
    assert hq.state(no) is DirectiveState.COMPLETED
    hq.check(no)


def test_between_waves_those_who_have_it_are_counted_in_and_the_others_go_on(
    hq: Rollouts,
) -> None:
    """The copy knows of one wave, the stores of two: nobody is lost, the third comes once."""
    no = hq.out(pilot=["S1"], percents=[50])
    image = hq.ledger.serialize()
    hq.answer(no, "S1", State.DONE)
    (second,) = [{store for store in hq.sent(no) if store != "S1"}]
    last = hq.planned(no)
    assert second
    assert last
    original = kept(hq, no).of("directive")
    put_back(hq, image)
    assert hq.sent(no).keys() == {"S1"}

    first, *others = sorted(second)
    hq.answer(no, first, State.READ)
    assert hq.sent(no)[first] is State.READ
    for store in others:
        assert unsure(hq, no, store) == "open", "who asks about it has it"
        hq.say(store, original)
        assert hq.sent(no)[store] is State.PENDING
    assert hq.planned(no) == last
    hq.check(no)
    hq.new_records(no)
    for store in ("S1", *second):
        hq.answer(no, store, State.DONE)
    assert hq.sent(no).keys() == {"S1", "S2", "S3", "S4"}
    assert set().union(*hq.new_records(no)) <= last
    hq.check(no)


@pytest.mark.parametrize("first", ["cancel", "directive"])
@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("form", ["draft", "scheduled", "between waves"])
def test_a_withdrawal_that_was_forgotten_wins_in_either_order(
    hq: Rollouts, form: str, first: str, newer: bool
) -> None:
    """Whether a store's tombstone or its directive is heard first, nobody is asked for it again."""
    no = hq.write(pilot=["S1"], starts=None if form == "between waves" else "in 1 hour")
    other = hq.out("Another version") if newer else None
    if form != "draft":
        hq.start(no)
    image = hq.ledger.serialize()
    if form == "draft":
        hq.start(no)
    hq.later(HOUR)
    assert "S1" in hq.sent(no)
    hq.cancel(no, superseded_by="" if other is None else hq.id_of(other))
    documents = kept(hq, no)
    hq.at -= HOUR
    put_back(hq, image)

    order = ["cancel", "directive"] if first == "cancel" else ["directive", "cancel"]
    for kind in order:
        hq.say("S1", documents.of(kind))
        hq.withdrawn(no, "S1", State.READ)
    ended = DirectiveState.SUPERSEDED if newer else DirectiveState.CANCELLED
    assert hq.state(no) is ended
    assert hq.sent(no) == {"S1": State.CANCELLED}
    assert hq.rows("SELECT was FROM delivery WHERE directive_no = ?", no) == [(2,)]
    assert hq.rows("SELECT count(*) FROM delivery WHERE directive_no = ? AND open", no) == [(0,)]
    hq.later(2 * HOUR)
    assert hq.planned(no) == {"S2", "S3", "S4"}
    assert unsure(hq, no, "S1") == "gone"
    if other is not None:
        assert hq.rows("SELECT superseded_by_no FROM directive WHERE no = ?", no) == [(other,)]
    assert set(hq.incidents()) <= {"directive adopted", "device rolled back"}, hq.incidents()
    hq.check(no)


def test_a_copy_from_which_it_went_out_again_counts_what_stores_say(hq: Rollouts) -> None:
    """The hub was quicker than the stores: they drop what they have, and their words count."""
    no = hq.write(starts="in 1 hour")
    hq.start(no)
    image = hq.ledger.serialize()
    hq.later(HOUR)
    original = kept(hq, no).of("directive")
    put_back(hq, image)
    assert hq.state(no) is DirectiveState.ISSUED, "its time has come there, too"
    hq.say("S1", original)
    hq.answer(no, "S1", State.DONE)
    assert hq.sent(no)["S1"] is State.DONE
    assert unsure(hq, no, "S2") == "open"
    hq.check(no)


def test_what_expired_before_it_went_out_here_went_out_there(hq: Rollouts) -> None:
    """A store has it and did it in time: that counts, and the others are closed again."""
    no = hq.write(starts="in 1 hour", expires="in 3 hours")
    hq.start(no)
    image = hq.ledger.serialize()
    hq.later(HOUR)
    done_at = hq.at
    original = kept(hq, no).of("directive")
    hq.let_pass(4 * HOUR)
    put_back(hq, image)
    assert hq.state(no) is DirectiveState.EXPIRED
    hq.say("S1", original)
    hq.answer(no, "S1", State.DONE, at=done_at)
    hq.tick()
    assert hq.state(no) is DirectiveState.EXPIRED
    assert hq.sent(no) == dict.fromkeys(("S2", "S3", "S4"), State.EXPIRED) | {"S1": State.DONE}
    hq.check(no)
