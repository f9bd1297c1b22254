"""What the inbox gives out: deliveries, and what a list shows of them.

Owns when a delivery is open, to do, or closed by this device's own word, and what of a directive's
terms is read out of its data. Must not know SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from buswire.messages import Reason, Reminder
from buswire.states import STORE_RANK, Needs, State, is_open


@dataclass(slots=True)
class Delivery:
    """One directive for one role of this store, as this device sees it."""

    directive: str
    role: str
    needs: Needs
    state: State
    said: State = State.PENDING
    """The highest that this device said itself; pending when it said nothing."""
    closed_by_hq: bool = False
    unsure: bool = False
    """Open here, and not named by HQ's latest snapshot."""
    number: int = 0
    arrival: int = 0
    asked: int = 0
    receipt_position: int = 0
    original_position: int = 0
    received_at: float = 0.0
    changed_at: float = 0.0
    changed_by: str = ""
    reason: str = ""
    code: str = ""
    """With `cannot`: which of the directive's reasons."""
    remind_at: float | None = None
    """When its reminders are to be looked at next; None when nothing is to come."""
    reminded_at: float = 0.0
    """Of the latest reminder, 0 when there was none."""
    reminder: str = ""
    """HQ's words with the latest reminder by hand."""
    reminded_by: str = ""
    """Who of HQ that was."""
    steps: tuple[int, ...] = ()
    """Of each reminder rule of the directive, how many steps have come and count no more."""
    insisted: bool = False
    """Whether it was said that the directive is forced from now on."""

    @property
    def open(self) -> bool:
        """Whether HQ still waits for it."""
        return not self.closed_by_hq and is_open(self.state, self.needs)

    @property
    def todo(self) -> bool:
        """Whether somebody in the store should look at it."""
        return self.open or (
            not self.closed_by_hq and STORE_RANK.get(self.state, 0) <= STORE_RANK[State.DELIVERED]
        )

    @property
    def stood(self) -> State:
        """How far the store was: where HQ has closed it already, what this device had said."""
        return self.said if self.closed_by_hq else self.state

    @property
    def settled_here(self) -> bool:
        """Whether this device's own word closed it, which HQ's words do not undo."""
        return self.said in {State.DONE, State.CANNOT}


class Terms(msgspec.Struct, frozen=True):
    """What is read out of a directive's data when it is needed: no column has it."""

    due: str | None = None
    forced_from: str | None = None
    reasons: Sequence[Reason] = ()
    remind: Sequence[Reminder] = ()
    supersedes: str = ""
    undoes: str = ""

    @property
    def by_the_clock(self) -> bool:
        """Whether something of it happens by the clock."""
        return bool(self.remind) or self.forced_from is not None


_terms = msgspec.json.Decoder(Terms)


def terms_of(data: bytes) -> Terms:
    """The terms in a directive's data.

    What an earlier version of this program has kept was not held against them: where they do not
    fit, there are none.
    """
    try:
        return _terms.decode(data)
    except msgspec.MsgspecError:
        return Terms()


def reason_words(reason: Reason, language: str) -> str:
    """A reason in this language, such as `zh-CN` or `zh`; as HQ wrote it first where it has none.

    Any tag of the same language is better than none: `zh` for `zh-CN`, and `zh-TW` for `zh`.
    """
    wanted = language.replace("_", "-").casefold()
    texts = {tag.replace("_", "-").casefold(): text for tag, text in reason.texts.items()}
    while wanted:
        if wanted in texts:
            return texts[wanted]
        wanted = wanted.rpartition("-")[0]
    first = language.replace("_", "-").casefold().partition("-")[0]
    alike = (text for tag, text in texts.items() if tag.partition("-")[0] == first)
    return next(alike, reason.text) if first else reason.text


class Item(NamedTuple):
    """A delivery with what a list shows of its directive."""

    delivery: Delivery
    title: str
    kind: str
    priority: str
    due: str | None
    issued_at: float
    issued_by: str
    forced_from: str | None = None
    """A moment like `due`: from then on the device insists on it."""
    reasons: Sequence[Reason] = ()
    """What a store that cannot chooses from; none means free text. See `reason_words`."""
    supersedes: str = ""
    """The directive that this one stands in for."""
    superseded_by: str = ""
    """The directive that stands in for this one, where HQ withdrew it for that."""
    undoes: str = ""
    """The withdrawn directive that this one asks to be undone."""

    @property
    def reminded_at(self) -> float:
        """Of the latest reminder, 0 when there was none."""
        return self.delivery.reminded_at


class Event(NamedTuple):
    """Something about a piece of work that came by the clock, or that HQ said again."""

    number: int
    kind: str
    """`reminder` or `forced`."""
    directive: str
    role: str
    at: float


class HeldCancel(NamedTuple):
    """A withdrawal as it was received."""

    directive: str
    role: str
    data: bytes
    seal: str
    original_position: int


class Aside(NamedTuple):
    """Something of HQ's that this device could not use, and how often it came."""

    what: str
    source: str
    detail: str
    times: int
    first_at: float
    last_at: float


class HookFailure(NamedTuple):
    """An arrival for which the hook failed too often."""

    arrival: int
    directive: str
    role: str
    error: str
    failed_at: float
