"""Durable entries of a script, against bare inserts of the very same rows on the same disk.

Both sides commit each entry by itself with WAL and synchronous FULL. They take turns in short
bursts, because a disk's fsync is not the same from one second to the next. The quicker the disk,
the lower the ratio: what Python adds to an entry takes the same time on every disk.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Aim, Figure, Setting, median, paired_ratio
from bench.processes import new_id
from storeagent.api import Agent
from storeagent.database import database_path, open_agent_database

_BURST = 100


def run(setting: Setting) -> Sequence[Figure]:
    """Measure entries a second on both sides."""
    home = setting.folder / "agent"
    home.mkdir()
    open_agent_database(database_path(home), create=True).close()
    (home / "agent.toml").write_text('store = "S1"\ndevice = "d1"\n')
    bare = _bare(setting.folder / "bare.db")
    ours: list[float] = []
    theirs: list[float] = []
    with Agent(home) as agent:
        agent.alert("replenishment", sku="0", on_hand=3, reorder_point=12)
        row = agent._database.connection.execute(
            "SELECT position, id, kind, said_at, total_bytes, data FROM act"
        ).fetchone()  # type: ignore[union-attr]
        _insert(bare, row, 1)
        for burst in range(setting.pick(50, 6)):
            sides = [(ours, agent), (theirs, bare)]
            for seconds, side in sides if burst % 2 else reversed(sides):
                began = time.perf_counter()
                if isinstance(side, Agent):
                    for number in range(_BURST):
                        side.alert("replenishment", sku=str(number), on_hand=3, reorder_point=12)
                else:
                    _insert(side, row, _BURST)
                seconds.append((time.perf_counter() - began) / _BURST)
    bare.close()
    return [
        Figure(
            "outbox",
            "alerts through the Python API, against bare inserts",
            1 / median(ours),
            "/s",
            paired_ratio(theirs, ours),
            Aim("ratio", "at least", 0.8),
            {"bare_per_second": round(1 / median(theirs))},
        )
    ]


def _bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE act (position INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE,"
        " kind TEXT NOT NULL, said_at REAL NOT NULL, total_bytes INTEGER NOT NULL,"
        " data BLOB NOT NULL)"
    )
    return connection


def _insert(connection: sqlite3.Connection, row: Sequence[object], count: int) -> None:
    _, _, kind, said_at, total_bytes, data = row
    for _ in range(count):
        connection.execute(
            "INSERT INTO act (id, kind, said_at, total_bytes, data) VALUES (?, ?, ?, ?, ?)",
            (bytes.fromhex(new_id()), kind, said_at, total_bytes, data),
        )
