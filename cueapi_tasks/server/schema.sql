-- The embedded server's state. Moments are unix microseconds in UTC; structured fields are JSON text.
CREATE TABLE IF NOT EXISTS account (
    id                   TEXT PRIMARY KEY,
    email                TEXT NOT NULL UNIQUE,
    api_key_sha256       TEXT NOT NULL UNIQUE,
    api_key_prefix       TEXT NOT NULL,
    webhook_secret       TEXT NOT NULL,
    alert_webhook_url    TEXT,
    alert_webhook_secret TEXT
);

CREATE TABLE IF NOT EXISTS rotated_key (
    api_key_sha256 TEXT PRIMARY KEY,
    rotated_at     INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS cue (
    id               TEXT PRIMARY KEY,
    account_id       TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name             TEXT NOT NULL,
    description      TEXT,
    status           TEXT NOT NULL,
    transport        TEXT NOT NULL,
    schedule_type    TEXT NOT NULL,
    cron             TEXT,
    at               INTEGER,
    timezone         TEXT NOT NULL,
    callback_url     TEXT,
    callback_method  TEXT NOT NULL,
    callback_headers TEXT NOT NULL,
    payload          TEXT NOT NULL,
    max_attempts     INTEGER NOT NULL,
    backoff_minutes  TEXT NOT NULL,
    on_failure       TEXT NOT NULL,
    verification     TEXT,
    catch_up         TEXT,
    next_run         INTEGER,
    last_run         INTEGER,
    run_count        INTEGER NOT NULL DEFAULT 0,
    fired_count      INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    UNIQUE (account_id, name)
);

CREATE INDEX IF NOT EXISTS cue_due ON cue (next_run) WHERE status = 'active' AND next_run IS NOT NULL;
CREATE INDEX IF NOT EXISTS cue_newest ON cue (account_id, created_at DESC);

CREATE TABLE IF NOT EXISTS execution (
    id              TEXT PRIMARY KEY,
    cue_id          TEXT NOT NULL REFERENCES cue (id) ON DELETE CASCADE,
    account_id      TEXT NOT NULL,
    transport       TEXT NOT NULL,
    scheduled_for   INTEGER NOT NULL,
    status          TEXT NOT NULL,
    triggered_by    TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    due_at          INTEGER,                 -- when the next attempt is to be made
    sweep_at        INTEGER,                 -- when a rule about claims may next apply
    http_status     INTEGER,
    error_message   TEXT,
    response_body   TEXT,
    started_at      INTEGER,
    delivered_at    INTEGER,
    last_attempt_at INTEGER,
    payload         TEXT,                    -- set where it is not the cue's own
    outcome         TEXT,
    evidence        TEXT,
    outcome_state   TEXT,
    replayed_from   TEXT,
    claimed_by      TEXT,
    claimed_at      INTEGER,
    heartbeat_at    INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (cue_id, scheduled_for)
);

CREATE INDEX IF NOT EXISTS execution_due ON execution (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS execution_sweep ON execution (sweep_at) WHERE sweep_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS execution_newest ON execution (account_id, created_at DESC);
CREATE INDEX IF NOT EXISTS execution_of_cue ON execution (cue_id, created_at DESC);
CREATE INDEX IF NOT EXISTS execution_claimable ON execution (account_id, scheduled_for)
    WHERE transport = 'worker' AND status = 'pending';
CREATE INDEX IF NOT EXISTS execution_interrupted ON execution (id)
    WHERE transport = 'webhook' AND status = 'delivering';

-- What a fire's idempotency_key stands for; forgotten after a day.
CREATE TABLE IF NOT EXISTS fire_key (
    cue_id       TEXT NOT NULL REFERENCES cue (id) ON DELETE CASCADE,
    key          TEXT NOT NULL,
    body_sha256  TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (cue_id, key)
);

CREATE TABLE IF NOT EXISTS worker (
    account_id    TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    worker_id     TEXT NOT NULL,
    handlers      TEXT,
    registered_at INTEGER NOT NULL,
    heartbeat_at  INTEGER NOT NULL,
    PRIMARY KEY (account_id, worker_id)
);

CREATE TABLE IF NOT EXISTS alert (
    id           TEXT PRIMARY KEY,
    account_id   TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    cue_id       TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    alert_type   TEXT NOT NULL,
    severity     TEXT NOT NULL,
    message      TEXT NOT NULL,
    metadata     TEXT NOT NULL,
    created_at   INTEGER NOT NULL
);

CREATE INDEX IF NOT EXISTS alert_newest ON alert (account_id, created_at DESC);

-- Successful webhook deliveries by calendar month, against the plan's limit.
CREATE TABLE IF NOT EXISTS delivered (
    account_id TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    month      TEXT NOT NULL,
    number     INTEGER NOT NULL,
    PRIMARY KEY (account_id, month)
);
