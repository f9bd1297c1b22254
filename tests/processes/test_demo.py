"""The demo, as a new user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.waiting import TIME_SCALE


@pytest.mark.timeout(240 * TIME_SCALE)
def test_demo_ends_with_the_proof(tmp_path: Path) -> None:
    """A foreign store list, the broker killed in the middle: nothing lost, nothing twice."""
    stores = tmp_path / "stores.csv"
    lines = ["Store Number;Shop;Country;Zone"]
    lines += [f"{n};Shop {n};{'Chile' if n % 3 else 'Perú'};America/Lima" for n in range(1, 13)]
    stores.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    mapping = ("store_id=Store Number", "region=Country", "name=Shop", "timezone=Zone")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "hqconsole.commands.main", "demo", "--roster", str(stores)),
            *("--map", *mapping),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("lost 0, twice 0")
    issued = [line.split()[-6:-1] for line in done.stdout.splitlines() if "Pull lot 2231" in line]
    assert issued[-1] == ["12", "12", "12", "12", "0"], "issued, delivered, read, done, cannot"
