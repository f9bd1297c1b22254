"""What is known of one directive for one mailbox, as the ledger was found. Pure data.

Owns the shape of the facts between the ledger, which gathers them, and `custody`, which judges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from buswire.states import STORE_RANK, Needs, State
from hqconsole.lifecycle import DirectiveState


@dataclass(frozen=True, slots=True)
class Step:
    """A move of the directive, as its history has it."""

    at: float
    action: str
    state: str
    by: str
    note: str


@dataclass(frozen=True, slots=True)
class Wave:
    """The part of the audience that the mailbox belongs to; `first_at` is of the first part."""

    no: int
    of: int
    label: str
    not_before: float | None
    began_at: float | None
    sent_at: float | None
    first_at: float | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """The record that the store's devices hear it by."""

    channel: str
    number: int
    id: str
    at: float
    published: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """What a device said of the delivery, as it was kept.

    Attributes:
        kind: `receipt`, `withdrawn` or `reply`.
        device: Which said it.
        said_at: When, by that device's clock.
        received_at: When head office saved it.
        offset_seconds: How far head office's clock was ahead of the device's; None if unknown.
        outcome: Why it had no effect, or None.
        data: What was said.
    """

    kind: str
    device: str
    said_at: float
    received_at: float
    offset_seconds: float | None
    outcome: str | None
    data: dict[str, Any]

    @property
    def at(self) -> float:
        """When it was said, by head office's clock; never after it was heard."""
        return min(self.said_at + (self.offset_seconds or 0.0), self.received_at)

    @property
    def state(self) -> State | None:
        """What state it says."""
        try:
            return State(self.data.get("was" if self.kind == "withdrawn" else "state", ""))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class DeviceFact:
    """A device of the store."""

    name: str
    state: str
    """`invited`, `waiting`, `active` or `revoked`."""
    serves: bool
    """Whether it reads what is for the role."""
    online: bool
    last_heard_at: float | None


@dataclass(frozen=True, slots=True)
class Hub:
    """How head office itself stands."""

    running: bool
    connected: bool | None = None
    since_at: float | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery as the ledger has it."""

    state: State
    open: bool
    changed_at: float | None
    arrived_late: bool
    done_late: bool
    joined_at: float | None
    before_hq: State | None
    was: State | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one directive for one mailbox.

    `asked` is the selector in words; `why_not` why the mailbox is not in the audience; `due_at` is
    when it is due in this store; `seal_key` is the id of the key that sealed it.
    """

    id: str
    title: str
    state: DirectiveState
    needs: Needs
    issued_at: float | None
    issued_by: str
    store: str
    store_name: str
    region: str
    timezone: str
    role: str
    adopted_at: float | None = None
    closed_at: float | None = None
    due_at: float | None = None
    due_local: str | None = None
    author: str = ""
    written_at: float | None = None
    asked: str = ""
    continuous: bool = False
    paused_why: str = ""
    withdrawn_by: str = ""
    withdrawn_why: str = ""
    superseded_by: str = ""
    store_closed_at: float | None = None
    has_role: bool = True
    why_not: str = ""
    steps: Sequence[Step] = ()
    wave: Wave | None = None
    planned: bool = False
    delivery: Delivery | None = None
    logged: Logged | None = None
    seal_key: str = ""
    statements: Sequence[Statement] = ()
    devices: Sequence[DeviceFact] = ()
    hub: Hub = field(default_factory=lambda: Hub(running=True))

    @property
    def short_id(self) -> str:
        """The id as people type it."""
        return self.id[:8]

    @property
    def mailbox(self) -> str:
        """The mailbox in words."""
        return self.store if self.role == "any" else f"{self.store} {self.role}"

    @property
    def serving(self) -> list[DeviceFact]:
        """The devices that were let in and read what is for the role."""
        return [one for one in self.devices if one.serves and one.state == "active"]

    @property
    def reached(self) -> State:
        """The furthest that the store got, as far as head office knows."""
        if self.delivery is None:
            return State.PENDING
        known = (self.delivery.state, self.delivery.before_hq, self.delivery.was)
        return max(
            (one for one in known if one in STORE_RANK),
            key=STORE_RANK.__getitem__,
            default=State.PENDING,
        )
