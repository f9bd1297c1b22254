"""Every bound on what a device keeps, in one place, with its default and the reason for it."""

from dataclasses import dataclass
from pathlib import Path

SETTINGS_NAME = "agent.toml"

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much each of the two logs may hold; settings of a device may change all of them.

    The worst case on the disk is, for each log, what waits plus the reserve plus what is kept
    after HQ acknowledged it.
    """

    rows: int = 2_000_000
    """Entries of one log that wait for HQ; one more is refused."""
    size_bytes: int = 512 * MIB
    """Data of one log that waits for HQ; what would exceed it is refused."""
    reserve_rows: int = 100_000
    """What the protocol itself must say (delivered, originals) may go so far above `rows`."""
    reserve_bytes: int = 64 * MIB
    """The same above `size_bytes`."""
    kept_rows: int = 1_000_000
    """Acknowledged entries kept for a ledger that comes back from an older copy."""
    kept_bytes: int = 256 * MIB
    """Their data; the oldest go first."""
    kept_days: int = 30
    """How long they, closed work and withdrawals are kept: HQ may ask for them again."""
    least_free_bytes: int = 32 * MIB
    """With less room on the disk, new entries of people and scripts are refused."""


def read_limits(home: Path) -> Limits:
    """Read the limits of a home; costs nothing worth mentioning where none are set.

    Raises:
        HomeError: There are no settings, or they are not TOML.
        SettingsError: A setting is unknown or cannot be.
    """
    try:
        if b"limits" not in (home / SETTINGS_NAME).read_bytes():
            return Limits()
    except OSError:
        pass  # the full reading says what is wrong
    from storeagent.settings import read_agent_settings  # noqa: PLC0415 - all of the contract

    return read_agent_settings(home).limits
