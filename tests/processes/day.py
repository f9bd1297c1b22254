"""A small chain on which a day of people is played: what they type, and what is waited for.

Owns the shops, in three regions and three time zones, and short words for commands and waits. What
people ask and say is asked and said by processes; only waiting looks into the databases itself.
"""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.agent.processes import tool
from tests.helpers.waiting import TIME_SCALE, wait_until
from tests.processes.chain import ROLE, Chain, Till

SETTINGS = """
settling_seconds = 0.1
index_seconds = 0.3

[approval]
kinds = ["recall"]
"""
SHOPS = {
    "S001": "east,Asia/Shanghai,flagship,1200",
    "S002": "east,Asia/Shanghai,express,300",
    "S003": "west,America/New_York,flagship,900",
    "S004": "north,Europe/Paris,flagship,700",
}
TASK = ("--kind", "task", "--role", ROLE)


class Day(Chain):
    """The chain, and what people type in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, tuple(SHOPS), settings=SETTINGS)
        self.shops = dict(SHOPS)

    def import_roster(self, **_regions: str) -> None:
        """Make the roster that of `shops`."""
        lines = ["store_id,name,region,timezone,format,area_sqm,roles"]
        for store, shop in self.shops.items():
            lines.append(f"{store},Shop {store},{shop},{ROLE};clerk")
        roster = self.folder / "stores.csv"
        roster.write_text("\n".join(lines) + "\n")
        self.hq_here("roster", "import", str(roster))

    # --- at head office --------------------------------------------------------------------------

    @contextlib.contextmanager
    def operator(self, name: str) -> Iterator[None]:
        """Let somebody work at head office."""
        self.environment = {"STOREBUS_OPERATOR": name}
        try:
            yield
        finally:
            self.environment = {}

    def issue_to(self, title: str, *words: str) -> str:
        """Publish something; its id."""
        return str(self.hq_json("publish", title, *words)["id"])

    def to_stores(self, title: str, *stores: str, words: tuple[str, ...] = ()) -> str:
        """Publish a task to the managers of some stores; its id.

        A plain one is published in this process, which is quicker than in one of its own.
        """
        places = [word for store in stores for word in ("--store", store)]
        if words:
            return self.issue_to(title, *places, *TASK, *words)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.hq_here("publish", title, *places, *TASK, "--json")
        return str(json.loads(said.getvalue())["id"])

    def told(self, *words: str) -> str:
        """What a command of head office says to who gave it."""
        found = self.hq_process(*words)
        assert found.returncode == 0, found.stderr
        return found.stderr

    def status(self, directive: str) -> Any:
        """What is shown of a directive."""
        return self.hq_json("status", directive)

    def why(self, store: str, directive: str) -> Any:
        """The chain of custody of a manager's delivery, its links by their names."""
        (found,) = self.hq_json("why", store, directive)
        return found | {"links": {link["link"]: link for link in found["links"]}}

    def who(self, directive: str, *words: str) -> dict[str, Any]:
        """Who has not, or has, by store."""
        return {row["store"]: row for row in self.hq_json("who", directive, *words)}

    # --- in the stores ---------------------------------------------------------------------------

    def staff(self, store: str, *words: str, device: str = "till-1") -> str:
        """Run `storeagent` in a store; what it says."""
        found = tool(*words, home=self.tills[f"{store}.{device}"].home)
        assert found.returncode == 0, found.stderr
        return found.stdout + found.stderr

    def on_the_list(
        self, store: str, *directives: str, device: str = "till-1"
    ) -> list[dict[str, Any]]:
        """These pieces of work in the order of the list on a till."""
        found = json.loads(self.staff(store, "inbox", "--all", "--json", device=device))
        return [row for row in found if row["directive"] in directives]

    @contextlib.contextmanager
    def away(self, till: Till) -> Iterator[None]:
        """A device is switched off for a while."""
        till.stop()
        self.wait(lambda: not self.is_online(till), f"{till.name} to be away")
        try:
            yield
        finally:
            till.start()

    def is_online(self, till: Till) -> bool:
        """Whether head office takes a device to be there."""
        return bool(
            self.rows(
                "SELECT online FROM device JOIN store ON store.no = store_no"
                " WHERE store.id = ? AND device.name = ?",
                till.store,
                till.device,
            )[0][0]
        )

    # --- waiting ---------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so."""
        wait_until(condition, seconds=30, what=what, poll_seconds=0.05)

    def wait_states(self, directive: str, **states: str) -> None:
        """Wait until the managers' deliveries are in these states; of stores not named, any."""

        def there() -> bool:
            found = {store: state for (store, _), state in self.states(directive).items()}
            return all(found.get(store) == state for store, state in states.items())

        self.wait(there, f"{directive[:8]} to be {states}")

    def wait_directive(self, directive: str, state: str) -> None:
        """Wait until a directive stands so."""
        query = "SELECT 1 FROM directive WHERE id = ? AND state = ?"
        self.wait(lambda: self.rows(query, directive, state), f"{directive[:8]} to be {state}")

    def wait_proofs(self, directive: str, count: int) -> None:
        """Wait until so many stores have said that they took the withdrawal."""
        query = (
            "SELECT count(*) FROM delivery JOIN directive ON directive.no = directive_no"
            " WHERE id = ? AND was IS NOT NULL"
        )
        self.wait(lambda: self.rows(query, directive) == [(count,)], "the proofs")

    def wait_published(self) -> None:
        """Wait until the hub is sure that all there is has gone out."""
        query = (
            "SELECT 1 FROM meta WHERE key = 'published_no'"
            " AND value >= (SELECT max(no) FROM channel_log)"
        )
        self.wait(lambda: self.rows(query), "all to be published")

    def wait_here(
        self, till: Till, directive: str, condition: Callable[[dict[str, Any]], object]
    ) -> None:
        """Wait until a device knows that of a piece of work."""
        self.wait(
            lambda: any(condition(item) for item in till.inbox() if item["directive"] == directive),
            f"{till.name} to know it",
        )


def soon(seconds: float) -> str:
    """An instant to come, as `--at` and `--due` take it."""
    return f"{datetime.now(UTC) + timedelta(seconds=seconds * TIME_SCALE):%Y-%m-%dT%H:%M:%SZ}"


def past_in_shanghai() -> str:
    """A time of day that was hours ago in Shanghai, and is to come in Paris and New York."""
    return f"{datetime.now(UTC) + timedelta(hours=3):%Y-%m-%d %H:%M}"


def some_day(clock: str) -> str:
    """A weekday and a time, well ahead: `Friday 18:00`."""
    return f"{datetime.now(UTC) + timedelta(days=3):%A} {clock}"
