-- The table of schema.sql, where its comments are. Moments are unix seconds by the server's own clock.
CREATE TABLE IF NOT EXISTS cueapi_tasks_execution (
    execution_id  text PRIMARY KEY,
    scope         text NOT NULL,
    task          text NOT NULL,
    cue_id        text NOT NULL,
    transport     text NOT NULL,
    state         text NOT NULL CHECK (state IN ('running', 'waiting', 'finished')),
    owner         text,
    lease_until   double precision NOT NULL DEFAULT 0,
    starts        integer NOT NULL,
    attempt       integer NOT NULL,
    max_attempts  integer NOT NULL,
    retry_at      double precision,
    crashed       integer NOT NULL DEFAULT 0,
    decision      text,
    delivery      text,
    answer_status integer,
    answer        text,
    outcome       text,
    created_at    double precision NOT NULL,
    finished_at   double precision,
    reported_at   double precision,
    accepted      integer
);

CREATE INDEX IF NOT EXISTS cueapi_tasks_execution_open ON cueapi_tasks_execution (scope, finished_at, task)
    WHERE reported_at IS NULL;
CREATE INDEX IF NOT EXISTS cueapi_tasks_execution_over ON cueapi_tasks_execution (finished_at)
    WHERE reported_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS cueapi_tasks_execution_kept ON cueapi_tasks_execution (scope, transport, lease_until)
    WHERE delivery IS NOT NULL AND state <> 'finished';
