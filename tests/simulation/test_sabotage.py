"""The simulation notices when a rule of the protocol is missing.

Each rule of `sabotages` is removed from the code that ships, and a few seeds of the scenario in
which it matters most are run: one of them must be judged faulty. The same seeds without the
sabotage are clean, so it is the missing rule that is noticed.
"""

from typing import NamedTuple

import pytest

from tests.simulation import sabotages
from tests.simulation.sabotages import Sabotage
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World

SEEDS_MOST = 10
"""So many seeds are tried, from the one that is known to notice when this was written."""


class Case(NamedTuple):
    """A sabotage, and where it is noticed."""

    sabotage: Sabotage
    scenario: str
    seed: int


CASES = (
    Case(sabotages.cursor_ids, "ledger restore", 5),
    Case(sabotages.set_version, "roster moves", 0),
    Case(sabotages.whole_snapshot, "crossings", 1),
    Case(sabotages.repeated_hello, "lossy", 0),
    Case(sabotages.beat, "lossy", 0),
    Case(sabotages.new_channels, "roster moves", 0),
    Case(sabotages.older_copy, "device disasters", 24),
    Case(sabotages.rebased_uplink, "device disasters", 0),
    Case(sabotages.failed_commit, "device disasters", 3),
    Case(sabotages.unsure_work, "crossings", 0),
    Case(sabotages.overtaken_snapshot, "crossings", 11),
    Case(sabotages.own_statements, "crossings", 0),
    Case(sabotages.early_cancel, "overtaking", 2),
    Case(sabotages.early_change, "overtaking", 0),
    Case(sabotages.originals, "ledger restore", 1),
    Case(sabotages.cancels_back, "ledger restore", 6),
    Case(sabotages.kept_rows, "ledger restore", 4),
    Case(sabotages.unique_arrivals, "device disasters", 5),
    Case(sabotages.waiting_receipts, "ledger restore", 1),
    Case(sabotages.told_siblings, "calm", 0),
    Case(sabotages.todays_cover, "crossings", 14),
    Case(sabotages.raised_set_version, "crossings", 0),
    Case(sabotages.late_statements, "overtaking", 0),
    Case(sabotages.reported_losses, "device disasters", 50),
    Case(sabotages.wants_originals, "ledger restore", 4),
    Case(sabotages.forgotten_cancels, "ledger restore", 28),
    Case(sabotages.left_where_it_was, "rollouts", 0),
    Case(sabotages.endless_nudges, "roster moves", 37),
    *(Case(unverified, "captured broker", 0) for unverified in sabotages.UNVERIFIED),
    Case(sabotages.bound_topic, "captured broker", 0),
    Case(sabotages.followed_chain, "key changes", 0),
    Case(sabotages.signed_chain, "captured broker", 0),
    Case(sabotages.recovery_ends_keys, "captured broker", 2),
    Case(sabotages.keys_before_proof, "everything", 3),
    Case(sabotages.device_keys, "key changes", 0),
    Case(sabotages.revoked_devices, "key changes", 0),
    Case(sabotages.own_roles, "captured broker", 3),
    Case(sabotages.sealed_originals, "captured broker", 0),
    Case(sabotages.stolen_seals, "captured broker", 77),
    Case(sabotages.kept_seals, "ledger restore", 1),
    Case(sabotages.hello_numbers, "captured broker", 0),
    Case(sabotages.challenges, "captured broker", 1),
    Case(sabotages.told_clones, "device disasters", 5),
    Case(sabotages.one_comeback, "device disasters", 0),
)


def _id(case: Case) -> str:
    return case.sabotage.__name__


def _faulty(scenario: str, seed: int) -> bool:
    try:
        World(SCENARIOS[scenario], seed).run()
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_a_missing_rule_is_noticed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule, something that must hold does not."""
    case.sabotage(monkeypatch)
    seeds = range(case.seed, case.seed + SEEDS_MOST)
    assert any(_faulty(case.scenario, seed) for seed in seeds), (
        f"{case.scenario!r} from seed {case.seed} does not notice that this rule is missing: "
        f"{case.sabotage.__doc__}"
    )


@pytest.mark.parametrize(
    ("scenario", "seed"), sorted({(case.scenario, case.seed) for case in CASES})
)
def test_the_same_seed_is_clean_with_all_rules(scenario: str, seed: int) -> None:
    """What is noticed above is the missing rule."""
    World(SCENARIOS[scenario], seed).run()
