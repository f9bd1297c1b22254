"""Warnings about clients, a few at a time: a flood must not fill the disk by way of the log.

Pure but for the log. Of each kind some are told at once; what comes above is counted and summed up
in the next one that is told.
"""

import logging

from broker.metering import Bucket

_PER_SECOND = 1.0
_BURST = 20


class Notices:
    """The warnings of one broker."""

    def __init__(self, log: logging.Logger) -> None:
        """Take where they go."""
        self._log = log
        self._kinds: dict[str, Bucket] = {}
        self._untold: dict[str, int] = {}

    def tell(self, kind: str, now: float, message: str, *values: object) -> None:
        """Warn, or count; `kind` is one of few, `message` and `values` are as for `logging`."""
        bucket = self._kinds.get(kind)
        if bucket is None:
            bucket = self._kinds[kind] = Bucket(_PER_SECOND, _BURST, now=now)
        if bucket.fill(now) < 1:
            self._untold[kind] = self._untold.get(kind, 0) + 1
            return
        bucket.take(1)
        untold = self._untold.pop(kind, 0)
        if untold:
            message += " (and %d more like it that were not told)"
            values += (untold,)
        self._log.warning(message, *values)
