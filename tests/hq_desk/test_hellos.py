"""Hellos of now and hellos of old: repeats, restarts, restored machines, clones, and too many."""

from pathlib import Path
from typing import Any

import pytest

from buswire.messages import Bye, Hello, Nudge, Welcome
from buswire.signing import SigningKey
from hqconsole.desk import Linked
from hqconsole.runs import Run, Verdict, judge_run
from hqconsole.timing import HubLimits
from tests.hq_desk.office import AT, INSTALL, OTHER, RUN, TILL, Office, new_id, seed

RUN_2, RUN_3 = "2" * 32, "3" * 32
INSTALL_2 = "b" * 32
DAY = 86_400.0


def run_of(name: str, *, start: int = 1, number: int = 5, install: str = INSTALL) -> Run:
    """A run that HQ remembers."""
    return Run(name, install, start, number, "PC", AT, AT, 0)


def hello_of(name: str, *, start: int = 1, number: int = 6, install: str = INSTALL) -> Hello:
    """A hello of a run."""
    return Hello(nonce=new_id(), run=name, install=install, start=start, number=number)


JUDGED: list[tuple[str, Hello, list[Run], str, bool, Verdict, bool]] = [
    ("the first ever", hello_of(RUN), [], "", False, Verdict.TAKE, False),
    ("goes on", hello_of(RUN), [run_of(RUN)], RUN, False, Verdict.TAKE, False),
    ("doubled", hello_of(RUN, number=5), [run_of(RUN)], RUN, False, Verdict.REPEAT, False),
    ("delayed", hello_of(RUN, number=3), [run_of(RUN)], RUN, False, Verdict.REPEAT, False),
    ("put back whole", hello_of(RUN, number=3), [run_of(RUN)], RUN, True, Verdict.TAKE, False),
    ("restart", hello_of(RUN_2, start=2), [run_of(RUN)], RUN, False, Verdict.TAKE, False),
    ("same start", hello_of(RUN_2), [run_of(RUN)], RUN, False, Verdict.PROVE, False),
    ("older image", hello_of(RUN_2, start=0), [run_of(RUN)], RUN, False, Verdict.PROVE, False),
    ("proved image", hello_of(RUN_2, start=0), [run_of(RUN)], RUN, True, Verdict.TAKE, False),
    (
        "new disk",
        hello_of(RUN_2, start=9, install=INSTALL_2),
        [run_of(RUN)],
        RUN,
        False,
        Verdict.PROVE,
        False,
    ),
    (
        "comes back",
        hello_of(RUN),
        [run_of(RUN), run_of(RUN_2, start=2)],
        RUN_2,
        False,
        Verdict.PROVE,
        False,
    ),
    (
        "proved to be back",
        hello_of(RUN),
        [run_of(RUN), run_of(RUN_2, start=2)],
        RUN_2,
        True,
        Verdict.TAKE,
        True,
    ),
    (
        "a repeat of one before",
        hello_of(RUN, number=5),
        [run_of(RUN), run_of(RUN_2, start=2)],
        RUN_2,
        False,
        Verdict.REPEAT,
        False,
    ),
]


@pytest.mark.parametrize(
    ("hello", "known", "present", "proved", "verdict", "came_back"),
    [row[1:] for row in JUDGED],
    ids=[row[0] for row in JUDGED],
)
def test_the_rule(
    hello: Hello, known: list[Run], present: str, *, proved: bool, verdict: Verdict, came_back: bool
) -> None:
    """What counts as said now."""
    ruling = judge_run(hello, {run.run: run for run in known}, present, proved=proved)
    assert ruling == (verdict, came_back)


class Machine:
    """One process with the identity of the till, as its hellos tell it."""

    def __init__(self, office: Office, run: str, **fields: Any) -> None:
        self.office = office
        self.fields = {"run": run, "install": INSTALL, "start": 1, "machine": "PC-1", **fields}
        self.number = 0

    def hello(self, **more: Any) -> Hello:
        """Its next hello."""
        self.number += 1
        return self.office.a_hello(**(self.fields | {"number": self.number} | more))

    def say(self, **more: Any) -> list[Any]:
        """Say hello once; what comes back."""
        return self.office.hear(self.hello(**more))

    def greet(self) -> Welcome:
        """Say hello, prove to be there if asked to, and be welcomed."""
        answers = self.say()
        if isinstance(answers[0], Nudge):
            assert answers[0].challenge
            answers = self.say(challenge=answers[0].challenge)
        assert isinstance(answers[0], Welcome)
        return answers[0]


def test_a_doubled_and_a_delayed_hello_are_dropped(office: Office) -> None:
    """The network says it again, at once or much later: no answer, no change."""
    machine = Machine(office, RUN)
    first, second = machine.hello(), machine.hello()
    assert isinstance(office.hear(first)[0], Welcome)
    assert isinstance(office.hear(second)[0], Welcome)
    before = office.ledger.connection.total_changes
    assert office.hear(first) == []
    assert office.hear(second) == []
    assert office.ledger.connection.total_changes == before


def test_a_recorded_hello_of_an_ended_run_cannot_bring_it_back(office: Office) -> None:
    """Held back or said again after a restart, it makes HQ ask, and the dead cannot answer."""
    old = Machine(office, RUN)
    old.greet()
    held_back = old.hello()
    Machine(office, RUN_2, start=2).greet()
    (asked,) = office.hear(held_back)
    assert isinstance(asked, Nudge)
    assert office.rows("SELECT run FROM device WHERE no = 1") == [(RUN_2,)]
    assert office.hear(held_back) == [asked], "the same question, as long as it is open"
    assert office.incidents() == []


def test_restarts_are_taken_at_their_word(office: Office) -> None:
    """Each process of the same database begins with a higher start: no question is asked."""
    for start in range(1, 40):
        machine = Machine(office, f"{start:032x}", start=start)
        assert isinstance(machine.say()[0], Welcome)
    assert office.incidents() == []
    assert office.rows("SELECT count(*) FROM device_run") == [(16,)], "bounded"


def test_a_new_core_in_the_same_process_goes_on(office: Office) -> None:
    """After a failure of the database the run stays and the numbers go on."""
    machine = Machine(office, RUN)
    machine.greet()
    machine.number += 3  # said and never heard
    assert isinstance(machine.say()[0], Welcome)


def test_a_restored_image_is_asked_once_and_then_taken(office: Office) -> None:
    """An older disk starts with a number that HQ has passed; alive it is taken, and no alarm."""
    for start in (1, 2, 3):
        Machine(office, f"{start:032x}", start=start).greet()
    restored = Machine(office, RUN_2, start=2)
    (asked,) = restored.say()
    assert isinstance(asked, Nudge)
    assert isinstance(restored.say(challenge=asked.challenge)[0], Welcome)
    assert isinstance(restored.say(challenge=asked.challenge)[0], Welcome), "from then on as any"
    assert "cloned device" not in office.incidents()


def test_who_has_only_old_keys_of_hq_is_told_the_new_ones_with_the_question(
    office: Office,
) -> None:
    """Otherwise it could not believe the question, and would never prove that it is there."""
    Machine(office, RUN, start=3).greet()
    old_key = office.keys.signing(AT).id
    office.keys.rotate()
    office.keys.rotate()
    office.desk.take_keys(office.keys)
    restored = Machine(office, RUN_2, start=1)
    told, asked = restored.say(hq_key=old_key)
    assert told.mode == "later"
    assert told.keys == list(office.keys.entries[1:])
    assert isinstance(restored.say(challenge=asked.challenge)[0], Welcome)


def test_a_machine_put_back_whole_gets_through(office: Office) -> None:
    """Its process goes on with numbers that HQ has heard: after a few it may prove itself."""
    machine = Machine(office, RUN)
    for _ in range(50):
        machine.greet()
        office.now += 60
    machine.number = 10  # memory and all, as it was
    answers = [machine.say() for _ in range(3)]
    assert answers[:2] == [[], []]
    challenge = answers[2][0].challenge
    assert isinstance(machine.say(challenge=challenge)[0], Welcome)
    assert isinstance(machine.say()[0], Welcome)
    assert office.incidents() == []


def test_a_wiped_device_with_a_new_key_is_not_asked(office: Office) -> None:
    """What the old key signed is void, so there is nothing that could be said again."""
    Machine(office, RUN).greet()
    new = SigningKey(seed("new"))
    office.enrol(TILL, key=new)
    hello = office.a_hello(run=RUN_2, install=INSTALL_2, start=1, number=1)
    assert isinstance(office.hear(hello, key=new)[0], Welcome)


def test_a_challenge_counts_once_and_for_its_run_alone(office: Office) -> None:
    """Another run's answer, an older one, and one of before the hub's restart prove nothing."""
    Machine(office, RUN, start=5).greet()
    second, third = Machine(office, RUN_2, start=2), Machine(office, RUN_3, start=2)
    challenge = second.say()[0].challenge
    assert isinstance(third.say(challenge=challenge)[0], Nudge)
    office.desk = office.another_desk()
    office.desk.handle([Linked()], office.now)
    (asked,) = second.say(challenge=challenge)
    assert isinstance(asked, Nudge)
    assert asked.challenge != challenge
    proof = second.hello(challenge=asked.challenge)
    assert isinstance(office.hear(proof)[0], Welcome)
    third.greet()
    (again,) = office.hear(second.hello(challenge=asked.challenge))
    assert isinstance(again, Nudge)
    assert again.challenge != asked.challenge


def test_two_machines_with_one_identity_are_an_incident_that_names_both(office: Office) -> None:
    """They come back after each other; told once a day, and again when it was acknowledged."""
    first = Machine(office, RUN, machine="PC-KASSE")
    second = Machine(office, RUN_2, machine="PC-BACKUP")
    first.greet()
    second.greet()
    first.greet()
    assert office.incidents() == [], "so far it can be one machine that was put back"
    office.at += 60
    second.greet()
    assert office.incidents() == ["cloned device"]
    ((detail,),) = office.rows("SELECT detail FROM incident")
    for word in (RUN, RUN_2, "PC-KASSE", "PC-BACKUP", str(AT), str(AT + 60)):
        assert word in detail
    for _ in range(10):
        first.greet()
        second.greet()
    assert office.incidents() == ["cloned device"]
    office.let_pass(DAY)
    first.greet()
    assert office.incidents() == ["cloned device"] * 2
    with office.ledger.write() as connection:
        connection.execute("UPDATE incident SET acknowledged_at = ?", (office.at,))
    second.greet()
    assert office.incidents() == ["cloned device"] * 3


def test_a_clones_recorded_hellos_do_not_make_an_incident(office: Office) -> None:
    """Without proof nobody comes back: replays by the broker cannot cry wolf."""
    old, new = Machine(office, RUN), Machine(office, RUN_2, start=2)
    old.greet()
    recorded = [old.hello() for _ in range(5)]
    new.greet()
    for hello in recorded:
        office.hear(hello)
        new.greet()
    assert office.incidents() == []


def test_a_half_open_link_taken_over_is_the_same_run(office: Office) -> None:
    """The will of the old connection comes after the new hello; nothing is asked, nobody cloned."""
    machine = Machine(office, RUN)
    machine.greet()
    machine.greet()
    office.hear(Bye(run=RUN))
    machine.greet()
    assert office.incidents() == []
    assert office.rows("SELECT online FROM device WHERE no = 1") == [(1,)]


def test_too_many_hellos_of_one_device_leave_the_others_alone(tmp_path: Path) -> None:
    """It is told once to come later, then dropped without a word, and has its share again later."""
    office = Office(tmp_path, limits=HubLimits(hellos_per_minute=10))
    office.desk.handle([Linked()], office.now)
    machine = Machine(office, RUN)
    answers = [machine.say() for _ in range(100)]
    modes = [one[0].mode for one in answers if one]
    assert modes == ["snapshot"] * 10 + ["later"]
    assert office.hello(identity=OTHER).mode == "snapshot"
    office.now += 61
    assert machine.greet().mode == "snapshot"
    office.ledger.close()


def test_replayed_bytes_are_rationed_for_each_device(tmp_path: Path) -> None:
    """Who asks for everything again and again is told when to come again; others are not."""
    office = Office(tmp_path, limits=HubLimits(replay_bytes_per_minute=10_000))
    for number in range(20):
        office.issue(f"Directive {number}", body="x" * 1000)
    office.desk.handle([Linked()], office.now)
    assert office.hello().mode == "snapshot"
    told = office.hello()
    assert told.mode == "later"
    assert 0 < told.later_seconds <= 180
    assert office.hello(identity=OTHER).mode == "snapshot"
    office.now += told.later_seconds + 0.1
    assert office.hello().mode == "snapshot"
    office.ledger.close()


def test_a_device_that_knows_newer_keys_of_hq_is_told_of_once(office: Office) -> None:
    """HQ's keys were put back from an older copy: operators must know before they rotate."""
    for _ in range(3):
        office.hello(hq_key="f" * 32)
    office.hello(identity=OTHER, hq_key="f" * 32)
    assert office.incidents() == ["HQ's keys are older than those that devices know"]
    office.at += DAY
    office.hello()
    assert len(office.incidents()) == 1, "it is over"
