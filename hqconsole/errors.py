"""What can go wrong at head office; each module derives its own errors from `HqError`."""

from buswire.errors import BusError


class HqError(BusError):
    """Something that head office was asked to do cannot be done."""
