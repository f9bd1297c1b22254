"""A taste of the broker's amnesia, and that the suite sees what a process keeps."""

import os
from pathlib import Path

from tests.faults.amnesia import amnesia, written_by
from tests.faults.seeds import seed_of_this_run


def test_nothing_is_lost_or_done_twice_when_the_broker_forgets() -> None:
    """Killed, wiped and started again on its address, while work and answers flow."""
    row = amnesia(seed_of_this_run(), 0.03)
    print(row)
    assert row.failures == []
    assert row.times >= 3
    assert row.recovery_seconds is not None


def test_a_file_that_a_process_writes_is_seen(tmp_path: Path) -> None:
    """One that is read is not: a broker that kept its sessions would be found out."""
    (tmp_path / "read").touch()
    with (tmp_path / "read").open("rb"), (tmp_path / "written").open("wb"):
        found = written_by(os.getpid())
    assert str(tmp_path / "written") in found
    assert str(tmp_path / "read") not in found
