"""What a core is told and what it wants done: the words between it and whoever drives it."""

from dataclasses import dataclass

# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Linked:
    """The link is up; nothing is subscribed on it yet."""


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The link is gone."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message arrived."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Rang:
    """Time has passed, or another process has written the outbox: do what is due."""


Event = Linked | Unlinked | Heard | Rang

# --- what is to be done after a batch ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this; when it gets lost, the protocol sends it again by itself."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Make the subscriptions these, all of them and no other."""

    filters: tuple[str, ...]
    again: tuple[str, ...] = ()
    """Those to ask for even if they are subscribed already."""


Outgoing = Publish | Subscribe
