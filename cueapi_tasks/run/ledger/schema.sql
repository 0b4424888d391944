-- One row an execution, appended in the order of arrival (ids are random: as the rows' own order they would scatter
-- every write over the file). Moments are unix seconds by the store's own clock.
CREATE TABLE IF NOT EXISTS execution (
    execution_id  TEXT PRIMARY KEY,
    scope         TEXT NOT NULL,             -- app, or app@environment
    task          TEXT NOT NULL,
    cue_id        TEXT NOT NULL,
    transport     TEXT NOT NULL,             -- webhook, worker
    state         TEXT NOT NULL CHECK (state = 'running' OR state = 'waiting' OR state = 'finished'),
    owner         TEXT,                      -- the token of who holds it, or held it when its lease ran out
    lease_until   REAL NOT NULL DEFAULT 0,   -- held until then; where it was given back: when
    starts        INTEGER NOT NULL,          -- how often it was started
    attempt       INTEGER NOT NULL,          -- the highest attempt seen, refused ones included
    max_attempts  INTEGER NOT NULL,
    retry_at      REAL,                      -- postponed: when the next attempt is due
    crashed       INTEGER NOT NULL DEFAULT 0,  -- an owner died in the middle of a run; until the next start
    decision      TEXT,                      -- what the policies decided at the first start
    delivery      TEXT,                      -- worker: the whole delivery, as JSON
    answer_status INTEGER,
    answer        TEXT,                      -- JSON
    outcome       TEXT,                      -- JSON
    created_at    REAL NOT NULL,
    finished_at   REAL,
    reported_at   REAL,                      -- when the API had the outcome, or would never take it
    accepted      INTEGER                    -- which of the two
);

-- One index for what is unfinished, by task, and for what is still to be reported, by time: every index that a claim
-- touches is another page to write. Conditions are plain comparisons: for an IN each statement builds a table.
CREATE INDEX IF NOT EXISTS execution_open ON execution (scope, finished_at, task) WHERE reported_at IS NULL;
CREATE INDEX IF NOT EXISTS execution_over ON execution (finished_at) WHERE reported_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS execution_kept ON execution (scope, transport, lease_until)
    WHERE delivery IS NOT NULL AND state <> 'finished';
