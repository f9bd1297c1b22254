"""How an audience is cut into waves, and whether the next one may go. Pure.

Owns the gate's meaning and its JSON: what a wave must show before the next one goes. Must not
know the ledger or clocks.

A gate is judged over the mailboxes of the wave before. *Done* is who met what the directive needs,
*cannot* who said so. It opens when at least `done_percent` are done, as long as at most
`cannot_percent` cannot; it shuts as soon as more than that cannot, or when `within_seconds` have
passed since that wave went out and not enough are done. Shut means paused, for an operator to look.
"""

import enum
import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from hqconsole.errors import HqError
from hqconsole.organisation import Mailbox

SLICE_SECONDS = 10.0
"""Under a rate limit a wave goes out in slices, about as often as this."""
_MADE_UP_SECONDS = 60.0
"""A slice that is late by less than this is as big as if it were not."""
_ALMOST = 1 - 1e-9
"""A moment that was computed is reached in spite of rounding."""


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


def judge(gate: Gate, wave: Progress, at: float, *, settled_at: float = 0.0) -> Judgement:
    """Decide whether the next wave goes.

    Args:
        gate: What is asked for.
        wave: How the wave before stands.
        at: Unix time.
        settled_at: What stores did while head office could not hear them is on its way until then:
            before it nothing is said to be late.
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
    over_at = max(wave.sent_at + gate.within_seconds, settled_at)
    if at < over_at:
        return Judgement(Verdict.WAIT, look_at=over_at)
    why = f"{counts} when its time was over: {gate.done_percent:g} % were asked for"
    return Judgement(Verdict.SHUT, why)


def parts(
    mailboxes: Collection[Mailbox], pilot: Collection[str], percents: Sequence[float]
) -> list[tuple[str, set[Mailbox]]]:
    """Cut an audience into waves, each with its label; a store is never in two of them.

    Args:
        mailboxes: All of it.
        pilot: The stores that come first; none for no such wave.
        percents: Up to which share of the other stores each further wave reaches, rising; what is
            left is the last wave. Which stores they are is drawn by their names, so that a wave is
            a fair sample and the same audience is always cut in the same way.

    Raises:
        HqError: Nobody of the pilot is meant, or the shares do not rise from above 0 to 100.
    """
    if any(not 0 < one <= 100 for one in percents) or sorted(set(percents)) != list(percents):
        raise HqError("the shares of waves must rise, up to 100", hint="such as --waves 10,50")
    first = {one for one in mailboxes if one.store in set(pilot)}
    if pilot and not first:
        raise HqError(
            f"none of the pilot stores is meant: {', '.join(sorted(pilot)[:5])}",
            hint="name stores of the audience",
        )
    others = sorted({one.store for one in mailboxes if one not in first}, key=_drawn)
    found = [("pilot", first)] if first else []
    begin = 0
    for percent in [*percents, 100.0]:
        end = math.ceil(len(others) * percent / 100)
        stores = set(others[begin:end])
        if stores:
            label = "the rest" if percent == 100 else f"up to {percent:g} %"
            found.append((label, {one for one in mailboxes if one.store in stores}))
        begin = max(begin, end)
    return found


def _drawn(store: str) -> bytes:
    return hashlib.sha256(store.encode()).digest()


def by_zone(
    mailboxes: Collection[Mailbox], zones: Mapping[str, str], moment_at: Callable[[str], float]
) -> list[tuple[str, float, set[Mailbox]]]:
    """Cut an audience into one wave for each time zone, the earliest first.

    Args:
        mailboxes: All of it.
        zones: The time zone of each store.
        moment_at: When the moment comes in a time zone.
    """
    found: dict[str, set[Mailbox]] = {}
    for mailbox in mailboxes:
        found.setdefault(zones[mailbox.store], set()).add(mailbox)
    return sorted(
        ((zone, moment_at(zone), there) for zone, there in found.items()),
        key=lambda one: (one[1], one[0]),
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """A rate limit: so many mailboxes an hour, in slices.

    It is kept as the moment up to which its time is used up: each mailbox uses the time between two
    of them. What did not go out while nothing could (the hub was down, somebody paused it) is not
    made up for: a wave is not to fall on the stores all at once because it was held up.
    """

    rate_per_hour: float

    @property
    def _spacing_seconds(self) -> float:
        return 3600 / self.rate_per_hour

    @property
    def _slice_seconds(self) -> float:
        return max(self._spacing_seconds, SLICE_SECONDS)

    def slice(self, used_until: float | None, at: float) -> tuple[int, float]:
        """How many mailboxes may go now, and from when on they use time.

        Args:
            used_until: Up to when time is used; None where nothing went yet.
            at: Unix time.
        """
        if used_until is None:
            return 1, at - self._spacing_seconds
        used_until = min(used_until, at + self._spacing_seconds)  # the clock may be put back
        free_seconds = min(at - used_until, max(self._spacing_seconds, _MADE_UP_SECONDS))
        if free_seconds < self._slice_seconds * _ALMOST:
            return 0, used_until
        count = int(free_seconds / self._spacing_seconds + 1 - _ALMOST)
        return max(1, count), at - free_seconds

    def used_until(self, start: float, count: int) -> float:
        """Up to when time is used once so many went that use it from `start` on."""
        return start + count * self._spacing_seconds

    def next_at(self, used_until: float) -> float:
        """When the next slice may go."""
        return used_until + self._slice_seconds
