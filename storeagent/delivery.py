"""What the inbox gives out: deliveries, and what a list shows of them.

Owns when a delivery is open, to do, or closed by this device's own word. Must not know SQL.
"""

from dataclasses import dataclass
from typing import NamedTuple

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
    def settled_here(self) -> bool:
        """Whether this device's own word closed it, which HQ's words do not undo."""
        return self.said in {State.DONE, State.CANNOT}


class Item(NamedTuple):
    """A delivery with what a list shows of its directive."""

    delivery: Delivery
    title: str
    kind: str
    priority: str
    due: str | None
    issued_at: float
    issued_by: str


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
