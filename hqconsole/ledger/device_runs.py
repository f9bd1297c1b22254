"""The latest runs of each device, as `hqconsole.runs` judges by them."""

import sqlite3

from buswire.messages import Hello
from hqconsole.runs import Run

_KEPT = 16
"""So many runs of a device are remembered; of one that was forgotten, nothing counts unproved."""

OF_DEVICE = (
    "SELECT run, install, start, number, machine, first_at, last_at, comebacks FROM device_run"
    " WHERE device_no = ?"
)


def of_device(connection: sqlite3.Connection, device_no: int) -> dict[str, Run]:
    """The runs that are remembered of a device, by their names."""
    return {row[0]: Run(*row) for row in connection.execute(OF_DEVICE, (device_no,))}


def note(
    connection: sqlite3.Connection,
    device_no: int,
    hello: Hello,
    *,
    at: float,
    new: bool,
    came_back: bool,
) -> None:
    """Remember a hello that was taken; a new run drives out the one that was silent longest."""
    connection.execute(
        "INSERT INTO device_run (device_no, run, install, start, number, machine, first_at,"
        " last_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)"
        " ON CONFLICT (device_no, run) DO UPDATE SET number = ?5, machine = ?6, last_at = ?7,"
        " comebacks = comebacks + ?8",
        (
            device_no,
            hello.run,
            hello.install,
            hello.start,
            hello.number,
            hello.machine,
            at,
            int(came_back),
        ),
    )
    if new:
        connection.execute(
            "DELETE FROM device_run WHERE device_no = ?1 AND run IN (SELECT run FROM device_run"
            " WHERE device_no = ?1 AND run <> ?2 ORDER BY last_at DESC, run LIMIT -1 OFFSET ?3)",
            (device_no, hello.run, _KEPT - 1),
        )


def forget(connection: sqlite3.Connection, device_no: int) -> None:
    """The device has a new key: whatever was signed with the old one is void."""
    connection.execute("DELETE FROM device_run WHERE device_no = ?", (device_no,))
