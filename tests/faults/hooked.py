"""What the hooks of devices wrote down: effects counted outside of everything under test."""

import json
from collections import Counter
from pathlib import Path

from tests.helpers.waiting import wait_until
from tests.processes.chain import Till


class Hooked:
    """One file, to which the hook of each device adds a line for each run."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "hooked"

    def install(self, till: Till) -> None:
        """Give a device the hook; its daemon must not run."""
        line = f'echo "{till.name} $STOREBUS_DIRECTIVE/$STOREBUS_ROLE" >> "{self._file}"'
        with (till.home / "agent.toml").open("a") as settings:
            settings.write(f"\n[hook]\ncommand = {json.dumps(['/bin/sh', '-c', line])}\n")

    def runs(self) -> Counter[str]:
        """How often it ran, by device and work."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return Counter(lines)

    def wait(self, till: Till) -> None:
        """Wait until it ran for all open work: one that is cut short runs again, as documented."""
        wait_until(
            lambda: (
                {name_of(till, one) for one in till.inbox() if one["open"]} <= self.runs().keys()
            ),
            seconds=30,
            what=f"the hook of {till.name}",
        )


def name_of(till: Till, item: dict[str, object]) -> str:
    """How the hook names a piece of work."""
    return f"{till.name} {item['directive']}/{item['role']}"
