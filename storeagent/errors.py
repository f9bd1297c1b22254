"""What can go wrong on a store device; each module derives its own errors from `AgentError`."""

from buswire.errors import BusError


class AgentError(BusError):
    """Something that a store device was asked to do cannot be done."""


class OutboxFull(AgentError):  # noqa: N818 - the state is the name, as with the database errors
    """The new entry was refused before it was accepted; everything accepted earlier is kept."""


class InvalidEntry(AgentError):  # noqa: N818 - it names what was handed in
    """What was to be recorded does not fit its kind; nothing was recorded."""

    exit_code = 2


class NoSuchWork(AgentError):  # noqa: N818 - it names what was asked for
    """The inbox has no such directive, or more than one that fits."""
