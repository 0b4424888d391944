-- One row an execution, appended in the order of arrival (ids are random: as the rows' own order they would scatter
-- every write over the file). Moments are unix seconds by the store's own clock.
CREATE TABLE IF NOT EXISTS execution (
    execution_id  TEXT PRIMARY KEY,
    scope         TEXT NOT NULL,             -- app, or app@environment
    task          TEXT NOT NULL,
    cue_id        TEXT NOT NULL,
    transport     TEXT NOT NULL,             -- webhook, worker
    state         TEXT NOT NULL CHECK (state IN ('running', 'waiting', 'finished')),
    owner         TEXT,                      -- the token of who runs it
    lease_until   REAL,
    starts        INTEGER NOT NULL,          -- how often it was claimed
    attempt       INTEGER NOT NULL,          -- the highest attempt seen, refused ones included
    max_attempts  INTEGER NOT NULL,
    retry_at      REAL,                      -- worker: when the next attempt is due
    decision      TEXT,                      -- what a policy decided at the first claim
    delivery      TEXT,                      -- worker: the whole delivery, as JSON
    answer_status INTEGER,
    answer        TEXT,                      -- JSON
    outcome       TEXT,                      -- JSON
    report        TEXT NOT NULL DEFAULT 'none' CHECK (report IN ('none', 'due', 'done', 'refused')),
    created_at    REAL NOT NULL,
    finished_at   REAL
);

CREATE INDEX IF NOT EXISTS execution_due ON execution (scope, finished_at) WHERE report = 'due';
