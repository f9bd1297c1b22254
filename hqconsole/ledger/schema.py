"""The tables of the ledger, as migrations: append-only, each run once in its own transaction.

Integer keys throughout: a delivery of 25,000 stores times five roles takes some 40 bytes that way
and several times that with text. `WITHOUT ROWID` where the key is the row's place; partial indexes
where only what is open is looked up.
"""

from buskit.database import Migration

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

_LIFECYCLES = """
-- A directive is a row from its first draft on, under the id that it keeps. As long as it was never
-- sent, `issued_at` is 0, `doc_no` is a document of kind 'draft', and who it is for stands in
-- `planned`; what HQ has sent stands in `delivery`.
ALTER TABLE directive ADD COLUMN forced_from TEXT;
ALTER TABLE directive ADD COLUMN supersedes_no INTEGER REFERENCES directive (no);
ALTER TABLE directive ADD COLUMN superseded_by_no INTEGER REFERENCES directive (no);
ALTER TABLE directive ADD COLUMN undoes_no INTEGER REFERENCES directive (no);
DROP INDEX directive_expiring;
CREATE INDEX directive_expiring ON directive (expires_at)
    WHERE state IN ('rolling', 'paused', 'issued') AND expires_at IS NOT NULL;
CREATE INDEX directive_by_state ON directive (state, no)
    WHERE state NOT IN ('denied', 'completed', 'superseded', 'cancelled', 'expired');
UPDATE directive SET state = 'completed' WHERE state = 'issued' AND NOT EXISTS
    (SELECT 1 FROM delivery WHERE directive_no = directive.no AND open = 1);

-- What belongs to a directive and is no store's business: how it was asked for and how it goes out.
CREATE TABLE plan (
    directive_no INTEGER PRIMARY KEY REFERENCES directive (no),
    selector TEXT NOT NULL,                  -- JSON: the audience as it was asked for
    continuous INTEGER NOT NULL DEFAULT 0,   -- takes in stores that join later
    author TEXT NOT NULL,                    -- the operator who wrote it
    written_at REAL NOT NULL,
    starts TEXT,                             -- a moment: when it goes out; NULL when it may
    gate TEXT,                               -- JSON: what one wave must show before the next
    rate_per_hour REAL,                      -- mailboxes; NULL without limit
    escalate TEXT NOT NULL DEFAULT '[]',     -- JSON: rules
    paused_why TEXT NOT NULL DEFAULT '',
    look_at REAL                             -- when the hub is to look at it again
);
CREATE INDEX plan_to_look_at ON plan (look_at) WHERE look_at IS NOT NULL;

-- Its parts in the order in which they go out; `label` is for people: pilot, rest, a time zone.
CREATE TABLE wave (
    directive_no INTEGER NOT NULL REFERENCES directive (no),
    no INTEGER NOT NULL,
    label TEXT NOT NULL,
    mailboxes INTEGER NOT NULL,
    not_before REAL,
    began_at REAL,
    sent_at REAL,                            -- when the last of it went out
    PRIMARY KEY (directive_no, no)
) WITHOUT ROWID;
CREATE TABLE planned (
    directive_no INTEGER NOT NULL REFERENCES directive (no),
    wave_no INTEGER NOT NULL,
    mailbox_no INTEGER NOT NULL REFERENCES mailbox (no),
    PRIMARY KEY (directive_no, wave_no, mailbox_no)
) WITHOUT ROWID;

-- Every move of a directive, and who made it; '' is the hub.
CREATE TABLE directive_step (
    no INTEGER PRIMARY KEY,
    directive_no INTEGER NOT NULL REFERENCES directive (no),
    at REAL NOT NULL,
    action TEXT NOT NULL,
    state TEXT NOT NULL,                     -- where it led
    by TEXT NOT NULL,
    note TEXT NOT NULL,
    digest TEXT NOT NULL DEFAULT ''          -- of text and audience: what was approved
);
CREATE INDEX step_of_directive ON directive_step (directive_no, no);

-- `wave_no`: NULL where it went out in one; `joined_at`: not of the frozen audience;
-- `before_hq`: the state that HQ closed; `was`: the state in which a device says that it took the
-- withdrawal. `late`: 1 said in time and arrived after HQ closed it, 2 done after it was due.
ALTER TABLE delivery ADD COLUMN wave_no INTEGER;
ALTER TABLE delivery ADD COLUMN joined_at REAL;
ALTER TABLE delivery ADD COLUMN before_hq INTEGER;
ALTER TABLE delivery ADD COLUMN was INTEGER;
CREATE INDEX delivery_open_of ON delivery (directive_no) WHERE open = 1;

-- How far HQ's clock was ahead of the device's when that was measured last before it was heard.
ALTER TABLE arrival ADD COLUMN offset_seconds REAL;
DROP INDEX arrival_of_directive;
CREATE INDEX arrival_of_directive ON arrival (directive_no, no, mailbox_no)
    WHERE directive_no IS NOT NULL;

-- Who was told of work that is late: one row for each rule, step and region.
CREATE TABLE escalation (
    no INTEGER PRIMARY KEY,
    directive_no INTEGER NOT NULL REFERENCES directive (no),
    rule INTEGER NOT NULL,
    timezone TEXT NOT NULL,
    region TEXT NOT NULL,
    mailboxes INTEGER NOT NULL,              -- that had not answered then
    at REAL NOT NULL,
    seen_at REAL,
    seen_by TEXT NOT NULL DEFAULT '',
    UNIQUE (directive_no, rule, timezone, region)
);
CREATE INDEX escalation_unseen ON escalation (region, no) WHERE seen_at IS NULL;

CREATE TABLE saved_audience (
    name TEXT PRIMARY KEY,
    selector TEXT NOT NULL,                  -- JSON
    saved_at REAL NOT NULL,
    saved_by TEXT NOT NULL
) WITHOUT ROWID;
"""

_SEARCH = """
-- Full-text search: see `search`. Derived from all the rest, and made anew at will; `searched.no`
-- is the row of `search_words`, which keeps words and no texts.
CREATE TABLE searched (
    no INTEGER PRIMARY KEY,
    source INTEGER NOT NULL,                 -- `search.Source`
    source_no INTEGER NOT NULL,
    at REAL NOT NULL,
    version INTEGER,                         -- of a directive: the sum of its document
    unsent INTEGER NOT NULL DEFAULT 0        -- its text may still change
);
CREATE INDEX searched_unsent ON searched (no) WHERE unsent = 1;
CREATE VIRTUAL TABLE search_words USING fts5 (title, text, content = '', tokenize = 'ascii');
CREATE INDEX doc_decisions ON doc (no) WHERE kind IN ('cancel', 'remind');
"""

_PACES = """
-- Up to when the time of its rate limit is used up: see `rollout.Pace`.
ALTER TABLE plan ADD COLUMN rate_used_until REAL;
"""

_ARCHIVES = """
-- Finished directives leave for files of their own: see `archiving`. `file` is where it was put.
CREATE TABLE archive (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,                 -- stands in the file as well
    file TEXT NOT NULL,
    file_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,                    -- of the whole file, in hex; in the audit, too
    made_at REAL NOT NULL,
    recorded_at REAL NOT NULL,
    recorded_by TEXT NOT NULL,
    directives INTEGER NOT NULL,             -- how many the file has, and of the rest likewise
    deliveries INTEGER NOT NULL,
    arrivals INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    swept_at REAL                            -- when the last of it had left; NULL until then
);
CREATE INDEX archive_unswept ON archive (no) WHERE swept_at IS NULL;

-- What stays of a directive that left, besides its row, its document, its withdrawal and its
-- records in the channels. From this row on the ledger has no deliveries of it.
CREATE TABLE archived (
    directive_no INTEGER PRIMARY KEY REFERENCES directive (no),
    archive_no INTEGER NOT NULL REFERENCES archive (no),
    archived_at REAL NOT NULL,
    counts TEXT NOT NULL,                    -- JSON: its deliveries as `views` counted them
    ends BLOB NOT NULL                       -- how each mailbox ended: see `archived`
);

-- Kept messages that left: an unbroken run of one log's, in the order of saving. The log goes on
-- from `through` behind it.
CREATE TABLE archived_run (
    device_no INTEGER NOT NULL REFERENCES device (no),
    log TEXT NOT NULL,
    first_no INTEGER NOT NULL,
    last_no INTEGER NOT NULL,
    after_seq INTEGER NOT NULL,
    after_id TEXT NOT NULL,
    through_seq INTEGER NOT NULL,
    through_id TEXT NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (device_no, log, first_no)
) WITHOUT ROWID;
-- How many of its records left: with the last of them it leaves itself.
ALTER TABLE message ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;

-- Of what left: which directive it was about, and which device said it. NULL while it is here.
ALTER TABLE searched ADD COLUMN directive_no INTEGER;
ALTER TABLE searched ADD COLUMN device_no INTEGER;
CREATE INDEX searched_source ON searched (source_no, source);
"""

_PENDING = """
-- What nobody has said to have: the hub asks for it, every half minute. Almost nothing stands here,
-- while a mailbox can have hundreds of open deliveries.
CREATE INDEX delivery_pending ON delivery (mailbox_no) WHERE open = 1 AND state = 0;
"""

MIGRATIONS = (
    Migration("first tables", _FIRST),
    Migration("identities", _IDENTITIES),
    Migration("sums", _SUMS, sums=("doc", "channel", "channel_log")),
    Migration("lifecycles of directives", _LIFECYCLES),
    Migration("full-text search", _SEARCH),
    Migration("paces of rollouts", _PACES),
    Migration("archives", _ARCHIVES),
    Migration("pending deliveries", _PENDING),
)
