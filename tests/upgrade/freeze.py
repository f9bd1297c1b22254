"""`python -m tests.upgrade.freeze FOLDER`: freeze both databases as this very program makes them.

Each time a migration is added, run it with the program from before, and again with it: the tree of
a commit is had by `git archive COMMIT`, and this file runs in any of them. It lives for a while in
the simulation, in good weather; then everybody loses the network, and people go on saying things.

What is written: `ledger-vN.sql`, `agent-vN.sql` of one device, and `story-vN.json`, which has what
that device had accepted, what it was asked to do, and the keys.
"""

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import World

_SEED = 22


def main(folder: Path) -> None:
    """Make the three files."""
    world = World(SCENARIOS["calm"], _SEED)
    world._set_up()
    world.timeline.run_until(5.0)
    world._plan_people()
    world.faults.begin()
    world.timeline.run_until(world.timeline.now + 25.0)
    for machine in world.machines:
        machine.set_network(there=False)
    world.timeline.run_until(world.timeline.now + 10.0)
    for _ in range(8):
        world.operators.act()
    for _ in range(60):
        world.staff.act()
    machine = max(world.machines, key=lambda one: _unsent(one.disk.database.connection))
    ledger, device = world.hq.ledger.connection, machine.disk.database.connection
    ledger.execute(
        "INSERT INTO quarantine (source, reason, first_at, last_at, times, payload, payload_bytes)"
        " VALUES ('somebody', 'a reason', 1.0, 2.0, 3, x'00ff', 2)"
    )
    device.execute("INSERT INTO aside VALUES ('a thing', 'HQ', 'a detail', 2, 1.0, 2.0)")
    device.execute("INSERT INTO hook_failure VALUES (1, 'd', 'any', 'it ended with 7', 1.0)")
    version = ledger.execute("PRAGMA user_version").fetchone()[0]
    assert version == device.execute("PRAGMA user_version").fetchone()[0]
    for name, connection in (("ledger", ledger), ("agent", device)):
        _dump(connection, folder / f"{name}-v{version}.sql")
    story = {
        "identity": list(machine.identity),
        "roles": list(world.roster[machine.identity.store].roles),
        "at": world.timeline.wall_clock(),
        "accepted": sorted(
            record_id
            for (identity, record_id) in world.journal.entries
            if identity == machine.identity
        ),
        "directives": sorted(
            issue.id
            for issue in world.journal.directives.values()
            if any(store == machine.identity.store for store, _ in issue.audience)
        ),
        **_keys(world, machine),
    }
    (folder / f"story-v{version}.json").write_text(json.dumps(story, indent=1) + "\n")


def _unsent(connection: sqlite3.Connection) -> int:
    return sum(
        connection.execute(
            f"SELECT count(*) FROM {log} WHERE position >"
            f" (SELECT position FROM acked WHERE log = '{log}')"
        ).fetchone()[0]
        for log in ("act", "bulk")
    )


def _dump(connection: sqlite3.Connection, path: Path) -> None:
    virtual = [
        f'INSERT INTO "{name}" '
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%'"
        )
    ]
    # What an index of words holds stands in its own tables, and cannot be put in by its own name.
    lines = [one for one in connection.iterdump() if not one.startswith(tuple(virtual))]
    for pragma in ("application_id", "user_version"):
        value = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
        lines.append(f"PRAGMA {pragma} = {value};")
    path.write_text("\n".join(lines) + "\n")


def _keys(world: Any, machine: Any) -> dict[str, Any]:
    """The seeds of all keys; none before there were any."""
    if not hasattr(world, "keys"):
        return {}
    import msgspec

    keys = world.keys
    return {
        "hq": [one.seed.hex() for one in keys._private],
        "recovery": keys._recovery.seed.hex(),
        "chain": msgspec.to_builtins(keys._chain),
        "key": machine.joined.key.seed.hex(),
        "trust": msgspec.to_builtins(machine.joined.trust),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
