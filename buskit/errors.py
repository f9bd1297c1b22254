"""What can go wrong in the shared I/O shell; each module derives its own errors from `KitError`."""

from buswire.errors import BusError


class KitError(BusError):
    """A file, lock, database, connection or terminal did not do what was asked of it."""
