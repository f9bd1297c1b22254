"""Every wait and bound of HQ's end of the protocol. Knows nothing of what waits."""

from dataclasses import dataclass

from buswire.messages import BATCH_BYTES


@dataclass(frozen=True, slots=True)
class DeskTiming:
    """Every wait and bound of the desk; `[timing]` in the settings changes them, so do tests."""

    heads_seconds: float = 30.0
    nudge_seconds: float = 30.0
    nudge_spacing_seconds: float = 5.0
    offline_seconds: float = 750.0
    """Two and a half beats: a device that was silent for so long is not there."""
    want_seconds: float = 1.0
    """How often a device is looked for that may have what HQ forgot, while something waits."""
    sure_seconds: float = 10.0
    """A record counts as published when the link has lived for so long after sending it."""
    hellos_per_second: float = 400.0
    """How many hellos are expected to be answered in a second: devices spread theirs by it."""
    hellos_per_batch: int = 200
    """More than these in one batch are told to come again later."""
    replay_records: int = 1000
    """A device further behind gets a snapshot."""
    replay_bytes: int = 2 * BATCH_BYTES
    """How much one hello is replayed at most; the device then asks for more."""
    page_bytes: int = BATCH_BYTES
    """How much of a snapshot goes into one page."""
    publish_records: int = 2000
    """How many new records one batch publishes."""
    settling_seconds: float = 300.0
    """So long after a silence of HQ nothing is taken for late: answers are on their way."""
    index_seconds: float = 5.0
    """How often what is new is indexed for searching, a piece at a time."""


@dataclass(frozen=True, slots=True)
class HubLimits:
    """What one device may take of HQ; `[limits]` in the settings changes it.

    They hold against a device that was taken over or went mad, one at a time, so that the others do
    not feel it; an honest one comes nowhere near.
    """

    hellos_per_minute: int = 120
    """More are told to come later, then dropped."""
    replay_bytes_per_minute: int = 32 * 1024 * 1024
    """More answers than this, replayed records and snapshots together, are told to come later."""
    kept_bytes: int = 2 * 1024 * 1024 * 1024
    """So much of its records is kept as evidence; then nothing more is taken of it until an
    operator allows more: `hq device allow`."""
