"""A device's database: its tables, and how the file is opened.

Owns the schema and nothing that is done with it; `outbox`, `inbox` and `memory` have the queries.

Invariants:
- `act` and `bulk`, the two uplink logs, are dense from 1; only acknowledged rows leave, the oldest
  first, and the newest row of a log never does, so that no position is ever given twice.
- `total_bytes` of a log's row is the size of all data up to and including that row since the log
  began, which makes the size of any stretch of the log one subtraction.
- A column called `day` is a row of `day`: time as HQ tells it, because tills wake up in 1970.
- A column called `sum` is the sum of the others of its row (`buskit.row_sums`). Whoever writes the
  row writes it; whoever goes by the row, or sends it, looks at it first (`require_sum`).
"""

import sqlite3
from pathlib import Path

from buskit.database import (
    Database,
    DatabaseForeign,
    DatabaseMissing,
    Migration,
    open_database,
)
from buskit.database_check import Guard
from buswire.phrases import phrase

APPLICATION_ID = 0x53424131  # "SBA1"
FILE_NAME = "agent.db"
KEY_NAME = "device.key"
"""The key file, which a joining writes last: beside it there was a database."""

_LOG = """
CREATE TABLE {log} (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    said_at REAL NOT NULL,
    total_bytes INTEGER NOT NULL,
    data BLOB NOT NULL
);
INSERT INTO acked VALUES ('{log}', 0, '', 0, 0, 0);
"""

_FIRST = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;

-- Where HQ's cursor stands in each log. It may move back: HQ's ledger can be an older copy.
-- What is pending begins behind from_position, where the data so far took from_bytes.
CREATE TABLE acked (
    log TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    from_position INTEGER NOT NULL,
    from_bytes INTEGER NOT NULL
) WITHOUT ROWID;
"""
    + _LOG.format(log="act")
    + _LOG.format(log="bulk")
    + """
CREATE TABLE cursor (
    channel TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL
) WITHOUT ROWID;

-- A directive as it was received, once for all roles that have it.
CREATE TABLE directive (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    priority TEXT NOT NULL,
    due TEXT,
    issued_at REAL NOT NULL,
    issued_by TEXT NOT NULL,
    data BLOB NOT NULL
);

CREATE TABLE delivery (
    directive TEXT NOT NULL REFERENCES directive (id),
    role TEXT NOT NULL,
    number INTEGER NOT NULL,          -- what people type
    arrival INTEGER NOT NULL,         -- rises with each arrival and reopening
    needs TEXT NOT NULL,
    state TEXT NOT NULL,              -- what is shown
    said TEXT NOT NULL,               -- the highest this device said itself, pending if nothing
    closed_by_hq INTEGER NOT NULL,
    open INTEGER NOT NULL,            -- HQ still waits for it
    todo INTEGER NOT NULL,            -- open, or not read yet
    unsure INTEGER NOT NULL,
    asked INTEGER NOT NULL,           -- rises with each answer about unsure work
    receipt_position INTEGER NOT NULL,   -- of the latest delivered receipt in act, 0 for none
    original_position INTEGER NOT NULL,  -- of the latest original in act, 0 for none
    received_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    changed_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    day INTEGER NOT NULL,             -- of the latest change
    PRIMARY KEY (directive, role)
) WITHOUT ROWID;
CREATE UNIQUE INDEX delivery_number ON delivery (number);
CREATE INDEX delivery_arrival ON delivery (arrival);
CREATE INDEX delivery_todo ON delivery (arrival) WHERE todo = 1;
CREATE INDEX delivery_open ON delivery (directive) WHERE open = 1;
CREATE INDEX delivery_unsure ON delivery (asked, arrival) WHERE unsure = 1;
CREATE INDEX delivery_finished ON delivery (day) WHERE open = 0;

-- HQ's withdrawals, kept also for directives that are not there (yet).
CREATE TABLE cancel (
    directive TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    data BLOB NOT NULL,
    original_position INTEGER NOT NULL,
    day INTEGER NOT NULL
);
CREATE INDEX cancel_day ON cancel (day);

-- Changes of state that came, on another channel, before the directive itself.
CREATE TABLE early (
    directive TEXT NOT NULL,
    role TEXT NOT NULL,
    channel TEXT NOT NULL,
    data BLOB NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (directive, role)
) WITHOUT ROWID;
CREATE INDEX early_day ON early (day);

-- The ids of HQ's records that took effect, and where they stood.
CREATE TABLE taken (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    channel TEXT NOT NULL,
    seq INTEGER NOT NULL
);

-- What HQ said and this device cannot use.
CREATE TABLE aside (
    what TEXT NOT NULL,
    source TEXT NOT NULL,
    detail TEXT NOT NULL,
    times INTEGER NOT NULL,
    first_at REAL NOT NULL,
    last_at REAL NOT NULL,
    PRIMARY KEY (what, source)
) WITHOUT ROWID;
CREATE INDEX aside_last ON aside (last_at);

-- One row a day, by HQ's clock: where the logs stood when it began.
CREATE TABLE day (
    day INTEGER PRIMARY KEY,
    began_at REAL NOT NULL,
    act INTEGER NOT NULL,
    bulk INTEGER NOT NULL
);

-- Calls of the hook that failed too often and are not tried any more.
CREATE TABLE hook_failure (
    arrival INTEGER PRIMARY KEY,
    directive TEXT NOT NULL,
    role TEXT NOT NULL,
    error TEXT NOT NULL,
    failed_at REAL NOT NULL
);
"""
)

_SECOND = """
-- HQ's own signature on a document, as it came; empty on copies from before HQ signed.
ALTER TABLE directive ADD COLUMN seal TEXT NOT NULL DEFAULT '';
ALTER TABLE cancel ADD COLUMN seal TEXT NOT NULL DEFAULT '';
"""

_SUMMED = ("act", "bulk", "meta", "acked", "cursor", "directive", "delivery", "cancel", "early")
_THIRD = ";\n".join(
    f"ALTER TABLE {table} ADD COLUMN sum INTEGER NOT NULL DEFAULT 0" for table in _SUMMED
)

_FOURTH = """
-- `remind_at`: when its reminders are to be looked at next, NULL when nothing is to come.
-- `reminder`, `reminded_by`: HQ's own words with the latest reminder. `steps`: of each rule of the
-- directive how many steps have come, as a JSON list. `insisted`: `forced_from` has come and was
-- told. `code`: with cannot, which of the directive's reasons.
ALTER TABLE delivery ADD COLUMN code TEXT NOT NULL DEFAULT '';
ALTER TABLE delivery ADD COLUMN remind_at REAL;
ALTER TABLE delivery ADD COLUMN reminded_at REAL NOT NULL DEFAULT 0;
ALTER TABLE delivery ADD COLUMN reminder TEXT NOT NULL DEFAULT '';
ALTER TABLE delivery ADD COLUMN reminded_by TEXT NOT NULL DEFAULT '';
ALTER TABLE delivery ADD COLUMN steps TEXT NOT NULL DEFAULT '[]';
ALTER TABLE delivery ADD COLUMN insisted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX delivery_remind ON delivery (remind_at) WHERE remind_at IS NOT NULL;

-- The latest reminder of each piece of work, and that it is forced: what the hook has yet to hear
-- of. `number` rises with each and is never given twice.
CREATE TABLE event (
    directive TEXT NOT NULL,
    role TEXT NOT NULL,
    kind TEXT NOT NULL,
    number INTEGER NOT NULL UNIQUE,
    at REAL NOT NULL,
    PRIMARY KEY (directive, role, kind)
) WITHOUT ROWID;

-- For whom HQ was told already that its withdrawal is on this disk.
CREATE TABLE withdrawn (
    directive TEXT NOT NULL,
    role TEXT NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (directive, role)
) WITHOUT ROWID;
CREATE INDEX withdrawn_day ON withdrawn (day);

-- Work that is here was taken by a program without reminders: they are still to be planned.
INSERT INTO meta (key, value) SELECT 'reminders_zone', '?' WHERE EXISTS (SELECT 1 FROM delivery);

-- Closings that staff were told of, by the moment of the closing as its delivery has it.
CREATE TABLE told (
    directive TEXT NOT NULL,
    role TEXT NOT NULL,
    changed_at REAL NOT NULL,
    PRIMARY KEY (directive, role)
) WITHOUT ROWID;
-- What was closed before there was news is none.
INSERT INTO told SELECT directive, role, changed_at FROM delivery WHERE open = 0;
"""

MIGRATIONS = (
    Migration("outbox, inbox and what the protocol remembers", _FIRST),
    Migration("the seals of HQ's documents", _SECOND),
    Migration("sums of rows, against damage", _THIRD, sums=_SUMMED),
    Migration("reminders, withdrawals, closings", _FOURTH, sums=("delivery", "meta")),
)


WHAT = phrase("the agent's database")
HINT_DAMAGED = phrase(
    "start the daemon, storeagent run: it sets the file aside, saves from it what can be read, and "
    "gets the rest from head office; nothing can be recorded before"
)


_guard = Guard(WHAT, HINT_DAMAGED)
damaged = _guard.damaged
require_sum = _guard.require_sum


def database_path(home: Path) -> Path:
    """Where a home has its database."""
    return home / FILE_NAME


def open_agent_database(
    path: str | Path, *, create: bool = False, busy_seconds: float = 30.0, any_thread: bool = False
) -> Database:
    """Open a device's database; ":memory:" gives an empty one that is never saved.

    Args:
        path: The file.
        create: Make it if it is not there.
        busy_seconds: How long to wait for other writers.
        any_thread: Let it be handed from thread to thread, one at a time.

    Raises:
        DatabaseError: See `buskit.database.open_database`.
    """
    try:
        return open_database(
            path,
            MIGRATIONS,
            application_id=APPLICATION_ID,
            what=WHAT,
            hint_create=phrase("ask head office for a bundle, then: storeagent join BUNDLE"),
            create=create,
            busy_seconds=busy_seconds,
            any_thread=any_thread,
            hint_damaged=HINT_DAMAGED,
        )
    except (DatabaseMissing, DatabaseForeign) as error:
        if Path(path).with_name(KEY_NAME).exists():
            raise _guard.gone(error) from error
        raise


def agent_database_from(image: bytes) -> Database:
    """Return a database in memory that begins as an image made by `Database.serialize`.

    Raises:
        DatabaseError: The image is not one of a device's database.
    """
    return Database.from_bytes(image, MIGRATIONS, application_id=APPLICATION_ID, what=WHAT)


def empty_image() -> bytes:
    """Return the image of an empty database with small pages, for very many in one process."""
    with open_agent_database(":memory:") as template:
        tables = list(template.connection.iterdump())
        version = template.version
    small = sqlite3.connect(":memory:", isolation_level=None)
    try:
        small.execute("PRAGMA page_size = 1024")
        for statement in tables:
            small.execute(statement)
        small.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        small.execute(f"PRAGMA user_version = {version}")
        return small.serialize()
    finally:
        small.close()
