"""The tables of directives' lives: plans and waves, searching, archives. `schema` runs them.

As all migrations this one is never changed once it is released.
"""

LIVES = """
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

-- Up to when the time of its rate limit is used up: see `rollout.Pace`.
ALTER TABLE plan ADD COLUMN rate_used_until REAL;

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

-- What nobody has said to have: the hub asks for it, every half minute. Almost nothing stands here,
-- while a mailbox can have hundreds of open deliveries.
CREATE INDEX delivery_pending ON delivery (mailbox_no) WHERE open = 1 AND state = 0;
"""
