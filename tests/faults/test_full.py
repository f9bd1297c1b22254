"""A taste of full disks, and that the suite notices what it is there for."""

import os

import pytest

from tests.faults.full import full
from tests.faults.seeds import seed_of_this_run

pytestmark = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="mounting needs root"
)


def test_full_disks_refuse_and_recover_by_themselves() -> None:
    """A till and a head office without room, with real processes."""
    row = full(seed_of_this_run(), 0.02)
    print(row)
    assert row.failures == []
    assert row.times >= 2
    assert "DatabaseFull" in row.note, "no disk was full"
