"""The hub's time of day with its memory in the ledger: what was told last, and who was asked.

Owns when an operator hears that the machine's clock was set, and that an acknowledged incident
means that the clock is right. When a clock is not followed is `steady_clock`.
"""

from collections.abc import Callable

from buskit.database import Database
from buswire.messages import Hello
from hqconsole.batch import Batch
from hqconsole.ledger import progress
from hqconsole.ledger.devices import Device, anyone_ever_heard
from hqconsole.ledger.troubles import is_acknowledged, record_incident
from hqconsole.steady_clock import SteadyClock

CLOCK_SET = "HQ's clock was set"
"""The kind of the incident that this machine's clock jumped and the hub does not follow."""
_TELL_SECONDS = 60.0
"""So long the devices have time to say that the clock is right."""
_SAVE_SECONDS = 5.0
_SAVE_AT_REST_SECONDS = 3600.0


class Timekeeping:
    """HQ's time of day for one desk."""

    def __init__(self, ledger: Database, wall_clock: Callable[[], float]) -> None:
        """Go on from what the ledger was told last."""
        self.clock = SteadyClock(wall_clock, last_at=progress.clock_at(ledger.connection))
        self._wall_clock = wall_clock
        self._saved = float("-inf")
        self._told_of: float | None = None

    def attend(self, batch: Batch) -> None:
        """Do what is due about the clock; once in each batch."""
        wait = _SAVE_SECONDS if batch.writes else _SAVE_AT_REST_SECONDS
        if batch.now >= self._saved + wait:
            progress.save_clock_at(batch.connection, batch.at)
            self._saved = batch.now
        since = self.clock.doubted_since
        if since is None:
            self._told_of = None
            return
        if not anyone_ever_heard(batch.reading):
            self.clock.follow()  # there is nobody to ask
        elif self._told_of == since:
            if is_acknowledged(batch.reading, CLOCK_SET):
                self.clock.follow()
        elif batch.now >= since + _TELL_SECONDS:
            record_incident(
                batch.connection,
                CLOCK_SET,
                at=batch.at,
                device_no=None,
                clock_at=self._wall_clock(),
                ahead_seconds=round(self.clock.ahead_seconds),
            )
            self._told_of = since

    def hear(self, device: Device, hello: Hello, now: float) -> bool:
        """Hear what a device's clock says; whether its offset is to be measured anew by it.

        While this machine's clock is in doubt, what was measured before is all there is to go by.
        """
        if self.clock.doubted_since is not None and device.install:
            self.clock.witness(device.no, hello.clock_at, device.clock_offset_seconds, now)
        return self.clock.doubted_since is None or not device.install
