"""The tables of the ledger, as migrations: append-only, each run once in its own transaction.

Integer keys throughout: a delivery of 25,000 stores times five roles takes some 40 bytes that way
and several times that with text. `WITHOUT ROWID` where the key is the row's place; partial indexes
where only what is open is looked up.
"""

from buskit.database import Migration
from hqconsole.ledger.schema_lives import LIVES

APPLICATION_ID = 0x53424851  # "SBHQ"

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- The organisation. A closed store keeps its rows: its history and its open work come back with it.
CREATE TABLE region (slug TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE store (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    region TEXT NOT NULL REFERENCES region (slug),
    city TEXT NOT NULL,
    country TEXT NOT NULL,
    timezone TEXT NOT NULL,
    roles TEXT NOT NULL,
    role_names TEXT NOT NULL,
    tags TEXT NOT NULL,
    extra TEXT NOT NULL,
    closed_at REAL,
    set_seq INTEGER NOT NULL,
    set_id TEXT NOT NULL
);
CREATE INDEX store_by_region ON store (region) WHERE closed_at IS NULL;
CREATE TABLE mailbox (
    no INTEGER PRIMARY KEY,
    store_no INTEGER NOT NULL REFERENCES store (no),
    role TEXT NOT NULL,
    UNIQUE (store_no, role)
);
CREATE TABLE device (
    no INTEGER PRIMARY KEY,
    store_no INTEGER NOT NULL REFERENCES store (no),
    name TEXT NOT NULL,
    roles TEXT,
    install TEXT NOT NULL DEFAULT '',
    run TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL DEFAULT '',
    online INTEGER NOT NULL DEFAULT 0,
    first_heard_at REAL NOT NULL,
    last_heard_at REAL NOT NULL,
    clock_offset_seconds REAL NOT NULL DEFAULT 0,
    UNIQUE (store_no, name)
);
CREATE INDEX device_online ON device (last_heard_at) WHERE online = 1;
CREATE TABLE uplink (
    device_no INTEGER NOT NULL REFERENCES device (no),
    log TEXT NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    heard_head INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    PRIMARY KEY (device_no, log)
) WITHOUT ROWID;

-- Downlink logs. `no` runs through all channels in the order of writing; what a record says stands
-- once in `doc`, however many channels it goes to.
CREATE TABLE doc (no INTEGER PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE channel (
    no INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    place TEXT NOT NULL,
    head_seq INTEGER NOT NULL,
    head_id TEXT NOT NULL
);
CREATE INDEX channel_by_place ON channel (place);
CREATE TABLE channel_log (
    no INTEGER PRIMARY KEY,
    channel_no INTEGER NOT NULL REFERENCES channel (no),
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    at REAL NOT NULL,
    doc_no INTEGER NOT NULL REFERENCES doc (no),
    UNIQUE (channel_no, seq)
);

-- Directives and their deliveries.
CREATE TABLE directive (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    doc_no INTEGER NOT NULL REFERENCES doc (no),
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    needs TEXT NOT NULL,
    priority TEXT NOT NULL,
    due TEXT,
    expires_at REAL,
    issued_at REAL NOT NULL,
    issued_by TEXT NOT NULL,
    state TEXT NOT NULL,
    closed_at REAL,
    mailboxes INTEGER NOT NULL,
    digest TEXT NOT NULL,
    adopted_at REAL
);
CREATE INDEX directive_expiring ON directive (expires_at)
    WHERE state = 'issued' AND expires_at IS NOT NULL;
CREATE TABLE delivery (
    directive_no INTEGER NOT NULL REFERENCES directive (no),
    mailbox_no INTEGER NOT NULL REFERENCES mailbox (no),
    state INTEGER NOT NULL,
    open INTEGER NOT NULL,
    changed_at REAL,
    late INTEGER,
    arrival_no INTEGER,
    PRIMARY KEY (directive_no, mailbox_no)
) WITHOUT ROWID;
CREATE INDEX delivery_open ON delivery (mailbox_no) WHERE open = 1;
CREATE TABLE cancel (
    directive_id TEXT PRIMARY KEY,
    doc_no INTEGER NOT NULL REFERENCES doc (no),
    cancelled_at REAL NOT NULL
) WITHOUT ROWID;

-- What devices said, in the order of saving: the evidence, and what `tail` follows.
CREATE TABLE arrival (
    no INTEGER PRIMARY KEY,
    device_no INTEGER NOT NULL REFERENCES device (no),
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    said_at REAL NOT NULL,
    received_at REAL NOT NULL,
    data BLOB NOT NULL,
    outcome TEXT,
    directive_no INTEGER,
    mailbox_no INTEGER,
    UNIQUE (device_no, id)
);
CREATE INDEX arrival_told ON arrival (kind, no) WHERE kind IN ('reply', 'alert');
CREATE INDEX arrival_of_directive ON arrival (directive_no, no) WHERE directive_no IS NOT NULL;
CREATE TABLE waiting (
    directive_id TEXT NOT NULL,
    arrival_no INTEGER NOT NULL,
    device_no INTEGER NOT NULL,
    PRIMARY KEY (directive_id, arrival_no)
) WITHOUT ROWID;
CREATE INDEX waiting_of_device ON waiting (device_no, directive_id);
CREATE TABLE asked (
    directive_id TEXT PRIMARY KEY,
    device_no INTEGER NOT NULL,
    asked_at REAL NOT NULL,
    first_asked_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE report (
    no INTEGER PRIMARY KEY,
    device_no INTEGER NOT NULL REFERENCES device (no),
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    parts INTEGER NOT NULL,
    parts_here INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    first_at REAL NOT NULL,
    complete_at REAL,
    UNIQUE (device_no, key)
);
CREATE TABLE report_part (
    report_no INTEGER NOT NULL REFERENCES report (no),
    part INTEGER NOT NULL,
    arrival_no INTEGER NOT NULL,
    PRIMARY KEY (report_no, part)
) WITHOUT ROWID;

-- What could not be used, and what an operator should know.
CREATE TABLE quarantine (
    no INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_at REAL NOT NULL,
    last_at REAL NOT NULL,
    times INTEGER NOT NULL,
    payload BLOB NOT NULL,
    payload_bytes INTEGER NOT NULL,
    UNIQUE (source, reason)
);
CREATE TABLE incident (
    no INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    device_no INTEGER,
    detail TEXT NOT NULL
);
"""

_IDENTITIES = """
-- What HQ says is sealed by its own key once, for ever. Commands write documents and have no key:
-- NULL until the hub has sealed it, and nothing unsealed is sent. Records of state have none.
ALTER TABLE doc ADD COLUMN seal TEXT;
CREATE INDEX doc_unsealed ON doc (no) WHERE seal IS NULL AND kind IN ('directive', 'cancel');

-- Devices that were let in. `key_no` is the one key that counts, NULL before the first joining.
CREATE TABLE device_key (
    no INTEGER PRIMARY KEY,
    device_no INTEGER NOT NULL REFERENCES device (no),
    key_id TEXT NOT NULL,
    public BLOB NOT NULL,
    since_at REAL NOT NULL,
    until_at REAL,
    why TEXT NOT NULL DEFAULT '',            -- why it ended: rotated, revoked
    -- HQ's signed Joined proves whose key it is. NULL for a moment: the hub writes it.
    joined_topic TEXT,
    joined_text BLOB,
    joined_key TEXT,
    joined_signature TEXT
);
CREATE INDEX device_key_of_device ON device_key (device_no, no);
CREATE INDEX device_key_unproved ON device_key (no) WHERE joined_text IS NULL;
ALTER TABLE device ADD COLUMN state TEXT NOT NULL DEFAULT 'invited'
    CHECK (state IN ('invited', 'waiting', 'active', 'revoked'));
ALTER TABLE device ADD COLUMN token_hash TEXT NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN key_no INTEGER REFERENCES device_key (no);
ALTER TABLE device ADD COLUMN roles_ever TEXT NOT NULL DEFAULT '[]';
ALTER TABLE device ADD COLUMN revoked_at REAL;
ALTER TABLE device ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN allowed_bytes INTEGER;  -- NULL: as the settings say
UPDATE device SET roles_ever =
    coalesce(roles, (SELECT store.roles FROM store WHERE store.no = store_no));

-- Join bundles. `device_key` is the key of who asked first: from then on the bundle is taken.
-- `used_at` is when that key was let in, NULL while an operator is to compare its fingerprint.
CREATE TABLE bundle (
    id TEXT PRIMARY KEY,
    device_no INTEGER NOT NULL REFERENCES device (no),
    token_hash TEXT NOT NULL,
    invite BLOB NOT NULL,                    -- the public key that the request is signed with
    made_at REAL NOT NULL,
    made_by TEXT NOT NULL,
    expires_at REAL NOT NULL,
    used_at REAL,
    device_key BLOB,
    asked_token_hash TEXT,
    machine TEXT,
    withdrawn_at REAL
) WITHOUT ROWID;
CREATE INDEX bundle_of_device ON bundle (device_no, made_at);

-- The latest runs of each device, by which a hello that comes again is known, and two machines
-- with one identity. `comebacks`: how often a run proved that it is alive after another one spoke.
CREATE TABLE device_run (
    device_no INTEGER NOT NULL REFERENCES device (no),
    run TEXT NOT NULL,
    install TEXT NOT NULL,
    start INTEGER NOT NULL,
    number INTEGER NOT NULL,
    machine TEXT NOT NULL,
    first_at REAL NOT NULL,
    last_at REAL NOT NULL,
    comebacks INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device_no, run)
) WITHOUT ROWID;

-- Evidence: each message that carried a device's log on, byte by byte as it was signed. Its records
-- are numbered on from `after`; where `after.seq` is lower than what an earlier message reached, or
-- its id another, HQ or the device went on from an older copy. All its records may be known from
-- before then; otherwise their arrivals refer to it. Its key is `key_no`, its topic `topic`.
CREATE TABLE message (
    no INTEGER PRIMARY KEY,
    device_no INTEGER NOT NULL REFERENCES device (no),
    key_no INTEGER NOT NULL REFERENCES device_key (no),
    topic TEXT NOT NULL,
    log TEXT NOT NULL,
    after_seq INTEGER NOT NULL,
    after_id TEXT NOT NULL,
    records INTEGER NOT NULL,
    received_at REAL NOT NULL,
    signature TEXT NOT NULL,
    text BLOB NOT NULL
);
CREATE INDEX message_of_log ON message (device_no, log, no);

-- `data` is empty where `message_no` is not NULL: what was said is `data_bytes` bytes of that
-- message's text from byte `data_at` (from 0) on. `evidence.DATA` reads either kind.
ALTER TABLE arrival ADD COLUMN message_no INTEGER REFERENCES message (no);
ALTER TABLE arrival ADD COLUMN data_at INTEGER;
ALTER TABLE arrival ADD COLUMN data_bytes INTEGER;

-- Programs of the operators' that listen at the broker.
CREATE TABLE tool (
    name TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL,
    reads TEXT NOT NULL,                     -- topic filters, JSON
    made_at REAL NOT NULL,
    made_by TEXT NOT NULL,
    revoked_at REAL
) WITHOUT ROWID;

-- Who did what at HQ, chained by hash.
CREATE TABLE audit (
    no INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    operator TEXT NOT NULL,
    origin TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
);

-- What was raised once is raised again after a day, or once it was acknowledged.
ALTER TABLE incident ADD COLUMN acknowledged_at REAL;
ALTER TABLE incident ADD COLUMN acknowledged_by TEXT NOT NULL DEFAULT '';
CREATE INDEX incident_of_device ON incident (device_no, kind, no);

-- `access_version` rises with every change that the access file shows.
INSERT INTO meta (key, value) VALUES ('hub_id', lower(hex(randomblob(8))));
INSERT INTO meta (key, value) VALUES ('hub_token_hash', '');
INSERT INTO meta (key, value) VALUES ('access_version', 1);
"""

MIX = "directive_no * 1009 + mailbox_no * 31 + state * 7 + open * 3 + ifnull(arrival_no, 0) * 10007"
"""What `delivery.mix` is: a sum that SQLite computes itself, because a directive can have a hundred
thousand deliveries. It differs whenever one of these numbers does."""

_SUMS = f"""
-- Against damage: see `buskit.row_sums`. Looked at before anything of the row is sent.
ALTER TABLE doc ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channel ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channel_log ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delivery ADD COLUMN mix INTEGER NOT NULL DEFAULT 0;
UPDATE delivery SET mix = {MIX};
"""

MIGRATIONS = (
    Migration("first tables", _FIRST),
    Migration("identities", _IDENTITIES),
    Migration("sums", _SUMS, sums=("doc", "channel", "channel_log")),
    Migration("lives of directives", LIVES),
)
