"""Whether the next wave of a directive may go: what the one before it must show. Pure.

Owns the gate's meaning and its JSON. Must not know the ledger or clocks.

A gate is judged over the mailboxes of the wave before. *Done* is who met what the directive needs,
*cannot* who said so. It opens when at least `done_percent` are done, as long as at most
`cannot_percent` cannot; it shuts as soon as more than that cannot, or when `within_seconds` have
passed since that wave went out and not enough are done. Shut means paused, for an operator to look.
"""

import enum
import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

from hqconsole.errors import HqError


@dataclass(frozen=True, slots=True)
class Gate:
    """What a wave must show before the next one goes.

    Attributes:
        done_percent: At least so many of its mailboxes are done.
        cannot_percent: At most so many cannot.
        within_seconds: From when its last record went out; None waits for as long as it takes.
    """

    done_percent: float = 100.0
    cannot_percent: float = 0.0
    within_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("done_percent", "cannot_percent"):
            if not 0 <= getattr(self, name) <= 100:
                raise HqError(f"{name} is {getattr(self, name):g}", hint="from 0 to 100")
        if self.within_seconds is not None and not self.within_seconds > 0:
            raise HqError("a wave needs some time", hint="such as 24h")

    def to_json(self) -> str:
        """As the ledger keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Gate":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


class Progress(NamedTuple):
    """How a wave stands."""

    mailboxes: int
    """Those that HQ counts: without the removed ones."""
    done: int
    cannot: int
    sent_at: float
    """When the last of it went out."""


class Verdict(enum.Enum):
    """What a gate says."""

    OPEN = "open"
    WAIT = "wait"
    SHUT = "shut"


class Judgement(NamedTuple):
    """A gate's verdict on a wave."""

    verdict: Verdict
    why: str = ""
    """With SHUT: for the operator."""
    look_at: float | None = None
    """With WAIT: when the time is over, if it ever is."""


def judge(gate: Gate, wave: Progress, at: float) -> Judgement:
    """Decide whether the next wave goes.

    Args:
        gate: What is asked for.
        wave: How the wave before stands.
        at: Unix time.
    """
    if not wave.mailboxes:
        return Judgement(Verdict.OPEN)
    done = 100 * wave.done / wave.mailboxes
    cannot = 100 * wave.cannot / wave.mailboxes
    counts = f"{wave.done:,} of {wave.mailboxes:,} done, {wave.cannot:,} cannot"
    if cannot > gate.cannot_percent:
        why = f"{counts}: more than {gate.cannot_percent:g} % cannot"
        return Judgement(Verdict.SHUT, why)
    if done >= gate.done_percent:
        return Judgement(Verdict.OPEN)
    if gate.within_seconds is None:
        return Judgement(Verdict.WAIT)
    over_at = wave.sent_at + gate.within_seconds
    if at < over_at:
        return Judgement(Verdict.WAIT, look_at=over_at)
    why = f"{counts} when its time was over: {gate.done_percent:g} % were asked for"
    return Judgement(Verdict.SHUT, why)


def share(rate_per_hour: float, mailboxes: int, began_at: float, at: float) -> int:
    """How many mailboxes of a wave may have gone out by now under a rate limit; at least one."""
    hours = max(0.0, at - began_at) / 3600
    return min(mailboxes, 1 + int(rate_per_hour * hours))


def next_share_at(
    rate_per_hour: float, sent: int, began_at: float, *, at: float, slice_seconds: float
) -> float:
    """When the next slice goes under a rate limit: one mailbox at least, no oftener than that."""
    return max(at + slice_seconds, began_at + 3600 * sent / rate_per_hour)
