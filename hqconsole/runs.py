"""Whether a hello is really said now, by the device's only process: the rule, without a database.

A recorded hello can be said again by whoever carries messages, and a store PC can be imaged. So HQ
remembers the latest runs of each device (a run is one process of its agent), and how many hellos
each has said. The signature says who wrote a hello; these rules say whether it is of now:

- Of a run that is known, only a hello with a higher number than the last counts.
- A run that is not known is taken at its word where it plainly comes after the known ones: on the
  same database (install), begun later (start). A device that HQ has never heard is, too.
- Every other one has to prove first that it is alive: HQ draws a challenge, says it to the device,
  and the next hello repeats it. That goes for a run on a database that was put back or is new, for
  a run that speaks again after another one did, and for a machine that was put back whole, whose
  numbers begin again below what HQ has heard.

So what the network doubles, holds back or plays again changes nothing; and when a run has proved
that it is alive after another one spoke, and the other then proves the same, two machines have one
identity. One such comeback alone can be a machine that was put back whole.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple

from buswire.messages import Hello


class Run(NamedTuple):
    """What HQ remembers of one process of a device."""

    run: str
    install: str
    start: int
    number: int
    """Of its latest hello."""
    machine: str
    first_at: float
    last_at: float
    comebacks: int
    """How often it proved that it is alive after another run had spoken."""


class Verdict(enum.Enum):
    """What is to be done with a hello."""

    TAKE = "it is of now: answer it"
    REPEAT = "it was said before: drop it"
    PROVE = "it may be of old: make the device say it again, with a challenge"


class Ruling(NamedTuple):
    """The verdict, and whether the run came back after another one had spoken."""

    verdict: Verdict
    came_back: bool = False


def judge_run(hello: Hello, known: Mapping[str, Run], present: str, *, proved: bool) -> Ruling:
    """Judge a hello that bears the device's signature.

    Args:
        hello: What was said.
        known: The runs that HQ remembers of the device.
        present: The run that spoke last.
        proved: Whether the hello repeats the challenge that was drawn for its run.
    """
    run = known.get(hello.run)
    if run is not None:
        if hello.number <= run.number and not proved:
            return Ruling(Verdict.REPEAT)
        if hello.run == present:
            return Ruling(Verdict.TAKE)
        return Ruling(Verdict.TAKE, came_back=True) if proved else Ruling(Verdict.PROVE)
    starts = [one.start for one in known.values() if one.install == hello.install]
    if proved or not known or (starts and hello.start > max(starts)):
        return Ruling(Verdict.TAKE)
    return Ruling(Verdict.PROVE)


def alternates_with(known: Mapping[str, Run], present: str, ruling: Ruling) -> Run | None:
    """The run that the judged one takes turns with: each came back after the other had spoken."""
    other = known.get(present)
    return other if ruling.came_back and other is not None and other.comebacks else None
