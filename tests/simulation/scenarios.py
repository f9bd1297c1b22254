"""What goes wrong in which scenario, how often, and how often it must really have happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.simulation.network import DOUBLED_MOST_SECONDS


@dataclass(frozen=True)
class Scenario:
    """One kind of bad day. Rates are per virtual second, for the whole world."""

    name: str
    loss: float = 0.0
    duplication: float = 0.0
    delay_most_seconds: float = 0.1
    rates: Mapping[str, float] = field(default_factory=dict)
    """How often each method of `Faults` strikes."""
    at_least: Mapping[str, float] = field(default_factory=dict)
    """How often each thing must have happened per hundred seeds, or the run proves nothing."""
    trouble_seconds: float = 40.0
    stores: int = 3
    devices: tuple[int, ...] = (1, 2, 2)
    """How many a store has; one of these."""
    issue_seconds: float = 4.0
    say_seconds: float = 1.2
    """How long it takes on average until somebody at HQ, or in a store, does something."""
    withdrawn_share: float = 0.12
    """How much of what operators do is withdrawing; often the newest directive, at once."""
    in_parts_share: float = 0.0
    """How much of what is issued goes out later, in waves, or no faster than so many an hour."""
    captured: bool = False
    """Whether the broker is in wrong hands while there is trouble; `rates` name its deeds too."""
    reopens: bool = False
    """Whether HQ may truly open again what it had closed, so that a device shows it once more."""

    @property
    def under_way_seconds(self) -> float:
        """How long a message may be on its way at most, by both wires."""
        doubled = DOUBLED_MOST_SECONDS if self.duplication else 0.0
        return 2 * (self.delay_most_seconds + doubled) + 0.5


_WIRES = {"cut": 0.15, "unplug": 0.06, "broker_restart": 0.02}
_HUB = {"hub_killed": 0.08}
_DEVICES = {"device_killed": 0.12, "disk_full": 0.03, "power_off": 0.05, "stopped": 0.02}
_DISASTERS = {
    "image_taken": 0.10,
    "wiped": 0.03,
    "put_back": 0.04,
    "cloned": 0.015,
    "put_back_whole": 0.02,
}
_ROSTER = {
    "moved": 0.04,
    "moved_there_and_back": 0.02,
    "roles_of_store": 0.03,
    "roles_of_device": 0.03,
    "new_store": 0.01,
    "new_device": 0.01,
    "closed_for_a_while": 0.015,
}
_KEYS = {"key_rotated": 0.25, "keys_lost": 0.015, "keys_stolen": 0.015, "revoked": 0.06}
# (Keys are not stolen where ledgers are put back: what only a stolen key sealed nobody adopts.)
_FEW_KEYS = {"key_rotated": 0.06, "keys_lost": 0.01, "revoked": 0.03}
_LEDGER = {"ledger_copied": 0.10, "ledger_put_back": 0.05}

CALM = Scenario(
    "calm",
    at_least={
        "directives issued": 500,
        "directives cancelled": 40,
        "directives expired": 80,
        "statements": 600,
        "alerts": 300,
        "reports": 150,
        "replies": 80,
    },
)
LOSSY = Scenario(
    "lossy",
    loss=0.12,
    duplication=0.10,
    delay_most_seconds=2.0,
    rates=_WIRES,
    at_least={
        "messages lost": 3000,
        "messages doubled": 2000,
        "messages overtaking": 5000,
        "links cut": 300,
        "devices unplugged": 90,
        "broker restarts": 25,
        "wills published": 200,
    },
)
HUB_CRASHES = Scenario(
    "hub crashes",
    loss=0.03,
    duplication=0.03,
    delay_most_seconds=0.5,
    rates={**_HUB, "cut": 0.05},
    at_least={"hub killed before a commit": 60, "hub killed behind a commit": 45},
)
DEVICE_DISASTERS = Scenario(
    "device disasters",
    loss=0.05,
    duplication=0.05,
    delay_most_seconds=0.7,
    rates={**_DEVICES, **_DISASTERS, "cut": 0.05, "unplug": 0.05},
    at_least={
        "devices killed before a commit": 80,
        "devices killed behind a commit": 100,
        "device disks full": 20,
        "devices wiped": 60,
        "devices put back": 60,
        "devices cloned": 20,
        "clones told of": 6,
        "devices put back whole": 30,
        "sessions taken over": 40,
    },
)
ROSTER_MOVES = Scenario(
    "roster moves",
    loss=0.05,
    duplication=0.05,
    delay_most_seconds=1.0,
    rates={**_ROSTER, "unplug": 0.08, "cut": 0.05, "power_off": 0.03},
    at_least={
        "stores moved": 100,
        "stores moved there and back": 22,
        "stores changed roles": 40,
        "devices changed roles": 60,
        "new stores": 20,
        "new devices": 12,
        "stores closed for a while": 30,
    },
    reopens=True,
)
CROSSINGS = Scenario(
    "crossings",
    loss=0.12,
    delay_most_seconds=2.5,
    rates={"roles_of_device": 0.3, "moved": 0.15, "moved_there_and_back": 0.1, "unplug": 0.05},
    at_least={
        "messages overtaking": 5000,
        "devices changed roles": 500,
        "stores moved": 300,
        "stores moved there and back": 150,
        "directives cancelled": 150,
    },
    stores=2,
    devices=(2, 3),
    issue_seconds=2.0,
    say_seconds=0.5,
    withdrawn_share=0.3,
    reopens=True,
)
OVERTAKING = Scenario(
    "overtaking",
    loss=0.2,
    duplication=0.05,
    delay_most_seconds=2.5,
    rates={"issued_in_error": 0.15, "unplug": 0.02},
    at_least={
        "messages overtaking": 5000,
        "messages lost": 5000,
        "directives issued in error": 150,
        "directives cancelled": 150,
    },
    stores=4,
    devices=(2, 2, 3),
    issue_seconds=2.0,
    say_seconds=0.4,
    withdrawn_share=0.35,
    reopens=True,
)
LEDGER_RESTORE = Scenario(
    "ledger restore",
    loss=0.05,
    duplication=0.05,
    delay_most_seconds=0.7,
    rates={**_LEDGER, "hub_killed": 0.03, "cut": 0.05, "unplug": 0.05},
    at_least={"ledger put back, a new run": 40, "ledger put back, unnoticed": 40},
    reopens=True,
)
ROLLOUTS = Scenario(
    "rollouts",
    loss=0.05,
    duplication=0.05,
    delay_most_seconds=1.0,
    rates={**_LEDGER, "hub_killed": 0.1, "cut": 0.05, "unplug": 0.05, "moved": 0.03},
    at_least={
        "directives issued in parts": 300,
        "ledger put back, a new run": 30,
        "ledger put back, unnoticed": 30,
        "hub killed before a commit": 30,
    },
    stores=4,
    issue_seconds=3.0,
    in_parts_share=0.7,
    reopens=True,
)
KEY_CHANGES = Scenario(
    "key changes",
    loss=0.05,
    delay_most_seconds=1.0,
    rates={**_KEYS, "power_off": 0.15, "unplug": 0.10, "hub_killed": 0.03},
    at_least={
        "HQ keys rotated": 300,
        "HQ keys lost": 40,
        "HQ keys stolen": 40,
        "devices revoked": 150,
        "hellos from two keys behind": 100,
    },
)
CAPTURED_BROKER = Scenario(
    "captured broker",
    loss=0.03,
    duplication=0.03,
    delay_most_seconds=1.0,
    rates={
        "say_again": 2.0,
        "say_kept": 0.5,
        "stopped": 0.10,
        "lie": 2.5,
        "steal_work": 0.5,
        "misuse_till": 0.5,
        "cut": 0.05,
        "power_off": 0.03,
        "key_rotated": 0.04,
        "keys_stolen": 0.02,
        "revoked": 0.02,
    },
    at_least={
        "messages altered": 1500,
        "messages held back": 1500,
        "messages said again": 3000,
        "messages said again elsewhere": 3000,
        "messages forged": 6000,
        "things said by a stolen till": 1500,
    },
    captured=True,
)
EVERYTHING = Scenario(
    "everything",
    loss=0.08,
    duplication=0.08,
    delay_most_seconds=1.5,
    rates={**_WIRES, **_HUB, **_DEVICES, **_DISASTERS, **_ROSTER, **_LEDGER, **_FEW_KEYS},
    at_least={
        "messages lost": 2000,
        "messages doubled": 1500,
        "broker restarts": 40,
        "hub killed before a commit": 40,
        "hub killed behind a commit": 40,
        "devices wiped": 40,
        "devices put back": 40,
        "devices cloned": 10,
        "stores moved": 60,
        "ledger put back, a new run": 25,
        "ledger put back, unnoticed": 25,
    },
    stores=4,
    reopens=True,
)

SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        CALM,
        LOSSY,
        HUB_CRASHES,
        DEVICE_DISASTERS,
        ROSTER_MOVES,
        CROSSINGS,
        OVERTAKING,
        LEDGER_RESTORE,
        ROLLOUTS,
        KEY_CHANGES,
        CAPTURED_BROKER,
        EVERYTHING,
    )
}
