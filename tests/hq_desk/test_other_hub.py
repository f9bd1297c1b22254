"""Two hubs on one broker: the older one stays, whatever was recorded."""

import pytest

from buswire.messages import Hub
from hqconsole.other_hub import Answer, answer_to

OWN, OTHER = "5" * 32, "7" * 32


@pytest.mark.parametrize(
    ("said", "retained", "answer"),
    [
        (Hub(run=OWN, up=True, since_at=10.0), False, Answer.NOTHING),
        (Hub(run=OTHER, up=True, since_at=5.0, heard=OWN), True, Answer.NOTHING),
        (Hub(run=OTHER, up=False, since_at=5.0), False, Answer.GREET),
        (Hub(run=OTHER, up=True, since_at=15.0), False, Answer.GREET_IT),
        (Hub(run=OTHER, up=True, since_at=15.0, heard=OWN), False, Answer.GREET_IT),
        (Hub(run=OTHER, up=True, since_at=10.0), False, Answer.GREET_IT),
        (Hub(run="3" * 32, up=True, since_at=10.0, heard=OWN), False, Answer.GO),
        (Hub(run=OTHER, up=True, since_at=5.0), False, Answer.GREET),
        (Hub(run=OTHER, up=True, since_at=5.0, heard=OWN), False, Answer.GO),
    ],
)
def test_who_goes(said: Hub, retained: bool, answer: Answer) -> None:
    """Only an older run that has heard this one makes it go; of two of one age, the lower name."""
    assert answer_to(said, retained=retained, run=OWN, since_at=10.0) is answer


@pytest.mark.parametrize("times", [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)])
def test_of_two_that_are_there_exactly_one_goes(times: tuple[float, float]) -> None:
    """Each greets by name whom it outlives, and that one goes."""
    runs = OWN, OTHER
    gone = []
    for own, other in ((0, 1), (1, 0)):
        first = Hub(run=runs[own], up=True, since_at=times[own])
        answer = answer_to(first, retained=False, run=runs[other], since_at=times[other])
        heard = runs[own] if answer is Answer.GREET_IT else ""
        second = Hub(run=runs[other], up=True, since_at=times[other], heard=heard)
        if answer_to(second, retained=False, run=runs[own], since_at=times[own]) is Answer.GO:
            gone.append(own)
    assert len(gone) == 1
